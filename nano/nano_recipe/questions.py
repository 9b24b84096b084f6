"""Questions over real passages from Fieldwise's own rules teacher: the style that fine-tuning will meet, on other text.

`prepare` writes them once; rows draw from them. A passage is a paragraph of a document, with its title as served.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fieldwise.generate.rules import pairs_of_chunk
from fieldwise.records import Chunk

from .tasks import NOT_STATED

SHORTEST, LONGEST, PER_DOCUMENT = 120, 900, 40  # characters of a passage; passages of one document


class Asked(NamedTuple):
    """A passage as it is served, with what can be asked of it."""

    text: str
    pairs: list[tuple[str, str]]


def ask_documents(documents: Iterable[Sequence[str]], seed: int) -> list[Asked]:
    """All passages of which the rules are sure of a question; documents are (field, title, text)."""
    rng = random.Random(seed)
    found: list[Asked] = []
    for _, title, text in documents:
        paragraphs = [p.strip() for p in re.split(r"\n+", text) if SHORTEST < len(p) < LONGEST]
        for body in rng.sample(paragraphs, min(len(paragraphs), PER_DOCUMENT)):
            chunk = Chunk(
                id="chk", document_id="doc", uri="", title=title, start=0, end=len(body), text=body, heading_path=()
            )
            pairs = [(p.question, p.answer) for p in pairs_of_chunk(chunk, rng) if p.answer in body]
            if pairs:
                found.append(Asked(f"{title}\n{body}" if title and rng.random() < 0.6 else body, pairs))
    return found


def save(path: Path, asked: Sequence[Asked]) -> None:
    path.write_text(json.dumps(asked))


def load(path: Path) -> list[Asked]:
    return [Asked(text, [(q, a) for q, a in pairs]) for text, pairs in json.loads(path.read_text())]


def conversation(
    asked: Sequence[Asked], rng: random.Random, passages: int, turns: int, decline: float
) -> tuple[list[str], list[tuple[str, str]]]:
    """Passages with questions in any order, each with its cited answer; a share asks what another passage would answer."""
    drawn = rng.sample(range(len(asked)), 4 * passages)  # of four, the one of which most can be asked
    shown = [max(drawn[n : n + 4], key=lambda n: len(asked[n].pairs)) for n in range(0, len(drawn), 4)]
    texts = [asked[n].text for n in shown]
    found = [
        (question, f"{answer} [{place}]")
        for place, n in enumerate(shown, 1)
        for question, answer in asked[n].pairs
        if sum(answer in t for t in texts) == 1
    ]
    rng.shuffle(found)
    said = found[:turns]
    for place in range(len(said) + 1):
        if rng.random() < decline:
            # Often of the paragraph beside the one shown, mostly of the same document: a near miss.
            other = (
                (rng.choice(shown) + rng.choice((-1, 1))) % len(asked)
                if rng.random() < 0.6
                else rng.randrange(len(asked))
            )
            question, answer = rng.choice(asked[other].pairs)
            if not any(answer in t for t in texts):
                said.insert(place, (question, NOT_STATED))
    return texts, said or [(rng.choice(asked[(shown[0] + 1) % len(asked)].pairs)[0], NOT_STATED)]
