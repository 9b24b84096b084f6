"""Fill what a recipe leaves open so that a training fits the machine, and refuse before it starts what cannot fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import FieldwiseError, ModelError
from fieldwise.train.hardware import BLOCKWISE, PRESETS, Device, Machine, Preset, Training
from fieldwise.train.memory import Estimate, MemoryPlan, Work, estimate, seconds
from fieldwise.train.settings import PreferenceSettings, RlSettings, RowsSettings, Trained, TrainSettings
from fieldwise.train.shape import Shape

_SHARE = 0.95  # of the memory may be planned for: the system and other programs need a little
_SHORTEST = 256  # tokens; a shorter row holds no passage with its question
_REFERENCES = {"precomputed": "reference scored beforehand", "beside": "reference scored in every step"}
_ROWS_IN_BLOCKS = 2  # laid end to end: 1.2 times as fast as one by one, four gain 6 % more (512 tokens, nano-10m)
_NF4_BLOCK = 64  # bitsandbytes computes wrong shapes where the inputs of a layer are no multiple


class Fitted(NamedTuple):
    """A plan with the estimate of its peak, and the reasons for what was filled in."""

    plan: MemoryPlan
    estimate: Estimate | None
    limit: int | None
    reasons: tuple[str, ...]
    seconds: float | None = None  # about, on an idle machine; not in the record, which must not depend on it
    free: int | None = None  # bytes of a CPU's memory that others leave now; neither in the record

    def to_json(self) -> dict[str, JsonValue]:
        """The plan as it stands in the record of a training."""
        plan = self.plan
        return {
            "micro_batch_size": plan.micro_batch,
            "accumulation": plan.accumulation,
            "max_length": plan.max_length,
            "packing": plan.packing,
            "activation_checkpointing": plan.activation_checkpointing,
            "weights": plan.weights,
            "arithmetic": "bfloat16" if plan.bfloat16 else "float32",
            "quantisation": plan.quantisation,
            "optimizer": plan.optimizer,
            **({"reference": plan.reference} if plan.reference != "none" else {}),
            **({"workers": plan.workers} if plan.workers > 1 else {}),
            **({"attention": plan.attention} if plan.attention is not None else {}),
            **({"backend": plan.backend} if plan.backend != "transformers" else {}),
            "estimated_peak_bytes": None if self.estimate is None else round(self.estimate.peak),
            "reasons": list(self.reasons),
        }


Fitter = Callable[[Callable[[MemoryPlan], Work]], Fitted]
"""Given how much a plan trains on at once, returns one that fits the machine."""


def preset_alone(training: Training, settings: TrainSettings, device: Device) -> Fitter:
    """Return a fitter that estimates nothing: the preset of the device fills what the settings leave open."""
    preset = PRESETS["cpu" if device.name == "cpu" else "24gb"]
    own = getattr(settings, training)
    return lambda measured: Fitted(first_plan(training, settings, own, preset, device), None, None, ())


def first_plan(training: Training, settings: TrainSettings, own: Trained, preset: Preset, device: Device) -> MemoryPlan:
    """Return the plan of a preset with what the recipe fixes put in its place."""
    least = 2 if isinstance(own, PreferenceSettings) and own.method == "kto" else 1
    share = _share(training, own.batch_size, least, device.workers)
    micro = own.micro_batch_size or _divisor(share, preset.micro_batch[_like(training)], least)
    if share % micro:
        raise FieldwiseError(
            "the batch is no multiple of what is in memory at once",
            where=f"train.{training}.micro_batch_size",
            found=f"{micro} for a batch of {own.batch_size}"
            + (f", {share} of it in each of {device.workers} processes" if device.workers > 1 else ""),
            fix=f"Give a divisor of {'that' if device.workers > 1 else f'train.{training}.batch_size'}, or leave the key out.",
        )
    is_full = getattr(own, "method", None) == "full"
    return MemoryPlan(
        micro_batch=micro,
        accumulation=share // micro,
        max_length=own.max_length or preset.max_length[_like(training)],
        packing=isinstance(own, RowsSettings) and own.packing,
        activation_checkpointing=bool(settings.activation_checkpointing),
        weights="float32" if is_full else settings.weights or preset.weights,
        bfloat16=device.bfloat16,
        quantisation=settings.quantisation or "none",
        optimizer=settings.optimizer or preset.optimizer,
        rank=None if is_full else own.lora.rank,
        target_modules=own.lora.target_modules,
        device="cuda" if device.name == "cuda" else "cpu",
        reference=_reference(own, preset),
        unit="rows"
        if isinstance(own, RowsSettings)
        else "replies"
        if least > 1 or isinstance(own, RlSettings)
        else "pairs",
        least_micro=least,
        workers=device.workers,
        attention=_attention(training, settings, own, device) if settings.attention == "auto" else None,
        backend=device.backend,
    )


def _share(training: Training, batch_size: int, least: int, workers: int) -> int:
    """What one of several processes takes of a batch."""
    if batch_size % workers or batch_size // workers < least:
        raise FieldwiseError(
            "the batch cannot be dealt out evenly to the processes",
            where=f"train.{training}.batch_size",
            found=f"{batch_size} for {workers} processes",
            fix=f"Give a multiple of {workers * least}, or another number in compute.workers.",
        )
    return batch_size // workers


def _attention(training: Training, settings: TrainSettings, own: Trained, device: Device) -> str | None:
    """FlashAttention for rows alone, since it takes no padding; not for what writes replies, which has keys in a cache."""
    if training == "sft" and settings.distillation is not None and settings.distillation.pads:
        return None
    is_for = not isinstance(own, RlSettings) if device.attention == BLOCKWISE else isinstance(own, RowsSettings)
    return device.attention if is_for else None


def _in_blocks(plan: MemoryPlan, own: Trained, shape: Shape | None) -> MemoryPlan:
    """Return the plan with the attention that the base allows; rows laid end to end are read several at once."""
    if shape is None or not shape.is_only_causal:
        return replace(plan, attention=None)
    if plan.unit != "rows" or own.micro_batch_size is not None:
        return plan
    return _with_micro(plan, _divisor(plan.micro_batch * plan.accumulation, _ROWS_IN_BLOCKS))


def _like(training: Training) -> Training:
    """The training whose presets hold: continued pre-training packs rows as SFT does."""
    return "sft" if training == "pretrain" else training


def _reference(own: Trained, preset: Preset) -> Literal["none", "precomputed", "beside"]:
    if not isinstance(own, PreferenceSettings) or not own.has_reference:
        return "none"
    wanted = own.precompute_reference
    return "precomputed" if (preset.precomputes_reference if wanted is None else wanted) else "beside"


def fit(
    training: Training,
    settings: TrainSettings,
    preset: Preset,
    device: Device,
    machine: Machine,
    shape: Shape | None,
    measured: Callable[[MemoryPlan], Work],
) -> Fitted:
    """Return a plan that fits, changing only what the recipe leaves open; raises ModelError when none does.

    `measured` tells for a plan how much is trained on at once. Without a shape nothing is estimated.
    """
    own: Trained = getattr(settings, training)
    plan = first_plan(training, settings, own, preset, device)
    is_filled = None in (own.max_length, own.micro_batch_size, settings.weights, settings.optimizer)
    reasons = [f"{preset.name} preset"] if is_filled else []
    if plan.optimizer != "adamw" and not machine.has_bitsandbytes and settings.optimizer is None:
        plan = replace(plan, optimizer="adamw")
        reasons.append("adamw, since bitsandbytes is not installed")
    if plan.device == "cuda" and plan.packing and plan.attention is None and settings.attention == "auto":
        reasons.append("a dense mask over what is packed, since there is no FlashAttention")
    if plan.attention == BLOCKWISE:
        plan = _in_blocks(plan, own, shape)
    if shape is not None:
        if own.max_length is None:
            plan = replace(plan, max_length=min(plan.max_length, shape.context))
        require_possible(training, plan, shape, machine)
    limit = memory_limit(plan, machine)
    if shape is None or limit is None:
        return Fitted(plan, None, limit, (*reasons, "memory not estimated"))
    for changed, reason in _open_changes(own, settings, plan, machine):
        if _peak(shape, plan, measured) <= limit:
            break
        plan = changed(plan)
        reasons.append(reason)
    work = measured(plan)
    found = estimate(shape, plan, work)
    if found.peak > limit:
        raise ModelError(
            "the training does not fit into memory",
            where=f"train.{training}",
            found=f"about {_gb(found.peak)} needed ({_parts(found)}), {_gb(limit)} usable",
            fix=_remedy(training, plan, shape, machine, measured, limit),
        )
    free = None if plan.device == "cuda" or machine.available is None else machine.available // plan.workers
    return Fitted(plan, found, limit, tuple(reasons), seconds(shape, plan, work, machine, device.threads), free)


def memory_limit(plan: MemoryPlan, machine: Machine) -> int | None:
    """Return the bytes a training may plan for, on the device it runs on."""
    if plan.device == "cuda":
        return int(_SHARE * min(gpu.memory_bytes for gpu in machine.gpus))
    return None if machine.memory is None else int(_SHARE * machine.memory / plan.workers)


def require_possible(training: Training, plan: MemoryPlan, shape: Shape, machine: Machine) -> None:
    """Raise for settings that these weights or this machine cannot take, whatever the memory."""
    if plan.rank is not None and not shape.targets(plan.target_modules):
        wanted = plan.target_modules if isinstance(plan.target_modules, str) else ", ".join(plan.target_modules)
        raise _no_such_modules(training, wanted, shape)
    if plan.rank is not None and not isinstance(plan.target_modules, str):
        missing = [name for name in plan.target_modules if not shape.targets((name,))]
        if missing:
            raise _no_such_modules(training, ", ".join(missing), shape)
    if plan.max_length > shape.context:
        raise ModelError(
            "rows are longer than the base model reads",
            where=f"train.{training}.max_length",
            found=f"{plan.max_length} tokens, the model's context is {shape.context}",
            fix=f"Set train.{training}.max_length={shape.context}, or leave the key out.",
        )
    needs = plan.quantisation != "none" or plan.optimizer != "adamw"
    if needs and not machine.has_bitsandbytes:
        key = "train.quantisation" if plan.quantisation != "none" else "train.optimizer"
        raise ModelError(
            "the library bitsandbytes is needed for 8-bit and 4-bit training",
            where=key,
            fix="Install it with: pip install 'fieldwise[gpu]', or leave the key out.",
        )
    odd = [layer.name for layer in shape.linear if layer.inputs % _NF4_BLOCK]
    if plan.quantisation == "4bit" and odd:
        raise ModelError(
            f"4-bit training needs layers whose inputs are a multiple of {_NF4_BLOCK}",
            where="train.quantisation",
            found=f"{odd[0]} and {len(odd) - 1} more" if len(odd) > 1 else odd[0],
            fix="Set train.quantisation=8bit or none.",
        )


def within(plan: MemoryPlan, effective: int) -> MemoryPlan:
    """Return the plan for another effective batch, with no more at once than before; several processes share it evenly."""
    share = max(1, effective // plan.workers)
    micro = _divisor(share, plan.micro_batch)
    return replace(plan, micro_batch=micro, accumulation=share // micro)


def smaller(plan: MemoryPlan) -> MemoryPlan | None:
    """Return the plan to try once after memory ran out: half as much at once, the same effective batch; None if there is none."""
    if (micro := _fewer(plan, plan.micro_batch)) is not None:
        return _with_micro(plan, micro)
    if not plan.activation_checkpointing:
        return replace(plan, activation_checkpointing=True)
    return None


def told(fitted: Fitted, training: Training) -> str:
    """Return the plan in one line for people."""
    plan = fitted.plan
    rows = "packed rows" if plan.packing else plan.unit
    parts = [
        f"{f'{plan.workers} processes of ' if plan.workers > 1 else ''}{plan.micro_batch} x {plan.accumulation} {rows} "
        f"of {plan.max_length} tokens a step",
        f"{plan.quantisation if plan.quantisation != 'none' else plan.weights} weights"
        + (", all of them trained" if plan.rank is None else ""),
        f"{'bfloat16' if plan.bfloat16 else 'float32'} arithmetic",
        plan.optimizer,
        *(["activation checkpointing"] if plan.activation_checkpointing else []),
        *([f"padding-free by {plan.attention}"] if plan.attention not in (None, BLOCKWISE) else []),
        *([f"by {plan.backend}"] if plan.backend != "transformers" else []),
        *([_REFERENCES[plan.reference]] if plan.reference in _REFERENCES else []),
    ]
    text = f"{training}: {', '.join(parts)}"
    if fitted.estimate is not None:
        text += f"; about {_gb(fitted.estimate.peak)} at the peak ({_parts(fitted.estimate)})"
        if fitted.free is not None and fitted.estimate.peak > fitted.free:
            text += f", of which only {_gb(fitted.free)} are free now: end other programs first"
    if fitted.seconds is not None:
        text += f", about {duration(fitted.seconds)} on an idle machine"
    return text + (f"; {', '.join(fitted.reasons)}" if fitted.reasons else "")


def _open_changes(
    own: Trained, settings: TrainSettings, plan: MemoryPlan, machine: Machine
) -> Iterator[tuple[Callable[[MemoryPlan], MemoryPlan], str]]:
    """What may be changed without asking, the least costly first: each gives the same model but for rounding."""
    if isinstance(own, PreferenceSettings) and own.precompute_reference is None and plan.reference == "beside":
        yield lambda p: replace(p, reference="precomputed"), "reference scored beforehand to fit"
    if own.micro_batch_size is None:
        micro = plan.micro_batch
        while (fewer := _fewer(plan, micro)) is not None:
            micro = fewer
            yield lambda p, m=micro: _with_micro(p, m), f"{micro} at once to fit"  # type: ignore[misc]
    if settings.activation_checkpointing is None:
        yield lambda p: replace(p, activation_checkpointing=True), "activation checkpointing to fit"
    has_whole = plan.rank is None or own.lora.start == "pissa"  # what cannot be learnt over quantised weights
    if settings.quantisation is None and plan.device == "cuda" and machine.has_bitsandbytes and not has_whole:
        yield lambda p: replace(p, quantisation="4bit"), "4-bit weights to fit"


def _remedy(
    training: Training,
    plan: MemoryPlan,
    shape: Shape,
    machine: Machine,
    measured: Callable[[MemoryPlan], Work],
    limit: int,
) -> str:
    """Name the nearest settings that fit: one change if one is enough, else as few as it takes, the mildest first."""
    levers = list(_levers(training, plan, shape, machine))
    for text, change in levers:
        if (peak := _peak(shape, change(plan), measured)) <= limit:
            return f"Set {text}: about {_gb(peak)}."
    changed = plan
    texts: list[str] = []
    for text, change in levers:
        key = text.partition("=")[0]
        changed, texts = change(changed), [*(t for t in texts if t.partition("=")[0] != key), text]
        if (peak := _peak(shape, changed, measured)) <= limit:
            return f"Set {' '.join(texts)}: about {_gb(peak)}."
    least = _peak(shape, changed, measured)
    share = limit / least
    return (
        f"No setting fits: {' '.join(texts) or 'as it stands'} still needs about {_gb(least)}. "
        f"Take a base of at most about {max(1, shape.parameters * share / 1e6):.0f} million weights, or a larger machine."
    )


def _levers(
    training: Training, plan: MemoryPlan, shape: Shape, machine: Machine
) -> Iterator[tuple[str, Callable[[MemoryPlan], MemoryPlan]]]:
    if plan.reference == "beside":
        yield f"train.{training}.precompute_reference=true", lambda p: replace(p, reference="precomputed")
    micro = plan.micro_batch
    while (fewer := _fewer(plan, micro)) is not None:
        micro = fewer
        yield f"train.{training}.micro_batch_size={micro}", lambda p, m=micro: _with_micro(p, m)  # type: ignore[misc]
    if not plan.activation_checkpointing:
        yield "train.activation_checkpointing=true", lambda p: replace(p, activation_checkpointing=True)
    length = plan.max_length // 2
    while length >= _SHORTEST:
        yield f"train.{training}.max_length={length}", lambda p, n=length: replace(p, max_length=n)  # type: ignore[misc]
        length //= 2
    if plan.rank is None:
        yield f"train.{training}.method=lora", lambda p: replace(p, rank=16)
    if plan.weights == "float32" and plan.rank is not None:
        yield "train.weights=bfloat16", lambda p: replace(p, weights="bfloat16")
    if plan.quantisation != "4bit" and plan.rank is not None and machine.has_bitsandbytes:
        if not any(layer.inputs % _NF4_BLOCK for layer in shape.linear):
            yield "train.quantisation=4bit", lambda p: replace(p, quantisation="4bit")
        elif plan.quantisation == "none":
            yield "train.quantisation=8bit", lambda p: replace(p, quantisation="8bit")


def _peak(shape: Shape, plan: MemoryPlan, measured: Callable[[MemoryPlan], Work]) -> float:
    return estimate(shape, plan, measured(plan)).peak


def _with_micro(plan: MemoryPlan, micro: int) -> MemoryPlan:
    return replace(plan, micro_batch=micro, accumulation=plan.effective_batch // plan.workers // micro)


def _fewer(plan: MemoryPlan, micro: int) -> int | None:
    """Return about half as many at once as a micro-batch has, None if there is no fewer."""
    found = _divisor(plan.effective_batch // plan.workers, micro // 2, plan.least_micro)
    return found if found < micro else None


def _divisor(number: int, most: int, least: int = 1) -> int:
    """Return the largest divisor of a number from `least` to `most`, else the smallest one above."""
    below, above = range(max(least, min(number, most)), least - 1, -1), range(least, number + 1)
    found: int = next(n for n in (*below, *above) if number % n == 0)
    return found


def _no_such_modules(training: Training, wanted: str, shape: Shape) -> ModelError:
    return ModelError(
        "the base model has no such modules",
        where=f"train.{training}.lora.target_modules",
        found=wanted,
        fix=f"There are: {', '.join(sorted({layer.module for layer in shape.linear}))}; "
        "all-linear takes all but the output layer.",
    )


def _parts(found: Estimate) -> str:
    named = {
        "weights": found.weights,
        "activations": found.activations,
        "scoring": found.logits,
        "gradients and optimizer": found.gradients + found.optimizer,
        "libraries": found.libraries,
    }
    text = ", ".join(f"{name} {_gb(size)}" for name, size in named.items() if size >= 0.05e9)
    return f"merging {_gb(found.merge)}" if found.merge > found.training else text


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
