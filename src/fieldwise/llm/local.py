"""Our own weights as an LlmClient: an engine that is asked like an endpoint, with the same journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.interfaces import Engine, LlmReply, LlmRequest, Sampling
from fieldwise.llm.journal import Journal, Row
from fieldwise.llm.structured import read_value, with_schema
from fieldwise.records import Conversation

_BATCH = 16


class EngineClient:
    """An LlmClient over an Engine. Replies are on the disk before anyone sees them, batch by batch.

    The sample of a request is added to the seed. `name` enters the key of the journal: it must change with the weights.
    """

    def __init__(self, engine: Engine, journal: Path, sampling: Sampling, *, name: str | None = None) -> None:
        self.name = name or engine.model_id
        self.journal = Journal(journal)
        self._engine, self._sampling = engine, sampling

    def ask_all(self, requests: Sequence[LlmRequest]) -> Iterator[LlmReply]:
        """Yield one reply for each request, in order."""
        for begin in range(0, len(requests), _BATCH):
            batch = requests[begin : begin + _BATCH]
            keys = [self._key(request) for request in batch]
            long = self._answer(batch, keys)
            for request, key in zip(batch, keys, strict=True):
                yield _too_long() if key in long else self._reply(request, key)

    def _answer(self, batch: Sequence[LlmRequest], keys: Sequence[str]) -> set[str]:
        """Ask what the journal does not hold; returns the keys of prompts that do not fit the context."""
        left = {key: request for key, request in zip(keys, batch, strict=True) if self.journal.get(key) is None}
        prompts = {key: self._engine.render(_conversation(request)) for key, request in left.items()}
        most = self._engine.context_tokens - self._sampling.max_tokens
        long = {key for key, prompt in prompts.items() if len(prompt) > most}
        asked = sorted((left[key].sample, key) for key in left.keys() - long)
        for sample, group in groupby(asked, key=lambda entry: entry[0]):
            wanted = [key for _, key in group]
            seed = None if self._sampling.seed is None else self._sampling.seed + sample
            replies = self._engine.generate([prompts[key] for key in wanted], replace(self._sampling, seed=seed))
            self.journal.record(
                [
                    Row(
                        key=key,
                        label=left[key].label,
                        model=self.name,
                        text=reply.text,
                        finish_reason="length" if reply.finish_reason == "length" else "stop",
                        prompt_tokens=reply.prompt_tokens,
                        completion_tokens=len(reply.token_ids),
                        price=0.0,
                    )
                    for key, reply in zip(wanted, replies, strict=True)
                ]
            )
        return long

    def _key(self, request: LlmRequest) -> str:
        asked = [m.model_dump(mode="json", include={"role", "content"}) for m in _conversation(request)]
        drawn = [self._sampling.max_tokens, self._sampling.temperature, self._sampling.top_p, self._sampling.top_k]
        shaping = [self.name, *drawn, self._sampling.seed, list(self._sampling.stop)]
        return sha256_text(canonical_json([*shaping, asked, request.sample]))

    def _reply(self, request: LlmRequest, key: str) -> LlmReply:
        row = self.journal.get(key)
        assert row is not None and row.text is not None
        value, fault = read_value(row.text, request.schema) if request.schema is not None else (None, "")
        if not row.text.strip():
            fault = "the reply is empty"
        return LlmReply(
            text=row.text,
            value=value,
            problem="" if not fault else "not_json" if request.schema is not None else "empty_reply",
            detail=fault,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            requests=1,
        )


def _conversation(request: LlmRequest) -> Conversation:
    return request.conversation if request.schema is None else with_schema(request.conversation, request.schema)


def _too_long() -> LlmReply:
    return LlmReply(problem="prompt_too_long", detail="the prompt does not fit the model's context")
