"""Conversations of several turns over the same passages, by rules: each follow-up needs the turn before it to be understood."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fieldwise.generate.compare import reason_in
from fieldwise.generate.drafts import Draft, Material, Quote, about, is_safe, mark, passages, section
from fieldwise.generate.english import lower_first, parse
from fieldwise.generate.examples import Asked
from fieldwise.generate.pairs import Pair
from fieldwise.generate.people import is_person
from fieldwise.prompts import grounded_prompt
from fieldwise.records import NOT_STATED, Chunk, Message
from fieldwise.support import content_stems, may_answer

_MOST_TURNS = 4
_CASE = re.compile(r"^(What (?:should be done|do you do|happens|applies)) ((?:if|when|once|unless|before|after|until|where) .+)\?$")  # fmt: skip
_STEP = re.compile(r"^What is step (\d+) (.+)\?$")
_ELSE = "statement"
_PLURAL = re.compile(r"\b(?:people|staff|patients|children|women|men|police)$|[^s]s$", re.I)
_SINGULAR = re.compile(r"(?:[iyp]sis|[tl]axis|itis|osis|(?<!men)us|ics|ness|[bp]etes|news|gas|lens|bias|atlas|canvas|rabies|measles|mumps|rickets|shingles|herpes|scabies|pancreas|series)$", re.I)  # fmt: skip
"""Words that end in -s and are one thing; there are others, and a few of several things end so too (viruses do not)."""


class Turn(NamedTuple):
    """A question as it is asked, the same when it stands alone, its answer and evidence."""

    asked: str
    alone: str
    answer: str
    quote: Quote | None


def conversations(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Yield a conversation for every chunk whose questions lead to one another."""
    for chunk in material.chunks:
        pairs = [
            a.pair
            for a in material.asked_of.get(chunk.id, ())
            if len(a.pair.answer.split()) <= 25 and a.pair.kind != "subject"
        ]
        pairs += _reasons(chunk, material, rng)
        rng.shuffle(pairs)
        best: list[Turn] = []
        for first in [p for p in pairs if p.kind != _ELSE][:6]:
            turns = _follow(first, pairs, chunk)
            best = turns if len(turns) > len(best) else best
        if len(best) < 2:
            continue
        query = " ".join([about(chunk), *(t.alone for t in best)])
        shown = material.among((chunk,), query, [t.answer for t in best], rng)
        if rng.random() < material.settings.unanswerable_share and (last := _missed(material, chunk, shown, rng)):
            best = [*best[: _MOST_TURNS - 1], last]
        yield conversation_draft(chunk, best, shown)


def conversation_draft(chunk: Chunk, turns: Sequence[Turn], shown: Sequence[Chunk]) -> Draft:
    """Return the draft of a conversation: the passages before its first question, then the questions alone."""
    said: list[Message] = [*grounded_prompt(turns[0].asked, passages(shown))]
    for n, turn in enumerate(turns):
        if n:
            said.append(Message(role="user", content=turn.asked))
        reply = turn.answer if turn.quote is None else f"{turn.answer} {mark(turn.quote.chunk, shown)}"
        said.append(Message(role="assistant", content=reply))
    quotes = tuple(t.quote for t in turns if t.quote is not None)
    question = "\n".join(t.asked for t in turns)
    return Draft("multi_turn", question, turns[-1].answer, tuple(said), quotes, tuple(shown), chunk, hops=len(turns))


def _reasons(chunk: Chunk, material: Material, rng: random.Random) -> Iterator[Pair]:
    """The reasons that sentences state, and whole sentences as what else is said of their subject."""
    for sentence in section(chunk).sentences:
        body = sentence.rstrip(".!")
        if found := reason_in(sentence, material.text_of(chunk.document_id), rng):
            yield Pair(found[0], found[1], "reason", body)
        clause = parse(body)
        if clause is not None and is_safe(clause) and 6 <= len(body.split()) <= 25 and not re.search(r"[;:]", body):
            yield Pair(f"What else is said about {lower_first(clause.subject)}?", body, _ELSE, body)


def _follow(first: Pair, pairs: Sequence[Pair], chunk: Chunk) -> list[Turn]:
    turns = [Turn(first.question, first.question, first.answer, Quote(chunk, first.quote))]
    last, left = first, [p for p in pairs if p.question != first.question]
    while len(turns) < _MOST_TURNS:
        found = next(((p, asked) for p in left if (asked := _leads_on(turns, last, p, chunk))), None)
        if found is None:
            break
        pair, asked = found
        turns.append(Turn(asked, pair.question, pair.answer, Quote(chunk, pair.quote)))
        left.remove(pair)
        last = pair
    return turns


def _leads_on(turns: Sequence[Turn], last: Pair, pair: Pair, chunk: Chunk) -> str | None:
    """How a question is asked after these turns; None for one whose answer has been given."""
    told = [t.answer.casefold() for t in turns]
    answer = pair.answer.casefold()
    if answer in told or (pair.kind != "table" and any(answer in one or one in answer for one in told)):
        return None
    asked = follow_up(last, pair, chunk)
    return asked if asked and asked.casefold() not in {t.asked.casefold() for t in turns} else None


def follow_up(last: Pair, pair: Pair, chunk: Chunk) -> str | None:
    """Return how a question is asked after another one has been answered, or None where it does not lead on.

    What is left out, or named by a pronoun, stands in the question before.
    """
    if content_stems(pair.answer) <= content_stems(f"{last.question} {last.answer}") and pair.kind != "table":
        return None
    if pair.kind == _ELSE:
        return _what_else(last, pair)
    return _next_cell(last, pair, chunk) or _next_step(last, pair) or _next_case(last, pair) or _why(last, pair) or _same_subject(last, pair)  # fmt: skip


def _why(last: Pair, pair: Pair) -> str | None:
    is_same = pair.kind == "reason" != last.kind and last.quote.rstrip(".!") == pair.quote and pair.question.startswith(("Why", "Explain why"))  # fmt: skip
    return "And why is that?" if is_same and pair.answer not in last.answer else None


def _what_else(last: Pair, pair: Pair) -> str | None:
    clause, before = parse(pair.quote), parse(last.quote.rstrip(".!"))
    if clause is None or last.quote.rstrip(".!") == pair.quote or last.kind == _ELSE:
        return None
    subject = lower_first(clause.subject)
    if subject not in last.question or not before or before.subject.casefold() != clause.subject.casefold():
        return None
    pronoun = "them" if _pronoun(clause.subject, clause.helper) == "they" else "him or her" if is_person(clause.subject) else "it"  # fmt: skip
    return f"What else is said about {pronoun}?"


def _next_cell(last: Pair, pair: Pair, chunk: Chunk) -> str | None:
    """Another row of the same column, or another column of the same row."""
    if last.kind != "table" or pair.kind != "table":
        return None
    for table in section(chunk).tables:
        before, now = _cell(last, table.lines, table.rows), _cell(pair, table.lines, table.rows)
        if before is None or now is None:
            continue
        (row, column), (other_row, other_column) = before, now
        name, label = table.rows[other_row][0], table.header[other_column]
        if column == other_column and row != other_row:
            return f"And for {name}?"
        if row == other_row and column != other_column:
            return f"And in {label}?" if label.isdigit() else f'And under "{label}"?'
    return None


def _cell(pair: Pair, lines: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    row = next((n for n, line in enumerate(lines) if line == pair.quote), None)
    if row is None:
        return None
    columns = [n for n, cell in enumerate(rows[row]) if cell == pair.answer and n]
    return (row, columns[0]) if len(columns) == 1 else None


def _next_step(last: Pair, pair: Pair) -> str | None:
    before, now = _STEP.match(last.question), _STEP.match(pair.question)
    if not before or not now or before.group(2) != now.group(2) or int(now.group(1)) <= int(before.group(1)):
        return None
    return "And the step after that?" if int(now.group(1)) == int(before.group(1)) + 1 else f"And step {now.group(1)}?"


def _next_case(last: Pair, pair: Pair) -> str | None:
    before, now = _CASE.match(last.question), _CASE.match(pair.question)
    return f"And {now.group(2)}?" if before and now and last.quote != pair.quote else None


def _same_subject(last: Pair, pair: Pair) -> str | None:
    clause, before = parse(pair.quote.rstrip(".!")), parse(last.quote.rstrip(".!"))
    if (
        clause is None
        or before is None
        or not is_safe(clause)
        or clause.subject.casefold() != before.subject.casefold()
    ):
        return None
    subject = lower_first(clause.subject)
    if subject not in last.question and last.answer.casefold() != clause.subject.casefold():
        return None
    pattern = rf"(?<!\w){re.escape(subject)}(?!\w)"
    head, *rest = re.split(pattern, pair.question)
    if len(rest) != 1 or not re.search(rf"\b{re.escape(clause.helper)} $", head) or _second_thing(last, subject):
        return None
    word = head[: head.rindex(clause.helper)].strip()
    if subject in last.question and last.question.split(subject)[-1].strip(" ?") == rest[0].strip(" ?") and rest[0].strip(" ?"):  # fmt: skip
        return f"And {_small(word)}?"  # the same is asked about the same thing
    return f"And {_small(head)}{_pronoun(clause.subject, clause.helper)}{rest[0]}"


def _second_thing(last: Pair, subject: str) -> bool:
    """Whether the answer before names a thing of its own that a pronoun could mean as well."""
    if last.answer.casefold() == subject.casefold():
        return False
    return bool(re.match(r"(?:by |to |with |from )?(?:the|an?|one|two|three|four|five|[A-Z]\w+) ", last.answer)) and last.kind in ("object", "agent", "person", "definition", "subject")  # fmt: skip


def _pronoun(subject: str, helper: str) -> str:
    is_many = _PLURAL.search(subject) and not _SINGULAR.search(subject)
    if helper in ("do", "are", "were") or (is_many and helper not in ("does", "is", "was")):
        return "they"
    if is_person(subject):
        return "he or she" if helper in ("does", "is", "was") else "they"
    return "it"


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


def _missed(material: Material, chunk: Chunk, shown: Sequence[Chunk], rng: random.Random) -> Turn | None:
    """A question of the same document that none of the passages answers."""
    near: list[Asked] = [a for a in material.asked_in[chunk.document_id] if a.chunk.id not in {c.id for c in shown}]
    for item in rng.sample(near, min(5, len(near))):
        texts = [c.text for c in shown]
        if not may_answer(item.pair.question, texts, 0.6) and not any(item.pair.answer.casefold() in t.casefold() for t in texts):  # fmt: skip
            return Turn(item.pair.question, item.pair.question, NOT_STATED, None)
    return None
