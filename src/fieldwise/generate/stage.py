"""The generate stage: chunks and rows in, examples and preference pairs out, split so that nothing leaks."""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.files import atomic, read_json, write_json, write_jsonl
from fieldwise.generate.examples import Asked, ExampleMaker, drop_ambiguous
from fieldwise.generate.preferences import preference_pairs
from fieldwise.generate.rows import OwnRows, Placed, place, read_own
from fieldwise.generate.rules import pairs_of_chunk
from fieldwise.generate.settings import GenerateSettings
from fieldwise.generate.split import Split, leakage, split_documents
from fieldwise.generate.teacher import Taught, open_teacher, teach
from fieldwise.hashing import content_id
from fieldwise.interfaces import Retriever
from fieldwise.progress import say, track
from fieldwise.records import Chunk, Example, PreferencePair, Rejection
from fieldwise.retrieve.index import open_index
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import StepRun
from fieldwise.tables import read_records, write_records

_LEAST_PAIRS = 20
_SHOWN = 5


def run(settings: GenerateSettings, retrieve: RetrieveSettings, step: StepRun) -> dict[str, JsonValue]:
    """Read `2_chunks/` and the rows of `generate.data`, write `3_examples/`; returns counts.

    Raises DatasetError when documents and rows give too little to train on, with what was tried.
    """
    own = read_own(settings.data_sets)
    chunks = list(read_records(step.run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
    groups = {str(k): str(v) for k, v in read_json(step.run.require("2_chunks/groups.json", "prepare")).items()}
    sides = split_documents(groups, settings.split, step.seed)
    taught = Taught()
    examples: list[Example] = []
    if settings.from_documents:
        retriever = open_index(chunks, step.run.path / "2_chunks" / "index", retrieve)
        taught = _teach(chunks, sides, settings, retriever, step)
        if len(taught.asked) + own.examples < _LEAST_PAIRS:
            raise _too_few(taught, len(chunks), settings, own.examples)
        maker = ExampleMaker(retriever, groups, sides, settings, random.Random(f"{step.seed}/examples"))
        examples = _examples(taught, maker, settings, " ".join(c.text for c in chunks).casefold())
    placed = place(own, examples, settings.split, step.seed) if own.sets else Placed([], [], examples, [])
    leaks = leakage(placed.made, groups)
    if leaks:
        raise DatasetError(
            "documents stand on both sides of the split",
            where="generate",
            found="; ".join(leaks[:3]),
            fix="This is a fault of Fieldwise: please report it with the recipe.",
        )
    pairs = preference_pairs(
        [e for e in placed.made if e.split == "train"],
        random.Random(f"{step.seed}/preferences"),
        settings.preference_pairs,
    )
    left_out = [*taught.rejected, *own.rejected, *placed.rejected]
    made = _Made([*placed.made, *placed.examples], [*pairs, *placed.pairs], left_out, taught)
    if not settings.from_documents:
        _require_rows(made.examples, own)
    return _write(step, made, chunks, sides, own)


class _Made(NamedTuple):
    examples: Sequence[Example]
    pairs: Sequence[PreferencePair]
    rejected: Sequence[Rejection]
    taught: Taught


def _require_rows(examples: Sequence[Example], own: OwnRows) -> None:
    train = sum(e.split == "train" for e in examples)
    if not own.examples:
        raise DatasetError(
            "the rows are preference pairs alone, and DPO begins where SFT ends",
            where="generate.data",
            found=f"{len(own.rows)} pairs",
            fix="Add rows with answers, such as the chosen sides (fieldwise data convert PAIRS --to chat --out chosen.jsonl), or set generate.from_documents=true.",
        )
    if train < _LEAST_PAIRS:
        raise DatasetError(
            "too few rows to train on",
            where="generate.data",
            found=f"{train} in the training split, of {own.examples} rows",
            fix=f"Add rows: at least {_LEAST_PAIRS} must be left for training. Rows that ask nearly the same share a side of the split.",
        )


def _teach(
    chunks: Sequence[Chunk], sides: dict[str, Split], settings: GenerateSettings, retriever: Retriever, step: StepRun
) -> Taught:
    if settings.teacher == "rules":
        taught = _read_off(chunks, sides, settings, step.seed)
    else:
        client = open_teacher(settings, step.run.path, chunks, step.seed)
        taught = teach(chunks, sides, settings, client, retriever)
    kept, dropped = drop_ambiguous(taught.asked)
    taught.asked = kept
    taught.rejected += [
        Rejection(stage="generate", item=d.chunk.id, reason="ambiguous_question", detail=d.pair.question)
        for d in dropped
    ]
    return taught


def _read_off(chunks: Sequence[Chunk], sides: dict[str, Split], settings: GenerateSettings, seed: int) -> Taught:
    """What the rules are sure of."""
    asked: list[Asked] = []
    rejected: list[Rejection] = []
    for chunk in track(chunks, "questions"):
        pairs = pairs_of_chunk(chunk, random.Random(f"{seed}/{chunk.id}"), wide=settings.wide_questions)
        if not pairs:
            rejected.append(
                Rejection(
                    stage="generate",
                    item=chunk.id,
                    reason="no_question",
                    detail=f"{chunk.uri}: no sentence, list or table that a rule is sure of",
                )
            )
        asked += [Asked(p, chunk, sides[chunk.document_id]) for p in pairs[: settings.max_per_chunk]]
    return Taught(asked, rejected=rejected)


def _too_few(taught: Taught, chunks: int, settings: GenerateSettings, rows: int) -> DatasetError:
    found = f"{len(taught.asked)} questions from {chunks} chunks"
    if settings.data:
        found += f", {rows} rows of generate.data"
    fix = "Add documents with full sentences, lists or tables, or lower prepare.chunk.min_tokens."
    if settings.teacher != "rules" and taught.rejected:
        reasons = Counter(r.reason for r in taught.rejected).most_common()
        found += f"; left out: {', '.join(f'{n} {reason}' for reason, n in reasons)}"
        worst = [r for r in taught.rejected if r.reason == reasons[0][0]][:_SHOWN]
        found += "".join(f"\n  {r.reason}: {r.detail[:200]}" for r in worst)
        fix = f"\n{fix} If it is the teacher's fault, take another model."
    return DatasetError("the documents gave too few questions to train on", where="generate", found=found, fix=fix)


def _examples(taught: Taught, maker: ExampleMaker, settings: GenerateSettings, corpus: str) -> list[Example]:
    """Every pair closed, those of a share of the chunks grounded as well.

    Without an answer are questions the teacher wrote to that end and such about other chunks of the document, and
    without passages those about invented things.
    """
    asked = taught.asked
    rng = random.Random(maker.rng.random())
    made: list[Example] = []
    by_document: dict[str, list[Asked]] = {}
    by_split: dict[Split, list[Asked]] = {}
    for item in asked:
        by_document.setdefault(item.chunk.document_id, []).append(item)
        by_split.setdefault(item.split, []).append(item)
    for _, group in groupby(track(asked, "examples"), key=lambda item: item.chunk.id):
        items = list(group)
        made += [maker.closed(item) for item in items]
        invented = rng.sample(items, _beside(len(items), settings.invented_share, rng))
        made += [e for item in invented if (e := maker.invented(item, corpus)) is not None]
        if rng.random() < settings.grounded_share:
            wanted = _beside(len(items), settings.unanswerable_share, rng)
            chunk, side = items[0].chunk, by_split[items[0].split]
            near = [item for item in by_document[chunk.document_id] if item.chunk.id != chunk.id]
            missed = taught.unanswerable.get(chunk.id, [])[:wanted]
            wanted -= len(missed)
            others = rng.sample(near, min(wanted, len(near))) or rng.sample(side, min(wanted, len(side)))
            made += maker.grounded(items, [*missed, *(item for item in others if item.chunk.id != chunk.id)])
    return list({e.id: e for e in made}.values())


def _beside(count: int, share: float, rng: random.Random) -> int:
    """How many to put beside `count` others so that they are about this share of all."""
    return sum(rng.random() < share / (1 - share) for _ in range(count))


def _write(
    step: StepRun, made: _Made, chunks: Sequence[Chunk], sides: dict[str, Split], own: OwnRows
) -> dict[str, JsonValue]:
    examples, pairs, rejected, taught = made
    counts: dict[str, int] = {}
    for name in ("train", "validation", "test"):
        rows = [e for e in examples if e.split == name]
        write_records(step.out(f"3_examples/{name}.parquet"), rows, Example)
        counts[name] = len(rows)
    write_records(step.out("3_examples/preferences.parquet"), pairs, PreferencePair)
    write_jsonl(step.out("3_examples/rejected.jsonl"), (r.model_dump(mode="json") for r in rejected))
    covered = {e.evidence[0].chunk_id for e in examples if e.evidence}
    facts: dict[str, JsonValue] = {
        **counts,
        "preference_pairs": len(pairs),
        "kinds": dict(sorted(Counter(e.kind for e in examples).items())),
        "styles": dict(sorted(Counter(e.style for e in examples).items())),
        "faults": dict(sorted(Counter(p.reason for p in pairs).items())),
        "documents": dict(sorted(Counter(sides.values()).items())),
        "chunks_covered": len(covered),
        "chunks": len(chunks),
        "rejected": len(rejected),
        "version": content_id("dat", [e.id for e in examples], [p.id for p in pairs]),
        "leakage": [],
    }
    if own.sets:
        facts["data"] = _sets_used(own, made)
    if taught.facts:
        reasons = Counter(r.reason for r in taught.rejected).most_common()
        facts |= {"teacher": taught.facts, "rejected_by_rule": dict(reasons)}
        say(f"  left out: {', '.join(f'{n} {reason}' for reason, n in reasons) or 'nothing'}")
    write_json(step.out("3_examples/card.json"), facts)
    _review_sheet(step, examples)
    say(
        f"  {counts['train']} training, {counts['validation']} validation, {counts['test']} test examples, {len(pairs)} preference pairs; {len(covered)} of {len(chunks)} chunks covered"
    )
    return facts


def _sets_used(own: OwnRows, made: _Made) -> dict[str, JsonValue]:
    """What each set of rows gave to each split."""
    used: dict[str, Counter[str]] = {name: Counter() for name in own.sets}
    records: list[Example | PreferencePair] = [*made.examples, *made.pairs]
    for record in records:
        if not record.chunk_ids and record.document_ids:
            name = record.document_ids[0].rpartition(":")[0]
            used[next(n for n in own.sets if name == n or name.startswith(f"{n}/"))][record.split] += 1
    return {name: {**told, "used": dict(sorted(used[name].items()))} for name, told in own.sets.items()}


def _review_sheet(step: StepRun, examples: Sequence[Example]) -> None:
    """A sheet for people: question, answer, evidence, and an empty column for corrections."""
    with atomic(step.out("3_examples/review.csv")) as path, path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "split", "kind", "style", "question", "answer", "quote", "correction"])
        for example in examples:
            writer.writerow(
                [
                    example.id,
                    example.split,
                    example.kind,
                    example.style,
                    example.question,
                    example.answer,
                    example.evidence[0].quote if example.evidence else "",
                    "",
                ]
            )
