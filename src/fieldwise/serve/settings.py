"""How the service listens and what it allows."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from fieldwise.settings import Settings
from fieldwise.store.options import SearchOptions


class ServeSettings(Settings):
    """Settings of the serve stage."""

    host: str = Field("127.0.0.1", description="address to listen on; anything but loopback needs a key")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    api_key_env: str = Field(
        "FIELDWISE_API_KEY", description="environment variable that holds the key clients must send"
    )
    keys: str | None = Field(
        None,
        description="file of keys, each with tenant, access groups and rights; needs a store; relative to the recipe file",
    )
    groups: tuple[str, ...] = Field(
        ("everyone",),
        description="access groups of whoever asks without a key or with the one of api_key_env; none sees nothing of a store",
    )
    store: str | None = Field(
        None,
        description="folder of a document store to answer from in place of the run's own index; made from the run if it is not there; relative to the recipe file",
    )
    read_only: bool = Field(False, description="open the store for reading only, beside a process that writes")
    max_upload_mb: float = Field(20, gt=0, le=1000, description="largest document that can be added over HTTP")
    search: SearchOptions = SearchOptions()
    follow_up: Literal["joined", "carried", "model", "endpoint"] = Field(
        "joined",
        description="what is searched for a question that goes on from earlier ones: a short one joined to the one before it; with the words that it leans on; as the model itself, or the one at serve.search.endpoint, words it (carried where that fails)",
    )
    follow_up_seconds: float = Field(
        5.0, gt=0, le=60, description="longest time the model itself may take to word a search"
    )
    context_tokens: int = Field(
        4096,
        ge=0,
        description="most tokens of prompt and reply together; 0 takes all the model was trained with, which can need much memory",
    )
    threads: int = Field(0, ge=0, description="threads of the engine; 0 takes the physical cores")
    parallel: int = Field(4, ge=1, le=64, description="requests generated together")
    queue: int = Field(64, ge=0, description="requests that may wait; more are answered 429")
    timeout_seconds: float = Field(120, gt=0, description="longest time for one request, waiting included")

    @model_validator(mode="after")
    def _has_host(self) -> Self:
        if not self.host:
            raise ValueError("host must not be empty; 127.0.0.1 listens on this machine only")
        return self

    def keyed(self) -> dict[str, JsonValue]:
        """Nothing here shapes an artefact."""
        return {}
