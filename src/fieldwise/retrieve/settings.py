"""How passages are found for a question."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fieldwise.settings import Settings

_STEMMERS = (
    "arabic danish dutch english finnish french german greek hungarian italian norwegian portuguese romanian russian "
    "spanish swedish tamil turkish"
).split()


class RetrieveSettings(Settings):
    """Settings of index and search."""

    embedding: Literal["all-MiniLM-L6-v2", "none"] = Field(
        "all-MiniLM-L6-v2", description="embedding model; none searches by words only"
    )
    dense_weight: float = Field(
        0.4, ge=0, le=1, description="share of the dense score in the fused score (z-scores, convex)"
    )
    candidates: int = Field(50, ge=1, description="hits taken from each leg before fusion")
    top_k: int = Field(3, ge=1, le=9, description="passages shown to the model")
    stemmer: str = Field("english", description="language of the stemmer of the lexical index")
    context_share: float = Field(0.7, gt=0, lt=1, description="most of the model's context that passages may take")

    @field_validator("stemmer")
    @classmethod
    def _has_a_stemmer(cls, language: str) -> str:
        if language not in _STEMMERS:
            raise ValueError(f"there is no stemmer for this language, only for {', '.join(_STEMMERS)}")
        return language
