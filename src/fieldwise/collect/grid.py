"""Rows and cells as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_SYMBOLS = {"$", "€", "£", "¥", "%", ")", ")%", "("}
_OPENING = {"$", "€", "£", "¥", "("}


class Grid(NamedTuple):
    """A table as Markdown text; `rows` counts the header row, not the line under it."""

    text: str
    rows: int
    columns: int


def to_markdown(rows: Sequence[Sequence[object]]) -> Grid | None:
    """Return rows as a Markdown table, the first row as header; None when no cell holds anything.

    >>> print(to_markdown([["Drug", "Store"], ["Insulin", "2 to 8 °C"]]).text)
    | Drug | Store |
    | --- | --- |
    | Insulin | 2 to 8 °C |
    """
    cells = without_empty([[_cell(value) for value in row] for row in rows])
    if not cells:
        return None
    cells = _join_symbols(cells)
    width = len(cells[0])
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join(["---"] * width) + " |")
    return Grid("\n".join(lines), len(cells), width)


def without_empty(rows: list[list[str]]) -> list[list[str]]:
    """Return the rows all equally long, without rows and columns that hold nothing."""
    width = max((len(row) for row in rows), default=0)
    padded = [row + [""] * (width - len(row)) for row in rows if any(row)]
    kept = [n for n in range(width) if any(row[n] for row in padded)]
    return [[row[n] for n in kept] for row in padded]


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text.replace("|", "\\|")


def _join_symbols(rows: list[list[str]]) -> list[list[str]]:
    """Join columns that hold only currency signs or brackets, as filings set them, to the figures they belong to."""
    width = len(rows[0])
    joined: dict[int, int] = {}
    for n in range(width):
        column = {row[n] for row in rows[1:] if row[n]}
        if not column:
            continue
        if column <= _OPENING and n + 1 < width:
            joined[n] = n + 1
        elif column <= _SYMBOLS - _OPENING and n > 0 and n - 1 not in joined:
            joined[n] = n - 1
    if not joined:
        return rows
    out = [list(row) for row in rows]
    for n, target in joined.items():
        for row in out:
            gap = " " if row is out[0] and row[n] and row[target] else ""
            row[target] = row[n] + gap + row[target] if target > n else row[target] + gap + row[n]
    return [[cell for n, cell in enumerate(row) if n not in joined] for row in out]
