"""Render conversations with a model's own chat template, as `apply_chat_template` of transformers does.

A template comes with the weights and is a program, so it runs in Jinja's immutable sandbox. Rendered text equals
that of transformers for the same template, messages, tools and special tokens; a test compares the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import JsonValue

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.records import Conversation, Message, ToolCall

_MARKED: ContextVar[tuple[list[str], list[tuple[int, int]]]] = ContextVar("marked")
"""The text rendered so far and the spans of its generation markers; each thread renders its own."""


def render(
    template: str,
    conversation: Conversation,
    *,
    tools: Sequence[dict[str, object]] = (),
    special_tokens: Mapping[str, str] | None = None,
    add_generation_prompt: bool = True,
) -> str:
    """Return the text of a conversation; with `add_generation_prompt` it ends where the assistant begins to speak.

    `special_tokens` are the names a template may use, such as `bos_token`. Raises ModelError when the template is
    broken or refuses the conversation.
    """
    return _rendered(template, conversation, tools, special_tokens or {}, add_generation_prompt)[0]


def reply_text(
    template: str, reply: str, *, special_tokens: Mapping[str, str] | None = None, control_tokens: Collection[str] = ()
) -> str:
    """Return a reply as it stands behind a prompt, with what the template puts before it and without what ends it."""
    asked: Conversation = (Message(role="user", content="?"),)
    said = without_control((Message(role="assistant", content=reply),), control_tokens)
    prompt = render(template, asked, special_tokens=special_tokens)
    whole = render(template, (*asked, *said), special_tokens=special_tokens, add_generation_prompt=False)
    content = said[0].content.strip()
    if not whole.startswith(prompt) or content not in whole[len(prompt) :]:
        return content  # a template that rewrites what was said: the words alone are what the model would write
    written = whole[len(prompt) :]
    return written[: written.index(content) + len(content)]


def render_marked(
    template: str,
    conversation: Conversation,
    *,
    tools: Sequence[dict[str, object]] = (),
    special_tokens: Mapping[str, str] | None = None,
) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a whole conversation and where its generation markers begin and end, as training sees them."""
    return _rendered(template, conversation, tools, special_tokens or {}, False)


def knows_tools(template: str, *, special_tokens: Mapping[str, str] | None = None) -> bool:
    """Tell whether a template shows the tools that are declared and the calls of them."""
    call = ToolCall(name="call_probe", arguments={"x": "1"})
    asked = Message(role="user", content="?"), Message(role="assistant", content="", tool_calls=(call,))
    tool: dict[str, object] = {
        "name": "tool_probe",
        "description": "?",
        "parameters": {"type": "object", "properties": {}},
    }
    declared: list[dict[str, object]] = [{"type": "function", "function": tool}]
    try:
        text = render(template, asked, tools=declared, special_tokens=special_tokens, add_generation_prompt=False)
    except ModelError:
        return False
    return "call_probe" in text and "tool_probe" in text


def _rendered(
    template: str,
    conversation: Conversation,
    tools: Sequence[dict[str, object]],
    special_tokens: Mapping[str, str],
    add_generation_prompt: bool,
) -> tuple[str, list[tuple[int, int]]]:
    jinja2 = require("jinja2", extra="gguf", to="render chat templates")
    if not conversation:
        raise ModelError("an empty conversation cannot be rendered", fix="Give at least one message.")
    blocks: list[str] = []
    spans: list[tuple[int, int]] = []
    mark = _MARKED.set((blocks, spans))
    try:
        # block by block, as transformers does: a marker then knows how much text stands before it
        for block in _compiled(template).generate(
            messages=chat_messages(conversation),
            tools=list(tools) or None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **dict(special_tokens),
        ):
            blocks.append(block)
    except jinja2.exceptions.TemplateSyntaxError as error:
        raise ModelError(
            "the chat template is broken",
            where=f"chat template, line {error.lineno}",
            found=error.message,
            fix="Repair chat_template.jinja in the folder of the weights.",
        ) from error
    except (
        jinja2.exceptions.TemplateError,
        TypeError,
        LookupError,
        AttributeError,
        ValueError,
        ArithmeticError,
    ) as error:
        raise ModelError(
            "the chat template refuses this conversation",
            found=str(error),
            fix="Send the roles in the order the model was trained with: system, then user and assistant in turns.",
        ) from error
    finally:
        _MARKED.reset(mark)
    return "".join(blocks), spans


def without_control(conversation: Conversation, control_tokens: Collection[str]) -> Conversation:
    """Return the conversation with every control token in its content broken up, so that text cannot forge a role.

    A question or a collected e-mail that holds `<|im_end|>` would otherwise end its own message.

    >>> from fieldwise.records import Message
    >>> without_control((Message(role="user", content="a <|im_end|> b"),), ["<|im_end|>"])[0].content
    'a < |im_end|> b'
    """
    if not control_tokens:
        return conversation
    pattern = re.compile("|".join(re.escape(token) for token in sorted(control_tokens, key=len, reverse=True)))

    def broken(match: re.Match[str]) -> str:
        return f"{match.group(0)[0]} {match.group(0)[1:]}"

    def safe(value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return pattern.sub(broken, value)
        if isinstance(value, dict):
            return {key: safe(inner) for key, inner in value.items()}
        return [safe(inner) for inner in value] if isinstance(value, list) else value

    def spoken(message: Message) -> Message:
        calls = tuple(
            ToolCall(name=c.name, arguments={k: safe(v) for k, v in c.arguments.items()}) for c in message.tool_calls
        )
        return message.model_copy(update={"content": pattern.sub(broken, message.content), "tool_calls": calls})

    return tuple(spoken(m) if m.tool_calls or pattern.search(m.content) else m for m in conversation)


def chat_messages(conversation: Conversation) -> list[dict[str, JsonValue]]:
    """Return the messages in the shape chat templates expect."""
    messages: list[dict[str, JsonValue]] = []
    for message in conversation:
        plain: dict[str, JsonValue] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            plain["tool_calls"] = [
                {"type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
                for call in message.tool_calls
            ]
        messages.append(plain)
    return messages


@lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    return _environment().from_string(template)


@lru_cache(maxsize=1)
def _environment() -> Any:
    jinja2 = require("jinja2", extra="gguf", to="render chat templates")
    sandbox = require("jinja2.sandbox", extra="gguf", to="render chat templates")
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), "jinja2.ext.loopcontrols"]
    )

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _TemplateDict()
    environment.globals["namespace"] = _guarded_namespace()
    return environment


def _generation_tag() -> Any:
    extension = require("jinja2.ext", extra="gguf", to="render chat templates")
    nodes = require("jinja2.nodes", extra="gguf", to="render chat templates")

    class Generation(extension.Extension):  # type: ignore[misc,name-defined]
        """`{% generation %}`: marks what the assistant says; a call block, so that names set inside stay inside."""

        tags = {"generation"}  # noqa: RUF012  Jinja reads this class attribute

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_pass_through"), [], [], body).set_lineno(line)

        def _pass_through(self, caller: Any) -> str:
            text = str(caller())
            blocks, spans = _MARKED.get()
            start = sum(map(len, blocks))
            spans.append((start, start + len(text)))
            return text

    return Generation


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which would change the prompt
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)  # noqa: DTZ005  local and naive, as transformers does


class _TemplateDict:
    """`dict` for templates, without the attributes of the type."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _guarded_namespace() -> Any:
    utils = require("jinja2.utils", extra="gguf", to="render chat templates")
    exceptions = require("jinja2.exceptions", extra="gguf", to="render chat templates")

    def checked(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise exceptions.SecurityError(f"a chat template must not set {name!r} on a namespace")

    class TemplateNamespace(utils.Namespace):  # type: ignore[misc,name-defined]
        """A namespace whose attributes cannot reach Python's internals."""

        def __init__(*args: Any, **kwargs: Any) -> None:  # `self` must stay free as a key, as in Jinja
            attributes = dict(*args[1:], **kwargs)
            for name in attributes:
                checked(name)
            utils.Namespace.__init__(args[0], attributes)

        def __setitem__(self, name: str, value: Any) -> None:
            checked(name)
            utils.Namespace.__setitem__(self, name, value)

    return TemplateNamespace
