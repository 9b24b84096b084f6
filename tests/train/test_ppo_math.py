"""Every formula of PPO against numbers worked by hand."""

import math

import pytest
import torch

from fieldwise.train.ppo_math import KlControl, gae, masked_mean, policy_loss, token_rewards, value_loss, whiten


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def test_the_score_falls_on_the_last_token_and_every_token_pays_for_its_distance() -> None:
    # -0.2 * 0.5 = -0.1; -0.2 * -0.25 + 1 = 1.05; padding gets nothing
    logps, reference = row(-1.0, -1.25, -9.0), row(-1.5, -1.0, -1.0)
    found = token_rewards(torch.tensor([1.0], dtype=torch.float64), logps, reference, row(1, 1, 0), 0.2)
    assert found.tolist()[0] == pytest.approx([-0.1, 1.05, 0.0])


def test_advantages_follow_the_recursion_of_gae() -> None:
    # delta: 0 + .6 - .5 = .1; 0 + .7 - .6 = .1; 1 + 0 - .7 = .3
    # A3 = .3; A2 = .1 + .5 * .3 = .25; A1 = .1 + .5 * .25 = .225; returns A + V
    found = gae(row(0, 0, 1), row(0.5, 0.6, 0.7), row(1, 1, 1), 1.0, 0.5)
    assert found.advantages.tolist()[0] == pytest.approx([0.225, 0.25, 0.3])
    assert found.returns.tolist()[0] == pytest.approx([0.725, 0.85, 1.0])


def test_a_discount_counts_what_comes_later_for_less() -> None:
    # gamma .9, lambda .5: delta .9 * .6 - .5 = .04; .9 * .7 - .6 = .03; .3
    # A2 = .03 + .45 * .3 = .165; A1 = .04 + .45 * .165 = .11425
    found = gae(row(0, 0, 1), row(0.5, 0.6, 0.7), row(1, 1, 1), 0.9, 0.5)
    assert found.advantages.tolist()[0] == pytest.approx([0.11425, 0.165, 0.3])


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (0.0, [0.1, 0.1, 0.3]),  # the temporal differences alone
        (1.0, [0.5, 0.4, 0.3]),  # what was really earned, 1, less the value
    ],
)
def test_the_two_ends_of_lambda(trace: float, expected: list[float]) -> None:
    found = gae(row(0, 0, 1), row(0.5, 0.6, 0.7), row(1, 1, 1), 1.0, trace)
    assert found.advantages.tolist()[0] == pytest.approx(expected)


def test_padding_behind_a_reply_changes_no_advantage() -> None:
    short = gae(row(0, 1), row(0.5, 0.6), row(1, 1), 1.0, 0.95)
    padded = gae(row(0, 1, 0, 0), row(0.5, 0.6, 7.0, -3.0), row(1, 1, 0, 0), 1.0, 0.95)
    assert padded.advantages.tolist()[0] == pytest.approx([*short.advantages.tolist()[0], 0.0, 0.0])
    assert padded.returns.tolist()[0] == pytest.approx([*short.returns.tolist()[0], 0.0, 0.0])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 1.0, -1.2, 1.0),  # better, and likelier than allowed: no more than 1.2 is earned
        (1.5, -1.0, 1.5, 0.0),  # worse and likelier: counts in full
        (0.5, 1.0, -0.5, 0.0),
        (0.5, -1.0, 0.8, 1.0),
        (1.1, 2.0, -2.2, 0.0),
    ],
)
def test_the_ratio_is_clipped_only_where_it_would_earn(ratio, advantage, loss, clipped) -> None:
    found = policy_loss(row(math.log(ratio)), row(0.0), row(advantage), row(1), 0.2)
    assert found.loss.item() == pytest.approx(loss) and found.clipped.item() == pytest.approx(clipped)


def test_no_gradient_flows_through_a_clipped_ratio() -> None:
    logps = row(math.log(1.5), math.log(1.1)).requires_grad_()
    policy_loss(logps, row(0, 0), row(1, 1), row(1, 1), 0.2).loss.backward()
    # d(-rho A / 2) / d ln pi = -rho / 2 for the second token
    assert logps.grad.tolist()[0] == pytest.approx([0.0, -0.55])


def test_the_value_loss_takes_the_larger_of_plain_and_clipped() -> None:
    # V 2, old 1, return 3: plain 1, clipped to 1.2: 3.24; half of it 1.62
    assert value_loss(row(2.0), row(1.0), row(3.0), row(1), 0.2).item() == pytest.approx(1.62)
    # V 2, old 2.1, return 0: within the clip, both 4; half of it 2
    assert value_loss(row(2.0), row(2.1), row(0.0), row(1), 0.2).item() == pytest.approx(2.0)
    # the mean over the tokens that count
    assert value_loss(row(2.0, 9.0), row(1.0, 0.0), row(3.0, 0.0), row(1, 0), 0.2).item() == pytest.approx(1.62)


def test_whitened_advantages_have_mean_0_and_variance_1_over_the_tokens_that_count() -> None:
    # of 1 and 3 the mean is 2 and the deviation 1
    assert whiten(row(1, 3, 100), row(1, 1, 0)).tolist()[0] == pytest.approx([-1, 1, 0])
    assert masked_mean(row(1, 3, 100), row(1, 1, 0)).item() == 2


def test_a_fixed_weight_of_the_distance_stays_and_a_steered_one_follows_its_target() -> None:
    fixed = KlControl(0.1)
    fixed.update(9.0)
    assert fixed.weight == 0.1
    steered = KlControl(0.1, target=6.0)
    steered.update(9.0)  # 9 / 6 - 1 = .5, clipped to .2
    assert steered.weight == pytest.approx(0.102)
    steered = KlControl(0.1, target=6.0)
    steered.update(5.4)  # -.1
    assert steered.weight == pytest.approx(0.099)
