"""What an evolved question must keep of the one it was made from, and what it must add: rules before any judge.

That its answer stands in a quote of the passage is checked before, as for any pair (checks.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fieldwise.generate.pairs import Pair
from fieldwise.generate.wording import other_language, refuses
from fieldwise.records import Chunk
from fieldwise.support import content_stems, is_negated, unsupported, words_in

SameMeaning = Callable[[str, str], bool]
"""Whether two questions are near each other in meaning, as an embedding has it."""
_KEPT_SHARE = 0.5
_FIRST = re.compile(r"(?:^|(?<=[.?!] ))[^\W\d_]")
_WORDS = re.compile(r"[^\W_]+")
_LIMIT = re.compile(r"\b(?:in|with|using) (?:at most|no more than|up to|fewer than) (\d+) words\b|\bin (?:one|a single) sentence\b", re.I)  # fmt: skip
_WHAT = r"\b(?:what|which)(?: (?:is|are|was|were))?(?: (?:the|an?))?(?: \w+)?"
_ASKED: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern.replace("{W}", _WHAT), re.I))
    for name, pattern in (
        ("how long", r"\bhow long\b|\b(?:length|period|amount) of time\b|\bfor what (?:time|period|duration)\b|{W} (?:duration|period)\b"),
        ("how soon", r"\bhow (?:soon|quickly|fast)\b|\bwithin (?:what|which|how)\b|{W} (?:deadline|time limit|time frame)\b|\bby when\b"),
        ("how often", r"\bhow (?:often|frequently|many times)\b|{W} (?:frequency|intervals?)\b"),
        ("how much", r"\bhow (?:many|much|large|big|high|old|far|tall|heavy)\b|{W} (?:number|amount|quantity|price|cost|share|percentage|size|age|distance|total)\b"),
        ("why", r"\bwhy\b|{W} (?:reasons?|cause|purpose)\b|\bhow come\b"),
        ("where", r"\bwhere\b|{W} (?:place|location|room|site|address)\b"),
        ("when", r"\bwhen\b|{W} (?:time|day|date|month|year|hours?)\b"),
        ("who", r"\bwho(?:m|se)?\b|{W} (?:person|people|role|team|member of staff|department|name|job)\b"),
        ("how", r"\bhow\b|\bin (?:what|which) (?:way|manner)\b|\bby what means\b"),
    )
)  # fmt: skip
"""What is asked for, the narrowest first; the rest asks what or which."""
_FITS = {
    frozenset(pair)
    for pair in (
        ("how soon", "when"),
        ("how soon", "how long"),
        ("how much", "what"),
        ("who", "what"),
        ("how", "what"),
        ("how much", "how often"),
    )
}
_SIDES = {
    "before": r"before|prior to|ahead of|in advance of", "after": r"after|following|once|upon|since",
    "until": r"until|till|up to", "from": r"from|out of", "to": r"to|into", "above": r"above|over|more than|exceeds?|exceeding|greater than|at least",
    "below": r"below|under|less than|fewer than|at most", "without": r"without", "between": r"between", "if": r"if|when|in case|whenever|where",
}  # fmt: skip
_DIRECTED = tuple(
    (name, re.compile(rf"\b(?:{words}) (?:(?:the|an?|your|our|their|his|her|its|each|every|any|\w+ing) )*([^\W_]{{3,}})", re.I))
    for name, words in _SIDES.items()
    if name not in ("if", "from", "to")
)  # fmt: skip
_TOWARDS = tuple(
    (name, re.compile(rf"\b(?:{_SIDES[name]}) (?:the|an?|your|our|their|his|her|its|each|every|any) ([^\W_]{{3,}})", re.I))
    for name in ("from", "to")
)  # fmt: skip


def paraphrase_fault(pair: Pair, asked: str, *, is_near: SameMeaning | None = None) -> str | None:
    """Return what a paraphrase of a pair's question loses, or None: words, figures, names, negation, what is asked for.

    A question that shares less than half of its words of meaning must be near in meaning by `is_near`.
    """
    if _same_words(pair.question, asked):
        return "question_repeated"
    if is_negated(pair.question) != is_negated(asked):
        return "negation_changed"
    if lost := unsupported(_begun(asked), pair.question) or unsupported(_begun(pair.question), asked):
        return {"negation_differs": "negation_changed"}.get(lost, lost.replace("_not_in_evidence", "_changed"))
    if _directions(pair.question) != _directions(asked):
        return "meaning_changed"
    before, now = asked_for(pair.question), asked_for(asked)
    if before != now and frozenset((before, now)) not in _FITS:
        return "asks_for_something_else"
    kept, wanted = content_stems(asked), _meaning(pair.question)
    if wanted and len(wanted & kept) < _KEPT_SHARE * len(wanted) and (is_near is None or not is_near(pair.question, asked)):  # fmt: skip
        return "meaning_not_shown_to_be_kept"
    return None


def evolution_fault(evolution: str, parent: Pair, made: Pair, chunk: Chunk) -> str | None:
    """Return why a question is no such evolution of its parent, or None."""
    if _same_words(parent.question, made.question):
        return "question_repeated"
    if fault := _own_fault(made, chunk):
        return fault
    told = f"{chunk.label}\n{chunk.text}\n{parent.question}"
    without_limit = _LIMIT.sub("", made.question)
    if invented := unsupported(_begun(without_limit), told):
        return invented.replace("_not_in_evidence", "_not_in_passage") if "negation" not in invented else None
    return _ADDS[evolution](parent, made, chunk)


def _own_fault(made: Pair, chunk: Chunk) -> str | None:
    if (found := _LIMIT.search(made.question)) and len(made.answer.split()) > int(found.group(1) or 40):
        return "limit_not_kept"
    if refuses(made.question):
        return "refusal"
    return "language_differs" if other_language(made.question, chunk.text) else None


# ---------------------------------------------------------------- what each must add


def _constrain(parent: Pair, made: Pair, chunk: Chunk) -> str | None:
    """The same question under one more condition."""
    if _LIMIT.search(made.question):
        return None if _keeps_most(parent.question, made.question) else "not_the_same_question"
    added = content_stems(made.question) - content_stems(parent.question)
    if not _keeps_most(parent.question, made.question):
        return "not_the_same_question"
    return None if added else "nothing_added"


def _deepen(parent: Pair, made: Pair, chunk: Chunk) -> str | None:
    """More of the same matter: another answer, about things the parent speaks of."""
    if made.answer.casefold() == parent.answer.casefold():
        return "no_deeper"
    told = content_stems(f"{parent.question} {parent.answer}")
    return None if content_stems(f"{made.question} {made.quote}") & told else "another_matter"


def _concretise(parent: Pair, made: Pair, chunk: Chunk) -> str | None:
    """A case in place of the general: words of the passage that the parent does not use."""
    added = content_stems(made.question) - content_stems(parent.question)
    return None if added & content_stems(f"{chunk.label}\n{chunk.text}") else "no_more_concrete"


_REASONED = re.compile(r"\b(?:because|so that|in order|therefore|since|as a result|due to|if|when|unless|before|after|than|except|only|while|whereas|although)\b", re.I)  # fmt: skip


def _reason(parent: Pair, made: Pair, chunk: Chunk) -> str | None:
    """A question that one word of one sentence does not answer: a ground, a condition, or a second sentence."""
    if made.answer.casefold() == parent.answer.casefold() and _same_stems(parent.question, made.question):
        return "nothing_to_reason"
    if _REASONED.search(made.quote):
        return None
    elsewhere = content_stems(chunk.text.replace(made.quote, " ")) - content_stems(made.quote)
    return None if content_stems(made.question) & elsewhere else "nothing_to_reason"


def _broaden(parent: Pair, made: Pair, chunk: Chunk) -> str | None:
    """Another matter of the same passage."""
    if words_in(made.quote, parent.quote) or words_in(parent.quote, made.quote):
        return "no_broader"
    return "no_broader" if _same_stems(parent.question, made.question) else None


_ADDS: dict[str, Callable[[Pair, Pair, Chunk], str | None]] = {
    "constrain": _constrain,
    "deepen": _deepen,
    "concretise": _concretise,
    "reason": _reason,
    "broaden": _broaden,
}


# ---------------------------------------------------------------- parts


def asked_for(question: str) -> str:
    """Return what a question asks for.

    >>> asked_for("Within what time must it be signed?"), asked_for("What is the dose?"), asked_for("Why is that?")
    ('how soon', 'what', 'why')
    """
    head = " ".join(question.split(", ")[-1].split()[:9]) if question[:1].isupper() else question
    return next((name for name, pattern in _ASKED if pattern.search(head)), "what")


_QUESTION_WORDS = content_stems("place time reason frequency length period name person way number meaning means known known called")  # fmt: skip


def _meaning(question: str) -> set[str]:
    return content_stems(question) - _QUESTION_WORDS


def _directions(question: str) -> set[tuple[str, str]]:
    """What stands before, after, above or below what: a turn of these turns the meaning."""
    return {
        (name, next(iter(content_stems(found)), found.casefold()))
        for name, pattern in (*_DIRECTED, *_TOWARDS)
        for found in pattern.findall(question)
    }


def _keeps_most(parent: str, made: str) -> bool:
    wanted = _meaning(parent)
    return len(wanted & content_stems(made)) >= _KEPT_SHARE * len(wanted)


def _same_words(first: str, second: str) -> bool:
    return _WORDS.findall(first.casefold()) == _WORDS.findall(second.casefold())


def _same_stems(first: str, second: str) -> bool:
    a, b = _meaning(first), _meaning(second)
    return len(a & b) >= 0.8 * len(a | b)


def _begun(question: str) -> str:
    """A question with the first letter of each sentence small: that it is large makes no name of it."""
    return _FIRST.sub(lambda m: m.group().lower(), question)
