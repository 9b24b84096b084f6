"""A cross-encoder trained on judged questions: random negatives first, then medium, then hard ones.

Hard negatives alone teach a model that comes from an embedding model nothing, so the order matters (docs/decisions.md).
It ranks together with the score of the search, never alone, and is kept only if that finds better on other questions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.extras import require
from fieldwise.ranking.judged import JudgedSet
from fieldwise.ranking.mining import Mined, mine
from fieldwise.ranking.proof import Proof, Training, prove, scores
from fieldwise.ranking.weights import fit, load, save
from fieldwise.retrieve.cross_encoder import CrossEncoderReranker
from fieldwise.retrieve.embed import bundled_folder
from fieldwise.retrieve.search import HybridRetriever, reranked

LEARNING_RATE = 2e-4
_BATCH = 16
_MAX_TOKENS = 192
_NEGATIVES = 2
PHASES = (("random", "random"), ("medium", "random"), ("hard", "medium"))
"""Where the two negatives of each question come from, phase by phase."""


class LabelledPair(NamedTuple):
    """A question and a passage; 1 if it answers, else 0."""

    query: str
    text: str
    label: float


def curriculum(questions: Sequence[Mined], seed: int) -> list[list[LabelledPair]]:
    """Return the pairs of each phase, every question once with its passage and two that do not answer it."""
    rng = random.Random(f"{seed}/curriculum")
    phases = []
    for sorts in PHASES:
        pairs: list[LabelledPair] = []
        for mined in questions:
            pairs.append(LabelledPair(mined.query, mined.positive, 1.0))
            pairs += [LabelledPair(mined.query, text, 0.0) for text in _negatives(mined, sorts, rng)]
        rng.shuffle(pairs)
        phases.append(pairs)
    return phases


def batched(pairs: Sequence[LabelledPair], seed: str) -> list[list[LabelledPair]]:
    """Return batches of texts of like length, in any order: sorted within eight batches, so that little is padded."""
    rng, window = random.Random(seed), 8 * _BATCH
    made: list[list[LabelledPair]] = []
    for begin in range(0, len(pairs), window):
        part = sorted(pairs[begin : begin + window], key=lambda pair: len(pair.query) + len(pair.text))
        some = [part[n : n + _BATCH] for n in range(0, len(part), _BATCH)]
        rng.shuffle(some)
        made += some
    return made


def _negatives(mined: Mined, sorts: Sequence[str], rng: random.Random) -> list[str]:
    """One of each sort; where a sort has none left, one of an easier sort."""
    taken: list[str] = []
    for sort in sorts:
        for name in ("hard", "medium", "random")[("hard", "medium", "random").index(sort) :]:
            left = [text for text in getattr(mined, name) if text not in taken]
            if left:
                taken.append(rng.choice(left))
                break
    return taken


def train_reranker(
    teach: JudgedSet,
    held: JudgedSet,
    retriever: HybridRetriever,
    work: Path,
    *,
    base: Path | None,
    questions: int,
    rate: float,
    samples: int,
    seed: int,
) -> Proof:
    """Train into the folder `work` and prove it on `held`; raises DatasetError if the questions are too few."""
    torch = require("torch", extra="train", to="train a cross-encoder")
    mined = mine(teach, retriever, most=questions, seed=seed)
    phases = curriculum(mined.questions, seed)
    torch.manual_seed(seed)
    start = base or bundled_folder()
    model, tokenizer = load("AutoModelForSequenceClassification", start, num_labels=1, ignore_mismatched_sizes=True)
    balance = torch.tensor(float(_NEGATIVES))

    def loss_of(batch: Sequence[LabelledPair], device: str) -> Any:
        encoded = tokenizer(
            [pair.query for pair in batch],
            [pair.text for pair in batch],
            padding=True,
            truncation="longest_first",
            max_length=_MAX_TOKENS,
            return_tensors="pt",
        ).to(device)
        labels = torch.tensor([pair.label for pair in batch], device=device)
        logits = model(**encoded).logits[:, 0].float()
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=balance.to(device))

    batches = [batch for n, pairs in enumerate(phases) for batch in batched(pairs, f"{seed}/{n}")]
    trained = fit(model, batches, loss_of, rate=rate, label="training the cross-encoder")
    save(model, work)
    tokenizer.save_pretrained(work)
    training = Training(
        kind="cross-encoder",
        base="all-MiniLM-L6-v2" if base is None else base.name,
        questions_of=teach.name,
        questions=len(mined.questions),
        pairs=sum(map(len, phases)),
        steps=trained.steps,
        false_negatives=mined.false_negatives,
        learning_rate=rate,
        seed=seed,
        losses=trained.losses,
        seconds=trained.seconds,
    )
    before, after = _held_out(held, retriever, work)
    return prove(training, held, before, after, samples=samples, seed=seed)


def _held_out(held: JudgedSet, retriever: HybridRetriever, folder: Path) -> tuple[list[float], list[float]]:
    """The scores of the search as the recipe has it, and with the cross-encoder on what it finds without a reranker."""
    settings = retriever.settings
    plain = HybridRetriever(retriever.chunks, retriever.lexical, retriever.embedder, retriever.vectors, settings)
    reranker = CrossEncoderReranker(folder)

    def with_model(question: str) -> list[Any]:
        found = plain.search(question, settings.rerank_candidates)
        return [p.chunk for p in reranked(reranker, question, found, settings)]

    before = scores(held, lambda q: [p.chunk for p in retriever.search(q, settings.rerank_candidates)], "as it is")
    return before, scores(held, with_model, "with the cross-encoder")
