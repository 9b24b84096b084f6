"""A model that is a function: for tests, also those of users, and to try a recipe without an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.llm.structured import read_value


class FakeLlm:
    """An LlmClient that replies what a function says, and keeps what it was asked."""

    def __init__(self, respond: Callable[[LlmRequest], str], name: str = "fake") -> None:
        self.name = name
        self.asked: list[LlmRequest] = []
        self._respond = respond

    def ask_all(self, requests: Sequence[LlmRequest]) -> Iterator[LlmReply]:
        """Yield one reply for each request, in order."""
        for request in requests:
            self.asked.append(request)
            text = self._respond(request)
            value, fault = read_value(text, request.schema) if request.schema is not None else (None, "")
            yield LlmReply(text=text, value=value, problem="not_json" if fault else "", detail=fault, requests=1)
