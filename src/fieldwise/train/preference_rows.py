"""What the preference step learns from, as each method takes it: pairs, or single replies with their labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.progress import say
from fieldwise.records import Conversation, PreferencePair, RatedReply
from fieldwise.train.labels import messages, reply_ids, token_count
from fieldwise.train.settings import PreferenceSettings
from fieldwise.train.workload import Extent

_MOST_PROBES = 32  # pairs that are measured behind the training
FEWEST_HELD = 8  # held-out pairs; fewer say too little, and trained ones are taken


class Rows(NamedTuple):
    """What is trained on, how much was too long, and the lengths of wanted and unwanted replies in tokens."""

    rows: list[dict[str, Any]]
    dropped: int
    extent: Extent
    lengths: dict[str, JsonValue]


class Probe(NamedTuple):
    """A pair as token ids, to be looked at behind the training."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def pair_rows(pairs: Sequence[PreferencePair], settings: PreferenceSettings, tokenizer: Any, max_length: int) -> Rows:
    """Return the pairs that fit whole: as messages for DPO, which renders them itself, as token ids for the others."""
    rows, dropped = [], 0
    wholes: list[list[int]] = []
    answers: list[list[int]] = []
    for pair in pairs:
        prompt = messages(pair.prompt, tokenizer)
        sides = [[{"role": "assistant", "content": text}] for text in (pair.chosen, pair.rejected)]
        lengths = [token_count(tokenizer, prompt + side) for side in sides]
        if max(lengths) > max_length:
            dropped += 1
            continue
        if settings.method == "dpo":
            rows.append({"prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
        else:
            rows.append(probe(pair, tokenizer)._asdict())
        wholes.append(lengths)
        said = token_count(tokenizer, prompt)
        answers.append([n - said for n in lengths])
    if dropped:
        say(f"  {dropped} of {len(pairs)} preference pairs are longer than {max_length} tokens and were left out")
    if not rows:
        return Rows(rows, dropped, Extent(0, 0, 0.0), {})
    extent = Extent(max(map(max, wholes)), max(map(max, answers)), sum(map(sum, wholes)) / len(wholes))
    lengths_told: dict[str, JsonValue] = {
        "chosen_tokens": round(fmean(a for a, _ in answers), 1),
        "rejected_tokens": round(fmean(b for _, b in answers), 1),
        "chosen_longer": round(sum(a > b for a, b in answers) / len(answers), 3),
        "rejected_longer": round(sum(a < b for a, b in answers) / len(answers), 3),
    }
    return Rows(rows, dropped, extent, lengths_told)


def reply_rows(
    pairs: Sequence[PreferencePair], ratings: Sequence[RatedReply], tokenizer: Any, max_length: int, seed: int
) -> Rows:
    """Return single replies with their labels for KTO: both sides of each pair, and the rated ones, mixed.

    A reply to the same prompt that is wanted here and unwanted there says nothing and is left out.
    """
    said: dict[tuple[Conversation, str], set[bool]] = {}
    for asked, reply, label in (
        *((p.prompt, p.chosen, True) for p in pairs),
        *((p.prompt, p.rejected, False) for p in pairs),
        *((r.prompt, r.reply, r.is_wanted) for r in ratings),
    ):
        said.setdefault((asked, reply), set()).add(label)
    rows: list[dict[str, Any]] = []
    wholes: list[int] = []
    answers: dict[bool, list[int]] = {True: [], False: []}
    too_long = disputed = 0
    for (conversation, reply), labels in said.items():
        prompt = messages(conversation, tokenizer)
        completion = [{"role": "assistant", "content": reply}]
        length = token_count(tokenizer, prompt + completion)
        if len(labels) == 2:
            disputed += 1
        elif length > max_length:
            too_long += 1
        else:
            (label,) = labels
            rows.append({"prompt": prompt, "completion": completion, "label": label})
            wholes.append(length)
            answers[label].append(length - token_count(tokenizer, prompt))
    if disputed:
        say(f"  {disputed} of {len(said)} replies are wanted here and unwanted there, and were left out")
    if too_long:
        say(f"  {too_long} of {len(said)} replies are longer than {max_length} tokens and were left out")
    if not rows:
        return Rows(rows, too_long + disputed, Extent(0, 0, 0.0), {})
    if not answers[True] or not answers[False]:
        raise DatasetError(
            "KTO needs replies of both labels",
            where="train.preference.method",
            found=f"{len(answers[True])} wanted, {len(answers[False])} unwanted",
            fix="Add rows of the other label, or pairs (generate.preference_pairs), of which each gives one of both.",
        )
    random.Random(f"{seed}/kto").shuffle(rows)  # the trainer reads them in order, and compares neighbours
    extent = Extent(max(wholes), max(max(found) for found in answers.values()), fmean(wholes))
    lengths: dict[str, JsonValue] = {
        "wanted": len(answers[True]),
        "unwanted": len(answers[False]),
        "wanted_tokens": round(fmean(answers[True]), 1),
        "unwanted_tokens": round(fmean(answers[False]), 1),
    }
    return Rows(rows, too_long + disputed, extent, lengths)


def probe(pair: PreferencePair, tokenizer: Any) -> Probe:
    """Return a pair as token ids: prompt as an engine asks it, replies up to and with their end token."""
    prompt = messages(pair.prompt, tokenizer)
    ids, chosen = reply_ids(tokenizer, prompt, pair.chosen)
    return Probe(ids, chosen, reply_ids(tokenizer, prompt, pair.rejected)[1])


def probes_of(
    held: Sequence[PreferencePair], trained: Sequence[PreferencePair], tokenizer: Any, max_length: int
) -> tuple[list[Probe], str]:
    """Return the pairs to look at behind the training and the split they are of: held-out ones where there are enough."""
    for pairs, split in ((held, "validation"), (trained, "train")):
        found = []
        for pair in sorted(pairs, key=lambda p: p.id):
            made = probe(pair, tokenizer)
            if len(made.prompt) + max(len(made.chosen), len(made.rejected)) <= max_length:
                found.append(made)
            if len(found) == _MOST_PROBES:
                break
        if len(found) >= FEWEST_HELD or split == "train":
            break
    return found, split


def no_pair_fits(max_length: int) -> DatasetError:
    """The error for data of which nothing is left to train on."""
    return DatasetError(
        "no preference pair fits",
        where="train.preference.max_length",
        found=f"{max_length} tokens",
        fix="Raise train.preference.max_length, or switch the step off with train.preference.enabled=false.",
    )
