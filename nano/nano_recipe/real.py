"""Reading tasks over real text, made by rule: gaps, echo questions, definitions, duties, reasons, quotes.

The question shares words with the sentence that answers it, as most real questions do; the answer is a
span of that sentence. A question from another document is declined.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .tasks import NOT_STATED, Turn
from .world import Passage

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"])|\n+")
_NUMBER = re.compile(
    r"(?<![\w.,])(?:\$ ?)?\d[\d,]*(?:\.\d+)?(?:%| percent| million| billion)?(?: (?:days|hours|weeks|months|years|minutes|dollars|degrees|people|members|feet|miles|pounds))?(?![\w])"
)
_DATE = re.compile(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December)(?: \d{1,2},)? ?\d{0,4}\b"
)
_NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][a-z]+(?: (?:of|the|and|for) (?=[A-Z]))?(?: [A-Z][a-z]+)*)(?: [A-Z][a-z]+)*")
_PHRASE = re.compile(
    r"\b(?:the|a|an) ((?:[a-z]+ ){0,2}[a-z]{4,})(?= (?:of|in|for|to|is|are|was|were|and|by|that|which|on|with|from)\b|[.,;])"
)
_DEFINES = re.compile(
    r"^(?:An? |The )?([A-Z]?[\w' -]{3,48}?)(?:, also [\w ]+,)? (?:is|are|refers to|means|was|were) ((?:an?|the|any|one|when|where|those|that)\b .{12,160}?)[.;]$"
)
_DUTY = re.compile(
    r"^((?:The |An? |Each |Any |All )?[A-Z]?[\w' -]{3,50}?) (?:must|shall|should|are required to|is required to|may) (?!be\b|not\b|have\b)([a-z]+ .{10,120}?)[.;]$"
)
_PURPOSE = re.compile(
    r"^(.{15,110}?) (?:in order )?to ((?:ensure|help|reduce|prevent|avoid|provide|allow|protect|increase|support|make|keep|improve) .{8,90}?)[.;]$"
)
_REASON = re.compile(r"^(.{15,110}?),? because (.{10,110}?)[.;]$")

_GAPS = (
    "Fill the gap: {x}",
    "Complete the sentence: {x}",
    "What belongs in the gap? {x}",
    "{x}",
    "Find the missing words: {x}",
)
_DECLINE_HEADS = ("Fill the gap: {x}", "Complete the sentence: {x}")


def sentences(text: str) -> list[str]:
    """Split running text into sentences of a usable length."""
    found = (s.strip() for s in _SENTENCE.split(text))
    return [s for s in found if 30 <= len(s) <= 320 and s[-1] in '.;:!?"']


def windows(text: str, rng: random.Random, chars: int) -> str:
    """Cut a stretch of whole sentences of about the given length out of a document."""
    if len(text) <= chars:
        return text
    start = rng.randrange(len(text) - chars)
    stop = text.find(". ", start + chars)
    start = max(text.rfind("\n", 0, start), text.rfind(". ", 0, start) + 1, 0)
    return text[start : stop + 1 if 0 < stop < start + 2 * chars else start + chars].strip()


def _span(sentence: str, rng: random.Random) -> tuple[str, str] | None:
    """Pick a span worth asking for, with the question word that fits it."""
    found = [(m.group(0), "when") for m in _DATE.finditer(sentence)]
    found += [(m.group(0), "how much") for m in _NUMBER.finditer(sentence) if len(m.group(0)) > 1]
    found += [(m.group(0), "who or what") for m in _NAME.finditer(sentence) if len(m.group(0)) > 3]
    found += [(m.group(1), "what") for m in _PHRASE.finditer(sentence)][:2]
    found = [(s.strip(), w) for s, w in found if sentence.count(s.strip()) == 1 and 0.5 * len(sentence) > len(s)]
    return rng.choice(found) if found else None


def ask_gap(sentence: str, rng: random.Random) -> tuple[str, str] | None:
    """A sentence with a gap, as it stands or echoed with a question word; returns question and span."""
    picked = _span(sentence, rng)
    if picked is None:
        return None
    span, word = picked
    before, after = sentence.split(span, 1)
    if len(sentence) > 150 and rng.random() < 0.7:  # keep only the neighbourhood of the gap
        before = before[-70:].partition(" ")[2] if len(before) > 70 else before
        after = after[:60].rpartition(" ")[0] if len(after) > 60 else after
    style = rng.random()
    if style < 0.45:
        return rng.choice(_GAPS).replace("{x}", f"{before}____{after}"), span
    if style < 0.75:
        return f"{before}{word}{after}".rstrip(".;,: ") + "?", span
    tail = before.strip() if len(before) > len(after) else after.strip(" .;,")
    return f"{word.capitalize()}: {tail}?", span


def _lower_first(text: str) -> str:
    return text if re.match(r"[A-Z]{2}|I\b", text) else text[:1].lower() + text[1:]


def ask_rule(sentence: str, rng: random.Random) -> tuple[str, str] | None:
    """A question from the shape of the sentence: definition, duty, purpose or reason."""
    if match := _DEFINES.match(sentence):
        term, meaning = match.groups()
        form = rng.choice(
            (
                "What is {t}?",
                "Define {t}.",
                "What does {t} mean?",
                "What is meant by {t}?",
                "Explain the term {t}.",
                "How is {t} defined?",
            )
        )
        return form.replace("{t}", _lower_first(term.strip())), meaning
    if match := _DUTY.match(sentence):
        who, what = match.groups()
        form = rng.choice(
            ("What must {w} do?", "What does {w} have to do?", "What is required of {w}?", "Which duty does {w} have?")
        )
        return form.replace("{w}", _lower_first(who.strip())), what
    if match := _REASON.match(sentence):
        what, why = match.groups()
        form = rng.choice(("Why is it that {x}?", "What is the reason that {x}?", "{X} - why?", "For what reason {x}?"))
        return form.replace("{x}", _lower_first(what)).replace("{X}", what), why
    if match := _PURPOSE.match(sentence):
        what, goal = match.groups()
        form = rng.choice(("{X}. What for?", "For what purpose: {x}?", "What is the aim when {x}?"))
        return form.replace("{x}", _lower_first(what)).replace("{X}", what), goal
    return None


def ask(passages: Sequence[Passage], number: int, rng: random.Random, *, cite: bool) -> Turn | None:
    """One question over the real passage with this number (from 1)."""
    found = sentences(passages[number - 1].body)
    if not found:
        return None
    sentence = rng.choice(found)
    mark = f" [{number}]" if cite else ""
    if rng.random() < 0.12 and len(sentence) < 200:
        words = sentence.split()
        start = rng.randrange(max(1, len(words) - 4))
        hint = " ".join(words[start : start + rng.randint(3, 5)]).strip(".,;:")
        return Turn(
            rng.choice(
                ("Quote the sentence with: {h}", "Which sentence mentions {h}?", "Copy the sentence about {h}.")
            ).replace("{h}", hint),
            f'"{sentence}"{mark}',
            "real_quote",
        )
    asked = (ask_rule(sentence, rng) if rng.random() < 0.6 else None) or ask_gap(sentence, rng)
    if asked is None or sum(asked[1] in p.text for p in passages) > 1:
        return None
    return Turn(asked[0], asked[1] + mark, "real")


def ask_foreign(foreign: str, passages: Sequence[Passage], rng: random.Random) -> Turn | None:
    """A question that another document would answer."""
    found = sentences(foreign)
    if not found:
        return None
    asked = ask_rule(rng.choice(found), rng) or ask_gap(rng.choice(found), rng)
    if asked is None or any(asked[1] in p.text for p in passages):
        return None
    return Turn(asked[0], NOT_STATED, "real_absent")
