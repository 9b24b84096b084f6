"""Continued pre-training: the text of the documents themselves, before any question is asked about it.

Texts are those of `2_chunks/`, cleaned and without the personal data that prepare takes out. Documents of the
validation and test split are no part of it; on those of validation it is measured in bits per byte, which needs no
tokenizer to compare by: -log2 of the probability of a text over its bytes in UTF-8.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import Chunk
from fieldwise.train.hardware import Device
from fieldwise.train.loading import load_model, load_tokenizer
from fieldwise.train.outcome import Outcome
from fieldwise.train.rows import Course, Rows, train_rows
from fieldwise.train.session import Session
from fieldwise.train.settings import PretrainSettings

_END = "<|endoftext|>"  # between documents, where a tokenizer has it; else its end token
_MOST_BYTES = 400_000  # of held-out text is measured: at a hundred thousand tokens the mean has long settled


class Text(NamedTuple):
    """One document as it is read."""

    document: str
    text: str


def texts_of(chunks: Sequence[Chunk]) -> list[Text]:
    """Return each document's text: its title, and its chunks in their order, under their headings."""
    found: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        found.setdefault(chunk.document_id, []).append(chunk)
    return [_text(document, sorted(own, key=lambda c: (c.start, c.end))) for document, own in sorted(found.items())]


def _text(document: str, chunks: Sequence[Chunk]) -> Text:
    parts = [chunks[0].title] if chunks[0].title else []
    shown: tuple[str, ...] = ()
    for chunk in chunks:
        path = chunk.heading_path
        heading = path[-1] if path and path != shown else ""
        if heading and heading != chunk.title and not chunk.text.lstrip("# \n").startswith(heading):
            parts.append(heading)
        parts.append(chunk.text.strip())
        shown = path
    return Text(document, "\n\n".join(parts))


def token_rows(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Return rows of at most `max_length` tokens, each of one document, whose tokens all carry loss.

    The end token closes a document; control tokens that stand in a text are broken up, as in conversations.
    """
    end = end_token(tokenizer)
    rows = []
    for text in texts:
        ids = [*encoded(text, tokenizer), end]
        for begin in range(0, len(ids), max_length):
            row = ids[begin : begin + max_length]
            if len(row) > 1:  # a token alone has nothing before it to be guessed from
                rows.append({"input_ids": row, "labels": list(row)})
    return rows


def end_token(tokenizer: Any) -> int:
    """Return the id that stands between documents."""
    known = tokenizer.get_vocab()
    return int(known.get(_END, tokenizer.eos_token_id))


def encoded(text: str, tokenizer: Any) -> list[int]:
    """Return the ids of a text in which nothing counts as a control token."""
    control = sorted((str(t) for t in tokenizer.added_tokens_decoder.values() if t.special), key=len, reverse=True)
    if control:
        text = re.sub("|".join(map(re.escape, control)), lambda m: f"{m.group(0)[0]} {m.group(0)[1:]}", text)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def bits_per_byte(model: Any, tokenizer: Any, texts: Sequence[str], window: int, *, bfloat16: bool) -> float:
    """Return the bits that the texts take in the model's eyes, over their bytes.

    Every token is scored once, behind at least half a window of what stands before it (the beginning excepted): 8 bits
    a byte is chance over bytes, a text of 10 bytes that takes 20 bits has 2.
    """
    torch = require("torch", extra="train", to="fine-tune")
    device = next(model.parameters()).device
    model.eval()
    total, size = 0.0, 0
    for text in texts:
        ids = [end_token(tokenizer), *encoded(text, tokenizer)]
        size += len(text.encode())
        done = 1
        while done < len(ids):
            begin = max(0, done - window // 2)
            piece = torch.tensor([ids[begin : begin + window]], device=device)
            with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
                logits = model(piece).logits[0, done - begin - 1 : -1].float()
            total += float(torch.nn.functional.cross_entropy(logits, piece[0, done - begin :], reduction="sum"))
            done = begin + piece.shape[1]
    return total / math.log(2) / size


def pretrain(
    base: Path,
    texts: Sequence[Text],
    sides: Mapping[str, str],
    settings: PretrainSettings,
    device: Device,
    session: Session,
) -> Outcome:
    """Train on the documents whose side is train.

    Bits per byte of the validation documents, before and after, stand in the figures; without any they are not measured.
    """
    train = [t for t in texts if sides.get(t.document) == "train"]
    held = _some([t.text for t in texts if sides.get(t.document) == "validation"])
    if not train:
        raise DatasetError(
            "no document is left to read",
            where="train.pretrain",
            found=f"{len(texts)} documents, all of them held out" if texts else "no document",
            fix="Lower generate.split.validation and generate.split.test, or set train.pretrain.enabled=false.",
        )
    tokenizer = load_tokenizer(base)
    max_length = session.max_length
    rows = token_rows([t.text for t in train], tokenizer, max_length)
    held_rows = token_rows(held, tokenizer, max_length)
    _require_held(settings, held_rows)
    held_out = len(texts) - len(train)
    say(
        f"  pretrain: {len(train)} documents, {sum(len(r['input_ids']) for r in rows)} tokens; {held_out} documents are held out"
    )
    outcome = train_rows(
        base,
        Rows(tokenizer, rows, held_rows, 0, max_length),
        settings,
        device,
        "pretrain",
        session,
        course=Course("pretrain"),
    )
    about: dict[str, JsonValue] = {"documents": len(train), "held_out": held_out}
    figures = dict(outcome.figures)
    if held:
        bits = [
            bits_per_byte(load_model(weights), tokenizer, held, max_length, bfloat16=device.bfloat16)
            for weights in (base, outcome.merged)
        ]
        figures |= {"bits_per_byte_before": bits[0], "bits_per_byte": bits[1]}
        about["measured_on"] = {"documents": len(held), "bytes": sum(len(t.encode()) for t in held)}
        say(f"  pretrain: {bits[0]:.3f} bits per byte of {len(held)} held-out documents before, {bits[1]:.3f} after")
    else:
        say("  pretrain: no validation document to measure on (generate.split.validation)")
    return dataclasses.replace(outcome, figures=figures, about={**outcome.about, **about})


def _require_held(settings: PretrainSettings, held: Sequence[object]) -> None:
    if settings.early_stopping and not held:
        raise DatasetError(
            "early stopping needs held-out documents",
            where="train.pretrain.early_stopping",
            found="no validation document",
            fix="Leave the key out, or raise generate.split.validation.",
        )


def _some(texts: Sequence[str]) -> list[str]:
    """The first texts up to a size; always one where there is any."""
    kept: list[str] = []
    size = 0
    for text in texts:
        if kept and size + len(text.encode()) > _MOST_BYTES:
            break
        kept.append(text)
        size += len(text.encode())
    return kept
