"""How passages and questions are put into a conversation; the first form is the one Fieldwise serves with.

The other forms are noise on purpose, so that the model depends on the passages and not on their frame.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

GROUNDED_SYSTEM = (
    "Answer from the passages only. Keep the answer short and in their words. Put the number of the passage after it, like [1]. "
    "If the passages do not say, reply: Not stated in the documents."
)
_OTHER_SYSTEMS = (
    "Use only the passages below. Cite the passage as [n]. If the answer is not there, reply: Not stated in the documents.",
    'You answer questions about documents. Be brief, cite with [n], and never guess. Say "Not stated in the documents." when they are silent.',
    "Answer briefly from the context and cite it.",
    "You are a careful assistant. Quote facts from the passages with their number.",
    'Read the passages and answer. Reply "Not stated in the documents." if they do not tell.',
)


def system_prompt(rng: random.Random) -> str | None:
    """The system message of one conversation: the served one, another, or none."""
    draw = rng.random()
    if draw < 0.4:
        return GROUNDED_SYSTEM
    return rng.choice(_OTHER_SYSTEMS) if draw < 0.6 else None


def served(passages: Sequence[str], question: str) -> str:
    """The user message that Fieldwise builds for a grounded question."""
    listed = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(passages, 1))
    return f"Passages:\n{listed}\n\nQuestion: {question}"


def varied(passages: Sequence[str], question: str, rng: random.Random) -> str:
    """The same content in one of several frames; half of the time the served one."""
    draw = rng.random()
    if draw < 0.55:
        return served(passages, question)
    listed = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(passages, 1))
    if draw < 0.75:
        return f"{listed}\n\n{question}"
    if draw < 0.85:
        return f"{rng.choice(('Context', 'Documents', 'Sources', 'Text'))}:\n{listed}\n\n{rng.choice(('Q: ', 'Question: ', 'Task: ', ''))}{question}"
    if draw < 0.93:
        return f"{question}\n\nPassages:\n{listed}"
    return f"{listed}\n{question}"
