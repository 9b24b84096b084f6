"""A question with its answer and the words that prove it."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """A question with its answer and the words of the chunk that support it."""

    question: str
    answer: str
    kind: str
    quote: str
