"""What training data is made from the chunks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from fieldwise.llm.settings import EndpointSettings
from fieldwise.settings import Settings


class SplitSettings(Settings):
    """Shares of documents on each side; near-duplicates stay together."""

    train: float = Field(0.8, gt=0, lt=1)
    validation: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError(f"shares must add up to 1, found {self.train + self.validation + self.test:g}")
        return self


class GenerateSettings(Settings):
    """Settings of the generate stage."""

    teacher: Literal["rules", "openai", "fake"] = Field(
        "rules",
        description="who writes questions and answers: rules needs no model, openai is any OpenAI-compatible endpoint, fake stands in for one in tests",
    )
    endpoint: EndpointSettings = EndpointSettings()
    max_per_chunk: int = Field(10, ge=1, description="most question-answer pairs from one chunk")
    grounded_share: float = Field(
        0.6, ge=0, le=1, description="share of examples that show passages, as retrieval will"
    )
    distractors: int = Field(2, ge=0, le=8, description="other passages shown beside the evidence")
    unanswerable_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="share of examples over passages that these do not answer, so that declining is right",
    )
    invented_share: float = Field(
        0.05, ge=0, le=0.5, description="share of examples without passages that ask about a thing of an invented name"
    )
    preference_pairs: int = Field(240, ge=0, description="most preference pairs")
    split: SplitSettings = SplitSettings()

    def keyed(self) -> dict[str, JsonValue]:
        """Return what shapes the examples: of the endpoint what shapes its replies, and nothing if it is not asked."""
        keyed = self.model_dump(mode="json", exclude={"endpoint"})
        return {**keyed, "endpoint": self.endpoint.keyed()} if self.teacher == "openai" else keyed
