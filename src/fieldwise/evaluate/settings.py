"""What is measured, on which questions, and what a release must reach."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, JsonValue

from fieldwise.judge.settings import JudgeSettings
from fieldwise.llm.settings import EndpointSettings, PriceSettings
from fieldwise.retrieve.settings import hashes_of
from fieldwise.settings import Settings

System = Literal["base", "rag_base", "sft", "preference", "rl", "rag_tuned"]
_NOT_KEYED = {
    "questions",
    "development",
    "regressions",
    "judge",
    "selection",
    "judge_at_least",
    "suites",
    "suite_tokens",
    "quarantine",
    "nli",
    "price",
    "endpoints",
}
SYSTEMS: tuple[System, ...] = ("base", "rag_base", "sft", "preference", "rag_tuned")
RAG_SYSTEMS: tuple[System, ...] = ("rag_tuned", "rag_base")
BY_PROBABILITY = ("bits_per_byte", "token_accuracy", "brier")
"""Metrics that need the probabilities of tokens, which an endpoint does not give."""
RESERVED = frozenset((*get_args(System), "rag_served", "served", "constant"))
"""Names that a system at an endpoint cannot have."""


ScoreName = Literal[
    "exact_match",
    "token_f1",
    "token_precision",
    "token_recall",
    "rouge_1",
    "rouge_2",
    "rouge_l",
    "semantic_similarity",
    "bert_score",
]
COMBINED: dict[ScoreName, float] = {"bert_score": 0.4, "rouge_l": 0.3, "token_f1": 0.2, "rouge_1": 0.1}


class GateSettings(Settings):
    """One requirement: the candidate against a baseline, or against a fixed level."""

    metric: str
    system: str = Field("rag_tuned", description="one of evaluate.systems, or the name of one of evaluate.endpoints")
    baseline: str | None = Field("base", description="a system as above; None compares with `at_least` alone")
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


class SuiteSettings(Settings):
    """A suite that the release is put through, and what it must reach there besides no new critical failure."""

    suite: str = Field(
        description="a shipped suite, a file, or a task file of lm-evaluation-harness; relative to the recipe file"
    )
    margin: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how much of the base's share passed may be lost: the interval of the paired difference must lie above -margin. Without it only a loss beyond chance fails",
    )
    at_least: float | None = Field(
        None, ge=0, le=1, description="share passed that the lower end of the interval must reach"
    )
    metric: str | None = Field(
        None,
        exclude_if=lambda metric: metric is None,
        description="of a task of lm-evaluation-harness: which of its metrics says of every item whether it is passed (exact_match or acc without it)",
    )


class EndpointSystemSettings(Settings):
    """A model behind an OpenAI-compatible endpoint that the report compares as one more system."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,39}$", description="what the system is called in the report, gates and files"
    )
    endpoint: EndpointSettings
    documents: bool = Field(
        True,
        description="ask over the passages that this run's retrieval finds, in the prompt of rag_tuned (else rag_base), which leave this machine with the questions; false: the question alone",
    )

    def keyed(self) -> dict[str, JsonValue]:
        """Return what shapes its column of the report."""
        priced = self.endpoint.price.model_dump(mode="json")
        return {
            "name": self.name,
            "documents": self.documents,
            **self.endpoint.keyed(),
            **({"price": priced} if any(priced.values()) else {}),
        }


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
    selection: Literal["f1", "combined"] | dict[ScoreName, Annotated[float, Field(gt=0)]] = Field(
        "f1",
        description="what weights are chosen by: token F1 and right declines; combined is {bert_score: 0.4, rouge_l: 0.3, token_f1: 0.2, rouge_1: 0.1}; or weights of your own",
    )
    systems: tuple[System, ...] = Field(
        SYSTEMS, min_length=1, description="what is compared; rl, the weights after train.rl, only where it is named"
    )
    endpoints: tuple[EndpointSystemSettings, ...] = Field(
        (),
        description="models behind OpenAI-compatible endpoints that the report compares as well; asked after the training (4d), and nothing is sent anywhere that is not named here",
    )
    max_new_tokens: int = Field(48, ge=1)
    semantic: bool = Field(
        False,
        description="also score closeness in meaning: semantic similarity and BERTScore by the embedded encoder, which takes some milliseconds an answer",
    )
    nli: str | None = Field(
        None,
        description="folder of a natural language inference model: adds the share of the claims that a cited passage entails; relative to the recipe file",
    )
    price: PriceSettings | None = Field(
        None,
        description="of the endpoint that would serve these weights: the report then says what answers cost. One's own machine takes no money, so that without it the tokens stand alone",
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

    suites: tuple[str | SuiteSettings, ...] = Field(
        (),
        description="suites that the base, the weights of every training and the file to serve are put through before a release, such as safety, healthcare or a file; a critical failure that the base does not have fails",
    )
    suite_tokens: int = Field(256, ge=1, description="longest reply to an item of a suite")
    quarantine: str | None = Field(
        None,
        description="file of items measured to be flaky, with evidence and expiry; relative to the recipe file. See `fieldwise suite --samples`",
    )
    judge: JudgeSettings | None = Field(None, description="the model that `fieldwise judge` asks; no stage does")
    judge_at_least: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share that the judge of `fieldwise judge` must find right, by the lower end of the interval, before a release; only a judge that agrees with people decides",
    )

    @property
    def selection_weights(self) -> dict[str, float] | None:
        """The weights of the score that weights are chosen by; None for plain F1."""
        if self.selection == "f1":
            return None
        return {str(k): v for k, v in (COMBINED if self.selection == "combined" else dict(self.selection)).items()}

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings that shape the report: not the places of the questions, whose content counts.

        What other steps alone read, such as the suites, is part of their keys.
        """
        keyed = self.model_dump(mode="json", exclude=_NOT_KEYED)
        keyed |= {} if self.nli is None else {"nli": hashes_of(self.nli)}
        keyed |= {"endpoints": [e.keyed() for e in self.endpoints]} if self.endpoints else {}
        return keyed if self.price is None else {**keyed, "price": self.price.model_dump(mode="json")}

    @property
    def wanted_suites(self) -> tuple[SuiteSettings, ...]:
        """The suites with what each must reach."""
        return tuple(SuiteSettings(suite=s) if isinstance(s, str) else s for s in self.suites)
