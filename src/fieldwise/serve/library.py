"""The documents of a run as the service needs them: search, look up, and hand out the original."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Protocol

from fieldwise.errors import DatasetError
from fieldwise.hashing import sha256_file
from fieldwise.records import Answer, Chunk, Document, RetrievedPassage
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.retrieve.features import FeatureReranker, LinearModel
from fieldwise.retrieve.index import open_index
from fieldwise.retrieve.rerank import Reranker
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.writer import SearchWriter
from fieldwise.store.protocol import Identity
from fieldwise.tables import read_records

ORIGINALS = "1_documents/originals"


class NotFoundError(DatasetError):
    """There is no document or chunk with this id."""


class Shelf(Protocol):
    """The documents that are there for one caller."""

    @property
    def counts(self) -> tuple[int, int]:
        """How many documents and chunks there are."""
        ...

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        """Return the best passages, best first."""
        ...

    def similarity(self, query: str, texts: list[str]) -> list[float] | None:
        """Return the cosine of each text to a query, or None without embeddings."""
        ...

    def rerank_method(self, method: str | None) -> str:
        """Return the name of what orders texts where a method, or none, is asked for."""
        ...

    def rerank_scores(self, query: str, texts: list[str], method: str | None) -> list[float] | None:
        """Return what a reranker says of each text; None where method and run ask for none."""
        ...

    def stems(self, text: str) -> list[str]:
        """Return the words of a text as the lexical index counts them."""
        ...

    def document(self, identifier: str) -> Document:
        """Return a document; raises NotFoundError, and GoneError for one that was there."""
        ...

    def original(self, document: Document) -> Path | None:
        """Return the file a document was read from, if it is still kept."""
        ...

    def standing(self, answer: Answer) -> Answer:
        """Return an answer without what rests on documents that went while it was written."""
        ...


class TextReranker:
    """What scores texts that a caller brings: the reranker of the run, or the one that is asked for."""

    def __init__(self, reranker: Reranker | None, embedder: MiniLmEmbedder | None, stemmer: str) -> None:
        self._reranker, self._embedder, self._stemmer = reranker, embedder, stemmer

    def method(self, asked: str | None) -> str:
        """Return the name of what orders texts: that of the run, or mixed, where none is asked for."""
        return asked or (self._reranker.name if self._reranker is not None else "mixed")

    def scores(self, query: str, texts: list[str], asked: str | None) -> list[float] | None:
        """Return what a reranker says of each text; None where neither caller nor run ask for one."""
        if asked == "mixed":
            return None
        is_other = asked == "features" and not isinstance(self._reranker, FeatureReranker)
        reranker = self._features if is_other else self._reranker
        return None if reranker is None else reranker.predict([(query, text) for text in texts])

    @cached_property
    def _features(self) -> FeatureReranker:
        """The features model that is shipped, where the run has none of its own."""
        return FeatureReranker(LinearModel.shipped(), self._embedder, self._stemmer)


class Library:
    """Chunks and index are read at once, documents with the first question for one."""

    writer: SearchWriter | None = None
    """Nobody words the searches of a run's own index."""

    def __init__(self, run: RunFolder, settings: RetrieveSettings) -> None:
        self._run = run
        chunks = list(read_records(run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
        self._index = open_index(chunks, run.require("2_chunks/index/index.json", "prepare").parent, settings)
        self._chunks = {chunk.id: chunk for chunk in chunks}
        self._lock = threading.Lock()
        self._texts = TextReranker(self._index.reranker, self._index.embedder, settings.stemmer)

    def reader(self, identity: Identity | None = None) -> Library:
        """Return the documents for a caller: those of a run are for everyone who may ask."""
        return self

    @property
    def counts(self) -> tuple[int, int]:
        """How many documents and chunks there are."""
        return len(self.documents), len(self._chunks)

    @cached_property
    def documents(self) -> dict[str, Document]:
        """Every document by its id."""
        return {d.id: d for d in read_records(self._run.require("2_chunks/documents.parquet", "prepare"), Document)}

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        """Return the best passages, best first; implements `interfaces.Retriever` for many threads."""
        with self._lock:  # OpenVINO computes one request at a time and refuses a second
            return self._index.search(query, top_k)

    def similarity(self, query: str, texts: list[str]) -> list[float] | None:
        """Return the cosine of each text to a query, or None when the index has no embeddings."""
        embedder: MiniLmEmbedder | None = self._index.embedder
        if embedder is None:
            return None
        with self._lock:
            vectors = embedder.encode([query, *texts])
        return [float(score) for score in vectors[1:] @ vectors[0]]

    def rerank_method(self, method: str | None) -> str:
        """Return the name of what orders texts: that of the run, or mixed, where no method is asked for."""
        return self._texts.method(method)

    def rerank_scores(self, query: str, texts: list[str], method: str | None) -> list[float] | None:
        """Return what a reranker says of each text; None where method and run ask for none."""
        with self._lock:
            return self._texts.scores(query, texts, method)

    def stems(self, text: str) -> list[str]:
        """Return the words of a text as the lexical index counts them."""
        return list(self._index.lexical.analyse.analyze(text))

    def chunk(self, identifier: str) -> Chunk:
        """Return a chunk; raises NotFoundError."""
        if identifier not in self._chunks:
            raise NotFoundError(
                "there is no such chunk",
                found=identifier,
                fix="Take the id from an answer of this service: ids change with the documents.",
            )
        return self._chunks[identifier]

    def document(self, identifier: str) -> Document:
        """Return a document; raises NotFoundError."""
        if identifier not in self.documents:
            raise NotFoundError(
                "there is no such document",
                found=identifier,
                fix="Take the id from an answer of this service: ids change with the documents.",
            )
        return self.documents[identifier]

    def original(self, document: Document) -> Path | None:
        """Return the file a document was read from, if the run still holds exactly these bytes."""
        return file_of(document, self._run.path / ORIGINALS)

    def standing(self, answer: Answer) -> Answer:
        """Return the answer: the documents of a run stay while it is served."""
        return answer

    def close(self) -> None:
        """Nothing has to be released."""


def file_of(document: Document, *folders: Path) -> Path | None:
    """Return the file of exactly the bytes a document was read from, if one of the folders holds it."""
    digest = document.source.sha256
    if not digest:
        return None
    found = (p for folder in folders for p in sorted(folder.glob(f"{digest[:16]}*")) if p.is_file())
    return next((p for p in found if sha256_file(p) == digest), None)
