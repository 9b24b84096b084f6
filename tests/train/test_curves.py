from pathlib import Path

import pytest

from fieldwise.errors import ModelError
from fieldwise.train.curves import judge, since_best


def curve(losses, held=()):
    rows = [{"step": n, "loss": loss} for n, loss in enumerate(losses, 1)]
    for step, loss in held:
        rows.insert(
            next((i for i, r in enumerate(rows) if r["step"] > step), len(rows)), {"step": step, "eval_loss": loss}
        )
    return rows


FALLING = [4 * 0.9**n for n in range(16)]
SETTLED = [3.0, 2.0, 1.6, 1.5, *[1.4] * 12]


@pytest.mark.parametrize(
    ("rows", "state", "best"),
    [
        (curve(FALLING, [(4, 2.0), (8, 1.8), (16, 2.4)]), "overfitting", 8),
        (curve(FALLING, [(4, 2.0), (8, 1.8), (16, 1.81)]), "levelled_off", 8),
        (curve(FALLING, [(8, 1.8), (16, 1.6)]), "still_falling", 16),
        (curve(FALLING), "still_falling", None),
        (curve([2.0, 2.1, 1.9, 2.0] * 4), "not_falling", None),
        (curve([2.0 + 0.1 * n for n in range(12)]), "not_falling", None),
        (curve(SETTLED, [(8, 1.5), (16, 1.49)]), "levelled_off", 16),
        (curve([3.0, 2.0, 1.0]), "too_short", None),
        ([], "too_short", None),
        (curve([2.0, 2.1, 1.9, 2.0] * 4, [(0, 3.0), (16, 2.5)]), "levelled_off", 16),  # its batches differ, it learns
        (curve(FALLING, [(0, 3.0), (16, 2.99)]), "not_falling", 16),
        (curve([3.0, 2.0], [(0, 3.0), (2, 2.99)]), "not_falling", 2),
        (curve([3.0, 2.0], [(0, 3.0), (2, 2.5)]), "too_short", 2),
        (curve(FALLING, [(0, 3.0), (16, 2.5)]), "still_falling", 16),
    ],
)
def test_what_a_curve_shows(rows, state, best) -> None:
    verdict = judge(rows, "sft")
    assert (verdict.state, verdict.best_step) == (state, best)
    assert verdict.about and verdict.to_json()["state"] == state
    by_training_loss = state == "not_falling" and not verdict.about.startswith("the held-out loss")
    assert ("underfitting" in verdict.about) is (state == "still_falling" or by_training_loss)


def test_a_held_out_loss_that_rises_with_the_training_loss_is_not_called_overfitting() -> None:
    diverging = curve([2.0 + 0.2 * n for n in range(16)], [(4, 2.0), (16, 5.0)])
    assert judge(diverging, "sft").state == "not_falling"


def test_weights_that_got_worse_are_to_learn_more_gently() -> None:
    worse, same = (judge(curve(FALLING, [(0, 2.0), (16, end)]), "sft") for end in (2.5, 2.0))
    assert worse.about == "the held-out loss was 2.000 before and is 2.500"
    assert "Lower train.sft.learning_rate" in (worse.advice or "") and "raise train.sft" in (same.advice or "")


def test_overfitting_names_the_step_to_go_back_to_and_the_setting() -> None:
    verdict = judge(curve(FALLING, [(8, 1.8), (16, 2.4)]), "sft")
    assert "lowest at step 8 (1.800)" in verdict.about and "2.400 at step 16" in verdict.about
    assert "train.sft.early_stopping" in (verdict.advice or "")


@pytest.mark.parametrize(("losses", "expected"), [([], 0), ([1.0], 0), ([2, 1, 3], 1), ([1, 1, 1], 2), ([3, 2, 1], 0)])
def test_how_long_ago_the_best_was(losses, expected) -> None:
    assert since_best(losses) == expected


def test_an_adapter_of_other_weights_is_refused_before_it_is_merged(base: Path, tmp_path: Path) -> None:
    from tiny_models import make_adapter, make_tiny_llama

    from fieldwise.train.merging import merge

    adapter = make_adapter(tmp_path / "adapter", base)
    wider = make_tiny_llama(tmp_path / "wider", hidden=64, ffn=192, heads=2, kv_heads=1)
    shorter = make_tiny_llama(tmp_path / "shorter", hidden=64, ffn=128, heads=2, kv_heads=1, layers=1)
    with pytest.raises(ModelError, match=r"made for other base weights.*with 128 .*the base has 192"):
        merge(wider, adapter, tmp_path / "out")
    with pytest.raises(ModelError, match=r"layers\.1\..*the base has no such module"):
        merge(shorter, adapter, tmp_path / "out")
    merge(base, adapter, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").is_file()
