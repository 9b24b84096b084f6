"""What a suite is made of: items, each with the conversation that is sent and the checks of its reply."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, JsonValue

from fieldwise.hashing import canonical_json, content_id, sha256_text
from fieldwise.records import Conversation, Record, ToolCall

Difficulty = Literal["easy", "medium", "hard", ""]
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")


class Check(Record):
    """One thing a reply is checked for: a name of `checks.CHECKS`, with `not_` before it for the opposite."""

    name: str
    value: JsonValue = True
    is_critical: bool = Field(False, description="a failure is listed by itself and fails the suite")


class Item(Record):
    """One conversation and what its reply is checked for."""

    id: str
    conversation: Conversation
    asked: str = Field(description="the question in a few words, for reports")
    checks: tuple[Check, ...]
    tools: tuple[dict[str, JsonValue], ...] = ()
    passages: tuple[str, ...] = ()
    domain: str = ""
    kind: str = ""
    difficulty: Difficulty = ""

    @property
    def key(self) -> str:
        """What is asked, as a hash: an item whose checks alone change is not asked again."""
        return content_id("ask", [m.model_dump(mode="json") for m in self.conversation], list(self.tools))

    @property
    def cluster(self) -> str:
        """Items over the same passages are not independent of each other."""
        return content_id("psg", *self.passages) if self.passages else self.id


class Skipped(Record):
    """An item of an imported file that cannot be judged here, and why."""

    id: str
    reason: str


class Suite(Record):
    """Items under one name."""

    name: str
    version: str = "1"
    about: str = ""
    licence: str | None = None
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def sha256(self) -> str:
        """The hash of all items, checks included: figures of two runs compare only where it is the same."""
        return sha256_text(canonical_json([i.model_dump(mode="json") for i in self.items]))


class Reply(Record):
    """What came back for one item; with a `problem` nothing did, and the item is not scored."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    problem: str = Field("", description="short code such as timeout, too_long or http_500")
    detail: str = ""
    prompt_tokens: int = Field(0, exclude_if=lambda tokens: tokens == 0, description="0: nobody counted")
    completion_tokens: int = Field(0, exclude_if=lambda tokens: tokens == 0)

    @property
    def spoken(self) -> str:
        """What is said to the reader: without what a model thinks to itself, and blanks around."""
        return _THOUGHTS.sub("", self.text).strip()


@dataclass(frozen=True)
class Finding:
    """Whether a check holds (1, 0, or None: could not be judged), why not, and figures of its parts."""

    value: float | None
    why: str = ""
    parts: dict[str, float] = field(default_factory=dict)


Fault = tuple[str, str] | None
"""What is wrong with the value of a check, and what to do."""
