"""The teacher that needs no model: questions read off the shape of sentences, lists and tables.

Every answer is a span of the sentence that is quoted as its evidence. A rule that is not sure stays silent:
fewer questions are better than wrong ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fieldwise.generate.doubts import ENDS_OPEN, LINES, doubt, is_vague
from fieldwise.generate.english import Clause, lower_first, parse, question, sentences, upper_first
from fieldwise.generate.figure_tables import from_figures, is_figure_table
from fieldwise.generate.general import generality, with_subject
from fieldwise.generate.pairs import Pair
from fieldwise.generate.people import is_person
from fieldwise.generate.wider import wide_pairs
from fieldwise.records import Chunk

_NUMBER = r"(?:\d[\d,.]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|sixty|ninety)"
_UNIT = r"(?:working |business |calendar )?(?:seconds?|minutes?|hours?|days?|nights?|weeks?|months?|years?|shifts?)"
_SPAN = rf"(?:about |at least |at most |up to |no more than |less than |more than )?{_NUMBER}(?: to {_NUMBER})? {_UNIT}"
_CLOCK = r"\d{1,2}[:.]\d{2}(?: (?:to|and|until) \d{1,2}[:.]\d{2})?"
_KEPT = r"(?:kept|stored|placed|located|found|held|left|hung|displayed|parked|locked|posted|filed|put|collected|returned|sent|taken)"


# ---------------------------------------------------------------- sentences


def _definition(text: str, rng: random.Random) -> Iterator[Pair]:
    match = re.match(
        r"^(An? |The )?([\w'\"-]+(?: [\w'\"-]+){0,5}?) (means|stands for|is called|refers to|says) (?:that )?(.{3,140})$",
        text,
    )
    if not match or (
        match.group(2).split()[0] in ("If", "When", "Once", "Unless", "Where", "As")
        or (
            match.group(1) is None
            and match.group(2).split()[0].casefold() in ("it", "this", "that", "which", "he", "she", "they")
        )
    ):
        return
    subject, verb, meaning = (match.group(1) or "") + match.group(2), match.group(3), match.group(4)
    base = {"means": "mean", "stands for": "stand for", "is called": "called", "refers to": "refer to", "says": "say"}[
        verb
    ]
    form = (
        f"What is {lower_first(subject)} called?"
        if verb == "is called"
        else rng.choice(
            (f"What does {lower_first(subject)} {base}?", f"What is meant by {lower_first(subject)}?")
            if verb == "means"
            else (f"What does {lower_first(subject)} {base}?",)
        )
    )
    yield Pair(form, meaning, "definition", text)


def _condition(text: str, rng: random.Random) -> Iterator[Pair]:
    match = re.match(
        r"^(If|When|Once|Unless|Before|After|Until|Where) ([^,]{6,110}), (?!who\b|which\b|and\b|or\b)(.{8,170})$", text
    )
    if match and match.group(2).casefold().startswith("in doubt"):
        return
    if match:
        word, clause, main, is_behind = match.group(1).lower(), match.group(2), match.group(3), False
    else:
        match = re.match(r"^([A-Z][^,]{8,120}?),? (if|when|unless|once) ([^,]{6,100})$", text)
        if not match:
            return
        main, word, clause = match.group(1), match.group(2), match.group(3)
        is_behind = True
    if (
        re.match(r"(?:it|they|this|that|he|she|there)\b", clause, re.I)
        or ";" in clause
        or main.startswith(("who ", "which "))
    ):
        return
    acts = _ACTS.match(main)
    if acts:
        form = rng.choice((f"What should be done {word} {clause}?", f"What do you do {word} {clause}?"))
    elif _IS_TOLD.match(main):
        form = f"What should be done {word} {clause}?"
    else:
        form = rng.choice((f"What happens {word} {clause}?", f"What applies {word} {clause}?"))
    if not is_behind or acts or word == "unless":
        yield Pair(form, main, "condition", text)
    elif not match.group(1).endswith(","):
        yield from _converse(text, main, word, clause)


_ACTS = re.compile(
    r"^(?:do not |never |always |try to )?(?:ring|call|tell|ask|send|close|move|mark|fill|use|take|put|wait|go|leave|press|write|report|stop|keep|lock|check|return|give|bring|stay|hand|follow|start|open|record|look|dial|phone|inform|remove|wear|sign|place|turn|pull|push|"
    r"see|contact|talk|seek|avoid|consider|discuss|get|let|(?:try|work) to|make sure|be sure)\b(?!-)",
    re.I,
)
_IS_TOLD = re.compile(r"^(?!this|these|it\b)(?:(?!may|might|can|could|will|which|who)[\w'-]+ ){1,5}?(?:should|must|need to|needs to) (?!be able|be careful|also|not|see|feel|have|notice|then|find|help|work|improve|do things|beware|always)[a-z]", re.I)  # fmt: skip


def _converse(text: str, main: str, word: str, clause: str) -> Iterator[Pair]:
    """A condition behind its main clause tells when that holds, rather than what holds then."""
    only = " only" if main.endswith(" only") else ""
    main = main.removesuffix(only)
    stated = None if _NOT_PLAIN.search(main) or ENDS_OPEN.search(main) else parse(main)
    if stated is not None and not is_vague(lower_first(stated.subject), person_counts=False):
        form = question("In which case" if word == "if" else "When", stated, stated.rest)
        yield Pair(form, f"{only} {word} {clause}".strip(), "condition", text)


_NOT_PLAIN = re.compile(
    r"[;:]|\b(?:so that|that|which|who|when|if|because|before|after|until|while|where|whether|including|even|especially|particularly|or|and|than|to see|to find out|to know|to tell)\b$|"
    r"\b(?:so that|that|which|who|when|if|because|before|after|until|while|whether|than)\b"
)


def _reason(text: str, rng: random.Random) -> Iterator[Pair]:
    match = re.match(r"^([A-Z].{10,120}?),? because (?!of\b)(.{8,120})$", text)
    if not match or re.match(r"(?:it|they|this|that|he|she)\b", match.group(1), re.I):
        return
    clause = parse(match.group(1))
    yield Pair(
        question("Why", clause, clause.rest) if clause else f"Why is it that {lower_first(match.group(1))}?",
        match.group(2),
        "reason",
        text,
    )


_WITHIN = re.compile(r"\b(?:who|which|that|if|when|because)\b")
"""An adjunct behind these belongs to their clause."""


def _adjuncts(text: str, clause: Clause, rng: random.Random) -> Iterator[Pair]:
    """How long, how soon, how often, when, where: the adjunct is taken out and asked for."""
    rest = clause.rest
    shapes: tuple[tuple[str, str, tuple[str, ...], int], ...] = (
        (rf"\bwithin ({_SPAN})(?= (?:of|from|after) |[,.;]|$)", "deadline", ("How soon", "Within what time"), 1),
        (rf"\bfor ({_SPAN})(?=[,.;]| after\b| before\b| and\b|$)", "duration", ("How long", "For how long"), 1),
        (
            rf"\b(every (?:{_NUMBER} {_UNIT}|{_UNIT.replace('s?', '')}|morning|evening|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)|once an? \w+|twice an? \w+|{_NUMBER} times an? \w+|daily|weekly|monthly)(?=[,.;]| by\b| and\b|$)",
            "frequency",
            ("How often",),
            1,
        ),
        (rf"\bat ({_CLOCK})(?=[,.;]| and\b| on\b|$)", "time", ("At what time", "When"), 1),
        (rf"\bfrom ({_CLOCK})(?=[,.;]|$)", "time", ("From when", "During which hours"), 1),
        (rf"\b({_SPAN} (?:before|after|ahead of) [^,.;]{{4,50}})$", "time", ("When",), 1),
    )
    for pattern, kind, words, group in shapes:
        found = re.search(pattern, rest)
        if not found or re.search(pattern, rest[found.end() :]) or _WITHIN.search(rest[: found.start()]):
            continue
        after = (
            re.match(r" (?:of|from|after) ((?:the |a |an )?[\w -]{3,40})(?=[,.;]|$)", rest[found.end() :])
            if kind == "deadline"
            else None
        )
        word = f"How soon after {after.group(1)}" if after else rng.choice(words)
        without = (rest[: found.start()] + rest[found.end() + (after.end() if after else 0) :]).strip(" ,;")
        if without and not re.search(r"[,;:]", without):
            yield Pair(question(word, clause, without), found.group(group), kind, text)
    place = re.match(
        rf"^(?:be )?({_KEPT}) ((?:in|on|at|beside|under|behind|near|next to|above|below|inside|to) [^,.;]{{3,70}})",
        rest,
    )
    if place and clause.helper in ("is", "are", "must", "should", "was", "were"):
        yield Pair(
            question("Where", clause, ("be " if rest.startswith("be ") else "") + place.group(1)),
            place.group(2),
            "place",
            text,
        )


def _agent(text: str, clause: Clause, rng: random.Random) -> Iterator[Pair]:
    match = re.match(
        r"^(?:be )?(\w+(?:ed|en|wn|pt|ld|de|nt|ught|ead|ut)) by ((?:the |an? |two |[A-Z])[^,.;]{2,60})$", clause.rest
    )
    if match and clause.helper in ("is", "are", "must", "should", "may", "can", "was", "were"):
        agent = match.group(2)
        if not re.search(r"\d|\b(?:hand|post|phone|lift|stairs|e-mail|then|(?:next|following) \w+)\b", agent):
            done = ("be " if clause.rest.startswith("be ") else "") + match.group(1)
            named = re.split(r" (?:to|who|which|that|called) ", agent)[0]
            is_cause = match.group(1) in _CAUSED or not (is_person(named) or re.match(r"(?:the )?[A-Z]", agent))
            yield Pair(
                f"{question('What', clause, done)[:-1]} by?" if is_cause else question("By whom", clause, done),
                agent,
                "cause" if is_cause else "agent",
                text,
            )


_CAUSED = frozenset(
    "caused triggered followed characterized characterised marked affected determined influenced driven offset destroyed measured "
    "produced replaced covered controlled explained defined reduced increased diagnosed treated prevented".split()
)


def _predicate(text: str, clause: Clause, rng: random.Random) -> Iterator[Pair]:
    """What someone must do; who must do it; what something does."""
    rest, subject = clause.rest, clause.subject
    if re.match(r"(?:not|also|be|have|never|only|always|no)\b", rest):
        return
    if clause.helper in ("must", "should", "shall", "may", "can", "will") and 3 <= len(rest.split()) <= 22:
        yield Pair(f"What {clause.helper} {lower_first(subject)} do?", rest, "duty", text)
        yield Pair(f"{'Who' if is_person(subject) else 'What'} {clause.helper} {rest}?", subject, "subject", text)
    if clause.helper in ("does", "do"):
        verb, _, object_ = rest.partition(" ")
        if (
            re.match(r"(?:an?|the|two|three|four|five|six|its|their|\d+|[a-z]+ (?:gloves|aprons|forms))\b", object_)
            and 2 <= len(object_.split()) <= 16
            and not re.search(r",|;| and \w+s\b|^the same|(?:second|minute|hour|day|week)s?\b", object_)
        ):
            yield Pair(f"What {clause.helper} {lower_first(subject)} {verb}?", object_, "object", text)
        if is_person(subject) and len(rest.split()) <= 16 and clause.helper == "does":
            third = text[len(subject) + 1 :]
            yield Pair(f"Who {third}?", subject, "subject", text)
    if (
        clause.helper in ("is", "are")
        and re.match(r"(?:an?|the|one|two|three)\b", rest)
        and 2 <= len(rest.split()) <= 18
    ):
        if _SUPERLATIVE.match(rest):
            yield from _superlative(text, clause)
        else:
            yield Pair(f"What {clause.helper} {lower_first(subject)}?", rest, "definition", text)
    found = re.fullmatch(
        rf"((?:between )?{_NUMBER}(?: (?:to|and|per cent|percent|%|degrees|metres|kg|ml|mg|litres|°C|euros|pounds) ?(?:{_NUMBER})?[\w° ]{{0,12}}| [\w°%]+)?)",
        rest,
    )
    if found and clause.helper in ("is", "are") and len(rest.split()) <= 6:
        yield Pair(f"What {clause.helper} {lower_first(subject)}?", rest, "figure", text)


_SUPERLATIVE = re.compile(
    r"the (?:(?:second|third|single) )?(?:(?:most|least) [\w-]+|leading|main|major|primary|principal|best|worst|\w+est|only) (?!(?:form|type|kind|sort|part|number|level|amount)s?\b)"
)


def _superlative(text: str, clause: Clause) -> Iterator[Pair]:
    """What comes first in its kind is no definition, but what it is first in can be asked for."""
    found = re.match(r"(the [\w'-]+(?: [\w'-]+)*?) (?:of|in|for|among|to|used|known) [\w' -]{3,60}$", clause.rest)
    if found and not re.search(r"\b(?:and|or|that|which|who|because|can|may)\b", clause.rest) and not is_vague(lower_first(clause.subject)):  # fmt: skip
        are = "are" if re.search(r"[^s]s$", found.group(1)) and clause.helper == "are" else "is"
        yield Pair(f"What {are} {clause.rest}?", clause.subject, "superlative", text)


_PARENTHESIS = re.compile(
    r"\b((?:the )?[A-Za-z][A-Za-z'-]+(?: [A-Za-z][A-Za-z'-]+){0,4}) \(((?:extension |ext\. |bleep |dial )?\d{2,5})\)"
)
_ROLE = re.compile(
    r"\b([A-Z][a-z]+ (?:[A-Z][\w'-]+ ?){1,2}), (?:the |our )?((?:[a-z]+ ){0,4}(?:officer|manager|pharmacist|lead|nurse|director|coordinator|consultant|registrar|chair|head|midwife|matron|secretary|librarian|engineer|physicist|chaplain|clerk|adviser|guardian|supervisor)(?: (?:of|for) [\w ]{3,30})?)(?=[,.;)]|$)"
)


def _names_and_numbers(text: str, rng: random.Random) -> Iterator[Pair]:
    for match in _PARENTHESIS.finditer(text):
        who = re.sub(
            r"^(?:ring|call|to|from|tell|ask|and|or|by|with|at|phone|through|contact)\s+",
            "",
            match.group(1),
            flags=re.I,
        )
        who = re.sub(r"^.*\b(?:ring|call|tell|ask|contact|phone|to|from|by|with)\s+", "", who)
        if len(who) > 3:
            article = "" if who.lower().startswith("the ") or who[:1].isupper() else "the "
            yield Pair(
                rng.choice((f"What is the number of {article}{who}?", f"Which number reaches {article}{who}?")),
                match.group(2),
                "contact",
                text,
            )
    for match in _ROLE.finditer(text):
        name, role = match.group(1).strip(), match.group(2).strip()
        yield Pair(f"Who is the {role}?", name, "person", text)
        yield Pair(f"What is the role of {name}?", role, "role", text)


_TAGGED = re.compile(
    rf"\b({_SPAN}|{_CLOCK}|{_NUMBER} (?:per cent|percent|%|°C|ml|mg|kg|metres|litres|units|pounds|euros)|form [A-Z]{{1,4}}-?\d+|[A-Z]{{2,4}}-\d+)(?![\w-])"
)


def _gap(text: str, rng: random.Random) -> Iterator[Pair]:
    """One figure or code of a sentence as a gap: the wording is the document's own."""
    found = [m for m in _TAGGED.finditer(text) if text.count(m.group(1)) == 1]
    if not found or len(text) > 160 or re.match(r"(?:it|they|this|that|he|she)\b", text, re.I):
        return
    match = rng.choice(found)
    yield Pair(f"Fill the gap: {text[: match.start()]}____{text[match.end() :]}", match.group(1), "gap", text)


def _statement(text: str) -> str | None:
    """Return a sentence without its full stop, or None for what is no statement."""
    body = text.rstrip(".!").strip()
    if not 12 <= len(body) <= 260 or body.endswith(("?", ":")) or body.startswith("*") or body.count('"') % 2:
        return None
    return body


def from_sentence(text: str, rng: random.Random) -> Iterator[Pair]:
    """Yield the pairs of one sentence."""
    body = _statement(text)
    if body is None:
        return
    makers: tuple[Callable[[str, random.Random], Iterator[Pair]], ...] = (
        _definition,
        _condition,
        _reason,
        _names_and_numbers,
    )
    for make in makers:
        yield from make(body, rng)
    if not re.match(r"(?:If|When|Once|Unless|Before|After|Until|Where|Because|Although|While)\b", body):
        clause = parse(body)
        if clause is not None:
            yield from _adjuncts(body, clause, rng)
            yield from _agent(body, clause, rng)
            yield from _predicate(body, clause, rng)
    yield from _gap(body, rng)


# ---------------------------------------------------------------- lines, lists and tables


def from_table(text: str, title: str, rng: random.Random) -> Iterator[Pair]:
    """Yield a pair for every cell beside the first column of a Markdown table."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.strip().startswith("|")
    ]
    if len(rows) < 3 or not all(set(cell) <= set(":- ") for cell in rows[1]):
        return
    header = rows[0]
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    if any(len(row) != len(header) for row in rows):
        return
    if is_figure_table([header, *rows[2:]]):
        yield from from_figures([header, *rows[2:]], [lines[0], *lines[2:]])
        return
    for row, line in zip(rows[2:], lines[2:], strict=True):
        if not row[0] or not re.search(r"[A-Za-z]", row[0]):
            continue
        for name, cell in list(zip(header, row, strict=True))[1:]:
            if cell and cell not in ("-", "–", "—", "n/a") and name:
                yield Pair(_table_question(row[0], name, header[0], rng), cell, "table", line)


def _table_question(row: str, column: str, first: str, rng: random.Random) -> str:
    asked = column.casefold()
    if asked in ("means", "meaning", "stands for"):
        return f"What does {row} mean?"
    subject = (
        f"the {row} {first.casefold()}"
        if len(first.split()) == 1
        and row[:1].isupper()
        and len(row.split()) < 4
        and rng.random() < 0.3
        and first.casefold() != "name"
        else row
    )
    if asked in ("where", "place", "location", "room", "kept in", "kept at"):
        return f"Where is {subject}?"
    if asked in ("who", "person", "contact", "name", "responsible", "owner"):
        return f"Who is the {'person' if asked == 'who' else asked} for {subject}?"
    if asked in ("when", "time", "hours"):
        return f"When is {subject}?"
    label = column if column.isupper() else column[:1].lower() + column[1:]
    return rng.choice(
        (
            f"What is the {label} of {subject}?",
            f"What is the {label} for {subject}?",
            f"Which {label} belongs to {subject}?",
        )
    )


_STEP_END = re.compile(r"(?:[,;.]|[,;] *(?:and then|and|or|then))+$")
_ITEM = re.compile(r"^(?:[-*•]|\d+[.)]|\([a-z0-9]+\)) +(.+)$")


def from_lists(text: str, rng: random.Random) -> Iterator[Pair]:
    """Yield a pair for every list with a lead-in, and for every numbered step."""
    lines = text.splitlines()
    n = 0
    while n < len(lines):
        items: list[str] = []
        m = n + 1
        while m < len(lines) and (not lines[m].strip() or _ITEM.match(lines[m].strip())):
            if match := _ITEM.match(lines[m].strip()):
                items.append(match.group(1).strip())
            m += 1
        lead = lines[n].strip()
        if len(items) >= 2 and lead.endswith(":") and not _ITEM.match(lead):
            head = lead.rstrip(":").split(". ")[-1]
            numbered = bool(
                re.match(r"\d", lines[n + 1].strip() or (lines[n + 2].strip() if n + 2 < len(lines) else ""))
            )
            if numbered:
                condition = re.match(r"^(If|When|Before|After) (.{6,100})$", head)
                when = f"{condition.group(1).lower()} {condition.group(2)}" if condition else f'under "{head}"'
                for number, item in enumerate(items, 1):
                    yield Pair(f"What is step {number} {when}?", _STEP_END.sub("", item), "step", item)
            elif len("; ".join(items)) <= 160 and 3 <= len(head.split()) <= 16:
                yield Pair(
                    f'Name one thing that stands under "{upper_first(head)}".', items[0].rstrip(".;,"), "list", items[0]
                )
            n = m
            continue
        n += 1


# ---------------------------------------------------------------- a chunk


class Read(NamedTuple):
    """What the rules make of one chunk: pairs that pass the checks, without repeats, and the others with their check."""

    kept: list[Pair]
    left_out: list[tuple[Pair, str]]


def read_chunk(chunk: Chunk, rng: random.Random, *, wide: bool = False, named: bool = False) -> Read:
    """Return what the rules make of a chunk. Gaps are easy to make and narrow: they must not crowd out questions.

    `wide` asks further kinds; `named` puts the title before questions that do not speak of it.
    """
    kept: dict[str, Pair] = {}
    left_out: list[tuple[Pair, str]] = []
    for pair, fault in judged_pairs(chunk, rng, wide=wide):
        if fault is None:
            asked = with_subject(pair, chunk.title) if named else pair
            kept.setdefault(asked.question.casefold(), asked)
        else:
            left_out.append((pair, fault))
    gaps = [p for p in kept.values() if p.kind == "gap"]
    others = [p for p in kept.values() if p.kind != "gap"]
    return Read(others + gaps[: max(2, len(others) // 2)], left_out)


def pairs_of_chunk(chunk: Chunk, rng: random.Random, *, wide: bool = False, named: bool = False) -> list[Pair]:
    """Return the pairs of one chunk that pass the checks, without repeats."""
    return read_chunk(chunk, rng, wide=wide, named=named).kept


def judged_pairs(chunk: Chunk, rng: random.Random, *, wide: bool = False) -> Iterator[tuple[Pair, str | None]]:
    """Yield every pair that the rules make of a chunk, with the check that it fails, or None."""
    for pair in _written(chunk, rng, wide=wide):
        yield pair, problem(pair, chunk.text) or doubt(pair) or (None if pair.kind in LINES else generality(pair))


def _written(chunk: Chunk, rng: random.Random, *, wide: bool) -> list[Pair]:
    """Return what the rules make of one chunk, before any check."""
    made: list[Pair] = []
    if chunk.kind == "table" or "\n|" in chunk.text or chunk.text.startswith("|"):
        made += from_table(chunk.text, chunk.title, rng)
    made += from_lists(chunk.text, rng)
    for sentence in sentences(chunk.text):
        if not sentence.text.startswith(("|", "#")):
            item = _ITEM.match(sentence.text)
            made += from_sentence(item.group(1) if item else sentence.text, rng)
            if wide and (body := _statement(item.group(1) if item else sentence.text)):
                made += wide_pairs(body)
    return [Pair(re.sub(r"\s+", " ", p.question).strip(), p.answer.strip(" ,;"), p.kind, p.quote.strip()) for p in made]


def problem(pair: Pair, text: str) -> str | None:
    """Return why a pair must not be used, or None: the checks that stand before any judge."""
    asked, answer = pair.question.casefold(), pair.answer.casefold()
    if not pair.answer or len(pair.answer) > 200 or len(pair.answer.split()) > 30:
        return "answer_length"
    if not 4 <= len(pair.question.split()) <= 40:
        return "question_length"
    if pair.quote not in text:
        return "quote_not_in_chunk"
    if pair.answer not in pair.quote:
        return "answer_not_in_quote"
    if answer in asked:
        return "question_gives_answer_away"
    if pair.answer.count("(") != pair.answer.count(")") or pair.answer.count('"') % 2:
        return "answer_cut"
    if re.search(r"\b(?:it|they|this|he|she)\b", asked.split("____")[0]) and pair.kind not in (
        "gap",
        "condition",
        "step",
    ):
        return "question_unclear"
    return None
