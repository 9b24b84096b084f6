"""Merging by hand-worked numbers, against PEFT, and by what must hold for any adapters."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_runs import files_of
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from tiny_models import edit_json, make_adapter
from transformers import AutoModelForCausalLM

from fieldwise.adapters import factors, methods
from fieldwise.adapters.factors import Update, best_rank, best_rank_dense, read_updates, weighted_sum, write_adapter
from fieldwise.adapters.methods import METHODS, Part, Plan, dropped, elected, errors, merged, trimmed, unfit
from fieldwise.errors import ModelError


def column(*values: float) -> np.ndarray:
    return np.array([values]).T


def row(*values: float) -> np.ndarray:
    return np.array([values])


ONE = {"m": Update(column(1, 0), row(2, 0))}  # [[2, 0], [0, 0]]
TWO = {"m": Update(column(0, 1), row(0, 1))}  # [[0, 0], [0, 1]]


def test_the_examples_of_the_docstrings_hold() -> None:
    for module in (factors, methods):
        tested = doctest.testmod(module)
        assert tested.attempted > 0 and tested.failed == 0


def test_cat_is_the_weighted_sum() -> None:
    made = merged([Part("a", ONE, 0.5), Part("b", TWO, -3.0)], Plan("cat"))
    assert made["m"].rank == 2
    assert made["m"].dense().tolist() == [[1.0, 0.0], [0.0, -3.0]]


def test_svd_of_rank_one_keeps_the_larger_and_its_error_is_the_smaller() -> None:
    parts = [Part("a", ONE, 1.0), Part("b", TWO, 1.0)]
    made = merged(parts, Plan("svd", rank=1))
    assert made["m"].dense() == pytest.approx(np.array([[2.0, 0.0], [0.0, 0.0]]), abs=1e-12)
    off = errors(made, weighted_sum([ONE, TWO], [1.0, 1.0]))
    assert [off["m"], off[""]] == pytest.approx([1 / math.sqrt(5)] * 2)  # norms 1 and sqrt(4 + 1)


def test_linear_brings_cross_terms() -> None:
    parts = [Part("a", ONE, 0.5), Part("b", TWO, 0.5)]
    made = merged(parts, Plan("linear"))
    assert made["m"].dense().tolist() == [[0.5, 0.25], [0.5, 0.25]]  # (.5, .5) times (1, .5)
    # exact is diag(1, .5): off by (-.5, .25; .5, -.25), of norm sqrt(.625), against sqrt(1.25)
    assert errors(made, weighted_sum([ONE, TWO], [0.5, 0.5]))[""] == pytest.approx(math.sqrt(0.5))


def test_linear_is_exact_where_a_factor_is_shared() -> None:
    other = {"m": Update(column(3, 1), row(2, 0))}
    made = merged([Part("a", ONE, 0.25), Part("b", other, 0.75)], Plan("linear"))
    assert errors(made, weighted_sum([ONE, other], [0.25, 0.75]))[""] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([Part("a", ONE, 0.5), Part("b", {"m": Update(np.ones((2, 2)), np.ones((2, 2)))}, 0.5)], "ranks differ: 1, 2"),
        ([Part("a", ONE, 0.5), Part("b", {"n": TWO["m"]}, 0.5)], "different modules"),
        ([Part("a", ONE, 1.0), Part("b", TWO, 1.0)], "sum to 1"),
        ([Part("a", ONE, 1.5), Part("b", TWO, -0.5)], "positive weights"),
    ],
)
def test_linear_is_refused_where_it_means_nothing(parts: list[Part], reason: str) -> None:
    with pytest.raises(ModelError, match=f"{reason}.*--method cat"):
        merged(parts, Plan("linear"))
    assert unfit(parts, "cat") is None


def test_ties_trims_elects_and_averages_those_that_agree() -> None:
    first, second = np.array([[4.0, -1.0, 3.0, 2.0]]), np.array([[2.0, 5.0, -3.5, 0.5]])
    kept = [trimmed(first, 0.5), trimmed(second, 0.5)]
    assert kept[0].tolist() == [[4.0, 0.0, 3.0, 0.0]] and kept[1].tolist() == [[0.0, 5.0, -3.5, 0.0]]
    # 4 alone; 5 alone; 3 against -3.5: the second wins and stands alone; both dropped
    assert elected(kept, [0.5, 0.5]).tolist() == [[4.0, 5.0, -3.5, 0.0]]
    # weights 1 and 3: lambda 4; column 0: 4 * 4; column 1: 4 * 5; column 2: 3 - 10.5 < 0, so 4 * -3.5
    assert elected(kept, [1.0, 3.0]).tolist() == [[16.0, 20.0, -14.0, 0.0]]
    # where both agree, the weighted sum
    assert elected([np.array([[4.0]]), np.array([[2.0]])], [1.0, 3.0]).tolist() == [[10.0]]
    made = merged(
        [Part("a", {"m": Update(column(1), first)}, 0.5), Part("b", {"m": Update(column(1), second)}, 0.5)],
        Plan("ties"),
    )
    assert made["m"].dense() == pytest.approx(np.array([[4.0, 5.0, -3.5, 0.0]]))


def test_behind_dare_those_that_agree_are_summed() -> None:
    assert elected([np.array([[4.0]]), np.array([[0.0]])], [0.5, 0.5], is_mean=False).tolist() == [[2.0]]


def test_a_negative_weight_turns_an_adapter_round_in_ties() -> None:
    update, plan = {"m": Update(column(1, 2), row(1, -3))}, Plan("ties", density=1.0)
    made = merged([Part("a", update, 1.0), Part("b", update, -1.0)], plan)
    assert made["m"].dense().tolist() == [[0.0, 0.0], [0.0, 0.0]]  # no sign has the larger mass


def test_dare_keeps_the_mean_and_drops_by_adapter_module_and_seed() -> None:
    delta = np.full((300, 300), 2.0)
    made = dropped(delta, 0.25, "ada_1", "m", 0)
    assert set(np.unique(made)) == {0.0, 8.0}  # 2 / 0.25
    assert made.mean() == pytest.approx(2.0, abs=0.1)  # standard error 0.012
    assert np.array_equal(made, dropped(delta, 0.25, "ada_1", "m", 0))
    for other in (("ada_2", "m", 0), ("ada_1", "n", 0), ("ada_1", "m", 1)):
        assert not np.array_equal(made, dropped(delta, 0.25, *other))


matrices = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(matrices, st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_norms_and_best_ranks_are_those_of_the_whole_matrix(generator, rows, columns, rank, wanted) -> None:
    update = Update(generator.normal(size=(rows, rank)), generator.normal(size=(rank, columns)))
    assert update.norm() == pytest.approx(np.linalg.norm(update.dense()))
    sizes = np.linalg.svd(update.dense(), compute_uv=False)
    least = math.sqrt(float((sizes[wanted:] ** 2).sum()))
    for made in (best_rank(update, wanted), best_rank_dense(update.dense(), wanted)):
        assert np.linalg.norm(made.dense() - update.dense()) == pytest.approx(least, abs=1e-6)
        assert made.rank <= max(wanted, rank)


@given(matrices, st.lists(st.integers(1, 3), min_size=1, max_size=3), st.floats(-2, 2))
@settings(max_examples=40, deadline=None)
def test_cat_is_exact_and_no_method_beats_svd_at_its_rank(generator, ranks, weight) -> None:
    updates = [{"m": Update(generator.normal(size=(5, r)), generator.normal(size=(r, 4)))} for r in ranks]
    parts = [Part(str(n), u, weight if n else 1.0) for n, u in enumerate(updates)]
    exact = weighted_sum([p.updates for p in parts], [p.weight for p in parts])
    assert errors(merged(parts, Plan("cat")), exact)[""] < 1e-9
    best = errors(merged(parts, Plan("svd", rank=2)), exact)[""]
    for method in ("ties", "dare", "dare_ties"):
        assert errors(merged(parts, Plan(method, rank=2)), exact)[""] >= best - 1e-6


# ---------------------------------------------------------------- files and PEFT


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return make_adapter(folder / "a", base, rank=4, seed=1), make_adapter(folder / "b", base, rank=2, seed=2)


def in_peft(base: Path, adapters: tuple[Path, Path], weights: list[float], kind: str, **more: object) -> PeftModel:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapters[0], "a")
    model.load_adapter(adapters[1], "b")
    model.add_weighted_adapter(["a", "b"], weights, "made", combination_type=kind, **more)
    return model


def delta_of(model: PeftModel, module: str) -> np.ndarray:
    return model.base_model.model.get_submodule(module).get_delta_weight("made").detach().double().numpy()


def parts_of(adapters: tuple[Path, Path], weights: list[float]) -> list[Part]:
    return [Part(a.name, read_updates(files_of(a)), w) for a, w in zip(adapters, weights, strict=True)]


@pytest.mark.parametrize(
    ("ours", "theirs", "weights", "factor"),
    [
        (Plan("cat"), {"kind": "cat"}, [0.7, -0.4], 1.0),
        (Plan("svd", rank=3), {"kind": "svd", "svd_rank": 3}, [0.7, 0.4], 1.0),
        # PEFT divides the weighted sum by the number of those that agree, we by the sum of their weights
        (Plan("ties", rank=3, density=0.4), {"kind": "ties_svd", "svd_rank": 3, "density": 0.4}, [0.5, 0.5], 2.0),
        (
            Plan("dare", rank=3, density=1.0),
            {"kind": "dare_linear_svd", "svd_rank": 3, "density": 1.0},
            [0.7, 0.4],
            1.0,
        ),
    ],
    ids=["cat", "svd", "ties", "dare"],
)
def test_the_same_as_peft_where_peft_has_the_same(base, adapters, ours, theirs, weights, factor) -> None:
    made = merged(parts_of(adapters, weights), ours)
    model = in_peft(base, adapters, weights, **theirs)
    assert len(made) == 14
    for module, update in made.items():
        wanted = delta_of(model, module) * factor
        assert update.dense() == pytest.approx(wanted, abs=3e-5 * np.abs(wanted).max())


def test_what_is_written_says_in_peft_what_the_parts_say_together(base, adapters, tmp_path: Path) -> None:
    made = merged(parts_of(adapters, [0.7, -0.4]), Plan("cat"))
    config = json.loads((adapters[0] / "adapter_config.json").read_text())
    write_adapter(tmp_path / "made", made, config)
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = torch.arange(40, 80).unsqueeze(0)
    with torch.no_grad():
        wanted = in_peft(base, adapters, [0.7, -0.4], "cat")
        wanted.set_adapter("made")
        before, exact = bare(ids).logits, wanted(ids).logits
        found = PeftModel.from_pretrained(bare, tmp_path / "made")(ids).logits
    assert torch.allclose(found, exact, atol=1e-4) and not torch.allclose(before, exact, atol=1e-2)


@pytest.mark.parametrize(
    "more",
    [{"use_rslora": True}, {"alpha_pattern": {"q_proj": 1, r"layers\.1\.mlp.*": 32}}, {"rank_pattern": {"v_proj": 7}}],
)
def test_scales_are_those_of_peft(base: Path, tmp_path: Path, more: dict[str, object]) -> None:
    from peft import get_peft_model

    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(
        bare, LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", init_lora_weights=False, **more)
    )
    model.save_pretrained(tmp_path / "a")
    for module, update in read_updates(files_of(tmp_path / "a")).items():
        wanted = model.base_model.model.get_submodule(module).get_delta_weight("default").detach().double().numpy()
        assert update.dense() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4 also moves"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"bias": "all"}, "biases"),
        ({"peft_type": "IA3"}, "only LoRA"),
    ],
)
def test_what_is_more_than_a_low_rank_update_is_refused(adapters, tmp_path: Path, change, reason: str) -> None:
    for path in adapters[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    edit_json(tmp_path / "adapter_config.json", **change)
    with pytest.raises(ModelError, match=reason):
        read_updates(files_of(tmp_path))


def test_a_file_that_is_torn_or_holds_other_tensors_is_refused(adapters, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for path in adapters[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    first = next(iter(tensors))
    save_file({n: t for n, t in tensors.items() if n != first}, weights)
    with pytest.raises(ModelError, match="has only one factor"):
        read_updates(files_of(tmp_path))
    save_file({**tensors, "base_model.model.lm_head.weight": torch.ones(2, 2)}, weights)
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        read_updates(files_of(tmp_path))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="cannot be read"):
        read_updates(files_of(tmp_path))


def test_every_method_is_named_in_the_command() -> None:
    from fieldwise.commands.adapters import _METHODS

    assert _METHODS == METHODS
