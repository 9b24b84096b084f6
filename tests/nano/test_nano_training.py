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


@pytest.fixture
def build(tmp_path: Path, harvested, documents) -> Path:
    """What `prepare` writes, of the project's own example documents."""
    from tokenizers import Tokenizer

    from nano_recipe.pools import save_harvest

    (tmp_path / "tokenizer.json").write_bytes((WEIGHTS / "tokenizer.json").read_bytes())
    save_harvest(harvested, tmp_path / "pools.json")
    (tmp_path / "documents_train.json").write_text(json.dumps([["clinical", "", text] for text in documents]))
    (tmp_path / "questions_train.json").write_text("[]")
    ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("\n".join(documents)).ids
    np.save(tmp_path / "text_train.npy", np.array(ids, dtype=np.uint16))
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
