"""What a reply is rewarded for by rules: the right answer, its citation, claims that stand, declining, JSON that fits.

Every reward is between 0 and 1, or None where it does not apply to the prompt; then it is left out of the weighted sum,
never counted as 0. A reward is a function in this file and a line in RULES.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fieldwise.claims import claims
from fieldwise.extras import require
from fieldwise.prompts import cited_numbers, is_declined, without_marks
from fieldwise.records import Answer, Chunk, Conversation, Example, RetrievedPassage
from fieldwise.support import content_stems

_LISTED = "Passages:\n"
_NEXT_PASSAGE = re.compile(r"\n\n(?=\[\d+\] )")
_SCHEMA = re.compile(r"\n\nSchema:\n(.*)\n\nQuestion: ", re.S)


@dataclass(frozen=True)
class Case:
    """A prompt with what is known of its right reply."""

    id: str
    prompt: Conversation
    known: str

    @classmethod
    def of(cls, example: Example) -> Case:
        """Read a case off a training example: its last message is the right reply."""
        return cls(example.id, example.conversation[:-1], example.conversation[-1].content)

    @property
    def should_decline(self) -> bool:
        """Tell whether the passages, or the documents, do not say."""
        return is_declined(self.known)

    @cached_property
    def marks(self) -> frozenset[int]:
        """The numbers of the passages that the right reply cites."""
        return frozenset(cited_numbers(self.known))

    @cached_property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema that the prompt asks for, or None."""
        found = _SCHEMA.search(self.prompt[-1].content)
        if found is None:
            return None
        try:
            value = json.loads(found.group(1))
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    @cached_property
    def passages(self) -> tuple[RetrievedPassage, ...]:
        """The passages the prompt shows, in their order."""
        shown = next((m.content for m in self.prompt if m.role == "user" and m.content.startswith(_LISTED)), None)
        if shown is None:
            return ()
        listed = re.split(r"\n\nSchema:\n|\n\nQuestion: ", shown.removeprefix(_LISTED))[0]
        texts = [text.partition("] ")[2] for text in _NEXT_PASSAGE.split(listed)]
        return tuple(_passage(n, text) for n, text in enumerate(texts))


def _passage(number: int, text: str) -> RetrievedPassage:
    return RetrievedPassage(
        chunk=Chunk(id=str(number), document_id="", uri="", title="", start=0, end=len(text), text=text), score=0.0
    )


Rule = Callable[[Case, str], float | None]


def answer(case: Case, reply: str) -> float | None:
    """F1 of the words that carry meaning against those of the right reply; where it declines, the rule `declines` speaks.

    >>> case = Case("", (), "within 14 days [2]")
    >>> answer(case, "14 days [2]"), answer(case, "It is paid within 14 days.")
    (1.0, 0.8)
    """
    if case.should_decline:
        return None
    wanted, said = content_stems(without_marks(case.known)), content_stems(without_marks(reply))
    if not wanted:
        return float(without_marks(reply).casefold() == without_marks(case.known).casefold())
    shared = len(wanted & said)
    return 2 * shared / (len(wanted) + len(said))


def citation(case: Case, reply: str) -> float | None:
    """F1 of the passages cited against those the right reply cites; applies where that cites any."""
    if case.should_decline or not case.marks:
        return None
    cited = set(cited_numbers(reply))
    return 2 * len(cited & case.marks) / (len(cited) + len(case.marks))


def grounded(case: Case, reply: str) -> float | None:
    """Share of the claims that stand in the passages they cite; a reply that declines claims nothing."""
    if not case.passages or case.should_decline or case.schema is not None or _declines(reply):
        return None
    found = list(
        claims(Answer(text=reply, answer=without_marks(reply), model="", passages=case.passages, is_declined=False))
    )
    return sum(not claim.problem for claim in found) / len(found) if found else 0.0


def declines(case: Case, reply: str) -> float | None:
    """1 for declining where the right reply does, and for not declining where it does not; else 0."""
    return None if case.schema is not None else float(_declines(reply) == case.should_decline)


def fits_schema(case: Case, reply: str) -> float | None:
    """1 for JSON that fits the schema in the prompt and nothing around it, else 0; applies where there is a schema."""
    if case.schema is None:
        return None
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    try:
        value = json.loads(reply)
        return float(jsonschema.Draft202012Validator(case.schema).is_valid(value))
    except (ValueError, RecursionError):
        return 0.0


def _declines(reply: str) -> bool:
    return bool(reply.strip()) and is_declined(reply)  # silence is no word about the documents


RULES: dict[str, Rule] = {
    "answer": answer,
    "citation": citation,
    "grounded": grounded,
    "declines": declines,
    "json": fits_schema,
}


def total(scores: Mapping[str, float | None], weights: Mapping[str, float]) -> float | None:
    """Weighted sum of the rewards that apply; None if none does.

    >>> total({"answer": 0.5, "json": None, "declines": 1.0}, {"answer": 2.0, "json": 1.0, "declines": 0.5})
    1.5
    """
    found = [weights[name] * score for name, score in scores.items() if score is not None and math.isfinite(score)]
    return sum(found) if found else None


def by_rules(case: Case, reply: str, weights: Mapping[str, float]) -> dict[str, float | None]:
    """Every reward of the recipe that is a rule, for one reply."""
    return {name: RULES[name](case, reply) for name in weights if name in RULES}


def usable(cases: Sequence[Case], weights: Mapping[str, float]) -> list[Case]:
    """The cases to which a reward applies, judged by their right reply."""
    if "reward_model" in weights:
        return list(cases)
    return [case for case in cases if total(by_rules(case, case.known, weights), weights) is not None]
