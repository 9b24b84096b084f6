"""Figures for Prometheus. Labels are route, model and outcome (and the direction of tokens), never anything a user wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fieldwise.extras import require
from fieldwise.serve.trace import Trace

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The counters of one service, in a registry of their own."""

    def __init__(self, *, queue_depth: Callable[[], float]) -> None:
        client = require("prometheus_client", extra="serve", to="count requests")
        self._client = client
        self.registry: Any = client.CollectorRegistry()
        self._requests = client.Histogram(
            "fieldwise_request_seconds",
            "Time of a request, waiting and streaming included.",
            ("route", "model", "outcome"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_token = client.Histogram(
            "fieldwise_first_token_seconds",
            "Time from a request's arrival to the first words.",
            ("route", "model"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = client.Counter(
            "fieldwise_tokens_total", "Tokens read and written.", ("direction", "model"), registry=self.registry
        )
        self._rejected = client.Counter(
            "fieldwise_rejected_total",
            "Requests turned away because the queue was full.",
            ("route",),
            registry=self.registry,
        )
        self._answers = client.Counter(
            "fieldwise_answers_total",
            "Answers from the documents: answered, or declined because they do not say.",
            ("model", "outcome"),
            registry=self.registry,
        )
        self._citations = client.Counter(
            "fieldwise_citations_total",
            "Citations: verified stand word for word in the document.",
            ("model", "outcome"),
            registry=self.registry,
        )
        client.ProcessCollector(registry=self.registry)  # memory and processor time, where the system tells
        self._screened = client.Counter(
            "fieldwise_screened_passages_total",
            "Passages found for answers that give orders to a model, by sign and what was done about them.",
            ("sign", "action"),
            registry=self.registry,
        )
        self._in_flight = client.Gauge("fieldwise_in_flight", "Requests being answered.", registry=self.registry)
        client.Gauge("fieldwise_queue_depth", "Requests that wait for a place.", registry=self.registry).set_function(
            queue_depth
        )

    def begin(self) -> None:
        """A request has arrived."""
        self._in_flight.inc()

    def end(self, trace: Trace) -> None:
        """A request is over: count everything its trace says."""
        self._in_flight.dec()
        self._requests.labels(trace.route, trace.model, trace.outcome).observe(trace.seconds)
        if trace.first_token_seconds is not None:
            self._first_token.labels(trace.route, trace.model).observe(trace.first_token_seconds)
        if trace.prompt_tokens:
            self._tokens.labels("prompt", trace.model).inc(trace.prompt_tokens)
        if trace.completion_tokens:
            self._tokens.labels("completion", trace.model).inc(trace.completion_tokens)
        if trace.outcome == "rejected":
            self._rejected.labels(trace.route).inc()
        for answer in trace.answers:
            self._answers.labels(trace.model, "declined" if answer.is_declined else "answered").inc()
            for passage in answer.screened:
                for sign in passage.signs:
                    self._screened.labels(sign, passage.action).inc()
            for citation in answer.citations:
                self._citations.labels(trace.model, "verified" if citation.is_verified else "unverified").inc()

    def exposition(self) -> tuple[bytes, str]:
        """Return the text Prometheus reads, and its media type."""
        text: bytes = self._client.generate_latest(self.registry)
        return text, str(self._client.CONTENT_TYPE_LATEST)
