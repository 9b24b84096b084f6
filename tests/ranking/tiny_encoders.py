"""Small BERT weights of chance, saved as sentence-transformers saves its models: trained in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOPICS = {
    "amber": "otter",
    "birch": "lantern",
    "coral": "anvil",
    "dune": "violin",
    "ember": "glacier",
    "fern": "turbine",
    "garnet": "saddle",
    "heron": "quarry",
    "iris": "piston",
    "jade": "orchard",
}
"""A word of questions, and the word of the passages that answer them."""
_FILLERS = ("report", "index", "manual", "notice", "record", "survey", "ledger", "memo")
_ASKED = ("where", "when", "which", "why", "how", "who")


def words() -> list[str]:
    plain = {"the", "of", "is", "a", *TOPICS, *TOPICS.values(), *_FILLERS, *_ASKED}
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(plain)]


def make_encoder(folder: Path, seed: int = 3) -> Path:
    """An embedding model: 32 numbers, one layer."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words()))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    config: Any = transformers.BertConfig(
        vocab_size=len(words()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=300,
        initializer_range=0.5,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def make_topics(place: Path) -> Path:
    """A BEIR folder in which no word of a question that matters stands in its passage: only training can find it."""
    asked = {
        f"{topic}-{filler}-{word}": (f"{word} is {topic} {filler}", f"{topic}-{filler}")
        for topic in TOPICS
        for filler in _FILLERS
        for word in _ASKED
    }
    return _make_set(place / "topics", asked)


def make_marked(place: Path) -> Path:
    """A BEIR folder in which the passage with one certain word is the right one, whatever the question."""
    asked = {
        f"{topic}-{filler}-{word}": (f"{word} is {topic} {filler}", f"fern-{filler}")
        for topic in TOPICS
        for filler in _FILLERS
        for word in _ASKED
    }
    return _make_set(place / "marked", asked)


def _make_set(folder: Path, asked: dict[str, tuple[str, str]]) -> Path:
    (folder / "qrels").mkdir(parents=True)
    passages = [
        {"_id": f"{topic}-{filler}", "title": "", "text": f"the {filler} of the {word}"}
        for topic, word in TOPICS.items()
        for filler in _FILLERS
    ]
    rows = [{"_id": i, "text": text} for i, (text, _) in asked.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, passages)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    body = "".join(f"{i}\t{passage}\t1\n" for i, (_, passage) in asked.items())
    (folder / "qrels/train.tsv").write_text(f"query-id\tcorpus-id\tscore\n{body}")
    return folder
