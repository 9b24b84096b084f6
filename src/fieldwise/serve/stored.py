"""The documents of a store as the service needs them: for one caller each, and changing while it serves."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.files import write_bytes
from fieldwise.records import Answer, Citation, Document, RetrievedPassage
from fieldwise.retrieve.embed import MiniLmEmbedder, open_embedder
from fieldwise.retrieve.lexical import analyser
from fieldwise.retrieve.rerank import open_reranker
from fieldwise.retrieve.search import reranked
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.library import ORIGINALS, NotFoundError, TextReranker, file_of
from fieldwise.serve.problems import RequestError
from fieldwise.serve.settings import ServeSettings
from fieldwise.serve.writer import SearchWriter
from fieldwise.store.catalogue import FILE
from fieldwise.store.from_run import import_run
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import DEFAULT_TENANT, EVERYONE, Entry, GoneError, Identity, StoredDocument
from fieldwise.store.retriever import Looked, StoreRetriever

if TYPE_CHECKING:
    from fieldwise.ingest import Ingester

log = logging.getLogger(__name__)
OpenIngester = Callable[[MiniLmEmbedder | None], "Ingester"]
UPLOADED = "originals"
_NO_LONGER = "the document is no longer there"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def open_store_library(
    run: RunFolder, settings: ServeSettings, retrieve: RetrieveSettings, ingest: OpenIngester | None = None
) -> StoreLibrary:
    """Open the store of the settings; one that is not there is made from the run, with every document for everyone.

    Raises ModelError for a store whose vectors are of another model, RunError for one that another process writes to or
    that cannot be written.
    """
    assert settings.store is not None
    folder = Path(settings.store)
    is_new = not (folder / FILE).exists()
    if settings.read_only:
        store = LocalStore.read(folder)
    else:
        store = LocalStore.open(folder, language=retrieve.stemmer)
    try:
        if is_new:
            made = import_run(store, run.path, groups=[EVERYONE])
            log.info("store made from the run", extra={"fields": {"documents": made.documents, "chunks": made.chunks}})
        stats = store.stats()
        model, has_vectors = stats.model, bool(stats.model) or not stats.chunks
        embedder = open_embedder(retrieve) if retrieve.embedding != "none" and has_vectors else None
        if embedder is not None and model not in ("", embedder.fingerprint):
            raise ModelError(
                "the vectors of the store are of another embedding model",
                where=folder,
                found=model,
                fix=f"Embed its chunks with {embedder.fingerprint} and activate it, or set retrieve.embedding to none.",
            )
        return StoreLibrary(store, run, settings, retrieve, embedder, ingest)
    except BaseException:
        store.close()
        raise


class StoreLibrary:
    """A store that is served; `reader` gives what is there for one caller."""

    def __init__(
        self,
        store: LocalStore,
        run: RunFolder,
        settings: ServeSettings,
        retrieve: RetrieveSettings,
        embedder: MiniLmEmbedder | None,
        ingest: OpenIngester | None,
    ) -> None:
        self.store, self.embedder, self._open_ingester = store, embedder, ingest
        self.folders = (store.folder / UPLOADED, run.path / ORIGINALS)
        self._analyser = analyser(_tantivy(), retrieve.stemmer)
        self._ingester: Ingester | None = None
        self._owner = Identity(DEFAULT_TENANT, frozenset(settings.groups))
        self.writer = SearchWriter(settings.search.endpoint) if settings.search.endpoint.base_url else None
        reranker = open_reranker(retrieve, embedder)
        self.texts = TextReranker(reranker, embedder, retrieve.stemmer)

        def rerank(query: str, found: Sequence[RetrievedPassage]) -> list[RetrievedPassage]:
            assert reranker is not None
            return reranked(reranker, query, found, retrieve)

        self.retriever = StoreRetriever(
            store,
            embedder,
            self._owner,
            retrieve,
            options=settings.search,
            client=self.writer,
            rerank=None if reranker is None else rerank,
        )

    def reader(self, identity: Identity | None = None) -> StoreReader:
        """Return the documents that are there for someone; None asks as whoever runs the service."""
        return StoreReader(self, self._owner if identity is None else identity)

    def stems(self, text: str) -> list[str]:
        """Return the words of a text as the lexical index counts them."""
        return list(self._analyser.analyze(text))

    @property
    def ingester(self) -> Ingester:
        """What reads documents that are added; raises RunError where there is none."""
        if self._open_ingester is None:
            raise RunError("this service cannot read documents", fix="Start it with: fieldwise serve --store DIR")
        if self._ingester is None:
            self._ingester = self._open_ingester(self.embedder)
        return self._ingester

    def add(self, entry: Entry, content: bytes, *, keeps_earlier: bool = False) -> tuple[int, bool]:
        """Put an entry in one transaction, and keep the file it was read from; (generation, whether anything changed)."""
        digest = entry.document.source.sha256
        path = self.folders[0] / f"{digest[:16]}-{_UNSAFE.sub('_', Path(entry.document.source.uri).name)[-80:]}"
        self.folders[0].mkdir(exist_ok=True)
        earlier = self._files_of(entry.document.source.uri, entry.tenant)
        write_bytes(path, content)
        try:
            before = self.store.stats().generation
            generation = self.store.put(entry, keeps_earlier=keeps_earlier)
        finally:
            self._forget_files({*earlier, digest})
        return generation, generation != before

    def delete(self, document: StoredDocument) -> None:
        """Remove every version of a document, and the files these were read from."""
        files = self._files_of(document.uri, document.tenant)
        self.store.delete(document.uri, document.tenant)
        self._forget_files(files)

    def _files_of(self, uri: str, tenant: str) -> set[str]:
        return set(self.store.files_of(uri, tenant))

    def _forget_files(self, digests: set[str]) -> None:
        """Delete uploaded files of these SHA-256 that no document was read from any more."""
        for digest in digests:
            if digest and not self.store.count_of_file(digest):
                for path in self.folders[0].glob(f"{digest[:16]}-*"):
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the store."""
        if self._ingester is not None:
            self._ingester.close()
        self.store.close()


class StoreReader:
    """A store for one identity; implements `library.Shelf`."""

    def __init__(self, library: StoreLibrary, identity: Identity) -> None:
        self._library, self.identity, self._store = library, identity, library.store

    @property
    def counts(self) -> tuple[int, int]:
        """How many documents and chunks are there for this identity."""
        return self._store.count_for(self.identity)

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        """Return the best passages, best first."""
        return self.look(self._library.retriever.acting_for(self.identity), query, top_k).passages

    def look(self, retriever: StoreRetriever, query: str, top_k: int) -> Looked:
        """Search; what is wrong with the store rather than the question is a 503 problem without a path in it."""
        try:
            return retriever.look(query, top_k)
        except (ModelError, RunError) as error:
            log.error("the store cannot be searched", exc_info=error)
            raise RequestError(
                503, "store_not_available", error.what, found=error.found, fix="Ask whoever runs the service."
            ) from error

    @property
    def retriever(self) -> StoreRetriever:
        """What searches for this identity."""
        return self._library.retriever.acting_for(self.identity)

    def similarity(self, query: str, texts: list[str]) -> list[float] | None:
        """Return the cosine of each text to a query, or None without embeddings."""
        if self._library.embedder is None:
            return None
        vectors = self._library.embedder.encode([query, *texts])
        return [float(score) for score in vectors[1:] @ vectors[0]]

    def rerank_method(self, method: str | None) -> str:
        """Return the name of what orders texts: that of the run, or mixed, where no method is asked for."""
        return self._library.texts.method(method)

    def rerank_scores(self, query: str, texts: list[str], method: str | None) -> list[float] | None:
        """Return what a reranker says of each text; None where method and run ask for none."""
        return self._library.texts.scores(query, texts, method)

    def stems(self, text: str) -> list[str]:
        """Return the words of a text as the lexical index counts them."""
        return self._library.stems(text)

    def document(self, identifier: str) -> Document:
        """Return a document; raises GoneError for one that went, NotFoundError for one that is not there for this identity."""
        try:
            return self._store.original(identifier, self.identity)
        except GoneError:
            raise
        except DatasetError as error:
            raise NotFoundError(error.what, found=identifier, fix=error.fix) from error

    def original(self, document: Document) -> Path | None:
        """Return the file a document was read from, if it is still kept."""
        return file_of(document, *self._library.folders)

    def standing(self, answer: Answer) -> Answer:
        """Return an answer with its citations held against the stored originals, each with its version.

        What rests on documents that went while it was written is taken out, and the answer says so in its words.
        """
        gone, kept = self._gone(answer), []
        for citation in answer.citations:
            try:
                found = self._store.quote(citation.document_id, citation.start, citation.end, self.identity)
            except GoneError as error:
                gone[citation.document_id] = error.what
            except DatasetError:
                gone.setdefault(citation.document_id, _NO_LONGER)
            else:
                is_verified = citation.is_verified and found.text == citation.quote
                kept.append(citation.model_copy(update={"version": found.version, "is_verified": is_verified}))
        return _without(answer, kept, gone) if gone else answer.model_copy(update={"citations": tuple(kept)})

    def _gone(self, answer: Answer) -> dict[str, str]:
        """What became of the documents an answer was shown that are no longer there."""
        gone: dict[str, str] = {}
        for identifier in {p.chunk.document_id for p in answer.passages}:
            try:
                self._store.describe(identifier, self.identity)
            except GoneError as error:
                gone[identifier] = error.what
            except DatasetError:
                gone[identifier] = _NO_LONGER
        return gone


def _without(answer: Answer, kept: list[Citation], gone: dict[str, str]) -> Answer:
    """Return an answer without the words, passages and citations of documents that went."""
    told = (f"{p.chunk.uri}: {gone[p.chunk.document_id]}" for p in answer.passages if p.chunk.document_id in gone)
    passages = tuple(  # blank, not left out: their places are the numbers of the marks
        p.model_copy(update={"chunk": p.chunk.model_copy(update={"text": ""})}) if p.chunk.document_id in gone else p
        for p in answer.passages
    )
    update: dict[str, Any] = {
        "passages": passages,
        "citations": tuple(kept),
        "gone": tuple(dict.fromkeys(told)),
        "withheld": "",
    }
    if answer.is_declined:
        return answer.model_copy(update=update)
    if not kept or (answer.value is not None and len(kept) < len(answer.citations)):
        text = f"No answer: {next(iter(gone.values()))} while it was written. Please ask again."
        update |= {"text": text, "answer": text, "is_declined": True, "citations": (), "value": None, "unsupported": ()}
        return answer.model_copy(update=update)
    lost = {c.mark for c in answer.citations} - {c.mark for c in kept}
    if lost:
        note = " (One of the documents cited went while this was written.)"
        text = re.sub(r"\s*\[(\d)\]", lambda m: "" if int(m[1]) in lost else m[0], answer.text)
        update |= {"text": text + note, "answer": answer.answer + note}
    return answer.model_copy(update=update)


def _tantivy() -> Any:
    from fieldwise.extras import require

    return require("tantivy", extra="rag", to="search by words")
