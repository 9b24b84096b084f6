"""The embedding model trained on judged questions, so that questions lie near the passages that answer them.

Multiple negatives ranking: of the passages of a batch each question must find its own (van den Oord et al.,
arXiv 1807.03748, over cosines times 20, as sentence-transformers' MultipleNegativesRankingLoss). Another passage of the
batch that answers the question too, or repeats one that does, counts neither way.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.ranking.corpus import embed_blocks
from fieldwise.ranking.judged import JudgedSet
from fieldwise.ranking.mining import LEAST_QUESTIONS
from fieldwise.ranking.proof import Proof, Training, elsewhere, prove, scores, texts_of
from fieldwise.ranking.weights import fit, load, save
from fieldwise.retrieve.embed import MAX_TOKENS, MiniLmEmbedder
from fieldwise.retrieve.index import passage_text
from fieldwise.retrieve.search import HybridRetriever

LEARNING_RATE = 5e-5
_BATCH = 32
_SCALE = 20.0
_TOGETHER = 8  # texts of like length that are padded together
_KEPT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)


class Asked(NamedTuple):
    """A question with one passage that answers it; `relevant` holds all that do."""

    query: str
    key: str
    text: str
    relevant: frozenset[str]


def train_embedder(
    teach: JudgedSet,
    held: JudgedSet,
    retriever: HybridRetriever,
    work: Path,
    cache: Path,
    *,
    questions: int,
    epochs: int,
    rate: float,
    samples: int,
    seed: int,
) -> Proof:
    """Train into the folder `work`, prove it on `held`, with all passages embedded anew, and on everyday passages.

    Vectors are left in `cache` under the fingerprint of the model. Raises DatasetError if the questions are too few.
    """
    current = retriever.embedder
    if current is None:
        raise DatasetError("there is no embedding model to train", where="retrieve.embedding", found="none")
    asked = pairs_of(teach, retriever, questions, seed)
    trained = train_on(asked, current.folder, work, epochs=epochs, rate=rate, seed=seed)
    model = MiniLmEmbedder(folder=work)
    vectors = embed_blocks([passage_text(c) for c in retriever.chunks], model, cache)
    after = HybridRetriever(retriever.chunks, retriever.lexical, model, vectors, retriever.settings, retriever.reranker)
    deep = retriever.settings.rerank_candidates
    was = scores(held, lambda q: [p.chunk for p in retriever.search(q, deep)], "as it is")
    now = scores(held, lambda q: [p.chunk for p in after.search(q, deep)], "with the trained model")
    training = trained.model_copy(update={"questions_of": teach.name})
    lost = elsewhere(current, model, samples=samples, seed=seed)
    return prove(training, held, was, now, samples=samples, seed=seed, elsewhere=lost)


def pairs_of(teach: JudgedSet, retriever: HybridRetriever, most: int, seed: int) -> list[Asked]:
    """Return at most `most` questions with a passage each, in the order they are trained on."""
    texts = texts_of(teach, retriever.chunks)
    rng = random.Random(f"{seed}/pairs")
    asked = [
        Asked(query.text, key, texts[key], frozenset(query.relevant))
        for query in teach.queries
        for key in query.relevant
        if key in texts
    ]
    rng.shuffle(asked)
    if len(asked) < LEAST_QUESTIONS:
        raise DatasetError(
            "too few questions to train on",
            where=teach.name,
            found=f"{len(asked)} with a passage of the collection",
            fix=f"Give at least {LEAST_QUESTIONS}; some thousands are usual.",
        )
    return asked[:most]


def train_on(asked: Sequence[Asked], start: Path, work: Path, *, rate: float, seed: int, epochs: int = 1) -> Training:
    """Train the model in `start` on the pairs and write it into `work`, readable by sentence-transformers too."""
    torch = require("torch", extra="train", to="train an embedding model")
    torch.manual_seed(seed)
    model, tokenizer = load("AutoModel", start)

    def embed(texts: Sequence[str], device: str) -> Any:
        order = sorted(range(len(texts)), key=lambda n: (len(texts[n]), n))
        groups = [order[n : n + _TOGETHER] for n in range(0, len(order), _TOGETHER)]
        vectors = torch.cat([group_of([texts[n] for n in group], device) for group in groups])
        places = torch.tensor(sorted(range(len(order)), key=order.__getitem__), device=device)
        return vectors[places]

    def group_of(texts: list[str], device: str) -> Any:
        encoded = tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").to(device)
        states = model(**encoded).last_hidden_state.float()
        mask = encoded["attention_mask"][:, :, None].float()
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)

    def loss_of(batch: Sequence[Asked], device: str) -> Any:
        questions, passages = embed([a.query for a in batch], device), embed([a.text for a in batch], device)
        cosines = questions @ passages.T * _SCALE
        cosines = cosines.masked_fill(torch.tensor(ignored(batch), device=device), float("-inf"))
        return torch.nn.functional.cross_entropy(cosines, torch.arange(len(batch), device=device))

    batches = batched(asked, epochs, seed)
    trained = fit(model, batches, loss_of, rate=rate, label="training the embedding model")
    save(model, work)
    for name in _KEPT_FILES:
        if (start / name).is_file():
            shutil.copy(start / name, work / name)
    if (start / "1_Pooling").is_dir():
        shutil.copytree(start / "1_Pooling", work / "1_Pooling")
    return Training(
        kind="embedder",
        base=start.name if (start / "fieldwise.json").is_file() else "all-MiniLM-L6-v2",
        questions_of="",
        questions=len({a.query for a in asked}),
        pairs=len(asked),
        steps=trained.steps,
        learning_rate=rate,
        seed=seed,
        losses=trained.losses,
        seconds=trained.seconds,
    )


def batched(asked: Sequence[Asked], epochs: int, seed: int) -> list[list[Asked]]:
    """Return the batches of all epochs, shuffled anew in each; a last pair alone has nothing to be told from."""
    rng = random.Random(f"{seed}/epochs")
    made: list[list[Asked]] = []
    order = list(asked)
    for _ in range(epochs):
        made += [order[n : n + _BATCH] for n in range(0, len(order), _BATCH) if n == 0 or len(order) - n > 1]
        rng.shuffle(order)
    return made


def ignored(batch: Sequence[Asked]) -> list[list[bool]]:
    """Return for each question which other passages of the batch answer it too, by judgement or by their words."""
    return [
        [n != m and (other.key in one.relevant or other.text == one.text) for m, other in enumerate(batch)]
        for n, one in enumerate(batch)
    ]
