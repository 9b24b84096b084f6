"""The prepare stage: clean each document, leave out what should not teach, cut the rest into chunks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError, RunError
from fieldwise.extras import installed_version
from fieldwise.files import read_jsonl, write_json, write_jsonl, write_text
from fieldwise.hashing import sha256_file, sha256_of_files
from fieldwise.prepare.chunk import chunk_document
from fieldwise.prepare.clean import PassCount, clean_document
from fieldwise.prepare.duplicates import AT_ONCE, DuplicateFinder, NearPair, Verdict
from fieldwise.prepare.filters import judge, measure_document
from fieldwise.prepare.language import detect_language
from fieldwise.prepare.meaning import MeaningFinder
from fieldwise.prepare.presidio import presidio_detector
from fieldwise.prepare.quality import Quality
from fieldwise.prepare.redaction import KindCount, LeakReport, StandIns, redact
from fieldwise.prepare.report import EXACT, KEPT, PAGE, REPORT
from fieldwise.prepare.report_page import page
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.prepare.survey import Survey, Twin
from fieldwise.prepare.tokens import TokenCounter
from fieldwise.progress import say, track
from fieldwise.records import Chunk, Document, Rejection, record_hash
from fieldwise.run import StepRun
from fieldwise.tables import read_records, write_records

FOLDER = "2_chunks"
_MAX_WAITING_CHARS = 4_000_000  # of documents compared in one call
_DOCUMENTS = "1_documents/documents.parquet"
_NOT_READ = "1_documents/rejected.jsonl"
_LIBRARIES = ("ftfy", "py3langid", "tokenizers", "rensa")


def run(settings: PrepareSettings, step: StepRun, tokenizer_path: Path) -> dict[str, JsonValue]:
    """Prepare all documents of the run into `2_chunks/`; tokens are those of the given tokenizer.json.

    Returns counts. Raises DatasetError when no document is left.
    """
    source = step.run.require(_DOCUMENTS, made_by="collect")
    not_read = [Rejection.model_validate(row) for row in read_jsonl(step.run.require(_NOT_READ, made_by="collect"))]
    preparer = _Preparer(settings, step, tokenizer_path)
    if "pseudonymise" in preparer.actions.values():
        for document in track(read_records(source, Document), "numbering personal data"):
            preparer.number(document)
    sifted = _sift(settings, preparer, source)
    if not sifted.kept:
        raise DatasetError(
            "no document is left after preparing",
            where=_DOCUMENTS,
            found=_reasons(sifted.rejected),
            fix="Check prepare.languages, prepare.min_document_chars, prepare.filters, prepare.personal_data and the sources.",
        )
    quality = sifted.quality

    def kept() -> Iterator[Prepared]:  # from the memo each time: a large collection does not fit into memory
        return (
            preparer.prepared(document) for document in read_records(source, Document) if document.id in sifted.kept
        )

    documents_written = write_records(step.out(f"{FOLDER}/documents.parquet"), (p.document for p in kept()), Document)
    chunks_written = write_records(
        step.out(f"{FOLDER}/chunks.parquet"),
        (chunk for p in kept() for chunk in quality.add_kept(p.document, p.chunks)),
        Chunk,
    )
    rejected = sorted(sifted.rejected, key=lambda r: (r.item, r.reason))
    report = quality.report(rejected, sifted.near, sifted.near_in_meaning)
    write_jsonl(step.out(f"{FOLDER}/rejected.jsonl"), (r.model_dump(mode="json") for r in rejected))
    write_json(step.out(f"{FOLDER}/groups.json"), dict(sorted(sifted.groups.items())))
    write_json(step.out(f"{FOLDER}/quality.json"), report)
    write_json(step.out(f"{FOLDER}/personal_data.json"), sifted.leaks.to_json())
    told = sifted.survey.report(not_read, rejected, sifted.groups, quality, sha256_file(source))
    assert (told.kept, told.chunk_tokens.count) == (documents_written, chunks_written)
    write_json(step.out(REPORT), told.model_dump(mode="json"))
    write_text(step.out(PAGE), page(told))
    say(f"   {told.found} found, {told.read} read, {told.kept} kept")
    say(f"   {sifted.leaks.summary(quality.documents)}")
    return {
        "documents": report["documents"],
        "chunks": report["chunks"],
        "languages": report["languages"],
        "near_duplicates": len(sifted.near),
        "personal_data": sifted.leaks.facts(),
        **({"near_in_meaning": len(sifted.near_in_meaning)} if settings.duplicates.meaning_threshold else {}),
    }


# ---------------------------------------------------------------- one document


class Prepared(NamedTuple):
    """A cleaned document, its personal data treated, with its chunks, what cleaning did, what was found and measured."""

    document: Document
    chunks: tuple[Chunk, ...]
    passes: dict[str, PassCount]
    found: dict[str, KindCount]
    measures: dict[str, float]


class _Preparer:
    """Cleans and cuts documents, each once: the work is remembered by all that shapes it."""

    def __init__(self, settings: PrepareSettings, step: StepRun, tokenizer_path: Path) -> None:
        self._settings = settings
        self.actions = settings.personal_data.actions
        self._presidio = presidio_detector(settings.personal_data.presidio)
        self._stand_ins = StandIns()
        self._numbered: dict[str, tuple[str, ...]] = {}
        self._counter = TokenCounter.from_file(tokenizer_path)
        self._memo = step.run.memo("prepare")
        here = Path(__file__).parent
        code = sha256_of_files(here.glob("*.py"), here)
        self._key: list[JsonValue] = [
            settings.clean.keyed(),
            settings.chunk.keyed(),
            settings.personal_data.keyed(),
            sha256_file(tokenizer_path),
            code,
            {name: installed_version(name) for name in _LIBRARIES},
        ]

    def number(self, document: Document) -> None:
        """Give the values of a document their stand-ins; called for all documents in order before any is prepared.

        What is remembered of a document holds stand-ins, not values, so the numbers cannot be taken from there.
        """
        cleaned = clean_document(document, self._settings.clean).document
        self._numbered[document.id] = redact(cleaned, self.actions, self._stand_ins, self._presidio).stand_ins

    def prepared(self, document: Document) -> Prepared:
        """Return a document cleaned and redacted, with its language and its chunks; its id stays."""
        key = self.key_of(document)
        remembered = self._remembered(key)
        if remembered is not None:
            return remembered
        cleaned = clean_document(document, self._settings.clean)
        redacted = redact(cleaned.document, self.actions, self._stand_ins, self._presidio)
        final = redacted.document.model_copy(update={"language": detect_language(redacted.document.text)})
        chunks = tuple(chunk_document(final, self._settings.chunk, self._counter.spans))
        prepared = Prepared(final, chunks, cleaned.passes, redacted.found, measure_document(cleaned.document))
        self._memo.put(_to_json(prepared), *key, *self._key)
        return prepared

    def key_of(self, document: Document) -> tuple[JsonValue, ...]:
        """Return what a prepared document is remembered by."""
        return record_hash(document), list(self._numbered.get(document.id, ()))

    def text_of(self, key: tuple[JsonValue, ...]) -> str:
        """Return the cleaned text of a document that has been prepared before, by its key."""
        prepared = self._remembered(key)
        if prepared is None:
            raise RunError(
                "results of this run went missing while it ran", where=self._memo.folder, fix="Run the stage again."
            )
        return prepared.document.text

    def _remembered(self, key: tuple[JsonValue, ...]) -> Prepared | None:
        raw = self._memo.get(*key, *self._key)
        return _from_json(raw) if isinstance(raw, dict) else None


def _to_json(prepared: Prepared) -> dict[str, JsonValue]:
    return {
        "document": prepared.document.model_dump(mode="json"),
        "chunks": [[c.start, c.end, list(c.heading_path), c.tokens, c.kind] for c in prepared.chunks],
        "passes": {name: list(count) for name, count in prepared.passes.items()},
        "found": {
            kind: [c.findings, list(c.pages), dict(c.rules), dict(c.found_by)] for kind, c in prepared.found.items()
        },
        "measures": dict(prepared.measures),
    }


def _from_json(raw: dict[str, Any]) -> Prepared:
    document = Document.model_validate(raw["document"])
    chunks = tuple(
        Chunk.make(document, start, end, heading_path=tuple(path), tokens=tokens, kind=kind)
        for start, end, path, tokens, kind in raw["chunks"]
    )
    passes = {name: PassCount(*count) for name, count in raw["passes"].items()}
    found = {kind: KindCount(n, tuple(pages), rules, by) for kind, (n, pages, rules, by) in raw["found"].items()}
    return Prepared(document, chunks, passes, found, raw["measures"])


# ---------------------------------------------------------------- which documents stay


class _Sifted(NamedTuple):
    kept: frozenset[str]
    rejected: list[Rejection]
    near: list[tuple[NearPair, str, str]]
    near_in_meaning: list[tuple[NearPair, str, str]]
    groups: dict[str, str]
    quality: Quality
    leaks: LeakReport
    survey: Survey


def _sift(settings: PrepareSettings, preparer: _Preparer, source: Path) -> _Sifted:
    """Decide document by document, in the order of their names, so that of duplicates the first one stays."""
    quality = Quality()
    uris: dict[str, str] = {}
    keys: dict[str, tuple[JsonValue, ...]] = {}
    leaks = LeakReport(preparer.actions, names_finders=settings.personal_data.presidio.is_used)
    survey = Survey(preparer.actions)
    rejected: list[Rejection] = []
    near: list[tuple[NearPair, str, str]] = []
    kept: list[str] = []
    finder = DuplicateFinder(settings.duplicates, lambda identifier: preparer.text_of(keys[identifier]))
    threshold = settings.duplicates.meaning_threshold
    meaning = None if threshold is None else MeaningFinder(threshold)
    near_in_meaning: list[tuple[NearPair, str, str]] = []
    for document, prepared, reason, verdict in _compared(settings, preparer, finder, source, keys):
        quality.add_read(document, prepared.passes)
        leaks.add(document, prepared.found)
        twin: Twin | None = None
        if verdict is not None:
            uris[document.id] = document.source.uri
            near += [(pair, uris[pair.first], uris[pair.second]) for pair in verdict.near]
            best = max(verdict.near, key=lambda pair: pair.similarity, default=None)
            if verdict.exact is not None:
                twin = Twin(uris[verdict.exact], 1.0)
                reason = Rejection(
                    stage="prepare",
                    item=document.source.uri,
                    reason=EXACT,
                    detail=f"The same text as {uris[verdict.exact]} ({verdict.exact}).",
                )
            elif best is not None:
                twin = Twin(uris[best.first], best.similarity)
                if settings.duplicates.drop_near:
                    reason = Rejection(
                        stage="prepare",
                        item=document.source.uri,
                        reason="near_duplicate",
                        detail=f"{best.similarity:.0%} the same as {uris[best.first]} ({best.first}).",
                    )
            if meaning is not None and verdict.exact is None and prepared.chunks:
                alike = meaning.add(document.id, [c.text for c in prepared.chunks])
                for pair in alike:
                    finder.join(pair.first, document.id)
                near_in_meaning += [(pair, uris[pair.first], uris[pair.second]) for pair in alike]
                if alike and reason is None and settings.duplicates.drop_near:
                    reason = Rejection(
                        stage="prepare",
                        item=document.source.uri,
                        reason="near_in_meaning",
                        detail=f"It says the same as {uris[alike[0].first]} ({alike[0].first}): cosine {alike[0].similarity:.2f}.",
                    )
        if reason is None:
            kept.append(document.id)
        else:
            rejected.append(reason)
        outcome = reason.reason if reason else KEPT
        survey.add(document, prepared.document.language, prepared.chunks, prepared.found, outcome, twin)
    return _Sifted(frozenset(kept), rejected, near, near_in_meaning, finder.groups(), quality, leaks, survey)


def _compared(
    settings: PrepareSettings,
    preparer: _Preparer,
    finder: DuplicateFinder,
    source: Path,
    keys: dict[str, tuple[JsonValue, ...]],
) -> Iterator[tuple[Document, Prepared, Rejection | None, Verdict | None]]:
    """Yield each document as prepared with why it is unfit by itself, or else what it repeats; some hundred at once."""
    waiting: list[tuple[Document, Prepared, Rejection | None]] = []
    chars = 0

    def compared() -> Iterator[tuple[Document, Prepared, Rejection | None, Verdict | None]]:
        fit = [(document.id, prepared.document.text) for document, prepared, reason in waiting if reason is None]
        verdicts = iter(finder.add_all(fit))
        for document, prepared, reason in waiting:
            yield document, prepared, reason, next(verdicts) if reason is None else None

    for document in track(read_records(source, Document), "preparing"):
        prepared = preparer.prepared(document)
        reason = _unfit(prepared, settings, preparer.actions)
        if reason is None:
            keys[document.id] = preparer.key_of(document)
        waiting.append((document, prepared, reason))
        chars += len(prepared.document.text)
        if len(waiting) == AT_ONCE or chars > _MAX_WAITING_CHARS:
            yield from compared()
            waiting, chars = [], 0
    yield from compared()


def _unfit(prepared: Prepared, settings: PrepareSettings, actions: dict[str, str]) -> Rejection | None:
    """Why a document by itself is left out, or None."""
    document = prepared.document
    uri = document.source.uri
    if len(document.text) < settings.min_document_chars:
        return Rejection(
            stage="prepare",
            item=uri,
            reason="too_short",
            detail=f"{len(document.text)} characters are left of it, fewer than prepare.min_document_chars ({settings.min_document_chars}).",
        )
    if not document.text:
        return Rejection(stage="prepare", item=uri, reason="too_short", detail="Nothing is left of it after cleaning.")
    if settings.languages and document.language is not None and document.language not in settings.languages:
        return Rejection(
            stage="prepare",
            item=uri,
            reason="language",
            detail=f"It is in {document.language!r}; prepare.languages keeps {', '.join(settings.languages)}.",
        )
    dropping = {kind: count for kind, count in prepared.found.items() if actions[kind] == "drop"}
    if dropping:
        found = ", ".join(f"{count.findings} {kind}" for kind, count in dropping.items())
        keys = ", ".join(f"prepare.personal_data.{kind}" for kind in dropping)
        return Rejection(stage="prepare", item=uri, reason="personal_data", detail=f"It holds {found}; drop by {keys}.")
    verdict = judge(prepared.measures, settings.filters)
    if verdict is not None:
        return Rejection(stage="prepare", item=uri, reason=verdict.reason, detail=verdict.detail)
    return None


def _reasons(rejected: Iterator[Rejection] | list[Rejection]) -> str:
    found: dict[str, int] = {}
    for rejection in rejected:
        found[rejection.reason] = found.get(rejection.reason, 0) + 1
    return ", ".join(f"{count} {reason}" for reason, count in found.items()) or "no documents"
