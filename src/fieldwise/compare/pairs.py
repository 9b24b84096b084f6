"""Votes as preference pairs for a later training: what people preferred, over what both answers had read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fieldwise.compare.comparison import Comparison, Entry
from fieldwise.compare.votes import Vote
from fieldwise.errors import InputError
from fieldwise.files import write_jsonl
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.records import Conversation, PreferencePair
from fieldwise.retrieve.index import passage_text


class Exported(NamedTuple):
    """The pairs, and how many items gave none by reason."""

    pairs: list[PreferencePair]
    left_out: dict[str, int]


def preference_pairs(comparison: Comparison, votes: Sequence[Vote]) -> Exported:
    """Return a pair for each item that most of its voters decided for one side, in the order of the items.

    Ties and both bad are votes for neither. Answers over different passages, or one of them without any, make no
    pair: the prompt could not be the same for both.
    """
    by_item: dict[str, list[Vote]] = {}
    for vote in votes:
        by_item.setdefault(vote.item, []).append(vote)
    made, left_out = dict[str, PreferencePair](), Counter[str]()
    for item in comparison.items:
        cast = by_item.get(item.id, [])
        if not cast:
            continue
        first, second = (comparison.systems[s].entries[item.question_id] for s in (item.first, item.second))
        wins = Counter(v.winner for v in cast)
        chosen = next((s for s in (item.first, item.second) if 2 * wins[s] > len(cast)), None)
        prompt = _prompt(first, second)
        if chosen is None:
            left_out["no side preferred by most"] += 1
        elif prompt is None:
            left_out["the two answers read different passages"] += 1
        elif first.answer.text == second.answer.text:
            left_out["the same words"] += 1
        else:
            better, worse = (first, second) if chosen == item.first else (second, first)
            pair = _pair(prompt, better, worse, f"preferred by {wins[chosen]} of {len(cast)} voters, blind")
            made.setdefault(pair.id, pair)
    return Exported(list(made.values()), dict(left_out))


def _prompt(first: Entry, second: Entry) -> Conversation | None:
    read = [[p.chunk.id for p in e.answer.passages] for e in (first, second)]
    if read[0] != read[1]:
        return None
    if not read[0]:
        return closed_prompt(first.question)
    return grounded_prompt(first.question, [passage_text(p.chunk) for p in first.answer.passages])


def _pair(prompt: Conversation, better: Entry, worse: Entry, reason: str) -> PreferencePair:
    chunks = [p.chunk for p in better.answer.passages]
    return PreferencePair.make(
        prompt=prompt,
        chosen=better.answer.text,
        rejected=worse.answer.text,
        judge="human",
        reason=reason,
        chunk_ids=tuple(c.id for c in chunks),
        document_ids=tuple(dict.fromkeys(c.document_id for c in chunks)),
    )


def write_pairs(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Write pairs as JSON Lines, one record a line. Raises InputError where a file of something else stands."""
    if path.exists() and not _holds_pairs(path):
        raise InputError(
            "a file of something else stands here", where=path, fix="Name a new file, or one of exported pairs."
        )
    write_jsonl(path, (p.model_dump(mode="json") for p in pairs))


def _holds_pairs(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline()[:12] in ("", '{"id": "prf_')
