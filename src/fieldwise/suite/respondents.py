"""Who replies to the items of a suite: weights in this process, or an endpoint (`endpoint.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from fieldwise.errors import ModelError
from fieldwise.interfaces import Engine, Generation, Sampling
from fieldwise.records import Conversation
from fieldwise.serve.tool_calls import find_tool_calls
from fieldwise.suite.items import Reply

_BATCH = 16


class Asked(NamedTuple):
    """What is sent for one item."""

    conversation: Conversation
    tools: tuple[dict[str, JsonValue], ...] = ()


class Respondent(Protocol):
    """Replies to conversations. `identity` names the weights, not the place: with another one all is asked anew."""

    name: str
    identity: str

    def reply_all(self, asked: Sequence[Asked]) -> Iterator[Reply]:
        """Yield one reply for each, in order; one that failed says so in its `problem`."""
        ...

    def draw(self, temperature: float, number: int) -> None:
        """From now on reply with the sample of this number at this temperature; it has an identity of its own."""
        ...

    def close(self) -> None:
        """Free what was held."""
        ...


def drawn(identity: str, temperature: float, number: int) -> str:
    """The identity of one sample."""
    return f"{identity} at temperature {temperature:g}, sample {number}"


class EngineRespondent:
    """Weights that run here; the best token each time, so that the same weights reply the same."""

    def __init__(self, name: str, engine: Engine, identity: str, max_tokens: int) -> None:
        self.name, self.identity = name, identity
        self._weights = identity
        self.engine, self._sampling = engine, Sampling(max_tokens=max_tokens)

    def reply_all(self, asked: Sequence[Asked]) -> Iterator[Reply]:
        """Yield one reply for each, in order; a prompt that does not fit the context is not asked."""
        for begin in range(0, len(asked), _BATCH):
            group = asked[begin : begin + _BATCH]
            prompts = [self._prompt(a) for a in group]
            fitting = [p for p in prompts if isinstance(p, list)]
            replies = iter(self.engine.generate(fitting, self._sampling) if fitting else ())
            for prompt, one in zip(prompts, group, strict=True):
                yield prompt if isinstance(prompt, Reply) else _reply(next(replies), has_tools=bool(one.tools))

    def draw(self, temperature: float, number: int) -> None:
        """Sample with the number as seed."""
        self.identity = drawn(self._weights, temperature, number)
        self._sampling = replace(self._sampling, temperature=temperature, seed=number)

    def close(self) -> None:
        """Free the weights."""
        self.engine.close()

    def _prompt(self, asked: Asked) -> list[int] | Reply:
        try:
            prompt = self.engine.render(asked.conversation, tools=[dict(t) for t in asked.tools])
        except ModelError as error:  # this conversation; others may do
            return Reply(problem="template", detail=str(error)[:300])
        if len(prompt) >= self.engine.context_tokens:
            detail = f"{len(prompt)} tokens, the context holds {self.engine.context_tokens}"
            return Reply(problem="too_long", detail=detail)
        return prompt


def _reply(generation: Generation, *, has_tools: bool) -> Reply:
    calls = find_tool_calls(generation.text) if has_tools else ()
    text = "" if calls else generation.text.strip()
    if generation.finish_reason in ("error", "cancelled"):
        return Reply(problem=generation.finish_reason, detail="the engine did not finish the reply")
    return Reply(
        text=text,
        tool_calls=calls,
        finish_reason=generation.finish_reason,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=len(generation.token_ids),
    )
