"""The lexical index of a store: tantivy, one field a language, made from the catalogue and made again when need be.

The index says itself which generation it holds: a marker document is replaced in the same commit as the chunks.
A reader that finds no usable index on disk builds one in memory from the catalogue.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import DatasetError, RunError
from fieldwise.extras import require
from fieldwise.files import raise_if_full, read_json, write_json
from fieldwise.retrieve.lexical import HEADER_WEIGHT, analyser, query_terms
from fieldwise.store.snapshot import Words

LOG = logging.getLogger(__name__)
FORMAT = 1
_POINTER = "words.json"
_HEAP_BYTES = 48_000_000
_MAX_TERMS = 256
_K1, _B = 1.2, 0.75
_USUAL_BODY_TERMS, _USUAL_HEADER_TERMS = 100, 8  # where the mean of all chunks is not known
_LARGEST = 2**62
# language of a document (ISO 639-1) -> tantivy's stemmer
STEMMERS = {
    "ar": "arabic",
    "da": "danish",
    "nl": "dutch",
    "en": "english",
    "fi": "finnish",
    "fr": "french",
    "de": "german",
    "el": "greek",
    "hu": "hungarian",
    "it": "italian",
    "no": "norwegian",
    "nb": "norwegian",
    "nn": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "es": "spanish",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
_WITHOUT_BLANKS = {"zh", "ja", "th", "lo", "km", "my"}  # written without blanks between words
_PLAIN, _PAIRS = "plain", "pairs"
_FIELDS = sorted({*STEMMERS.values(), _PLAIN, _PAIRS})
_STOP_WORDS = set(
    "danish dutch finnish french german hungarian italian norwegian portuguese russian spanish swedish".split()
)


class State(NamedTuple):
    """A generation of the catalogue, and what tells it from one of the same number in another history."""

    generation: int
    mark: str


class Found(NamedTuple):
    """Keys of chunks with their BM25 scores, best first."""

    keys: NDArray[np.int64]
    scores: NDArray[np.float32]


class WordIndex:
    """An index on disk, or in memory without a folder.

    `state` is what the searcher sees, None for an index that has never been written.
    """

    def __init__(self, folder: Path | None, default: str = "english", *, is_new: bool = False) -> None:
        self.tantivy = require("tantivy", extra="rag", to="search by words")
        self.folder, self.default = folder, default
        self.schema = _schema(self.tantivy)
        self._writer: Any = None
        self._seen: tuple[int, ...] = ()
        if folder is None:
            self.index = self.tantivy.Index(self.schema)
        else:
            place = str(folder)
            self.index = self.tantivy.Index(self.schema, path=place) if is_new else self.tantivy.Index.open(place)
        self.refresh()

    @classmethod
    def open(cls, place: Path, default: str = "english") -> WordIndex | None:
        """Open the index below `place`; None if there is none that can be used.

        Raises RunError for one of a newer version.
        """
        pointer = place / _POINTER
        if not pointer.exists():
            return None
        try:
            description = read_json(pointer)
        except DatasetError:
            return None
        if int(str(description.get("format", 0))) > FORMAT:
            raise RunError(
                "the lexical index was made by a newer version of Fieldwise",
                where=pointer,
                found=f"format {description['format']}, this version knows {FORMAT}",
                fix="Upgrade Fieldwise, or delete this folder: the index is made again from the catalogue.",
            )
        folder = place / str(description.get("folder"))
        if description.get("format") != FORMAT or description.get("default") != default or not folder.is_dir():
            return None
        try:
            opened = cls(folder, default)
        except (ValueError, OSError) as error:  # tantivy tells of damage, and of a disk it cannot write to, so
            LOG.warning("the lexical index in %s cannot be used: %s", folder, error)
            return None
        return opened if opened.state is not None else None

    @classmethod
    def build(cls, place: Path, default: str, words: Iterable[Words], state: State) -> WordIndex:
        """Make a new index below `place` under a temporary name, put it into its place, and drop what was there."""
        place.mkdir(parents=True, exist_ok=True)
        temporary = place / f".tmp-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        made = cls(temporary, default, is_new=True)
        made.apply((), words, state)
        made.close()
        earlier = [p for p in place.iterdir() if p.is_dir() and p != temporary]
        number = 1 + max(
            (int(p.name[6:]) for p in earlier if p.name.startswith("index-") and p.name[6:].isdigit()), default=0
        )
        folder = place / f"index-{number}"
        temporary.rename(folder)
        write_json(place / _POINTER, {"format": FORMAT, "folder": folder.name, "default": default})
        for old in earlier:
            shutil.rmtree(old, ignore_errors=True)
        return cls(folder, default)

    def refresh(self) -> bool:
        """See what another process has committed; false if there is nothing new."""
        if self.folder is not None:
            stat = (self.folder / "meta.json").stat()
            seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if seen == self._seen:
                return False
            self._seen = seen
        self._look_again()
        return True

    def _look_again(self) -> None:
        self.index.reload()
        self.searcher = self.index.searcher()
        query = self.tantivy.Query.range_query(self.schema, "generation", self.tantivy.FieldType.Integer, 0, _LARGEST)
        found = self.searcher.search(query, 1, count=False).hits
        self.state: State | None = None
        if found:
            marker = self.searcher.doc(found[0][1])
            self.state = State(int(marker["generation"][0]), str(marker["mark"][0]))

    def apply(self, removed: Sequence[int], words: Iterable[Words], state: State) -> None:
        """Take documents out, put chunks in and move to a generation, in one commit."""
        try:
            writer = self._open_writer()
            for document in removed:
                writer.delete_documents_by_term("document", document)
            for word in words:
                name = field_of(word.language, self.default)
                writer.add_document(
                    self.tantivy.Document(
                        key=word.key,
                        document=word.document,
                        **{f"body_{name}": word.body, f"header_{name}": word.header},
                    )
                )
            if self.state is not None:
                writer.delete_documents_by_term("generation", self.state.generation)
            writer.add_document(self.tantivy.Document(generation=state.generation, mark=state.mark))
            writer.commit()
        except (ValueError, OSError) as error:
            self._writer = None  # it lets no later call through
            raise_if_full(error, self.folder or Path("memory"))
            raise
        self._seen = ()
        self.refresh()

    def _open_writer(self) -> Any:
        if self._writer is None:
            self._writer = self.index.writer(heap_size=_HEAP_BYTES, num_threads=1)
            # A killed writer may have left a list of deletions that the commit made again now would write anew: tantivy
            # names it by segment and operation, and refuses a name that is taken.
            self._writer.garbage_collect_files()
            for name in _FIELDS:
                self.index.register_tokenizer(name, _analyser_of(name))
        return self._writer

    def close(self) -> None:
        """Wait for merges and release the lock of the writer."""
        if self._writer is not None:
            self._writer.wait_merging_threads()
            self._writer = None

    def query(self, text: str, languages: Sequence[str | None]) -> Any:
        """Return a query of the terms of a text, analysed as each language would be; None if it has no term."""
        clauses, kind = [], self.tantivy.Query
        for name in sorted({field_of(language, self.default) for language in languages}):
            for term in terms_of(name, text)[:_MAX_TERMS]:
                body = kind.term_query(self.schema, f"body_{name}", term, "freq")
                header = kind.boost_query(kind.term_query(self.schema, f"header_{name}", term, "freq"), HEADER_WEIGHT)
                clauses += [(self.tantivy.Occur.Should, body), (self.tantivy.Occur.Should, header)]
        return kind.boolean_query(clauses) if clauses else None

    def within(self, query: Any, documents: Sequence[int]) -> Any:
        """Return the query limited to documents."""
        kind, must = self.tantivy.Query, self.tantivy.Occur.Must
        among = kind.const_score_query(kind.term_set_query(self.schema, "document", list(documents)), 0.0)
        return kind.boolean_query([(must, among), (must, query)])

    def search(self, searcher: Any, query: Any, count: int) -> Found:
        """Return the best chunks; equal scores in the order of keys."""
        hits = searcher.search(query, count, count=False).hits
        keys = np.array(searcher.fast_field_values("key", [address for _, address in hits]), dtype=np.int64)
        scores = np.array([score for score, _ in hits], dtype=np.float32)
        order = np.lexsort((keys, -scores))
        return Found(keys[order], scores[order])


def field_of(language: str | None, default: str) -> str:
    """Return which field a language is indexed in: by its stemmer, in pairs of letters, or word for word.

    >>> field_of("de-AT", "english"), field_of("zh", "english"), field_of("pl", "english"), field_of(None, "english")
    ('german', 'pairs', 'plain', 'english')
    """
    if not language:
        return default
    code = language.lower().replace("_", "-").split("-")[0]
    if code in _WITHOUT_BLANKS:
        return _PAIRS
    return STEMMERS.get(code, code if code in _FIELDS else _PLAIN)


def _schema(tantivy: Any) -> Any:
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("key", indexed=True, fast=True)
    builder.add_integer_field("document", indexed=True, fast=True)
    builder.add_integer_field("generation", stored=True, indexed=True)
    builder.add_text_field("mark", stored=True, tokenizer_name="raw", index_option="basic")
    for name in _FIELDS:
        for part in ("body", "header"):
            builder.add_text_field(f"{part}_{name}", tokenizer_name=name, index_option="freq")
    return builder.build()


@cache
def _analyser_of(name: str) -> Any:
    tantivy = require("tantivy", extra="rag", to="search by words")
    if name in (_PLAIN, _PAIRS):
        tokenizer = tantivy.Tokenizer.simple() if name == _PLAIN else tantivy.Tokenizer.ngram(1, 2, False)
        builder = tantivy.TextAnalyzerBuilder(tokenizer).filter(tantivy.Filter.remove_long(60))
        return builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold()).build()
    return analyser(tantivy, name)


@cache
def _stopper_of(name: str) -> Any:
    """Leaves the stop words of a language out, before stems are made of the rest."""
    tantivy = require("tantivy", extra="rag", to="search by words")
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())
    return builder.filter(tantivy.Filter.stopword(name)).build()


def weights_of(name: str, body: str, header: str, header_weight: float) -> dict[str, float]:
    """Return the terms of a chunk with their part of BM25 that does not depend on others (k1 1.2, b 0.75).

    The header is a field of its own with its own weight, as in the index here.
    """
    found: dict[str, float] = {}
    analyse = _analyser_of(name)
    for text, weight, usual in ((body, 1.0, _USUAL_BODY_TERMS), (header, header_weight, _USUAL_HEADER_TERMS)):
        counts = Counter(analyse.analyze(text))
        length = 1 - _B + _B * counts.total() / usual
        for term, count in counts.items():
            found[term] = found.get(term, 0.0) + weight * count * (_K1 + 1) / (count + _K1 * length)
    return found


def terms_in(name: str, text: str) -> list[str]:
    """Return the terms of a text of a document, as often as they stand there."""
    return list(_analyser_of(name).analyze(text))


def terms_of(name: str, text: str) -> list[str]:
    """Return the terms of a query in one language, each once."""
    analyse = _analyser_of(name)
    if name == "english":
        return query_terms(analyse, text)
    if name in _STOP_WORDS:
        text = " ".join(_stopper_of(name).analyze(text)) or text
    terms = list(dict.fromkeys(analyse.analyze(text)))
    if name == _PAIRS:  # single letters only where there are no pairs
        terms = [t for t in terms if len(t.strip()) > 1] or [t for t in terms if t.strip()]
    return terms
