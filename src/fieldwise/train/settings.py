"""How the base weights are tuned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from fieldwise.settings import Settings


class LoraSettings(Settings):
    """Size of the adapter."""

    rank: int = Field(16, ge=1, description="rank of the update; more can hold more")
    alpha: int = Field(32, ge=1, description="scale of the update is alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = Field("all-linear", description="modules that get an update")


class SftSettings(Settings):
    """Supervised fine-tuning."""

    epochs: float = Field(3, gt=0)
    max_steps: int = Field(-1, ge=-1, description="stop after so many steps; -1 trains all epochs")
    learning_rate: float = Field(1e-3, gt=0)
    batch_size: int = Field(16, ge=1, description="packed rows per step, by accumulation")
    max_length: int = Field(512, ge=64, description="tokens of a packed row")
    lora: LoraSettings = LoraSettings()


class DpoSettings(Settings):
    """Direct preference optimisation on top of the tuned weights."""

    enabled: bool = True
    epochs: float = Field(1, gt=0)
    max_steps: int = Field(-1, ge=-1)
    learning_rate: float = Field(5e-5, gt=0)
    beta: float = Field(0.1, gt=0, description="how closely to stay with the tuned weights")
    batch_size: int = Field(16, ge=1)
    max_length: int = Field(768, ge=64)
    lora: LoraSettings = LoraSettings()


class TrainSettings(Settings):
    """Settings of the train stage."""

    sft: SftSettings = SftSettings()
    dpo: DpoSettings = DpoSettings()
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto takes bfloat16 arithmetic where the machine has it, weights stay float32"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes the physical cores")
    checkpoint_every_steps: int = Field(20, ge=1, description="how often progress is saved")

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings without the number of threads."""
        return self.model_dump(mode="json", exclude={"threads"})
