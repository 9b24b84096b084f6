"""The same question in other words, by rules: for questions whose form is known, so that nothing is lost.

Each form is one that the rules teacher itself asks. A question of another form gets no paraphrase.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from fieldwise.generate.english import upper_first
from fieldwise.generate.pairs import Pair

_Form = tuple[re.Pattern[str], tuple[str, ...]]
_WHEN = r"(if|when|unless|once|before|after|until|where) ([^,?]{6,110})"
_BE = r"(is|are|was|were)"
_HELPER = r"(is|are|was|were|must|should|may|can|will|shall|does|do|did)"


def _form(pattern: str, *others: str) -> _Form:
    return re.compile(rf"^{pattern}\?$"), others


_FORMS: tuple[_Form, ...] = (
    _form(
        rf"What (?:should be done|do you do) {_WHEN}",
        r"\1 \2, what should be done?",
        r"What is to be done \1 \2?",
        r"\1 \2, what do you do?",
    ),
    _form(rf"What happens {_WHEN}", r"\1 \2, what happens?"),
    _form(rf"What applies {_WHEN}", r"\1 \2, what applies?"),
    _form(r"How soon after ([^?]+)", r"Within what time after \1?"),
    _form(rf"How soon {_HELPER} ([^?]+)", r"Within what time \1 \2?"),
    _form(rf"Within what time {_HELPER} ([^?]+)", r"How soon \1 \2?"),
    _form(rf"(?:For how|How) long {_HELPER} ([^?]+)", r"For what length of time \1 \2?", r"For how long \1 \2?"),
    _form(rf"How often {_HELPER} ([^?]+)", r"With what frequency \1 \2?"),
    _form(rf"(?:At what time|During which hours) {_HELPER} ([^?]+)", r"When \1 \2?"),
    _form(rf"Where {_HELPER} ([^?]+)", r"In which place \1 \2?"),
    _form(rf"Why {_HELPER} ([^?]+)", r"For what reason \1 \2?"),
    _form(rf"By whom {_HELPER} ([^?]+)", r"Who \1 \2 by?"),
    _form(r"What does ([^?]+) mean", r"What is meant by \1?", r"What is the meaning of \1?"),
    _form(r"What is meant by ([^?]+)", r"What is the meaning of \1?"),
    _form(r"What does ([^?]+) stand for", r"What is \1 short for?"),
    _form(r"Who is the ([^?]+)", r"What is the name of the \1?", r"Which person is the \1?"),
    _form(r"What is the role of ([^?]+)", r"Which role does \1 have?"),
    _form(r"What is the number of ([^?]+)", r"Which number reaches \1?"),
    _form(r"Which number reaches ([^?]+)", r"What is the number of \1?"),
    _form(r"What is step (\d+) ([^?]+)", r"What comes as step \1 \2?"),
    _form(rf"What else {_BE} ([^?]+) called", r"By what other name \1 \2 known?"),
    _form(r"What is ([^?]+) called", r"Under what name is \1 known?"),
    _form(rf"What {_BE} ([^?]+) used for", r"For what purpose \1 \2 used?", r"What use \1 \2 put to?"),
)
_TABLE_FORMS: tuple[_Form, ...] = (
    _form(r"What is the ([^?]+) of ([^?]+)", r"What is the \1 for \2?", r"Which \1 is given for \2?"),
    _form(r"What is the ([^?]+) for ([^?]+)", r"Which \1 is given for \2?"),
    _form(r"Which ([^?]+) belongs to ([^?]+)", r"What is the \1 for \2?", r"Which \1 is given for \2?"),
)
_LIMITS = (3, 5, 8, 12, 20, 30)


def paraphrases(pair: Pair, rng: random.Random) -> Iterator[str]:
    """Yield a pair's question in other words; nothing where its form is not known.

    >>> list(paraphrases(Pair("Why are windows shut?", "it is cold", "reason", "..."), random.Random(0)))
    ['For what reason are windows shut?']
    """
    if pair.kind == "gap":
        return
    made: list[str] = []
    for pattern, others in (*_FORMS, *(_TABLE_FORMS if pair.kind == "table" else ())):
        if found := pattern.match(pair.question):
            made += [upper_first(found.expand(other)) for other in others]
            break
    rng.shuffle(made)
    yield from (m for m in dict.fromkeys(made) if m != pair.question)


def constrained(pair: Pair, rng: random.Random) -> Iterator[str]:
    """Yield a pair's question with a limit on the words of its answer, which that answer keeps to."""
    words = len(pair.answer.split())
    if pair.kind != "gap" and pair.question.endswith("?") and words <= _LIMITS[-1]:
        limit = next(most for most in _LIMITS if words <= most)
        yield f"{pair.question} Answer in at most {limit} words."


BY_RULES: dict[str, Callable[[Pair, random.Random], Iterator[str]]] = {
    "paraphrase": paraphrases,
    "constrain": constrained,
}
"""What needs no model: the answer stays what it is."""
