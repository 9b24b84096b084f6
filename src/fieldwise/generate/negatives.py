"""Hard negatives: a question over near misses, its answer with the sentence that says so; or none of them says it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from fieldwise.generate.drafts import Draft, Material, Quote, mark, passages, section
from fieldwise.generate.examples import Asked
from fieldwise.prompts import quoted_prompt
from fieldwise.records import NOT_STATED, Chunk, Message
from fieldwise.support import content_stems, may_answer

_LEAST_NEAR = 3
_A_CHUNK = 2
_SEARCHED = 16
_POINTS = re.compile(r"\b(?:this|these|those|such)\b", re.I)
_TRAILS = re.compile(r", so (?:that )?(?:you|it|we|they)|meant by .*\b(?:does|do|is|are|was|were|can|not)\b")
_LITTLE = re.compile(
    r"(?:an?|the|one) (?:(?:very|most|more) )?(?:[a-z]+ )?(?:part|resource|way|example|thing|matter|option|step|tool|choice|idea|body|issue|question|problem|kind|type|factor|concern)\b(?: of \w+)?$"
)


def hard_negatives(material: Material, rng: random.Random) -> Iterator[Draft]:
    """Yield questions over passages that look as if they answered: of the same heading, or first in retrieval.

    In a share of `unanswerable_share` the passage that answers is left out, and the right reply declines.
    """
    wanted = max(_LEAST_NEAR, material.settings.distractors)
    by_heading: dict[str, list[Chunk]] = {}
    for chunk in material.chunks:
        by_heading.setdefault(section(chunk).heading.casefold(), []).append(chunk)
    for chunk in material.chunks:
        items = [a for a in material.asked_of.get(chunk.id, ()) if is_specific(a)]
        for item in rng.sample(items, min(_A_CHUNK, len(items))):
            near = near_misses(item, material, by_heading, wanted)
            if len(near) < 2:
                continue
            is_missing = rng.random() < material.settings.unanswerable_share
            place = rng.randint(0, len(near))
            shown = tuple(near) if is_missing else (*near[:place], chunk, *near[place:])
            yield _draft(item, shown, is_missing=is_missing)


def is_specific(item: Asked) -> bool:
    """Tell whether a question says enough for one passage alone to answer it."""
    pair = item.pair
    if len(content_stems(pair.question)) < 3 or pair.kind in ("step", "condition") or '"' in pair.quote:
        return False
    return not (_POINTS.search(pair.answer) or _TRAILS.search(pair.question) or _says_little(pair.kind, pair.answer))


def _says_little(kind: str, answer: str) -> bool:
    """Whether an answer is true of too much: "an excellent resource", "the body"."""
    return _LITTLE.match(answer) is not None if kind in ("definition", "agent") else False


def near_misses(item: Asked, material: Material, by_heading: dict[str, list[Chunk]], wanted: int) -> list[Chunk]:
    """Return passages close to a question that do not answer it, closest first.

    None holds the answer or a sentence with most of the question's words, which might answer it in another way.
    """
    home, split = item.chunk, item.split
    asked = content_stems(item.pair.question)
    found = [hit.chunk for hit in material.maker.retriever.search(item.pair.question, _SEARCHED)]
    found += by_heading.get(section(home).heading.casefold(), [])[:_SEARCHED]
    group = material.maker.groups.get(home.document_id)
    kept: dict[str, Chunk] = {}
    for chunk in found:
        is_copy = chunk.document_id != home.document_id and material.maker.groups.get(chunk.document_id) == group
        if chunk.id == home.id or is_copy or material.sides.get(chunk.document_id) not in (split, "train"):
            continue
        if holds(chunk.text, item.pair.answer) or may_answer(item.pair.question, [chunk.text], 0.7):
            continue
        kept.setdefault(chunk.id, chunk)
    order = {identifier: n for n, identifier in enumerate(kept)}
    return sorted(kept.values(), key=lambda c: (-len(asked & content_stems(c.text)), order[c.id]))[:wanted]


def holds(text: str, words: str) -> bool:
    """Tell whether a text holds words as whole words, whatever their case."""
    return re.search(rf"(?<!\w){re.escape(words.casefold())}(?!\w)", text.casefold()) is not None


def _draft(item: Asked, shown: Sequence[Chunk], *, is_missing: bool) -> Draft:
    pair = item.pair
    quotes = () if is_missing else (Quote(item.chunk, pair.quote),)
    answer = NOT_STATED if is_missing else pair.answer
    said = NOT_STATED if is_missing else f'{pair.answer} {mark(item.chunk, shown)} "{pair.quote}"'
    prompt = quoted_prompt(pair.question, passages(shown))
    conversation = (*prompt, Message(role="assistant", content=said))
    return Draft("hard_negative", pair.question, answer, conversation, quotes, tuple(shown), item.chunk)
