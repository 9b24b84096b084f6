"""Rows of the user's own as examples and preference pairs: read, placed on a side of the split, proved apart.

Rows with nearly the same question, or over the same context, share a side; so do rows that ask nearly what an example
made from the documents asks. Splits that files or folders are named after are kept: what repeats a held-out row leaves
the training side, never the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.generate.settings import DataSettings, SplitSettings
from fieldwise.generate.split import Split, split_documents
from fieldwise.hashing import sha256_file, sha256_text
from fieldwise.progress import say, track
from fieldwise.records import Conversation, Example, Phase, PreferencePair, RatedReply, Rejection
from fieldwise.rows.formats import FormatName, Item
from fieldwise.rows.items import Guessed, ItemReader, Unread
from fieldwise.rows.near import NearGroups
from fieldwise.rows.splits import ALL, find_splits
from fieldwise.rows.values import RowFault

_OPTION = "column_mapping"
_SIDES: tuple[Split, ...] = ("test", "validation", "train")
"""What is held out goes before what is trained on."""
_SHOWN = 5
_KINDS: dict[FormatName, str] = {
    "question-answer": "qa", "alpaca": "instruction", "prompt-completion": "instruction", "chat": "chat",
    "sharegpt": "chat", "examples": "qa",
}  # fmt: skip


@dataclass(frozen=True)
class OwnRow:
    """A row that can be trained on, by its place, `name:number`, and the sides it may fall on."""

    place: str
    item: Item
    kind: str
    sides: tuple[Split, ...]

    @property
    def key(self) -> str:
        """What makes two rows the same question."""
        return f"{self.item.context}\n{self.item.asked}" if self.item.context else self.item.asked


@dataclass
class OwnRows:
    """All rows of `generate.data`, what could not be one, and what each set holds."""

    rows: list[OwnRow] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    sets: dict[str, dict[str, JsonValue]] = field(default_factory=dict)

    @property
    def examples(self) -> int:
        """How many of the rows are examples; the others are preference pairs and rated replies."""
        return sum(row.item.rejected is None and row.item.label is None for row in self.rows)


# ---------------------------------------------------------------- reading


def fingerprint(sets: dict[str, DataSettings]) -> dict[str, JsonValue]:
    """Return the hash of each file of the sets by its name.

    Raises DatasetError for a set that is not there or whose first rows show that it cannot be trained on, so that this
    is told before any stage spends time.
    """
    hashes: dict[str, JsonValue] = {}
    for name, entry in sets.items():
        root = Path(entry.path)
        for files in find_splits(root).files.values():
            _opened(files, entry)
            hashes |= {_name_of(name, root, file): sha256_file(file) for file in files}
    return hashes


def _opened(files: Sequence[Path], entry: DataSettings) -> ItemReader:
    """A reader whose format is known; raises DatasetError for one that is not clear."""
    reader = ItemReader(files, entry.column_mapping, _OPTION)
    next(iter(reader), None)
    return reader


def _name_of(name: str, root: Path, file: Path) -> str:
    return name if file == root else f"{name}/{file.relative_to(root).as_posix()}"


def read_own(sets: dict[str, DataSettings]) -> OwnRows:
    """Read every set; rows that cannot be trained on are among `rejected`.

    Raises DatasetError for a set that cannot be used at all: formats that are not clear, no usable row.
    """
    own = OwnRows()
    for name, entry in sets.items():
        before = len(own.rows), len(own.rejected)
        splits = find_splits(Path(entry.path))
        if splits.left_out:
            say(f"  {name}: files that name no split are not read: {', '.join(p.name for p in splits.left_out[:5])}")
        told: dict[str, JsonValue] = {}
        given = {_side(split) for split in splits.files if split != ALL}
        for split, files in splits.files.items():
            reader = _opened(files, entry)
            sides = (entry.split,) if entry.split != "auto" else _sides(split, given)
            own.rows += _rows_of(reader, name, Path(entry.path), sides, own.rejected)
            if reader.schema is not None:
                told[split] = reader.schema.explain()
                say(f"  {name}{'' if split == ALL else f', {split}'}: {reader.schema.explain()}")
        read, refused = len(own.rows) - before[0], own.rejected[before[1] :]
        if not read:
            raise _nothing_left(entry.path, refused)
        if refused:
            say(
                f"  {name}: {len(refused)} of {read + len(refused)} rows are left out ({_counted(refused)}); see 3_examples/rejected.jsonl"
            )
        own.sets[name] = {"format": told, "rows": read + len(refused), "read": read, "licence": entry.licence}
    return own


def _side(split: str) -> Split:
    return next(side for side in _SIDES if side == split)


def _sides(split: str, given: set[Split]) -> tuple[Split, ...]:
    """The sides a row may fall on: that of its file; from training rows the held-out splits are made that are not there."""
    if split not in (ALL, "train"):
        return (_side(split),)
    return tuple(side for side in _SIDES if side == "train" or side not in given)


def _rows_of(
    reader: ItemReader, name: str, root: Path, sides: tuple[Split, ...], rejected: list[Rejection]
) -> Iterator[OwnRow]:
    for found in track(reader, f"reading {name}"):
        place = f"{_name_of(name, root, found.file)}:{found.number}"
        if isinstance(found, Guessed):
            say(f"  {place}: {found.text}")
            continue
        if isinstance(found, Unread):
            rejected.append(_rejection(place, "broken_line", found.reason))
            continue
        item = found.item
        assert reader.schema is not None
        form = reader.schema.format.name
        if isinstance(item, RowFault):
            rejected.append(_rejection(place, item.code, str(item)))
        elif fault := _unfit(item):
            rejected.append(_rejection(place, *fault))
        else:
            yield OwnRow(place, item, item.kind or _KINDS.get(form, form), sides)


def _unfit(item: Item) -> tuple[str, str] | None:
    if not any(m.role == "assistant" for m in item.conversations[0]):
        return "no_reply", "no reply of the assistant: there is nothing to learn"
    if not item.asked.strip():
        return "no_question", "nothing is asked before the reply"
    if item.rejected is not None and item.rejected.split() == item.said.split():
        return "same_sides", "chosen and rejected say the same"
    return None


def _rejection(place: str, reason: str, detail: str) -> Rejection:
    return Rejection(stage="generate", item=place, reason=reason, detail=detail)


def _counted(rejected: Iterable[Rejection]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in Counter(r.reason for r in rejected).most_common())


def _nothing_left(path: str, rejected: Sequence[Rejection]) -> DatasetError:
    shown = "; ".join(f"{r.item}: {r.detail}" for r in rejected[:_SHOWN])
    return DatasetError(
        "no row can be trained on",
        where=path,
        found=f"{_counted(rejected)} ({shown})" if rejected else "no row",
        fix=f"Mend the rows; fieldwise data doctor {path} says what each finding means.",
    )


# ---------------------------------------------------------------- sides


class Placed(NamedTuple):
    """Rows on their sides, and the examples made from documents that may stay beside them."""

    examples: list[Example]
    pairs: list[PreferencePair]
    ratings: list[RatedReply]
    made: list[Example]
    rejected: list[Rejection]


def place(own: OwnRows, made: Sequence[Example], settings: SplitSettings, seed: int) -> Placed:
    """Put every row on a side beside the examples `made` from documents; no question ends up on two sides."""
    near = _near_groups(own.rows)
    members: dict[str, list[OwnRow]] = {}
    for row in own.rows:
        members.setdefault(near.group(row.place), []).append(row)
    asked = _groups_asked(own.rows, made, near)
    by_documents: dict[str, set[Split]] = {}
    for example in made:
        for group in asked[example.question]:
            by_documents.setdefault(group, set()).add(example.split)

    sides: dict[str, Split] = {}
    tops: dict[str, Split] = {}
    rejected: list[Rejection] = []
    free: dict[tuple[Split, ...], dict[str, str]] = {}
    for group, rows in members.items():
        given: set[Split] = {row.sides[0] for row in rows if len(row.sides) == 1}
        beside = by_documents.get(group, set())
        if not given and len(beside) > 1:
            rejected += [_rejection(row.place, "near_duplicate_on_two_sides", _TWO_SIDES) for row in rows]
        elif fixed := given | beside:
            top = tops[group] = next(side for side in _SIDES if side in fixed)
            for row in rows:
                if top in row.sides:
                    sides[row.place] = top
                else:
                    told = f"nearly the same question stands in {top}"
                    rejected.append(_rejection(row.place, "near_duplicate_of_held_out", told))
        else:
            allowed = tuple(side for side in _SIDES if all(side in row.sides for row in rows))
            free.setdefault(allowed, {}).update({row.place: group for row in rows})
    strata = {row.place: f"{row.place.rpartition(':')[0]} {row.kind}" for row in own.rows}
    for allowed, grouped in sorted(free.items()):
        sides |= split_documents(grouped, _shares(settings, allowed), seed, strata)
    _tell_alike(members, len(own.rows))
    gone = {e.id: e for e in made if any(tops.get(group, e.split) != e.split for group in asked[e.question])}
    _tell(own, rejected, len(gone))
    rejected += [
        Rejection(stage="generate", item=e.id, reason="near_duplicate_of_held_out", detail=e.question)
        for e in gone.values()
    ]
    return _records(own.rows, sides, [e for e in made if e.id not in gone], rejected)


_TWO_SIDES = "questions made from training and from held-out documents are nearly the same"


def _near_groups(rows: Sequence[OwnRow]) -> NearGroups:
    """Rows that must share a side: nearly the same question, or the same context."""
    near = NearGroups()
    contexts: dict[str, str] = {}
    for row in track(rows, "comparing rows"):
        near.add(row.place, row.key)
        if row.item.context:
            near.join(contexts.setdefault(sha256_text(_plain(row.item.context)), row.place), row.place)
    return near


def _groups_asked(rows: Sequence[OwnRow], made: Sequence[Example], near: NearGroups) -> dict[str, set[str]]:
    """For each question made from the documents the groups of rows that ask it, over a context or nearly so."""
    over_context: dict[str, set[str]] = {}
    for row in rows:
        if row.item.context:
            over_context.setdefault(_plain(row.item.question), set()).add(near.group(row.place))
    questions = dict.fromkeys(e.question for e in made)
    return {q: near.like(q) | over_context.get(_plain(q), set()) for q in questions}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _records(rows: Sequence[OwnRow], sides: dict[str, Split], kept: list[Example], rejected: list[Rejection]) -> Placed:
    """Rows as records; one that says word for word what another does is left out."""
    seen = {e.id for e in kept}
    examples: list[Example] = []
    pairs: list[PreferencePair] = []
    ratings: list[RatedReply] = []
    for row in rows:
        if (side := sides.get(row.place)) is None:
            continue
        record = _record(row, side)
        if record.id in seen:
            rejected.append(_rejection(row.place, "duplicate", "the same row stands before it"))
            continue
        seen.add(record.id)
        if isinstance(record, Example):
            examples.append(record)
        elif isinstance(record, PreferencePair):
            pairs.append(record)
        else:
            ratings.append(record)
    return Placed(examples, pairs, ratings, kept, rejected)


def _shares(settings: SplitSettings, allowed: tuple[Split, ...]) -> SplitSettings:
    """The shares of the sides that are still to be made."""
    held = {side: getattr(settings, side) if side in allowed else 0.0 for side in ("validation", "test")}
    total = settings.train + sum(held.values())
    return SplitSettings.model_construct(  # nothing but training is a share of 1, which no recipe may ask for
        train=settings.train / total, validation=held["validation"] / total, test=held["test"] / total
    )


def _tell_alike(members: dict[str, list[OwnRow]], total: int) -> None:
    most = max(members.values(), key=len, default=[])
    if len(most) >= _SHOWN and len(most) > total / 4:
        say(
            f"  {len(most)} of {total} rows ask nearly the same or over one context, such as {most[0].place}, and share a side of the split; held-out splits of your own decide otherwise"
        )


def _tell(own: OwnRows, rejected: Sequence[Rejection], gone: int) -> None:
    if rejected:
        say(
            f"  {len(rejected)} of {len(own.rows)} rows repeat what is held out and are left out; see 3_examples/rejected.jsonl"
        )
    if gone:
        say(f"  {gone} examples made from documents ask what your held-out rows ask and are left out")


# ---------------------------------------------------------------- records


def _record(row: OwnRow, side: Split) -> Example | PreferencePair | RatedReply:
    if row.item.rejected is not None:
        return _pair(row, side)
    return _example(row, side) if row.item.label is None else _rating(row, side)


def _example(row: OwnRow, side: Split) -> Example:
    item = row.item
    conversation = _up_to_reply(item.conversations[0])
    return Example.make(
        question=item.question if item.passages else item.asked,
        answer=item.said if item.question else conversation[-1].content or item.said,
        kind=row.kind,
        conversation=conversation,
        style="grounded" if item.passages else "closed",
        document_ids=(row.place,),
        split=side,
        difficulty=round(min(1.0, 0.1 * max(0, len(item.passages) - 1) + len(item.said.split()) / 40), 3),
        phase=_phase(conversation),
        tools=item.tools,
    )


def _phase(conversation: Conversation) -> Phase:
    if any(m.tool_calls for m in conversation):
        return "tool_calls"
    return "multi_turn" if sum(m.role == "user" for m in conversation) > 1 else "single_turn"


def _up_to_reply(conversation: Conversation) -> Conversation:
    """A conversation without what stands behind its last reply, which carries no loss."""
    last = max(n for n, m in enumerate(conversation) if m.role == "assistant")
    return conversation[: last + 1]


def _pair(row: OwnRow, side: Split) -> PreferencePair:
    assert row.item.rejected is not None
    return PreferencePair.make(
        prompt=row.item.prompt,
        chosen=row.item.reply,
        rejected=row.item.rejected,
        judge="data",
        reason="the data set prefers the other answer",
        document_ids=(row.place,),
        split=side,
    )


def _rating(row: OwnRow, side: Split) -> RatedReply:
    assert row.item.label is not None
    conversation = _up_to_reply(row.item.conversations[0])
    return RatedReply.make(
        prompt=conversation[:-1],
        reply=conversation[-1].content,
        is_wanted=row.item.label,
        judge="data",
        document_ids=(row.place,),
        split=side,
    )
