"""The formulas of PPO for replies of a language model, on tensors of (replies, tokens) with a mask of the tokens that count.

Schulman et al. 2017, Proximal policy optimization algorithms (arXiv:1707.06347); Schulman et al. 2016, High-dimensional
continuous control using generalized advantage estimation (arXiv:1506.02438); Ziegler et al. 2019, Fine-tuning language
models from human preferences (arXiv:1909.08593). `tests/train/test_ppo_math.py` works every one of them by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from fieldwise.extras import require

_STEEPNESS = 0.1  # K of Ziegler et al., section 2.2
_MOST_ERROR = 0.2  # the relative error is clipped to this, ibid.
_TINY = 1e-8


class Advantages(NamedTuple):
    """What each token was better than expected, and what the value head should have said."""

    advantages: Any
    returns: Any


class PolicyLoss(NamedTuple):
    """The loss of the policy and the share of tokens whose ratio was clipped."""

    loss: Any
    clipped: Any


def token_rewards(scores: Any, logps: Any, reference_logps: Any, mask: Any, kl_weight: float) -> Any:
    """Return the reward of each token: what it costs to leave the reference, and the score of the reply on its last token.

    Ziegler et al., section 2: R(x, y) = r(x, y) - beta ln(pi(y|x) / rho(y|x)), written out by token. Worked: a reply of
    two tokens with ln ratios 0.5 and -0.25, score 1 and beta 0.2 gets -0.1 and 1.05.
    """
    rewards = -kl_weight * (logps - reference_logps) * mask
    last = mask.sum(dim=1).long() - 1
    rows = last.new_tensor(range(len(last)))
    rewards[rows, last] += scores
    return rewards


def gae(rewards: Any, values: Any, mask: Any, discount: float, trace: float) -> Advantages:
    """Return generalized advantage estimates (2016, eq. 16) and the returns, their sum with the values.

    delta_t = r_t + gamma V_{t+1} - V_t with V = 0 behind the last token; A_t = delta_t + gamma lambda A_{t+1}. Worked:
    rewards 0, 0, 1 and values .5, .6, .7 with gamma 1, lambda .5 give A = .225, .25, .3.
    """
    torch = require("torch", extra="train", to="train by PPO")
    advantages = torch.zeros_like(rewards)
    following, later = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        counts = mask[:, t].to(rewards.dtype)
        delta = rewards[:, t] + discount * later - values[:, t]
        advantages[:, t] = (delta + discount * trace * following) * counts
        # padding stands behind the last token: there both stay 0
        following, later = advantages[:, t], values[:, t] * counts
    return Advantages(advantages, (advantages + values) * mask)


def whiten(values: Any, mask: Any) -> Any:
    """Return values with mean 0 and variance 1 over the tokens that count; a single value becomes 0."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) / (variance + _TINY) ** 0.5 * mask


def policy_loss(logps: Any, old_logps: Any, advantages: Any, mask: Any, clip: float) -> PolicyLoss:
    """Return the clipped surrogate (2017, eq. 7), negated, as a mean over tokens.

    -min(rho A, clip(rho, 1 - eps, 1 + eps) A) with rho = pi / pi_old. Worked with eps .2: rho 1.5 and A 1 give -1.2;
    rho 1.5 and A -1 give 1.5; rho .5 and A 1 give -.5; rho .5 and A -1 give .8.
    """
    torch = require("torch", extra="train", to="train by PPO")
    ratio = torch.exp((logps - old_logps) * mask)
    plain, clipped = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    return PolicyLoss(
        -masked_mean(torch.minimum(plain, clipped), mask),
        masked_mean((clipped < plain).to(ratio.dtype), mask).detach(),
    )


def value_loss(values: Any, old_values: Any, returns: Any, mask: Any, clip: float) -> Any:
    """Return half the squared error of the values, the larger of plain and clipped, as a mean over tokens.

    max((V - R)^2, (clip(V, V_old - eps, V_old + eps) - R)^2) / 2, as in the code of Schulman et al. and of Ziegler et
    al. Worked: V 2, V_old 1, R 3, eps .2 gives max(1, 1.8^2) / 2 = 1.62.
    """
    torch = require("torch", extra="train", to="train by PPO")
    near = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
    return 0.5 * masked_mean(torch.maximum((values - returns) ** 2, (near - returns) ** 2), mask)


def masked_mean(values: Any, mask: Any) -> Any:
    """Return the mean over the tokens that count."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


@dataclass
class KlControl:
    """The weight of the distance to the reference: fixed, or steered towards a target.

    Ziegler et al., section 2.2: e = clip(KL / target - 1, -0.2, 0.2), beta <- beta (1 + 0.1 e). Worked: beta .1, target
    6 and a measured 9 give e = .2 and beta .102; a measured 5.4 gives e = -.1 and beta .099.
    """

    weight: float
    target: float | None = None

    def update(self, kl_of_replies: float) -> None:
        """Take note of the mean KL of whole replies in the last step."""
        if self.target is not None:
            error = max(-_MOST_ERROR, min(_MOST_ERROR, kl_of_replies / self.target - 1))
            self.weight *= 1 + _STEEPNESS * error
