"""What OpenAI's clients send. A field that would be passed over is refused by name, so that nobody relies on it.

Fields that change nothing in the answer are let through: _HARMLESS. Fields that ask for something this service
does not do are let through only with the value that asks for nothing: _NEUTRAL.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from fieldwise.interfaces import Sampling
from fieldwise.records import Conversation, Message, ToolCall
from fieldwise.serve.bodies import ReadableText
from fieldwise.serve.replies import without_limit_marks

_HARMLESS = frozenset(
    {
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "parallel_tool_calls",
    }
)
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "echo": (False,),
    "store": (False,),
    "best_of": (1,),
    "suffix": ("",),
    "functions": ([],),
}
_SEED_MASK = (1 << 63) - 1


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool = False


class OpenAiBody(BaseModel):
    """Fields of both kinds of completion."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field("tuned", description="one of GET /v1/models")
    max_tokens: int | None = Field(None, ge=1, description="256 without it")
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=0, description="not OpenAI's; 0 considers all tokens")
    seed: int | None = None
    stop: str | list[str] = Field(default=[], description="at most 8 texts that end the reply")
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, raw: Any) -> Any:
        return {k: v for k, v in raw.items() if v is not None} if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _refuse_what_is_not_done(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name not in _HARMLESS and value not in _NEUTRAL.get(name, ()):
                raise PydanticCustomError(
                    "unsupported_parameter", "the field is not supported", {"param": name, "input": repr(value)[:80]}
                )
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        if len(stops) > 8 or not all(0 < len(stop) <= 200 for stop in stops):
            raise PydanticCustomError(
                "invalid_value",
                "expected at most 8 texts of 1 to 200 characters",
                {"param": "stop", "input": repr(self.stop)[:80]},
            )
        return self

    def most_tokens(self) -> int:
        """Return the limit of the reply."""
        return self.max_tokens or 256

    def sampling(self) -> Sampling:
        """Return the settings for an engine."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        seed = None if self.seed is None else self.seed & _SEED_MASK
        return without_limit_marks(
            Sampling(
                max_tokens=self.most_tokens(),
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                seed=seed,
                stop=stops,
            )
        )


class CompletionBody(OpenAiBody):
    """A text to continue as it stands."""

    prompt: Annotated[str | list[str], AfterValidator(lambda prompt: _one_text(prompt))]

    def text(self) -> str:
        """Return the prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class TextPart(BaseModel):
    """Text; pictures and sound are not understood."""

    type: Literal["text"]
    text: ReadableText


class CalledFunction(BaseModel):
    """Name and arguments of a call, the arguments as JSON text."""

    name: str
    arguments: str = "{}"


class Call(BaseModel):
    """A call the assistant made."""

    function: CalledFunction


class ChatMessage(BaseModel):
    """One turn. What clients copy back from replies (refusal, annotations, ...) is let through."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: ReadableText | list[TextPart] | None = None
    tool_calls: list[Call] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise PydanticCustomError("missing", "a message of this role needs content")
        return self

    def record(self) -> Message:
        """Return the turn as the templates know it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or [])
        calls = tuple(
            ToolCall(name=c.function.name, arguments=_arguments(c.function.arguments)) for c in self.tool_calls or []
        )
        return Message(role="system" if self.role == "developer" else self.role, content=content, tool_calls=calls)


class SchemaFormat(BaseModel):
    """A JSON schema by its name. Replies always fit it, whatever `strict` says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field("answer", max_length=64)
    description: str | None = None
    schema_: dict[str, JsonValue] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """The form of a reply: words, or JSON of a schema."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "json_schema"]
    json_schema: SchemaFormat | None = None

    @model_validator(mode="after")
    def _has_a_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema, and only with it")
        return self


class ChatBody(OpenAiBody):
    """A conversation to go on with."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    tools: list[dict[str, JsonValue]] = Field(
        default=[], max_length=64, description="given to the chat template; a model that was trained for it calls them"
    )
    tool_choice: Literal["auto", "none"] = "auto"
    response_format: ResponseFormat | None = Field(
        None, description="JSON of a schema, for answers from the documents (the rag models)"
    )

    def most_tokens(self) -> int:
        """Return the limit of the reply."""
        return self.max_completion_tokens or self.max_tokens or 256

    def conversation(self) -> Conversation:
        """Return the turns."""
        return tuple(message.record() for message in self.messages)

    def wanted_schema(self) -> dict[str, JsonValue] | None:
        """Return the schema that the reply must fit; None for words."""
        wanted = self.response_format.json_schema if self.response_format is not None else None
        return None if wanted is None else wanted.schema_

    def offered_tools(self) -> list[dict[str, object]]:
        """Return the tools the template is given."""
        return [] if self.tool_choice == "none" else [dict(tool) for tool in self.tools]

    @model_validator(mode="after")
    def _calls_are_readable(self) -> Self:
        self.conversation()
        return self


def _arguments(text: str) -> dict[str, JsonValue]:
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise PydanticCustomError(
            "invalid_value",
            "expected the arguments of a call as a JSON object",
            {"param": "messages.tool_calls.function.arguments", "input": repr(text)[:80]},
        )
    return value


def _one_text(prompt: str | list[str]) -> str | list[str]:
    texts = [prompt] if isinstance(prompt, str) else prompt
    if len(texts) != 1 or not texts[0]:
        raise ValueError("expected one prompt that is not empty; POST /api/v1/generate/batch takes several")
    if any("\ud800" <= c <= "\udfff" for c in texts[0]):
        raise ValueError("the text holds half of a character (a lone surrogate)")
    return prompt
