"""Questions over two things by rules: rows of a table, like facts of two passages; and reasons that the text states."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator

from fieldwise.generate.drafts import Draft, Material, Quote, about, is_safe, mark, passages, section, uncapital
from fieldwise.generate.english import lower_first, parse, question
from fieldwise.generate.examples import Asked
from fieldwise.generate.sections import Table, depends, is_value
from fieldwise.prompts import grounded_prompt
from fieldwise.records import Chunk, Message
from fieldwise.support import content_stems

_LIKE = frozenset(["duration", "deadline", "frequency", "time", "place", "figure", "agent"])
_MOST_CELL_WORDS = 14
_SUM = re.compile(
    r"(?:at|as at|as of|balance|outstanding|opening|closing|beginning|ending|end|(?:sub)?total|net)\b", re.I
)
"""Rows that add others up, or state a balance: beside what moves it they compare nothing."""
_A_CHUNK = 3
_ASKS = re.compile(r"(?:means?|meaning|when|where|who|what|how|which|why|for|from|to|until|by|at|if|with|then)\b|.*[?:]", re.I)  # fmt: skip

# ---------------------------------------------------------------- comparison


def comparisons(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Yield comparisons of rows and years of tables, and of facts that two passages state alike."""
    for chunk in material.chunks:
        found = [d for t in section(chunk).tables if not t.is_form for d in _of_table(chunk, t, material, rng)]
        yield from rng.sample(found, min(_A_CHUNK, len(found)))
    yield from _of_passages(material, rng)


def _of_table(chunk: Chunk, table: Table, material: Material, rng: random.Random) -> Iterator[Draft]:
    rows = list(zip(table.rows, table.lines, strict=True))
    name = about(chunk)
    for column, label in enumerate(table.header[1:], 1):
        told = [(row, line) for row, line in rows if is_value(row[column]) and len(row[column].split()) <= _MOST_CELL_WORDS]  # fmt: skip
        rng.shuffle(told)
        for (one, line), (other, below) in zip(told[::2], told[1::2], strict=False):
            if one[column] == other[column]:
                continue
            if _sort(one[column]) != _sort(other[column]) or bool(_SUM.match(one[0])) != bool(_SUM.match(other[0])):
                continue
            under = f'Compare what "{name}" says under "{label}" for {one[0]} and for {other[0]}.'
            differ = f'In "{name}", how do {one[0]} and {other[0]} differ in {lower_label(label)}?'
            ask = under if re.search(r"\d", label) or _ASKS.match(label) else rng.choice((under, differ))
            answer = f"{one[0]}: {one[column]}; {other[0]}: {other[column]}"
            yield _cited(chunk, ask, answer, (line, below), material, rng)
    years = [n for n, label in enumerate(table.header) if n and re.fullmatch(r"(?:19|20)\d\d", label)]
    if len(years) >= 2:
        row, line = rng.choice(rows)
        newer, older = sorted(rng.sample(years, 2), key=lambda n: table.header[n], reverse=True)
        if is_value(row[newer]) and is_value(row[older]) and row[newer] != row[older]:
            ask = f'In "{name}", how does {row[0]} in {table.header[newer]} compare with {table.header[older]}?'
            answer = f"{table.header[newer]}: {row[newer]}; {table.header[older]}: {row[older]}"
            yield _cited(chunk, ask, answer, (line, "| " + " | ".join(table.header) + " |"), material, rng)


def _sort(cell: str) -> tuple[bool, bool]:
    """Whether a cell is a figure, and a share: only cells of one sort are compared."""
    return re.fullmatch(r"[-(]?[^\w\s(]{0,2}\d[\d,.]* ?[%)]*", cell) is not None, "%" in cell


def lower_label(label: str) -> str:
    """The label of a column in the middle of a sentence."""
    is_plain = label[1:] == label[1:].lower()
    return label[:1].lower() + label[1:] if is_plain else label


def _cited(
    chunk: Chunk, ask: str, answer: str, quotes: tuple[str, ...], material: Material, rng: random.Random
) -> Draft:
    shown = material.among((chunk,), ask, [*quotes, answer], rng)
    prompt = grounded_prompt(ask, passages(shown))
    said = (*prompt, Message(role="assistant", content=f"{answer} {mark(chunk, shown)}"))
    words = tuple(Quote(chunk, q) for q in quotes if q in chunk.text)
    return Draft("comparison", ask, answer, said, words, shown, chunk, hops=2)


def _of_passages(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Two facts with one question between them: the same is told of two things, or of one document."""
    like: dict[tuple[str, str], list[tuple[Asked, str, str]]] = defaultdict(list)
    near: dict[tuple[str, str], list[tuple[Asked, str, str]]] = defaultdict(list)
    for items in material.asked_of.values():
        for item in items:
            if item.pair.kind not in _LIKE or len(item.pair.answer.split()) > _MOST_CELL_WORDS:
                continue
            clause = parse(item.pair.quote.rstrip(".!"))
            subject = lower_first(clause.subject) if clause else ""
            if not clause or not is_safe(clause) or item.pair.question.count(f" {subject} ") != 1:
                continue
            shape = item.pair.question.replace(f" {subject} ", " {} ")
            scope = item.chunk.document_id if len(content_stems(shape)) < 2 else item.split
            like[scope, shape].append((item, subject, clause.helper))
            near[item.chunk.document_id, item.pair.kind].append((item, subject, clause.helper))
    used: set[str] = set()
    for (_, shape), found in like.items():
        for (one, first, helper), (other, second, _) in zip(found[::2], found[1::2], strict=False):
            if first == second or one.pair.answer == other.pair.answer or one.chunk.id == other.chunk.id:
                continue
            each = "they" if helper in ("do", "are", "were") else "each"
            ask = f"Compare {first} and {second}: {_small(shape.replace('{}', each, 1))}"
            used |= {one.pair.question, other.pair.question}
            yield from _two(one, other, (first, second), ask, material, rng)
    for found in near.values():
        fresh = [f for f in found if f[0].pair.question not in used]
        for (one, first, _), (other, second, _) in zip(fresh[::2], fresh[1::2], strict=False):
            if first == second or one.pair.answer == other.pair.answer:
                continue
            ask = f"{one.pair.question.rstrip('?')}, and {_small(other.pair.question)}"
            yield from _two(one, other, (first, second), ask, material, rng)


def _two(
    one: Asked, other: Asked, names: tuple[str, str], ask: str, material: Material, rng: random.Random
) -> Iterator[Draft]:
    chunks = (one.chunk,) if one.chunk.id == other.chunk.id else (one.chunk, other.chunk)
    unlike = [one.pair.answer, other.pair.answer, one.pair.quote, other.pair.quote]
    shown = material.among(chunks, ask, unlike, rng, max(0, material.settings.distractors - len(chunks) + 1))
    parts = [f"{name}: {a.pair.answer} {mark(a.chunk, shown)}" for name, a in zip(names, (one, other), strict=True)]
    if len(chunks) == 1:
        parts[0] = f"{names[0]}: {one.pair.answer}"
    answer = "; ".join(f"{name}: {a.pair.answer}" for name, a in zip(names, (one, other), strict=True))
    said = (*grounded_prompt(ask, passages(shown)), Message(role="assistant", content="; ".join(parts)))
    quotes = tuple(Quote(a.chunk, a.pair.quote) for a in (one, other))
    yield Draft("comparison", ask, answer, said, quotes, shown, one.chunk, hops=2)


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


# ---------------------------------------------------------------- explanation

_SENDS_ON = re.compile(r"(?:Find out|Learn|See|Read|Check|Note|Remember)\b")
_GOES_ON = re.compile(r",? and (?:(?:is|are|was|were|has|have|can|may)|(?:its|it|they|their|this|these)) ")
_UNNAMED = re.compile(
    r"(?:Some|Many|Most|Other|The inheritance|The (?:\w+ )?(?:form|condition|disorder|disease|result|change))\b(?! of)"
)
_REASONS = (
    (re.compile(r"^(?P<main>[A-Z][^,;:]{9,140}?),? (?P<why>because (?:of )?[^;:]{6,160})$"), "why"),
    (re.compile(r"^(?P<main>[A-Z][^,;:]{9,140}?),? (?P<why>so that [^;:]{8,160})$"), "why"),
    (re.compile(r"^(?P<main>[A-Z][^,;:]{9,140}?) (?P<why>in order to [^;:]{8,160})$"), "why"),
    (
        re.compile(
            r"^(?P<main>The (?:[\w-]+ )?(?:increase|decrease|decline|growth|change|reduction|rise|fall|improvement)s?(?: in| of) [^,;]{3,90}?) "
            r"(?:was|were|is|are) (?:primarily |mainly |partially |largely )?(?:due to|driven by|attributable to|caused by|a result of|the result of) (?P<why>[^;:]{4,220})$"
        ),
        "explains",
    ),
    (re.compile(r"^(?P<main>[A-Z][^,;:]{2,90}?) (?P<helper>is|are) (?:usually |often |mainly |primarily |typically )?caused by (?P<why>[^;:]{4,160})$"), "causes"),
)  # fmt: skip


def explanations(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Yield "why" and "explain" where a sentence states the reason: because, so that, in order to, due to."""
    for chunk in material.chunks:
        for sentence in section(chunk).sentences:
            found = reason_in(sentence, material.text_of(chunk.document_id), rng)
            if found is None:
                continue
            ask, answer = found
            shown = material.among((chunk,), ask, [answer, sentence], rng)
            prompt = grounded_prompt(ask, passages(shown))
            said = (*prompt, Message(role="assistant", content=f"{answer} {mark(chunk, shown)}"))
            yield Draft("explanation", ask, answer, said, (Quote(chunk, sentence),), shown, chunk)


def reason_in(sentence: str, text: str, rng: random.Random) -> tuple[str, str] | None:
    """Return a question for the reason that a sentence states, and the reason.

    >>> reason_in("The door is locked because the store holds gas.", "", random.Random(1))
    ('Why is the door locked?', 'because the store holds gas')
    """
    body = sentence.rstrip(".!")
    if depends(sentence) or re.match(r"(?:We|You|I|If|When|While|Although|Because|Since|There)\b", body) or '"' in body:
        return None
    for pattern, kind in _REASONS:
        match = pattern.match(body)
        if not match or len(re.findall(r"\b(?:because|so that|in order to)\b", body)) > 1:
            continue
        main, why = match.group("main").strip(), match.group("why").strip()
        if _SENDS_ON.match(main) or _GOES_ON.search(why) or _UNNAMED.match(main):
            return None
        if re.search(r"\b(?:partly|mainly|only|simply|just|merely|solely|perhaps|not|but|either|is|are|and|or|largely|primarily|often|probably|in part|possibly|especially|particularly)$", main):  # fmt: skip
            return None
        if kind == "explains":
            return f"What explains {lower_first(main)}?", why
        if kind == "causes":
            return f"What {match.group('helper')} {uncapital(main, text)} caused by?", why
        clause = parse(main)
        asked = None
        if clause is not None and is_safe(clause):
            asked = question("Why", clause._replace(subject=uncapital(clause.subject, text)), clause.rest)
        told = f"Explain why {uncapital(main, text)}."
        return rng.choice([asked, asked, told]) if asked else told, why
    return None
