"""The review sheet come back: what people kept, dropped and corrected, put upon the examples it was written for.

A row is matched by the id of its example. What it says holds for the same pair in its other wordings as well (alone
and over passages), unless these have a row of their own: a wrong answer is wrong in both. A correction that cannot be
put upon its example drops the example, since a person has found it wrong; nothing of a sheet is passed over in silence.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from fieldwise.errors import DatasetError
from fieldwise.hashing import sha256_file
from fieldwise.progress import say
from fieldwise.prompts import asked_of, closed_prompt, grounded_prompt, is_declined
from fieldwise.records import NOT_STATED, Chunk, Conversation, Evidence, Example, Message, Record, Rejection
from fieldwise.rows.reading import Broken, Note, Row, read_rows
from fieldwise.support import words_in

WHERE = "generate.review"
COLUMNS = ("id", "split", "kind", "style", "question", "answer", "quote", "verdict", "corrected_question", "corrected_answer", "note")  # fmt: skip
Decision = Literal["keep", "drop", "fix"]
DECISIONS: tuple[Decision, ...] = ("keep", "drop", "fix")
_FORMULA = ("=", "+", "-", "@", "\t")  # a spreadsheet would run what begins so; a leading quote keeps it text
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_SHOWN = 5


class Entry(NamedTuple):
    """One row of a sheet: what a person decided on an example; None leaves question or answer as it is."""

    line: int
    decision: Decision
    question: str | None = None
    answer: str | None = None
    note: str = ""

    @property
    def says(self) -> tuple[Decision, str | None, str | None]:
        """What is decided, without where it stands."""
        return self.decision, self.question, self.answer


class Sheet(NamedTuple):
    """Entries by example id, and the lines left aside."""

    name: str
    sha256: str
    entries: dict[str, Entry]
    aside: list[Rejection]
    untouched: int


class Correction(Record):
    """What a review did to one example; kept beside the examples as part of their lineage."""

    id: str = Field(description="the example as it is now")
    was: str = Field(description="the example as it was generated")
    decision: Decision
    sheet: str = Field(description="file name and line, such as review.csv:12")
    follows: str | None = Field(None, description="the example of that line, where this one is another wording of it")
    question_was: str
    question: str
    answer_was: str
    answer: str
    in_source: bool = Field(description="the answer stands word for word in its passages, or declines")
    note: str = ""


class Reviewed(NamedTuple):
    """Examples after a review, what it left out, and what it did."""

    examples: list[Example]
    rejected: list[Rejection]
    corrections: list[Correction]
    facts: dict[str, JsonValue]


# ---------------------------------------------------------------- the sheet


def require_sheet(place: str) -> Path:
    """Return the place of the sheet; raises DatasetError when it is not there."""
    path = Path(place)
    if not path.is_file():
        raise DatasetError(
            "the review sheet is not there",
            where=WHERE,
            found=place,
            fix="Make one with: fieldwise review --run DIR --csv FILE, or leave the key out.",
        )
    return path


def guarded(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula.

    >>> guarded("=1+1"), unguarded("'=1+1")
    ("'=1+1", '=1+1')
    """
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def unguarded(cell: str) -> str:
    """Return what `guarded` was given."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def write_sheet(path: Path, examples: Iterable[Example]) -> None:
    """Write the sheet of a run: question, answer and evidence of every example, and an empty column for corrections."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "split", "kind", "style", "question", "answer", "quote", "correction"])
        for e in examples:
            words = (e.question, e.answer, e.evidence[0].quote if e.evidence else "")
            writer.writerow([e.id, e.split, e.kind, e.style, *map(guarded, words), ""])


def read_sheet(path: Path, known: dict[str, Example]) -> Sheet:
    """Read an edited sheet; lines that cannot be used are left aside with their number.

    Raises DatasetError for a file without the column id, or without any row of these examples.
    """
    found: dict[str, Entry] = {}
    aside: list[Rejection] = []
    twice: dict[str, list[int]] = {}
    untouched = 0
    matched = False
    for row in read_rows(path):
        place = f"{path.name}:{row.number}"
        if isinstance(row, Note):
            say(f"  {place}: {row.text}")
            continue
        if isinstance(row, Broken):
            aside.append(_aside(place, "review_broken_line", f"{row.reason}: {row.text[:120]}"))
            continue
        cells = _cells(row, path)
        identifier = cells["id"]
        matched = matched or identifier in known
        read = _entry(cells, row.number, known.get(identifier))
        if isinstance(read, Rejection):
            aside.append(read.model_copy(update={"item": place}))
        elif read is None:
            untouched += 1
        elif identifier in found and found[identifier].says != read.says:
            twice.setdefault(identifier, [found[identifier].line]).append(read.line)
        else:
            found.setdefault(identifier, read)
    for identifier, lines in twice.items():
        del found[identifier]
        told = f"{identifier} is decided differently on lines {', '.join(map(str, lines))}: none of them counts"
        aside += [_aside(f"{path.name}:{line}", "review_duplicate_id", told) for line in lines]
    if not matched:
        raise DatasetError(
            "no line of the review sheet is about these examples",
            where=f"{WHERE}: {path}",
            found=f"{aside[0].item}: {aside[0].detail}" if aside else "no row",
            fix="The sheet belongs to other examples: ids change with their prompts, such as with generate.distractors or the documents. Make a new one: fieldwise review",
        )
    return Sheet(path.name, sha256_file(path), found, aside, untouched)


def _cells(row: Row, path: Path) -> dict[str, str]:
    named = {str(k).strip().casefold().replace(" ", "_"): v for k, v in row.values.items()}
    if "id" not in named:
        raise DatasetError(
            "a review sheet needs the column id",
            where=f"{WHERE}: {path}",
            found=", ".join(named),
            fix=f"Keep the columns of the sheet: {', '.join(COLUMNS)}.",
        )
    return {k: unguarded("" if v is None else str(v)).replace("\r\n", "\n").strip() for k, v in named.items()}


def _aside(place: str, reason: str, detail: str) -> Rejection:
    return Rejection(stage="generate", item=place, reason=reason, detail=detail)


def _entry(cells: dict[str, str], line: int, example: Example | None) -> Entry | Rejection | None:
    """What a row decides; None for one that nobody has touched."""
    decision = cells.get("verdict", "").casefold()
    question, answer = cells.get("corrected_question", ""), cells.get("corrected_answer", "")
    plain = cells.get("correction", "")  # the one column of 3_examples/review.csv: a verdict, or the right answer
    if plain.casefold() in DECISIONS:
        decision = decision or plain.casefold()
    else:
        answer = answer or plain
    if not decision and (question or answer):
        decision = "fix"
    if not decision:
        return None
    if example is None:
        return _aside("", "review_unknown_id", f"no example has the id {cells['id']!r}")
    note = " ".join(cells.get("note", "").split())
    if decision == "fix":
        return _fix(cells, line, example, question, answer, note)
    if decision not in DECISIONS:
        return _aside("", "review_unknown_verdict", f"{decision!r} is none of {', '.join(DECISIONS)}")
    return Entry(line, "drop" if decision == "drop" else "keep", note=note)


def _fix(
    cells: dict[str, str], line: int, example: Example, question: str, answer: str, note: str
) -> Entry | Rejection:
    """A fix says what is right in the columns for it, or in those of question and answer themselves."""
    asked = " ".join((question or cells.get("question", "") or example.question).split())
    said = answer or cells.get("answer", "") or example.answer
    changed = Entry(
        line,
        "fix",
        None if asked == " ".join(example.question.split()) else asked,
        None if said.strip() == example.answer.strip() else said.strip(),
        note,
    )
    if changed.question is None and changed.answer is None:
        return _aside("", "review_nothing_to_fix", "the verdict is fix, but question and answer are as they were")
    return changed


# ---------------------------------------------------------------- upon the examples


def apply(sheet: Sheet, examples: Sequence[Example], chunks: Iterable[Chunk]) -> Reviewed:
    """Return the examples as people left them; each keeps its split."""
    texts = {c.id: c.text for c in chunks}
    shared = _shared(sheet, examples)
    sides: dict[str, set[str]] = {}
    for example in examples:
        sides.setdefault(_plain(example.question), set()).add(example.split)
    taken = {e.id for e in examples}
    kept: list[Example] = []
    rejected: list[Rejection] = list(sheet.aside)
    corrections: list[Correction] = []
    for example in examples:
        own = sheet.entries.get(example.id)
        follows, entry = (None, own) if own is not None else shared.get(_pair(example), (None, None))
        if entry is None:
            kept.append(example)
            continue
        place = f"{sheet.name}:{entry.line}"
        if entry.decision == "drop":
            told = f"{place}: {example.question} | {example.answer}" + (f" | {entry.note}" if entry.note else "")
            rejected.append(_aside(example.id, "reviewed_drop", told[:600]))
            continue
        made = example if entry.decision == "keep" else _corrected(example, entry, texts)
        fault = made if isinstance(made, str) else _fault(made, example, sides, taken)
        if fault:
            told = f"{place}: {fault}: {entry.question or example.question} | {entry.answer or example.answer}"
            rejected.append(_aside(example.id, "review_not_applied", told[:600]))
            continue
        assert isinstance(made, Example)
        taken.add(made.id)
        sides.setdefault(_plain(made.question), set()).add(made.split)
        kept.append(made)
        corrections.append(_record(made, example, entry, place, follows, texts))
    facts = _facts(sheet, corrections, rejected)
    _tell(sheet, facts)
    return Reviewed(kept, rejected, corrections, facts)


def _pair(example: Example) -> tuple[str, str, str]:
    """What the wordings of one pair have in common; one without evidence stands for itself."""
    evidence = example.evidence[0].chunk_id if example.evidence else example.id
    return example.question, example.answer, evidence


def _shared(sheet: Sheet, examples: Sequence[Example]) -> dict[tuple[str, str, str], tuple[str, Entry]]:
    """What is decided for every wording of a pair: a drop or a fix on which all rows about it agree."""
    by_pair: dict[tuple[str, str, str], list[tuple[str, Entry]]] = {}
    for example in examples:
        if (entry := sheet.entries.get(example.id)) is not None:
            by_pair.setdefault(_pair(example), []).append((example.id, entry))
    return {
        pair: rows[0]
        for pair, rows in by_pair.items()
        if rows[0][1].decision != "keep" and len({entry.says for _, entry in rows}) == 1
    }


def _fault(made: Example, example: Example, sides: dict[str, set[str]], taken: set[str]) -> str:
    if made.id == example.id:
        return ""
    if made.id in taken:
        return "another example says the same already"
    if made.question != example.question and sides.get(_plain(made.question), set()) - {made.split}:
        return "the corrected question stands on another side of the split"
    return ""


def _corrected(example: Example, entry: Entry, texts: dict[str, str]) -> Example | str:
    """The example with what a person wrote, or why that cannot be done."""
    question, answer = entry.question or example.question, entry.answer or example.answer
    if is_declined(answer):
        answer = NOT_STATED
    *prompt, reply = example.conversation
    asked = asked_of(tuple(prompt))
    if asked is None:
        return _corrected_turns(example, question, answer)
    passages = asked[1]
    new_prompt = grounded_prompt(question, passages) if passages else closed_prompt(question)
    evidence, kind = example.evidence, example.kind
    said = answer
    if is_declined(answer):
        evidence, kind = (), "unanswerable"
    elif passages:
        mark = reply.content.removeprefix(example.answer) if reply.content.startswith(example.answer) else ""
        if is_declined(example.answer):
            place = next((n for n, p in enumerate(passages) if words_in(answer, p) is not None), None)
            if place is None:
                return "no passage that is shown holds the corrected answer"
            mark, kind = f" [{place + 1}]", "reviewed"
            if len(example.chunk_ids) == len(passages):  # they stand in the order shown where nothing is the evidence
                evidence = (Evidence(chunk_id=example.chunk_ids[place], quote=""),)
        said = f"{answer}{mark}"
    elif is_declined(example.answer):
        kind = "reviewed"
    evidence = tuple(Evidence(chunk_id=e.chunk_id, quote=_quote(answer, e, texts)) for e in evidence)
    return _made(example, question, answer, (*new_prompt, Message(role="assistant", content=said)), kind, evidence)


def _corrected_turns(example: Example, question: str, answer: str) -> Example | str:
    """A row of the user's own, of any shape: its last turns are replaced where they say what the example says."""
    *turns, reply = example.conversation
    if answer != example.answer:
        if reply.role != "assistant" or reply.content.strip() != example.answer.strip():
            return "the reply of its conversation is more than its answer"
        reply = reply.model_copy(update={"content": answer})
    if question != example.question:
        if not turns or turns[-1].role != "user" or turns[-1].content.strip() != example.question.strip():
            return "the last turn of its conversation is more than its question"
        turns[-1] = turns[-1].model_copy(update={"content": question})
    return _made(example, question, answer, (*turns, reply), example.kind, example.evidence)


def _made(
    example: Example,
    question: str,
    answer: str,
    conversation: Conversation,
    kind: str,
    evidence: tuple[Evidence, ...],
) -> Example:
    made = Example.make(question=question, answer=answer, kind=kind, conversation=conversation, tools=example.tools)
    return example.model_copy(
        update={
            "id": made.id,
            "question": question,
            "answer": answer,
            "kind": kind,
            "conversation": conversation,
            "evidence": evidence,
        }
    )


def _quote(answer: str, evidence: Evidence, texts: dict[str, str]) -> str:
    """The words that prove a corrected answer: the quote as it was, else the sentence of the chunk that holds it."""
    if evidence.quote and words_in(answer, evidence.quote) is not None:
        return evidence.quote
    sentences = _SENTENCE.split(texts.get(evidence.chunk_id, ""))
    return next((s.strip() for s in sentences if words_in(answer, s) is not None), evidence.quote or answer)


def _plain(question: str) -> str:
    return " ".join(question.casefold().split())


# ---------------------------------------------------------------- what is told


def _record(
    made: Example, example: Example, entry: Entry, place: str, follows: str | None, texts: dict[str, str]
) -> Correction:
    sources = [texts[i] for i in made.chunk_ids if i in texts]
    return Correction(
        id=made.id,
        was=example.id,
        decision=entry.decision,
        sheet=place,
        follows=follows,
        question_was=example.question,
        question=made.question,
        answer_was=example.answer,
        answer=made.answer,
        in_source=is_declined(made.answer) or any(words_in(made.answer, s) is not None for s in sources),
        note=entry.note,
    )


def _facts(sheet: Sheet, corrections: Sequence[Correction], rejected: Sequence[Rejection]) -> dict[str, JsonValue]:
    counts = Counter(c.decision for c in corrections)
    reasons = Counter(r.reason for r in rejected)
    return {
        "sheet": sheet.name,
        "sha256": sheet.sha256,
        "rows_decided": len(sheet.entries),
        "rows_untouched": sheet.untouched,
        "kept": counts["keep"],
        "fixed": counts["fix"],
        "dropped": reasons["reviewed_drop"],
        "not_applied": reasons["review_not_applied"],
        "other_wordings": sum(c.follows is not None for c in corrections),
        "not_in_source": sum(c.decision == "fix" and not c.in_source for c in corrections),
        "lines_aside": dict(sorted(Counter(r.reason for r in sheet.aside).items())),
    }


def _tell(sheet: Sheet, facts: dict[str, JsonValue]) -> None:
    say(
        f"  review {sheet.name}: {facts['kept']} examples kept, {facts['fixed']} fixed, {facts['dropped']} dropped, {facts['not_applied']} left out since their correction does not fit"
    )
    for line in sheet.aside[:_SHOWN]:
        say(f"  {line.item}: {line.reason}: {line.detail}")
    if len(sheet.aside) > _SHOWN:
        say(f"  ... {len(sheet.aside) - _SHOWN} more lines left aside; see 3_examples/rejected.jsonl")
    if facts["not_in_source"]:
        say(f"  {facts['not_in_source']} corrected answers stand in none of their passages word for word")
