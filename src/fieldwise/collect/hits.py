"""What a search service is asked and what it answers: all that a new service has to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Question(NamedTuple):
    """A query to a search service; `key` is a secret and stands in no message, memo or output."""

    query: str
    limit: int
    pdf_only: bool
    base_url: str
    key: str


class Hit(NamedTuple):
    """One address that was found."""

    url: str
    title: str


Ask = Callable[[str], bytes]
"""Returns what an address holds; raises DocumentError, whose message does not hold the address."""

SearchService = Callable[[Question, Ask], list[Hit]]
