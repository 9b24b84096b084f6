"""Items that were measured to be flaky: left out of a gate with their evidence, and only until a day that is named.

An item is flaky if the same model passes it in some of several samples, or runs, and not in others. An entry says in how
many of how many, and when it ends; from that day on the item counts again. A critical failure is never excused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import yaml
from pydantic import Field, JsonValue, ValidationError

from fieldwise.errors import DatasetError
from fieldwise.files import write_text
from fieldwise.records import Record

QUESTIONS = "questions"
"""The name under which the questions of `evaluate.questions` stand, which are no suite."""
MOST_DAYS, LEAST_SAMPLES = 90, 3
_HEAD = """# Items measured to be flaky: passed in some of several samples of one model. `leave_out` takes an item out of the shares
# of a gate until the day it expires, `count` lists it and lets it count. Critical failures count in any case.
"""
_FIX = (
    "An entry looks like {suite: healthcare, item: h12, passed: 2, of: 5, how: ..., measured: 2026-01-31, "
    "expires: 2026-02-28}; fieldwise suite --samples writes them."
)


class Flaky(Record):
    """One item with what was measured."""

    suite: str
    item: str
    passed: int = Field(ge=1, description="samples that passed")
    of: int = Field(ge=LEAST_SAMPLES, description="samples in all")
    how: str = Field(min_length=1, description="which model was asked, and how")
    measured: date
    expires: date = Field(description="from this day on the item counts again")
    treat: Literal["leave_out", "count"] = "leave_out"

    def told(self) -> str:
        """The entry in one line, for reports."""
        treated = "left out" if self.treat == "leave_out" else "counts"
        return (
            f"{self.suite} {self.item}: passed in {self.passed} of {self.of} ({self.how}), "
            f"measured {self.measured}, {treated} until {self.expires}"
        )


class Quarantine(NamedTuple):
    """The entries that stand today, and those whose day has come."""

    standing: tuple[Flaky, ...] = ()
    expired: tuple[Flaky, ...] = ()

    def left_out(self, suite: str) -> frozenset[str]:
        """The items of a suite that are not counted."""
        return frozenset(f.item for f in self.standing if f.suite == suite and f.treat == "leave_out")

    @property
    def notes(self) -> tuple[str, ...]:
        """Every entry in one line, the expired ones too: nothing is left out, or counts again, without a word."""
        standing = (f"in quarantine: {f.told()}" for f in self.standing)
        return (*standing, *(f"out of quarantine, counts again: {f.told()}" for f in self.expired))

    def rows(self) -> dict[str, JsonValue]:
        """The entries as reports keep them; without any nothing, so that a report without a quarantine stays as it is."""
        if not self.standing and not self.expired:
            return {}
        return {
            "quarantined": [f.model_dump(mode="json") for f in self.standing],
            "expired": [f.model_dump(mode="json") for f in self.expired],
        }

    def of(self, suite: str) -> Quarantine:
        """The entries of one suite."""
        return Quarantine(
            tuple(f for f in self.standing if f.suite == suite), tuple(f for f in self.expired if f.suite == suite)
        )


NONE = Quarantine()


def told_left_out(count: int) -> str:
    """What stands behind a figure from which flaky questions are left out; nothing for none."""
    return f"; {count} flaky {'question' if count == 1 else 'questions'} left out" if count else ""


def quarantine_in(report: Mapping[str, JsonValue]) -> Quarantine:
    """The entries that a report keeps."""

    def entries(key: str) -> tuple[Flaky, ...]:
        rows = report.get(key)
        return tuple(Flaky.model_validate(row) for row in (rows if isinstance(rows, list) else ()))

    return Quarantine(entries("quarantined"), entries("expired"))


def read_quarantine(path: Path, today: date) -> Quarantine:
    """Read a file of entries; raises DatasetError for one without evidence, twice the same, or longer than 90 days."""
    entries = _entries(path)
    return Quarantine(tuple(f for f in entries if f.expires > today), tuple(f for f in entries if f.expires <= today))


def _entries(path: Path) -> list[Flaky]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise DatasetError("the quarantine cannot be read", where=path, found=str(error)[:200], fix=_FIX) from error
    if value is None:
        return []
    if not isinstance(value, list):
        raise DatasetError("expected a list of entries", where=path, found=type(value).__name__, fix=_FIX)
    entries: dict[tuple[str, str], Flaky] = {}
    for number, row in enumerate(value, 1):
        where = f"{path}: entry {number}"
        try:
            flaky = Flaky.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc'])) or 'entry'}: {first['msg'].lower()}"
            raise DatasetError(what, where=where, found=str(first.get("input"))[:80], fix=_FIX) from error
        _require_sound(flaky, where)
        if (flaky.suite, flaky.item) in entries:
            raise DatasetError(
                "the item stands twice", where=where, found=f"{flaky.suite} {flaky.item}", fix="Keep one."
            )
        entries[flaky.suite, flaky.item] = flaky
    return list(entries.values())


def _require_sound(flaky: Flaky, where: str) -> None:
    if flaky.passed >= flaky.of:
        raise DatasetError(
            "an item that always passed is not flaky",
            where=where,
            found=f"{flaky.passed} of {flaky.of}",
            fix="Take the entry out: only what was measured to go both ways is left out.",
        )
    if flaky.expires > flaky.measured + timedelta(days=MOST_DAYS):
        raise DatasetError(
            f"a quarantine lasts {MOST_DAYS} days at most",
            where=where,
            found=f"{flaky.measured} to {flaky.expires}",
            fix="Measure again, or mend the item.",
        )


def flaky_items(
    suite: str, passed: Mapping[str, Sequence[bool]], *, how: str, measured: date, days: int
) -> list[Flaky]:
    """Return an entry for every item that passed in some of its samples and not in others."""
    return [
        Flaky(
            suite=suite,
            item=item,
            passed=sum(samples),
            of=len(samples),
            how=how,
            measured=measured,
            expires=measured + timedelta(days=days),
        )
        for item, samples in passed.items()
        if len(samples) >= LEAST_SAMPLES and 0 < sum(samples) < len(samples)
    ]


def keep(path: Path, suite: str, found: Iterable[Flaky]) -> int:
    """Write what was found for a suite into the file, in place of its earlier entries; returns how many stand there."""
    others = [f for f in _entries(path) if f.suite != suite] if path.exists() else []
    entries = [*others, *found]
    rows = [f.model_dump(mode="json") for f in entries]
    write_text(path, _HEAD + yaml.safe_dump(rows, sort_keys=False, allow_unicode=True, width=120))
    return len(entries)
