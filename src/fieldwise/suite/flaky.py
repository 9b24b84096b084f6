"""Which items a model passes now and then: several samples of each, and what goes both ways into a quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import NamedTuple

from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.quarantine import LEAST_SAMPLES, Flaky, flaky_items, keep
from fieldwise.evaluate.repeats import VarianceSplit, variance_split
from fieldwise.hashing import sha256_text
from fieldwise.progress import say
from fieldwise.suite.command import Source, default_folder, respondents, slug
from fieldwise.suite.items import Suite
from fieldwise.suite.run import ask, sum_up


class Sampled(NamedTuple):
    """What samples of every item showed."""

    model: str
    samples: int
    temperature: float
    items: int
    flaky: list[Flaky]
    split: VarianceSplit | None
    unscored: int


class Draws(NamedTuple):
    """How often, and how, every item is asked; `days` is how long what goes both ways stays in quarantine."""

    samples: int
    temperature: float
    days: int
    today: date


def measure_flaky(suite: Suite, source: Source, draws: Draws, quarantine: Path | None, out: Path | None) -> Sampled:
    """Ask one model every item several times; what it passes in some samples only is written into the quarantine.

    Every reply stands in a ledger: killed and run again, nothing is asked twice. Critical failures are no flakes: an
    item that failed critically in a single sample is never put into quarantine.
    """
    if draws.samples < LEAST_SAMPLES:
        raise FieldwiseError(
            "too few samples to call an item flaky",
            where="--samples",
            found=draws.samples,
            fix=f"Take at least {LEAST_SAMPLES}.",
        )
    (make, *others) = respondents(source)
    if others:
        raise FieldwiseError("one model at a time is sampled", where="--model", fix="Name one model.")
    passed: dict[str, list[bool]] = {item.id: [] for item in suite.items}
    critical: set[str] = set()
    unscored = 0
    with closing(make()) as respondent:
        name, identity = respondent.name, respondent.identity
        folder = (out or default_folder(source)) / slug(suite.name)
        ledger = folder / f"{slug(name)}-{sha256_text(identity)[:8]}" / "samples.jsonl"
        for number in range(draws.samples):
            respondent.draw(draws.temperature, number)
            say(f"{suite.name}: sample {number + 1} of {draws.samples}, {name}")
            replies = ask(suite, respondent, ledger, max_tokens=source.max_tokens)
            for item in sum_up(suite, replies, respondent, max_tokens=source.max_tokens).items:
                critical |= {item.id} if item.critical else set()
                unscored += item.is_passed is None
                passed[item.id] += [] if item.is_passed is None else [item.is_passed]
    how = f"{name}, {draws.samples} samples at temperature {draws.temperature:g}, {identity[:24]}"
    kept = {i: v for i, v in passed.items() if i not in critical}
    flaky = flaky_items(suite.name, kept, how=how, measured=draws.today, days=draws.days)
    if quarantine is not None:
        keep(quarantine, suite.name, flaky)
    return Sampled(name, draws.samples, draws.temperature, len(passed), flaky, _split(list(passed.values())), unscored)


def _split(samples: Sequence[Sequence[bool]]) -> VarianceSplit | None:
    scored = [[float(v) for v in values] for values in samples if values]
    return variance_split(scored) if len(scored) > 1 and any(len(v) > 1 for v in scored) else None


def plain(found: Sampled, quarantine: Path | None) -> str:
    """What was found, for a terminal."""
    lines = [
        f"{found.model}: {len(found.flaky)} of {found.items} items pass in some of {found.samples} samples "
        f"at temperature {found.temperature:g} and not in others"
    ]
    if found.split is not None:
        lines.append(
            f"  passed {found.split.mean:.3f} on average; {found.split.sampling_share:.0%} of the variance of one sample "
            "is the item's own, the rest lies between items"
        )
    if found.unscored:
        lines.append(f"  {found.unscored} replies without a score")
    lines += [f"  {f.item}: {f.passed} of {f.of}" for f in found.flaky]
    if quarantine is not None and found.flaky:
        lines.append(f"Quarantine: {quarantine}, until {found.flaky[0].expires}; name it with evaluate.quarantine")
    return "\n".join(lines)
