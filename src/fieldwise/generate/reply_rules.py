"""What of a reply over passages is wrong, told by rules from a reply that is known to be right.

One table of rules for two uses: a rejected reply must break the one it was made to break, and replies of a model are
ranked by those they break.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from fieldwise.generate.alterations import is_opposite
from fieldwise.prompts import asked_of, cited_numbers, is_declined, without_marks
from fieldwise.records import Example
from fieldwise.support import content_stems, loses_negation, unsupported, words_in

Fault = Literal[
    "declines", "answers_unstated", "no_citation", "wrong_citation", "number", "date", "unit", "name", "negation",
    "other_words", "other_answer", "judged_wrong",
]  # fmt: skip

WEIGHTS: dict[Fault, float] = {
    "declines": 4, "answers_unstated": 4, "other_answer": 3, "number": 3, "date": 3, "unit": 3, "negation": 3, "name": 2,
    "wrong_citation": 2, "no_citation": 2, "other_words": 1, "judged_wrong": 3,
}  # fmt: skip
"""How bad a fault is: nothing or a wrong fact, a wrong source, other words for what may be right."""
IN_WORDS: dict[Fault, str] = {
    "declines": "declines although a passage answers",
    "answers_unstated": "answers what the passages do not say",
    "no_citation": "gives no citation",
    "wrong_citation": "cites the wrong passage",
    "number": "gives a number that its passage does not",
    "date": "gives a date that its passage does not",
    "unit": "gives a unit that its passage does not",
    "name": "gives a name that its passage does not",
    "negation": "turns a negation round",
    "other_words": "is not in the words of its passage",
    "other_answer": "gives another answer",
    "judged_wrong": "is wrong by the judge",
}
_OF_WORDS: frozenset[Fault] = frozenset({"other_words", "other_answer"})
"""Faults that the rules tell from the words alone, so that a judge who has read the passages overrules them."""
_FACTS: dict[str, Fault] = {
    "number_not_in_evidence": "number",
    "date_not_in_evidence": "date",
    "unit_not_in_evidence": "unit",
    "name_not_in_evidence": "name",
    "negation_differs": "negation",
}


class Known(NamedTuple):
    """A question over passages and the reply that is right; without a `place` no passage answers it."""

    question: str
    passages: tuple[str, ...]
    place: int | None
    """The number of the passage that answers, as its mark gives it."""
    answer: str

    @property
    def evidence(self) -> str:
        """The passage that answers, or nothing."""
        return "" if self.place is None else self.passages[self.place - 1]


def known_of(example: Example) -> Known | None:
    """Return what is known of an example over passages; None for any other, and where its own reply breaks a rule."""
    asked = asked_of(example.conversation[:-1])
    if asked is None or not asked[1] or example.conversation[-1].role != "assistant":
        return None
    reply = example.conversation[-1].content
    marks = cited_numbers(reply)
    if is_declined(reply):
        return Known(*asked, None, "")
    if len(marks) != 1 or not 1 <= marks[0] <= len(asked[1]):
        return None
    known = Known(*asked, marks[0], without_marks(reply))
    return None if faults(reply, known) else known


def faults(reply: str, known: Known) -> tuple[Fault, ...]:
    """Return the rules a reply breaks, none for a right one; what follows from a wrong fact is not told besides.

    >>> known = Known("How long?", ("The bag is red.", "The log is kept for 14 days."), 2, "14 days")
    >>> faults("14 days [2]", known), faults("14 days", known), faults("15 days [1]", known)
    ((), ('no_citation',), ('wrong_citation', 'number'))
    """
    if known.place is None:
        return () if is_declined(reply) else ("answers_unstated",)
    if is_declined(reply):
        return ("declines",)
    said, marks = without_marks(reply), cited_numbers(reply)
    holding = [n for n, passage in enumerate(known.passages, 1) if words_in(said, passage) is not None]
    found: list[Fault] = []
    if not marks:
        found.append("no_citation")
    elif any(n not in holding and n != known.place for n in marks):
        found.append("wrong_citation")
    cited = [known.passages[n - 1] for n in marks if n in holding]
    fact = _wrong_fact(said, cited[0] if cited else known.evidence, known)
    return (*found, *([fact] if fact else []))


def judged(found: tuple[Fault, ...], verdict: str | None) -> tuple[Fault, ...]:
    """Return the faults of a reply once a judge has seen it; "cannot tell" and no verdict leave the rules' word.

    A wrong fact stays wrong whatever the judge says.

    >>> judged(("other_words",), "right"), judged((), "wrong"), judged(("number",), "right")
    ((), ('judged_wrong',), ('number',))
    """
    if verdict == "right":
        return tuple(fault for fault in found if fault not in _OF_WORDS)
    known_wrong = any(WEIGHTS[fault] >= WEIGHTS["judged_wrong"] for fault in found)
    return (*found, "judged_wrong") if verdict == "wrong" and not known_wrong else found


def weight(found: tuple[Fault, ...]) -> float:
    """Return how bad some faults are together."""
    return sum(WEIGHTS[fault] for fault in found)


def _wrong_fact(said: str, passage: str, known: Known) -> Fault | None:
    if is_opposite(known.answer, said):
        return "negation"
    if rule := unsupported(said, passage):
        return _FACTS[rule]
    is_literal = words_in(said, passage) is not None
    if is_literal and loses_negation(known.question, said, passage):
        return "negation"
    if not _says(said, known.answer):
        return "other_answer"
    return None if is_literal else "other_words"


def _says(said: str, answer: str) -> bool:
    """Whether a reply holds the known answer and little more, or its figures and names and about its words (F1 of 0.5)."""
    if words_in(answer, said) is not None and len(said.split()) <= 3 * len(answer.split()) + 3:
        return True
    wanted, given = content_stems(answer), content_stems(said)
    return unsupported(answer, said) is None and 4 * len(wanted & given) >= len(wanted) + len(given) > 0
