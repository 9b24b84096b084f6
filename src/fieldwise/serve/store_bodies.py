"""What clients send to search and change a store, and what they get."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, JsonValue

from fieldwise.serve.bodies import Body, NonEmptyText, Question
from fieldwise.store.protocol import FieldValue

MOST_HITS = 100


def _day(value: object) -> object:
    if value is None or isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("expected a day such as 2026-01-31")


Day = Annotated[date, BeforeValidator(_day)]
Name = Annotated[NonEmptyText, Field(max_length=1000)]
Value = str | bool | int | float | list[str]


class SearchBody(Body):
    """A search."""

    query: Question = Field(description="words or a question, never a query language; 4,000 characters count")
    top_k: int = Field(10, ge=1, le=MOST_HITS, description="most passages")
    filters: JsonValue = Field(
        None, description='such as {"field": "year", "range": {"at_least": 2024}}; see docs/store.md'
    )
    as_of: Day | None = Field(None, description="what was valid on this day; today without it")
    explain: bool = Field(False, description="what each stage made of each passage")
    fusion: Literal["convex", "reciprocal_ranks"] | None = None
    fold: float | None = Field(None, gt=0, le=1)
    per_document: int | None = Field(None, ge=1)
    diversity: float | None = Field(None, ge=0, lt=1)
    freshness: float | None = Field(None, ge=0, le=10)
    half_life_days: float | None = Field(None, gt=0)
    freshness_field: Name | None = None
    expand: Literal["none", "neighbours", "section"] | None = None
    neighbours: int | None = Field(None, ge=1, le=10)
    expand_chars: int | None = Field(None, ge=100, le=100_000)
    rewrite: Literal["none", "acronyms", "endpoint"] | None = None

    def options(self) -> dict[str, Any]:
        """Return the options this search names; the others are the service's."""
        asked = {"query", "top_k", "filters", "as_of", "explain"}
        return {name: value for name, value in self if name not in asked and value is not None}


class DocumentFields(Body):
    """What stands in no file."""

    uri: Name = Field(description="name or address of the document; the same again is its next version")
    title: NonEmptyText | None = None
    groups: list[Name] | None = Field(
        None, min_length=1, max_length=100, description="who may see it; without it the groups of the key"
    )
    licence: Name | None = None
    valid_from: Day | None = None
    valid_until: Day | None = None
    fields: dict[str, Value] = Field(
        default={}, description="texts, lists of texts, numbers, true or false to filter by"
    )
    keeps_earlier: bool = Field(False, description="earlier versions stay, valid until the day before valid_from")

    def field_values(self) -> dict[str, FieldValue]:
        """Return the fields as a store takes them."""
        return {name: tuple(value) if isinstance(value, list) else value for name, value in self.fields.items()}


class TextBody(DocumentFields):
    """A document as text."""

    text: NonEmptyText = Field(description="Markdown, HTML or plain text, as the ending of the uri says")


def parameters_of(query: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields of an upload as its address holds them; raises ValueError for a repeated or unreadable one.

    >>> parameters_of([("uri", "a.pdf"), ("groups", "x"), ("groups", "y"), ("fields", '{"year": 2024}')])
    {'uri': 'a.pdf', 'groups': ['x', 'y'], 'fields': {'year': 2024}}
    """
    found: dict[str, Any] = {}
    for name, value in query:
        if name == "groups":
            found.setdefault("groups", []).append(value)
        elif name in found:
            raise ValueError(f"{name} is given twice")
        elif name == "fields":
            try:
                found[name] = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise ValueError("fields is no JSON object") from error
        elif name == "keeps_earlier":
            found[name] = {"true": True, "false": False}.get(value, value)
        else:
            found[name] = value
    return found


class ShownDocument(BaseModel):
    """A document of the store; `groups` are those of its groups that the key has too."""

    id: str
    uri: str
    title: str
    version: int
    language: str | None
    licence: str | None
    valid_from: date | None
    valid_until: date | None
    fields: dict[str, Any]
    groups: list[str]
    chunks: int
    characters: int


class ListedDocuments(BaseModel):
    """Documents in the order they came; `next` is what `after` takes for those that follow, null at the end."""

    documents: list[ShownDocument]
    next: int | None


class AddedDocument(BaseModel):
    """What became of a document that was sent."""

    document: ShownDocument
    generation: int
    is_changed: bool
    notes: list[str]


class DeletedDocument(BaseModel):
    """What went: every version of the document."""

    id: str
    uri: str
    generation: int


class FoundPassage(BaseModel):
    """A passage with its place in the stored document."""

    rank: int
    score: float
    lexical: float | None
    dense: float | None
    chunk_id: str
    document_id: str
    uri: str
    title: str
    version: int
    heading_path: list[str]
    page: int | None
    start: int
    end: int
    text: str
    explain: dict[str, Any] | None = None


class SearchResult(BaseModel):
    """Passages, best first; `generation` is the state of the store that was searched."""

    results: list[FoundPassage]
    query: str
    is_cut: bool
    generation: int
    explain: dict[str, Any] | None = None
