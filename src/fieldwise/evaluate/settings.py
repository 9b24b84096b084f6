"""What is measured, on which questions, and what a release must reach."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from fieldwise.judge.settings import JudgeSettings
from fieldwise.settings import Settings

System = Literal["base", "rag_base", "sft", "preference", "rl", "rag_tuned"]
SYSTEMS: tuple[System, ...] = ("base", "rag_base", "sft", "preference", "rag_tuned")


class GateSettings(Settings):
    """One requirement: the candidate against a baseline, or against a fixed level."""

    metric: str
    system: System = "rag_tuned"
    baseline: System | None = Field("base", description="None compares with `at_least` alone")
    requires: Literal["better", "not_worse"] = Field(
        "better", description="better: the interval of the paired difference lies above 0; not_worse: above -margin"
    )
    margin: float = Field(0.0, ge=0)
    at_least: float | None = Field(None, description="the lower end of the interval must reach this level")


class RegressionSettings(Settings):
    """One requirement of `fieldwise gate --baseline`: the same system of an earlier run, on the same questions."""

    metric: str
    requires: Literal["better", "not_worse"] = Field(
        "not_worse",
        description="better: the interval of the paired difference lies above margin; not_worse: above -margin",
    )
    margin: float = Field(0.05, ge=0)


class EvaluateSettings(Settings):
    """Settings of the evaluate stage."""

    questions: str | None = Field(
        None,
        description="JSON Lines file of questions that training never sees; relative to the recipe file. Without it the test split of the generated examples is used",
    )
    development: str | None = Field(
        None,
        description="JSON Lines file of other questions, neither trained on nor measured on: they choose between the weights before and after the preference step and tell when to decline; relative to the recipe file. At least 20 with an answer and 20 without",
    )
    false_declines: float = Field(
        0.2, ge=0, le=1, description="share of the answerable development questions that may be declined"
    )
    systems: tuple[System, ...] = Field(
        SYSTEMS, min_length=1, description="what is compared; rl, the weights after train.rl, only where it is named"
    )
    max_new_tokens: int = Field(48, ge=1)
    semantic: bool = Field(
        False,
        description="also score closeness in meaning: semantic similarity and BERTScore by the embedded encoder, which takes some milliseconds an answer",
    )
    bootstrap_samples: int = Field(2000, ge=100)
    gates: tuple[GateSettings, ...] = Field(
        (
            GateSettings(metric="token_f1"),
            GateSettings(metric="token_f1", baseline="preference"),
            GateSettings(metric="token_f1", baseline="rag_base", requires="not_worse", margin=0.05),
            GateSettings(metric="overall_f1", requires="not_worse", margin=0.05),
        ),
        description="every one must pass before a release",
    )
    regressions: tuple[RegressionSettings, ...] = Field(
        (
            RegressionSettings(metric="token_f1"),
            RegressionSettings(metric="overall_f1"),
            RegressionSettings(metric="groundedness"),
        ),
        min_length=1,
        description="what `fieldwise gate --baseline` requires",
    )

    judge: JudgeSettings | None = Field(None, description="the model that `fieldwise judge` asks; no stage does")

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings that shape the report: not the places of the questions, whose content counts."""
        return self.model_dump(mode="json", exclude={"questions", "development", "regressions", "judge"})
