"""The sums behind the estimate, beside what autograd and PEFT really do."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import edit_json, make_tiny_llama

from fieldwise.errors import FieldwiseError, ModelError
from fieldwise.machine import Gpu
from fieldwise.train.hardware import BLOCKWISE, PRESETS, Device, Machine, device_for, preset_for
from fieldwise.train.memory import MemoryPlan, Work, estimate, seconds, token_bytes, trained_parameters
from fieldwise.train.plan import Fitted, first_plan, fit, smaller, told, within
from fieldwise.train.settings import LoraSettings, PreferenceSettings, SftSettings, TrainSettings
from fieldwise.train.shape import Linear, Shape, read_shape
from fieldwise.train.workload import Extent, preference_work

PLAN = MemoryPlan(4, 4, 512, True, False, "float32", False, "none", "adamw", 16)
LAPTOP = Machine(2, 16_000_000_000, 12_000_000_000, ("AVX2",), (), False)
CPU = Device("cpu", 2, False)
CUDA = Device("cuda", 2, True)


def gpu(gigabytes: float, capability: tuple[int, int] = (8, 9), bits: bool = True) -> Machine:
    return LAPTOP._replace(gpus=(Gpu("GPU", int(gigabytes * 1e9), capability),), has_bitsandbytes=bits)


def llama_shape(hidden=4096, ffn=14336, layers=32, heads=32, kv=8, vocabulary=128256, context=8192) -> Shape:
    """The shape of a model of 8 billion weights, or another, without making one."""
    width = hidden // heads
    sizes = {"q_proj": (hidden, hidden), "k_proj": (kv * width, hidden), "v_proj": (kv * width, hidden)}
    sizes |= {
        "o_proj": (hidden, hidden),
        "gate_proj": (ffn, hidden),
        "up_proj": (ffn, hidden),
        "down_proj": (hidden, ffn),
    }
    linear = tuple(Linear(f"model.layers.{n}.{name}", *size) for n in range(layers) for name, size in sizes.items())
    total = sum(x.outputs * x.inputs for x in linear) + 2 * vocabulary * hidden
    return Shape(hidden, ffn, layers, hidden, kv * width, vocabulary, context, total, linear, 2 * total)


def works(plan: MemoryPlan) -> Work:
    return Work(plan.micro_batch, plan.max_length, plan.micro_batch * 32, 1_000_000, 100)


def saved_bytes(model, tokens: int, bfloat16: bool, positions) -> int:
    """Bytes of all that autograd keeps of the layers, weights aside, each memory counted once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept, seen = [], {}

    def pack(tensor):
        kept.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(1, tokens, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=bfloat16),
    ):
        model(input_ids=ids, position_ids=positions, use_cache=False)
    return sum(seen.values())


@pytest.mark.parametrize("rank", [8, None])
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "a mask", BLOCKWISE])
def test_the_sum_for_a_token_is_what_autograd_keeps(rank, bfloat16, attention) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaModel

    from fieldwise.train import blockwise

    blockwise.register()
    masked = attention == "a mask"

    def kept(layers: int, tokens: int) -> int:
        config = LlamaConfig(
            vocab_size=64, hidden_size=96, intermediate_size=160, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, head_dim=32, attn_implementation="sdpa" if masked else attention,
        )  # fmt: skip
        model = LlamaModel(config).train()
        if rank:
            model = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear"))
        positions = torch.arange(tokens)[None] % (tokens // 2 if masked else tokens)
        return saved_bytes(model, tokens, bfloat16, positions)

    def of_a_layer(tokens: int) -> int:
        return kept(2, tokens) - kept(1, tokens)

    number = 2 if bfloat16 else 4
    mask = number * (256**2 - 128**2) if masked else 0
    a_token = (of_a_layer(256) - of_a_layer(128) - mask) / 128  # what is kept of weights is in both
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    linear = tuple(Linear(f"layers.0.{name}", 96, 96) for name in names)
    shape = Shape(96, 160, 1, 128, 64, 64, 256, 0, linear, 0)
    plan = replace(PLAN, rank=rank, bfloat16=bfloat16)
    assert token_bytes(shape, plan, is_masked=masked) == pytest.approx(a_token, abs=8)


def test_the_worked_numbers() -> None:
    shape = llama_shape(hidden=256, ffn=768, layers=10, heads=4, kv=2, vocabulary=8192)
    assert token_bytes(shape, PLAN, is_masked=False) == 4096 + 12288 + 2048 + 1024 + 448 + 24 == 19928
    one = replace(PLAN, target_modules=("gate_proj",))
    assert trained_parameters(shape, one) == 10 * 16 * (256 + 768) == 163840
    found = estimate(shape, one, works(one))
    assert (found.gradients, found.optimizer) == (4 * 163840, 8 * 163840)
    assert found.weights == 4 * shape.parameters + 4 * 163840


def test_the_shape_is_that_of_the_model_and_the_adapter_that_of_peft(base: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shape = read_shape(base)
    assert shape is not None
    model = AutoModelForCausalLM.from_pretrained(base)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.hidden, shape.layers, shape.query_width, shape.key_width) == (64, 2, 64, 32)
    for targets in ("all-linear", ("q_proj", "down_proj"), r".*\.1\.mlp\.up_proj"):
        wanted = targets if isinstance(targets, str) else list(targets)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules=wanted))
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert trained_parameters(shape, replace(PLAN, rank=4, target_modules=targets)) == trained


def test_an_architecture_with_other_names_is_not_estimated(base: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(base, tmp_path / "odd")
    edit_json(folder / "config.json", hidden_size=None, num_hidden_layers=None)
    assert read_shape(folder) is None
    fitted = fit("sft", TrainSettings(), PRESETS["cpu"], CPU, LAPTOP, None, works)
    assert fitted.estimate is None and "memory not estimated" in told(fitted, "sft")


def test_checkpointing_and_fewer_at_once_take_less_and_quantised_weights_weigh_less() -> None:
    shape = llama_shape()
    whole = estimate(shape, PLAN, works(PLAN))
    for change in ({"activation_checkpointing": True}, {"micro_batch": 1}, {"max_length": 256}):
        other = replace(PLAN, **change)
        assert estimate(shape, other, works(other)).activations < whole.activations / 1.9
    four = estimate(shape, replace(PLAN, quantisation="4bit"), works(PLAN))
    assert 0.12 < (four.weights - 16 * 32 * 1) / whole.weights < 0.30
    assert estimate(shape, replace(PLAN, rank=None), works(PLAN)).optimizer == 8 * shape.parameters


def test_published_peaks_of_an_8_billion_model_are_near_the_estimate() -> None:
    # torchtune's README: Llama-3.1-8B on a 4090, two rows of 2048, LoRA 16.2 GiB, QLoRA 7.4 GiB
    plan = replace(PLAN, micro_batch=1, max_length=4096, weights="bfloat16", bfloat16=True, rank=8, device="cuda",
                   activation_checkpointing=True)  # fmt: skip
    work = Work(1, 4096, 1000)
    assert estimate(llama_shape(), plan, work).peak == pytest.approx(16.2 * 2**30, rel=0.35)
    assert estimate(llama_shape(), replace(plan, quantisation="4bit"), work).peak == pytest.approx(7.4 * 2**30, rel=0.6)


def test_longer_work_takes_longer_and_checkpointing_costs_time() -> None:
    shape = llama_shape(hidden=256, ffn=768, layers=10, heads=4, kv=2, vocabulary=8192)
    work = works(PLAN)
    base = seconds(shape, PLAN, work, LAPTOP, 2)
    assert base is not None and base > 0
    assert seconds(shape, PLAN, work._replace(tokens=2_000_000), LAPTOP, 2) == pytest.approx(2 * base)
    assert seconds(shape, PLAN, work, LAPTOP, 4) == pytest.approx(base / 2)
    again = seconds(shape, replace(PLAN, activation_checkpointing=True), work, LAPTOP, 2)
    assert again is not None and base * 1.1 < again < base * 1.6
    assert seconds(shape, PLAN, work._replace(tokens=None), LAPTOP, 2) is None


# ---------------------------------------------------------------- presets


@pytest.mark.parametrize(("size", "name"), [(8.3, "8gb"), (12, "8gb"), (25.4, "24gb"), (50, "80gb"), (150, "80gb")])
def test_auto_takes_the_class_of_the_smallest_gpu(size, name) -> None:
    machine = gpu(size)
    machine = machine._replace(gpus=(*machine.gpus, Gpu("large", 200_000_000_000, (9, 0))))
    assert preset_for("auto", machine).name == name
    assert preset_for("cpu", machine).name == "cpu"


def test_without_a_gpu_auto_is_the_cpu_and_a_class_of_gpu_is_refused() -> None:
    assert preset_for("auto", LAPTOP).name == "cpu"
    with pytest.raises(FieldwiseError, match=r"train\.hardware: no GPU.*found 24gb"):
        preset_for("24gb", LAPTOP)


def test_bfloat16_arithmetic_needs_a_gpu_that_has_it() -> None:
    assert device_for(PRESETS["8gb"], "auto", 0, gpu(8)) == Device("cuda", 2, True)
    assert not device_for(PRESETS["8gb"], "auto", 0, gpu(8, (7, 5))).bfloat16
    assert not device_for(PRESETS["8gb"], "float32", 0, gpu(8)).bfloat16
    with pytest.raises(FieldwiseError, match=r"train\.precision: .*found GPU, compute capability 7\.5.*precision=auto"):
        device_for(PRESETS["8gb"], "bfloat16", 0, gpu(8, (7, 5)))


def test_the_cpu_preset_is_what_was_trained_with_before_there_were_presets() -> None:
    shape = llama_shape(hidden=256, ffn=768, layers=10, heads=4, kv=2, vocabulary=8192, context=1024)
    sft = fit("sft", TrainSettings(), PRESETS["cpu"], CPU, LAPTOP, shape, works).plan
    assert (sft.micro_batch, sft.accumulation, sft.max_length, sft.packing) == (1, 16, 512, True)
    preference = fit("preference", TrainSettings(), PRESETS["cpu"], CPU, LAPTOP, shape, works).plan
    assert (preference.micro_batch, preference.accumulation, preference.max_length, preference.packing) == (
        4,
        4,
        768,
        False,
    )
    for plan in (sft, preference):
        assert not plan.activation_checkpointing
        assert (plan.weights, plan.quantisation, plan.optimizer) == ("float32", "none", "adamw")


def test_presets_fill_only_what_the_recipe_leaves_open() -> None:
    fixed = TrainSettings(
        sft=SftSettings(micro_batch_size=2, max_length=300), weights="float32", activation_checkpointing=False,
        quantisation="none", optimizer="adamw",
    )  # fmt: skip
    shape = llama_shape(layers=2)
    plan = fit("sft", fixed, PRESETS["8gb"], CUDA, gpu(200), shape, works).plan
    assert (plan.micro_batch, plan.accumulation, plan.max_length) == (2, 8, 300)
    assert (plan.weights, plan.optimizer, plan.activation_checkpointing) == ("float32", "adamw", False)
    filled = fit("sft", TrainSettings(), PRESETS["8gb"], CUDA, gpu(200), shape, works).plan
    assert (filled.max_length, filled.weights, filled.optimizer) == (1024, "bfloat16", "paged_adamw_8bit")
    bare = fit("sft", TrainSettings(), PRESETS["8gb"], CUDA, gpu(200, bits=False), shape, works)
    assert bare.plan.optimizer == "adamw" and "bitsandbytes is not installed" in told(bare, "sft")


def test_a_large_model_on_a_small_gpu_gets_checkpointing_and_4_bit_weights_by_itself() -> None:
    roomy = fit("sft", TrainSettings(), PRESETS["80gb"], CUDA, gpu(85), llama_shape(), works)
    tight = fit("sft", TrainSettings(), PRESETS["8gb"], CUDA, gpu(12), llama_shape(), works)
    assert roomy.plan.quantisation == "none"
    assert tight.plan.quantisation == "4bit" and tight.plan.activation_checkpointing
    assert {"4-bit weights to fit", "activation checkpointing to fit"} <= set(tight.reasons)
    assert tight.estimate is not None and tight.limit is not None and tight.estimate.peak <= tight.limit


def test_pairs_at_once_are_fewer_where_memory_is_short_and_the_batch_stays() -> None:
    shape = llama_shape(hidden=1024, ffn=4096, layers=24, heads=16, kv=8, vocabulary=32000)
    settings = TrainSettings(preference=PreferenceSettings(batch_size=12))
    roomy = fit("preference", settings, PRESETS["cpu"], CPU, LAPTOP._replace(memory=200_000_000_000), shape, works).plan
    tight = fit("preference", settings, PRESETS["cpu"], CPU, LAPTOP._replace(memory=9_000_000_000), shape, works).plan
    assert (roomy.micro_batch, roomy.effective_batch) == (4, 12)
    assert tight.micro_batch < 4 and tight.effective_batch == 12


def test_memory_that_others_hold_is_told_and_kept_out_of_the_record() -> None:
    shape = llama_shape(hidden=1024, ffn=4096, layers=12, heads=16, kv=8, vocabulary=32000)
    roomy, busy = (
        fit("sft", TrainSettings(), PRESETS["cpu"], CPU, LAPTOP._replace(available=free), shape, works)
        for free in (12_000_000_000, 1_000_000_000)
    )
    assert "only 1.0 GB are free now" in told(busy, "sft") and "free now" not in told(roomy, "sft")
    assert busy.to_json() == roomy.to_json()


# ---------------------------------------------------------------- refusals


def refusal(settings: TrainSettings, machine: Machine, shape: Shape, preset: str = "cpu", device: Device = CPU) -> str:
    with pytest.raises(ModelError) as caught:
        fit("sft", settings, PRESETS[preset], device, machine, shape, works)
    return str(caught.value)


def fixed(**more) -> TrainSettings:
    micro = more.pop("micro", 4)
    return TrainSettings(
        sft=SftSettings(micro_batch_size=micro, max_length=2048), activation_checkpointing=False, **more
    )


MIDDLE = llama_shape(hidden=1024, ffn=4096, layers=24, heads=16, kv=8, vocabulary=32000)


def test_what_does_not_fit_is_refused_with_the_nearest_setting_that_fits() -> None:
    plan = fit("sft", fixed(), PRESETS["cpu"], CPU, LAPTOP._replace(memory=10**12), MIDDLE, works)
    assert plan.estimate is not None
    need = int(plan.estimate.peak)
    message = refusal(fixed(), LAPTOP._replace(memory=int(need * 0.99)), MIDDLE)
    assert "train.sft: the training does not fit into memory" in message
    assert "activations" in message and "Set train.sft.micro_batch_size=2: about" in message
    message = refusal(fixed(micro=1), LAPTOP._replace(memory=9_000_000_000), MIDDLE)
    assert "Set train.activation_checkpointing=true" in message
    obeyed = TrainSettings(sft=SftSettings(micro_batch_size=1, max_length=2048), activation_checkpointing=True)
    fit("sft", obeyed, PRESETS["cpu"], CPU, LAPTOP._replace(memory=9_000_000_000), MIDDLE, works)


def test_several_settings_are_named_when_one_is_not_enough_and_a_smaller_base_when_none_is() -> None:
    settings = TrainSettings(
        sft=SftSettings(micro_batch_size=4, max_length=2048), activation_checkpointing=False, quantisation="none"
    )
    message = refusal(settings, gpu(9), llama_shape(), "8gb", CUDA)
    assert "train.sft.micro_batch_size=1 train.activation_checkpointing=true" in message
    assert "train.quantisation=4bit" in message
    message = refusal(TrainSettings(), LAPTOP, llama_shape())
    assert "No setting fits" in message and "million weights, or a larger machine" in message


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            TrainSettings(sft=SftSettings(lora=LoraSettings(target_modules=("q_prj",)))),
            "There are: down_proj, gate_proj",
        ),
        (
            TrainSettings(sft=SftSettings(lora=LoraSettings(target_modules="q_prj"))),
            r"train\.sft\.lora\.target_modules",
        ),
        (TrainSettings(sft=SftSettings(max_length=9000)), "the model's context is 8192"),
        (TrainSettings(quantisation="4bit"), "bitsandbytes is needed"),
        (TrainSettings(optimizer="adamw_8bit"), r"train\.optimizer: the library bitsandbytes"),
    ],
)
def test_settings_that_the_weights_or_the_machine_cannot_take(settings, expected) -> None:
    with pytest.raises(ModelError, match=expected):
        fit("sft", settings, PRESETS["cpu"], CPU, LAPTOP._replace(memory=10**12), llama_shape(layers=2), works)


def test_4_bit_needs_layers_of_multiples_of_64() -> None:
    odd = llama_shape(hidden=256, ffn=352, layers=1, heads=4, kv=2, vocabulary=600)
    with pytest.raises(ModelError, match=r"multiple of 64.*down_proj"):
        fit(
            "sft",
            TrainSettings(quantisation="4bit"),
            PRESETS["cpu"],
            CPU,
            LAPTOP._replace(has_bitsandbytes=True),
            odd,
            works,
        )


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(FieldwiseError, match=r"train\.sft\.micro_batch_size.*3 for a batch of 16"):
        fit("sft", TrainSettings(sft=SftSettings(micro_batch_size=3)), PRESETS["cpu"], CPU, LAPTOP, MIDDLE, works)


def test_after_memory_ran_out_half_is_tried_then_checkpointing_then_nothing() -> None:
    plans = []
    plan: MemoryPlan | None = replace(PLAN, micro_batch=6, accumulation=2)
    while plan is not None:
        plans.append((plan.micro_batch, plan.effective_batch, plan.activation_checkpointing))
        plan = smaller(plan)
    assert plans == [(6, 12, False), (3, 12, False), (1, 12, False), (1, 12, True)]
    assert within(PLAN, 6).micro_batch == 3 and within(PLAN, 6).effective_batch == 6


def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "torn", hidden=64, ffn=128, layers=1, heads=2, kv_heads=1)
    (folder / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{not json")
    with pytest.raises(ModelError, match=r"not a whole safetensors file.*"):
        read_shape(folder)


# ---------------------------------------------------------------- methods of the preference step


def preferring(preset: str, machine: Machine, **own) -> Fitted:
    shape = llama_shape(hidden=1024, ffn=4096, layers=24, heads=16, kv=8, vocabulary=32000)
    device = CPU if preset == "cpu" else CUDA
    settings = TrainSettings(preference=PreferenceSettings(**own))
    extent = Extent(1024, 100, 2000.0)
    works = lambda plan: preference_work(extent, 640, settings.preference, plan)  # noqa: E731
    return fit("preference", settings, PRESETS[preset], device, machine, shape, works)


def test_a_reference_is_scored_beforehand_but_on_a_large_gpu_and_there_too_where_it_does_not_fit() -> None:
    assert preferring("cpu", LAPTOP._replace(memory=200_000_000_000)).plan.reference == "precomputed"
    assert preferring("24gb", gpu(24)).plan.reference == "precomputed"
    roomy = preferring("80gb", gpu(85))
    assert roomy.plan.reference == "beside" and "reference scored in every step" in told(roomy, "preference")
    # a memory in which all fits but the second forward pass
    peaks = {beside: preferring("80gb", gpu(85), precompute_reference=not beside).estimate for beside in (True, False)}
    assert peaks[True] is not None and peaks[False] is not None and peaks[True].peak > peaks[False].peak
    tight = preferring("80gb", gpu((peaks[True].peak + peaks[False].peak) / 2 / 0.95e9))
    assert tight.plan.reference == "precomputed" and "reference scored beforehand to fit" in tight.reasons
    assert tight.plan.micro_batch == roomy.plan.micro_batch
    for method in ("orpo", "simpo", "cpo"):
        assert preferring("80gb", gpu(85), method=method).plan.reference == "none"


def test_kto_takes_single_replies_and_keeps_two_of_them_in_memory() -> None:
    pairs, replies = preferring("24gb", gpu(24)), preferring("24gb", gpu(24), method="kto")
    assert "replies of 2048 tokens a step" in told(replies, "preference") and replies.estimate is not None
    assert pairs.estimate is not None and replies.estimate.activations == pairs.estimate.activations / 2
    assert preferring("8gb", gpu(85), method="kto").plan.micro_batch == 2
    assert preferring("8gb", gpu(85), method="kto", batch_size=9).plan.micro_batch == 3
    once_more = smaller(replies.plan)
    assert once_more is not None and (once_more.micro_batch, once_more.activation_checkpointing) == (2, True)


def test_a_method_without_a_reference_reads_no_pair_twice() -> None:
    extent = Extent(500, 60, 900.0)
    read = {}
    for method in ("dpo", "orpo", "kto"):
        settings = PreferenceSettings(method=method, batch_size=8, epochs=2)
        plan = first_plan("preference", TrainSettings(preference=settings), settings, PRESETS["cpu"], CPU)
        read[method] = preference_work(extent, 80, settings, plan).tokens
    # 2 epochs of 80: trained 160 times; DPO scores 80 by the reference, KTO 80 twice and 160 for its KL, at a third
    assert read == {"orpo": 144000, "dpo": int((160 + 80 / 3) * 900), "kto": int((160 + 320 / 3) * 900)}
