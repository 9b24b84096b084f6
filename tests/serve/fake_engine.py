"""An engine with rules in the place of weights: deterministic, counts what happens to it, and can be slow, stuck or broken on demand."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from fieldwise.interfaces import Generation, Piece, Sampling
from fieldwise.records import NOT_STATED, Conversation

_TOKEN = re.compile(r"\s*\S+|\s+")
_FACTS = (
    ("rub", "25 seconds"),
    ("visitors", "two visitors"),
    ("deposit", "within 14 days"),
    ("smoke", "ring 2222"),
    ("manager", "4480"),
    ("payload", "harmless words"),
)


class FakeEngine:
    """Answers grounded prompts with the fact a passage holds, plain ones with an echo.

    Words of the prompt choose faults: "slowly" writes for ever, "stuck" never begins, "broken" fails.
    """

    def __init__(self, name: str = "tuned", *, context_tokens: int = 1500, piece_seconds: float = 0.0) -> None:
        self.model_id, self.context_tokens, self.piece_seconds = name, context_tokens, piece_seconds
        self.started = self.cancelled = self.running = self.largest_running = 0
        self.is_closed = False
        self._ids: dict[str, int] = {}
        self._texts: list[str] = []
        self._lock = threading.Lock()

    def tokenize(self, text: str) -> list[int]:
        with self._lock:
            ids = []
            for part in _TOKEN.findall(text):
                if part not in self._ids:
                    self._ids[part] = len(self._texts)
                    self._texts.append(part)
                ids.append(self._ids[part])
            return ids

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return "".join(self._texts[token] for token in token_ids)

    def render(self, conversation: Conversation, *, tools: Sequence[dict[str, object]] = ()) -> list[int]:
        offered = f"TOOLS {json.dumps(list(tools))}\n" if tools else ""
        return self.tokenize(offered + "".join(f"<|{m.role}|> {m.content}\n" for m in conversation) + "<|assistant|>")

    def reply_tokens(self, text: str) -> list[int]:
        return self.tokenize(f" {text}")

    def generate(
        self, prompts: Sequence[list[int]], sampling: Sampling, *, rated: Sequence[Sequence[list[int]]] = ()
    ) -> list[Generation]:
        return [self._whole(prompt, sampling) for prompt in prompts]

    def stream(
        self,
        prompt: list[int],
        sampling: Sampling,
        is_cancelled: Callable[[], bool] = lambda: False,
        *,
        rated: Sequence[list[int]] = (),
    ) -> Iterator[Piece]:
        with self._lock:
            self.started += 1
            self.running += 1
            self.largest_running = max(self.largest_running, self.running)
        finish = "cancelled"
        try:
            for piece in self._pieces(prompt, sampling, is_cancelled):
                finish = piece.finish_reason or finish
                yield piece
        finally:
            with self._lock:
                self.running -= 1
                self.cancelled += finish == "cancelled"

    def close(self) -> None:
        self.is_closed = True

    # ------------------------------------------------------------ the rules

    def _pieces(self, prompt: list[int], sampling: Sampling, is_cancelled: Callable[[], bool]) -> Iterator[Piece]:
        text = self.detokenize(prompt)
        asked = text.rpartition("<|user|>")[2]
        if "stuck" in asked:
            while not is_cancelled():
                time.sleep(0.01)
            yield Piece("", 0, "cancelled")
            return
        words = self._words(text, asked)
        for count, word in enumerate(words, 1):
            time.sleep(0.01 if "slowly" in asked else self.piece_seconds)
            if is_cancelled():
                yield Piece("", 0, "cancelled")
                return
            if any(stop in word for stop in sampling.stop):
                yield Piece("", 1, "stop")
                return
            if count >= sampling.max_tokens:
                yield Piece(word, 1, "length")
                return
            yield Piece(word, 1)
        yield Piece("", 0, "stop")

    def _words(self, text: str, asked: str) -> Iterator[str]:
        if "broken" in asked:
            yield " One"
            raise RuntimeError(f"a fault that quotes the prompt: {asked}")
        if "slowly" in asked:
            while True:
                yield " word"
        yield from re.findall(r"\s*\S+", self._reply(text, asked))

    def _reply(self, text: str, asked: str) -> str:
        if "Passages:" in text:
            return self._grounded(text)
        if "TOOLS" in text and "book" in asked:
            return ' <tool_call>{"name": "book_room", "arguments": {"room": "4"}}</tool_call>'
        return f" You said:{asked.removesuffix('<|assistant|>').rstrip()}"

    def _grounded(self, text: str) -> str:
        passages, _, question = text.partition("Passages:")[2].rpartition("Question:")
        numbered = re.split(r"\n\n\[(\d)\] ", "\n\n" + passages.strip())[1:]
        for number, passage in zip(numbered[::2], numbered[1::2], strict=True):
            for word, fact in _FACTS:
                if word in question.lower() and fact in passage:
                    return f" {fact} [{number}]" if self.model_id != "base" else f" about {fact} or so [{number}]"
        return f" {NOT_STATED}"

    def _whole(self, prompt: list[int], sampling: Sampling) -> Generation:
        pieces = list(self.stream(prompt, sampling))
        return Generation(
            "".join(p.text for p in pieces),
            tuple(range(sum(p.tokens for p in pieces))),
            pieces[-1].finish_reason or "error",
            len(prompt),
        )
