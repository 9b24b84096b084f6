"""Questions whose right passages are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.records import Chunk

Level = Literal["passage", "document"]


class Span(NamedTuple):
    """Characters of a document that hold the evidence."""

    document_id: str
    start: int
    end: int


@dataclass(frozen=True)
class JudgedQuery:
    """A question with what is relevant to it: keys are ids of passages or of documents, values grades above 0."""

    id: str
    text: str
    relevant: Mapping[str, int]
    documents: Mapping[str, int] = field(default_factory=dict)
    """Relevant documents, where `relevant` speaks of passages."""
    spans: tuple[Span, ...] = ()
    kind: str = ""
    cluster: str = ""
    """What a bootstrap draws together: the document asked about, else the question itself."""

    @property
    def sha256(self) -> str:
        """Hash of the question and of what is relevant to it."""
        judged = [self.text, dict(self.relevant), dict(self.documents), [list(s) for s in self.spans]]
        return sha256_text(canonical_json(judged))


@dataclass(frozen=True)
class JudgedSet:
    """Judged questions over the passages of a run, or over a corpus of their own."""

    name: str
    kind: Literal["beir", "trec", "questions", "examples"]
    level: Level
    split: str
    queries: tuple[JudgedQuery, ...]
    corpus: Sequence[Chunk] | None = None
    """Passages that came with the questions; None: those of the run."""
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of all questions and judgements, in any order; equal hashes can be compared question by question."""
        return sha256_text(canonical_json([self.level, sorted([q.id, q.sha256] for q in self.queries)]))
