"""Asking a search service for addresses: the recipe's query is sent to it, and nothing else.

A new service is one function `(Question, ask) -> hits` in a file of its own (see hits.py) and a row in SERVICES.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from fieldwise.collect.hits import Ask, Hit, Question, SearchService
from fieldwise.collect.serpapi import serpapi
from fieldwise.collect.settings import WebSource
from fieldwise.errors import DocumentError, ServiceError

DEFAULT_LIMIT = 20


class _Service(NamedTuple):
    search: SearchService
    key_variable: str


SERVICES = {"serpapi": _Service(serpapi, "SERPAPI_API_KEY")}


def question_of(source: WebSource, base_url: str) -> Question:
    """Return what is asked; raises ServiceError, naming the variable, when there is no key."""
    assert source.search is not None
    variable = SERVICES[source.service].key_variable
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ServiceError(
            f"{source.service} needs a key",
            where=f"collect.sources: {source.label}",
            found=f"no environment variable {variable}",
            fix=f"Set it: export {variable}=... It is sent to the service and written nowhere.",
        )
    return Question(source.search, source.limit or DEFAULT_LIMIT, source.pdf_only, base_url, key)


def search(service: str, question: Question, ask: Ask) -> list[Hit]:
    """Return what a service finds; raises DocumentError."""
    try:
        hits = SERVICES[service].search(question, ask)
    except DocumentError as error:
        if error.reason in ("http_401", "http_403"):
            raise DocumentError(
                "the search service does not take the key",
                reason="search_failed",
                found=error.found,
                fix=f"Check {SERVICES[service].key_variable}.",
            ) from None
        raise
    if not hits:
        raise DocumentError("the search finds nothing", reason="no_results", fix="Ask with fewer or other words.")
    return hits
