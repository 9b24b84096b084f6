"""Token-level distillation: its loss by hand-worked numbers, the cache on disk, real steps, exact resumption, refusals."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from sessions import session_in
from tiny_models import edit_json, make_tiny_llama, make_tokenizer

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import DatasetError, ModelError
from fieldwise.hashing import sha256_of_files
from fieldwise.records import BaseWeights
from fieldwise.tracking import JsonlTracker
from fieldwise.train import distil_cache
from fieldwise.train.distil import student
from fieldwise.train.distil_cache import CacheKey, cached, disk_bytes
from fieldwise.train.distil_math import divergence, mixed_loss, outcomes, top_and_tail
from fieldwise.train.distil_settings import DistillationSettings, TeacherSettings
from fieldwise.train.distil_teacher import fingerprint, require_fitting, vocabulary_of
from fieldwise.train.labels import IGNORED, labelled_rows
from fieldwise.train.loading import load_tokenizer
from fieldwise.train.settings import LoraSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft

SFT = SftSettings(max_steps=6, learning_rate=5e-3, batch_size=2, max_length=256, lora=LoraSettings(rank=8, alpha=16))
P = torch.tensor([[0.5, 0.3, 0.2]]).log()
Q = torch.tensor([[0.25, 0.25, 0.5]]).log()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> BaseWeights:
    folder = tmp_path_factory.mktemp("teacher") / "model"
    return resolve(str(make_tiny_llama(folder, hidden=64, ffn=128, heads=2, kv_heads=1, layers=3, seed=5)))


def settings(teacher: BaseWeights, **more) -> DistillationSettings:
    return DistillationSettings(
        **{"method": "token", "teacher": TeacherSettings(model=teacher.model), "top_k": 8, **more}
    )


def train(base: Path, examples, device, folder: Path, own: DistillationSettings, sft=SFT, tracker=None, **more):
    return student(own, folder)(
        base,
        examples,
        examples[:2],
        sft,
        device,
        session=session_in(folder, tracker),
        **more,
    )


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


def rows_of(base: Path, examples) -> list[dict[str, list[int]]]:
    return labelled_rows(examples, load_tokenizer(base), 256)[0]


# ---------------------------------------------------------------- the loss by hand


@pytest.mark.parametrize(
    ("kind", "beta", "expected"),
    [
        # 0.5 ln 2 + 0.3 ln 1.2 + 0.2 ln 0.4 = 0.346574 + 0.054696 - 0.183258
        ("forward_kl", 0.5, 0.218012),
        # 0.25 ln 0.5 + 0.25 ln 0.833333 + 0.5 ln 2.5 = -0.173287 - 0.045580 + 0.458145
        ("reverse_kl", 0.5, 0.239278),
        # M = (0.375, 0.275, 0.35): (0.058021 + 0.053143) / 2
        ("jsd", 0.5, 0.055582),
        # M = 0.25 P + 0.75 Q = (0.3125, 0.2625, 0.425): KL(P||M) 0.124327, KL(Q||M) 0.013269
        ("jsd", 0.25, 0.25 * 0.124327 + 0.75 * 0.013269),
    ],
)
def test_divergences_are_those_of_their_papers(kind, beta, expected) -> None:
    assert divergence(P, Q, kind, beta).item() == pytest.approx(expected, abs=2e-6)
    assert divergence(P, P, kind, beta).item() == pytest.approx(0.0, abs=1e-6)


def test_jsd_goes_to_the_two_kl_at_its_ends() -> None:
    near, far = divergence(P, Q, "jsd", 1e-3) / 1e-3, divergence(P, Q, "jsd", 1 - 1e-3) / 1e-3
    assert near.item() == pytest.approx(0.218012, rel=2e-2) and far.item() == pytest.approx(0.239278, rel=2e-2)


def test_what_is_beyond_the_top_is_one_outcome_and_the_temperature_softens() -> None:
    logits = torch.tensor([[math.log(2), math.log(5), math.log(1), math.log(3)]])  # probabilities 2, 5, 1, 3 of 11
    ids, told = top_and_tail(logits, 2, 1.0)
    assert ids.tolist() == [[1, 3]]
    assert told.exp()[0].tolist() == pytest.approx([5 / 11, 3 / 11, 3 / 11])
    root = [math.sqrt(n) for n in (5, 3, 2, 1)]  # at temperature 2: square roots, normed
    assert outcomes(logits, ids, 2.0).exp()[0].tolist() == pytest.approx(
        [root[0] / sum(root), root[1] / sum(root), (root[2] + root[3]) / sum(root)]
    )


def test_a_tiny_tail_is_not_lost_and_a_missing_one_gives_no_nan() -> None:
    logits = torch.tensor([[20.0, 19.0, -20.0]], requires_grad=True)
    ids = torch.tensor([[0, 1]])
    tail = outcomes(logits, ids, 1.0)[0, 2].item()
    assert tail == pytest.approx(-40.0 - math.log(1 + math.exp(-1)), abs=1e-4)
    whole = torch.tensor([[2, 0, 1]])
    for kind in ("forward_kl", "reverse_kl", "jsd"):
        found = divergence(outcomes(logits.detach() * 0.9, whole, 1.0), outcomes(logits, whole, 1.0), kind)
        found.sum().backward()
        assert math.isfinite(found.item()) and torch.isfinite(logits.grad).all()


def test_the_coarse_divergence_is_never_above_that_of_all_tokens() -> None:
    torch.manual_seed(0)
    teacher, own = torch.randn(50, 40) * 3, torch.randn(50, 40) * 3
    for kind in ("forward_kl", "reverse_kl", "jsd"):
        ids, coarse = top_and_tail(teacher, 5, 2.0)
        few = divergence(coarse, outcomes(own, ids, 2.0), kind)
        every = divergence((teacher / 2).log_softmax(-1), (own / 2).log_softmax(-1), kind)
        assert (few <= every + 1e-6).all() and (few < every - 1e-4).any()


def test_with_all_tokens_kept_it_is_the_loss_of_gkd() -> None:
    gkd = pytest.importorskip("trl.experimental.gkd")
    torch.manual_seed(1)
    teacher, own = torch.randn(1, 6, 12), torch.randn(1, 6, 12)
    for kind, beta in (("forward_kl", 0.0), ("reverse_kl", 1.0), ("jsd", 0.3)):
        ids, coarse = top_and_tail(teacher[0], 12, 1.5)
        found = divergence(coarse, outcomes(own[0], ids, 1.5), kind, beta).mean()
        theirs = gkd.GKDTrainer.generalized_jsd_loss(own, teacher, labels=torch.ones(1, 6), beta=beta, temperature=1.5)
        assert found.item() == pytest.approx(theirs.item(), rel=1e-4)


def test_the_mixture_weighs_the_teacher_by_the_square_of_the_temperature() -> None:
    assert mixed_loss(1.0, 0.1, 0.5, 2.0) == pytest.approx(0.7)
    assert mixed_loss(1.3, 9.9, 0.0, 2.0) == pytest.approx(1.3)


# ---------------------------------------------------------------- the cache


def key_of(teacher: BaseWeights, **more) -> CacheKey:
    return CacheKey(**{"teacher": teacher.sha256, "top_k": 8, "temperature": 2.0, "vocabulary": 640, "bfloat16": False, **more})  # fmt: skip


def test_the_cache_holds_what_the_teacher_holds_likely_at_each_learnt_token(base, teacher, examples, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    rows = rows_of(base, examples)
    placed, found = cached(rows, Path(teacher.path), key_of(teacher), tmp_path, "cpu")
    model = AutoModelForCausalLM.from_pretrained(teacher.path, dtype=torch.float32)
    for row, seated in zip(rows, placed, strict=True):
        assert seated["input_ids"] == row["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([row["input_ids"]])).logits[0]
        for at, (label, place) in enumerate(zip(row["labels"], seated["labels"], strict=True)):
            if label == IGNORED:
                assert place == IGNORED
                continue
            assert found.tokens[place] == label
            likely = (logits[at - 1] / 2).log_softmax(-1)
            assert found.ids[place].tolist() == likely.topk(8).indices.tolist()
            assert found.log_probs[place, :8].tolist() == pytest.approx(likely.topk(8).values.tolist(), rel=1e-3)
            assert found.log_probs[place].float().exp().sum().item() == pytest.approx(1.0, abs=2e-3)


def test_a_killed_cache_goes_on_and_a_damaged_file_is_made_again(
    base, teacher, examples, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(distil_cache, "_ROWS_A_FILE", 2)
    rows, key = rows_of(base, examples), key_of(teacher)
    _, whole = cached(rows, Path(teacher.path), key, tmp_path, "cpu")
    files = sorted(p for p in (tmp_path / key.folder).iterdir())
    assert len(files) == math.ceil(len(rows) / 2)
    before = {p: p.stat().st_mtime_ns for p in files}
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:40])
    asked = []
    monkeypatch.setattr(distil_cache, "_ask", lambda *a, real=distil_cache._ask: asked.append(1) or real(*a))
    _, again = cached(rows, Path(teacher.path), key, tmp_path, "cpu")
    assert len(asked) == 2 and all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert all(p.stat().st_mtime_ns == before[p] for p in files[2:])


def test_the_estimate_of_the_cache_is_what_the_tensors_take(base, teacher, examples, tmp_path) -> None:
    key = key_of(teacher)
    _, found = cached(rows_of(base, examples), Path(teacher.path), key, tmp_path, "cpu")
    assert disk_bytes(len(found.tokens), 8, 640) == found.bytes
    on_disk = sum(p.stat().st_size for p in (tmp_path / key.folder).iterdir())
    assert found.bytes < on_disk < found.bytes + 2000


def test_a_disk_without_room_is_refused_before_the_teacher_is_loaded(
    base, teacher, examples, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    monkeypatch.setattr(distil_cache, "_teacher", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="no room") as caught:
        cached(rows_of(base, examples), Path(teacher.path), key_of(teacher), tmp_path, "cpu")
    assert "train.distillation.top_k" in str(caught.value)


def test_a_teacher_whose_logits_are_no_numbers_stops_before_anything_is_kept(base, teacher, examples, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(teacher.path, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not numbers"):
        cached(rows_of(base, examples), broken, key_of(teacher), tmp_path / "cache", "cpu")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def distilled(base, teacher, examples, device, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled")
    return train(base, examples, device, folder, settings(teacher)), folder


def test_the_student_comes_nearer_to_the_known_replies_and_to_the_teacher(distilled, teacher) -> None:
    outcome, folder = distilled
    curve = [row for row in outcome.curve if "loss" in row]
    assert outcome.steps == 6 and curve[-1]["loss"] < curve[0]["loss"] - 0.3
    assert curve[-1]["cross_entropy"] < curve[0]["cross_entropy"]
    assert curve[-1]["teacher_divergence"] < curve[0]["teacher_divergence"]
    assert outcome.about["distillation"]["teacher_sha256"] == teacher.sha256 and "eval_loss" in outcome.figures
    assert str(teacher.path) not in json.dumps(outcome.about)
    assert list((folder / "memo/distillation").rglob("*.safetensors"))


def test_the_first_loss_is_the_mixture_of_both_over_all_learnt_tokens(distilled, base, teacher, examples, device, tmp_path) -> None:  # fmt: skip
    from transformers import AutoModelForCausalLM

    all_at_once = SFT.model_copy(update={"batch_size": 1, "max_steps": 1, "max_length": 1024})
    outcome = train(base, examples, device, tmp_path, settings(teacher), all_at_once)
    rows = rows_of(base, examples)
    losses = []
    models = [AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32) for p in (teacher.path, base)]
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        with torch.no_grad():
            taught, own = (m(torch.tensor([row["input_ids"]])).logits[0, :-1][labels != IGNORED] for m in models)
        ids, coarse = top_and_tail(taught, 8, 2.0)
        apart = divergence(coarse, outcomes(own, ids, 2.0), "forward_kl")
        plain = torch.nn.functional.cross_entropy(own, labels[labels != IGNORED], reduction="none")
        losses.append(mixed_loss(plain, apart, 0.5, 2.0))
    first = next(row for row in outcome.curve if "loss" in row)
    assert first["loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=2e-3)


def test_rows_one_by_one_and_padded_together_have_the_same_loss(base, teacher, examples, device, tmp_path) -> None:
    apart = SFT.model_copy(update={"max_steps": 1, "packing": False, "batch_size": 8, "micro_batch_size": 1})
    together = apart.model_copy(update={"micro_batch_size": 4})
    found = [
        train(base, examples * 8, device, tmp_path / str(n), settings(teacher), own)
        for n, own in enumerate((apart, together))
    ]
    first, second = (next(row for row in outcome.curve if "loss" in row) for outcome in found)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert first["grad_norm"] == pytest.approx(second["grad_norm"], rel=1e-3)


def test_without_weight_for_the_teacher_it_is_sft(base, teacher, examples, device, tmp_path) -> None:
    plain = train_sft(base, examples, examples[:2], SFT, device, session=session_in(tmp_path))  # fmt: skip
    own = train(base, examples, device, tmp_path / "distilled", settings(teacher, alpha=0.0))
    expected = [row["loss"] for row in plain.curve if "loss" in row]
    assert [row["loss"] for row in own.curve if "loss" in row] == pytest.approx(expected, rel=1e-4)


def test_an_interrupted_distillation_ends_in_the_same_bytes(
    distilled, base, teacher, examples, device, tmp_path
) -> None:
    class Interrupted(Exception):
        pass

    class Breaking(JsonlTracker):
        def log(self, stage, step, figures) -> None:
            if step == 4 and "loss" in figures:
                raise Interrupted
            super().log(stage, step, figures)

    with pytest.raises(Interrupted):
        train(base, examples, device, tmp_path, settings(teacher), tracker=Breaking(tmp_path / "curve.jsonl"))
    again = train(base, examples, device, tmp_path, settings(teacher))
    assert digest(again.adapter) == digest(distilled[0].adapter) and again.curve == distilled[0].curve


def test_a_student_that_spoils_stops_with_step_and_batch(base, teacher, examples, device, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(base, tmp_path / "base")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not a number at step 1"):
        train(broken, examples, device, tmp_path, settings(teacher))


def test_no_example_that_fits_and_early_stopping_without_any_held_out_are_refused(base, teacher, examples, device, tmp_path) -> None:  # fmt: skip
    short = SFT.model_copy(update={"max_length": 16})
    with pytest.raises(DatasetError, match="no training example fits"):
        train(base, examples, device, tmp_path, settings(teacher), short)


def test_all_weights_can_be_distilled_and_the_best_measurement_kept(base, teacher, examples, device, tmp_path) -> None:
    full = SFT.model_copy(
        update={"method": "full", "learning_rate": 1e-3, "best_by": "loss", "evaluate_every_steps": 2}
    )
    outcome = train(base, examples, device, tmp_path, settings(teacher), full)
    assert outcome.adapter is None and (outcome.merged / "model.safetensors").exists()
    held = {row["step"]: row["eval_loss"] for row in outcome.curve if "eval_loss" in row}
    assert outcome.about["weights_of_step"] == min(held, key=held.__getitem__)
    assert outcome.curve[-1]["step"] == 6 and outcome.figures["eval_loss"] == min(held.values())


# ---------------------------------------------------------------- refusals and settings


def test_a_teacher_with_another_tokenizer_is_refused_with_the_cure(base, tmp_path) -> None:
    other = make_tiny_llama(tmp_path / "other", hidden=64, ffn=128, heads=2, kv_heads=1, vocabulary=640)
    make_tokenizer(other, vocabulary=500)
    own = DistillationSettings(method="token", teacher=TeacherSettings(model=str(other)))
    with pytest.raises(ModelError, match="needs a teacher with the tokenizer of the base") as caught:
        require_fitting(own, base)
    assert "cross_tokenizer" in str(caught.value) and "500 tokens" in str(caught.value)


def test_the_hash_of_a_tokenizer_is_of_what_it_does_not_of_how_it_is_written(base, tmp_path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    content = json.loads((copy / "tokenizer.json").read_text())
    content["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    (copy / "tokenizer.json").write_text(json.dumps(content, indent=1))
    assert vocabulary_of(copy) == vocabulary_of(base)
    edit_json(copy / "tokenizer.json", normalizer={"type": "NFC"})
    assert vocabulary_of(copy).sha256 != vocabulary_of(base).sha256


def test_a_teacher_that_is_not_there_is_named_as_the_teacher(base) -> None:
    own = DistillationSettings(method="token", teacher=TeacherSettings(model="./nowhere"))
    with pytest.raises(ModelError, match=r"train\.distillation\.teacher\.model"):
        require_fitting(own, base)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": "sequence", "top_k": 4}, "top_k is a setting of token"),
        ({"method": "token", "beta": 0.3}, "beta is a setting of divergence jsd"),
        ({"method": "token", "teacher": {"endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}}}, "needs the teacher's probabilities"),
        ({"method": "on_policy", "teacher": {"model": "large.gguf"}}, "needs the teacher's probabilities"),
        ({"method": "sequence", "teacher": {}}, "one of the two"),
        ({"teacher": {"endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}}, "max_new_tokens": 64}, "teacher.endpoint.max_tokens"),
    ],
)  # fmt: skip
def test_settings_that_would_be_ignored_or_cannot_work_are_refused(more, said) -> None:
    with pytest.raises(ValidationError, match=said):
        DistillationSettings(**{"teacher": {"model": "fieldwise-nano"}, **more})


@pytest.mark.parametrize(
    ("sft", "said"),
    [
        ({"curriculum": {"enabled": True}}, "take one of the two"),
        ({"neftune": 5}, "not offered for distillation by token"),
    ],
)
def test_what_sft_can_do_and_distillation_cannot_is_refused(teacher, sft, said) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainSettings(sft=SftSettings.model_validate(sft), distillation=settings(teacher))


def test_a_recipe_without_a_teacher_keeps_its_key_and_one_with_it_names_no_folder(teacher) -> None:
    assert "distillation" not in TrainSettings().keyed() and "distillation" not in TrainSettings().model_dump()
    own = TrainSettings(distillation=settings(teacher))
    assert own.keyed()["distillation"]["top_k"] == 8 and teacher.model not in json.dumps(own.keyed())
    assert fingerprint(own.distillation) == {"teacher": teacher.sha256}
