"""Read the hand-written forms: how a fact is said, asked and asked the other way round.

A fifth of the sentence forms and of the question forms, and one frame in twelve as a whole, are held
out by the hash of their text: what the model can do with wording it has never met is measured on those.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

SLOT = re.compile(r"\{(\w+)(\^?)\}")


@dataclass(frozen=True)
class Frame:
    """One kind of fact with all the ways to say it and to ask for it."""

    name: str
    register: str
    keys: dict[str, str]  # slot -> kind of the thing the fact is about: {"s": "patient", "k": "drug"}
    value_kind: str
    labels: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    reverse: tuple[str, ...] = ()
    held_sentences: tuple[str, ...] = ()
    held_questions: tuple[str, ...] = ()
    held_reverse: tuple[str, ...] = ()

    @property
    def subject_kind(self) -> str:
        return self.keys["s"]

    @property
    def is_held_out(self) -> bool:
        """True for a frame that no training row ever uses."""
        return self.name != "generic_relation" and _hash(self.name) % 12 == 0


@dataclass
class _Draft:
    name: str
    register: str
    keys: dict[str, str] = field(default_factory=dict)
    value_kind: str = ""
    labels: list[str] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=lambda: {"+": [], "?": [], "<": []})


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.md5(text.encode()).digest()[:4], "big")


def slots(form: str) -> set[str]:
    """Return the names of the slots of a form."""
    return {m.group(1) for m in SLOT.finditer(form)}


def read_forms(folder: Path) -> list[Frame]:
    """Read every `*.txt` of the folder; a malformed line stops with file, line and what is wrong."""
    frames: list[Frame] = []
    for path in sorted(folder.glob("*.txt")):
        frames += _read_file(path)
    names = [f.name for f in frames]
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise SystemExit(f"{folder}: frame names used twice: {', '.join(repeated)}")
    return frames


def _read_file(path: Path) -> list[Frame]:
    drafts: list[_Draft] = []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        head, _, rest = line.partition(" ")
        rest = rest.split("   #")[0].strip()
        if head == "frame":
            drafts.append(_Draft(rest, path.stem))
        elif head == "about":
            drafts[-1].keys |= {slot: kind for slot, kind in re.findall(r"\{(\w)\}\s*:\s*([a-z]+)", rest)}
        elif head == "value":
            drafts[-1].value_kind = rest.partition(":")[2].strip()
        elif head == "labels":
            drafts[-1].labels = [label.strip() for label in rest.split("|")]
        elif head in ("+", "?", "<"):
            _check(path, number, head, rest, drafts[-1])
            drafts[-1].lines[head].append(rest)
        else:
            raise SystemExit(f"{path}:{number}: expected frame, about, value, labels, +, ? or <, found {head!r}")
    return [_finish(d) for d in drafts]


def _check(path: Path, number: int, head: str, form: str, draft: _Draft) -> None:
    used = slots(form)
    if head == "+" and len(re.findall(r"\{v\^?\}", form)) != 1:
        raise SystemExit(f"{path}:{number}: a sentence holds {{v}} exactly once: {form}")
    if head == "?" and "v" in used:
        raise SystemExit(f"{path}:{number}: a question must not hold its answer {{v}}: {form}")
    if head == "<" and ("v" not in used or "s" in used):
        raise SystemExit(f"{path}:{number}: a reverse question holds {{v}} and not {{s}}: {form}")


def _finish(draft: _Draft) -> Frame:
    def split(forms: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        held = tuple(f for f in forms if _hash(f) % 5 == 0)
        return tuple(f for f in forms if f not in held), held

    sentences, held_sentences = split(draft.lines["+"])
    questions, held_questions = split(draft.lines["?"])
    reverse, held_reverse = split(draft.lines["<"])
    return Frame(
        draft.name,
        draft.register,
        draft.keys,
        draft.value_kind,
        tuple(draft.labels),
        sentences,
        questions,
        reverse,
        held_sentences,
        held_questions,
        held_reverse,
    )
