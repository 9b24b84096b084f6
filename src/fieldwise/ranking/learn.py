"""A features reranker learnt from judged questions, and kept only if it finds better on questions it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fieldwise import __version__
from fieldwise.errors import DatasetError
from fieldwise.progress import track
from fieldwise.ranking.figures import ndcg
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.ranking.measure import difference, summarise
from fieldwise.records import Difference, Interval, Record, RetrievedPassage
from fieldwise.retrieve.features import CROSS_ENCODER, FEATURES, FeatureReranker, LinearModel
from fieldwise.retrieve.rerank import open_cross_encoder
from fieldwise.retrieve.search import HybridRetriever, reranked

_RIDGE = 0.01
"""Of the number of questions, over features of unit spread."""
_STEPS = 50
LEAST_LISTS = 20


class Learnt(Record):
    """A model, and what it is worth on questions that did not teach it."""

    name: str
    learnt_from: int = Field(description="questions whose list holds a relevant passage and others")
    held_out: int
    model: LinearModel
    held_out_current: Interval
    held_out_learnt: Interval
    difference: Difference = Field(description="with the model minus as it is, nDCG@10 on the held-out questions")
    is_better: bool


class _List(NamedTuple):
    """A query with what was found for it; `relevant` says of each passage whether it is."""

    query: JudgedQuery
    passages: list[RetrievedPassage]
    relevant: NDArray[np.bool_]


def learn(
    fit: JudgedSet, held: JudgedSet, retriever: HybridRetriever, *, samples: int, seed: int, notes: dict[str, str]
) -> Learnt:
    """Learn on `fit`, prove on `held`; `notes` go into the model as its card in short. Raises DatasetError if too few."""
    settings = retriever.settings
    reranker, count = learn_model(fit, retriever, notes=notes)
    after, before = [], []
    for found in _lists(held, retriever, "searching, to prove"):
        if not found.query.relevant:
            continue
        before.append(_ndcg(found.query, found.passages, held))
        after.append(_ndcg(found.query, reranked(reranker, found.query.text, found.passages, settings), held))
    clusters = [q.cluster for q in held.queries if q.relevant]
    change = difference(after, before, clusters, samples, seed, baseline="without reranker")
    return Learnt(
        name=fit.name,
        learnt_from=count,
        held_out=len(after),
        model=reranker.model,
        held_out_current=summarise(before, clusters, samples, seed),
        held_out_learnt=summarise(after, clusters, samples, seed),
        difference=change,
        is_better=change.low is not None and change.low > 0,
    )


def learn_model(fit: JudgedSet, retriever: HybridRetriever, *, notes: dict[str, str]) -> tuple[FeatureReranker, int]:
    """Return a reranker learnt on `fit`, and from how many questions; nothing proves it yet."""
    settings = retriever.settings
    cross_encoder = open_cross_encoder(settings.rerank_cross_encoder)
    names = FEATURES if cross_encoder is None else (*FEATURES, CROSS_ENCODER)
    reader = FeatureReranker(LinearModel(features=(), weights=()), retriever.embedder, settings.stemmer, cross_encoder)
    searched = _lists(fit, retriever, "searching, to learn")
    lists = [found for found in searched if found.relevant.any() and not found.relevant.all()]
    if len(lists) < LEAST_LISTS:
        raise DatasetError(
            "too few questions to learn from",
            where=fit.name,
            found=f"{len(lists)} of {len(fit.queries)} whose relevant passage is among the first {settings.rerank_candidates}",
            fix=f"Give at least {LEAST_LISTS}, or raise retrieve.rerank_candidates.",
        )
    weights = fit_pairs([(reader.rows(found.query.text, found.passages), found.relevant) for found in lists])
    reader.model = LinearModel(
        features=names,
        weights=tuple(float(f"{w:.6g}") for w in weights),
        learnt_from={**notes, "questions": len(lists), "passages": len(retriever.chunks), "fieldwise": __version__},
    )
    return reader, len(lists)


def _lists(judged: JudgedSet, retriever: HybridRetriever, label: str) -> Iterator[_List]:
    """Yield what the first stage finds for each question, as deep as a reranker looks."""
    plain = HybridRetriever(
        retriever.chunks, retriever.lexical, retriever.embedder, retriever.vectors, retriever.settings
    )
    for query in track(judged.queries, label):
        passages = plain.search(query.text, retriever.settings.rerank_candidates)
        keys = [p.chunk.document_id if judged.level == "document" else p.chunk.id for p in passages]
        yield _List(query, passages, np.array([query.relevant.get(key, 0) > 0 for key in keys], bool))


def _ndcg(query: JudgedQuery, passages: Sequence[RetrievedPassage], judged: JudgedSet) -> float:
    keys = [p.chunk.document_id if judged.level == "document" else p.chunk.id for p in passages]
    return ndcg([key for key in keys if key != query.id], query.relevant)


def fit_pairs(lists: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> NDArray[np.float64]:
    """Return the weights of a ridge logistic regression over pairs, every list counting as much (RankNet, linear).

    It minimises the mean of log(1 + exp(-w . (relevant - other))), by Newton's method; a pair is a relevant passage and
    another one of its list (Burges et al., ICML 2005).
    """
    pairs = [rows[relevant][:, None, :] - rows[~relevant][None, :, :] for rows, relevant in lists]
    flat = [p.reshape(-1, p.shape[-1]) for p in pairs]
    design = np.concatenate(flat)
    share = np.concatenate([np.full(len(p), 1 / len(p)) for p in flat])
    spreads = np.sqrt((share[:, None] * design**2).sum(0) / share.sum())
    used = spreads > 1e-9
    design = design[:, used] / spreads[used]
    ridge = _RIDGE * len(lists) * np.eye(design.shape[1])
    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        miss = 1 / (1 + np.exp(np.clip(design @ found, -30, 30)))
        slope = design.T @ (share * miss) - ridge @ found
        curve = design.T @ (design * (share * miss * (1 - miss))[:, None]) + ridge
        step = np.linalg.solve(curve, slope)
        found = found + step
        if np.abs(step).max() < 1e-9:
            break
    weights = np.zeros(len(used))
    weights[used] = found / spreads[used]
    return weights
