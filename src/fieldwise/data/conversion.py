"""`fieldwise data convert`: a data set, or the examples of a run, written in another format."""

from __future__ import annotations

import datetime
import decimal
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from fieldwise.data.targets import Made, Source, Target, Unheld, convert, settled
from fieldwise.data.writing import require_holds, require_kind, write_rows
from fieldwise.errors import DatasetError
from fieldwise.files import write_jsonl
from fieldwise.progress import track
from fieldwise.rows.formats import FORMATS
from fieldwise.rows.items import Guessed, ItemReader, Read, Unread
from fieldwise.rows.schema import KINDS, Schema
from fieldwise.rows.splits import EXAMPLES, find_splits
from fieldwise.rows.values import RowFault

_PAIRS = "preferences.parquet"
_READ_NAMES = {name for f in FORMATS for names in f.fields.values() for name in names.names}
_SHOWN = 5


@dataclass
class Conversion:
    """What was written, what was lost on the way, and which rows were left out."""

    target: Target
    explanation: dict[str, str]
    files: dict[str, int] = field(default_factory=dict)
    carried: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    lost_columns: dict[str, str] = field(default_factory=dict)
    left_out: list[dict[str, str]] = field(default_factory=list)
    guessed: int = 0
    """Lines whose encoding had to be guessed."""
    rejected: str | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """Return all of it as JSON values."""
        return {
            "to": self.target,
            "explanation": dict(self.explanation),
            "files": dict(self.files),
            "carried": list(self.carried),
            "lost": dict(self.lost),
            "lost_columns": dict(self.lost_columns),
            "guessed_encoding": self.guessed,
            "left_out": len(self.left_out),
            "reasons": dict(Counter(row["reason"] for row in self.left_out)),
            "rejected": self.rejected,
        }

    def plain(self) -> str:
        """Return it as text."""
        lines = [f"format     {text}" for text in dict.fromkeys(self.explanation.values())]
        lines += [f"wrote      {path}: {count:,} row{'s' if count != 1 else ''}" for path, count in self.files.items()]
        lines += [
            f"lost       {what}, in {count:,} row{'s' if count != 1 else ''}" for what, count in self.lost.items()
        ]
        lines += [f"lost       column {name}: {why}" for name, why in self.lost_columns.items()]
        if self.guessed:
            lines.append(
                f"encoding   guessed in {self.guessed:,} line{'s' if self.guessed != 1 else ''} that are not UTF-8"
            )
        if not self.lost and not self.lost_columns and not self.left_out:
            lines.append("lost       nothing")
        if self.left_out:
            shown = "; ".join(f"{row['item']} {row['detail']}" for row in self.left_out[:_SHOWN])
            lines.append(f"left out   {len(self.left_out):,}, all in {self.rejected}: {shown}")
        return "\n".join(lines)


def convert_set(
    source: Path, target: Target, out: Path, mapped: Mapping[str, str], *, split: str | None = None, force: bool = False
) -> Conversion:
    """Write a data set in another format; one with splits becomes a folder named like `out` with a file for each.

    Raises DatasetError when nothing is left to write, or when `out` is there and `force` does not replace it.
    """
    require_kind(out)
    files = _files(source, target, split)
    outs = {name: out if len(files) == 1 else out.with_suffix("") / f"{name}{out.suffix}" for name in files}
    rejected = (out if len(files) == 1 else out.with_suffix("")).with_suffix(".rejected.jsonl")
    if not force and (there := next((p for p in (*outs.values(), rejected) if p.exists()), None)):
        raise DatasetError("there is a file already", where=there, fix="Name another with --out, or add --force.")
    done = Conversion(target, {})
    made: dict[str, list[Made]] = {}
    for name, paths in files.items():
        sources = _sources(ItemReader(paths, mapped), name, source, done)
        done.carried = list(dict.fromkeys([*done.carried, *(name for s in sources for name in s.more)]))
        rows, unheld = convert(sources, target)
        made[name] = [row for row in rows if _is_held(outs[name], row, done)]
        done.left_out += [_left(place, reason.code, str(reason)) for place, reason in unheld]
    if not any(made.values()):
        reasons = Counter(row["reason"] for row in done.left_out)
        shown = "; ".join(f"{row['item']} {row['detail']}" for row in done.left_out[:_SHOWN])
        raise DatasetError(
            f"no row can be written as {target}",
            where=source,
            found=f"{', '.join(f'{r} {n}' for r, n in reasons.items())} ({shown})" if reasons else "no row",
            fix="Choose another format with --to; docs/data.md says what each holds.",
        )
    _write(made, outs, rejected, done)
    return done


def _files(source: Path, target: Target, split: str | None) -> dict[str, list[Path]]:
    """The files of each split; of a run its examples, or for pairs and labels its preference pairs."""
    folder = source / EXAMPLES if (source / EXAMPLES).is_dir() else source
    pairs = folder / _PAIRS
    if target in ("preference", "kto") and pairs.is_file() and (folder / "train.parquet").is_file():
        return {"all": [pairs]}
    files = find_splits(folder).files
    if split is None:
        return files
    if split not in files:
        raise DatasetError(
            "the data set has no such split",
            where=source,
            found=", ".join(files),
            fix="Name one of these with --split.",
        )
    return {split: files[split]}


def _sources(reader: ItemReader, name: str, source: Path, done: Conversion) -> list[Source]:
    sources: list[Source] = []
    for found in track(reader, f"reading {name}"):
        place = f"{found.file.name}:{found.number}"
        if isinstance(found, Unread):
            done.left_out.append(_left(place, "broken_line", found.reason))
        elif isinstance(found, Guessed):
            done.guessed += 1
        elif isinstance(found.item, RowFault):
            done.left_out.append(_left(place, found.item.code, str(found.item)))
        else:
            assert reader.schema is not None
            is_question = reader.schema.format.name == "question-answer"
            sources.append(Source(place, found.item, is_question, _carried(found, reader.schema, done)))
    if reader.schema is not None:
        done.explanation[name] = reader.schema.explain()
    return sources


def _left(place: str, reason: str, detail: str) -> dict[str, str]:
    return {"item": place, "reason": reason, "detail": detail}


def _is_held(path: Path, row: Made, done: Conversion) -> bool:
    try:
        require_holds(path, settled([row])[0])
    except Unheld as reason:
        done.left_out.append(_left(row.place, reason.code, str(reason)))
        return False
    done.lost.update(row.lost)
    return True


def _write(made: dict[str, list[Made]], outs: dict[str, Path], rejected: Path, done: Conversion) -> None:
    every = iter(settled([row for rows in made.values() for row in rows]))
    for name, rows in made.items():
        values = [next(every) for _ in rows]
        if values:
            write_rows(outs[name], values)
            done.files[str(outs[name])] = len(values)
    if done.left_out:
        done.rejected = str(rejected)
        write_jsonl(rejected, ({**row} for row in done.left_out))
    else:
        rejected.unlink(missing_ok=True)  # of the time before, which --force replaces


# ---------------------------------------------------------------- columns beside the format's own


def _carried(found: Read, schema: Schema, done: Conversion) -> dict[str, Any]:
    """The columns no format reads, so that they cannot be taken for a field, and the kind."""
    more: dict[str, Any] = {}
    for column in schema.unused:
        if column.casefold().strip() in _READ_NAMES or column.casefold().strip() in KINDS:
            done.lost_columns.setdefault(column, "a reader would take it for a field of the format")
            continue
        try:
            more[column] = _plain(found.values.get(column))
        except ValueError as error:
            done.lost_columns.setdefault(column, f"holds {error}")
    kind = schema.kind_column
    if kind is not None:
        more[kind if kind.casefold() in KINDS and kind.casefold() != "label" else "kind"] = found.item.kind  # type: ignore[union-attr]
    return more


def _plain(value: Any) -> Any:
    """A value as JSON has it; raises ValueError for one that no text can stand for."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes):
        raise ValueError("bytes")
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("half a sign") from None
    return value
