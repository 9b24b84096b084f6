"""Which side of the split documents and rows fall on, and the proof that nothing stands on two."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from fieldwise.generate.settings import SplitSettings
from fieldwise.records import Example

Split = Literal["train", "validation", "test"]


def split_documents(groups: dict[str, str], settings: SplitSettings, seed: int) -> dict[str, Split]:
    """Put whole groups of near-duplicate documents on one side each; the shares count documents.

    A set too small for its shares still gets one group for validation and one for testing when there are three groups.
    """
    members: dict[str, list[str]] = {}
    for document, group in sorted(groups.items()):
        members.setdefault(group, []).append(document)
    order = sorted(members)
    random.Random(f"{seed}/split").shuffle(order)
    total = len(groups)
    sides: dict[str, Split] = {}
    taken: Counter[str] = Counter()
    wanted: dict[Split, float] = {"test": settings.test * total, "validation": settings.validation * total}
    for group in order:
        side: Split = "train"
        for name, share in wanted.items():
            least = 1 if share > 0 and len(members) >= 3 else 0
            if (
                taken[name] < max(least, round(share))
                and taken[name] + len(members[group]) <= max(least, round(share)) + 1
            ):
                side = name
                break
        taken[side] += len(members[group])
        sides |= dict.fromkeys(members[group], side)
    return sides


def leakage(examples: Sequence[Example], groups: dict[str, str]) -> list[str]:
    """Return evidence documents or questions that stand on both sides; an honest split returns nothing."""
    sides: dict[str, set[str]] = {}
    for example in examples:
        for name in [f"group {groups[d]}" for d in example.document_ids[:1] if d in groups and example.evidence] + [
            f"question {example.question!r}"
        ]:
            sides.setdefault(name, set()).add(example.split)
    return [f"{name} in {', '.join(sorted(found))}" for name, found in sorted(sides.items()) if len(found) > 1]
