"""Which endpoint is asked, how, and what it may cost."""

from __future__ import annotations

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from fieldwise.llm.answers import is_loopback
from fieldwise.settings import Settings

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PriceSettings(Settings):
    """Prices of a million tokens, in any one currency."""

    input: float = Field(0.0, ge=0, description="price of a million tokens of prompts")
    output: float = Field(0.0, ge=0, description="price of a million tokens of replies")


class BudgetSettings(Settings):
    """What all requests of the run folder together may take; reached, no further request is sent."""

    tokens: int | None = Field(None, ge=1, description="most tokens of prompts and replies together")
    money: float | None = Field(None, gt=0, description="most money, in the currency of the prices")
    when_spent: Literal["stop", "finish"] = Field(
        "stop", description="stop and wait for a larger budget, or finish with what has been answered"
    )


class EndpointSettings(Settings):
    """An OpenAI-compatible chat endpoint."""

    base_url: str | None = Field(
        None, description="address before /chat/completions, such as http://127.0.0.1:11434/v1; texts are sent there"
    )
    model: str | None = Field(None, min_length=1, description="name of the model as the endpoint knows it")
    key_variable: str | None = Field(
        None, description="environment variable that holds the key, such as OPENAI_API_KEY; without it none is sent"
    )
    temperature: float | None = Field(0.0, ge=0, le=2, description="null leaves it to the endpoint")
    max_tokens: int = Field(2000, ge=16, description="most tokens of one reply")
    seed: int | None = Field(None, ge=0, description="sent if set; few endpoints heed it")
    json_mode: Literal["auto", "prompt"] = Field(
        "auto",
        description="auto has the endpoint hold to the JSON schema where it can; prompt asks for it in words alone",
    )
    concurrency: int = Field(8, ge=1, le=1000, description="most requests at the same time")
    timeout_seconds: float = Field(120, gt=0, description="longest time for one reply, however slowly it drips")
    max_retries: int = Field(5, ge=0, le=20, description="how often a request that fails for a while is sent again")
    max_wait_seconds: float = Field(120, gt=0, description="longest pause an endpoint may ask for with Retry-After")
    price: PriceSettings = PriceSettings()
    budget: BudgetSettings = BudgetSettings()

    @model_validator(mode="after")  # of the whole section, so that no message repeats the value: it may hold a key
    def _holds_no_secret(self) -> Self:
        if self.key_variable is not None and not _VARIABLE.fullmatch(self.key_variable):
            raise ValueError("key_variable is the name of an environment variable, never the key itself")
        if self.base_url is not None:
            _check_address(self.base_url)
        return self

    @property
    def url(self) -> str:
        """Where chat completions are asked for."""
        return f"{(self.base_url or '').rstrip('/')}/chat/completions"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent stays on this machine."""
        return is_loopback(self.base_url or "")

    def keyed(self) -> dict[str, JsonValue]:
        """Return what shapes the replies; a budget counts only where the run may finish without all of them."""
        shaping = {"base_url", "model", "temperature", "max_tokens", "seed"}
        budget = {"budget": self.budget.model_dump(mode="json")} if self.budget.when_spent == "finish" else {}
        return {**self.model_dump(mode="json", include=shaping), **budget}


def _check_address(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https"):
        raise ValueError("base_url is an address such as https://api.openai.com/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("base_url holds no password and no parameters; a key stands in the variable key_variable")
    if parts.path.rstrip("/").endswith(("/completions", "/models")):
        raise ValueError("base_url ends before /chat/completions, mostly with /v1")
