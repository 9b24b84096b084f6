"""What a release contains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fieldwise.settings import Settings

Quantisation = Literal["q2_k", "q3_k_s", "q4_0", "q4_k_m", "q5_0", "q5_k_m", "q6_k", "q8_0"]


class ReleaseSettings(Settings):
    """Settings of the release stage."""

    quantisations: tuple[Quantisation, ...] = Field(("q8_0", "q4_k_m"), description="GGUF files to write beside f32")
    serve: str = Field("q8_0", description="which of them `fieldwise serve` takes")
    max_logit_difference: float = Field(
        1e-3,
        gt=0,
        description="largest difference of the f32 file to the merged weights; above it the release is refused",
    )
    max_score_loss: float = Field(
        0.05, ge=0, description="most that token F1 of the served file may fall below the merged weights"
    )
    include_base: bool = Field(
        True, description="also write the untuned base as q8_0, so that both can be asked side by side"
    )
    parity_prompts: int = Field(16, ge=1)
    override: str | None = Field(
        None, description="release although a gate said no: name and reason, kept in the model card"
    )

    @field_validator("override")
    @classmethod
    def _names_who_and_why(cls, value: str | None) -> str | None:
        who, _, why = (value or "").partition(":")
        if value is not None and not (who.strip() and why.strip()):
            raise ValueError("expected NAME: REASON")
        return value
