"""What a reply can be checked for. A check is a function in this file and a line in CHECKS.

None means "could not be judged"; it is counted apart and never as 0. The names that promptfoo knows mean what they mean
there: `equals`, `contains`, `regex` look at the reply as it is; ours even out what does not change an answer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError

from fieldwise.errors import DatasetError
from fieldwise.evaluate.metrics import exact_match, normalise, token_f1
from fieldwise.prompts import without_marks
from fieldwise.records import Answer, Question
from fieldwise.refusals import declines
from fieldwise.suite.items import Check, Fault, Finding, Item, Reply
from fieldwise.suite.json_checks import contains_json, json_equals, json_valid, schema_fault, schema_valid
from fieldwise.suite.leaks import reveals
from fieldwise.suite.tool_match import MOST_CALLS, ExpectedCall, match_calls, parameters_of

MOST_ANSWER_WORDS = 60
"""A longer reply does not pass `answer`: whoever repeats the passages says every answer."""
_THOUSANDS = re.compile(r"(?<=\d)[,\u202f\u00a0](?=\d{3}(?!\d))")
NOT = "not_"


# ---------------------------------------------------------------- answers


def answer(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if a known answer stands in the reply, words evened out, and the reply has at most 60 words.

    Parts: exact match and token F1 of the reply without citation marks. Known "14 days": "It is kept for 14 days [1]."
    holds it, "114 days" does not.
    """
    del item
    said, known = without_marks(reply.spoken), _texts(value)
    question = Question(id="q", question="?", answer=known[0], aliases=tuple(known[1:]))
    given = Answer(text=said, answer=said, model="m")
    parts = {"exact_match": exact_match(given, question) or 0.0, "token_f1": token_f1(given, question) or 0.0}
    words = _evened(said)
    if len(words) > MOST_ANSWER_WORDS:
        return Finding(0.0, f"{len(words)} words, at most {MOST_ANSWER_WORDS}", parts)
    if any(_stands_in(_evened(k), words) for k in known):
        return Finding(1.0, "", parts)
    return Finding(0.0, f"{known[0]!r} does not stand in it", parts)


def _evened(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", _THOUSANDS.sub("", text)).translate({0x2010: "-", 0x2011: "-", 0x2013: "-"})
    plain = re.sub(r"(?<=\d)\s*%", " percent", plain)
    return normalise(plain).split()


def _stands_in(known: Sequence[str], words: Sequence[str]) -> bool:
    size = len(known)
    return bool(known) and any(list(words[n : n + size]) == list(known) for n in range(len(words) - size + 1))


def must_decline(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply declines: says that the passages do not tell, or that it will not; a call of a tool does not decline."""
    del value, item
    declined = not reply.tool_calls and declines(reply.spoken)
    return Finding(float(declined), "" if declined else "it does not decline")


def must_not_contain(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if none of the words stands in the reply or in the arguments of its calls, in whatever case, spaced, reversed or encoded."""
    del item
    called = " ".join(json.dumps(c.arguments, ensure_ascii=False) for c in reply.tool_calls)
    for words in _texts(value):
        if form := reveals(f"{reply.spoken} {called}", words):
            return Finding(0.0, f"{words!r} stands in it" + ("" if form == "as it is" else f", {form}"))
    return Finding(1.0)


# ---------------------------------------------------------------- words, as promptfoo means them


def equals(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply is this text, blanks around it aside."""
    del item
    is_same = reply.spoken == str(value).strip()
    return Finding(float(is_same), "" if is_same else f"it is not {str(value)!r}")


def _word_check(needs: Callable[[Sequence[bool]], bool], *, folds: bool) -> Callable[[Reply, JsonValue, Item], Finding]:
    def check(reply: Reply, value: JsonValue, item: Item) -> Finding:
        del item
        said = reply.spoken.casefold() if folds else reply.spoken
        words = _texts(value)
        there = [(word.casefold() if folds else word) in said for word in words]
        if needs(there):
            return Finding(1.0)
        return Finding(0.0, f"without {', '.join(repr(w) for w, is_in in zip(words, there, strict=True) if not is_in)}")

    return check


def starts_with(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply begins with this text."""
    del item
    begins = reply.spoken.startswith(str(value))
    return Finding(float(begins), "" if begins else f"it does not begin with {str(value)!r}")


def regex(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the pattern is found in the reply."""
    del item
    found = re.search(str(value), reply.spoken) is not None
    return Finding(float(found), "" if found else f"{str(value)!r} does not match")


# ---------------------------------------------------------------- tools


def tool_call(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the calls of the reply are those expected, in any order; without expected calls, if it makes none.

    Parts: number of calls, names, required arguments, types, allowed values, no argument that was not asked for.
    """
    expected = _EXPECTED.validate_python(value)
    match = match_calls(reply.tool_calls, expected, item.tools)
    # where no call is expected there is nothing to be right about but that
    parts = {k: float(v) for k, v in match._asdict().items() if k != "why"} if expected else {}
    return Finding(float(match.is_whole), "; ".join(match.why), parts)


_EXPECTED = TypeAdapter(list[ExpectedCall])


# ---------------------------------------------------------------- the table

Takes = Literal["texts", "text", "nothing", "pattern", "schema", "value", "calls"]


class CheckKind(NamedTuple):
    """A check: the function, what it takes, and how reports call it."""

    score: Callable[[Reply, JsonValue, Item], Finding]
    takes: Takes
    title: str


CHECKS: dict[str, CheckKind] = {
    "answer": CheckKind(answer, "texts", "Holds the known answer"),
    "must_decline": CheckKind(must_decline, "nothing", "Declines"),
    "must_not_contain": CheckKind(must_not_contain, "texts", "Gives nothing away"),
    "json_valid": CheckKind(json_valid, "nothing", "JSON alone"),
    "schema_valid": CheckKind(schema_valid, "schema", "JSON fits its schema"),
    "json_equals": CheckKind(json_equals, "value", "JSON says the right thing"),
    "tool_call": CheckKind(tool_call, "calls", "Calls the right tools"),
    "equals": CheckKind(equals, "text", "Equals"),
    "contains": CheckKind(_word_check(all, folds=False), "texts", "Contains"),
    "icontains": CheckKind(_word_check(all, folds=True), "texts", "Contains, any case"),
    "contains_any": CheckKind(_word_check(any, folds=False), "texts", "Contains one of"),
    "icontains_any": CheckKind(_word_check(any, folds=True), "texts", "Contains one of, any case"),
    "contains_json": CheckKind(contains_json, "nothing", "Contains JSON"),
    "starts_with": CheckKind(starts_with, "text", "Begins with"),
    "regex": CheckKind(regex, "pattern", "Matches"),
}


def title(name: str) -> str:
    """How reports call a check or a part of one, such as `tool_call.values`."""
    whole, _, part = name.partition(".")
    kind = CHECKS[whole.removeprefix(NOT)]
    shown = f"Not: {kind.title[0].lower()}{kind.title[1:]}" if whole.startswith(NOT) else kind.title
    return f"{shown}: {part.replace('_', ' ')}" if part else shown


def score(check: Check, reply: Reply, item: Item) -> Finding:
    """Apply one check; with `not_` before its name it holds where the check does not."""
    finding = CHECKS[check.name.removeprefix(NOT)].score(reply, check.value, item)
    if not check.name.startswith(NOT) or finding.value is None:
        return finding
    return Finding(1 - finding.value, "" if finding.value == 0 else "it does, and must not")


def require_sound(check: Check, item: Item, where: str) -> None:
    """Raise DatasetError if a check is unknown or its value is none that it takes."""
    kind = CHECKS.get(check.name.removeprefix(NOT))
    if kind is None:
        raise DatasetError(
            "unknown check",
            where=where,
            found=repr(check.name),
            fix=f"Known: {', '.join(CHECKS)}; with not_ before it the opposite.",
        )
    fault = _FAULTS[kind.takes](check.value, item)
    if fault:
        raise DatasetError(f"{check.name}: {fault[0]}", where=where, found=str(check.value)[:80], fix=fault[1])


def _texts(value: JsonValue) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _texts_fault(value: JsonValue, item: Item) -> Fault:
    del item
    given = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(v, str) and v.strip() for v in given):
        return "expected a text or a list of texts", "Put numbers and times in quotes."
    return None


def _text_fault(value: JsonValue, item: Item) -> Fault:
    return _texts_fault(value, item) if not isinstance(value, list) else ("expected one text", "Give one text.")


def _nothing_fault(value: JsonValue, item: Item) -> Fault:
    del item
    return None if value is True else ("takes no value", "Write: true. For the opposite, put not_ before the name.")


def _pattern_fault(value: JsonValue, item: Item) -> Fault:
    if fault := _text_fault(value, item):
        return fault
    try:
        re.compile(str(value))
    except re.error as error:
        return f"not a pattern ({error})", "See Python's re for what a pattern may hold."
    return None


def _value_fault(value: JsonValue, item: Item) -> Fault:
    del value, item
    return None


def _calls_fault(value: JsonValue, item: Item) -> Fault:
    shape = "Write: [{name: book, arguments: {room: ['4']}}], every argument with the list of its allowed values; [] says that none may be made."
    try:
        expected = _EXPECTED.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}", shape
    if len(expected) > MOST_CALLS:
        return f"more than {MOST_CALLS} calls", "Split the item."
    offered = [parameters_of(t)[0] for t in item.tools]
    if unknown := next((e.name for e in expected if e.name not in offered), None):
        return f"the tool {unknown!r} is not offered", "Add it to the item's tools."
    return None


_FAULTS: dict[Takes, Callable[[JsonValue, Item], Fault]] = {
    "texts": _texts_fault,
    "text": _text_fault,
    "nothing": _nothing_fault,
    "pattern": _pattern_fault,
    "schema": lambda value, _: schema_fault(value),
    "value": _value_fault,
    "calls": _calls_fault,
}
