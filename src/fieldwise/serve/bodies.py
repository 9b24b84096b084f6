"""What clients send to our own routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from fieldwise.interfaces import Sampling
from fieldwise.serve.replies import without_limit_marks

MOST_TOKENS = 2048


def _writable(text: str) -> str:
    """Refuse halves of characters, which JSON can carry and UTF-8 cannot."""
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("the text holds half of a character (a lone surrogate)")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text holds nothing but blanks")
    return text


ReadableText = Annotated[str, AfterValidator(_writable)]
NonEmptyText = Annotated[str, Field(min_length=1), AfterValidator(_writable)]
Question = Annotated[NonEmptyText, AfterValidator(_not_blank)]


class Body(BaseModel):
    """Base of all bodies: unknown fields are refused, not passed over, and a number in quotes is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SamplingFields(Body):
    """How tokens are chosen."""

    max_tokens: int = Field(256, ge=1, le=MOST_TOKENS, description="most tokens of the reply")
    temperature: float = Field(0.7, ge=0, le=2, description="0 takes the likeliest token")
    top_p: float = Field(0.9, ge=0, le=1)
    top_k: int = Field(50, ge=0, description="0 considers all tokens")
    seed: int | None = Field(None, ge=0, description="the same seed gives the same reply")
    model: str = Field("tuned", description="one of GET /models")
    raw: bool = Field(False, description="take the prompt as it stands, without the chat template")

    def sampling(self) -> Sampling:
        """Return the settings for an engine."""
        return without_limit_marks(
            Sampling(
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                seed=self.seed,
            )
        )


class GenerateBody(SamplingFields):
    """A prompt to continue or answer."""

    prompt: NonEmptyText
    stream: bool = Field(False, description="send the reply as server-sent events")


class BatchBody(SamplingFields):
    """Several prompts with the same settings."""

    prompts: list[NonEmptyText] = Field(min_length=1, max_length=64)


class RerankBody(Body):
    """Texts to order by how well they fit a query."""

    query: Question
    documents: list[ReadableText] = Field(min_length=1, max_length=256)
    top_k: int | None = Field(None, ge=1, description="how many to return; all without it")
    min_score: float | None = Field(None, ge=0, le=1, description="leave out texts that score less")
    method: Literal["mixed", "features"] | None = Field(
        None, description="half meaning, half words, or the features model; without it what the run searches with"
    )


class Turn(Body):
    """An earlier question or answer."""

    role: Literal["user", "assistant"]
    content: ReadableText


class AskBody(Body):
    """A question about the documents."""

    question: Question
    model: str = Field("tuned", description="one of GET /models")
    stream: bool = Field(False, description="send passages, text and answer as server-sent events")
    top_k: int | None = Field(
        None, ge=1, le=9, description="passages shown to the model; the recipe's number without it"
    )
    max_tokens: int = Field(256, ge=1, le=MOST_TOKENS)
    json_schema: dict[str, JsonValue] | None = Field(
        None,
        alias="schema",
        description="JSON schema that the answer must fit; the JSON comes as `value`, with a citation for each text and number that stands in a passage",
    )
    history: list[Turn] = Field(
        default=[],
        max_length=40,
        description="earlier turns; what is searched for a question that goes on from them stands in `searched`",
    )
