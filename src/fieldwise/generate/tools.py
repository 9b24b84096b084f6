"""Calls of declared tools by rules: requests whose values are invented or stand in a chunk, and requests no tool fits."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.generate.drafts import Draft, Material, Quote, mark, passages, section
from fieldwise.generate.english import base_form
from fieldwise.generate.examples import invented_name
from fieldwise.prompts import tools_prompt
from fieldwise.records import Chunk, Message, ToolCall
from fieldwise.support import content_stems

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_MOST_SHOWN = 4
_MISSING_SHARE, _NONE_SHARE = 0.12, 0.3
_MONTHS = "January February March April May June July August September October November December".split()
_TOPIC = re.compile(r"\b(?:query|topic|question|subject|keywords?|terms?|search|text|title|reason|note|message|summary|description|about)\b")  # fmt: skip
_CODE = re.compile(r"\b(?:id|number|code|reference|ref|no|account)\b")
_SAID_DATE = re.compile(r"\b(?:date|day|yyyy-mm-dd)\b")
_SAID_TIME = re.compile(r"\b(?:time|hh:mm)\b")

Declaration = dict[str, JsonValue]


class Tool(NamedTuple):
    """A tool as it was declared, with the parts that are needed here."""

    declaration: Declaration
    name: str
    task: str
    """What it does, as a request: "Reserve a bed on a ward"."""
    parameters: dict[str, Any]

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters a call must give."""
        return tuple(self.parameters.get("required", ()))

    @property
    def takes_topics(self) -> bool:
        """Whether it would fit any question: all it needs is what to look for."""
        needed = self.required or tuple(self.parameters.get("properties", {}))
        return bool(needed) and all(_TOPIC.search(_label(name)) for name in needed)


# ---------------------------------------------------------------- the file


def read_tools(path: Path) -> tuple[Tool, ...]:
    """Read declarations in OpenAI's format, with or without `function` around them.

    Raises DatasetError for a file that holds none, or one of which a call could not be checked.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError("the tools cannot be read", where=path, found=str(error)[:120], fix="Name a JSON or YAML file in UTF-8 with generate.tools.") from error  # fmt: skip
    except yaml.YAMLError as error:
        mark_ = getattr(error, "problem_mark", None)
        where = f"{path}:{mark_.line + 1}" if mark_ else path
        raise DatasetError("neither JSON nor YAML", where=where, found=getattr(error, "problem", None) or "", fix="Write a list of tools in OpenAI's format.") from error  # fmt: skip
    listed = value.get("tools") if isinstance(value, dict) and "tools" in value else value
    if isinstance(listed, dict) and "name" not in listed and "function" not in listed:
        listed = list(listed.values())  # tools by name, as suites write them
    listed = [listed] if isinstance(listed, dict) else listed
    if not isinstance(listed, list) or not listed:
        raise DatasetError("the file declares no tools", where=path, found=type(value).__name__, fix='Write a list: [{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}]')  # fmt: skip
    tools = tuple(_tool(entry, f"{path}: tool {n}") for n, entry in enumerate(listed, 1))
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DatasetError("two tools have one name", where=path, found=twice, fix="Rename one of them.")
    return tools


def _tool(entry: Any, where: str) -> Tool:
    inner = entry.get("function", entry) if isinstance(entry, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise DatasetError("a tool needs a name", where=where, found=str(entry)[:80], fix="Give name, description and parameters, in OpenAI's format.")  # fmt: skip
    name = inner["name"]
    parameters = inner.get("parameters") or {"type": "object", "properties": {}}
    if not _NAME.fullmatch(name):
        raise DatasetError(
            "a tool's name has letters, digits, _ and - alone", where=where, found=name, fix="Rename it."
        )
    jsonschema = require("jsonschema", extra="eval", to="check the calls of tools")
    try:
        jsonschema.Draft202012Validator.check_schema(parameters)
    except jsonschema.exceptions.SchemaError as error:
        raise DatasetError("the parameters are no JSON schema", where=f"{where}, {name}", found=error.message[:120], fix="Write them as a JSON schema of type object.") from error  # fmt: skip
    properties = parameters.get("properties", {}) if isinstance(parameters, dict) else None
    if not isinstance(properties, dict) or parameters.get("type", "object") != "object":
        raise DatasetError("the parameters are no object", where=f"{where}, {name}", found=parameters.get("type"), fix="Give type: object with properties.")  # fmt: skip
    if "$ref" in json.dumps(parameters):
        raise DatasetError("the parameters point elsewhere", where=f"{where}, {name}", found="$ref", fix="Write the schema out in place.")  # fmt: skip
    plain: Declaration = {"name": name, "description": str(inner.get("description", "")), "parameters": parameters}
    return Tool({"type": "function", "function": plain}, name, _task(name, str(inner.get("description", ""))), parameters)  # fmt: skip


def _task(name: str, description: str) -> str:
    """What a tool does, as someone would ask for it.

    >>> _task("find_case", "Finds judgments of a party. Slow."), _task("get_rate", "")
    ('Find judgments of a party', 'Get rate')
    """
    first = re.split(r"\.(?:\s|$)|;|\(", description.strip(), maxsplit=1)[0].strip()
    first = re.sub(r"^(?:(?:This|A|The) (?:tool|function) |(?:Use (?:this|it)|Used) )(?:that |to |for )?", "", first, flags=re.I)  # fmt: skip
    word, _, rest = first.partition(" ")
    if not rest or word.casefold() in ("a", "an", "the", "this", "for"):
        return " ".join(_label(name).split()).capitalize()
    base = base_form(word.lower()) or word.lower()
    if base == word.lower() and re.search(r"[a-z]{2}(?<!s)s$", base) and re.match(r"(?:an?|the|all|one|some|every|\w+s)\b", rest):  # fmt: skip
        base = (
            re.sub(r"ies$", "y", base) if base.endswith("ies") else re.sub(r"(?<=ch|sh|ss)es$|(?<=x)es$|s$", "", base)
        )
    return f"{base.capitalize()} {rest}"


def _label(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_.-]+", " ", name).lower().strip()


# ---------------------------------------------------------------- requests


class Value(NamedTuple):
    """An argument and the words in which a request gives it; `quote` where it stands in the chunk."""

    argument: JsonValue
    said: str
    quote: str | None = None


def tool_calls(material: Material, tools: Sequence[Tool], rng: random.Random) -> Iterator[Draft]:
    """Yield a request for every chunk: mostly one that a tool fits, else one that lacks a value or that none fits."""
    for chunk in material.chunks:
        tool = rng.choice(tools)
        chance = rng.random()
        made: Draft | None = None
        if chance < _NONE_SHARE:
            made = _no_tool(material, chunk, tools, rng)
        elif chance < _NONE_SHARE + _MISSING_SHARE:
            made = _lacks_value(chunk, tool, tools, rng)
        yield made or _from_row(chunk, tool, tools, material, rng) or _call(chunk, tool, tools, rng)


def call_draft(
    chunk: Chunk,
    request: str,
    call: ToolCall,
    quotes: Sequence[str],
    shown: Sequence[Chunk],
    tools: Sequence[Tool],
) -> Draft:
    """Return the draft of a request that a tool fits."""
    said = (*tools_prompt(request, passages(shown)), Message(role="assistant", content="", tool_calls=(call,)))
    answer = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
    evidence = tuple(Quote(chunk, q) for q in quotes)
    declared = tuple(t.declaration for t in tools)
    return Draft("tool_call", request, answer, said, evidence, tuple(shown), chunk, style="task", tools=declared)


def _beside(tool: Tool, tools: Sequence[Tool], rng: random.Random) -> list[Tool]:
    """The tool among others, at a random place."""
    others = [t for t in tools if t.name != tool.name]
    shown = [*rng.sample(others, min(len(others), rng.randint(1, _MOST_SHOWN - 1))), tool]
    rng.shuffle(shown)
    return shown


def _call(chunk: Chunk, tool: Tool, tools: Sequence[Tool], rng: random.Random) -> Draft:
    given = _values(tool, chunk, rng)
    arguments = {name: value.argument for name, value in given.items()}
    request = _request(tool, {name: value.said for name, value in given.items()}, rng)
    quotes = [value.quote for value in given.values() if value.quote is not None]
    return call_draft(chunk, request, ToolCall(name=tool.name, arguments=arguments), quotes, (), _beside(tool, tools, rng))  # fmt: skip


def _values(tool: Tool, chunk: Chunk, rng: random.Random) -> dict[str, Value]:
    given: dict[str, Value] = {}
    for name, schema in tool.parameters.get("properties", {}).items():
        if name in tool.required or rng.random() < 0.5:
            value = _value(name, schema if isinstance(schema, dict) else {}, chunk, rng)
            if value is not None:
                given[name] = value
    return given


def _value(name: str, schema: dict[str, Any], chunk: Chunk, rng: random.Random) -> Value | None:
    """A value that fits a parameter: of its list, invented, or words of the chunk; None where none can be made."""
    if "const" in schema:
        return Value(schema["const"], str(schema["const"]))
    if schema.get("enum"):
        chosen = rng.choice([v for v in schema["enum"] if v is not None] or schema["enum"])
        return Value(chosen, str(chosen).replace("_", " "))
    kind = schema.get("type", "string")
    kind = next((k for k in kind if k != "null"), "string") if isinstance(kind, list) else kind
    if kind == "boolean":
        chosen = rng.random() < 0.5
        return Value(chosen, "yes" if chosen else "no")
    if kind in ("integer", "number"):
        is_year = kind == "integer" and "year" in _label(name).split()
        number = _number({"minimum": 1990, "maximum": 2034, **schema} if is_year else schema, kind == "integer", rng)
        return Value(number, str(number))
    if kind == "array":
        inner = schema.get("items")
        items = [_value(name, inner if isinstance(inner, dict) else {}, chunk, rng) for _ in range(max(1, schema.get("minItems", 1)))]  # fmt: skip
        known = [v for v in items if v is not None]
        return Value([v.argument for v in known], " and ".join(v.said for v in known)) if known else None
    return _text(name, schema, chunk, rng) if kind == "string" else None


def _number(schema: dict[str, Any], is_whole: bool, rng: random.Random) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + (1 if is_whole else 0.01))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + (40 if is_whole else 5000)) - (0 if "maximum" in schema else 1))  # fmt: skip
    if is_whole:
        step = int(schema.get("multipleOf", 1)) or 1
        first = -(-int(low) // step) * step
        return first + step * rng.randint(0, max(0, (int(high) - first) // step))
    return round(rng.uniform(low, max(low, high)), 2)


def _text(name: str, schema: dict[str, Any], chunk: Chunk, rng: random.Random) -> Value:
    label, told = _label(name), f"{_label(name)} {schema.get('description', '')} {schema.get('format', '')}".casefold()
    if schema.get("format") == "email" or "mail" in label:
        address = f"{invented_name(rng).lower()}@{invented_name(rng).lower()}.example"
        return Value(address, address)
    if schema.get("format") in ("date", "date-time") or _SAID_DATE.search(told):
        year, month, day = rng.randint(2026, 2034), rng.randint(1, 12), rng.randint(1, 28)
        written = f"{year}-{month:02}-{day:02}"
        return Value(written, rng.choice((written, f"{day} {_MONTHS[month - 1]} {year}")))
    if schema.get("format") == "time" or _SAID_TIME.search(told):
        written = f"{rng.randint(7, 19):02}:{rng.choice(('00', '15', '30', '45'))}"
        return Value(written, written)
    for fact in section(chunk).facts:
        if content_stems(fact.label) and content_stems(fact.label) == content_stems(label):
            return Value(fact.value, fact.value, fact.value)
    if _CODE.search(label):
        code = f"{label[:1].upper()}-{rng.randint(1000, 9999)}"
        return Value(code, code)
    if _TOPIC.search(label):
        heading = section(chunk).heading.rstrip("?.: ")
        return Value(heading, heading if '"' in heading else f'"{heading}"', heading if heading in chunk.text else None)
    person = invented_name(rng)
    return Value(person, person)


def date_in_words(text: str) -> str | None:
    """Return a date in the long form of requests, or None for what is none.

    >>> date_in_words("2031-04-18")
    '18 April 2031'
    """
    found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", text)
    if not found or not 1 <= int(found.group(2)) <= 12:
        return None
    return f"{int(found.group(3))} {_MONTHS[int(found.group(2)) - 1]} {found.group(1)}"


def _request(tool: Tool, said: dict[str, str], rng: random.Random) -> str:
    parts = [f"{_label(name)} {words}" for name, words in said.items()]
    small = tool.task[:1].lower() + tool.task[1:]
    if not parts:
        return rng.choice((f"{tool.task}.", f"Please {small}.", f"Can you {small}?"))
    joined = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    colons = "; ".join(f"{_label(name)}: {words}" for name, words in said.items())
    colons = colons[:1].upper() + colons[1:]
    forms = [f"Can you {small}? {colons}.", f"I need someone to {small}. {colons}."]
    if not any(words in ("yes", "no") for words in said.values()):
        forms += [f"{tool.task}: {joined}.", f"Please {small}, with {joined}."]
    return rng.choice(forms)


def _lacks_value(chunk: Chunk, tool: Tool, tools: Sequence[Tool], rng: random.Random) -> Draft | None:
    """A request without a value that the tool needs: the right reply asks for it."""
    given = _values(tool, chunk, rng)
    needed = [name for name in tool.required if name in given]
    if len(needed) < 2:
        return None
    left_out = rng.choice(needed)
    request = _request(tool, {name: value.said for name, value in given.items() if name != left_out}, rng)
    reply = f"Which {_label(left_out)}?"
    said = (*tools_prompt(request), Message(role="assistant", content=reply))
    declared = tuple(t.declaration for t in _beside(tool, tools, rng))
    return Draft("tool_call", request, reply, said, (), (), chunk, style="task", tools=declared)


def _no_tool(material: Material, chunk: Chunk, tools: Sequence[Tool], rng: random.Random) -> Draft | None:
    """A question that passages answer, beside tools that do not fit it."""
    unfit = [t for t in tools if not t.takes_topics]
    items = material.asked_of.get(chunk.id, ())
    if not unfit or not items:
        return None
    pair = rng.choice(items).pair
    shown = material.among((chunk,), pair.question, [pair.answer, pair.quote], rng)
    reply = f"{pair.answer} {mark(chunk, shown)}"
    said = (*tools_prompt(pair.question, passages(shown)), Message(role="assistant", content=reply))
    declared = tuple(t.declaration for t in rng.sample(unfit, min(len(unfit), rng.randint(1, _MOST_SHOWN))))
    return Draft("tool_call", pair.question, pair.answer, said, (Quote(chunk, pair.quote),), shown, chunk, style="task", tools=declared)  # fmt: skip


def _from_row(chunk: Chunk, tool: Tool, tools: Sequence[Tool], material: Material, rng: random.Random) -> Draft | None:
    """A request that names a row of a table which has a column for every parameter the tool needs."""
    for table in section(chunk).tables:
        columns: dict[str, int] = {}
        for name in tool.required:
            wanted = content_stems(_label(name))
            column = next((n for n, h in enumerate(table.header) if wanted and wanted <= content_stems(h)), None)
            schema = tool.parameters.get("properties", {}).get(name, {})
            if column is None or schema.get("type", "string") != "string" or schema.get("enum"):
                break
            columns[name] = column
        if not columns or len(columns) < len(tool.required) or len(set(columns.values())) < len(columns):
            continue
        row, line = rng.choice(list(zip(table.rows, table.lines, strict=True)))
        if not all(row[n] for n in columns.values()):
            continue
        shown = material.among((chunk,), f"{tool.task} {row[0]}", [line], rng)
        request = f"{tool.task} with what the passages say about {row[0]}."
        call = ToolCall(name=tool.name, arguments={name: row[n] for name, n in columns.items()})
        return call_draft(chunk, request, call, [line], shown, _beside(tool, tools, rng))
    return None
