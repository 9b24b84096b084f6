"""Which teacher is learnt from, and how."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from fieldwise.llm.settings import EndpointSettings
from fieldwise.settings import Settings

DistillationMethod = Literal["sequence", "token", "on_policy", "cross_tokenizer"]
_ONLY: dict[str, tuple[DistillationMethod, ...]] = {  # settings that only some methods have
    "when_rejected": ("sequence",),
    "top_k": ("token",),
    "alpha": ("token",),
    "divergence": ("token", "on_policy"),
    "beta": ("token", "on_policy"),
    "on_policy_share": ("on_policy", "cross_tokenizer"),
    "max_new_tokens": ("sequence", "on_policy", "cross_tokenizer"),
}


class TeacherSettings(Settings):
    """Who is learnt from: weights on this machine, or an endpoint."""

    model: str | None = Field(
        None,
        description="local weights, named as base.model is; for the method sequence also a GGUF file",
    )
    revision: str | None = Field(None, description="commit or tag of a Hugging Face id")
    endpoint: EndpointSettings | None = Field(
        None, description="an OpenAI-compatible endpoint; for the method sequence alone, as only its text is seen"
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        """Raise ValueError for no teacher, or for two."""
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("a teacher is either model (weights) or endpoint, one of the two")
        if self.revision is not None and self.model is None:
            raise ValueError("only weights from the Hugging Face hub have revisions")
        return self

    @property
    def is_file(self) -> bool:
        """Whether the teacher is a GGUF file."""
        return self.model is not None and self.model.endswith(".gguf")


class DistillationSettings(Settings):
    """Learning from a larger model while SFT runs: from what it says, or from its probabilities."""

    method: DistillationMethod = Field(
        "sequence",
        description="sequence learns the teacher's replies; token its probabilities of the known replies, kept on disk; "
        "on_policy (GKD) those of replies the student draws itself; cross_tokenizer (GOLD) the same across tokenizers",
    )
    teacher: TeacherSettings
    temperature: float | None = Field(
        None,
        gt=0,
        description="token: softens both distributions (2 if left out); on_policy and cross_tokenizer: of the drawn "
        "replies (0.9); sequence: of the teacher's replies (the best token; an endpoint has its own)",
    )
    alpha: float = Field(0.5, ge=0, le=1, description="of token: weight of the teacher against the known reply")
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = Field(
        "forward_kl",
        description="forward_kl covers all that the teacher holds possible, reverse_kl keeps to its likeliest, jsd lies between",
    )
    beta: float = Field(0.5, gt=0, lt=1, description="of jsd: near 0 as forward_kl, near 1 as reverse_kl")
    top_k: int = Field(32, ge=1, description="of token: probabilities kept a token; what is beyond counts as one")
    on_policy_share: float = Field(
        0.5, ge=0, le=1, description="share of batches whose replies the student draws; the others are the known ones"
    )
    max_new_tokens: int = Field(
        128, ge=1, description="longest reply that is drawn, in tokens; an endpoint has its own"
    )
    when_rejected: Literal["known", "leave_out"] = Field(
        "known", description="of sequence: what takes the place of a reply that fails a check"
    )

    @model_validator(mode="after")
    def _is_of_one_method(self) -> Self:
        """Raise ValueError for a setting that the method would ignore, or a teacher it cannot learn from."""
        for name, methods in _ONLY.items():
            if self.method not in methods and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is a setting of {' and '.join(methods)}, the method is {self.method}")
        if self.beta != type(self).model_fields["beta"].default and self.divergence != "jsd":
            raise ValueError("beta is a setting of divergence jsd")
        if self.method != "sequence" and (self.teacher.endpoint is not None or self.teacher.is_file):
            raise ValueError(
                f"the method {self.method} needs the teacher's probabilities: name weights with teacher.model, or take "
                "method: sequence"
            )
        if self.teacher.endpoint is not None and self.temperature is not None:
            raise ValueError("the temperature of an endpoint stands in teacher.endpoint.temperature")
        if (
            self.teacher.endpoint is not None
            and self.max_new_tokens != type(self).model_fields["max_new_tokens"].default
        ):
            raise ValueError("the longest reply of an endpoint stands in teacher.endpoint.max_tokens")
        return self

    @property
    def pads(self) -> bool:
        """Whether rows are padded, and not packed or laid end to end: replies are drawn in between."""
        return self.method in ("on_policy", "cross_tokenizer")

    @property
    def softening(self) -> float:
        """The temperature, filled in; 0 takes the best token."""
        return (
            self.temperature or {"token": 2.0, "on_policy": 0.9, "cross_tokenizer": 0.9, "sequence": 0.0}[self.method]
        )

    def keyed(self) -> dict[str, JsonValue]:
        """Return what shapes the student: of an endpoint what shapes its replies, of weights not where they stand."""
        teacher = {} if self.teacher.endpoint is None else {"endpoint": self.teacher.endpoint.keyed()}
        return {**self.model_dump(mode="json", exclude={"teacher"}), "teacher": teacher}
