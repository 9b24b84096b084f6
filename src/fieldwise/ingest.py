"""One more document for a store: read in the child process, cleaned, cut and embedded as the recipe's stages do it.

What the prepare stage leaves out because it should not teach (filters, languages, duplicates) is taken: who adds a
document by hand wants it found. Personal data is treated as the recipe says.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fieldwise.collect.extraction import ExtractionWorker, Limits
from fieldwise.collect.media import PICTURES, detect
from fieldwise.collect.names import safe_name, title_from_name
from fieldwise.collect.pdf import INSTALL_OCR
from fieldwise.collect.readers import OCR_READERS, READERS, ocr_versions
from fieldwise.collect.settings import CollectSettings
from fieldwise.collect.sources import READABLE
from fieldwise.errors import DatasetError, DocumentError
from fieldwise.prepare.chunk import chunk_document
from fieldwise.prepare.clean import clean_document
from fieldwise.prepare.language import detect_language
from fieldwise.prepare.redaction import StandIns, redact
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.prepare.tokens import TokenCounter
from fieldwise.records import Document, Source
from fieldwise.retrieve.index import passage_text
from fieldwise.store.protocol import DEFAULT_TENANT, Entry, FieldValue

_MAX_URI_CHARS = 1000


class Embedder(Protocol):
    """Turns texts into vectors; `fingerprint` names model and code."""

    @property
    def fingerprint(self) -> str:
        """Vectors of another fingerprint do not mix with these."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector a text."""
        ...


@dataclass(frozen=True)
class Particulars:
    """What stands in no file: for whom the document is, its terms, its days, its fields."""

    groups: Collection[str]
    tenant: str = DEFAULT_TENANT
    title: str | None = None
    licence: str | None = None
    valid_from: date | None = None
    valid_until: date | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


class Ingester:
    """Makes entries of files, one at a time, from any thread; to be closed at the end.

    `tokenizer` gives the tokenizer.json chunks are measured with; it is asked for with the first document.
    """

    def __init__(
        self,
        collect: CollectSettings,
        prepare: PrepareSettings,
        tokenizer: Callable[[], Path],
        embedder: Embedder | None,
    ) -> None:
        self._collect, self._prepare, self._tokenizer, self._embedder = collect, prepare, tokenizer, embedder
        self._counter: TokenCounter | None = None
        self._lock = threading.Lock()
        ocr = ocr_versions(collect.ocr) is not None
        self._readers = READERS | OCR_READERS if ocr else READERS
        limits = Limits(collect.timeout_seconds, collect.memory_mb, collect.max_unpacked_mb)
        self._worker = ExtractionWorker(limits, ocr=ocr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the reading process."""
        self._worker.close()

    def of_bytes(self, content: bytes, uri: str, particulars: Particulars) -> Entry:
        """Return the entry of a file that came over a wire; its kind is told from its content and the name in `uri`."""
        with tempfile.TemporaryDirectory(prefix="fieldwise-add-") as folder:
            path = Path(folder) / safe_name(uri.replace("\\", "/").rpartition("/")[2] or "document")
            path.write_bytes(content)
            return self.of_file(path, uri, particulars)

    def of_file(self, path: Path, uri: str, particulars: Particulars) -> Entry:
        """Return the entry of a file, known to the store as `uri`.

        Raises DocumentError for what cannot be read or is left empty, DatasetError for a uri that names nothing.
        """
        if not uri.strip() or len(uri) > _MAX_URI_CHARS or not uri.isprintable():
            raise DatasetError(
                f"a document needs a name of 1 to {_MAX_URI_CHARS} printable characters",
                where="uri",
                found=ascii(uri[:60]),
                fix="Give its file name or address.",
            )
        size = path.stat().st_size
        if size > self._collect.max_file_mb * 1e6:
            raise DocumentError(
                "the file is too large",
                reason="too_large",
                where=uri,
                found=f"{size / 1e6:.0f} MB",
                fix=f"collect.max_file_mb is {self._collect.max_file_mb:g}.",
            )
        with self._lock:
            try:
                document = self._read(path, uri, particulars)
            except DocumentError as error:
                error.where = error.where or uri
                raise
            return self._entry(document, particulars)

    def _read(self, path: Path, uri: str, particulars: Particulars) -> Document:
        detected = detect(path, uri)
        if detected.media_type is None:
            raise DocumentError(
                "files of this kind are not read",
                reason="unknown_type",
                found=detected.found,
                fix=f"Convert it to one of {READABLE}.",
            )
        if detected.media_type not in self._readers:
            is_picture = detected.media_type in PICTURES
            raise DocumentError(
                "pictures are read by text recognition alone" if is_picture else "files of this kind are not read",
                reason="needs_ocr" if is_picture else "unknown_type",
                found=detected.found,
                fix=f"{INSTALL_OCR}.",
            )
        content = path.read_bytes()
        read = self._worker.extract(path, Source(uri="", media_type=detected.media_type))
        source = Source(
            uri=uri,
            media_type=detected.media_type,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            licence=particulars.licence or read.source.licence,
        )
        return Document.make(
            title=particulars.title or read.title or title_from_name(uri.replace("\\", "/").rpartition("/")[2] or uri),
            text=read.text,
            source=source,
            pages=read.pages,
            headings=read.headings,
            tables=read.tables,
            notes=(*((detected.note,) if detected.note else ()), *read.notes),
        )

    def _entry(self, read: Document, particulars: Particulars) -> Entry:
        """Clean, redact and cut as the prepare stage does; embed as the index step does."""
        actions: dict[str, str] = self._prepare.personal_data.model_dump()
        redacted = redact(clean_document(read, self._prepare.clean).document, actions, StandIns())
        dropping = sorted(kind for kind in redacted.found if actions[kind] == "drop")
        if dropping:
            raise DocumentError(
                "the document holds personal data that the recipe keeps out",
                reason="personal_data",
                where=read.source.uri,
                found=", ".join(dropping),
                fix="Remove them from the file, or mask them with prepare.personal_data.",
            )
        text = redacted.document.text
        document = redacted.document.model_copy(update={"language": detect_language(text)})
        if self._counter is None:
            self._counter = TokenCounter.from_file(self._tokenizer())
        chunks = list(chunk_document(document, self._prepare.chunk, self._counter.spans)) if text.strip() else []
        if not chunks:
            raise DocumentError(
                "nothing is left of the document after cleaning",
                reason="empty",
                where=read.source.uri,
                found="; ".join(read.notes) or None,
                fix="Supply a file with text in it.",
            )
        vectors = None if self._embedder is None else self._embedder.encode([passage_text(c) for c in chunks])
        return Entry(
            document,
            chunks,
            particulars.groups,
            particulars.tenant,
            valid_from=particulars.valid_from,
            valid_until=particulars.valid_until,
            fields=particulars.fields,
            vectors=vectors,
            model="" if self._embedder is None else self._embedder.fingerprint,
        )
