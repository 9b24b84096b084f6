"""SerpAPI's Google search: https://serpapi.com/search-api."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from fieldwise.collect.hits import Ask, Hit, Question
from fieldwise.errors import DocumentError

_PAGE_HITS = 10  # Google answers with ten at most, whatever `num` asks for


def serpapi(question: Question, ask: Ask) -> list[Hit]:
    """Return the organic results, page after page, up to the limit; raises DocumentError `search_failed`."""
    hits: dict[str, Hit] = {}
    start = 0
    while len(hits) < question.limit:
        answer = _page(question, start, ask)
        new = [hit for hit in _hits(answer) if hit.url not in hits]
        hits |= {hit.url: hit for hit in new}
        if not new or not _section(answer, "serpapi_pagination").get("next"):
            break
        start += _PAGE_HITS
    return list(hits.values())[: question.limit]


def _page(question: Question, start: int, ask: Ask) -> dict[str, Any]:
    query = f"{question.query} filetype:pdf" if question.pdf_only else question.query
    parameters = {"engine": "google", "q": query, "start": start, "api_key": question.key}
    joint = "&" if "?" in question.base_url else "?"
    try:
        answer = json.loads(ask(f"{question.base_url}{joint}{urlencode(parameters)}"))
    except (ValueError, RecursionError):  # the answer itself may repeat the key, so it is not shown
        answer = None
    if not isinstance(answer, dict):
        raise _failed("the search service does not answer in JSON", None)
    status = _section(answer, "search_metadata").get("status")
    if answer.get("error") and status != "Success":  # with Success it says that there are no results
        raise _failed("the search service reports an error", str(answer["error"]).replace(question.key, "***")[:200])
    return answer


def _hits(answer: dict[str, Any]) -> Iterator[Hit]:
    rows = answer.get("organic_results")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("link"), str):
            yield Hit(row["link"], str(row.get("title") or ""))


def _section(answer: dict[str, Any], name: str) -> dict[str, Any]:
    section = answer.get(name)
    return section if isinstance(section, dict) else {}


def _failed(what: str, found: str | None) -> DocumentError:
    return DocumentError(
        what, reason="search_failed", found=found, fix="Check SERPAPI_API_KEY and the account, and run again."
    )
