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
    micro_batch_size: int | None = Field(
        None, ge=1, description="rows that are in memory at once; left out: by train.hardware and what fits"
    )
    max_length: int | None = Field(
        None, ge=64, description="tokens of a packed row; left out: 512 on a CPU, 1024, 2048, 4096 by class of GPU"
    )
    packing: bool = Field(True, description="fill rows with several conversations, which do not see each other")
    evaluate_every_steps: int | None = Field(
        None, ge=1, description="how often the loss on held-out examples is measured; left out: once an epoch"
    )
    early_stopping: int | None = Field(
        None, ge=1, description="stop after so many measurements without a better one, and take the weights of the best"
    )
    lora: LoraSettings = LoraSettings()


class DpoSettings(Settings):
    """Direct preference optimisation on top of the tuned weights."""

    enabled: bool = True
    epochs: float = Field(1, gt=0)
    max_steps: int = Field(-1, ge=-1)
    learning_rate: float = Field(5e-5, gt=0)
    beta: float = Field(0.1, gt=0, description="how closely to stay with the tuned weights")
    batch_size: int = Field(16, ge=1)
    micro_batch_size: int | None = Field(None, ge=1, description="pairs in memory at once; left out: as above")
    max_length: int | None = Field(
        None, ge=64, description="tokens of prompt and answer; left out: 768 on a CPU, else as above"
    )
    lora: LoraSettings = LoraSettings()


class TrainSettings(Settings):
    """Settings of the train stage."""

    sft: SftSettings = SftSettings()
    dpo: DpoSettings = DpoSettings()
    hardware: Literal["auto", "cpu", "8gb", "24gb", "80gb"] = Field(
        "auto", description="fills what is left out here for a CPU or a class of GPU; auto looks at the machine"
    )
    activation_checkpointing: bool | None = Field(
        None, description="compute activations twice instead of keeping them; left out: only if it does not fit else"
    )
    weights: Literal["float32", "bfloat16"] | None = Field(
        None, description="type the frozen weights are held in; left out: float32 on a CPU, bfloat16 on a GPU"
    )
    quantisation: Literal["none", "8bit", "4bit"] | None = Field(
        None,
        description="of the frozen weights (QLoRA: NF4, double quantisation); left out: on a GPU, if it does not fit else",
    )
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] | None = Field(
        None, description="left out: adamw; paged_adamw_8bit on an 8 GB GPU"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto takes bfloat16 arithmetic where the machine has it, weights stay float32"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes the physical cores")
    checkpoint_every_steps: int = Field(20, ge=1, description="how often progress is saved")

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings without the number of threads."""
        return self.model_dump(mode="json", exclude={"threads"})
