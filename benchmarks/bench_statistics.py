"""Do the intervals, tests and gates of a report do what they say? Simulated test sets whose truth is known.

    python benchmarks/bench_statistics.py [--experiments 2000] [--only NAME] [--json]

Each line simulates that many test sets: documents of unequal size, questions about one document that agree more or less
(beta-binomial, Dirichlet-multinomial), scores 0 and 1 or in between as token F1 has them. Intervals must cover the truth
in 93 to 97 % of them. Gates may raise a false alarm in at most 5 %, and pass in 80 % where they print that they do.
Beside it stands what most harnesses print, on the same test sets. Two things are known and asked of less (COVERS and
below): with fewer than ten documents, or fewer than eight failures to be expected, intervals are wider than they need
be; figures near 0 that differ between 30 documents or fewer are covered in 92 % and more. False alarms may come to 5 %
and what chance adds to that in so many test sets (two standard errors).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.evaluate import statistics as s
from fieldwise.evaluate.power import minimum_detectable_effect
from fieldwise.evaluate.report import Scored, as_family, judge_pair
from fieldwise.evaluate.settings import GateSettings

Floats = NDArray[np.float64]
SAMPLES = 1000  # draws of each bootstrap; reports take 2000


class Plan(NamedTuple):
    """How many documents, how many questions each (`spread`: even, poisson or geometric)."""

    documents: int
    questions: int
    spread: str = "poisson"

    def __str__(self) -> str:
        if self.questions == 1:
            return f"{self.documents} questions, one a document"
        return f"{self.documents} documents, {self.questions} questions each ({self.spread})"

    def members(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the document of every question."""
        if self.questions == 1 or self.spread == "even":
            sizes = np.full(self.documents, self.questions)
        elif self.spread == "poisson":
            sizes = 1 + rng.poisson(self.questions - 1, self.documents)
        else:
            sizes = rng.geometric(1 / self.questions, self.documents)
        return np.repeat(np.arange(self.documents), sizes)


class Row(NamedTuple):
    """A line of the result: how often something happened, and what it should be."""

    name: str
    about: str
    share: float
    wanted: tuple[float, float]
    beside: dict[str, float]

    @property
    def is_kept(self) -> bool:
        return self.wanted[0] <= self.share <= self.wanted[1]


COVERS = (0.93, 0.97)
_LEAST, _LEAST_SKEWED, _MOST, _MOST_FEW = 0.93, 0.92, 0.97, 1.0
TYPICAL = Plan(30, 8)
EXPERIMENTS = 2000


def shares(rng: np.random.Generator, member: NDArray[np.int64], p: float, agreement: float) -> Floats:
    """0/1 scores: every document has its own share of right answers, around p."""
    documents = int(member.max()) + 1
    own = np.full(documents, p)
    if agreement:
        k = (1 - agreement) / agreement
        own = rng.beta(p * k, (1 - p) * k, documents)
    return (rng.random(len(member)) < own[member]).astype(float)


def graded(rng: np.random.Generator, right: Floats) -> Floats:
    """Scores such as token F1 from 0/1 ones: most stay, some right ones lose a part, some wrong ones gain one."""
    part = rng.beta(2, 3, len(right))
    keeps = rng.random(len(right)) < 0.65
    return np.where(keeps, right, np.where(right == 1, 0.3 + 0.7 * part, 0.6 * part))


def graded_mean(p: float) -> float:
    """The mean of `graded` of a share p; a beta(2, 3) has mean 0.4."""
    return p * (0.65 + 0.35 * (0.3 + 0.7 * 0.4)) + (1 - p) * 0.35 * 0.6 * 0.4


def changes(rng: np.random.Generator, member: NDArray[np.int64], win: float, loss: float, agreement: float) -> Floats:
    """Paired differences: +1 won, -1 lost, else 0; documents differ in how much changes."""
    documents = int(member.max()) + 1
    own = np.tile([win, loss], (documents, 1))
    if agreement:
        k = (1 - agreement) / agreement
        own = rng.dirichlet(np.maximum([win, loss, 1 - win - loss], 1e-9) * k, documents)[:, :2]
    u = rng.random(len(member))
    return np.where(u < own[member, 0], 1.0, np.where(u < own[member].sum(1), -1.0, 0.0))


def _wanted(plan: Plan, events: float, is_skewed: bool) -> tuple[float, float]:
    is_wide = plan.documents < s.FEW_CLUSTERS or events < 8
    is_short = is_skewed and plan.documents <= 30
    return _LEAST_SKEWED if is_short else _LEAST, _MOST_FEW if is_wide else _MOST


def _alarms(experiments: int) -> tuple[float, float]:
    return 0.0, 0.05 + 2 * (0.05 * 0.95 / experiments) ** 0.5


def _names(member: NDArray[np.int64]) -> list[str]:
    return [f"d{m}" for m in member]


def _holds(found: s.Estimate, truth: float) -> bool:
    return found.low - 1e-9 <= truth <= found.high + 1e-9


def _percentile(values: Floats, names: list[str], seed: int) -> s.Estimate:
    """The plain cluster bootstrap, as most packages have it."""
    _, member = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(member, weights=values), np.bincount(member)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (SAMPLES, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return s.Estimate(float(values.mean()), float(low), float(high))


def _plain_error(values: Floats) -> s.Estimate:
    """Mean and 1.96 standard errors over questions, as harnesses print them."""
    half = s.Z95 * float(values.std(ddof=1)) / len(values) ** 0.5
    return s.Estimate(float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)


def _count(experiments: int, one: Callable[[np.random.Generator, int], dict[str, bool]], key: int) -> dict[str, float]:
    """Share of the experiments in which each named thing happened."""
    total: dict[str, int] = {}
    for n in range(experiments):
        for name, happened in one(np.random.default_rng([key, n]), n).items():
            total[name] = total.get(name, 0) + happened
    return {name: count / experiments for name, count in total.items()}


# ---------------------------------------------------------------- intervals


def share_interval(plan: Plan, p: float, agreement: float, experiments: int) -> Row:
    """A share of right answers: `clustered_share`."""

    def one(rng: np.random.Generator, n: int) -> dict[str, bool]:
        member = plan.members(rng)
        values = shares(rng, member, p, agreement)
        return {
            "ours": _holds(s.clustered_share(values.tolist(), _names(member)), p),
            "Wilson over questions": _holds(s.wilson(int(values.sum()), len(values)), p),
            "mean and 1.96 standard errors": _holds(_plain_error(values), p),
        }

    found = _count(experiments, one, 1)
    wanted = _wanted(plan, min(p, 1 - p) * plan.documents * plan.questions, agreement > 0 and min(p, 1 - p) <= 0.1)
    return _row(f"share {p:g}, agreement {agreement:g}", str(plan), found, wanted)


def mean_interval(plan: Plan, p: float, agreement: float, experiments: int) -> Row:
    """A mean of graded scores: `bounded_mean`."""
    truth = graded_mean(p)

    def one(rng: np.random.Generator, n: int) -> dict[str, bool]:
        member = plan.members(rng)
        values, names = graded(rng, shares(rng, member, p, agreement)), _names(member)
        return {
            "ours": _holds(s.bounded_mean(values.tolist(), names, SAMPLES, n), truth),
            "plain cluster bootstrap": _holds(_percentile(values, names, n), truth),
            "mean and 1.96 standard errors": _holds(_plain_error(values), truth),
        }

    wanted = _wanted(plan, p * plan.documents * plan.questions, agreement > 0 and p <= 0.1)
    return _row(f"graded mean {truth:.2f}, agreement {agreement:g}", str(plan), _count(experiments, one, 2), wanted)


def difference_interval(plan: Plan, win: float, loss: float, agreement: float, experiments: int) -> Row:
    """A paired difference: `paired_difference`."""

    def one(rng: np.random.Generator, n: int) -> dict[str, bool]:
        member = plan.members(rng)
        values, names = changes(rng, member, win, loss, agreement), _names(member)
        found = s.paired_difference(values.tolist(), [0.0] * len(values), names, SAMPLES, n)
        return {
            "ours": _holds(found, win - loss),
            "plain cluster bootstrap": _holds(_percentile(values, names, n), win - loss),
            "mean and 1.96 standard errors": _holds(_plain_error(values), win - loss),
        }

    wanted = _wanted(plan, (win + loss) * plan.documents * plan.questions, False)
    name = f"difference {win - loss:+.2f} ({win + loss:.0%} change), agreement {agreement:g}"
    return _row(name, str(plan), _count(experiments, one, 3), wanted)


# ---------------------------------------------------------------- tests and gates


def mcnemar_false_alarms(questions: int, changed: float, experiments: int) -> Row:
    """McNemar between systems that are equally good, independent questions."""
    plan = Plan(questions, 1)

    def one(rng: np.random.Generator, n: int) -> dict[str, bool]:
        values = changes(rng, plan.members(rng), changed / 2, changed / 2, 0.0)
        return {"ours": s.sign_test(int((values > 0).sum()), int((values < 0).sum())) < 0.05}

    found = _count(experiments, one, 4)
    return _row(f"McNemar p<0.05 without a difference ({changed:.0%} change)", str(plan), found, _alarms(experiments))


def gates(plan: Plan, margin: float, noise: float, agreement: float, experiments: int) -> list[Row]:
    """A non-inferiority and a superiority gate on systems that are equally good, worse, and better."""
    keep = GateSettings(metric="token_f1", requires="not_worse", margin=margin)
    gain = GateSettings(metric="token_f1", requires="better")

    def judged(gate: GateSettings, effect: float, rng: np.random.Generator, n: int) -> tuple[str, float]:
        member = plan.members(rng)
        values, names = changes(rng, member, (noise + effect) / 2, (noise - effect) / 2, agreement), _names(member)
        after, before = (Scored(w, "token_f1", tuple(v)) for w, v in (("a", np.maximum(values, 0)), ("b", np.maximum(-values, 0))))  # fmt: skip
        result = as_family([judge_pair(gate, after, before, names, SAMPLES, n)])[0]
        return result.verdict, float("nan") if result.passes_from is None else result.passes_from

    def rate(gate: GateSettings, effect: float, verdict: str) -> dict[str, float]:
        return _count(experiments, lambda rng, n: {"ours": judged(gate, effect, rng, n)[0] == verdict}, 5)

    def printed(gate: GateSettings) -> float:
        """The difference a typical report prints: the median over some test sets."""
        draws = [judged(gate, 0.0, np.random.default_rng([6, n]), n)[1] for n in range(100)]
        return float(np.median(draws))

    alarm, power = _alarms(experiments), (0.75, 0.85)
    about = f"{plan}; {noise:.0%} change, agreement {agreement:g}"
    from_keep, from_gain = printed(keep), printed(gain)
    return [
        _row(f"not_worse (margin {margin:g}) FAILs without a difference", about, rate(keep, 0.0, "FAIL"), alarm),
        _row("not_worse PASSes at a loss of the margin", about, rate(keep, -margin, "PASS"), alarm),
        _row(f"not_worse PASSes from where it says, {from_keep:+.3f}", about, rate(keep, from_keep, "PASS"), power),
        _row("better PASSes without a difference", about, rate(gain, 0.0, "PASS"), alarm),
        _row(f"better PASSes from where it says, {from_gain:+.3f}", about, rate(gain, from_gain, "PASS"), power),
    ]


def family(plan: Plan, count: int, experiments: int) -> Row:
    """Any FAIL among gates that each stand exactly at their margin: the hardest case for false alarms."""
    gate = GateSettings(metric="token_f1", requires="not_worse", margin=0.0)

    def one(rng: np.random.Generator, n: int) -> dict[str, bool]:
        member, results = plan.members(rng), []
        for _ in range(count):
            values = changes(rng, member, 0.12, 0.12, 0.1)
            after, before = (Scored(w, "token_f1", tuple(v)) for w, v in (("a", np.maximum(values, 0)), ("b", np.maximum(-values, 0))))  # fmt: skip
            results.append(judge_pair(gate, after, before, _names(member), SAMPLES, n))
        return {
            "ours": any(r.verdict == "FAIL" for r in as_family(results)),
            "without Holm": any(r.verdict == "FAIL" for r in results),
        }

    return _row(
        f"any of {count} gates FAILs, none is worse", str(plan), _count(experiments, one, 7), _alarms(experiments)
    )


def detectable(plan: Plan, noise: float, experiments: int) -> Row:
    """The interval leaves 0 out in 80 % of the test sets at the difference printed as detectable."""

    def found(effect: float, rng: np.random.Generator, n: int) -> s.Estimate:
        member = plan.members(rng)
        values = changes(rng, member, (noise + effect) / 2, (noise - effect) / 2, 0.05)
        return s.paired_difference(values.tolist(), [0.0] * len(values), _names(member), SAMPLES, n)

    effect = float(
        np.median([minimum_detectable_effect(found(0.0, np.random.default_rng([8, n]), n)) for n in range(100)])
    )
    rate = _count(experiments, lambda rng, n: {"ours": found(effect, rng, n).low > 0}, 9)
    return _row(f"a difference of {effect:.3f} is seen", str(plan), rate, (0.75, 0.85))


def _row(name: str, about: str, found: dict[str, float], wanted: tuple[float, float]) -> Row:
    return Row(name, about, found.pop("ours"), wanted, found)


PLANS = (Plan(5, 12), Plan(13, 16), TYPICAL, Plan(30, 8, "geometric"), Plan(100, 2, "geometric"), Plan(200, 1))


def everything(experiments: int) -> Iterator[Row]:
    """All lines of the benchmark."""
    for plan in PLANS:
        alone = plan.questions == 1
        for p, agreement in ((0.02, 0.1), (0.1, 0.1), (0.3, 0.05), (0.5, 0.2), (0.9, 0.1)):
            yield share_interval(plan, p, 0.0 if alone else agreement, experiments)
        for p, agreement in ((0.1, 0.1), (0.3, 0.15), (0.8, 0.1)):
            yield mean_interval(plan, p, 0.0 if alone else agreement, experiments)
        for win, loss, agreement in ((0.01, 0.01, 0.0), (0.1, 0.1, 0.05), (0.3, 0.1, 0.1), (0.15, 0.02, 0.05)):
            yield difference_interval(plan, win, loss, 0.0 if alone else agreement, experiments)
    for questions, changed in ((60, 0.2), (260, 0.2)):
        yield mcnemar_false_alarms(questions, changed, experiments)
    for plan in (TYPICAL, Plan(200, 1), Plan(13, 16)):
        yield from gates(plan, 0.08, 0.2, 0.0 if plan.questions == 1 else 0.05, experiments)
    yield family(TYPICAL, 6, experiments)
    yield detectable(TYPICAL, 0.2, experiments)


def main() -> int:
    """Print every line; exit code 1 if one is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=EXPERIMENTS)
    parser.add_argument("--only", default="", help="lines whose name holds this text")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for row in everything(options.experiments):
        if options.only not in row.name:
            continue
        rows.append({**row._asdict(), "is_kept": row.is_kept})
        beside = "; ".join(f"{name} {share:.3f}" for name, share in row.beside.items())
        low, high = row.wanted
        print(
            f"{'ok ' if row.is_kept else 'NO '} {row.share:.3f} [{low:.2f}, {high:.2f}]  {row.name}; {row.about}"
            + (f"   beside: {beside}" if beside else ""),
            file=sys.stderr if options.json else sys.stdout,
            flush=True,
        )
    kept = sum(r["is_kept"] for r in rows)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{kept} of {len(rows)} lines keep what they promise; {options.experiments} experiments each")
    return 0 if kept == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
