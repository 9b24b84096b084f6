"""The loss of token-level distillation: divergences between teacher and student over the teacher's likeliest tokens.

Hinton et al. 2015 (arXiv:1503.02531, section 2): cross-entropy with a distribution softened by a temperature T, weighted
by T^2 since its gradients shrink by 1/T^2. Generalised Jensen-Shannon divergence: Agarwal et al. 2024 (GKD,
arXiv:2306.13649, equation 1). What is beyond the k likeliest tokens is one further outcome, so that both sides are whole
distributions; by the log sum inequality their divergence is never above that of all tokens.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from fieldwise.extras import require

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


def top_and_tail(logits: Any, k: int, temperature: float) -> tuple[Any, Any]:
    """Return the ids of the k largest logits of each row, and k + 1 log-probabilities: theirs, and that of all others.

    Logits ln 5, ln 3, ln 2 at temperature 1 with k 2: probabilities 0.5, 0.3 and 0.2 for the rest.
    """
    ids = logits.topk(min(k, logits.shape[-1]), dim=-1).indices
    return ids, outcomes(logits, ids, temperature)


def outcomes(logits: Any, ids: Any, temperature: float) -> Any:
    """Return the log-probabilities of some tokens and, last, of all others together: rows of k + 1 that sum to one."""
    torch = require("torch", extra="train", to="distil")
    softened = logits.float() / temperature
    whole = softened.logsumexp(-1, keepdim=True)
    # of the others themselves: 1 less the sum of the k would lose a small tail to rounding
    least = torch.finfo(torch.float32).min
    tail = softened.scatter(-1, ids, least).logsumexp(-1, keepdim=True)
    return torch.cat((softened.gather(-1, ids), tail), -1) - whole


def divergence(teacher: Any, student: Any, kind: Divergence, beta: float = 0.5) -> Any:
    """Return the divergence of each row of log-probabilities, in nats.

    With P the teacher's and Q the student's: forward_kl is KL(P || Q), reverse_kl KL(Q || P), jsd
    beta KL(P || M) + (1 - beta) KL(Q || M) with M = beta P + (1 - beta) Q. Near 0 jsd / beta is KL(P || Q).

    For P = (0.5, 0.3, 0.2) and Q = (0.25, 0.25, 0.5): 0.218012, 0.239278, and 0.055582 with beta 0.5.
    """
    torch = require("torch", extra="train", to="distil")
    if kind == "forward_kl":
        return _kl(teacher, student)
    if kind == "reverse_kl":
        return _kl(student, teacher)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def mixed_loss(cross_entropy: Any, diverging: Any, alpha: float, temperature: float) -> Any:
    """Return alpha T^2 D + (1 - alpha) CE: with alpha 0.5, T 2, D 0.1 and CE 1.0 it is 0.5 * 4 * 0.1 + 0.5 = 0.7."""
    return alpha * temperature**2 * diverging + (1 - alpha) * cross_entropy


def _kl(first: Any, second: Any) -> Any:
    torch = require("torch", extra="train", to="distil")
    probabilities = first.exp()
    # 0 log 0 is 0: a tail may be empty where k is the whole vocabulary
    return torch.where(probabilities > 0, probabilities * (first - second), torch.zeros_like(first)).sum(-1)
