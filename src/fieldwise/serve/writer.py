"""A model at an endpoint that words searches."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from fieldwise.errors import ServiceError
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.store.options import SearchEndpoint


class SearchWriter:
    """An LlmClient that words searches over an endpoint, for many threads; no question stays on the disk.

    The budget counts from the start of the service. Raises ServiceError once it is spent.
    """

    def __init__(self, settings: SearchEndpoint) -> None:
        self.name = settings.model or ""
        self._settings, self._lock = settings, threading.Lock()
        self._tokens, self._money = 0, 0.0

    def ask_all(self, requests: Sequence[LlmRequest]) -> Iterator[LlmReply]:
        """Yield one reply for each request, in order."""
        from fieldwise.llm.client import EndpointClient

        budget = self._settings.budget
        with self._lock:
            is_spent = (budget.tokens is not None and self._tokens >= budget.tokens) or (
                budget.money is not None and self._money >= budget.money
            )
        if is_spent:
            raise ServiceError("the budget for the wording of searches is spent", where="serve.search.endpoint.budget")
        # a journal of its own each time: it is not made for threads, and would keep what people asked
        with tempfile.TemporaryDirectory(prefix="fieldwise-search-") as scratch:
            client = EndpointClient(self._settings, Path(scratch) / "journal.jsonl", where="serve.search.endpoint")
            replies = list(client.ask_all(requests))
        with self._lock:
            self._tokens += sum(r.prompt_tokens + r.completion_tokens for r in replies)
            self._money += sum(r.price for r in replies)
        yield from replies
