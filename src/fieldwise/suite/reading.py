"""Read a suite: one that is shipped, a YAML file, JSON Lines, or a promptfoo configuration."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fieldwise.errors import DatasetError
from fieldwise.files import read_jsonl
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.records import Conversation, Message
from fieldwise.suite.checks import require_sound
from fieldwise.suite.items import Check, Difficulty, Item, Suite
from fieldwise.suite.tool_match import parameters_of
from fieldwise.suite.yaml_text import load_yaml

_MOST_BYTES = 64 << 20
# how other tools call the same thing: OpenAI evals, inspect, lm-eval and plain instruction rows
_ALSO = {
    "input": "prompt",
    "instruction": "prompt",
    "ideal": "answer",
    "target": "answer",
    "expected": "answer",
    "expected_output": "answer",
    "output": "answer",
    "completion": "answer",
}
_FIX = "An item looks like {id: a1, question: ..., passages: [...], answer: ...}; docs/evaluate.md lists every key."


class Written(BaseModel):
    """An item as people write it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str | None = None
    question: str | None = Field(
        None, description="asked with Fieldwise's own prompt, over the passages if there are some"
    )
    prompt: str | None = Field(
        None, description="sent as it is, as the user's message, behind the passages if there are some"
    )
    messages: tuple[Message, ...] | None = Field(None, description="sent as they are")
    system: str | None = Field(None, description="system message of a prompt; behind the own words of a question")
    passages: tuple[str, ...] = Field((), description="texts, or names of the suite's passages")
    tools: tuple[str | dict[str, JsonValue], ...] = Field(
        (), description="in OpenAI's shape, or names of the suite's tools"
    )
    answer: str | tuple[str, ...] | None = Field(None, description="the known answer; null: the reply must decline")
    aliases: tuple[str, ...] = ()
    checks: tuple[dict[str, JsonValue], ...] = Field((), description="name of the check: its value")
    critical: str | tuple[str, ...] = Field((), description="names of checks whose failure is listed by itself")
    lacks: tuple[str, ...] = Field(
        (), description="words that may not stand in the passages: without them there is no answer"
    )
    kind: str = ""
    difficulty: Difficulty = ""
    domain: str = ""
    document: str | None = Field(None, description="of files of questions; not looked at")
    quote: str | None = Field(None, description="of files of questions; not looked at")


class Shelf(NamedTuple):
    """What the items of a suite may name."""

    passages: dict[str, str]
    tools: dict[str, dict[str, JsonValue]]
    domain: str = ""


# ---------------------------------------------------------------- which suites there are


def shipped() -> list[str]:
    """Return the names of the suites that come with Fieldwise."""
    return sorted(Path(p.name).stem for p in _shelf().iterdir() if p.name.endswith(".yaml"))


def _shelf() -> Any:
    return files("fieldwise.suite") / "shipped"


def open_suite(named: str) -> Suite:
    """Return the suite of a name or a file; raises DatasetError for what cannot be used, with its place."""
    if named in shipped():
        path = _shelf() / f"{named}.yaml"
        return read_yaml(path.read_text(encoding="utf-8"), Path(f"{named}.yaml"))
    path = Path(named).expanduser()
    if not path.is_file():
        raise DatasetError(
            "no suite has this name, and no file stands there",
            where="suite",
            found=repr(named),
            fix=f"Name a file, or one of: {', '.join(shipped())}.",
        )
    if path.stat().st_size > _MOST_BYTES:
        raise DatasetError(
            "the file is too large for a suite", where=path, found=f"{path.stat().st_size >> 20} MB", fix="Split it."
        )
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return read_lines(path)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DatasetError("not UTF-8 text", where=path, found=str(error), fix="Save the file as UTF-8.") from error
        return read_yaml(text, path)
    raise DatasetError(
        "not a suite by its ending",
        where=path,
        found=path.suffix or "no ending",
        fix="Name a .yaml, .json or .jsonl file.",
    )


# ---------------------------------------------------------------- files


def read_yaml(text: str, path: Path) -> Suite:
    """Read a suite or a promptfoo configuration from YAML or JSON."""
    from fieldwise.suite.promptfoo import is_promptfoo, read_promptfoo

    value: Any = load_yaml(text, path)
    if not isinstance(value, dict):
        raise DatasetError("expected a mapping with items", where=path, found=type(value).__name__, fix=_FIX)
    if is_promptfoo(value):
        return read_promptfoo(value, path)
    known = {"name", "version", "about", "licence", "domain", "passages", "tools", "items"}
    if unknown := sorted(map(str, value.keys() - known)):
        raise DatasetError("unknown key", where=path, found=unknown[0], fix=f"Known: {', '.join(sorted(known))}.")
    rows = value.get("items")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DatasetError("expected a list under items", where=path, found=type(rows).__name__, fix=_FIX)
    passages, tools = value.get("passages") or {}, value.get("tools") or {}
    if not isinstance(passages, dict) or not all(isinstance(p, str) for p in passages.values()):
        raise DatasetError("expected a name and a text for each", where=f"{path}: passages", fix=_FIX)
    if not isinstance(tools, dict) or not all(isinstance(t, dict) for t in tools.values()):
        raise DatasetError("expected a name and a tool for each", where=f"{path}: tools", fix=_FIX)
    shelf = Shelf({str(k): v.strip() for k, v in passages.items()}, tools, str(value.get("domain") or ""))
    return _suite(
        path,
        [(row, f"{path}: item {row.get('id', n)}") for n, row in enumerate(rows, 1)],
        shelf,
        name=str(value.get("name") or path.stem),
        version=str(value.get("version") or "1"),
        about=str(value.get("about") or ""),
        licence=value.get("licence"),
    )


def read_lines(path: Path) -> Suite:
    """Read JSON Lines: our items, files of questions, and rows with prompt or input, expected, ideal or target."""
    rows = []
    try:
        for number, row in enumerate(read_jsonl(path), 1):
            rows.append((row, f"{path}:{number}"))
    except UnicodeDecodeError as error:
        raise DatasetError("not UTF-8 text", where=path, found=str(error), fix="Save the file as UTF-8.") from error
    return _suite(path, rows, Shelf({}, {}), name=path.stem)


def _suite(path: Path, rows: Sequence[tuple[dict[str, Any], str]], shelf: Shelf, *, name: str, **head: Any) -> Suite:
    items = [make_item(_own_words(row), shelf, f"{number:04d}", where) for number, (row, where) in enumerate(rows, 1)]
    return finished(Suite(name=name, items=tuple(items), **head), path)


def finished(suite: Suite, path: Path) -> Suite:
    """Return the suite if it has items and no id stands twice; else raise DatasetError."""
    if not suite.items:
        left_out = f"{len(suite.skipped)} left out: {suite.skipped[0].reason}" if suite.skipped else None
        raise DatasetError("the suite holds no item that can be judged", where=path, found=left_out, fix=_FIX)
    twice = sorted(i for i, times in Counter(item.id for item in suite.items).items() if times > 1)
    if twice:
        raise DatasetError(
            "ids stand twice", where=path, found=", ".join(twice[:5]), fix="Give every item an id of its own."
        )
    return suite


def _own_words(row: dict[str, Any]) -> dict[str, Any]:
    """A row with our names for its keys; what a user's own key already says is not replaced."""
    if row.keys() & {"question", "checks", "messages"}:
        return row
    made = {_ALSO.get(key, key) if _ALSO.get(key) not in row else key: value for key, value in row.items()}
    if isinstance(made.get("prompt"), list):
        made["messages"] = made.pop("prompt")
    return made


# ---------------------------------------------------------------- one item


def make_item(row: dict[str, Any], shelf: Shelf, number: str, where: str) -> Item:
    """Make an item of what was written; raises DatasetError, with its place, for what cannot be asked or judged."""
    try:
        written = Written.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        raise DatasetError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
            where=where,
            found=str(first.get("input"))[:80],
            fix=_FIX,
        ) from error
    passages = tuple(shelf.passages.get(p, p) for p in written.passages)
    item = Item(
        id=written.id or number,
        conversation=_conversation(written, passages, where),
        asked=(
            written.question or written.prompt or (written.messages or [Message(role="user", content="")])[-1].content
        )[:300],
        checks=tuple(_checks(written, row, where)),
        tools=tuple(_tool(t, shelf, where) for t in written.tools),
        passages=passages,
        domain=written.domain or shelf.domain,
        kind=written.kind,
        difficulty=written.difficulty,
    )
    for check in item.checks:
        require_sound(check, item, where)
    text = " ".join(passages)
    if there := next((w for w in written.lacks if re.search(rf"(?<!\w){re.escape(w)}(?!\w)", text, re.I)), None):
        raise DatasetError(
            "the passages hold what they should lack",
            where=where,
            found=repr(there),
            fix="Change the passages, the question, or lacks.",
        )
    return item


def _conversation(written: Written, passages: Sequence[str], where: str) -> Conversation:
    given = [k for k in ("question", "prompt", "messages") if getattr(written, k) is not None]
    if len(given) != 1:
        raise DatasetError(
            "expected one of question, prompt, messages", where=where, found=", ".join(given) or "none", fix=_FIX
        )
    if given == ["messages"] and (passages or written.system):
        raise DatasetError(
            "passages and system belong to a question or a prompt",
            where=where,
            found="them with messages",
            fix="Write them into the messages.",
        )
    if written.question is not None:
        first, *rest = grounded_prompt(written.question, passages) if passages else closed_prompt(written.question)
        if written.system:
            first = first.model_copy(update={"content": f"{first.content}\n{written.system}"})
        made: Conversation = (first, *rest)
    elif written.prompt is not None:
        system = (Message(role="system", content=written.system),) if written.system else ()
        listed = "".join(f"[{n}] {text}\n\n" for n, text in enumerate(passages, 1))
        made = (*system, Message(role="user", content=f"{listed}{written.prompt}"))
    else:
        assert written.messages is not None
        made = written.messages
    if not any(m.role == "user" and m.content.strip() for m in made):
        raise DatasetError("nothing is asked", where=where, found="no text of a user", fix=_FIX)
    return made


def _checks(written: Written, row: dict[str, Any], where: str) -> list[Check]:
    critical = {written.critical} if isinstance(written.critical, str) else set(written.critical)
    pairs: list[tuple[str, JsonValue]] = []
    if "answer" in row:
        known = (
            [] if written.answer is None else [written.answer] if isinstance(written.answer, str) else [*written.answer]
        )
        pairs.append(("answer", [*known, *written.aliases]) if known else ("must_decline", True))
    pairs += [pair for check in written.checks for pair in check.items()]
    if not pairs:
        raise DatasetError("nothing is checked", where=where, found="neither answer nor checks", fix=_FIX)
    if unknown := sorted(critical - {name for name, _ in pairs}):
        raise DatasetError(
            "critical names a check that the item does not have",
            where=where,
            found=unknown[0],
            fix=f"Its checks: {', '.join(n for n, _ in pairs)}.",
        )
    return [Check(name=name, value=value, is_critical=name in critical) for name, value in pairs]


def _tool(named: str | dict[str, JsonValue], shelf: Shelf, where: str) -> dict[str, JsonValue]:
    tool = shelf.tools.get(named) if isinstance(named, str) else named
    if tool is None:
        raise DatasetError(
            "no such tool in the suite",
            where=where,
            found=repr(named),
            fix=f"Known: {', '.join(shelf.tools) or 'none'}.",
        )
    name, parameters = parameters_of(tool)
    if name is None:
        raise DatasetError(
            "a tool has no name",
            where=where,
            found=str(tool)[:80],
            fix="Write it in OpenAI's shape: {type: function, function: {name: ..., parameters: {...}}}.",
        )
    return tool if "function" in tool else {"type": "function", "function": {"parameters": parameters, **tool}}
