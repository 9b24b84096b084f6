"""The few interfaces behind which implementations are swapped.

`Answerer`: a conversation in, an `Answer` out: base, tuned, retrieval over any of them, a GGUF file and a
served endpoint are all measured through it. `Engine`: runs our weights. `Retriever`: a query in, passages out.
`Extractor`: a file in, a `Document` out. `LlmClient`: prompts for a teacher or a judge, which runs elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel

from fieldwise.records import Answer, Conversation, Document, RetrievedPassage, Source

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Shape:
    """The form a reply must have: JSON that fits a schema, or one sentence in its place."""

    schema: str  # as JSON text; keywords and their meaning as in retrieve/answer_schema.py
    instead: str = ""  # the only other reply that is let through; empty for none


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; temperature 0 takes the best one.

    With a `shape` an engine that `holds_shapes` lets only tokens through that lead to such a reply; other engines do
    not heed it.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    shape: Shape | None = None


@dataclass(frozen=True)
class Piece:
    """A part of a streamed reply: new text (may be empty), and on the last piece why it ended."""

    text: str
    tokens: int
    finish_reason: FinishReason | None = None
    ratings: tuple[float, ...] = ()  # on the first piece only, as in Generation


@dataclass(frozen=True)
class Generation:
    """A whole reply."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    ratings: tuple[float, ...] = ()  # log-probabilities (natural) of the rated replies; empty if one does not fit
    # since its prompt began to be read, beside those of its batch; what is rated behind it is not in it
    first_token_seconds: float | None = field(default=None, compare=False)
    rated_hits: tuple[int, ...] = ()  # tokens of each rated reply that were the likeliest where they stand


class Engine(Protocol):
    """Runs weights. Prompts are token ids; `render` makes them from a conversation with the model's own template."""

    model_id: str
    context_tokens: int

    @property
    def is_closed(self) -> bool:
        """True after `close`, or after a fault that ended the engine: it must be opened anew."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens recognised, none added."""
        ...

    def render(self, conversation: Conversation, *, tools: Sequence[dict[str, object]] = ()) -> list[int]:
        """Return the prompt of a conversation, ending where the assistant begins to speak."""
        ...

    def reply_tokens(self, text: str) -> list[int]:
        """Return the tokens of a reply as the model's template puts it behind a prompt, without what ends it."""
        ...

    def generate(
        self, prompts: Sequence[list[int]], sampling: Sampling, *, rated: Sequence[Sequence[list[int]]] = ()
    ) -> list[Generation]:
        """Continue every prompt; raises ModelError for a prompt that does not fit the context.

        `rated` holds for each prompt replies in tokens whose log-probability is wanted besides: the prompt is read once.
        """
        ...

    def stream(
        self,
        prompt: list[int],
        sampling: Sampling,
        is_cancelled: Callable[[], bool] = lambda: False,
        *,
        rated: Sequence[list[int]] = (),
    ) -> Iterator[Piece]:
        """Continue one prompt piece by piece; stops soon after `is_cancelled` turns true."""
        ...

    def close(self) -> None:
        """Free the weights."""
        ...


def holds_shapes(engine: Engine) -> bool:
    """Tell whether an engine heeds `Sampling.shape`."""
    return bool(getattr(engine, "holds_shapes", False))


def prompt_identity(engine: Engine) -> str:
    """Equal for engines that make the same tokens of the same conversation; empty where an engine cannot tell."""
    return str(getattr(engine, "prompt_identity", ""))


class Retriever(Protocol):
    """Finds passages."""

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        """Return the best passages, best first."""
        ...


class Answerer(Protocol):
    """Answers conversations, whatever stands behind it."""

    name: str

    def answer_all(self, conversations: Sequence[Conversation], known: Sequence[str | None] = ()) -> Iterator[Answer]:
        """Yield one answer for each conversation, in order.

        With `known` answers, one each or None, an answerer that has the weights at hand also says how many bits per
        byte these would have cost it.
        """
        ...


class Extractor(Protocol):
    """Reads one kind of file; raises DocumentError for a file it cannot read."""

    def __call__(self, path: Path, source: Source) -> Document:
        """Return the document of a file."""
        ...


@dataclass(frozen=True)
class LlmRequest:
    """A prompt for a teacher or a judge; with a `schema` the reply is wanted as JSON of that model."""

    conversation: Conversation
    schema: type[BaseModel] | None = None
    label: str = ""  # what it is about, for messages and the journal; no part of what is asked
    sample: int = 0  # which of several replies to the same prompt this is


@dataclass(frozen=True)
class LlmReply:
    """What came back. A request that failed alone says so in `problem`, a short code, and `detail`.

    Tokens, price and requests count all that was paid for this reply, a second round included.
    """

    text: str = ""
    value: BaseModel | None = None
    problem: str = ""
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    price: float = 0.0
    requests: int = 0


class LlmClient(Protocol):
    """Asks a model that runs elsewhere, many prompts at once."""

    name: str

    def ask_all(self, requests: Sequence[LlmRequest]) -> Iterator[LlmReply]:
        """Yield one reply for each request, in order; raises ServiceError for what no other request would escape."""
        ...
