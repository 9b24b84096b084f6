"""What a data doctor finds: one line for people, the rows to look at, and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "warning", "note"]
SHOWN_PLACES = 5


@dataclass(frozen=True)
class Finding:
    """A finding; `places` are the first rows it was made at, `split:number`, and `count` says how many there are."""

    severity: Severity
    code: str
    what: str
    fix: str
    count: int = 0
    places: tuple[str, ...] = ()


class Places:
    """How many rows something was found at, and the first few of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, place: str) -> None:
        """Count one row."""
        self.count += 1
        if len(self.first) < SHOWN_PLACES:
            self.first.append(place)

    def finding(self, severity: Severity, code: str, what: str, fix: str) -> Finding:
        """Return them as a finding."""
        return Finding(severity, code, what, fix, self.count, tuple(self.first))


def by_share(count: int, total: int, limit: float) -> Severity:
    """Return `problem` from that share of all rows on, else `warning`."""
    return "problem" if total and count / total >= limit else "warning"


def rows(count: int) -> str:
    """Return `1 row` or `n rows`.

    >>> rows(1200)
    '1,200 rows'
    """
    return f"{count:,} row{'s' if count != 1 else ''}"
