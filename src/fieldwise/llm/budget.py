"""How much a request may take, how much all have taken, and when no further one is sent."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from fieldwise.llm.journal import Journal
from fieldwise.llm.settings import BudgetSettings, PriceSettings
from fieldwise.records import Conversation

_TOKENS_OF_A_TURN = 8
_USUAL_BYTES_A_TOKEN = 4.0  # English prose with the tokenizers of large models: 4 to 4.5
_LEAST_BYTES_A_TOKEN = 3.0  # figures and tables


@dataclass(frozen=True)
class Cost:
    """Tokens and their price."""

    tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.tokens - other.tokens, self.money - other.money)


def cost(prompt_tokens: int, completion_tokens: int, price: PriceSettings) -> Cost:
    """Return what a reply costs.

    >>> cost(1_000_000, 500_000, PriceSettings(input=0.15, output=0.6))
    Cost(tokens=1500000, money=0.45)
    """
    money = (prompt_tokens * price.input + completion_tokens * price.output) / 1e6
    return Cost(prompt_tokens + completion_tokens, round(money, 9))


def usual_tokens(conversation: Conversation) -> int:
    """Return about how many tokens a prompt has, without knowing the tokenizer."""
    return _tokens(conversation, _USUAL_BYTES_A_TOKEN)


def most_tokens(conversation: Conversation) -> int:
    """Return how many tokens a prompt hardly exceeds, without knowing the tokenizer."""
    return _tokens(conversation, _LEAST_BYTES_A_TOKEN)


def _tokens(conversation: Conversation, bytes_a_token: float) -> int:
    content = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in conversation)
    return math.ceil(content / bytes_a_token) + _TOKENS_OF_A_TURN * len(conversation)


class Budget:
    """Lets requests through as long as the budget holds even if all that are under way take as much as they may.

    What is spent stands in the journal, that of earlier runs included.
    """

    def __init__(self, settings: BudgetSettings, journal: Journal) -> None:
        self._settings, self._journal = settings, journal
        self._reserved = Cost()
        self._under_way = 0
        self._changed = asyncio.Condition()
        self.is_spent = False

    async def reserve(self, most: Cost) -> bool:
        """Wait until a request of this cost fits; False when it cannot fit any more."""
        async with self._changed:
            while not self.is_spent and not self._fits(most):
                self.is_spent = self._under_way == 0
                if not self.is_spent:
                    await self._changed.wait()
            if not self.is_spent:
                self._reserved += most
                self._under_way += 1
            else:
                self._changed.notify_all()
            return not self.is_spent

    async def release(self, most: Cost) -> None:
        """Give back what was reserved; what it really took is in the journal by now."""
        async with self._changed:
            self._reserved -= most
            self._under_way -= 1
            self._changed.notify_all()

    def _fits(self, most: Cost) -> bool:
        tokens, money = self._settings.tokens, self._settings.money
        wanted = self._reserved + most
        return (tokens is None or self._journal.tokens + wanted.tokens <= tokens) and (
            money is None or self._journal.money + wanted.money <= money + 1e-9
        )
