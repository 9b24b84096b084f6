"""Wrong answers beside right ones, for the last phase: what a reader of passages must not say.

Rejected are, over the same prompt: the answer to another question of the conversation (wrong span), the right
answer under another passage's mark, or without a mark, JSON that does not parse or lacks a field, an answer where
the passages have none, and a decline where they have one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from .tasks import NOT_STATED

_MARK = re.compile(r" \[\d\]$")


def spoilt(answer: str, others: Sequence[str], passages: int, rng: random.Random) -> str | None:
    """Return a wrong answer in the place of a right one; `others` are right answers to other questions over the same passages."""
    spans = [o for o in others if o not in (answer, NOT_STATED) and not o.startswith("{")]
    if answer == NOT_STATED:
        return rng.choice(spans) if spans else None
    if answer.startswith("{"):
        return _spoilt_json(answer, spans, rng)
    draw = rng.random()
    if draw < 0.15:
        return NOT_STATED
    if draw < 0.25 and _MARK.search(answer):
        return _MARK.sub("", answer)
    if draw < 0.4 and passages > 1 and _MARK.search(answer):
        right = int(answer[-2])
        return f"{answer[:-3]}[{rng.choice([n for n in range(1, passages + 1) if n != right])}]"
    return rng.choice(spans) if spans else None


def _spoilt_json(answer: str, spans: Sequence[str], rng: random.Random) -> str:
    fields: dict[str, str | None] = json.loads(answer)
    draw = rng.random()
    if draw < 0.25:
        return answer.rstrip("}").rstrip() if rng.random() < 0.5 else answer.replace('"', "", 1)
    if draw < 0.45 and len(fields) > 1:
        fields.pop(rng.choice(list(fields)))
    else:
        name = rng.choice(list(fields))
        fields[name] = _MARK.sub("", rng.choice(spans)) if spans else None
    said = json.dumps(fields, ensure_ascii=False)
    return said if said != answer else answer.rstrip("}")
