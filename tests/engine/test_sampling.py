from __future__ import annotations

import numpy as np
import pytest

from fieldwise.engine.sampling import Sampler, distribution
from fieldwise.errors import InputError
from fieldwise.interfaces import Sampling

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))


def test_temperature_zero_takes_the_likeliest_token() -> None:
    assert Sampler(Sampling()).choose(LOGITS[::-1].copy()) == 3


def test_the_first_of_equal_logits_wins() -> None:
    assert Sampler(Sampling()).choose(np.zeros(5, dtype=np.float32)) == 0


def test_temperature_two_takes_the_square_root_of_the_probabilities() -> None:
    _, chances = distribution(LOGITS, Sampling(temperature=2.0))
    roots = np.sqrt([0.5, 0.3, 0.15, 0.05])
    assert chances == pytest.approx(roots / roots.sum())


@pytest.mark.parametrize("more", [{}, {"top_k": 2}, {"top_p": 0.9}])
def test_a_temperature_just_above_zero_takes_the_likeliest_token_too(more: dict[str, float]) -> None:
    logits = (LOGITS + 700)[::-1].copy()  # divided by it as they are they would all be infinite
    assert Sampler(Sampling(temperature=1e-320, **more)).choose(logits) == 3  # type: ignore[arg-type]


def test_top_k_keeps_the_k_likeliest_in_order() -> None:
    tokens, chances = distribution(LOGITS[::-1].copy(), Sampling(temperature=1.0, top_k=2))
    assert tokens.tolist() == [3, 2]
    assert chances == pytest.approx([0.5 / 0.8, 0.3 / 0.8])


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.51, 2), (0.79, 2), (0.81, 3), (1.0, 4)])
def test_top_p_keeps_the_token_that_crosses_the_limit(top_p: float, kept: int) -> None:
    tokens, chances = distribution(LOGITS, Sampling(temperature=1.0, top_p=top_p))
    assert len(tokens) == kept
    assert chances.sum() == pytest.approx(1.0)


def test_top_p_counts_after_top_k() -> None:
    # of 0.5 and 0.3 the first has 0.625, which is above 0.6
    tokens, _ = distribution(LOGITS, Sampling(temperature=1.0, top_k=2, top_p=0.6))
    assert tokens.tolist() == [0]


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others() -> None:
    def draw(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.choose(LOGITS) for _ in range(40)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_tokens_come_as_often_as_their_probability_says() -> None:
    sampler = Sampler(Sampling(temperature=1.0, seed=1))
    counts = np.bincount([sampler.choose(LOGITS) for _ in range(4000)], minlength=4) / 4000
    assert counts == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)  # four standard errors of 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.2},
        {"top_k": -1},
        {"max_tokens": -1},
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Sampler(Sampling(**wrong))  # type: ignore[arg-type]
