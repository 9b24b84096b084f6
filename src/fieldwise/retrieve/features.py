"""Learning to rank on features: how a passage stands in both legs, and which of the query's words it holds and where.

The model is linear and learnt from pairs (a relevant passage should score above another of the same list); some twenty
numbers in a JSON file that a person can read. All features are free of scale: they compare a passage with the others of
its list, so a model learnt on one collection can be used on another. The score of a cross-encoder may be one of them.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from fieldwise.errors import ModelError
from fieldwise.files import read_json
from fieldwise.records import Chunk, Record, RetrievedPassage
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.retrieve.lexical import LexicalIndex, query_terms
from fieldwise.retrieve.rerank import Reranker

FEATURES = (
    "fused",  # the score of the first stage, as z-score of the list
    "lexical",  # BM25, as z-score of the list; what BM25 did not find counts as its worst
    "lexical_share",  # BM25 over the highest of the list
    "lexical_rank",  # 1 / rank, 0 where not found
    "cosine",
    "cosine_gap",  # below the highest of the list
    "dense_rank",
    "body_overlap",  # share of the query's words, weighted by how rare they are in the list
    "title_overlap",
    "heading_overlap",
    "coverage",  # share of the query's words in body, title or headings
    "heading_match",  # share of the last heading's words that the query holds
    "bigrams",  # share of the query's pairs of neighbours that are neighbours in the passage
    "phrase",  # longest run of the query's words that stands there word for word, over their number
    "proximity",  # words found over the shortest stretch that holds them all
    "numbers",  # share of the query's figures that stand in the passage
    "length",  # logarithm of the number of words
    "density",  # share of the passage's words that are the query's
)
CROSS_ENCODER = "cross_encoder"  # its score, as z-score of the list; the last column, where a cross-encoder is named
_SHIPPED = "models/rerank-features.json"
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_CACHED_TEXTS = 20_000


class LinearModel(Record):
    """Weights of the features, and where they come from."""

    kind: str = "pairwise-logistic"
    version: int = 1
    features: tuple[str, ...]
    weights: tuple[float, ...]
    learnt_from: dict[str, str | int | float] = Field(default_factory=dict, description="the data card in short")

    @classmethod
    def shipped(cls) -> Self:
        """The model that comes with the package; docs/retrieve.md is its card."""
        return cls._checked(json.loads(resources.files(__package__).joinpath(_SHIPPED).read_text("utf-8")), _SHIPPED)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a model file; raises ModelError for anything else."""
        if not path.is_file():
            raise ModelError(
                "the model of the reranker is not there",
                where="retrieve.rerank_model",
                found=path,
                fix="Name a file made by fieldwise retrieval learn, or leave the key out for the model that is shipped.",
            )
        return cls._checked(read_json(path), path)

    @classmethod
    def _checked(cls, value: object, where: object) -> Self:
        try:
            model = cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(
                f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
                where=where,
                fix="Make the model anew with fieldwise retrieval learn.",
            ) from error
        unknown = sorted(set(model.features) - {*FEATURES, CROSS_ENCODER})
        if unknown or model.version != 1 or len(model.features) != len(model.weights):
            raise ModelError(
                "the model was made by another version of Fieldwise",
                where=where,
                found=f"version {model.version}, {len(model.weights)} weights, unknown features: {', '.join(unknown) or 'none'}",
                fix="Make the model anew with fieldwise retrieval learn.",
            )
        return model

    def scores(self, rows: NDArray[np.float64]) -> list[float]:
        """Return the score of each row of features, as `FEATURES` orders them, that of a cross-encoder last."""
        order = (*FEATURES, CROSS_ENCODER)
        columns = [order.index(name) for name in self.features]
        return [float(s) for s in rows[:, columns] @ np.array(self.weights)]


class FeatureReranker(Reranker):
    """Scores passages by a linear model over features; without an embedder those of meaning are 0.

    Raises ModelError for a model that was learnt with a cross-encoder where none is given.
    """

    def __init__(
        self,
        model: LinearModel,
        embedder: MiniLmEmbedder | None,
        stemmer: str = "english",
        cross_encoder: Reranker | None = None,
    ) -> None:
        if CROSS_ENCODER in model.features and cross_encoder is None:
            raise ModelError(
                "the model of the reranker was learnt with a cross-encoder",
                where="retrieve.rerank_model",
                found="no cross-encoder",
                fix="Name its folder as retrieve.rerank_cross_encoder, or learn a model without one.",
            )
        self.name, self.model, self.embedder = "features", model, embedder
        self.stemmer, self.maker, self.cross_encoder = stemmer, FeatureMaker(stemmer), cross_encoder

    def score_passages(self, query: str, passages: Sequence[RetrievedPassage]) -> list[float]:
        """Return a score for each passage, from its words and from how the search has scored it."""
        return self.model.scores(self.rows(query, passages)) if passages else []

    def rows(self, query: str, passages: Sequence[RetrievedPassage]) -> NDArray[np.float64]:
        """Return one row a passage, with the column of the cross-encoder if there is one."""
        rows = self.maker.rows(query, passages)
        if self.cross_encoder is None:
            return rows
        return np.column_stack([rows, _z(np.array(self.cross_encoder.score_passages(query, passages), float))])

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return a score for each pair; the texts of one query are searched as a small collection of their own."""
        places: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(pairs):
            places.setdefault(query, []).append(place)
        scores = [0.0] * len(pairs)
        for query, mine in places.items():
            passages = self._searched(query, [pairs[place][1] for place in mine])
            for place, score in zip(mine, self.score_passages(query, passages), strict=True):
                scores[place] = score
        return scores

    def _searched(self, query: str, texts: Sequence[str]) -> list[RetrievedPassage]:
        from fieldwise.retrieve.search import fuse

        chunks = [
            Chunk(id=str(n), document_id=str(n), uri="", title="", start=0, end=len(text), text=text)
            for n, text in enumerate(texts)
        ]
        words = dict(LexicalIndex(chunks, self.stemmer).search(query, len(chunks)))
        meaning: dict[int, float] = {}
        if self.embedder is not None:
            vectors = self.embedder.encode([query, *texts])
            meaning = {n: float(score) for n, score in enumerate(vectors[1:] @ vectors[0])}
        fused = fuse(words, meaning, 0.4)
        lowest = min(fused.values(), default=0.0)
        return [
            RetrievedPassage(chunk=c, score=fused.get(n, lowest), lexical=words.get(n), dense=meaning.get(n))
            for n, c in enumerate(chunks)
        ]


class _Words(NamedTuple):
    """A passage as the features see it: stems in order, and as sets by field."""

    stems: tuple[str, ...]
    title: frozenset[str]
    heading: frozenset[str]
    last_heading: frozenset[str]
    numbers: frozenset[str]


class FeatureMaker:
    """Turns a query and a list of passages into rows of numbers."""

    def __init__(self, stemmer: str = "english") -> None:
        self.analyse = LexicalIndex((), stemmer).analyse
        self._words = lru_cache(_CACHED_TEXTS)(self._make_words)

    def rows(self, query: str, passages: Sequence[RetrievedPassage]) -> NDArray[np.float64]:
        """Return one row a passage, columns as in `FEATURES`; ranks and z-scores are those of this list."""
        terms = query_terms(self.analyse, query)
        numbers = set(_NUMBER.findall(query))
        words = [self._words(p.chunk.title, p.chunk.heading_path, p.chunk.text) for p in passages]
        rarity = _rarity(terms, words)
        lexical = np.array([p.lexical if p.lexical is not None else np.nan for p in passages], float)
        dense = np.array([p.dense if p.dense is not None else np.nan for p in passages], float)
        columns = [
            _z(np.array([p.score for p in passages], float)),
            _z(_filled(lexical)),
            np.nan_to_num(lexical) / max(1e-9, float(np.nan_to_num(lexical).max())),
            _reciprocal_ranks(lexical),
            np.nan_to_num(dense),
            np.nan_to_num(dense - (np.nanmax(dense) if not np.isnan(dense).all() else 0.0)),
            _reciprocal_ranks(dense),
        ]
        of_words = np.array([_of_words(terms, numbers, w, rarity) for w in words], float)
        return np.column_stack([*columns, of_words])

    def _make_words(self, title: str, headings: tuple[str, ...], text: str) -> _Words:
        return _Words(
            tuple(self.analyse.analyze(text)),
            frozenset(self.analyse.analyze(title)),
            frozenset(self.analyse.analyze(" ".join(headings))),
            frozenset(self.analyse.analyze(headings[-1] if headings else title)),
            frozenset(_NUMBER.findall(text)),
        )


def _rarity(terms: Sequence[str], words: Sequence[_Words]) -> dict[str, float]:
    """BM25's idf of each term among these passages; 0 for one that none of them holds."""
    sets = [set(w.stems) | w.title | w.heading for w in words]
    counts = {term: sum(term in s for s in sets) for term in terms}
    return {t: math.log(1 + (len(sets) - n + 0.5) / (n + 0.5)) if n else 0.0 for t, n in counts.items()}


def _of_words(terms: Sequence[str], numbers: set[str], words: _Words, rarity: dict[str, float]) -> list[float]:
    """The features that are of words alone, in the order of `FEATURES` from body_overlap on."""
    body, total = set(words.stems), sum(rarity.values()) or 1.0
    anywhere = body | words.title | words.heading
    counts = Counter(words.stems)
    last = words.last_heading
    return [
        sum(rarity[t] for t in terms if t in body) / total,
        sum(rarity[t] for t in terms if t in words.title) / total,
        sum(rarity[t] for t in terms if t in words.heading) / total,
        sum(t in anywhere for t in terms) / max(1, len(terms)),
        sum(t in last for t in set(terms)) / max(1, len(last)),
        _bigrams(terms, words.stems),
        longest_run(terms, words.stems) / max(1, len(terms)),
        proximity(terms, words.stems),
        len(numbers & words.numbers) / len(numbers) if numbers else 0.0,
        math.log1p(len(words.stems)),
        sum(counts[t] for t in set(terms)) / max(1, len(words.stems)),
    ]


def _bigrams(terms: Sequence[str], stems: Sequence[str]) -> float:
    wanted = set(pairwise(terms))
    return len(wanted & set(pairwise(stems))) / len(wanted) if wanted else 0.0


def longest_run(terms: Sequence[str], stems: Sequence[str]) -> int:
    """Return how many words of the query in a row stand in a row in the text.

    >>> longest_run(["grey", "tag", "mean"], ["a", "grey", "tag", "hangs"])
    2
    """
    best, before = 0, [0] * (len(terms) + 1)
    for stem in stems:
        now = [0] * (len(terms) + 1)
        for n, term in enumerate(terms):
            if term == stem:
                now[n + 1] = before[n] + 1
                best = max(best, now[n + 1])
        before = now
    return best


def proximity(terms: Sequence[str], stems: Sequence[str]) -> float:
    """Return the words found over the length of the shortest stretch that holds each of them once.

    Fewer than two words found are near to nothing: 0.

    >>> proximity(["grey", "tag"], ["a", "grey", "plastic", "tag"])
    0.6666666666666666
    """
    places = [(n, stem) for n, stem in enumerate(stems) if stem in set(terms)]
    wanted = len({stem for _, stem in places})
    if wanted < 2:
        return 0.0
    held: Counter[str] = Counter()
    shortest, left = len(stems), 0
    for end, stem in places:
        held[stem] += 1
        while held[places[left][1]] > 1:
            held[places[left][1]] -= 1
            left += 1
        if len(held) == wanted:
            shortest = min(shortest, end - places[left][0] + 1)
    return wanted / shortest


def _z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros_like(values)


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What was not found counts as the lowest that was."""
    return np.nan_to_num(values) if np.isnan(values).all() else np.where(np.isnan(values), np.nanmin(values), values)


def _reciprocal_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 over the rank in the list, equal values in order; 0 where there is none."""
    ranks = np.zeros(len(values))
    order = [n for n in np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable") if not np.isnan(values[n])]
    ranks[order] = 1 / np.arange(1, len(order) + 1)
    return ranks
