"""Whether a trained model finds better: the same held-out questions, with it and without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from fieldwise import __version__
from fieldwise.errors import FieldwiseError
from fieldwise.files import write_json
from fieldwise.hashing import sha256_file
from fieldwise.progress import track
from fieldwise.ranking.figures import ndcg
from fieldwise.ranking.judged import JudgedSet
from fieldwise.ranking.measure import difference, summarise
from fieldwise.records import Chunk, Difference, Interval, Record
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.retrieve.index import passage_text

CARD = "fieldwise.json"
_EVERYDAY = "everyday.json"
WORST_ELSEWHERE = -0.02
"""nDCG@10 that an embedding model may lose out of its domain: the lower end of the interval must lie above."""


class Training(Record):
    """What a model was trained on and how."""

    kind: Literal["cross-encoder", "embedder"]
    base: str
    questions_of: str
    questions: int
    pairs: int
    steps: int
    false_negatives: int = Field(0, description="passages that were left out as likely to be relevant")
    learning_rate: float
    seed: int
    losses: tuple[float, ...] = Field(description="mean loss of each tenth of the training")
    seconds: float


class Proof(Record):
    """A trained model, and what it is worth on questions that did not teach it."""

    name: str
    training: Training
    held_out: int
    held_out_current: Interval
    held_out_trained: Interval
    difference: Difference = Field(description="with the model minus as it is, nDCG@10 on the held-out questions")
    elsewhere: Difference | None = Field(None, description="embedders: the same on everyday passages, vectors alone")
    is_better: bool
    reason: str = Field("", description="why it is not kept")


Ranking = Callable[[str], Sequence[Chunk]]


def scores(judged: JudgedSet, rank: Ranking, label: str) -> list[float]:
    """Return nDCG@10 of every question that has something relevant, in order."""
    made = []
    for query in track([q for q in judged.queries if q.relevant], label):
        keys = [c.document_id if judged.level == "document" else c.id for c in rank(query.text)]
        made.append(ndcg([key for key in dict.fromkeys(keys) if key != query.id], query.relevant))
    return made


def prove(
    training: Training,
    held: JudgedSet,
    before: list[float],
    after: list[float],
    *,
    samples: int,
    seed: int,
    elsewhere: Difference | None = None,
) -> Proof:
    """Judge the paired scores: better only if the whole interval lies above 0 and little is lost elsewhere."""
    clusters = [q.cluster for q in held.queries if q.relevant]
    change = difference(after, before, clusters, samples, seed, baseline="without the model")
    reasons = []
    if change.low is None or change.low <= 0:
        reasons.append("the interval of the difference reaches 0")
    if elsewhere is not None and (elsewhere.low is None or elsewhere.low < WORST_ELSEWHERE):
        reasons.append(f"out of its domain it may lose more than {-WORST_ELSEWHERE:g}")
    return Proof(
        name=held.name,
        training=training,
        held_out=len(after),
        held_out_current=summarise(before, clusters, samples, seed),
        held_out_trained=summarise(after, clusters, samples, seed),
        difference=change,
        elsewhere=elsewhere,
        is_better=not reasons,
        reason=" and ".join(reasons),
    )


def elsewhere(current: MiniLmEmbedder, trained: MiniLmEmbedder, *, samples: int, seed: int) -> Difference:
    """Return what an embedder gains on passages of everyday work, which no training of a user has seen.

    200 passages and their questions, hand-written for the project; docs/retrieval.md says where they come from.
    """
    kept = json.loads(resources.files(__package__).joinpath(_EVERYDAY).read_text("utf-8"))
    passages: list[str] = kept["passages"]
    asked: list[tuple[int, str]] = [(int(place), question) for place, question in kept["questions"]]
    after, before = (_dense(model, passages, asked) for model in (trained, current))
    clusters = [str(place) for place, _ in asked]
    return difference(after, before, clusters, samples, seed, baseline="the present embedding model")


def _dense(model: MiniLmEmbedder, passages: Sequence[str], asked: Sequence[tuple[int, str]]) -> list[float | None]:
    vectors = model.encode(passages)
    questions = model.encode([question for _, question in asked])
    order = np.argsort(-(questions @ vectors.T), axis=1, kind="stable")[:, :10]
    return [ndcg([str(n) for n in row], {str(place): 1}) for row, (place, _) in zip(order.tolist(), asked, strict=True)]


@contextmanager
def aside(place: Path) -> Iterator[Path]:
    """Give a folder beside `place` to train in; `keep` puts it there, and what was not kept is deleted."""
    if place.exists() and not (place / CARD).is_file():
        raise FieldwiseError(
            "something else stands where the model is to go",
            where=place,
            found="a file" if place.is_file() else f"a folder without {CARD}",
            fix="Name another place with --out.",
        )
    work = place.with_name(f".{place.name}.training")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def keep(work: Path, place: Path, proof: Proof) -> None:
    """Put a model that is better in its place, with its card; an older one of ours gives way."""
    weights = {p.name: sha256_file(p) for p in sorted(work.glob("*.safetensors"))}
    card = {"fieldwise": __version__, "weights": weights, **proof.model_dump(mode="json")}
    write_json(work / CARD, card)
    older = place.with_name(f".{place.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if place.exists():
        place.rename(older)
    work.rename(place)
    shutil.rmtree(older, ignore_errors=True)


def texts_of(judged: JudgedSet, chunks: Sequence[Chunk]) -> dict[str, str]:
    """Return the text of every passage that questions may name, as models see it."""
    return {c.document_id if judged.level == "document" else c.id: passage_text(c) for c in chunks}
