"""What a teacher holds likely at each token that is learnt, worked out once and kept on disk.

A folder for each teacher, k, temperature and arithmetic; in it a file for each few rows, named by the hash of what they
say. A run that is killed goes on with the next file, and other settings of the student read the same files again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.files import atomic, raise_if_full
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.progress import say, track
from fieldwise.train.distil_math import top_and_tail
from fieldwise.train.labels import IGNORED
from fieldwise.train.loading import load_model

_ROWS_A_FILE = 32


@dataclass(frozen=True)
class CacheKey:
    """What the cached probabilities depend on besides the rows."""

    teacher: str  # hash of its weights
    top_k: int
    temperature: float
    vocabulary: int  # rows of the student's embeddings; what the teacher has beyond is padding
    bfloat16: bool

    @property
    def folder(self) -> str:
        """The name of the folder."""
        told = [self.teacher, self.top_k, self.temperature, self.vocabulary, self.bfloat16]
        return sha256_text(canonical_json(told))[:16]


class Cached(NamedTuple):
    """For each token that is learnt: its id, the teacher's likeliest ids, and their log-probabilities with the tail's."""

    tokens: Any
    ids: Any
    log_probs: Any

    @property
    def bytes(self) -> int:
        """What the tensors hold in memory."""
        return sum(int(t.element_size() * t.nelement()) for t in self)


def disk_bytes(positions: int, top_k: int, vocabulary: int) -> int:
    """Return the bytes of a cache: an id and a 16-bit log-probability for each kept token, the tail's, and the token itself.

    >>> disk_bytes(1000, 32, 8192)
    134000
    """
    ids = 2 if vocabulary <= 2**15 else 4
    return positions * (top_k * (ids + 2) + 2 + 4)


def cached(
    rows: Sequence[dict[str, list[int]]], teacher: Path, key: CacheKey, folder: Path, device: str
) -> tuple[list[dict[str, list[int]]], Cached]:
    """Return the rows with places in the cache for labels, and the cache; asks the teacher for what is not on disk.

    A place takes the label's seat: what packs and pads rows moves it along.
    """
    torch = require("torch", extra="train", to="distil")
    place = folder / key.folder
    rows = [{**row, "labels": [IGNORED, *row["labels"][1:]]} for row in rows]  # nothing stands before the first token
    parts = [rows[begin : begin + _ROWS_A_FILE] for begin in range(0, len(rows), _ROWS_A_FILE)]
    names = [place / f"{_hash(part)}.safetensors" for part in parts]
    held = {n: _read(name, _positions(part), key) for n, (name, part) in enumerate(zip(names, parts, strict=True))}
    missing = [n for n, found in held.items() if found is None]
    _announce(parts, missing, key, place)
    if missing:
        model = _teacher(teacher, key, device)
        for n in track(missing, "teacher", len(missing)):
            held[n] = _ask(model, parts[n], key)
            _write(names[n], held[n])
        del model
    found = [part for part in held.values() if part is not None]
    whole = Cached(*(torch.cat(tensors) for tensors in zip(*found, strict=True)))
    return list(_placed(rows)), whole


def _placed(rows: Sequence[dict[str, list[int]]]) -> Iterator[dict[str, list[int]]]:
    place = 0
    for row in rows:
        labels = []
        for label in row["labels"]:
            labels.append(IGNORED if label == IGNORED else place)
            place += label != IGNORED
        yield {"input_ids": row["input_ids"], "labels": labels}


def _positions(part: Sequence[dict[str, list[int]]]) -> int:
    return sum(label != IGNORED for row in part for label in row["labels"])


def _announce(
    parts: Sequence[Sequence[dict[str, list[int]]]], missing: Sequence[int], key: CacheKey, place: Path
) -> None:
    total, left = sum(map(_positions, parts)), sum(_positions(parts[n]) for n in missing)
    needed = disk_bytes(left, key.top_k, key.vocabulary)
    say(
        f"  teacher: {total} tokens with their {key.top_k} likeliest, {disk_bytes(total, key.top_k, key.vocabulary) / 1e6:.1f} MB"
        f" on disk; {left} still to be worked out"
    )
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ModelError(
            "the disk has no room for what the teacher holds likely",
            where=place,
            found=f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free",
            fix="Lower train.distillation.top_k, or make room.",
        )


def _teacher(folder: Path, key: CacheKey, device: str) -> Any:
    torch = require("torch", extra="train", to="distil")
    model = load_model(folder).eval()
    if device == "cuda":
        model = model.to("cuda", dtype=torch.bfloat16 if key.bfloat16 else torch.float32)
    return model


def _ask(model: Any, part: Sequence[dict[str, list[int]]], key: CacheKey) -> Cached:
    torch = require("torch", extra="train", to="distil")
    device = next(model.parameters()).device
    tokens, ids, log_probs = [], [], []
    for row in part:
        read = torch.tensor([row["input_ids"]], device=device)
        labels = torch.tensor(row["labels"][1:], device=device)
        at = (labels != IGNORED).nonzero().squeeze(-1)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=key.bfloat16):
            logits = model(input_ids=read, use_cache=False, logits_to_keep=at).logits[0]
        logits = logits[:, : key.vocabulary].float()
        if not torch.isfinite(logits).all():
            raise ModelError(
                "the teacher's logits are not numbers",
                where="train.distillation.teacher.model",
                fix="Check the weights: ask them something with fieldwise serve.",
            )
        likely, told = top_and_tail(logits, key.top_k, key.temperature)
        tokens.append(labels[at].to(torch.int32))
        ids.append(likely.to(torch.int16 if key.vocabulary <= 2**15 else torch.int32))
        log_probs.append(told.clamp(min=torch.finfo(torch.float16).min).to(torch.float16))
    return Cached(torch.cat(tokens).cpu(), torch.cat(ids).cpu(), torch.cat(log_probs).cpu())


def _hash(part: Sequence[dict[str, list[int]]]) -> str:
    return sha256_text(canonical_json([[row["input_ids"], row["labels"]] for row in part]))[:32]


def _write(path: Path, found: Cached | None) -> None:
    assert found is not None
    safetensors = require("safetensors.torch", extra="train", to="keep what a teacher holds likely")
    library = require("safetensors", extra="train", to="keep what a teacher holds likely")
    try:
        with atomic(path) as new:
            safetensors.save_file({name: tensor.contiguous() for name, tensor in found._asdict().items()}, new)
    except library.SafetensorError as error:
        raise_if_full(error, path)
        raise


def _read(path: Path, positions: int, key: CacheKey) -> Cached | None:
    """Return what a file holds; None if there is none, or it is damaged, and is to be made again."""
    if not path.is_file():
        return None
    safetensors = require("safetensors.torch", extra="train", to="keep what a teacher holds likely")
    library = require("safetensors", extra="train", to="keep what a teacher holds likely")
    try:
        found = Cached(**safetensors.load_file(path))
    except (OSError, TypeError, library.SafetensorError):
        return None
    k = min(key.top_k, key.vocabulary)
    shapes = [(positions,), (positions, k), (positions, k + 1)]
    return found if [tuple(t.shape) for t in found] == shapes else None
