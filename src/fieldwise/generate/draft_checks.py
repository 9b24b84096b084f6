"""What every draft must pass before it is an example: checks that hold for all kinds, and those of its own kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from fieldwise.extras import require
from fieldwise.generate.drafts import Draft, Material, passages, section
from fieldwise.generate.negatives import holds
from fieldwise.generate.tools import date_in_words
from fieldwise.generate.wording import refuses
from fieldwise.prompts import cited_numbers, is_declined, without_marks
from fieldwise.records import Message
from fieldwise.support import content_stems, may_answer, unsupported

_PRONOUN = re.compile(r"\b(?:it|its|they|them|their|he|she|his|her|this|that|these|those|there|one|ones|both|so)\b", re.I)  # fmt: skip
_MOST_WORDS = {"summary": 130, "instruction": 220, "extraction": 300, "tool_call": 120}
_MOST_SUMMARY = 0.75


def fault_of(draft: Draft, material: Material) -> str | None:
    """Return the rule a draft breaks, or None."""
    replies = [m for m in draft.conversation if m.role == "assistant"]
    answer = without_marks(draft.answer)
    if not answer.strip() or len(answer.split()) > _MOST_WORDS.get(draft.kind, 80):
        return "answer_length"
    if not 2 <= len(draft.question.split()) <= 120:
        return "question_length"
    if any(q.words not in q.chunk.text for q in draft.quotes):
        return "quote_not_in_chunk"
    if refuses(answer):
        return "refusal"
    sides = {material.side(q.chunk) for q in draft.quotes}
    if sides - {material.side(draft.home)}:
        return "evidence_on_two_sides"
    return _marks_fault(draft, replies) or _CHECKS[draft.kind](draft, replies)


def _marks_fault(draft: Draft, replies: Sequence[Message]) -> str | None:
    """A mark that points to no passage, or to one that none of the evidence stands in; or none at all."""
    cited = {n for reply in replies for n in cited_numbers(reply.content)}
    supporting = {n for n, c in enumerate(draft.shown, 1) for q in draft.quotes if q.chunk.id == c.id}
    if draft.kind in ("extraction", "tool_call") and not cited:
        return None
    return None if cited == supporting else "wrong_mark"


def _spoken(draft: Draft) -> str:
    return "\n".join(q.words for q in draft.quotes)


# ---------------------------------------------------------------- each kind


def _summary(draft: Draft, replies: Sequence[Message]) -> str | None:
    source = " ".join(c.text for c in draft.shown if any(q.chunk.id == c.id for q in draft.quotes))
    if len(draft.answer.split()) > _MOST_SUMMARY * len(source.split()):
        return "no_shorter_than_source"
    return unsupported(draft.answer, source) or _unfamiliar(draft.answer, source, 0.8)


def _instruction(draft: Draft, replies: Sequence[Message]) -> str | None:
    said = re.sub(r"^(?:\d+\.|-) ", "", draft.answer, flags=re.M)
    lines = said.splitlines()
    if len(set(lines)) < len(lines):
        return "line_repeated"
    return unsupported(said, _spoken(draft)) or _unfamiliar(said, _spoken(draft))


def _unfamiliar(said: str, source: str, share: float = 0.9) -> str | None:
    """Words of its own: a rule takes those of the source, a model must stay close to them."""
    stems = content_stems(said)
    return "not_in_words_of_source" if len(stems & content_stems(source)) < share * len(stems) else None


def _extraction(draft: Draft, replies: Sequence[Message]) -> str | None:
    try:
        value = json.loads(replies[-1].content)
    except json.JSONDecodeError:
        return "not_json"
    jsonschema = require("jsonschema", extra="eval", to="check extracted JSON")
    if not jsonschema.Draft202012Validator(draft.schema).is_valid(value):
        return "schema_not_met"
    leaves = list(_leaves(value))
    if all(leaf is None for leaf in leaves):
        return "nothing_extracted"
    spoken = _spoken(draft)
    return None if all(leaf is None or holds(spoken, str(leaf)) or str(leaf) in spoken for leaf in leaves) else "value_not_in_evidence"  # fmt: skip


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    return [leaf for inner in value for leaf in _leaves(inner)] if isinstance(value, list) else [value]


def _comparison(draft: Draft, replies: Sequence[Message]) -> str | None:
    parts = [part.partition(": ") for part in draft.answer.split("; ")]
    if len(parts) < 2 or any(not told.strip() for _, _, told in parts):
        return "nothing_to_compare"
    if len({told.casefold() for _, _, told in parts}) < 2:
        return "both_alike"
    if len({q.words for q in draft.quotes}) < 1 or not all(holds(_spoken(draft), told) or told in _spoken(draft) for _, _, told in parts if len(parts) == 2):  # fmt: skip
        return "answer_not_in_quote"
    return unsupported(draft.answer, _spoken(draft) + draft.question)


def _explanation(draft: Draft, replies: Sequence[Message]) -> str | None:
    if not holds(_spoken(draft), draft.answer):
        return unsupported(draft.answer, _spoken(draft)) or "answer_not_in_quote"
    stems = content_stems(draft.answer)
    if len(stems) < 2:
        return "reason_too_thin"
    if re.search(r"\b(?:it|they|this|that|these|those|he|she)\b", draft.question.removesuffix("?"), re.I):
        return "question_unclear"
    return "question_gives_answer_away" if stems <= content_stems(draft.question) else None


def _multi_turn(draft: Draft, replies: Sequence[Message]) -> str | None:
    asked = [m.content for m in draft.conversation if m.role == "user"]
    if len(asked) < 2 or len(asked) != len(replies):
        return "too_few_turns"
    follow_ups = asked[1:]
    if len({a.casefold() for a in follow_ups}) < len(follow_ups):
        return "question_repeated"
    if not any(a.startswith("And ") or _PRONOUN.search(a) for a in follow_ups):
        return "no_follow_up"
    spoken = _spoken(draft)
    for question, reply in zip([draft.question.split("\n")[0], *follow_ups], replies, strict=True):
        said = without_marks(reply.content)
        if is_declined(said):
            continue
        if not holds(spoken, said):
            return unsupported(said, spoken) or "answer_not_in_quote"
        if holds(question, said):
            return "question_gives_answer_away"
    said_all = [without_marks(r.content).casefold() for r in replies]
    return "answer_repeated" if len(set(said_all)) < len(said_all) else None


def _tool_call(draft: Draft, replies: Sequence[Message]) -> str | None:
    calls = replies[-1].tool_calls
    declared = {tool["function"]["name"]: tool["function"]["parameters"] for tool in draft.tools}  # type: ignore[index,call-overload]
    if not declared:
        return "no_tool_declared"
    for call in calls:
        if call.name not in declared:
            return "tool_not_declared"
        jsonschema = require("jsonschema", extra="eval", to="check the calls of tools")
        schema: Any = declared[call.name]
        if not jsonschema.Draft202012Validator(schema).is_valid(call.arguments):
            return "arguments_not_valid"
        if set(call.arguments) - set(schema.get("properties", {})):
            return "argument_not_declared"
    told = "\n".join([draft.question, *passages(draft.shown)])
    if not all(_is_given(leaf, told) for call in calls for leaf in _leaves(dict(call.arguments))):
        return "argument_not_given"
    if not calls and draft.shown and not is_declined(draft.answer) and not holds(_spoken(draft), draft.answer):
        return "answer_not_in_quote"
    return None


def _is_given(value: Any, told: str) -> bool:
    """Whether a request or its passages give a value, perhaps in other letters."""
    if isinstance(value, bool) or value is None:
        return True
    text = str(value)
    forms = (text, text.replace("_", " "), date_in_words(text) or text)
    return any(holds(told, form) or form.casefold() in told.casefold() for form in forms)


def _hard_negative(draft: Draft, replies: Sequence[Message]) -> str | None:
    others = [c for c in draft.shown if not any(q.chunk.id == c.id for q in draft.quotes)]
    if len(others) < 2:
        return "too_few_near_misses"
    if may_answer(draft.question, [c.text for c in others], 0.7):
        return "near_miss_may_answer"
    if is_declined(draft.answer):
        return None if not draft.quotes else "declines_though_answered"
    if any(holds(c.text, draft.answer) for c in others):
        return "near_miss_holds_answer"
    if not holds(_spoken(draft), draft.answer) or f'"{_spoken(draft)}"' not in replies[-1].content:
        return "answer_not_in_quote"
    asked = content_stems(draft.question)
    is_near = any(asked & content_stems(f"{c.title} {section(c).heading} {c.text}") for c in others)
    return None if is_near else "misses_not_near"


_CHECKS: dict[str, Callable[[Draft, Sequence[Message]], str | None]] = {
    "summary": _summary,
    "instruction": _instruction,
    "extraction": _extraction,
    "comparison": _comparison,
    "explanation": _explanation,
    "multi_turn": _multi_turn,
    "tool_call": _tool_call,
    "hard_negative": _hard_negative,
}
