"""The weights a student learns from: found, and held against the student before anything is spent on them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.engine.base_weights import chat_template, resolve
from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.hashing import canonical_json, sha256_file, sha256_text
from fieldwise.progress import say
from fieldwise.records import BaseWeights
from fieldwise.train.distil_settings import DistillationSettings, TeacherSettings
from fieldwise.train.shape import read_shape

_WHERE = "train.distillation.teacher.model"
_SHAPING = ("model", "normalizer", "pre_tokenizer")


class Vocabulary(NamedTuple):
    """Hash of what turns text into ids, and the number of the tokens."""

    sha256: str
    tokens: int


class Teaching(NamedTuple):
    """From whom, how, and where what was worked out beforehand is kept."""

    settings: DistillationSettings
    teacher: BaseWeights
    memo: Path


def teacher_weights(teacher: TeacherSettings) -> BaseWeights:
    """Return the teacher's weights; raises ModelError, in its own name, where there are none."""
    assert teacher.model is not None
    path = Path(teacher.model).expanduser()
    if teacher.is_file:
        if not path.is_file():
            raise ModelError("the teacher's file is not there", where=_WHERE, found=path, fix="Name a GGUF file.")
        return BaseWeights(model=teacher.model, path=str(path.resolve()), sha256=sha256_file(path))
    try:
        return resolve(teacher.model, teacher.revision)
    except ModelError as error:
        raise ModelError(f"the teacher cannot be used: {error.what}", where=_WHERE, found=error.found, fix=error.fix) from error  # fmt: skip


def vocabulary_of(folder: Path) -> Vocabulary:
    """Return what tells whether two tokenizers give the same ids: tokens, merges, how text is split; not how it is rendered.

    The file as a whole is no such thing: versions of the library write the same tokenizer differently.
    """
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = sorted((t["id"], t["content"]) for t in content.get("added_tokens") or ())
    merges = (content.get("model") or {}).get("merges")
    if merges and isinstance(merges[0], str):  # written as "a b" before tokenizers 0.20, as ["a", "b"] since
        content["model"]["merges"] = [merge.split(" ", 1) for merge in merges]
    told = [{name: content.get(name) for name in _SHAPING}, [list(t) for t in added]]
    words = (content.get("model") or {}).get("vocab") or {}
    return Vocabulary(sha256_text(canonical_json(told)), len({*words, *(text for _, text in added)}) if isinstance(words, dict) else len(words))  # fmt: skip


def fingerprint(settings: DistillationSettings) -> dict[str, JsonValue]:
    """Return what enters a step's key beside the settings: the hash of the teacher's weights."""
    if settings.teacher.endpoint is not None:
        return {}
    return {"teacher": teacher_weights(settings.teacher).sha256}


def require_fitting(settings: DistillationSettings, student: Path) -> None:
    """Raise ModelError for a teacher this student cannot learn from by this method; reads no weights.

    An endpoint is not asked here: its key and address are checked where it is.
    """
    if settings.teacher.endpoint is not None:
        from fieldwise.llm.wire import require_key

        require_key(settings.teacher.endpoint, "train.distillation.teacher.endpoint")
        return
    folder = Path(teacher_weights(settings.teacher).path)
    if settings.method == "sequence":
        return
    taught, known = vocabulary_of(folder), vocabulary_of(student)
    if settings.method == "cross_tokenizer":
        _require_trl("gold", "GOLD")
        if taught.sha256 == known.sha256:
            say("  teacher and student have the same tokenizer: method on_policy or token learns more from each token")
        return
    if taught.sha256 != known.sha256:
        raise ModelError(
            f"the method {settings.method} needs a teacher with the tokenizer of the base",
            where=_WHERE,
            found=f"{taught.tokens} tokens, hash {taught.sha256[:12]}; the base has {known.tokens}, hash {known.sha256[:12]}",
            fix="Take method: cross_tokenizer, or method: sequence, which learns from the teacher's text.",
        )
    if chat_template(folder) != chat_template(student):
        say("  the teacher has another chat template than the base: it reads the prompts in that of the base")
    if settings.method == "on_policy":
        _require_trl("gkd", "GKD")
        sizes = [shape.vocabulary for shape in map(read_shape, (folder, student)) if shape is not None]
        if len(set(sizes)) > 1:
            raise ModelError(
                "GKD compares whole rows of probabilities, and the two models have rows of other lengths",
                where=_WHERE,
                found=f"{sizes[0]} rows of embeddings, the base has {sizes[1]}",
                fix="Take method: token, which leaves the padding out.",
            )


def _require_trl(part: str, name: str) -> None:
    """Raise ModelError where the installed TRL has no such trainer: what is experimental there may go."""
    require("trl", extra="train", to="distil")
    if importlib.util.find_spec(f"trl.experimental.{part}") is None:
        raise ModelError(
            f"this version of TRL has no {name}",
            where="train.distillation.method",
            fix="Install the tested versions: pip install -c constraints.txt 'fieldwise[train]', or take method: token.",
        )
