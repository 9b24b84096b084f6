"""What is noted about one request: figures and names, never words of a prompt, a document or an answer."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from fieldwise.records import Answer

SCOPE_KEY = "fieldwise.trace"
_REQUEST_ID = re.compile(r"^[\w.:-]{1,64}$", re.ASCII)


@dataclass
class Trace:
    """One request from its arrival to its last byte."""

    request_id: str
    method: str
    began: float = field(default_factory=time.monotonic)
    route: str = "unmatched"
    model: str = "none"
    outcome: str | None = None
    status: int = 0
    first_token_seconds: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def screened(self) -> int:
        """Passages found for the answers that give orders to a model."""
        return sum(len(answer.screened) for answer in self.answers)

    @property
    def seconds(self) -> float:
        """Time since the request arrived."""
        return time.monotonic() - self.began

    def saw_text(self) -> None:
        """Note when the first words were there."""
        if self.first_token_seconds is None:
            self.first_token_seconds = self.seconds

    def add_tokens(self, prompt: int, completion: int) -> None:
        """Note what a reply cost; a batch has several."""
        self.prompt_tokens += prompt
        self.completion_tokens += completion


def new_request_id(sent: str | None) -> str:
    """Return the id a client sent, if it is a plain one, else a new one."""
    return sent if sent and _REQUEST_ID.match(sent) else f"req_{secrets.token_hex(8)}"


def trace_of(scope: Any) -> Trace:
    """Return the trace of a request's scope."""
    trace: Trace = scope[SCOPE_KEY]
    return trace


def outcome_of(status: int) -> str:
    """Name what became of a request by its status.

    >>> outcome_of(200), outcome_of(429), outcome_of(422)
    ('ok', 'rejected', 'invalid')
    """
    named = {401: "refused", 403: "refused", 429: "rejected", 499: "cancelled", 504: "timeout", 0: "cancelled"}
    if status in named:
        return named[status]
    return "error" if status >= 500 else "invalid" if status >= 400 else "ok"
