"""BM25 through tantivy. Queries are built from analysed tokens, never by parsing what a user typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fieldwise.extras import require
from fieldwise.records import Chunk

STOP_WORDS = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "again",
        "all",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "down",
        "during",
        "each",
        "few",
        "for",
        "from",
        "further",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "just",
        "me",
        "more",
        "most",
        "my",
        "no",
        "nor",
        "not",
        "of",
        "off",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "own",
        "same",
        "she",
        "should",
        "so",
        "some",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
HEADER_WEIGHT = 0.5


class LexicalIndex:
    """An index in memory, rebuilt from the chunks when opened: 40,000 chunks take about a second."""

    def __init__(self, chunks: Sequence[Chunk], stemmer: str = "english") -> None:
        self.tantivy = require("tantivy", extra="rag", to="search by words")
        builder = self.tantivy.SchemaBuilder()
        builder.add_unsigned_field("row", stored=True)
        builder.add_text_field("body", tokenizer_name="fieldwise")
        builder.add_text_field("header", tokenizer_name="fieldwise")
        self.schema = builder.build()
        self.analyse = analyser(self.tantivy, stemmer)
        self.index = self.tantivy.Index(self.schema)
        self.index.register_tokenizer("fieldwise", self.analyse)
        writer = self.index.writer(heap_size=32_000_000, num_threads=1)
        for row, chunk in enumerate(chunks):
            writer.add_document(self.tantivy.Document(row=row, body=chunk.text, header=chunk.label))
        writer.commit()
        self.index.reload()
        self.searcher = self.index.searcher()

    def search(self, query: str, count: int) -> list[tuple[int, float]]:
        """Return (row, BM25 score) of the best chunks; stop words of the query do not count unless nothing else is left."""
        tokens = query_terms(self.analyse, query)
        if not tokens:
            return []
        clauses = []
        for token in tokens:
            clauses.append((self.tantivy.Occur.Should, self.tantivy.Query.term_query(self.schema, "body", token)))
            clauses.append(
                (
                    self.tantivy.Occur.Should,
                    self.tantivy.Query.boost_query(
                        self.tantivy.Query.term_query(self.schema, "header", token), HEADER_WEIGHT
                    ),
                )
            )
        found = self.searcher.search(self.tantivy.Query.boolean_query(clauses), count).hits
        hits = [(int(self.searcher.doc(address)["row"][0]), float(score)) for score, address in found]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))


def query_terms(analyse: Any, query: str) -> list[str]:
    """Return the terms of an English query, each once; stop words are left out unless nothing else is left."""
    words = [w for w in query.lower().split() if w.strip("?.,;:!'\"()") not in STOP_WORDS]
    return list(dict.fromkeys(analyse.analyze(" ".join(words) or query)))


def analyser(tantivy: Any, stemmer: str) -> Any:
    """Return what turns a text into terms: words in lower case, without accents, stemmed."""
    filters = tantivy.Filter
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(filters.remove_long(60))
        .filter(filters.lowercase())
        .filter(filters.ascii_fold())
        .filter(filters.stemmer(stemmer))
        .build()
    )
