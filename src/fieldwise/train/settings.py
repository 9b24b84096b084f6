"""How the base weights are tuned."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from fieldwise.records import Phase
from fieldwise.settings import Settings
from fieldwise.tracking import TrackerName
from fieldwise.train.distil_settings import DistillationSettings

_LATER: dict[str, Any] = {"later": True}
"""Marks settings that enter a step's key only once a recipe says something else than their default."""


class LoraSettings(Settings):
    """Size and kind of the adapter."""

    rank: int = Field(16, ge=1, description="rank of the update; more can hold more")
    alpha: int = Field(32, ge=1, description="scale of the update is alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="modules that get an update: a list of names, or a regular expression of whole names"
    )
    dora: bool = Field(
        False, description="also learn the length of each row of the weights (DoRA); slower", json_schema_extra=_LATER
    )
    rank_stabilised: bool = Field(
        False,
        description="scale by alpha / sqrt(rank) (rsLoRA), so that high ranks are not damped",
        json_schema_extra=_LATER,
    )
    start: Literal["zero", "pissa"] = Field(
        "zero",
        description="pissa begins with the largest singular values of the weights (train.sft and train.pretrain)",
        json_schema_extra=_LATER,
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        """Raise ValueError for an adapter that could not be saved for the base as it is."""
        if isinstance(self.target_modules, str):
            try:
                re.compile(self.target_modules)
            except re.error as error:
                raise ValueError(
                    f"target_modules is no regular expression: {error}; a list of names is [q_proj, v_proj]"
                ) from None
        if self.dora and self.start == "pissa":
            raise ValueError("pissa moves weights whose lengths dora learns: take one of the two")
        return self


class CurriculumSettings(Settings):
    """Training in phases, one after another on the same weights; each has its own curve and learning rate schedule."""

    enabled: bool = False
    phases: tuple[Phase, ...] = Field(
        ("single_turn", "multi_turn", "tool_calls", "hard_negatives"),
        min_length=1,
        description="in this order; one without examples is passed over, examples of others are left out and counted",
    )
    parts: int = Field(1, ge=1, description="each phase in so many steps, from easy to hard")
    difficulty: Literal["shape", "base_loss"] = Field(
        "shape",
        description="what makes an example hard: its length, hops and distractors, or the loss of the base model on what is to be said",
    )
    replay: float = Field(
        0.0, ge=0, le=1, description="share of the examples of earlier phases that each later one repeats"
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        """Raise ValueError for a phase named twice."""
        if len(set(self.phases)) < len(self.phases):
            raise ValueError("a phase stands twice")
        return self


class RowsSettings(Settings):
    """What trainings on packed rows of tokens have in common."""

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
    method: Literal["lora", "full"] = Field(
        "lora", description="full trains all weights and leaves no adapter; lora is not used", json_schema_extra=_LATER
    )
    lora: LoraSettings = LoraSettings()


class PretrainSettings(RowsSettings):
    """Continued pre-training on the text of the documents, before SFT; loss falls on every token."""

    enabled: bool = False
    epochs: float = Field(1, gt=0)
    learning_rate: float = Field(5e-4, gt=0)


class SftSettings(RowsSettings):
    """Supervised fine-tuning."""

    best_by: Literal["loss", "score"] | None = Field(
        None,
        description="take the weights of the measurement with the lowest held-out loss, or with the best replies to "
        "held-out questions by evaluate.selection; left out: the last weights, with early_stopping the lowest loss",
        json_schema_extra=_LATER,
    )
    neftune: float | None = Field(
        None,
        gt=0,
        description="noise on the embeddings while training (NEFTune's alpha, 5 to 15): against overfitting to wording",
        json_schema_extra=_LATER,
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="not offered, since it costs the fused loss: stays 0", json_schema_extra=_LATER
    )
    curriculum: CurriculumSettings = Field(CurriculumSettings(), json_schema_extra=_LATER)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        """Raise ValueError for settings that cannot be put together."""
        if self.label_smoothing:
            raise ValueError(
                "label_smoothing needs the probability of every word at every position, which the fused loss never "
                "writes out: memory and time would rise several times over; leave it out, neftune or lora.dropout "
                "work against overfitting as well"
            )
        if self.curriculum.enabled and self.lora.start == "pissa":
            raise ValueError("pissa begins anew with each phase of a curriculum: take one of the two")
        return self


PreferenceMethod = Literal["dpo", "orpo", "kto", "simpo", "cpo"]
DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
_ONLY: dict[str, tuple[PreferenceMethod, ...]] = {  # settings that only some methods have
    "loss": ("dpo",),
    "loss_weights": ("dpo",),
    "label_smoothing": ("dpo", "cpo"),
    "ld_alpha": ("dpo",),
    "margin": ("simpo",),
    "nll_weight": ("cpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
    "precompute_reference": ("dpo", "kto"),
}
_SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")  # losses of DPO that know label smoothing


class PreferenceSettings(Settings):
    """Learning which of two replies is wanted, or which replies are, on top of the tuned weights."""

    enabled: bool = True
    method: PreferenceMethod = Field(
        "dpo",
        description="dpo and kto (single replies, wanted or not) hold to a reference; orpo, simpo and cpo need none",
    )
    start: Literal["sft", "base"] = Field(
        "sft", description="weights to begin with; base is for orpo, which can do without SFT"
    )
    epochs: float = Field(1, gt=0)
    max_steps: int = Field(-1, ge=-1)
    learning_rate: float = Field(5e-5, gt=0)
    beta: float | None = Field(
        None,
        gt=0,
        description="dpo, kto: how closely to stay with the start; orpo: weight of the odds ratio; left out: 0.1, simpo 2",
    )
    loss: tuple[DpoLoss, ...] = Field(
        ("sigmoid",),
        min_length=1,
        description="of dpo: TRL's loss types, added up; sft is the likelihood of the chosen",
    )
    loss_weights: tuple[float, ...] | None = Field(None, description="of dpo, one for each loss; left out: all 1")
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="share of pairs taken to be labelled wrong (cpo; dpo: robust, exo_pair, aot)"
    )
    ld_alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of dpo: what tokens beyond the shorter reply's length count; below 1 length is learnt less (LD-DPO)",
    )
    margin: float = Field(1.0, ge=0, description="of simpo: reward by which the chosen reply is to lead (its gamma)")
    nll_weight: float = Field(1.0, ge=0, description="of cpo: weight of the likelihood of the chosen reply")
    desirable_weight: float | None = Field(
        None, gt=0, description="of kto, for wanted replies; left out with the other: the rarer label is weighted up"
    )
    undesirable_weight: float | None = Field(None, gt=0, description="of kto, for unwanted replies")
    precompute_reference: bool | None = Field(
        None,
        description="score all replies once beforehand; left out: yes, on an 80 GB GPU only if it does not fit otherwise",
    )
    batch_size: int = Field(16, ge=1, description="pairs a step; kto: replies")
    micro_batch_size: int | None = Field(None, ge=1, description="pairs in memory at once; left out: as above")
    max_length: int | None = Field(
        None, ge=64, description="tokens of prompt and answer; left out: 768 on a CPU, else as above"
    )
    lora: LoraSettings = LoraSettings()

    @model_validator(mode="after")
    def _is_of_one_method(self) -> Self:
        """Raise ValueError for a setting that the method would ignore, or cannot do without."""
        for name, methods in _ONLY.items():
            if self.method not in methods and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is a setting of {' and '.join(methods)}, the method is {self.method}")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss):
            raise ValueError(f"loss_weights has {len(self.loss_weights)} numbers for {len(self.loss)} losses")
        if "exo_pair" in self.loss and not self.label_smoothing:
            raise ValueError("the loss exo_pair needs label_smoothing above 0, such as 0.001")
        if self.method == "dpo" and self.label_smoothing and not set(self.loss) & set(_SMOOTHED):
            raise ValueError(f"label_smoothing is for the losses {', '.join(_SMOOTHED)}")
        if self.lora.start == "pissa":
            raise ValueError(
                "pissa moves the weights that the reference is made of: it is for train.sft and train.pretrain alone"
            )
        if self.method == "kto" and (self.batch_size < 2 or self.micro_batch_size == 1):
            raise ValueError("kto compares the replies that are in memory at once: at least 2 of a batch of 2 or more")
        return self

    @property
    def has_reference(self) -> bool:
        """Whether the loss knows the weights that the step began with."""
        return self.method in ("dpo", "kto")

    @property
    def strength(self) -> float:
        """Beta, filled in."""
        return self.beta or (2.0 if self.method == "simpo" else 0.1)


class RewardSettings(Settings):
    """A reward model, trained on preference pairs: one number for how good a reply is."""

    enabled: bool = False
    start: Literal["base", "tuned"] = Field(
        "base",
        description="weights to begin with; the tuned ones have read the right replies of the held-out pairs, which flatters the accuracy",
    )
    held_out: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the pairs, whole documents, that is kept for measuring; pairs outside the training split are always",
    )
    epochs: float = Field(1, gt=0)
    max_steps: int = Field(-1, ge=-1)
    learning_rate: float = Field(1e-4, gt=0)
    centre: float = Field(0.01, ge=0, description="how strongly the mean of the rewards is held at 0; 0 lets it drift")
    batch_size: int = Field(16, ge=1)
    micro_batch_size: int | None = Field(None, ge=1, description="pairs in memory at once; left out: as above")
    max_length: int | None = Field(None, ge=64, description="tokens of prompt and reply; left out: as for pairs")
    lora: LoraSettings = LoraSettings()


RlMethod = Literal["rloo", "grpo", "ppo"]
_ONLY_OF_RL: dict[str, tuple[RlMethod, ...]] = {"generations": ("rloo", "grpo"), "clip": ("ppo",), "ppo": ("ppo",)}
RewardName = Literal["answer", "citation", "grounded", "declines", "json", "reward_model"]


class PpoSettings(Settings):
    """What only PPO knows."""

    epochs: int = Field(4, ge=1, description="how often the replies of a step are learnt from")
    minibatches: int = Field(1, ge=1, description="steps of the optimizer in each of these")
    value_learning_rate: float = Field(1e-3, gt=0, description="of the value head")
    value_weight: float = Field(0.1, gt=0, description="of the value loss against that of the policy")
    value_clip: float = Field(0.2, gt=0, description="how far a value may move from the old one before it counts less")
    discount: float = Field(1.0, gt=0, le=1, description="gamma: what a reward one token later is worth")
    trace: float = Field(
        0.95, ge=0, le=1, description="lambda of GAE: 0 trusts the value head alone, 1 the rewards alone"
    )
    target_kl: float | None = Field(
        None,
        gt=0,
        description="KL of a whole reply that train.rl.kl is steered towards; left out: train.rl.kl is fixed",
    )


class RlSettings(Settings):
    """Reinforcement learning on the tuned weights: replies are drawn, rewarded, and the better ones made likelier."""

    enabled: bool = False
    method: RlMethod = Field(
        "rloo", description="rloo and grpo compare several replies to one prompt, ppo learns a value for each token"
    )
    rewards: dict[RewardName, Annotated[float, Field(gt=0)]] = Field(
        {"answer": 1.0, "declines": 1.0, "citation": 0.5, "grounded": 0.5, "json": 1.0},
        min_length=1,
        description="what is rewarded, each with its weight; the whole mapping replaces this one",
    )
    prompts: int | None = Field(None, ge=1, description="at most so many training prompts; left out: all")
    epochs: float = Field(1, gt=0, description="how often each prompt is asked")
    max_steps: int = Field(-1, ge=-1)
    learning_rate: float = Field(5e-5, gt=0)
    batch_size: int = Field(16, ge=2, description="replies of a step")
    generations: int = Field(4, ge=2, description="replies to one prompt (rloo, grpo); a divisor of batch_size")
    micro_batch_size: int | None = Field(None, ge=1, description="replies learnt from at once; left out: as above")
    max_length: int | None = Field(None, ge=64, description="tokens of prompt and reply; left out: as for pairs")
    max_new_tokens: int = Field(64, ge=1, description="longest reply, in tokens")
    temperature: float = Field(1.0, gt=0, description="of drawing replies")
    kl: float = Field(0.05, gt=0, description="weight of the distance to the weights at the start")
    clip: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="of ppo: how far a token's probability may move in one step; rloo and grpo learn from replies once",
    )
    ppo: PpoSettings = PpoSettings()
    lora: LoraSettings = LoraSettings()

    @model_validator(mode="after")
    def _is_of_one_method(self) -> Self:
        """Raise ValueError for a setting that the method would ignore."""
        for name, methods in _ONLY_OF_RL.items():
            if self.method not in methods and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is a setting of {' and '.join(methods)}, the method is {self.method}")
        if self.lora.dropout:
            raise ValueError(
                "lora.dropout is for other trainings: here the probabilities of a reply are compared between passes, "
                "and chance would move them"
            )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each reward by its name."""
        return {str(name): weight for name, weight in self.rewards.items()}


Trained = RowsSettings | PreferenceSettings | RewardSettings | RlSettings


class TrainSettings(Settings):
    """Settings of the train stage."""

    pretrain: PretrainSettings = Field(PretrainSettings(), json_schema_extra=_LATER)
    sft: SftSettings = SftSettings()
    preference: PreferenceSettings = PreferenceSettings()
    distillation: DistillationSettings | None = Field(
        None,
        exclude_if=lambda found: found is None,
        description="SFT learns from a larger model besides the examples; off unless a teacher is named",
    )
    reward: RewardSettings = RewardSettings()
    rl: RlSettings = RlSettings()
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
    attention: Literal["auto", "sdpa"] = Field(
        "auto",
        description="auto takes FlashAttention for rows on a GPU where the library flash-attn is installed (no padding, no "
        "mask), and on a CPU an exact attention in blocks of our own",
        json_schema_extra=_LATER,
    )
    backend: Literal["transformers", "auto", "unsloth"] = Field(
        "transformers",
        description="what loads the weights for SFT and runs them: unsloth on one GPU where it is installed, else "
        "transformers, which is said; auto is silent where Unsloth or a GPU is not there",
        json_schema_extra=_LATER,
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto takes bfloat16 arithmetic where the machine has it, weights stay float32"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes the physical cores")
    checkpoint_every_steps: int = Field(20, ge=1, description="how often progress is saved")
    trackers: tuple[TrackerName, ...] = Field(
        (),
        description="send the curves to these as well, each an extra of the same name; files stand in `tracking/` of the run folder",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        """Raise ValueError for a way of training that the weights cannot take as they are to be held."""
        is_quantised = self.quantisation in ("8bit", "4bit")
        trainings: dict[str, RowsSettings] = {"sft": self.sft}
        if self.pretrain.enabled:
            trainings["pretrain"] = self.pretrain
        for name, own in trainings.items():
            if own.method == "full" and is_quantised:
                raise ValueError(
                    f"train.{name}.method: full cannot train {self.quantisation} weights, whose numbers do not move; "
                    "take method: lora, or quantisation: none"
                )
            if own.method == "full" and self.weights == "bfloat16":
                raise ValueError(
                    f"train.{name}.method: full keeps its weights in float32, since bfloat16 loses small updates; leave weights out"
                )
            if own.method == "lora" and own.lora.start == "pissa" and is_quantised:
                raise ValueError(
                    f"train.{name}.lora.start: pissa takes the singular values of whole weights, not of {self.quantisation} ones"
                )
        if self.distillation is not None:
            if self.sft.curriculum.enabled:
                raise ValueError(
                    "train.sft.curriculum trains in phases, train.distillation at once: take one of the two"
                )
            if self.distillation.method != "sequence" and (self.sft.best_by == "score" or self.sft.neftune):
                raise ValueError(
                    "best_by: score and neftune of train.sft are not offered for distillation by "
                    f"{self.distillation.method}; leave them out, or take method: sequence"
                )
        if "pissa" in (self.reward.lora.start, self.rl.lora.start):
            raise ValueError(
                "pissa is for train.sft and train.pretrain alone: other trainings compare with the weights it moves"
            )
        return self

    def keyed(self) -> dict[str, JsonValue]:
        """Return the settings without threads and trackers, and without what is off or came later and is left open."""
        off = {name for name in ("reward", "rl") if not getattr(self, name).enabled}
        found = _said(self, {"threads", "trackers", "distillation", *off})
        return found if self.distillation is None else {**found, "distillation": self.distillation.keyed()}


def _said(settings: Settings, left_out: set[str]) -> dict[str, JsonValue]:
    found = settings.model_dump(mode="json", exclude=left_out)
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name in found and field.json_schema_extra == _LATER and value == field.default:
            del found[name]
        elif name in found and isinstance(value, Settings):
            found[name] = _said(value, set())
    return found


class ComputeSettings(Settings):
    """How many processes the train stage works with, and who starts them."""

    backend: Literal["local", "torchrun", "ray"] = Field(
        "local",
        description="local: one process; torchrun: several on this machine; ray: on a Ray cluster, started anew when one dies",
    )
    workers: int = Field(
        1, ge=1, description="processes that share each step of SFT and preferences; a divisor of the batch"
    )
    strategy: Literal["ddp", "fsdp2", "deepspeed"] = Field(
        "ddp", description="ddp: whole weights in each process; fsdp2, deepspeed: shared out over several GPUs"
    )
    address: str | None = Field(
        None, min_length=1, description="of a running Ray cluster; left out: one of this machine alone, for this run"
    )
    restarts: int = Field(
        2, ge=0, description="of ray: how often the training goes on from its last checkpoint when a process dies"
    )

    @model_validator(mode="after")
    def _is_of_one_backend(self) -> Self:
        """Raise ValueError for what the backend would ignore, or cannot do without."""
        if self.backend == "local" and (self.workers > 1 or self.strategy != "ddp"):
            raise ValueError("local is one process; for several set backend: torchrun or ray")
        if self.backend == "torchrun" and self.workers < 2:
            raise ValueError("torchrun needs workers: 2 or more; for one process set backend: local")
        for name in ("address", "restarts"):
            if self.backend != "ray" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is a setting of ray, the backend is {self.backend}")
        if self.backend == "ray" and self.strategy != "ddp":
            raise ValueError(f"{self.strategy} is started by torchrun, not by ray")
        return self

    def keyed(self) -> dict[str, JsonValue]:
        """Return what shapes the weights: how many share a step, not who starts them. Nothing for one process."""
        return {"workers": self.workers, "strategy": self.strategy} if self.workers > 1 else {}
