"""Tasks on one section by rules: a summary in its sentences, its facts as JSON, its text as a list or as steps."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.generate.drafts import Draft, Material, Quote, about, mark, passages, section
from fieldwise.generate.english import base_form, upper_first
from fieldwise.generate.sections import Listing, Table, depends, is_value
from fieldwise.prompts import extraction_prompt, grounded_prompt
from fieldwise.records import Chunk, Conversation, Message
from fieldwise.support import content_stems, may_answer

_NUMBERS = {1: "one sentence", 2: "two sentences", 3: "three sentences"}


def _reply(prompt: Conversation, text: str) -> Conversation:
    return (*prompt, Message(role="assistant", content=text))


# ---------------------------------------------------------------- summary

_LEAST_SOURCE_WORDS = 45
_MOST_OF_SOURCE = 0.6


def summaries(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Yield a summary of each section that has enough whole sentences: its first one and the most central others."""
    for chunks in material.sections:
        kept = list(chunks)
        if any(c.kind == "table" or "\n|" in c.text for c in chunks) or not (section(chunks[0]).opens_whole or section(chunks[0]).listings):  # fmt: skip
            continue
        words = sum(len(c.text.split()) for c in kept)
        parts = _listed(kept) or _central(kept)
        if words < _LEAST_SOURCE_WORDS or not parts or sum(len(p.words.split()) for p in parts) > _MOST_OF_SOURCE * words:  # fmt: skip
            continue
        shown = tuple(dict.fromkeys(kept))
        if len(shown) == 1 and rng.random() < material.settings.grounded_share:
            shown = material.among(shown, about(shown[0]), [p.words for p in parts], rng, 1)
        told = _NUMBERS.get(sum(len(_ends(p.said)) for p in parts))
        if told is None or not _is_named(kept[0], shown):
            continue
        task = rng.choice(
            (
                f'Summarise "{about(kept[0])}" in {told}.',
                f'What does "{about(kept[0])}" say, in {told}?',
                f'Give the main points of "{about(kept[0])}" in {told}.',
            )
        )
        said = _cited([(p.said, p.chunk) for p in parts], shown)
        yield Draft(
            "summary",
            task,
            " ".join(p.said for p in parts),
            _reply(grounded_prompt(task, passages(shown)), said),
            tuple(Quote(p.chunk, q) for p in parts for q in p.quotes),
            shown,
            kept[0],
            style="task",
            hops=len({p.chunk.id for p in parts}),
        )


class _Part(NamedTuple):
    said: str
    quotes: tuple[str, ...]
    chunk: Chunk

    @property
    def words(self) -> str:
        return self.said


def _ends(text: str) -> list[str]:
    return re.findall(r"[.!][\"”')]*(?= |$)", text) or [""]


def _cited(parts: Sequence[tuple[str, Chunk]], shown: Sequence[Chunk]) -> str:
    """The parts, with the mark of their chunk behind the last one of each."""
    said = []
    for n, (text, chunk) in enumerate(parts):
        is_last = n + 1 == len(parts) or parts[n + 1][1].id != chunk.id
        said.append(f"{text} {mark(chunk, shown)}" if is_last else text)
    return " ".join(said)


def _is_named(chunk: Chunk, shown: Sequence[Chunk]) -> bool:
    """Whether the heading tells the section from the other passages: it stands in its own and in none of the others."""
    heading = section(chunk).heading
    texts = {c.id: text for c, text in zip(shown, passages(shown), strict=True)}
    same = [c for c in shown if c.document_id == chunk.document_id and c.heading_path == chunk.heading_path]
    known = {c.id for c in same}
    is_alone = len(shown) == len(same)
    return is_alone or (heading in texts[chunk.id] and not any(heading in text for i, text in texts.items() if i not in known))  # fmt: skip


def _central(chunks: Sequence[Chunk]) -> list[_Part]:
    """The lead sentence and those whose words recur most, in their order; none that leans on one left out."""
    found = [(chunk, s) for chunk in chunks for s in section(chunk).sentences]
    if len(found) < 4:
        return []
    stems = [content_stems(s) for _, s in found]
    counts = Counter(stem for one in stems for stem in one)
    usable = [
        n
        for n, (_, s) in enumerate(found)
        if not depends(s)
        and 8 <= len(s.split()) <= 40
        and stems[n]
        and _is_statement(s)
        and not _SENDS_ON.match(s)
        and not _ADDS.match(s)
        and not (n and _POINTS_BACK.search(s))
        and not (n + 1 < len(found) and _TURNS.match(found[n + 1][1]))
    ]
    if len(usable) < 2 or usable[0] > 0:
        return []
    wanted = 2 if len(found) < 7 else 3
    scores = {n: sum(counts[w] for w in stems[n]) / len(stems[n]) ** 0.5 for n in usable[1:]}
    chosen = [usable[0]]
    for n in sorted(scores, key=lambda n: (-scores[n], n)):
        if len(chosen) < wanted and all(len(stems[n] & stems[m]) < 0.6 * len(stems[n]) for m in chosen):
            chosen.append(n)
    return [_Part(found[n][1], (found[n][1],), found[n][0]) for n in sorted(chosen)] if len(chosen) > 1 else []


_POINTS_BACK = re.compile(r"\b(?:this|these|such)(?: types? of)? (?!conditions?\b|disorders?\b|diseases?\b|syndromes?\b|polic|sections?\b|documents?\b|agreements?\b|terms\b|programs?\b|services?\b|as\b|guides?\b|pages?\b|websites?\b)\w+", re.I)  # fmt: skip
_ADDS, _TURNS = re.compile(r"(?:[\w'’-]+ ){1,4}also\b"), re.compile(r"(?:However|But|Yet)\b")
"""What leans on the sentence before it, and what takes back some of it: neither goes without the other."""
_SENDS_ON = re.compile(r"(?:Find out|Learn|See|Read|Check|Call|Click|Visit|Watch|Check out|Download|Contact|Go to|Follow)\b|.*\b(?:(?:you (?:see|find)|listed|shown) there|available (?:from|at|on))\b", re.I)  # fmt: skip
"""What sends its reader elsewhere says nothing of the matter."""
_FINITE = re.compile(r"\b(?:is|are|was|were|has|have|had|must|may|might|can|cannot|could|will|would|should|shall|do|does|did|don't|doesn't)\b|n't\b")  # fmt: skip


def _is_statement(sentence: str) -> bool:
    """Whether a sentence has a verb for certain: headings and members of lists end in full stops too."""
    return bool(_FINITE.search(sentence) or _ACT.match(sentence) or any(base_form(w) for w in sentence.split()[1:]))


def _listed(chunks: Sequence[Chunk]) -> list[_Part]:
    """A section that is one list: its lead-in with the heads of its items."""
    if len(chunks) != 1 or len(section(chunks[0]).listings) != 1:
        return []
    listing = section(chunks[0]).listings[0]
    heads = [_head(item) for item in listing.items]
    whole = sum(len(item.split()) for item in listing.items)
    if not 3 <= len(heads) <= 8 or not all(heads) or sum(len(h.split()) for h in heads) > _MOST_OF_SOURCE * whole:
        return []
    if depends(listing.lead):
        return []
    said = f"{listing.lead}: {'; '.join(heads)}."
    return [_Part(said, (listing.lead, *heads), chunks[0])]


def _head(item: str) -> str:
    head = re.split(r"[.:;(]| [-–—] ", item, maxsplit=1)[0].strip()
    return head if 1 <= len(head.split()) <= 9 else ""


# ---------------------------------------------------------------- extraction

_COUNTED = re.compile(r"\b(?:count|number of|total|quantity|beds|hours|days|minutes|weeks|months|years|age|litres|price|amount)\b", re.I)  # fmt: skip
_MOST_ROWS, _MOST_COLUMNS = 5, 6
_OF_FIGURES = re.compile(r"\b(?:in (?:thousands|millions|billions)|thousands|millions|except|(?:years?|months|quarters?|period) ended|fiscal)\b|[$€£]", re.I)  # fmt: skip
"""The corner of a table that tells of its figures, and not what its rows are."""
_FACT_KINDS = frozenset(["duration", "deadline", "frequency", "time", "place", "figure", "person", "contact", "agent"])


class Extracted(NamedTuple):
    """A task of extraction: what, to which schema, with which result and evidence."""

    task: str
    schema: dict[str, JsonValue]
    value: JsonValue
    quotes: tuple[str, ...]


def extractions(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Yield the rows of tables, lines "label: value" and single facts of sentences as JSON."""
    labels = [f.label for c in material.chunks for f in section(c).facts]
    labels += [h for c in material.chunks for t in section(c).tables for h in t.header[1:] if not h.isdigit()]
    for chunk in material.chunks:
        for found in _extracted(chunk, material, rng):
            missing = rng.choice(labels) if labels and rng.random() < 0.4 else None
            whole = _with_missing(found, missing, chunk)
            yield extraction_draft(material, chunk, whole, rng)


def extraction_draft(material: Material, chunk: Chunk, found: Extracted, rng: random.Random) -> Draft:
    """Return the draft of an extraction; its passage stands among others where the heading tells it apart."""
    shown: tuple[Chunk, ...] = (chunk,)
    if rng.random() < material.settings.grounded_share:
        wider = material.among(shown, found.task, found.quotes, rng, 1)
        shown = wider if _is_named(chunk, wider) else shown
    said = json.dumps(found.value, ensure_ascii=False)
    prompt = extraction_prompt(found.task, passages(shown), json.dumps(found.schema, ensure_ascii=False))
    quotes = tuple(Quote(chunk, q) for q in found.quotes)
    return Draft("extraction", found.task, said, _reply(prompt, said), quotes, shown, chunk, style="task", schema=found.schema)  # fmt: skip


def _extracted(chunk: Chunk, material: Material, rng: random.Random) -> Iterator[Extracted]:
    parts = section(chunk)
    for table in parts.tables:
        if table.is_form:
            yield from _of_form(table, about(chunk))
        else:
            yield from _of_table(table, about(chunk), rng)
    if parts.facts:
        keys = {key_of(f.label): f for f in parts.facts}
        if len(keys) == len(parts.facts) <= 2 * _MOST_COLUMNS:
            schema = object_schema({k: (f.label, "string") for k, f in keys.items()})
            task = f'Extract the details under "{about(chunk)}".'
            yield Extracted(task, schema, {k: f.value for k, f in keys.items()}, tuple(f.line for f in parts.facts))
    pairs = [a.pair for a in material.asked_of.get(chunk.id, ()) if a.pair.kind in _FACT_KINDS]
    short = {_key_of_question(p.question): p for p in pairs if len(p.answer.split()) <= 10}
    if not parts.tables and not parts.facts and len({p.quote for p in short.values()}) >= 2:
        few = dict(list(short.items())[:_MOST_COLUMNS])
        schema = object_schema({k: (p.question, "string") for k, p in few.items()})
        task = f'Extract these facts from "{about(chunk)}".'
        quotes = tuple(dict.fromkeys(p.quote for p in few.values()))
        yield Extracted(task, schema, {k: p.answer for k, p in few.items()}, quotes)


def _of_form(table: Table, name: str) -> Iterator[Extracted]:
    """A table whose first column names fields."""
    told = {key_of(row[0]): (row, line) for row, line in zip(table.rows, table.lines, strict=True) if is_value(row[1])}
    if 2 <= len(told) <= 2 * _MOST_COLUMNS:
        schema = object_schema({k: (row[0].rstrip("*"), "string") for k, (row, _) in told.items()})
        task = f'Extract the details under "{name}".'
        yield Extracted(task, schema, {k: row[1] for k, (row, _) in told.items()}, tuple(line for _, line in told.values()))  # fmt: skip


def _of_table(table: Table, name: str, rng: random.Random) -> Iterator[Extracted]:
    is_by_year = all(label.isdigit() for label in table.header[1:])
    is_unit = is_by_year or not table.header[0] or _OF_FIGURES.search(table.header[0])
    header = ("item" if is_unit else table.header[0], *table.header[1:])
    keys = [key_of(h) for h in header]
    if len(set(keys)) < len(keys) or len(keys) > _MOST_COLUMNS:
        return
    is_counted = [
        bool(_COUNTED.search(h)) and all(re.fullmatch(r"[1-9]\d{0,5}|0", row[n]) for row in table.rows)
        for n, h in enumerate(header)
    ]
    columns = {k: (h, "integer" if c else "string") for k, h, c in zip(keys, header, is_counted, strict=True)}

    def value(row: tuple[str, ...]) -> dict[str, JsonValue]:
        cells = zip(keys, row, is_counted, strict=True)
        return {k: (int(cell) if c else cell if is_value(cell) else None) for k, cell, c in cells}

    full = [n for n, row in enumerate(table.rows) if sum(map(is_value, row[1:])) >= 1]
    if len(full) <= _MOST_ROWS and len(full) == len(table.rows) and len(full) * len(keys) <= 20:
        schema: dict[str, JsonValue] = {
            "type": "object",
            "properties": {"rows": {"type": "array", "items": object_schema(columns)}},
            "required": ["rows"],
            "additionalProperties": False,
        }
        task = f'Extract every row of the table under "{name}".'
        yield Extracted(task, schema, {"rows": [value(table.rows[n]) for n in full]}, tuple(table.lines[n] for n in full))  # fmt: skip
    for n in rng.sample(full, min(2, len(full))):
        task = f'Extract the row "{table.rows[n][0]}" of the table under "{name}".'
        yield Extracted(task, object_schema(columns), value(table.rows[n]), (table.lines[n],))


def _with_missing(found: Extracted, label: str | None, chunk: Chunk) -> Extracted:
    """The same with one property more that the passage says nothing about, whose value is null."""
    properties: Any = found.schema["properties"]
    if label is None or not isinstance(found.value, dict) or "rows" in properties:
        return found
    key = key_of(label)
    wanted = content_stems(label)
    if key in properties or not wanted or wanted & content_stems(chunk.text) or may_answer(label, [chunk.text], 0.3):
        return found
    wider = {**properties, key: {"type": ["string", "null"], "description": label}}
    schema = {**found.schema, "properties": wider, "required": list(wider)}
    return found._replace(schema=schema, value={**found.value, key: None})


def object_schema(columns: dict[str, tuple[str, str]]) -> dict[str, JsonValue]:
    """Return the schema of an object whose keys may be null; for each key what it means and its type."""
    return {
        "type": "object",
        "properties": {k: {"type": [kind, "null"], "description": told} for k, (told, kind) in columns.items()},
        "required": list(columns),
        "additionalProperties": False,
    }


def key_of(label: str) -> str:
    """Return a label as a key of JSON.

    >>> key_of("Start after leaving storage"), key_of("2019")
    ('start_after_leaving_storage', 'in_2019')
    """
    plain = "_".join(re.findall(r"[^\W_]+", label.casefold()))[:60]
    return f"in_{plain}" if plain[:1].isdigit() else plain or "item"


_ASKING = re.compile(r"^(?:How (?:long|soon|often)|For how long|Within what time|At what time|From when|During which hours|When|Where|By whom|Who|What|Which)\b( (?:is|are|was|were|does|do|must|should|shall|may|can|will)\b)?( (?:the|a|an|be)\b)?", re.I)  # fmt: skip


def _key_of_question(question: str) -> str:
    word = question.split()[0].casefold() if not question.startswith("How") else "_".join(question.split()[:2]).casefold()  # fmt: skip
    rest = [w for w in re.findall(r"[^\W_]+", _ASKING.sub("", question).casefold()) if w not in ("the", "a", "an", "be", "of", "to")]  # fmt: skip
    return key_of(" ".join([*rest[:5], word]))


# ---------------------------------------------------------------- instruction

_RULE_WORDS = ("must not", "may not", "must", "shall", "should", "required", "allowed", "risk")
_CASE = re.compile(
    r"^(If|When|Unless|Once|Before|After) ([^,;:]{4,110}), (?!who\b|which\b|and\b|or\b|\w+,? (?:or|and) )(.{6,200}?)\.$"
)
_ACT = re.compile(
    r"^(?:(?:First|Then|Next|Now|Finally|Afterwards|After that),? )?(?:(?:do not|never|always) )?"
    r"(?:add|allow|apply|ask|attach|avoid|bring|call|carry|change|check|choose|clean|click|close|collect|complete|confirm|contact|count|cover|create|cut|dial|discard|draw|empty|ensure|enter|fill|find|follow|gather|get|give|go|hand|hang|help|hold|identify|include|inform|keep|leave|let|lift|lock|look|make|mark|measure|move|note|open|phone|place|plug|pour|prepare|press|print|pull|push|put|read|record|remove|repeat|replace|report|return|review|ring|rinse|save|say|scan|select|send|set|show|sign|start|stay|stop|store|submit|switch|take|tell|throw|tick|try|turn|use|visit|wait|wash|wear|wipe|write)\b"
    r"(?! (?:is|are|was|were|has|have|had|may|can|must|will|of|and|or)\b)",
    re.I,
)
_LINK = re.compile(r"^(?:First|Then|Next|Now|Finally|Afterwards|After that),? ", re.I)
_MOST_ITEMS = 8


def instructions(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Yield what can be rewritten in a section's own words: steps, cases, requirements, a list as a sentence."""
    for chunk in material.chunks:
        parts = section(chunk)
        for listing in parts.listings:
            yield from _of_listing(chunk, listing, material, rng)
        whole = parts.sentences if parts.is_prose else ()
        steps = _steps(whole)
        if len(steps) >= 3:
            name = f'Write the instructions in "{about(chunk)}" as numbered steps.'
            lines = [upper_first(_LINK.sub("", s)) for s in steps]
            yield _rewritten(chunk, name, [f"{n}. {s}" for n, s in enumerate(lines, 1)], steps, material, rng)
            continue
        cases = [(s, m) for s in whole if (m := _CASE.match(s)) and not depends(m.group(2)) and not _leans(m.group(2))]
        if len(cases) >= 2:
            name = f'List the cases in "{about(chunk)}" and what applies in each.'
            lines = [f"- {m.group(1)} {m.group(2)}: {m.group(3)}" for _, m in cases]
            yield _rewritten(chunk, name, lines, [s for s, _ in cases], material, rng)
            continue
        for word in _RULE_WORDS:
            needs = [s for s in whole if re.search(rf"\b{word}\b", s, re.I)]
            if 2 <= len(needs) <= _MOST_ITEMS and len(needs) < len(whole) and not any(depends(s) for s in needs):
                name = f'List the sentences of "{about(chunk)}" that say "{word}", as bullet points.'
                yield _rewritten(chunk, name, [f"- {s}" for s in needs], needs, material, rng)
                break


def _leans(clause: str) -> bool:
    return bool(re.match(r"(?:it|they|this|that|these|those|he|she|so|not)\b", clause, re.I))


def _steps(whole: Sequence[str]) -> list[str]:
    """All instructions of a section, if they follow each other; a condition before one belongs to it."""
    acts = [bool(_ACT.match(s) or ((m := _CASE.match(s)) and _ACT.match(m.group(3)))) for s in whole]
    if not any(acts):
        return []
    first, last = acts.index(True), len(acts) - 1 - acts[::-1].index(True)
    run = list(whole[first : last + 1])
    return run if all(acts[first : last + 1]) and len(run) <= _MOST_ITEMS and not depends(_LINK.sub("", run[0])) else []


def _of_listing(chunk: Chunk, listing: Listing, material: Material, rng: random.Random) -> Iterator[Draft]:
    items = [item.rstrip(" .;,") for item in listing.items]
    if depends(listing.lead) or len(items) > _MOST_ITEMS or len(listing.lead.split()) < 2:
        return
    quotes = [listing.lead, *listing.items]
    if listing.is_numbered:
        task = f'List in order what stands under "{listing.lead}" in "{about(chunk)}", numbered.'
        yield _rewritten(chunk, task, [f"{n}. {item}" for n, item in enumerate(items, 1)], quotes, material, rng)
    elif _leads(listing.lead) and not any(re.search(r"[.;:!?]", i) for i in items) and sum(len(i.split()) for i in items) <= 50:  # fmt: skip
        last = re.sub(r"^(?:and|or) ", "", items[-1])
        ahead = [re.sub(r",? (?:and/or|and|or)$", "", item) for item in items[:-1]]
        word = "or" if re.search(r"(?<!/)\bor$", items[-2]) else "and"
        said = f"{listing.lead}: {'; '.join(ahead)}; {word} {last}"
        task = f'Write the list "{listing.lead}" of "{about(chunk)}" as one sentence.'
        yield _rewritten(chunk, task, [said], quotes, material, rng)


_VERB = re.compile(r"\b(?:includ(?:es?|ing)|needs?|like|such as|consists?|contains?|covers?|offers?|provides?|requires?|carries|keeps?|takes?|wants?|gives?|pays?|gets?|sends?|shows?|served?|uses?|qualif(?:y|ies)|choose|put|apply|file|means?|agrees?)\b")  # fmt: skip


def _leads(lead: str) -> bool:
    """Whether a lead-in and its items make a sentence that says of whom it is true: it has a verb, and more than "you have a"."""
    if re.fullmatch(r"(?:You|We|It|They) \w+(?: an?| the)?", lead):
        return False
    return bool(_FINITE.search(lead) or _ACT.match(lead) or _VERB.search(lead))


def _rewritten(
    chunk: Chunk, task: str, lines: Sequence[str], quotes: Sequence[str], material: Material, rng: random.Random
) -> Draft:
    shown: tuple[Chunk, ...] = (chunk,)
    if rng.random() < material.settings.grounded_share:
        wider = material.among(shown, task, list(quotes), rng, 1)
        shown = wider if _is_named(chunk, wider) else shown
    answer = "\n".join(lines)
    conversation = _reply(grounded_prompt(task, passages(shown)), f"{answer} {mark(chunk, shown)}")
    evidence = tuple(Quote(chunk, q) for q in quotes)
    return Draft("instruction", task, answer, conversation, evidence, shown, chunk, style="task")
