"""Ways to make one update of several, and how far each lies from the exact weighted sum.

| method | makes | rank |
| --- | --- | --- |
| `cat` | the weighted sum itself: factors side by side | sum of the ranks |
| `svd` | its best approximation of a rank | chosen |
| `linear` | the mean of the factors; the weighted sum only where a factor is shared | that of the parts |
| `ties` | trim, elect a sign, mean of those that agree (Yadav et al. 2023, arXiv 2306.01708), then as svd | chosen |
| `dare` | drop entries at random, rescale the others (Yu et al. 2024, arXiv 2311.03099), sum, then as svd | chosen |
| `dare_ties` | drop and rescale, elect, sum of those that agree, then as svd | chosen |

TIES and DARE work on the whole update of a module, never on the factors: dropping entries of A and B apart is far from
dropping entries of their product (docs/adapters.md has figures).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from fieldwise.adapters.factors import (
    Matrix,
    Update,
    Updates,
    best_rank,
    best_rank_dense,
    distance,
    modules_of,
    total,
    weighted_sum,
)
from fieldwise.errors import ModelError
from fieldwise.progress import track

Method = Literal["cat", "svd", "linear", "ties", "dare", "dare_ties"]
METHODS: tuple[Method, ...] = get_args(Method)
_TINY = 1e-9


class Plan(NamedTuple):
    """How to merge: `density` is the share of entries that TIES and DARE keep, `rank` None that of the largest part."""

    method: Method = "cat"
    rank: int | None = None
    density: float = 0.5
    seed: int = 0


class Part(NamedTuple):
    """One adapter of a merge: its id seeds what DARE drops, so that the order of the parts does not matter."""

    id: str
    updates: Updates
    weight: float


def merged(parts: Sequence[Part], plan: Plan) -> Updates:
    """Return the merged updates; raises ModelError where the method makes no sense for these adapters."""
    if reason := unfit(parts, plan.method):
        raise ModelError(
            f"{plan.method} is not meaningful for these adapters",
            where="adapters merge",
            found=reason,
            fix="Use --method cat, which is exact for any ranks and weights, or svd for a rank of your choice.",
        )
    adapters, weights = [p.updates for p in parts], [p.weight for p in parts]
    if plan.method == "cat":
        return weighted_sum(adapters, weights)
    if plan.method == "linear":
        return {m: _mean_of_factors([a[m] for a in adapters], weights) for m in modules_of(adapters)}
    rank = plan.rank or max(u.rank for a in adapters for u in a.values())
    if plan.method == "svd":
        return {m: best_rank(u, rank) for m, u in weighted_sum(adapters, weights).items()}
    return dict(_dense_merge(parts, plan, rank))


def unfit(parts: Sequence[Part], method: Method) -> str | None:
    """Why a method makes no sense for these parts, or None."""
    if method == "linear":
        adapters = [p.updates for p in parts]
        if len({frozenset(a) for a in adapters}) > 1:
            return "they update different modules"
        ranks = sorted({u.rank for a in adapters for u in a.values()})
        if len(ranks) > 1:
            return f"their ranks differ: {', '.join(map(str, ranks))}"
        if any(p.weight <= 0 for p in parts) or not math.isclose(sum(p.weight for p in parts), 1.0, abs_tol=1e-6):
            return "a mean of factors needs positive weights that sum to 1"
    return None


def errors(made: Updates, exact: Updates) -> dict[str, float]:
    """Relative Frobenius error of each module against the exact sum; `""` stands for all modules together.

    Of a module whose exact sum is zero it is the norm of what was made.
    """
    off, size, found = 0.0, 0.0, {}
    for module, wanted in exact.items():
        here = made.get(module, Update(wanted.left[:, :0], wanted.right[:0]))
        error, norm = distance(here, wanted), wanted.norm()
        found[module] = error / norm if norm > 0 else error
        off, size = off + error**2, size + norm**2
    found[""] = math.sqrt(off / size) if size > 0 else math.sqrt(off)
    return found


# ---------------------------------------------------------------- the methods


def _mean_of_factors(parts: Sequence[Update], weights: Sequence[float]) -> Update:
    """Mean of left and of right factors: what averaging the files of several trainings from one start does."""
    left = sum((p.left * w for p, w in zip(parts, weights, strict=True)), np.zeros_like(parts[0].left))
    right = sum((p.right * w for p, w in zip(parts, weights, strict=True)), np.zeros_like(parts[0].right))
    return Update(left, right)


def _dense_merge(parts: Sequence[Part], plan: Plan, rank: int) -> Iterator[tuple[str, Update]]:
    modules = modules_of([p.updates for p in parts])
    for module in track(modules, f"{plan.method} of {len(parts)} adapters"):
        # A negative weight turns the update round and counts with its size, for TIES too.
        sized = [abs(p.weight) for p in parts]
        given = [_dense(p, module, parts) * math.copysign(1.0, p.weight) for p in parts]
        if plan.method == "ties":
            given = [trimmed(delta, plan.density) for delta in given]
        else:
            given = [dropped(d, plan.density, p.id, module, plan.seed) for d, p in zip(given, parts, strict=True)]
        if plan.method == "dare":
            made = sum((d * w for d, w in zip(given, sized, strict=True)), np.zeros_like(given[0]))
        else:
            made = elected(given, sized, is_mean=plan.method == "ties")
        yield module, best_rank_dense(made, rank)


def _dense(part: Part, module: str, parts: Sequence[Part]) -> Matrix:
    if module in part.updates:
        return part.updates[module].dense()
    return np.zeros(next(p.updates[module].shape for p in parts if module in p.updates))


def trimmed(delta: Matrix, density: float) -> Matrix:
    """Keep the share of entries that are largest in size, as TIES does first; the others become zero.

    >>> trimmed(np.array([[4.0, -1.0], [-3.0, 0.5]]), 0.5)
    array([[ 4.,  0.],
           [-3.,  0.]])
    """
    kept = int(density * delta.size)
    if kept >= delta.size:
        return delta
    made = np.zeros_like(delta)
    if kept > 0:
        places = np.argpartition(np.abs(delta).ravel(), delta.size - kept)[delta.size - kept :]
        made.ravel()[places] = delta.ravel()[places]
    return made


def elected(deltas: Sequence[Matrix], weights: Sequence[float], *, is_mean: bool = True) -> Matrix:
    """TIES' elect and merge: the sign with the larger weighted sum wins, and those that have it are averaged.

    The weighted mean of those that agree is multiplied by the sum of all weights (the paper's lambda), so that entries
    on which all agree get the weighted sum and weights of 1/n the mean. Behind DARE, which has made up for what it
    dropped already, they are summed instead: a mean would make up for it twice.

    >>> elected([np.array([[2.0, 1.0]]), np.array([[4.0, -3.0]])], [0.5, 0.5])
    array([[ 3., -3.]])
    """
    sign = np.sign(sum((d * w for d, w in zip(deltas, weights, strict=True)), np.zeros_like(deltas[0])))
    made, agreeing = np.zeros_like(deltas[0]), np.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = (np.sign(delta) == sign) & (sign != 0)
        made += np.where(agrees, delta * weight, 0.0)
        agreeing += np.where(agrees, weight, 0.0)
    return made * sum(weights) / np.where(agreeing > 0, agreeing, 1.0) if is_mean else made


def dropped(delta: Matrix, density: float, identifier: str, module: str, seed: int) -> Matrix:
    """Keep each entry with probability `density` and divide it by that, as DARE does: the mean stays what it was."""
    if density >= 1:
        return delta
    digest = hashlib.sha256(f"{seed}\0{identifier}\0{module}".encode()).digest()
    kept = np.random.default_rng(int.from_bytes(digest[:16], "little")).random(delta.shape) < density
    return np.where(kept, delta / density, 0.0)


# ---------------------------------------------------------------- comparing


class ModuleDifference(NamedTuple):
    """Two updates of one module: their sizes, the size of their difference, and the cosine between them."""

    module: str
    first: float
    second: float
    difference: float
    cosine: float | None


def differences(first: Updates, second: Updates) -> list[ModuleDifference]:
    """Compare two sets of updates module by module; one that is missing counts as zero."""
    found = []
    for module in modules_of([first, second]):
        one, other = first.get(module), second.get(module)
        sizes = (one.norm() if one else 0.0), (other.norm() if other else 0.0)
        apart = distance(one, other) if one and other else max(sizes)
        cosine = one.inner(other) / (sizes[0] * sizes[1]) if one and other and min(sizes) > _TINY else None
        found.append(ModuleDifference(module, *sizes, apart, cosine))
    return found


def chained(parts: Sequence[Updates]) -> Updates:
    """The sum of an adapter and those merged into its base before it: what the tuned weights add to the first base."""
    return {m: total([p[m] for p in parts if m in p]) for m in modules_of(parts)}
