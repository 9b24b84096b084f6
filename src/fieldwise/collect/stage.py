"""The collect stage: find, copy, read, and put on record what each document is and where it came from."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import IO, NamedTuple
from urllib.parse import urljoin

from pydantic import JsonValue

from fieldwise.collect.docling_setup import Docling, find_docling
from fieldwise.collect.extraction import ExtractionWorker, Limits, ReaderError
from fieldwise.collect.media import PDF, PICTURES, XML, detect
from fieldwise.collect.names import safe_name, title_from_name
from fieldwise.collect.ocr import LOW_CONFIDENCE
from fieldwise.collect.pdf import INSTALL_OCR, NO_TEXT_LAYER
from fieldwise.collect.readers import OCR_READERS, READERS, Reader, layout_reader, ocr_versions, xml_reader
from fieldwise.collect.row_documents import RowCollector
from fieldwise.collect.row_files import find_row_files
from fieldwise.collect.row_sets import RowSet, open_row_files, open_row_sets, row_fingerprint
from fieldwise.collect.settings import CollectSettings
from fieldwise.collect.sources import READABLE, Found, FoundFile, Origin, find_files, web_fingerprint, web_sources
from fieldwise.errors import DatasetError, DocumentError
from fieldwise.files import read_jsonl, write_json, write_jsonl
from fieldwise.hashing import canonical_json, sha256_bytes, sha256_file
from fieldwise.progress import track
from fieldwise.records import Document, Rejection, Source
from fieldwise.run import StepRun
from fieldwise.tables import write_records

FOLDER = "1_documents"
_BLOCK_BYTES = 1 << 20
_PASSING_REASONS = {"zip_bomb"}  # depend on a limit of the recipe, not on the file alone


def run(settings: CollectSettings, step: StepRun) -> dict[str, JsonValue]:
    """Read all sources into `1_documents/`; returns what was found.

    A file that cannot be read becomes a row of rejected.jsonl. Raises DatasetError when no document at all is left.
    """
    max_bytes = int(settings.max_file_mb * 1e6)
    sets = open_row_sets(settings)  # what is unclear of them ends the stage before hours of reading
    found = _with_web(find_local(settings), settings, step)
    record = _Record(list(found.rejected))
    limits = Limits(settings.timeout_seconds, settings.memory_mb, settings.max_unpacked_mb)
    taken, refused = step.out(f"{FOLDER}/rows.jsonl"), step.work / "refused-rows.jsonl"
    ocr = ocr_versions(settings.ocr) is not None
    docling = find_docling(settings)
    elements = settings.xml.elements
    with (
        ExtractionWorker(limits, ocr=ocr, xml_elements=elements) as worker,
        _layout_worker(settings, docling) as by_layout,
    ):
        readers = READERS | (OCR_READERS if ocr else {}) | ({XML: xml_reader(elements)} if elements else {})
        collector = _Collector(settings, step, worker, record, readers)
        if docling is not None:
            collector.read_pdf_with(by_layout, layout_reader(docling.version))
        rows = RowCollector(
            settings.licence, max_bytes, int(settings.max_unpacked_mb * 1e6), collector.read_text, taken, refused
        )
        documents = chain(collector.documents(found), record.counted(rows.documents(sets)))
        write_records(step.out(f"{FOLDER}/documents.parquet"), documents, Document)
    if not record.documents:
        raise DatasetError(
            "no file could be read",
            where=f"collect.sources: {', '.join(settings.labels)}",
            found=_listed(record),
            fix=f"Supply {READABLE} files with text in them.",
        )
    rejected = sorted(record.rejected, key=lambda r: (r.item, r.reason))
    write_jsonl(
        step.out(f"{FOLDER}/rejected.jsonl"),
        chain((r.model_dump(mode="json") for r in rejected), read_jsonl(refused)),
    )
    refused.unlink()
    record.add_rows(sets, rows)
    if not sets:
        taken.unlink()
    write_json(step.out(f"{FOLDER}/provenance.json"), record.provenance)
    return record.facts()


def require_sources(settings: CollectSettings) -> None:
    """Raise DatasetError for what of the sources of this machine is missing or unclear; nothing is fetched."""
    find_local(settings)
    open_row_files(settings)
    ocr_versions(settings.ocr)
    find_docling(settings)


def find_local(settings: CollectSettings) -> Found:
    """Return the files of this machine that are documents themselves: those of row sources are not among them.

    Raises DatasetError for a source that is not there or has nothing to read.
    """
    rows = find_row_files(settings)
    found = find_files(settings, leave_out=rows.paths)
    return Found(found.files, [*found.rejected, *(entry.rejection() for entry in rows.refused)])


def fingerprint(settings: CollectSettings) -> JsonValue:
    """Return what the sources hold now: [uri, SHA-256] of each file, [uri, reason] of what cannot be read.

    Of what is in the web or a data set of the hub the address or the question stands for the content: nothing is fetched to find out. A
    collection stands until the recipe changes or the stage is run with --force.
    """
    found = find_local(settings)
    lines: list[list[str]] = [[r.item, r.reason] for r in found.rejected]
    for file in found.files:
        try:
            lines.append([file.uri, sha256_file(file.path)])
        except OSError:
            lines.append([file.uri, "unreadable"])
    lines += [["web", canonical_json(asked)] for asked in web_fingerprint(settings)]
    lines += [["rows", canonical_json(held)] for held in row_fingerprint(settings)]
    if (docling := find_docling(settings)) is not None:
        lines.append(["layout", docling.version])
    return [list[JsonValue](line) for line in sorted(lines)]


def _layout_worker(settings: CollectSettings, docling: Docling | None) -> ExtractionWorker:
    """The process that reads PDF files by their layout; it starts with the first of them."""
    own = settings.docling
    limits = Limits(own.timeout_seconds, own.memory_mb, settings.max_unpacked_mb)
    return ExtractionWorker(limits, docling=docling)


def _with_web(found: Found, settings: CollectSettings, step: StepRun) -> Found:
    if not web_sources(settings):
        return found
    from fieldwise.collect.fetch import fetch_all

    fetched = fetch_all(settings, step)
    taken = {file.uri for file in found.files}
    files = [*found.files, *(file for file in fetched.files if file.uri not in taken)]
    return Found(sorted(files, key=lambda f: f.uri), [*found.rejected, *fetched.rejected])


# ---------------------------------------------------------------- the record of a run


@dataclass
class _Record:
    """What there is to say when all files are done."""

    rejected: list[Rejection]
    provenance: dict[str, object] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)
    refused_rows: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    pages: int = 0
    pages_without_text: int = 0
    pages_recognised: int = 0
    pages_unsure: int = 0
    tables: int = 0
    characters: int = 0

    def add(self, document: Document, reader: Reader, origin: Origin | None, stated_licence: str | None) -> None:
        source = document.source
        web = {} if origin is None else _web_provenance(origin, stated_licence)
        self.provenance[source.uri] = {
            **web,
            "media_type": source.media_type,
            "sha256": source.sha256,
            "bytes": source.bytes,
            "licence": source.licence,
            "reader": reader.name,
            **_recognised(document),
            "warnings": list(document.notes),
        }
        self._count(document, reader.name)

    def counted(self, documents: Iterator[Document]) -> Iterator[Document]:
        """Pass on documents made of rows, counting them; what is known of each stands in rows.jsonl."""
        for document in documents:
            self._count(document, "rows")
            yield document

    def add_rows(self, sets: list[RowSet], rows: RowCollector) -> None:
        """Put the row sets on record as a whole."""
        self.refused_rows = rows.reasons
        for one in sets:
            self.provenance[one.name] = {**one.provenance(), "reader": "rows", "documents": rows.counts[one.name]}

    def _count(self, document: Document, reader: str) -> None:
        self.types[reader] += 1
        self.documents += 1
        self.pages += len(document.pages)
        self.pages_without_text += sum(NO_TEXT_LAYER in note for note in document.notes)
        self.pages_recognised += sum(page.confidence is not None for page in document.pages)
        self.pages_unsure += len(_unsure(document))
        self.tables += len(document.tables)
        self.characters += len(document.text)

    def facts(self) -> dict[str, JsonValue]:
        reasons = Counter(r.reason for r in self.rejected) + self.refused_rows
        return {
            "documents": self.documents,
            "types": dict(sorted(self.types.items())),
            "rejected": dict(sorted(reasons.items())),
            "pages": self.pages,
            "pages_without_text": self.pages_without_text,
            "pages_read_by_ocr": self.pages_recognised,
            "pages_of_low_confidence": self.pages_unsure,
            "tables": self.tables,
            "characters": self.characters,
        }


def _web_provenance(origin: Origin, stated_licence: str | None) -> dict[str, JsonValue]:
    """The address asked for is the uri; when it was fetched stands in the memo, since no output holds a time."""
    searched: dict[str, JsonValue] = {"query": origin.query, "rank": origin.rank} if origin.query is not None else {}
    return {"final_url": origin.final_url, "stated_licence": stated_licence, **searched}


def _recognised(document: Document) -> dict[str, JsonValue]:
    """How sure text recognition is of the pages it has read; nothing for documents it has not touched."""
    sure = {page.number: page.confidence for page in document.pages if page.confidence is not None}
    if not sure:
        return {}
    mean = round(fmean(sure.values()), 3)
    return {"ocr": {"pages": list(sure), "confidence": mean, "low_confidence_pages": list(_unsure(document))}}


def _unsure(document: Document) -> list[int]:
    return [p.number for p in document.pages if p.confidence is not None and p.confidence < LOW_CONFIDENCE]


def _listed(record: _Record) -> str:
    counts = ", ".join(f"{n} {reason}" for reason, n in Counter(r.reason for r in record.rejected).most_common())
    first = record.rejected[0] if record.rejected else None
    return f"{counts}; the first is {first.item}: {first.detail}" if first else "no files"


# ---------------------------------------------------------------- one file after the other


class _Original(NamedTuple):
    """The copy of a file in the run folder, and its hash."""

    path: Path
    sha256: str


class _Collector:
    """Turns found files into documents; what fails is put on record."""

    def __init__(
        self,
        settings: CollectSettings,
        step: StepRun,
        worker: ExtractionWorker,
        record: _Record,
        readers: dict[str, Reader],
    ) -> None:
        self._settings, self._step, self._worker, self._record = settings, step, worker, record
        self._readers = readers
        self._memo = step.run.memo("extract")
        self._kept: set[Path] = set()
        self._by_layout: tuple[ExtractionWorker, Reader] | None = None

    def read_pdf_with(self, worker: ExtractionWorker, reader: Reader) -> None:
        """Have PDF files read by another process; scans among them are read as without it."""
        self._by_layout = worker, reader

    def documents(self, found: Found) -> Iterator[Document]:
        """Yield the documents by uri."""
        for file in track(found.files, "reading"):
            try:
                yield self._collect(file)
            except DocumentError as error:
                query = file.origin.query if file.origin else None
                self._record.rejected.append(
                    Rejection(stage="collect", item=file.uri, reason=error.reason, detail=str(error), query=query)
                )

    def _collect(self, file: FoundFile) -> Document:
        """Read a copy, so that nothing changes under the reader; the copy stays as the original of this run."""
        original, sha256 = self._copy(file)
        try:
            detected = detect(original, file.name)
            if detected.media_type == XML and XML not in self._readers:
                raise DocumentError(
                    "XML files are read once the recipe says what their elements are",
                    reason="unknown_type",
                    found=detected.found,
                    fix="Name them in collect.xml.elements, or leave it out with collect.exclude.",
                )
            if detected.media_type is None:
                raise DocumentError(
                    "files of this kind are not read",
                    reason="unknown_type",
                    found=detected.found,
                    fix=f"Convert it to one of {READABLE}.",
                )
            if detected.media_type in PICTURES and detected.media_type not in self._readers:
                raise DocumentError(
                    "pictures are read by text recognition alone",
                    reason="needs_ocr",
                    found=detected.found,
                    fix=f"{INSTALL_OCR}, or leave it out with collect.exclude.",
                )
            reader, read = self._read_by_kind(original, sha256, detected.media_type)
            self._require_unchanged(file, sha256)
        except DocumentError:
            if original not in self._kept:
                original.unlink(missing_ok=True)
            raise
        self._kept.add(original)
        stated = stated_licence(file.origin, read.source.licence) if file.origin else None
        source = Source(
            uri=file.uri,
            media_type=detected.media_type,
            sha256=sha256,
            bytes=original.stat().st_size,
            licence=self._settings.licence or stated,
            query=file.origin.query if file.origin else None,
        )
        notes = (*((detected.note,) if detected.note else ()), *read.notes)
        document = Document.make(
            title=read.title or title_from_name(file.name),
            text=read.text,
            source=source,
            pages=read.pages,
            headings=read.headings,
            tables=read.tables,
            notes=notes,
        )
        self._record.add(document, reader, file.origin, stated)
        return document

    def read_text(self, text: str, media_type: str) -> Document:
        """Return a text as the reader of its kind reads it in the child process, or remember what it said."""
        content = text.encode("utf-8", "replace")
        path = self._step.work / "text-of-a-row"
        path.write_bytes(content)
        try:
            return self._read(path, sha256_bytes(content), media_type, self._readers[media_type], self._worker)
        finally:
            path.unlink(missing_ok=True)

    def _copy(self, file: FoundFile) -> _Original:
        """Copy a file into the run folder, hashing it on the way; a file that outgrew its limit meanwhile is cut off."""
        folder = self._step.out(f"{FOLDER}/originals/x").parent
        temporary = folder / ".copying"
        digest = hashlib.sha256()
        copied = 0
        try:
            source = file.path.open("rb")
        except OSError as error:
            raise DocumentError(
                "the file cannot be opened",
                reason="unreadable",
                found=error.strerror,
                fix="Give read permission and run again.",
            ) from error
        try:
            with source, temporary.open("wb") as target:
                while copied <= file.bytes and (block := _read_block(source)):
                    digest.update(block)
                    target.write(block)
                    copied += len(block)
            if copied != file.bytes:
                raise _changed(f"{file.bytes} bytes, then {copied if copied < file.bytes else 'more'}")
            original = folder / f"{digest.hexdigest()[:16]}-{safe_name(file.name)}"
            temporary.replace(original)
        finally:
            temporary.unlink(missing_ok=True)
        return _Original(original, digest.hexdigest())

    def _read_by_kind(self, original: Path, sha256: str, media_type: str) -> tuple[Reader, Document]:
        reader = self._readers[media_type]
        if self._by_layout is not None and media_type == PDF:
            worker, by_layout = self._by_layout
            try:
                return by_layout, self._read(original, sha256, media_type, by_layout, worker)
            except DocumentError as error:
                if error.reason != "no_text_layer" or reader is not OCR_READERS[PDF]:
                    raise
        return reader, self._read(original, sha256, media_type, reader, self._worker)

    def _read(self, original: Path, sha256: str, media_type: str, reader: Reader, worker: ExtractionWorker) -> Document:
        """Read a file, or remember what it said: the same bytes are read once by each version of a reader."""
        key: tuple[JsonValue, ...] = (sha256, reader.name, _version(reader))
        remembered = self._memo.get(*key)
        if isinstance(remembered, dict):
            if "reason" in remembered:
                raise ReaderError(str(remembered["detail"]), reason=str(remembered["reason"]))
            return Document.model_validate(remembered)
        try:
            document = worker.extract(original, Source(uri="", media_type=media_type))
        except ReaderError as answer:
            if answer.reason not in _PASSING_REASONS:
                self._memo.put({"reason": answer.reason, "detail": answer.what}, *key)
            raise
        self._memo.put(document.model_dump(mode="json"), *key)
        return document

    def _require_unchanged(self, file: FoundFile, sha256: str) -> None:
        try:
            now = sha256_file(file.path)
        except OSError as error:
            raise _changed("it is gone") from error
        if now != sha256:
            raise _changed("another content")


def stated_licence(origin: Origin, in_page: str | None) -> str | None:
    """Return the licence that the server or the page states; one that is a link, as a whole address."""
    if origin.licence is not None or in_page is None:
        return origin.licence
    is_link = in_page.startswith(("/", "./", "../", "//")) and " " not in in_page
    return urljoin(origin.final_url, in_page) if is_link else in_page


def _read_block(stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_BLOCK_BYTES)
    except OSError as error:
        raise DocumentError(
            "the file cannot be read",
            reason="unreadable",
            found=error.strerror,
            fix="Check the disk or the network share and run again.",
        ) from error


def _changed(found: str) -> DocumentError:
    return DocumentError(
        "the file changed while it was read",
        reason="changed_while_read",
        found=found,
        fix="Wait until nobody writes to it and run again.",
    )


@functools.cache
def _version(reader: Reader) -> str:
    return reader.version()
