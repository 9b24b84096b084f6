"""Load a tokenizer and weights as a plan holds them, and say where an adapter goes."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.train import distributed
from fieldwise.train.hardware import BLOCKWISE, Device, Training
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.settings import LoraSettings
from fieldwise.train.shape import is_only_causal


def load_tokenizer(base: Path) -> Any:
    """Return the tokenizer of a folder of weights; one without a padding token pads with its end token."""
    quiet()
    transformers = require("transformers", extra="train", to="fine-tune")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(base: Path, plan: MemoryPlan | None = None, *, has_score: bool = False) -> Any:
    """Return the weights as a plan holds them; without one whole, in float32, on a CPU.

    With `has_score` a new layer that gives one number stands in the place of the output layer.
    """
    transformers = require("transformers", extra="train", to="fine-tune")
    torch = require("torch", extra="train", to="fine-tune")
    options: dict[str, Any] = {}
    if plan is not None and plan.quantisation != "none":
        require("bitsandbytes", extra="gpu", to="train over quantised weights")
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_8bit=plan.quantisation == "8bit",
            load_in_4bit=plan.quantisation == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if plan.bfloat16 else torch.float32,
            **({"llm_int8_skip_modules": ["score"]} if has_score else {}),
        )
        options["device_map"] = {"": distributed.local_rank() if plan.device == "cuda" else "cpu"}
    if plan is not None and plan.attention is not None:
        options["attn_implementation"] = _attention(base, plan.attention)
    dtype = torch.bfloat16 if plan is not None and plan.weights == "bfloat16" else torch.float32
    kind = transformers.AutoModelForCausalLM
    if has_score:
        kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(
        base,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        **({"num_labels": 1} if has_score else {}),
        **options,
    )
    for module in model.modules() if options else ():
        # bitsandbytes repacks the weights at the first evaluation and trains on with wrong gradients (AVX512-BF16)
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model.config.use_cache = False
    return model


def _attention(base: Path, wanted: str) -> str:
    """What transformers is told: our own only for what it was made for."""
    if wanted != BLOCKWISE:
        return wanted
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if not is_only_causal(config):
        return "sdpa"
    from fieldwise.train import blockwise

    blockwise.register()
    return BLOCKWISE


def lighten(model: Any, lora: LoraSettings, device: Device) -> None:
    """Let a layer and its adapter be computed together over frozen weights in bfloat16 (`lean_lora`).

    On a CPU in bfloat16 and in one process only: gloo sends no bfloat16. Not with DoRA or PiSSA, which read the weights.
    """
    if device.name != "cpu" or not device.bfloat16 or distributed.here() is not None:
        return
    if lora.dora or lora.start != "zero":
        return
    from fieldwise.train import lean_lora

    lean_lora.lighten(model)


def adapter_config(lora: LoraSettings, model: Any, training: Training) -> Any:
    """Return PEFT's configuration of the adapter; raises ModelError for modules that the model does not have."""
    peft = require("peft", extra="train", to="train an adapter")
    kinds = {"use_dora": lora.dora, "use_rslora": lora.rank_stabilised}
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets_of(lora, model, training),
        task_type="CAUSAL_LM",
        **{name: True for name, is_on in kinds.items() if is_on},
        **({"init_lora_weights": lora.start} if lora.start == "pissa" else {}),
    )


def targets_of(lora: LoraSettings, model: Any, training: Training) -> Any:
    """Return the modules that get an update, as PEFT is told them; raises ModelError for those the model does not have."""
    targets: Any = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    linear = [name for name, module in model.named_modules() if "Linear" in module.__class__.__name__]
    if isinstance(targets, str):
        unknown = [] if targets == "all-linear" or any(re.fullmatch(targets, name) for name in linear) else [targets]
    else:
        unknown = [t for t in targets if not any(f".{name}".endswith(f".{t}") for name in linear)]
    if unknown:
        raise ModelError(
            "the base model has no such modules",
            where=f"train.{training}.lora.target_modules",
            found=", ".join(unknown),
            fix=f"There are: {', '.join(sorted({name.rpartition('.')[2] for name in linear}))}; "
            "all-linear takes all but the output layer.",
        )
    return targets


def quiet() -> None:
    """Switch off what libraries print: `watching` tells the progress."""
    require("datasets", extra="train", to="fine-tune").disable_progress_bars()
    talk = require("transformers.utils.logging", extra="train", to="fine-tune")
    talk.disable_progress_bar()
    talk.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b.*")
