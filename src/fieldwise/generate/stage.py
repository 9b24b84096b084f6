"""The generate stage: chunks and rows in, examples and preference pairs out, split so that nothing leaks."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.files import atomic, read_json, write_json, write_jsonl
from fieldwise.generate import candidates, evolve, kind_teacher, review
from fieldwise.generate.drafts import Material
from fieldwise.generate.examples import Asked, ExampleMaker, drop_ambiguous
from fieldwise.generate.judged import judge_pairs, open_judge
from fieldwise.generate.kinds import Further, kind_of, limited, make_further, tell, told_of, tools_of
from fieldwise.generate.lengths import length_bias
from fieldwise.generate.preferences import pairs_of_kinds, preference_pairs
from fieldwise.generate.rows import OwnRows, Placed, place, read_own
from fieldwise.generate.rules import read_chunk
from fieldwise.generate.settings import QUESTION_KINDS, GenerateSettings
from fieldwise.generate.split import Split, leakage, sides_of
from fieldwise.generate.teacher import Taught, budget_spent, open_teacher, teach
from fieldwise.generate.tools import Tool
from fieldwise.generate.votes import HeldOut, read_votes
from fieldwise.hashing import content_id
from fieldwise.interfaces import Retriever
from fieldwise.llm.wire import require_key
from fieldwise.progress import say, track
from fieldwise.records import Chunk, Example, PreferencePair, RatedReply, Rejection
from fieldwise.retrieve.index import open_index, passage_text
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import StepRun
from fieldwise.tables import read_records, write_records

_LEAST_PAIRS = 20
_SHOWN = 5
_PREFERRED = (*QUESTION_KINDS, "extraction")
"""Kinds of which preference pairs are made; the replies of others have no one fault that a rule could put in."""


def run(settings: GenerateSettings, retrieve: RetrieveSettings, step: StepRun) -> dict[str, JsonValue]:
    """Read `2_chunks/` and the rows of `generate.data`, write `3_examples/`; returns counts.

    Raises DatasetError when documents and rows give too little to train on, with what was tried.
    """
    settings = settings.for_questions
    if settings.candidates.prompts:
        require_key(settings.candidates.endpoint, candidates.WHERE)
        if settings.candidates.judge is not None:
            require_key(settings.candidates.judge.endpoint, candidates.JUDGE_WHERE)
    own = read_own(settings.data_sets)
    chunks = list(read_records(step.run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
    groups = {str(k): str(v) for k, v in read_json(step.run.require("2_chunks/groups.json", "prepare")).items()}
    sides = sides_of(chunks, groups, settings.split, step.seed)
    taught = Taught()
    evolved = evolve.Evolved()
    examples: list[Example] = []
    further: Further | None = None
    if settings.from_documents:
        retriever = open_index(chunks, step.run.path / "2_chunks" / "index", retrieve)
        taught = _teach(chunks, sides, settings, retriever, step)
        if len(taught.asked) + own.examples < _LEAST_PAIRS:
            raise _too_few(taught, chunks, settings, own.examples)
        maker = ExampleMaker(retriever, groups, sides, settings, random.Random(f"{step.seed}/examples"))
        evolved = _evolved(taught, settings, retrieve, step)
        every = evolve.beside_parents(taught.asked, evolved.made)
        examples = _examples(taught, every, maker, settings, " ".join(c.text for c in chunks).casefold())
        if settings.asks_for_kinds:
            examples, further = _further(examples, chunks, sides, taught, maker, settings, step)
    placed = place(own, examples, settings.split, step.seed) if own.sets else Placed([], [], [], examples, [])
    placed, reviews = _reviewed(settings, placed, chunks)
    parents: list[dict[str, JsonValue]] = []
    if settings.evolutions is not None:
        left, parents, orphans = evolve.after_review(placed.made, evolved.made, reviews)
        placed = placed._replace(made=left, rejected=[*placed.rejected, *orphans])
    leaks = leakage(placed.made, groups)
    if leaks:
        raise DatasetError(
            "documents stand on both sides of the split",
            where="generate",
            found="; ".join(leaks[:3]),
            fix="This is a fault of Fieldwise: please report it with the recipe.",
        )
    preferred = _preferred(placed, settings, step, chunks, sides)
    left_out = [
        *taught.rejected,
        *evolved.rejected,
        *(further.rejected if further else ()),
        *own.rejected,
        *placed.rejected,
        *preferred.rejected,
    ]
    left_out += [r for done in reviews for r in done.rejected]
    made = _Made(
        [*placed.made, *placed.examples],
        [*preferred.pairs, *placed.pairs],
        left_out,
        taught,
        further,
        reviews,
        placed.ratings,
        parents,
    )
    if not settings.from_documents:
        _require_rows(made.examples, own)
    facts = preferred.facts
    if settings.evolutions is not None:
        facts = {**facts, "evolutions": {**evolved.facts, "examples": len(parents)}}
    return _write(step, made, chunks, sides, own, facts, settings)


class _Preferred(NamedTuple):
    """Preference pairs, what was left out of them, and what the card says where a recipe asks for more than the usual."""

    pairs: list[PreferencePair]
    rejected: list[Rejection]
    facts: dict[str, JsonValue]


def _preferred(
    placed: Placed, settings: GenerateSettings, step: StepRun, chunks: Sequence[Chunk], sides: dict[str, Split]
) -> _Preferred:
    train = [e for e in placed.made if e.split == "train" and kind_of(e) in _PREFERRED]
    every = [*train, *(e for e in placed.examples if e.split == "train")]
    seed, most = f"{step.seed}/preferences", settings.preference_pairs
    facts: dict[str, JsonValue] = {}
    rejected: list[Rejection] = []
    if settings.preferences is None:
        pairs = preference_pairs(train, random.Random(seed), most)
    else:
        made = pairs_of_kinds(every, settings.preferences, seed, most)
        pairs = made.pairs
        facts["preferences"] = {kind: {**told} for kind, told in made.kinds.items()}
        short = [
            f"{kind} {told['made']}" + (f" of {told['wanted']}" if "wanted" in told else "")
            for kind, told in made.kinds.items()
            if told["made"] < told.get("wanted", 1)
        ]
        if short and most:
            say(f"  kinds of preference pairs that the examples give too few of: {', '.join(short)}")
    if settings.votes is not None:
        voted = read_votes(Path(settings.votes), _held_out(placed, chunks, sides))
        pairs, rejected = [*pairs, *voted.pairs], voted.rejected
        facts["votes"] = voted.facts
    if settings.candidates.prompts:
        wish, folder = settings.candidates, step.run.path
        client, judge = candidates.open_client(wish, folder), candidates.open_judge(wish, folder)
        ranked = candidates.candidates(every, client, wish, random.Random(f"{step.seed}/candidates"), judge)
        pairs = [*pairs, *ranked.pairs]
        facts["candidates"] = ranked.facts
    pairs = list({p.id: p for p in pairs}.values())
    bias = length_bias([*pairs, *(p for p in placed.pairs if p.split == "train")])
    if facts:
        facts["lengths"] = bias
    if note := bias.get("note"):
        say(f"  {note}")
    return _Preferred(pairs, rejected, facts)


def _held_out(placed: Placed, chunks: Sequence[Chunk], sides: dict[str, Split]) -> HeldOut:
    questions = [e.question for e in (*placed.made, *placed.examples) if e.split != "train"]
    passages = {passage_text(c) for c in chunks if sides[c.document_id] != "train"}
    return HeldOut(sides, questions, passages)


class _Made(NamedTuple):
    examples: Sequence[Example]
    pairs: Sequence[PreferencePair]
    rejected: Sequence[Rejection]
    taught: Taught
    further: Further | None
    reviews: Sequence[review.Reviewed]
    ratings: Sequence[RatedReply]
    evolutions: Sequence[dict[str, JsonValue]]


def _reviewed(
    settings: GenerateSettings, placed: Placed, chunks: Sequence[Chunk]
) -> tuple[Placed, Sequence[review.Reviewed]]:
    """The examples as people left them on their sheets, one after the other, where any have come back."""
    if not settings.review:
        return placed, ()
    before = after = [*placed.made, *placed.examples]
    own = {e.id for e in placed.examples}
    done = []
    for named in settings.review:
        sheet = review.read_sheet(review.require_sheet(named), {e.id: e for e in after})
        done.append(review.apply(sheet, after, chunks))
        after = done[-1].examples
        own |= {c.id for c in done[-1].corrections if c.was in own}
    if (train := sum(e.split == "train" for e in after)) < _LEAST_PAIRS:
        raise DatasetError(
            "the review leaves too few examples to train on",
            where=review.WHERE,
            found=f"{train} in the training split of {sum(e.split == 'train' for e in before)}",
            fix="Correct examples rather than drop them, or add documents or rows.",
        )
    made, rows = [e for e in after if e.id not in own], [e for e in after if e.id in own]
    return placed._replace(made=made, examples=rows), done


def _require_rows(examples: Sequence[Example], own: OwnRows) -> None:
    train = sum(e.split == "train" for e in examples)
    if not own.examples:
        raise DatasetError(
            "the rows are preference pairs or rated replies alone, and learning from preferences begins where SFT ends",
            where="generate.data",
            found=f"{len(own.rows)} of them",
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
    judge = open_judge(settings.judge, step.run.path) if settings.judge is not None else None
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
    if settings.judge is not None and judge is not None:
        taught.judged = judge_pairs(taught, settings.judge, judge)
    return taught


def _evolved(taught: Taught, settings: GenerateSettings, retrieve: RetrieveSettings, step: StepRun) -> evolve.Evolved:
    """Questions made from the accepted ones, by rules or by the endpoint; judged like these where a judge is named."""
    wish = settings.evolutions
    if wish is None:
        return evolve.Evolved()
    if settings.evolver == "rules":
        evolved = evolve.by_rules(taught.asked, wish, step.seed)
    else:
        chunks = list({item.chunk.id: item.chunk for item in taught.asked}.values())
        is_fake = settings.evolver == "fake"
        client = evolve.fake_teacher(evolve.wishes(taught.asked, wish, step.seed)) if is_fake else open_teacher(settings.model_copy(update={"teacher": "openai"}), step.run.path, chunks, step.seed)  # fmt: skip
        is_near = None if retrieve.embedding == "none" else evolve.near_in_meaning()
        evolved = evolve.by_teacher(taught.asked, wish, client, step.seed, is_near=is_near)
        if evolved.left and settings.endpoint.budget.when_spent == "stop":
            raise budget_spent(client, evolved.left, len(chunks))
    if settings.judge is not None and evolved.made:
        _judge_evolved(evolved, settings, step)
    made = evolved.facts["made"]
    told = ", ".join(f"{n} {kind}" for kind, n in made.items()) if isinstance(made, dict) else ""
    say(f"  evolved questions: {told or 'none'}; left out: {len(evolved.rejected)}")
    return evolved


def _judge_evolved(evolved: evolve.Evolved, settings: GenerateSettings, step: StepRun) -> None:
    assert settings.judge is not None
    seen = Taught([e.item for e in evolved.made])
    evolved.facts["judge"] = judge_pairs(seen, settings.judge, open_judge(settings.judge, step.run.path))
    kept = {(item.chunk.id, item.pair.question) for item in seen.asked}
    evolved.made = [e for e in evolved.made if (e.item.chunk.id, e.item.pair.question) in kept]
    evolved.rejected += seen.rejected


def _read_off(chunks: Sequence[Chunk], sides: dict[str, Split], settings: GenerateSettings, seed: int) -> Taught:
    """What the rules are sure of; each pair they are not sure of is left out with the check that says so."""
    asked: list[Asked] = []
    rejected: list[Rejection] = []

    def reject(chunk: Chunk, reason: str, detail: str) -> None:
        rejected.append(Rejection(stage="generate", item=chunk.id, reason=reason, detail=detail))

    for chunk in track(chunks, "questions"):
        rng = random.Random(f"{seed}/{chunk.id}")
        read = read_chunk(chunk, rng, wide=settings.wide_questions, named=settings.named_subjects)
        for pair, fault in read.left_out:
            reject(chunk, fault, f"{pair.question} | {pair.answer}")
        if not read.kept:
            reject(chunk, "no_question", f"{chunk.uri}: no sentence, list or table that a rule is sure of")
        asked += [Asked(p, chunk, sides[chunk.document_id]) for p in read.kept[: settings.max_per_chunk]]
    return Taught(asked, rejected=rejected)


def _too_few(taught: Taught, chunks: Sequence[Chunk], settings: GenerateSettings, rows: int) -> DatasetError:
    """The error that says which rule left the questions out, and shows some."""
    found = f"{len(taught.asked)} questions from {len(chunks)} chunks"
    if settings.data:
        found += f", {rows} rows of generate.data"
    fix = "Add documents with full sentences, lists or tables, or lower prepare.chunk.min_tokens."
    left_out = [r for r in taught.rejected if r.reason != "no_question"]
    if left_out:
        reasons = Counter(r.reason for r in left_out).most_common()
        found += f"; left out: {', '.join(f'{n} {reason}' for reason, n in reasons)}"
        worst = [r for r in left_out if r.reason == reasons[0][0]][:_SHOWN]
        found += "".join(f"\n  {r.reason}: {r.detail[:200]}" for r in worst)
        fix = f"\n{fix}" + ("" if settings.teacher == "rules" and settings.judge is None else " If it is the fault of teacher or judge, take another model.")  # fmt: skip
    return DatasetError("the documents gave too few questions to train on", where="generate", found=found, fix=fix)


def _examples(
    taught: Taught, asked: Sequence[Asked], maker: ExampleMaker, settings: GenerateSettings, corpus: str
) -> list[Example]:
    """Every pair closed, those of a share of the chunks grounded as well.

    Without an answer are questions the teacher wrote to that end and such about other chunks of the document, and
    without passages those about invented things.
    """
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


def _further(
    examples: list[Example],
    chunks: Sequence[Chunk],
    sides: dict[str, Split],
    taught: Taught,
    maker: ExampleMaker,
    settings: GenerateSettings,
    step: StepRun,
) -> tuple[list[Example], Further]:
    """The examples with those of further kinds beside them, within the limits of `generate.kinds`."""
    material = Material(chunks, taught.asked, sides, maker, settings)
    tools = tools_of(settings)
    lessons = _further_lessons(material, tools, taught, step)
    drafts = kind_teacher.drafts_of(lessons, material, tools, step.seed)
    further = make_further(material, examples, tools, step.seed, drafts)
    kept, further.over = limited([*examples, *further.examples], settings.kinds, step.seed)
    tell(kept, settings)
    return kept, further


def _further_lessons(material: Material, tools: Sequence[Tool], taught: Taught, step: StepRun) -> kind_teacher.Lessons:
    """What a teacher writes of further kinds; nothing where the rules teach alone."""
    settings = material.settings
    if settings.teacher == "rules" or not kind_teacher.taught_kinds(settings):
        return kind_teacher.Lessons({}, {}, 0)
    is_fake = settings.teacher == "fake"
    client = kind_teacher.fake_teacher(material) if is_fake else open_teacher(settings, step.run.path, material.chunks, step.seed)  # fmt: skip
    lessons = kind_teacher.ask(material.chunks, settings, tools, client)
    if lessons.left and settings.endpoint.budget.when_spent == "stop":
        raise budget_spent(client, lessons.left, len(material.chunks))
    taught.facts["further_kinds"] = lessons.facts
    return lessons


def _beside(count: int, share: float, rng: random.Random) -> int:
    """How many to put beside `count` others so that they are about this share of all."""
    return sum(rng.random() < share / (1 - share) for _ in range(count))


def _write(
    step: StepRun,
    made: _Made,
    chunks: Sequence[Chunk],
    sides: dict[str, Split],
    own: OwnRows,
    preferred: dict[str, JsonValue],
    settings: GenerateSettings,
) -> dict[str, JsonValue]:
    examples, pairs, rejected, taught, further, reviews, ratings, evolutions = made
    counts: dict[str, int] = {}
    has_more = further is not None or any(e.tools for e in examples)
    without = () if has_more else ("phase", "tools")  # a file without further kinds stays as it was
    for name in ("train", "validation", "test"):
        rows = [e for e in examples if e.split == name]
        write_records(step.out(f"3_examples/{name}.parquet"), rows, Example, without=without)
        counts[name] = len(rows)
    write_records(step.out("3_examples/preferences.parquet"), pairs, PreferencePair)
    if ratings:
        write_records(step.out("3_examples/ratings.parquet"), ratings, RatedReply)
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
        "version": content_id("dat", [e.id for e in examples], [p.id for p in (*pairs, *ratings)]),
        "leakage": [],
    }
    facts |= preferred
    if own.sets:
        facts["data"] = _sets_used(own, made)
    if ratings:
        labels = Counter("wanted" if r.is_wanted else "unwanted" for r in ratings)
        facts["rated_replies"] = dict(sorted(labels.items()))
        say(f"  {len(ratings)} rated replies, {labels['wanted']} wanted: learnt from with train.preference.method=kto")
    if settings.from_documents:
        reasons = Counter(r.reason for r in taught.rejected).most_common()
        told = {k: v for k, v in (("teacher", taught.facts), ("judge", taught.judged)) if v}
        facts |= {**told, "rejected_by_rule": dict(reasons)}
        say(f"  left out: {', '.join(f'{n} {reason}' for reason, n in reasons) or 'nothing'}")
    if further is not None:
        facts |= told_of(further, examples)
    if reviews:
        facts["review"] = [done.facts for done in reviews]
        corrections = (c.model_dump(mode="json") for done in reviews for c in done.corrections)
        write_jsonl(step.out("3_examples/corrections.jsonl"), corrections)
    if evolutions:
        write_jsonl(step.out("3_examples/evolutions.jsonl"), evolutions)
    write_json(step.out("3_examples/card.json"), facts)
    with atomic(step.out("3_examples/review.csv")) as path:
        review.write_sheet(path, examples)
    _tell_empty(counts, settings, len(sides))
    say(
        f"  {counts['train']} training, {counts['validation']} validation, {counts['test']} test examples, {len(pairs)} preference pairs; {len(covered)} of {len(chunks)} chunks covered"
    )
    return facts


def _tell_empty(counts: Mapping[str, int], settings: GenerateSettings, documents: int) -> None:
    shares = {"validation": settings.split.validation, "test": settings.split.test}
    if empty := [name for name, share in shares.items() if share and not counts[name]]:
        of = f"{documents} documents" if settings.from_documents else "the rows"
        say(
            f"  nothing is held out for {' and '.join(empty)}: {of} are too few for generate.split, which needs three that are not nearly the same; add some, or name questions of your own with evaluate.questions and evaluate.development"
        )


def _sets_used(own: OwnRows, made: _Made) -> dict[str, JsonValue]:
    """What each set of rows gave to each split."""
    used: dict[str, Counter[str]] = {name: Counter() for name in own.sets}
    records: list[Example | PreferencePair | RatedReply] = [*made.examples, *made.pairs, *made.ratings]
    for record in records:
        if not getattr(record, "chunk_ids", ()) and record.document_ids:
            name = record.document_ids[0].rpartition(":")[0]
            if (of := next((n for n in own.sets if name == n or name.startswith(f"{n}/")), None)) is not None:
                used[of][record.split] += 1
    return {name: {**told, "used": dict(sorted(used[name].items()))} for name, told in own.sets.items()}
