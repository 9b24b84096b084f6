"""What is searched in place of a question: its acronyms written out, or the words of a model.

Acronyms come from the passages that the asker may see and from nowhere else: what one reader's documents explain does
not show in another's search.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pydantic import BaseModel, Field

from fieldwise.errors import ServiceError
from fieldwise.interfaces import LlmClient, LlmRequest
from fieldwise.prompts import search_query_prompt

LOG = logging.getLogger(__name__)
_IN_BRACKETS = re.compile(r"\(\s*([^()\n]{2,80}?)\s*\)")
_SHORT = re.compile(r"(?=[\w-]*[A-Z])[A-Za-z][A-Za-z0-9-]{1,9}")
_WORD = re.compile(r"\w+")
_LONGEST_WORDS = 12
_MOST_ADDED = 8
_MAX_QUERY_CHARS = 400


class Rewritten(NamedTuple):
    """What is searched; `added` are the words that came to the question, `by` who wrote them (none, acronyms, NAME)."""

    text: str
    added: tuple[str, ...] = ()
    by: str = "none"


class SearchQuery(BaseModel):
    """The reply of a model that words a search."""

    query: str = Field(min_length=1, max_length=_MAX_QUERY_CHARS)


def definitions(text: str) -> Iterator[tuple[str, str]]:
    """Yield (acronym, what it stands for) as a text explains them: Schwartz and Hearst, PSB 2003.

    >>> list(definitions("Give the low molecular weight heparin (LMWH) at six. The BSP (body surface potential) is low."))
    [('LMWH', 'low molecular weight heparin'), ('BSP', 'body surface potential')]
    """
    for match in _IN_BRACKETS.finditer(text):
        inside, before = match[1], text[max(0, match.start() - 200) : match.start()].rstrip()
        before = re.split(r"[.;:!?\n]\s", before)[-1]
        if _SHORT.fullmatch(inside):
            short, long = inside, _long_form(inside, before)
        else:
            short = before.rpartition(" ")[2].strip("\"'*_,")
            long = _long_form(short, inside) if _SHORT.fullmatch(short) else None
        if long is not None:
            yield short, long


def _long_form(short: str, text: str) -> str | None:
    """The shortest end of a text that holds the letters of an acronym in order, the first one at the start of a word."""
    words = text.split()
    text = " ".join(words[-min(len(short) + 5, len(short) * 2, _LONGEST_WORDS) :])
    at = len(text) - 1
    letters = [c for c in short.lower() if c.isalnum()]
    for number in range(len(letters) - 1, -1, -1):
        while at >= 0 and (text[at].lower() != letters[number] or (number == 0 and at > 0 and text[at - 1].isalnum())):
            at -= 1
        if at < 0:
            return None
        at -= 1
    long = text[text.rfind(" ", 0, at + 1) + 1 :].strip("\"'*_,([")
    return long if len(long) > len(short) and short.lower() not in long.lower().split() else None


def acronyms_of(query: str) -> list[str]:
    """Return the words of a question that may be acronyms: short, with two capitals or more.

    >>> acronyms_of("What dose of LMWH for a VTE at 6 pm?")
    ['LMWH', 'VTE']
    """
    words = re.findall(r"[A-Za-z][A-Za-z0-9-]{1,9}", query)
    return list(dict.fromkeys(w for w in words if sum(c.isupper() for c in w) > 1))[:_MOST_ADDED]


def with_acronyms(query: str, texts_about: Callable[[str], Iterable[str]]) -> Rewritten:
    """Return the question with what its acronyms stand for, and with the acronym of what it writes out.

    `texts_about` gives the best passages for some words, of those the asker may see. Equal texts give equal words.
    """
    short_in_query = acronyms_of(query)
    added: dict[str, None] = {}
    asked_words = _spelled(query)
    for asked in (*short_in_query, query):
        for short, long in (pair for text in texts_about(asked) for pair in definitions(text)):
            if short in short_in_query and _spelled(long) not in asked_words:
                added[long] = None
            elif _spelled(long) in asked_words and short not in short_in_query:
                added[short] = None
    words = tuple(added)[:_MOST_ADDED]
    return Rewritten(" ".join((query, *words)), words, "acronyms") if words else Rewritten(query)


def _spelled(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.lower()))} "


def by_model(client: LlmClient, query: str) -> str | None:
    """Return the search a model words for a question; None if it does not answer, or not with one."""
    request = LlmRequest(search_query_prompt(query), SearchQuery, label="search query")
    try:
        reply = next(iter(client.ask_all([request])))
    except ServiceError as error:
        LOG.warning("the endpoint that words searches did not answer: %s", error.what)
        return None
    if reply.problem or not isinstance(reply.value, SearchQuery):
        return None
    return " ".join(reply.value.query.split()) or None


def rewritten(query: str, how: str, client: LlmClient | None, texts_about: Callable[[str], Sequence[str]]) -> Rewritten:
    """Return what is searched for a question, as the option `rewrite` says."""
    if how == "none":
        return Rewritten(query)
    if how == "endpoint" and client is not None:
        words = by_model(client, query)
        if words is not None:
            return Rewritten(words, (), client.name or "endpoint")
    return with_acronyms(query, texts_about)
