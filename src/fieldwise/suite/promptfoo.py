"""Read a promptfoo configuration: prompts, tests and the assertions that need no other program and no judge.

https://www.promptfoo.dev/docs/configuration/expected-outputs/. A test with an assertion that cannot be judged here is
left out and listed: judged by the rest of its assertions alone it could seem to pass.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.files import read_jsonl
from fieldwise.suite.items import Item, Skipped, Suite
from fieldwise.suite.reading import Shelf, finished, make_item
from fieldwise.suite.yaml_text import load_yaml

_SAME = {
    "equals": "equals",
    "contains": "contains",
    "icontains": "icontains",
    "contains-all": "contains",
    "icontains-all": "icontains",
    "contains-any": "contains_any",
    "icontains-any": "icontains_any",
    "starts-with": "starts_with",
    "regex": "regex",
    "is-json": "json_valid",
    "contains-json": "contains_json",
    "is-refusal": "must_decline",
}
_PLACE = re.compile(r"\{\{-?\s*([A-Za-z_][\w.]*)\s*-?\}\}")
_PROGRAM = re.compile(r"\{%|\{\{|\{#")
_MOST_ITEMS = 20_000


class _CannotBeJudged(Exception):
    """Why a test is left out."""


def is_promptfoo(value: dict[str, Any]) -> bool:
    """Tell whether a mapping is a promptfoo configuration: it has tests, and its prompts stand apart from them."""
    return "tests" in value and "items" not in value


def read_promptfoo(value: dict[str, Any], path: Path) -> Suite:
    """Make an item of every prompt with every test; providers and what belongs to them are not looked at."""
    prompts = _prompts(value.get("prompts"), path)
    default = value.get("defaultTest")
    default = default if isinstance(default, dict) else {}
    items: list[Item] = []
    skipped: list[Skipped] = []
    numbers: Counter[str] = Counter()
    for number, test in enumerate(_tests(value.get("tests"), path), 1):
        name = str(test.get("description") or f"test {number}")
        rows = _expanded({**_dict(default.get("vars")), **_dict(test.get("vars"))}, path)
        for (label, prompt), variables in product(prompts, rows):
            shown = name + (f" / {label}" if len(prompts) > 1 else "")
            numbers[shown] += 1
            identifier = shown if numbers[shown] == 1 else f"{shown} ({numbers[shown]})"
            try:
                asserts = [*_list(default.get("assert")), *_list(test.get("assert"))]
                checks = _checks(asserts, {**default, **test}, variables, path)
                asked = _conversation(prompt, variables)
            except _CannotBeJudged as reason:
                skipped.append(Skipped(id=identifier, reason=str(reason)))
                continue
            row: dict[str, Any] = {"id": identifier, "checks": checks, **asked}
            row["kind"] = str(_dict(test.get("metadata")).get("kind") or "")
            items.append(make_item(row, Shelf({}, {}), identifier, f"{path}: {identifier}"))
            if len(items) > _MOST_ITEMS:
                raise DatasetError(
                    "the lists of vars multiply",
                    where=path,
                    found=f"more than {_MOST_ITEMS} items",
                    fix="Shorten the lists.",
                )
    about = str(value.get("description") or "")
    return finished(Suite(name=path.stem, about=about, items=tuple(items), skipped=tuple(skipped)), path)


# ---------------------------------------------------------------- prompts and tests


def _prompts(value: Any, path: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for number, one in enumerate(_list(value), 1):
        label = f"prompt {number}"
        if isinstance(one, dict):
            label, one = str(one.get("label") or one.get("id") or label), one.get("raw") or one.get("id")
        if not isinstance(one, str):
            raise DatasetError("expected a text", where=f"{path}: prompts", found=str(one)[:80])
        found.append((label, _beside(one, path).read_text(encoding="utf-8") if one.startswith("file://") else one))
    if not found:
        raise DatasetError("no prompts", where=path, fix="Give a list under prompts, such as ['{{question}}'].")
    return found


def _tests(value: Any, path: Path) -> Iterator[dict[str, Any]]:
    for one in _list(value):
        if isinstance(one, dict):
            yield one
            continue
        if not isinstance(one, str):
            raise DatasetError("expected a test", where=f"{path}: tests", found=str(one)[:80])
        other = _beside(one, path)
        if other.suffix == ".jsonl":
            yield from read_jsonl(other)
        elif other.suffix in (".yaml", ".yml", ".json"):
            listed = load_yaml(other.read_text(encoding="utf-8"), other)
            yield from (t for t in _list(listed) if isinstance(t, dict))
        else:
            raise DatasetError(
                "tests of this kind are not read",
                where=f"{path}: tests",
                found=one,
                fix="Give them as YAML, JSON or JSON Lines.",
            )


def _beside(named: str, path: Path) -> Path:
    """A file that the configuration names; it may not lead out of the configuration's folder."""
    folder = path.parent.resolve()
    other = (folder / named.removeprefix("file://")).resolve()
    if not other.is_relative_to(folder) or not other.is_file():
        raise DatasetError(
            "the file is not there, or outside the folder of the configuration",
            where=path,
            found=named,
            fix="Put it beside the configuration.",
        )
    return other


def _expanded(variables: dict[str, Any], path: Path) -> list[dict[str, str]]:
    """Every combination of variables whose values are lists, as promptfoo does."""
    if named := next((k for k, v in variables.items() if isinstance(v, str) and v.startswith("file://")), None):
        variables[named] = _beside(variables[named], path).read_text(encoding="utf-8")
        return _expanded(variables, path)
    choices = [[_text(one) for one in v] if isinstance(v, list) else [_text(v)] for v in variables.values()]
    return [dict(zip(variables, chosen, strict=True)) for chosen in product(*choices)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _filled(template: str, variables: dict[str, str]) -> str:
    if unknown := next((m for m in _PLACE.findall(template) if m not in variables), None):
        raise _CannotBeJudged(f"the variable {unknown} has no value")
    if _PROGRAM.search(_PLACE.sub("", template)):
        raise _CannotBeJudged("its template holds more than variables")
    return _PLACE.sub(lambda m: variables[m.group(1)], template)


def _conversation(template: str, variables: dict[str, str]) -> dict[str, Any]:
    """A prompt that is a JSON or YAML list of messages is a conversation, as in promptfoo."""
    if template.lstrip().startswith(("[", "- role:")):
        try:
            value: Any = load_yaml(template, Path("prompt"))
        except DatasetError:
            value = None
        if isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value):
            # filled after it was read: quotes in a value would break the list
            return {"messages": [{**m, "content": _filled(str(m.get("content") or ""), variables)} for m in value]}
    return {"prompt": _filled(template, variables)}


# ---------------------------------------------------------------- assertions


def _checks(
    asserts: Sequence[Any], test: dict[str, Any], variables: dict[str, str], path: Path
) -> list[dict[str, JsonValue]]:
    if test.get("threshold") is not None:
        raise _CannotBeJudged("it weighs its assertions against a threshold")
    if "transform" in _dict(test.get("options")):
        raise _CannotBeJudged("it transforms the reply")
    checks = [check for one in asserts for check in _check(one, variables, path)]
    if not checks:
        raise _CannotBeJudged("it asserts nothing")
    return checks


def _check(one: Any, variables: dict[str, str], path: Path) -> list[dict[str, JsonValue]]:
    if not isinstance(one, dict) or not isinstance(one.get("type"), str):
        raise DatasetError("expected an assertion with a type", where=path, found=str(one)[:80])
    if one.get("weight") == 0:
        return []  # promptfoo: never fails
    kind, value = one["type"], one.get("value")
    negated, base = kind.startswith("not-"), kind.removeprefix("not-")
    if base not in _SAME or "transform" in one:
        raise _CannotBeJudged(f"assertion {kind}" + (" with a transform" if "transform" in one else ""))
    name = _SAME[base]
    if isinstance(value, str) and value.startswith("file://"):
        value = _beside(value, path).read_text(encoding="utf-8")
    if isinstance(value, str):
        value = _filled(value, variables)
    if name == "json_valid" and value:
        name, value = "schema_valid", load_yaml(value, path) if isinstance(value, str) else value
    elif name in ("json_valid", "contains_json", "must_decline"):
        if value:
            raise _CannotBeJudged(f"assertion {kind} with a value")
        value = True
    elif name == "equals" and isinstance(value, dict | list):
        name = "json_equals"
    elif base.endswith(("-any", "-all")):
        parts = value if isinstance(value, list) else str(value).split(",")
        value = [_filled(_text(p).strip(), variables) for p in parts]
    else:
        value = _text(value)
    return [{("not_" if negated else "") + name: value}]


def _dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
