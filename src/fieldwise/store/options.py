"""What a search of a store does beside finding: all of it is off unless asked for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fieldwise.llm.settings import EndpointSettings
from fieldwise.settings import Settings

Fusion = Literal["convex", "reciprocal_ranks"]


class SearchEndpoint(EndpointSettings):
    """An endpoint that a search waits for: it has one try and little time."""

    max_tokens: int = Field(200, ge=16, description="most tokens of one reply")
    timeout_seconds: float = Field(10, gt=0, description="longest time for one reply; then acronyms stand in")
    max_retries: int = Field(0, ge=0, le=20, description="how often a request that fails for a while is sent again")


class SearchOptions(Settings):
    """Options of a search; the defaults change nothing in what both legs and their fusion give."""

    fusion: Fusion = Field(
        "convex", description="how both legs become one score: a convex sum of z-scores, or reciprocal ranks (RRF, 60)"
    )
    fold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Jaccard similarity of word shingles from which a hit is folded into a better one; null folds none",
    )
    per_document: int | None = Field(None, ge=1, description="most passages of one document; null for no limit")
    diversity: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of being unlike the passages already chosen in the choice of the next one (MMR); 0 is off",
    )
    freshness: float = Field(
        0.0,
        ge=0,
        le=10,
        description="what a document of today gains, in standard deviations of a leg; half of it after half_life_days; 0 is off",
    )
    half_life_days: float = Field(365.0, gt=0, description="age in days at which a document gains half as much")
    freshness_field: str = Field(
        "valid_from", min_length=1, description="field with the day a document is of; valid_from or one of its own"
    )
    expand: Literal["none", "neighbours", "section"] = Field(
        "none", description="widen what was found by the chunks beside it, or to its section"
    )
    neighbours: int = Field(1, ge=1, le=10, description="chunks before and behind that neighbours adds")
    expand_chars: int = Field(2000, ge=100, le=100_000, description="most characters of a widened passage")
    rewrite: Literal["none", "acronyms", "endpoint"] = Field(
        "none",
        description="what is searched: the question as it stands, with the acronyms that the documents explain, or as an endpoint words it (with acronyms where that fails)",
    )
    endpoint: SearchEndpoint = SearchEndpoint()

    @property
    def needs_a_pool(self) -> bool:
        """Whether more than the best few must be looked at."""
        return bool(self.fold or self.per_document or self.diversity or self.freshness or self.expand != "none")


PLAIN = SearchOptions()
"""Nothing beside both legs and their fusion."""
