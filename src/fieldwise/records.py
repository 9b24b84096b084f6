"""The nouns of Fieldwise: what crosses files and wires.

Every record is frozen. Ids are hashes of the content they stand for, so that reruns agree, duplicates show,
and an answer can be followed back to the document that taught it.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fieldwise.hashing import canonical_json, content_id, sha256_text

NOT_STATED = "Not stated in the documents."
"""What every answerer says, word for word, when the documents do not tell."""


class Record(BaseModel):
    """Base of all records: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------- documents


class Source(Record):
    """Where a document came from."""

    uri: str = Field(description="file name below the collected folder, URL, or data set row")
    media_type: str = ""
    sha256: str = ""
    bytes: int = 0
    licence: str | None = None
    query: str | None = None
    date: str | None = Field(None, description="date that a data set states for the row, as it stands there")
    fetched_at: str | None = Field(None, description="ISO 8601, only for what came over a network")


class PageSpan(Record):
    """Which characters of the text stand on a page; pages count from 1."""

    number: int
    start: int
    end: int
    confidence: float | None = Field(
        None, description="mean confidence of text recognition, from 0 to 1; None for a page that has a text layer"
    )


class Heading(Record):
    """A heading: its level (1 is the highest), its text, and where it stands."""

    level: int
    text: str
    start: int
    end: int


class TableSpan(Record):
    """A table, kept in the text as Markdown."""

    start: int
    end: int
    rows: int
    columns: int


class Document(Record):
    """The text of one source with its structure; offsets count characters of `text`."""

    id: str
    title: str
    text: str
    source: Source
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[Heading, ...] = ()
    tables: tuple[TableSpan, ...] = ()
    language: str | None = None
    notes: tuple[str, ...] = Field((), description="what the reader should know, such as pages without text")

    @classmethod
    def make(
        cls,
        *,
        title: str,
        text: str,
        source: Source,
        pages: tuple[PageSpan, ...] = (),
        headings: tuple[Heading, ...] = (),
        tables: tuple[TableSpan, ...] = (),
        notes: tuple[str, ...] = (),
    ) -> Self:
        """Build a document with its id: the hash of where it stands and what it says."""
        identifier = content_id("doc", source.uri, sha256_text(text))
        return cls(
            id=identifier,
            title=title,
            text=text,
            source=source,
            pages=pages,
            headings=headings,
            tables=tables,
            notes=notes,
        )

    def page_at(self, offset: int) -> int | None:
        """Return the page on which a character stands, or None for documents without pages."""
        for page in self.pages:
            if page.start <= offset < page.end:
                return page.number
        return self.pages[-1].number if self.pages else None


class Chunk(Record):
    """A citable span of a document: `text` is `document.text[start:end]`, unchanged."""

    id: str
    document_id: str
    uri: str
    title: str
    start: int
    end: int
    text: str
    heading_path: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0
    kind: Literal["text", "table"] = "text"

    @classmethod
    def make(
        cls,
        document: Document,
        start: int,
        end: int,
        *,
        heading_path: tuple[str, ...] = (),
        tokens: int = 0,
        kind: Literal["text", "table"] = "text",
    ) -> Self:
        """Cut a chunk out of a document."""
        text = document.text[start:end]
        return cls(
            id=content_id("chk", document.id, start, end, sha256_text(text)),
            document_id=document.id,
            uri=document.source.uri,
            title=document.title,
            start=start,
            end=end,
            text=text,
            heading_path=heading_path,
            page=document.page_at(start),
            tokens=tokens,
            kind=kind,
        )

    @property
    def label(self) -> str:
        """Title and headings on one line, as shown above a passage."""
        parts = [self.title, *(h for h in self.heading_path if h != self.title)]
        return " > ".join(p for p in parts if p)


class Rejection(Record):
    """Something that was left out: at which stage, what, and why."""

    stage: str
    item: str = Field(description="file name, document id, chunk id or example id")
    reason: str = Field(description="short code, such as `encrypted` or `near_duplicate`")
    detail: str = ""
    query: str | None = Field(
        None, exclude_if=lambda query: query is None, description="the search that named it, if one did"
    )


# ---------------------------------------------------------------- conversations and examples


class ToolCall(Record):
    """A call of a tool by the model."""

    name: str
    arguments: dict[str, JsonValue]


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()


Conversation = tuple[Message, ...]


class Evidence(Record):
    """The words of a document that support an answer."""

    chunk_id: str
    quote: str


Phase = Literal["single_turn", "multi_turn", "tool_calls", "hard_negatives"]
"""Where an example stands in a curriculum, easy to hard in this order."""


class Example(Record):
    """One training item: a question, the answer in the words of its evidence, and the prompt it is asked with."""

    id: str
    question: str
    answer: str
    kind: str = Field(description="definition, heading, list, table, condition, fact, unanswerable, ...")
    style: Literal["closed", "grounded", "task"] = Field(
        "closed", description="asked without passages, or with them, or told to do something with them"
    )
    conversation: Conversation
    evidence: tuple[Evidence, ...] = ()
    chunk_ids: tuple[str, ...] = Field((), description="every passage shown, the evidence first")
    document_ids: tuple[str, ...] = ()
    split: Literal["train", "validation", "test"] = "train"
    difficulty: float = 0.0
    phase: Phase = "single_turn"
    tools: tuple[dict[str, JsonValue], ...] = Field(
        (), description="tools the model may call, declared in OpenAI's format"
    )

    @classmethod
    def make(
        cls,
        *,
        question: str,
        answer: str,
        kind: str,
        conversation: Conversation,
        style: Literal["closed", "grounded", "task"] = "closed",
        evidence: tuple[Evidence, ...] = (),
        chunk_ids: tuple[str, ...] = (),
        document_ids: tuple[str, ...] = (),
        split: Literal["train", "validation", "test"] = "train",
        difficulty: float = 0.0,
        phase: Phase = "single_turn",
        tools: tuple[dict[str, JsonValue], ...] = (),
    ) -> Self:
        """Build an example with its id: the hash of its conversation, and of its tools where it has any."""
        said = [m.model_dump(mode="json") for m in conversation]
        identifier = content_id("exa", said, list(tools)) if tools else content_id("exa", said)
        return cls(
            id=identifier,
            question=question,
            answer=answer,
            kind=kind,
            style=style,
            conversation=conversation,
            evidence=evidence,
            chunk_ids=chunk_ids,
            document_ids=document_ids,
            split=split,
            difficulty=difficulty,
            phase=phase,
            tools=tools,
        )


class PreferencePair(Record):
    """Two answers to one prompt, of which one is wanted."""

    id: str
    prompt: Conversation
    chosen: str
    rejected: str
    judge: str = Field(description="rules, human, or the name of a judging model")
    reason: str = Field(description="what is wrong with the rejected answer")
    chunk_ids: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    split: Literal["train", "validation", "test"] = "train"

    @classmethod
    def make(
        cls,
        *,
        prompt: Conversation,
        chosen: str,
        rejected: str,
        judge: str,
        reason: str,
        chunk_ids: tuple[str, ...] = (),
        document_ids: tuple[str, ...] = (),
        split: Literal["train", "validation", "test"] = "train",
    ) -> Self:
        """Build a pair with its id: the hash of prompt and both answers."""
        identifier = content_id("prf", [m.model_dump(mode="json") for m in prompt], chosen, rejected)
        return cls(
            id=identifier,
            prompt=prompt,
            chosen=chosen,
            rejected=rejected,
            judge=judge,
            reason=reason,
            chunk_ids=chunk_ids,
            document_ids=document_ids,
            split=split,
        )


class RatedReply(Record):
    """One reply to a prompt with a thumb up or down: no other reply stands beside it."""

    id: str
    prompt: Conversation
    reply: str
    is_wanted: bool
    judge: str = Field(description="data, or human")
    document_ids: tuple[str, ...] = ()
    split: Literal["train", "validation", "test"] = "train"

    @classmethod
    def make(
        cls,
        *,
        prompt: Conversation,
        reply: str,
        is_wanted: bool,
        judge: str,
        document_ids: tuple[str, ...] = (),
        split: Literal["train", "validation", "test"] = "train",
    ) -> Self:
        """Build a rating with its id: the hash of prompt, reply and label."""
        identifier = content_id("rat", [m.model_dump(mode="json") for m in prompt], reply, is_wanted)
        return cls(
            id=identifier,
            prompt=prompt,
            reply=reply,
            is_wanted=is_wanted,
            judge=judge,
            document_ids=document_ids,
            split=split,
        )


class Question(Record):
    """A question with its known answer, for measuring; None means the documents do not say."""

    id: str
    question: str
    answer: str | None
    aliases: tuple[str, ...] = ()
    document: str | None = Field(None, description="uri of the document that answers it")
    quote: str | None = None
    kind: str = ""
    domain: str = Field("", exclude_if=lambda name: not name, description="for slices of the report alone")
    difficulty: str = Field("", exclude_if=lambda name: not name, description="for slices of the report alone")


# ---------------------------------------------------------------- answers


class Citation(Record):
    """A claim tied to the words of a document."""

    mark: int = Field(description="the number n of [n] in the answer")
    chunk_id: str
    document_id: str
    uri: str
    title: str
    heading_path: tuple[str, ...] = ()
    page: int | None = None
    start: int = Field(description="where the quote stands in the document's text")
    end: int
    quote: str
    is_verified: bool = Field(description="the quote stands there, word for word, and holds the answer")
    version: int | None = Field(
        None, exclude_if=lambda version: version is None, description="version of the document, if a store keeps it"
    )
    path: str | None = Field(
        None,
        exclude_if=lambda path: path is None,
        description="JSON pointer of the value that the quote holds, in an answer to a schema",
    )


class RetrievedPassage(Record):
    """A chunk that was found for a question, with the scores that ranked it."""

    chunk: Chunk
    score: float
    lexical: float | None = None
    dense: float | None = None
    rerank: float | None = Field(
        None, exclude_if=lambda score: score is None, description="score of the reranker, if one has looked at it"
    )


class Searched(Record):
    """What was searched for a question that goes on from earlier ones, and who worded it."""

    query: str
    by: str = Field(description="joined, carried, or the name of the model that worded it")
    reason: str = Field("", exclude_if=lambda reason: not reason, description="why a model's wording was not taken")


class ScreenedPassage(Record):
    """A passage with text that reads as an instruction to a model, and what was done about it."""

    chunk_id: str
    document_id: str
    uri: str
    signs: tuple[str, ...] = Field(description="what was seen, such as override or hidden_characters")
    action: Literal["mark", "drop", "keep"]
    mark: int | None = Field(None, description="the number n of [n] it was shown under; None if it was not shown")


class Timings(Record):
    """Where the time of one answer went, in seconds."""

    retrieve_seconds: float = 0.0
    generate_seconds: float = 0.0
    first_token_seconds: float | None = None
    total_seconds: float = 0.0


class Answer(Record):
    """A reply with its evidence."""

    text: str = Field(description="what the model said, citation marks included")
    answer: str = Field(description="the same without citation marks")
    model: str
    citations: tuple[Citation, ...] = ()
    passages: tuple[RetrievedPassage, ...] = ()
    is_declined: bool = False
    doubt: float | None = Field(
        None, description="fitted probability that the passages do not answer the question; None without a fitted rule"
    )
    withheld: str = Field("", description="what the model said before it was held back because of the doubt")
    known_bits: float | None = Field(
        None, description="bits per byte of the known answer in place of this one, where it was asked for"
    )
    known_tokens: int | None = Field(
        None,
        exclude_if=lambda tokens: tokens is None,
        description="tokens of the known answer, by the tokenizer of the weights that were asked",
    )
    known_hits: int | None = Field(
        None,
        exclude_if=lambda hits: hits is None,
        description="of these tokens those that the model would have said next itself",
    )
    gone: tuple[str, ...] = Field(
        (),
        exclude_if=lambda gone: not gone,
        description="what became of cited documents that went while the answer was written; their citations are left out",
    )
    value: JsonValue = Field(
        None,
        exclude_if=lambda value: value is None,
        description="JSON that fits the schema that was asked for; absent when declined",
    )
    unsupported: tuple[str, ...] = Field(
        (),
        exclude_if=lambda paths: not paths,
        description="JSON pointers of texts and numbers of `value` that stand in no passage",
    )
    searched: Searched | None = Field(
        None,
        exclude_if=lambda searched: searched is None,
        description="what was searched in place of a question that goes on from earlier ones",
    )
    screened: tuple[ScreenedPassage, ...] = Field(
        (),
        exclude_if=lambda screened: not screened,
        description="passages that were found and hold instructions to a model",
    )
    unruled: str = Field(
        "",
        exclude_if=lambda why: not why,
        description="why the fitted rule of when to decline was not applied, if there is one",
    )
    problem: str = Field(
        "",
        exclude_if=lambda why: not why,
        description="why there is no answer, in a short code; what holds one is not scored by any metric",
    )
    finish_reason: Literal["stop", "length", "cancelled", "error"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timings: Timings = Timings()


# ---------------------------------------------------------------- models


class BaseWeights(Record):
    """The weights a run starts from: a size of the embedded base, a local folder, or a hub id with its revision."""

    model: str = "fieldwise-nano"
    revision: str | None = None
    path: str = Field("", description="the folder they were resolved to; not part of any key")
    sha256: str = ""
    licence: str | None = None


TrainingMethod = Literal["pretrain", "sft", "dpo", "orpo", "kto", "simpo", "cpo", "rloo", "grpo", "ppo", "distillation"]


class Adapter(Record):
    """LoRA weights and how they were made."""

    id: str
    method: TrainingMethod = Field(description="how it was trained; its folder is named after the step")
    base_sha256: str
    parent: str | None = Field(None, description="the adapter that was merged into the base first")
    recipe_hash: str
    example_ids: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    path: str = Field(description="relative to the run folder")


class ModelBuild(Record):
    """Something that can be served: merged weights or a quantised file."""

    id: str
    format: Literal["safetensors", "gguf"]
    quantisation: str = Field(description="none, f16, q8_0, q4_k_m, ... as found in the written file")
    adapter_id: str | None
    sha256: str
    bytes: int
    path: str = Field(description="relative to the run folder")
    tensor_types: dict[str, int] = {}
    parity: dict[str, JsonValue] = {}


# ---------------------------------------------------------------- evaluation


class Interval(Record):
    """A figure with its 95 % interval and the number of items behind it."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unscored: int = 0
    method: str = ""


class Difference(Interval):
    """A paired difference to a baseline: positive means better, whatever the metric's direction."""

    baseline: str = ""
    changed: int = Field(0, description="items whose score differs at all")
    freedom: float | None = Field(None, description="degrees of freedom of the p-values: documents less one")
    p: float | None = Field(None, description="two-sided p-value of no difference")
    p_adjusted: float | None = Field(None, description="the same, adjusted for all differences of the report (Holm)")
    detectable: float | None = Field(
        None, description="smallest true difference that questions like these show in 80 % of the cases"
    )


class GateResult(Record):
    """Whether one requirement holds."""

    metric: str
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    requirement: str
    found: str
    need_n: int | None = Field(None, description="about how many items would decide in 80 % of the cases")
    passes_from: float | None = Field(
        None, description="true difference from which on the gate passes in 80 % of the cases"
    )
    p: float | None = Field(None, description="one-sided p-value against the requirement being met")
    p_adjusted: float | None = Field(None, description="the same, adjusted for all gates judged together (Holm)")


def record_hash(record: Record) -> str:
    """Return the hash of everything a record says."""
    return sha256_text(canonical_json(record.model_dump(mode="json")))
