"""What the makers of kinds work with, and what they leave: drafts, checked before they become examples."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal

from pydantic import JsonValue

from fieldwise.generate.english import MODALS, Clause, lower_first, parse
from fieldwise.generate.examples import Asked, ExampleMaker
from fieldwise.generate.pairs import Pair
from fieldwise.generate.sections import Section, is_value, is_whole, read_section
from fieldwise.generate.settings import GenerateSettings, KindName
from fieldwise.generate.split import Split
from fieldwise.records import Chunk, Conversation, Evidence, Example, Phase
from fieldwise.retrieve.index import passage_text

PHASES: dict[KindName, Phase] = {
    "multi_turn": "multi_turn",
    "tool_call": "tool_calls",
    "hard_negative": "hard_negatives",
}
"""Every other kind is a single turn."""
_SECTION_CHUNKS = 3
_HARDEST_LENGTH, _WORDS_OF_HARDEST = 0.5, 160


@dataclass(frozen=True)
class Quote:
    """Words of a chunk that support an answer."""

    chunk: Chunk
    words: str


@dataclass(frozen=True)
class Draft:
    """An example before its checks; `answer` is the last reply without its citation marks."""

    kind: KindName
    question: str
    answer: str
    conversation: Conversation
    quotes: tuple[Quote, ...]
    shown: tuple[Chunk, ...]
    """The passages in the order of their marks."""
    home: Chunk
    """The chunk it was made from, whose document decides the split."""
    style: Literal["grounded", "task"] = "grounded"
    hops: int = 1
    tools: tuple[dict[str, JsonValue], ...] = ()
    schema: JsonValue = None

    def example(self, split: Split) -> Example:
        """Return it as an example of a side."""
        evidence = tuple(dict.fromkeys(Evidence(chunk_id=q.chunk.id, quote=q.words) for q in self.quotes))
        supporting = list(dict.fromkeys(q.chunk.id for q in self.quotes))
        shown = [c.id for c in self.shown if c.id not in supporting]
        documents = [self.home, *(q.chunk for q in self.quotes), *self.shown]
        return Example.make(
            question=self.question,
            answer=self.answer,
            kind=self.kind,
            conversation=self.conversation,
            style=self.style,
            evidence=evidence,
            chunk_ids=(*supporting, *shown),
            document_ids=tuple(dict.fromkeys(c.document_id for c in documents)),
            split=split,
            difficulty=self.difficulty,
            phase=PHASES.get(self.kind, "single_turn"),
            tools=self.tools,
        )

    @property
    def difficulty(self) -> float:
        """A rough order for a curriculum, 0 to 1: longer answers, more distractors and more hops are harder."""
        distractors = len(self.shown) - len({q.chunk.id for q in self.quotes} & {c.id for c in self.shown})
        replies = " ".join(m.content for m in self.conversation if m.role == "assistant") or self.answer
        length = min(_HARDEST_LENGTH, len(replies.split()) / _WORDS_OF_HARDEST)
        return round(min(1.0, length + 0.1 * distractors + 0.1 * (self.hops - 1)), 3)


@dataclass(frozen=True)
class Material:
    """What the makers draw from."""

    chunks: Sequence[Chunk]
    asked: Sequence[Asked]
    sides: dict[str, Split]
    maker: ExampleMaker
    settings: GenerateSettings

    def side(self, chunk: Chunk) -> Split:
        """The side of a chunk's document."""
        return self.sides[chunk.document_id]

    @cached_property
    def asked_of(self) -> dict[str, list[Asked]]:
        """The questions of each chunk that can be built on: sound ones about its sentences, and about its tables."""
        found: dict[str, list[Asked]] = defaultdict(list)
        for item in self.asked:
            if is_sound(item.pair):
                found[item.chunk.id].append(item)
        for chunk in self.chunks:
            for pair in _cells(chunk):
                found[chunk.id].append(Asked(pair, chunk, self.side(chunk)))
        return found

    @cached_property
    def asked_in(self) -> dict[str, list[Asked]]:
        """The same for each document."""
        found: dict[str, list[Asked]] = defaultdict(list)
        for items in self.asked_of.values():
            for item in items:
                found[item.chunk.document_id].append(item)
        return found

    @cached_property
    def sections(self) -> list[tuple[Chunk, ...]]:
        """The chunks that follow each other under one heading, the first three of each."""
        found: list[tuple[Chunk, ...]] = []
        for _, group in groupby(self.chunks, key=lambda c: (c.document_id, c.heading_path)):
            found.append(tuple(group)[:_SECTION_CHUNKS])
        return found

    def text_of(self, document_id: str) -> str:
        """All chunks of a document."""
        return self._texts[document_id]

    @cached_property
    def _texts(self) -> dict[str, str]:
        found: dict[str, list[str]] = defaultdict(list)
        for chunk in self.chunks:
            found[chunk.document_id].append(chunk.text)
        return {document: "\n".join(texts) for document, texts in found.items()}

    def among(
        self, evidence: Sequence[Chunk], query: str, unlike: Sequence[str], rng: random.Random, count: int | None = None
    ) -> tuple[Chunk, ...]:
        """The evidence, in order, among what retrieval finds beside it; none of that holds any of `unlike`."""
        count = self.settings.distractors if count is None else count
        items = [Asked(Pair(query, words, "", words), evidence[0], self.side(evidence[0])) for words in unlike]
        known = {c.id for c in evidence}
        others = [c for c in self.maker.others(query, items, count + len(evidence)) if c.id not in known][:count]
        place = rng.randint(0, len(others)) if others else 0
        return (*others[:place], *evidence, *others[place:])


_NOT_BUILT_ON = frozenset(["gap", "unanswerable", "table", "list", "role"])
_FROM_LINES = frozenset(["step", "person", "contact"])
_DATED = re.compile(r"\b(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|once|morning|evening|night|week|day|month)s?\b|\d:\d")  # fmt: skip
_POINTS = re.compile(r"\b(?:this|these|those)\b|\b(?:in|of|for|to|with|at|on|from|by) that\b", re.I)
_RUNS_ON = re.compile(r"\b(?:because|so that|in order to|unless|although|while|which|but)\b")
_MOST_CELLS = 12


def is_sound(pair: Pair) -> bool:
    """Tell whether a question is clear enough to be asked among near misses, or to be followed by others."""
    if pair.kind in _NOT_BUILT_ON or " the any " in pair.question or pair.question.startswith("How long before or"):
        return False
    if pair.kind in ("duty", "object"):
        clause = parse(pair.quote.rstrip(".!"))
        if clause is None or not is_safe(clause) or clause.helper not in ("must", "should", "shall", "does", "do"):
            return False
    if pair.kind == "subject" and not _is_clear_subject(pair):
        return False
    if pair.kind == "condition" and not _is_clear_case(pair):
        return False
    if _POINTS.search(pair.question) or (pair.kind == "definition" and pair.question.endswith(" say?")):
        return False
    if pair.kind in ("agent", "place", "object", "duty", "figure") and _RUNS_ON.search(pair.answer):
        return False
    if pair.kind == "contact" and not re.search(r"\d{3}", pair.answer):
        return False
    if pair.kind == "place" and _DATED.search(pair.answer):
        return False
    return pair.kind in _FROM_LINES or is_whole(f"{pair.quote.rstrip('.!')}.")


def _is_clear_subject(pair: Pair) -> bool:
    words = pair.answer.split()
    if words[0].casefold() in [w.casefold() for w in words[1:]]:  # a heading that was joined to its sentence
        return False
    is_plain = not re.match(r"\w+ly\b|Only\b|So\b|Not\b", pair.answer) and not re.search(
        r"\b(?:You|you|We|we)\b", pair.answer
    )
    return is_plain and 2 <= len(words) <= 6 and len(pair.question.split()) <= 18 and ", but" not in pair.question


def _is_clear_case(pair: Pair) -> bool:
    """Whether the commas of a sentence part the condition from what applies, and not the members of a list."""
    ahead = " ".join(pair.answer.split()[:6])
    clause = pair.question.rstrip("?").split(" ", 3)[-1].split()
    leads = re.match(r"(?:If|When|Unless|Once|Before|After|Until|Where) ", pair.quote)
    is_cut = re.search(
        r"\b(?:even|only|especially|particularly|except|and|or|but|includes?|including|following)$", pair.answer
    )
    return leads is not None and "," not in ahead and len(clause) >= 3 and len(pair.answer.split()) >= 2 and not is_cut


def is_safe(clause: Clause) -> bool:
    """Tell whether a statement was taken apart beyond doubt: by a modal verb, or behind an article."""
    return clause.helper in MODALS or re.match(r"(?:The|An?|Each|Every|All|Your|Our|No) ", clause.subject) is not None


def _cells(chunk: Chunk) -> list[Pair]:
    """Questions for the cells of a chunk's tables, by row and column."""
    made: list[Pair] = []
    for table in read_section(chunk).tables:
        for row, line in zip(table.rows, table.lines, strict=True):
            for label, cell in zip(table.header[1:], row[1:], strict=True):
                if is_value(cell) and len(cell.split()) <= 20 and row.count(cell) == 1:
                    made.append(Pair(cell_question(about(chunk), row[0], label), cell, "table", line))
    return made[:_MOST_CELLS]


def cell_question(name: str, row: str, label: str) -> str:
    """Ask for one cell of a table.

    >>> cell_question("Fees", "Audit", "2019"), cell_question("Fees", "Audit", "Paid by")
    ('In "Fees", what is given for Audit in 2019?', 'In "Fees", what stands under "Paid by" for Audit?')
    """
    return f'In "{name}", what is given for {row} in {label}?' if label.isdigit() else f'In "{name}", what stands under "{label}" for {row}?'  # fmt: skip


def passages(shown: Sequence[Chunk]) -> list[str]:
    """The passages as a prompt shows them."""
    return [passage_text(chunk) for chunk in shown]


def mark(chunk: Chunk, shown: Sequence[Chunk]) -> str:
    """The citation mark of a chunk.

    Raises ValueError if it is not shown.
    """
    return f"[{[c.id for c in shown].index(chunk.id) + 1}]"


def section(chunk: Chunk) -> Section:
    """Return a chunk taken apart."""
    return read_section(chunk)


def about(chunk: Chunk) -> str:
    """What a section is called in a task: title and heading."""
    heading = read_section(chunk).heading
    title = chunk.title.strip("#* ")
    return heading if not title or heading.casefold().startswith(title.casefold()) else f"{title}: {heading}"


def uncapital(words: str, text: str) -> str:
    """Lower the first letter of a statement's words unless the text shows that they begin with a name.

    >>> uncapital("Hands are washed", "When hands are dirty."), uncapital("Meridian keeps it", "Use Meridian.")
    ('hands are washed', 'Meridian keeps it')
    """
    first = re.split(r"\W", words, maxsplit=1)[0]
    if not first or first[1:] != first[1:].lower() or first == "I":
        return words
    if re.search(rf"(?<=[\w,;:] ){re.escape(first)}\b", text):
        return lower_first(words) if first in ("The", "A", "An") else words
    if re.search(rf"\b{re.escape(first.lower())}\b", text):
        return words[:1].lower() + words[1:]
    return lower_first(words)
