"""The training of the base weights: its recipes, where it goes on, and rows that do not depend on who makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

NANO = Path(__file__).resolve().parents[2] / "nano"
WEIGHTS = NANO / "src/fieldwise_nano/weights/nano-2m"


@pytest.mark.parametrize(("size", "millions"), [("nano-2m", 4), ("nano-10m", 10), ("nano-30m", 34)])
def test_a_recipe_fits_quantisation_and_names_kinds_of_rows_that_there_are(size: str, millions: int) -> None:
    from nano_recipe.model import Nano
    from nano_recipe.rows import RowMaker
    from nano_recipe.train import read_plan

    plan = read_plan(NANO / f"recipes/{size}.yaml")
    with torch.device("meta"):
        model = Nano(plan.shape)
    assert all(p.shape[1] % 256 == 0 for p in model.parameters() if p.dim() == 2)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions
    kinds = {kind for phase in plan.phases for kind in (*phase.start, *phase.end)}
    assert all(hasattr(RowMaker, kind) for kind in kinds - {"text"})
    assert all(phase.step_tokens % plan.micro_tokens == 0 for phase in plan.phases)


def test_a_run_goes_on_from_published_weights_and_counts_their_tokens(tmp_path: Path) -> None:
    from nano_recipe.model import load_exported
    from nano_recipe.train import Run, read_plan

    plan = read_plan(NANO / "recipes/nano-2m.yaml")
    run = Run(plan, tmp_path, torch.device("cpu"), compile_model=False)
    run.go_on_from(WEIGHTS, "settle")
    again = Run(plan, tmp_path, torch.device("cpu"), compile_model=False)
    assert plan.phases[again.phase].name == "settle"
    assert again.tokens == json.loads((WEIGHTS / "card.json").read_text())["made"]["tokens"]
    assert torch.equal(again.model.blocks[1].q, load_exported(WEIGHTS).blocks[1].q)
    with pytest.raises(SystemExit, match=r"no such phase\. It has: short, reading, calm, settle"):
        again.go_on_from(WEIGHTS, "pudding")


@pytest.mark.parametrize("length", [1, 100, 128, 300])
def test_attention_in_blocks_is_that_of_pytorch_with_its_gradients(length: int) -> None:
    from nano_recipe.model import _attention

    torch.manual_seed(length)
    q, k, v = (torch.randn(2, heads, length, 64, requires_grad=True) for heads in (4, 2, 2))
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    found = _attention(q, k, v)
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)
    told = torch.randn_like(found)
    for ours, theirs in zip(*(torch.autograd.grad(o, (q, k, v), told) for o in (found, wanted)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=1e-4)


def test_a_published_size_keeps_the_curve_of_the_weights_it_went_on_from() -> None:
    from nano_recipe.publish import CURVE, earlier

    def card(tokens: int, reached: float, *phases: str) -> dict[str, object]:
        return {
            "plan": {"phases": [{"name": name} for name in phases]},
            "made": {"tokens": tokens, "minutes": 1.0},
            "measured": {
                "grammar": {key: {"value": reached} for key in CURVE},
                "handwritten": {key: {"value": reached} for key in ("answered", "declined")},
                "bits_per_byte": 1.5,
            },
        }

    def points(before: dict[str, object], after: dict[str, object]) -> list[tuple[float, float]]:
        after["earlier"] = earlier(before, after)
        return [(p["tokens"], p["READ"]) for p in after["earlier"]]

    first, longer = card(10, 0.2, "short"), card(20, 0.3, "short", "long")
    assert points({}, first) == []
    assert points(first, longer) == [(10, 0.2)]
    assert points(longer, card(30, 0.4, "short", "long", "longest")) == [(10, 0.2), (20, 0.3)]
    assert points(longer, card(20, 0.35, "short", "long")) == [(10, 0.2)]  # measured again
    assert points(longer, card(30, 0.4, "otherwise")) == []
    unmeasured = {key: value for key, value in card(20, 0.0, "short", "long").items() if key != "measured"}
    unmeasured["earlier"] = earlier(first, unmeasured)
    assert points(unmeasured, card(20, 0.3, "short", "long")) == [(10, 0.2)]


def test_first_choices_of_the_f32_file_are_those_of_the_weights(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from fieldwise.engine.llama_cpp import LlamaCppEngine
    from nano_recipe.evaluate import Item
    from nano_recipe.model import load_exported
    from nano_recipe.quantised import files, first_choices

    ids = (
        Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
        .encode("The ward round begins at seven, said Ines Farrow.")
        .ids
    )
    made = files(WEIGHTS, tmp_path)
    with LlamaCppEngine(made["f32"], context_tokens=1024) as engine:
        answer, text = first_choices(engine, [Item("name", ids, 4)], np.array([ids]))
    model = load_exported(WEIGHTS)
    with torch.no_grad():
        wanted = model.logits(model(torch.tensor([ids])))[0].argmax(-1).numpy()
    assert answer.tolist() == wanted[3:-1].tolist()
    assert text.tolist() == wanted.tolist()
    assert made["q4_k_m"].stat().st_size < made["q8_0"].stat().st_size < made["f32"].stat().st_size / 3


@pytest.fixture
def build(tmp_path: Path, harvested, documents) -> Path:
    """What `prepare` writes, of the project's own example documents."""
    from tokenizers import Tokenizer

    from nano_recipe.pools import save_harvest

    (tmp_path / "tokenizer.json").write_bytes((WEIGHTS / "tokenizer.json").read_bytes())
    save_harvest(harvested, tmp_path / "pools.json")
    ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("\n".join(documents)).ids
    for side in ("train", "heldout"):
        (tmp_path / f"documents_{side}.json").write_text(json.dumps([["clinical", "", text] for text in documents]))
        (tmp_path / f"questions_{side}.json").write_text("[]")
        np.save(tmp_path / f"text_{side}.npy", np.array(ids, dtype=np.uint16))
    return tmp_path


def test_rows_are_the_same_whoever_makes_them(build: Path) -> None:
    from nano_recipe.train import Feed

    mixture = {"reading": 0.5, "written": 0.5}
    jobs = [((0, 0, step, 0), mixture, 256, 4, 0.5) for step in range(4)]

    def made(makers: int) -> list[np.ndarray]:
        feed = Feed(build, NANO / "forms", makers)
        try:
            return [feed.get(jobs[n:])[0] for n in range(len(jobs))]
        finally:
            feed.close()

    one, three = made(1), made(3)
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))
    assert not np.array_equal(one[0], one[1])


def test_a_training_that_was_stopped_ends_where_an_undisturbed_one_ends(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nano_recipe import train as training
    from nano_recipe.model import Shape

    monkeypatch.setattr(training, "report", lambda *_: None)
    monkeypatch.setattr(training, "build_items", lambda *_: [])
    rows = {"reading": 0.6, "written": 0.2, "text": 0.2}
    phases = [
        training.Phase("first", 2048, 1024, {128: 0.5, 256: 0.5}, {"copy": 0.5, "reading": 0.5}, rows),
        training.Phase("last", 2048, 1024, {256: 1.0}, rows, decay=True),
    ]
    plan = training.Plan("small", Shape(layers=1), phases, copy_until=7, copy_gate=99.0, micro_tokens=512)

    def trained(out: Path, stop_after: float | None) -> tuple[training.Run, int]:
        for sittings in range(1, 20):
            run = training.Run(plan, out, torch.device("cpu"), compile_model=False)
            told = {"evaluate_every": 1e9, "save_every": 1e9, "each": 1, "stop_after": stop_after}
            if training.train(run, build, NANO / "forms", **told):
                return run, sittings
        raise AssertionError("it never ended")

    once, _ = trained(tmp_path / "once", None)
    again, sittings = trained(tmp_path / "again", 0.0)
    assert sittings == 5  # one step of four in each, and one that finds nothing left
    assert (again.tokens, again.step) == (once.tokens, once.step)
    for name, weights in once.model.state_dict().items():
        assert torch.equal(weights, again.model.state_dict()[name]), name
    assert (tmp_path / "again/after-last/model.safetensors").read_bytes() == (
        tmp_path / "once/after-last/model.safetensors"
    ).read_bytes()
