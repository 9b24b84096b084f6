"""The version of a data set, and what changed from one to another.

A version is the hash of what training reads: the conversations of the usable rows with kind, label and split. The kind
of file, the names of columns and the order of rows do not change it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.data.findings import rows
from fieldwise.errors import DatasetError
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.progress import track
from fieldwise.records import Conversation
from fieldwise.rows.formats import Item
from fieldwise.rows.items import Guessed, ItemReader, Unread
from fieldwise.rows.splits import find_splits
from fieldwise.rows.values import RowFault

_SHOWN = 5


class Print(NamedTuple):
    """What a row is known by: its split and place, the hashes of what it teaches and of what it asks, its kind."""

    split: str
    place: str
    content: str
    prompt: str
    kind: str


def content_of(item: Item) -> str:
    """Return the hash of what a row teaches."""
    conversations = [_plain(c) for c in item.conversations]
    tools = [list(item.tools)] if item.tools else []
    return sha256_text(canonical_json([conversations, item.label, item.kind, *tools]))


def _plain(conversation: Conversation) -> list[list[JsonValue]]:
    return [[m.role, m.content, *(c.model_dump(mode="json") for c in m.tool_calls)] for m in conversation]


def version_of(contents: Iterable[tuple[str, str]]) -> str:
    """Return the version of a data set from split and content hash of its rows, in any order."""
    return f"set_{sha256_text(canonical_json(sorted(contents)))[:16]}"


class Change(NamedTuple):
    """A row before and after; one of them is None for a row that came or went."""

    before: Print | None
    after: Print | None


@dataclass
class Difference:
    """Two data sets: their versions and sizes, rows that stayed, and every change by what happened."""

    paths: tuple[str, str]
    versions: tuple[str, str]
    counts: tuple[int, int]
    unusable: tuple[int, int]
    same: Counter[str]
    changes: dict[str, list[Change]] = field(default_factory=dict)

    def by_kind(self) -> dict[str, dict[str, int]]:
        """Return for each kind how many rows are the same, moved, changed, added and removed."""
        table: dict[str, dict[str, int]] = defaultdict(lambda: {"same": 0, **dict.fromkeys(self.changes, 0)})
        for kind, count in self.same.items():
            table[kind]["same"] = count
        for name, changes in self.changes.items():
            for before, after in changes:
                row = after or before
                assert row is not None
                table[row.kind][name] += 1
        return dict(sorted(table.items()))

    def to_json(self) -> dict[str, JsonValue]:
        """Return all of it, every changed row by its place, as JSON values."""
        sides: list[dict[str, JsonValue]] = [
            {"path": path, "version": version, "rows": count, "unusable": unusable}
            for path, version, count, unusable in zip(
                self.paths, self.versions, self.counts, self.unusable, strict=True
            )
        ]
        places: dict[str, JsonValue] = {
            name: [
                {"kind": (after or before).kind, "before": _place(before), "after": _place(after)}  # type: ignore[union-attr]
                for before, after in changes
            ]
            for name, changes in self.changes.items()
        }
        return {
            "a": sides[0],
            "b": sides[1],
            "equal": self.versions[0] == self.versions[1],
            "kinds": {kind: dict(counts) for kind, counts in self.by_kind().items()},
            **places,
        }

    def plain(self) -> str:
        """Return it as text: a table by kind, and the first rows of each change."""
        lines = [
            f"{side}  {version}  {rows(count)}{f' ({unusable:,} not usable)' if unusable else ''}  {path}"
            for side, path, version, count, unusable in zip(
                "AB", self.paths, self.versions, self.counts, self.unusable, strict=True
            )
        ]
        if self.versions[0] == self.versions[1]:
            return "\n".join([*lines, "The same rows."])
        columns = ["same", *self.changes]
        lines += ["", f"{'kind':24}" + "".join(f"{name:>10}" for name in columns)]
        table = self.by_kind()
        totals = {name: sum(counts[name] for counts in table.values()) for name in columns}
        for kind, counts in [*table.items(), ("all", totals)]:
            lines.append(f"{kind:24}" + "".join(f"{counts[name]:>10,}" for name in columns))
        for name, changes in self.changes.items():
            shown = ", ".join(_told(change) for change in changes[:_SHOWN])
            if changes:
                more = f" and {len(changes) - _SHOWN:,} more" if len(changes) > _SHOWN else ""
                lines += ["", f"{name}: {shown}{more}"]
        return "\n".join(lines)


def _place(row: Print | None) -> str | None:
    return None if row is None else f"{row.split} {row.place}"


def _told(change: Change) -> str:
    return " -> ".join(place for row in change if (place := _place(row)) is not None)


def difference(first: Path, second: Path, mapped: Mapping[str, str]) -> Difference:
    """Compare two data sets row by row.

    A row is the same if it teaches the same on the same split, moved if on another, and changed if it asks the same
    but teaches something else; all others were added or removed.
    """
    (before, lost), (after, lost_after) = _prints(first, mapped), _prints(second, mapped)
    found = Difference(
        (str(first), str(second)),
        (version_of((p.split, p.content) for p in before), version_of((p.split, p.content) for p in after)),
        (len(before), len(after)),
        (lost, lost_after),
        Counter(),
    )
    same, before, after = _match(before, after, lambda p: (p.split, p.content))
    found.same = Counter(change.after.kind for change in same if change.after is not None)
    found.changes["moved"], before, after = _match(before, after, lambda p: p.content)
    found.changes["changed"], before, after = _match(before, after, lambda p: p.prompt)
    found.changes["added"] = [Change(None, p) for p in after]
    found.changes["removed"] = [Change(p, None) for p in before]
    return found


def _match(
    before: list[Print], after: list[Print], key: Callable[[Print], object]
) -> tuple[list[Change], list[Print], list[Print]]:
    """Pairs of rows with the same key, each row once, and what is left on both sides."""
    waiting: dict[object, list[Print]] = defaultdict(list)
    for row in reversed(before):
        waiting[key(row)].append(row)
    matched: list[Change] = []
    left: list[Print] = []
    for row in after:
        others = waiting.get(key(row))
        if others:
            matched.append(Change(others.pop(), row))
        else:
            left.append(row)
    gone = {id(row) for rows in waiting.values() for row in rows}
    return matched, [row for row in before if id(row) in gone], left


def _prints(path: Path, mapped: Mapping[str, str]) -> tuple[list[Print], int]:
    """The usable rows of a data set, and the number of those that are not."""
    prints: list[Print] = []
    unusable = 0
    for split, files in find_splits(path).files.items():
        reader = ItemReader(files, mapped)
        for found in track(reader, f"reading {split}"):
            if isinstance(found, Guessed):
                continue
            if isinstance(found, Unread) or isinstance(found.item, RowFault):
                unusable += 1
                continue
            assert reader.schema is not None
            item = found.item
            asked = sha256_text(canonical_json(_plain(item.prompt)))
            kind = item.kind or reader.schema.format.name
            prints.append(Print(split, f"{found.file.name}:{found.number}", content_of(item), asked, kind))
    if not prints:
        raise DatasetError("no row can be used", where=path, found=f"{unusable} that cannot" if unusable else "no row", fix=f"Look at it with: fieldwise data doctor {path}")  # fmt: skip
    return prints, unusable
