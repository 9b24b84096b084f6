"""How passages are found for a question."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fieldwise.settings import Settings


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
