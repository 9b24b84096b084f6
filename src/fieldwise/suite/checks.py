"""What a reply can be checked for. A check is a function in this file and a line in CHECKS.

None means "could not be judged"; it is counted apart and never as 0. The names that promptfoo knows mean what they mean
there: `equals`, `contains`, `regex` look at the reply as it is; ours even out what does not change an answer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError

from fieldwise.errors import DatasetError
from fieldwise.evaluate.metrics import exact_match, normalise, token_f1
from fieldwise.extras import require
from fieldwise.prompts import without_marks
from fieldwise.records import Answer, Question
from fieldwise.suite.items import Check, Item, Reply
from fieldwise.suite.leaks import reveals
from fieldwise.suite.refusals import declines
from fieldwise.suite.tool_match import MOST_CALLS, ExpectedCall, match_calls, parameters_of, same_value

MOST_ANSWER_WORDS = 60
"""A longer reply does not pass `answer`: whoever repeats the passages says every answer."""
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d)[,\u202f\u00a0](?=\d{3}(?!\d))")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_MOST_STARTS = 50
NOT = "not_"


@dataclass(frozen=True)
class Finding:
    """Whether a check holds (1, 0, or None: could not be judged), why not, and figures of its parts."""

    value: float | None
    why: str = ""
    parts: dict[str, float] = field(default_factory=dict)


def spoken(reply: Reply) -> str:
    """Return what a reply says to its reader: without what a model thinks to itself, and blanks around."""
    return _THOUGHTS.sub("", reply.text).strip()


# ---------------------------------------------------------------- answers


def answer(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if a known answer stands in the reply, words evened out, and the reply has at most 60 words.

    Parts: exact match and token F1 of the reply without citation marks. Known "14 days": "It is kept for 14 days [1]."
    holds it, "114 days" does not.
    """
    del item
    said, known = without_marks(spoken(reply)), _texts(value)
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
    declined = not reply.tool_calls and declines(spoken(reply))
    return Finding(float(declined), "" if declined else "it does not decline")


def must_not_contain(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if none of the words stands in the reply or in the arguments of its calls, in whatever case, spaced, reversed or encoded."""
    del item
    called = " ".join(json.dumps(c.arguments, ensure_ascii=False) for c in reply.tool_calls)
    for words in _texts(value):
        if form := reveals(f"{spoken(reply)} {called}", words):
            return Finding(0.0, f"{words!r} stands in it" + ("" if form == "as it is" else f", {form}"))
    return Finding(1.0)


# ---------------------------------------------------------------- words, as promptfoo means them


def equals(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply is this text, blanks around it aside."""
    del item
    is_same = spoken(reply) == str(value).strip()
    return Finding(float(is_same), "" if is_same else f"it is not {str(value)!r}")


def _word_check(needs: Callable[[Sequence[bool]], bool], *, folds: bool) -> Callable[[Reply, JsonValue, Item], Finding]:
    def check(reply: Reply, value: JsonValue, item: Item) -> Finding:
        del item
        said = spoken(reply).casefold() if folds else spoken(reply)
        words = _texts(value)
        there = [(word.casefold() if folds else word) in said for word in words]
        if needs(there):
            return Finding(1.0)
        return Finding(0.0, f"without {', '.join(repr(w) for w, is_in in zip(words, there, strict=True) if not is_in)}")

    return check


def starts_with(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply begins with this text."""
    del item
    begins = spoken(reply).startswith(str(value))
    return Finding(float(begins), "" if begins else f"it does not begin with {str(value)!r}")


def regex(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the pattern is found in the reply."""
    del item
    found = re.search(str(value), spoken(reply)) is not None
    return Finding(float(found), "" if found else f"{str(value)!r} does not match")


# ---------------------------------------------------------------- JSON


def json_valid(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply is one JSON value and nothing else. Part: whether one can be taken out of a fence or prose."""
    del value, item
    whole, taken = _parsed(spoken(reply)), _taken_out(spoken(reply))
    return Finding(
        float(whole is not None), "" if whole else "it is not JSON alone", {"repaired": float(taken is not None)}
    )


def contains_json(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if a JSON object or list stands somewhere in the reply."""
    del value, item
    taken = _taken_out(spoken(reply))
    return Finding(float(taken is not None), "" if taken else "no JSON stands in it")


def schema_valid(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the reply is JSON alone and fits the schema. Parts: whether it parses, and whether it fits once taken out of prose."""
    del item
    whole, taken = _parsed(spoken(reply)), _taken_out(spoken(reply))
    parts = {"parses": float(whole is not None), "repaired": 0.0}
    if taken is not None:
        fault = _schema_fault(taken.value, value)
        if fault is None:
            return Finding(None, "the schema names a place in itself that is not there", parts)
        parts["repaired"] = float(not fault)
        if whole is not None:
            return Finding(float(not fault), fault, parts)
    return Finding(0.0, "it is not JSON alone", parts)


def json_equals(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the JSON of the reply, also out of a fence or prose, says this: texts evened out, no key more or less.

    Part: the share of the wanted keys with the right value.
    """
    del item
    taken = _taken_out(spoken(reply))
    if taken is None:
        return Finding(0.0, "no JSON stands in it", {"fields": 0.0})
    said = taken.value
    if not isinstance(value, dict):
        return Finding(float(same_value(said, value)), "", {})
    given = said if isinstance(said, dict) else {}
    wrong = [k for k in value if k not in given or not same_value(given[k], value[k])]
    extra = sorted(given.keys() - value.keys())
    share = 1 - len(wrong) / len(value) if value else 1.0
    why = f"wrong: {', '.join(wrong)}" if wrong else f"too much: {', '.join(extra)}" if extra else ""
    return Finding(float(not wrong and not extra and isinstance(said, dict)), why, {"fields": share})


class _Parsed(NamedTuple):
    value: Any


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _parsed(text: str) -> _Parsed | None:
    try:
        return _Parsed(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return None


def _taken_out(text: str) -> _Parsed | None:
    """The JSON of a reply: the whole of it, else that in a fence, else the first object or list in it."""
    if (whole := _parsed(text)) is not None:
        return whole
    for fence in _FENCE.findall(text):
        if (fenced := _parsed(fence)) is not None:
            return fenced
    decoder = json.JSONDecoder(parse_constant=_refuse)
    for match in [m for m in re.finditer(r"[{\[]", text) if not re.match(r"\[\d\]", text[m.start() :])][:_MOST_STARTS]:
        try:
            return _Parsed(decoder.raw_decode(text, match.start())[0])
        except (ValueError, RecursionError):
            continue
    return None


def _schema_fault(said: Any, schema: JsonValue) -> str | None:
    """What does not fit; empty if all does; None if the schema itself cannot be followed."""
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    referencing = require("referencing", extra="eval", to="check JSON against a schema")
    # an empty registry: a schema that points elsewhere must not make this fetch it
    validator = _validator(schema)(schema, registry=referencing.Registry())
    try:
        error = jsonschema.exceptions.best_match(validator.iter_errors(said))
    except (referencing.exceptions.Unresolvable, RecursionError):
        return None
    return "" if error is None else f"{error.json_path}: {error.message[:120]}"


def _validator(schema: JsonValue) -> Any:
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    return jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)


# ---------------------------------------------------------------- tools


def tool_call(reply: Reply, value: JsonValue, item: Item) -> Finding:
    """1 if the calls of the reply are those expected, in any order; without expected calls, if it makes none.

    Parts: number of calls, names, required arguments, types, allowed values, no argument that was not asked for.
    """
    match = match_calls(reply.tool_calls, _EXPECTED.validate_python(value), item.tools)
    parts = {k: float(v) for k, v in match._asdict().items() if k != "why"}
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


Fault = tuple[str, str] | None


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


def _schema_fault_at_reading(value: JsonValue, item: Item) -> Fault:
    del item
    jsonschema = require("jsonschema", extra="eval", to="check JSON against a schema")
    if not isinstance(value, dict):
        return "expected a JSON schema", "Give an object such as {type: object, required: [...]}."
    try:
        _validator(value).check_schema(value)
    except jsonschema.exceptions.SchemaError as error:
        return f"not a JSON schema: {error.message[:120]}", "See json-schema.org."
    if outside := _outside(value):
        return f"points to {outside}, and nothing is fetched", "Put what it points to under $defs."
    return None


def _outside(schema: JsonValue) -> str | None:
    if isinstance(schema, list):
        return next((found for part in schema if (found := _outside(part))), None)
    if not isinstance(schema, dict):
        return None
    pointer = schema.get("$ref")
    if isinstance(pointer, str) and not pointer.startswith("#"):
        return pointer
    return next((found for part in schema.values() if (found := _outside(part))), None)


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
    "schema": _schema_fault_at_reading,
    "value": _value_fault,
    "calls": _calls_fault,
}
