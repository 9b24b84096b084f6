"""What a training will need, told before anything heavy is loaded: for `--dry-run`, and to refuse what cannot work.

Reads the configuration and the headers of the weights, and the examples where a run has made them already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fieldwise.errors import FieldwiseError, MissingExtra, ModelError
from fieldwise.extras import installed_version
from fieldwise.prompts import joined, same_passages
from fieldwise.records import Chunk, Conversation, Example, PreferencePair, RatedReply
from fieldwise.tables import read_records
from fieldwise.tracking import require_trackers
from fieldwise.train.distil_memory import with_teacher
from fieldwise.train.distil_teacher import teacher_weights
from fieldwise.train.hardware import Device, Machine, Training, device_for, preset_for, shared, this_machine
from fieldwise.train.memory import MemoryPlan, Work
from fieldwise.train.plan import fit, told
from fieldwise.train.settings import ComputeSettings, TrainSettings
from fieldwise.train.shape import Shape, read_shape
from fieldwise.train.workload import Extent, preference_work, reward_work, rl_work, sft_work

SHARED: tuple[Training, ...] = ("sft", "preference")  # trainings that several processes can share
_SCORED_SHARE = 0.05  # of a row, before the examples are known: a short answer behind its passages
_ANSWER_TOKENS = 64
_TOKENS_A_MESSAGE = 5  # role and end marks
_CHARACTERS_A_TOKEN = 4  # of English prose, where the tokenizer cannot be asked


def told_before(settings: TrainSettings, base: Path, run: Path, compute: ComputeSettings | None = None) -> str:
    """Return what a training would take, a line for each training; raises ModelError for one that cannot work."""
    require_base(base)
    lines = [_of_training("pretrain", settings, base, run, compute)] if settings.pretrain.enabled else []
    lines.append(_of_training("sft", settings, base, run, compute))
    if settings.preference.enabled:
        lines.append(_of_training("preference", settings, base, run, compute))
    lines += [_of_training(training, settings, base, run, compute) for training in _further(settings)]
    return "\n".join(lines)


def require_trainable(settings: TrainSettings, base: Path, compute: ComputeSettings | None = None) -> None:
    """Raise ModelError for weights, settings or a machine that cannot go together, before any stage spends time.

    Examples are not known yet, so answers are taken to be short: what fails here would fail with any.
    """
    require_base(base)
    require_shareable(settings, compute or ComputeSettings())
    require_trackers(settings.trackers)
    if settings.pretrain.enabled:
        _of_training("pretrain", settings, base, None, compute)
    _of_training("sft", settings, base, None, compute)
    if settings.preference.enabled:
        _of_training("preference", settings, base, None, compute)
    for training in _further(settings):
        _of_training(training, settings, base, None, compute)


def require_base(base: Path) -> None:
    """Raise ModelError for weights that can be loaded but not trained: quantised ones, or too few rows of embeddings."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise ModelError(
            "the base weights are quantised already: they cannot be trained, and no adapter be merged into them",
            where="base.model",
            found=str(config["quantization_config"].get("quant_method", "a quantization_config")),
            fix="Name the weights they were made from, and set train.quantisation=4bit to train over 4-bit weights.",
        )
    shape = read_shape(base)
    if shape is not None and (highest := _highest_token(base)) >= shape.vocabulary:
        raise ModelError(
            "the tokenizer has more tokens than the base model has embeddings",
            where=base,
            found=f"token {highest}, {shape.vocabulary} embeddings",
            fix="Use the tokenizer that came with these weights, or resize the embeddings and save the model again.",
        )


def require_shareable(settings: TrainSettings, compute: ComputeSettings) -> None:
    """Raise FieldwiseError for ways of training that one process alone knows; nothing is left out without a word."""
    if compute.backend == "local":
        return
    is_sharded = compute.strategy != "ddp"
    alone = {
        "train.distillation": settings.distillation is not None,
        "train.sft.curriculum": is_sharded and settings.sft.curriculum.enabled,
        "train.sft.best_by": is_sharded and settings.sft.best_by == "score",
        "train.sft.lora.start": settings.sft.method == "lora" and settings.sft.lora.start == "pissa",
        "train.sft.method": is_sharded and settings.sft.method == "full",
    }
    for key, is_asked in alone.items():
        if is_asked:
            raise FieldwiseError(
                "several processes cannot train in this way",
                where=key,
                found=f"compute.backend={compute.backend}" + (f" with {compute.strategy}" if is_sharded else ""),
                fix="Set compute.backend=local, or leave the key out.",
            )


def of_each_process(device: Device, compute: ComputeSettings, machine: Machine) -> Device:
    """Return the device of each process that `compute` asks for; raises FieldwiseError for what cannot work or is missing."""
    if compute.backend == "local":
        return device
    if compute.backend == "ray" and installed_version("ray") is None:
        raise MissingExtra(
            "the library 'ray' is needed for compute.backend=ray", fix="Install it with: pip install 'fieldwise[ray]'"
        )
    if compute.strategy == "deepspeed" and installed_version("deepspeed") is None:
        raise MissingExtra(
            "the library 'deepspeed' is needed for compute.strategy", fix="Install it: pip install deepspeed"
        )
    return shared(device, compute.strategy, compute.workers, machine, is_one_machine=compute.address is None)


def _of_training(
    training: Training, settings: TrainSettings, base: Path, run: Path | None, compute: ComputeSettings | None
) -> str:
    machine = this_machine()
    preset = preset_for(settings.hardware, machine)
    device = device_for(preset, settings.precision, settings.threads, machine)
    if training in SHARED:
        device = of_each_process(device, compute or ComputeSettings(), machine)
    shape: Shape | None = read_shape(base)
    count = _counter(base)
    measured: Callable[[MemoryPlan], Work]
    if training == "pretrain":
        measured = _pretrain_measured(settings, run, count)
    elif training == "reward":
        measured = _reward_measured(settings, run, count)
    elif training == "rl":
        measured = _rl_measured(settings, run, count, shape)
    elif training == "sft":
        measured = _sft_measured(settings, run, count)
    else:
        measured = _preference_measured(settings, run, count)
    fitted = fit(training, settings, preset, device, machine, shape, measured)
    learnt_from = settings.distillation if training == "sft" else None
    if learnt_from is not None and learnt_from.method != "sequence":
        fitted = with_teacher(fitted, learnt_from, Path(teacher_weights(learnt_from.teacher).path), base)
    return told(fitted, training)


def _further(settings: TrainSettings) -> list[Training]:
    named: tuple[tuple[Training, bool], ...] = (("reward", settings.reward.enabled), ("rl", settings.rl.enabled))
    return [training for training, is_on in named if is_on]


def _pretrain_measured(
    settings: TrainSettings, run: Path | None, count: Callable[[Iterable[str]], list[int]]
) -> Callable[[MemoryPlan], Work]:
    """Rows of documents, those that will be held out among them: every token carries loss."""
    path = run / "2_chunks/chunks.parquet" if run is not None else None
    texts = [chunk.text for chunk in read_records(path, Chunk)] if path is not None and path.exists() else []
    if not texts:
        return lambda p: Work(p.micro_batch, p.max_length, p.micro_batch * p.max_length)
    lengths = count(texts)
    return lambda plan: sft_work(cut := _in_rows(lengths, plan.max_length), cut, settings.pretrain, plan)


def _in_rows(lengths: Sequence[int], longest: int) -> list[int]:
    return [min(longest, length - begin) for length in lengths for begin in range(0, length, longest)] or [1]


def _reward_measured(
    settings: TrainSettings, run: Path | None, count: Callable[[Iterable[str]], list[int]]
) -> Callable[[MemoryPlan], Work]:
    """Both sides of every pair, those that will be held out among them; a reward model scores no token."""
    pairs = _pairs(run)
    if not pairs:
        return lambda p: Work(2 * p.micro_batch, p.max_length, 2 * p.micro_batch)
    lengths = [_size(p.prompt, count) + n + _TOKENS_A_MESSAGE for p in pairs for n in count((p.chosen, p.rejected))]
    return lambda plan: reward_work([min(n, plan.max_length) for n in lengths], settings.reward, plan)


def _rl_measured(
    settings: TrainSettings, run: Path | None, count: Callable[[Iterable[str]], list[int]], shape: Shape | None
) -> Callable[[MemoryPlan], Work]:
    """Prompts with the replies to be drawn; a reward model stands beside the policy later on."""
    rl = settings.rl
    other = 4.0 * shape.parameters if shape is not None and "reward_model" in rl.rewards else 0.0
    path = run / "3_examples/train.parquet" if run is not None else None
    asked = [e for e in read_records(path, Example) if not e.tools] if path is not None and path.exists() else []
    if not asked:
        return lambda p: Work(
            p.micro_batch, p.max_length, p.micro_batch * rl.max_new_tokens, None, None, other_bytes=other
        )
    lengths = [_size(e.conversation[:-1], count) for e in asked][: rl.prompts]

    def measured(plan: MemoryPlan) -> Work:
        room = max(1, plan.max_length - rl.max_new_tokens)
        return rl_work([min(n, room) for n in lengths], rl, plan, other)

    return measured


def _sft_measured(
    settings: TrainSettings, run: Path | None, count: Callable[[Iterable[str]], list[int]]
) -> Callable[[MemoryPlan], Work]:
    path = run / "3_examples/train.parquet" if run is not None else None
    if path is None or not path.exists():
        return lambda p: Work(p.micro_batch, p.max_length, max(1, int(_SCORED_SHARE * p.micro_batch * p.max_length)))
    groups = same_passages([e.conversation for e in read_records(path, Example)])
    lengths, scored = [], []
    for whole in map(joined, groups):
        sizes = [n + _TOKENS_A_MESSAGE for n in count(m.content for m in whole)]
        lengths.append(sum(sizes))
        scored.append(sum(n for n, m in zip(sizes, whole, strict=True) if m.role == "assistant"))
    if not lengths:
        return _sft_measured(settings, None, count)
    return lambda plan: sft_work(lengths, scored, settings.sft, plan)


def _preference_measured(
    settings: TrainSettings, run: Path | None, count: Callable[[Iterable[str]], list[int]]
) -> Callable[[MemoryPlan], Work]:
    pairs = _pairs(run)
    sides = 1 if settings.preference.method == "kto" else 2
    ratings = _ratings(run) if sides == 1 else []
    if not pairs and not ratings:
        return lambda p: Work(sides * p.micro_batch, p.max_length, sides * p.micro_batch * _ANSWER_TOKENS)
    prompts = [_size(said, count) for said in (*(p.prompt for p in pairs), *(r.prompt for r in ratings))]
    answers = [count((p.chosen, p.rejected)) for p in pairs] + [count((r.reply,)) for r in ratings]
    wholes = [[prompt + n + _TOKENS_A_MESSAGE for n in said] for prompt, said in zip(prompts, answers, strict=True)]
    number = len(wholes) if sides == 2 else sum(map(len, wholes))
    extent = Extent(
        max(map(max, wholes)),
        max(map(max, answers)) + _TOKENS_A_MESSAGE,
        sum(map(sum, wholes)) / number,
    )
    return lambda plan: preference_work(
        extent._replace(longest=min(extent.longest, plan.max_length)), number, settings.preference, plan
    )


def _pairs(run: Path | None) -> list[PreferencePair]:
    path = run / "3_examples/preferences.parquet" if run is not None else None
    return list(read_records(path, PreferencePair)) if path is not None and path.exists() else []


def _ratings(run: Path | None) -> list[RatedReply]:
    path = run / "3_examples/ratings.parquet" if run is not None else None
    return list(read_records(path, RatedReply)) if path is not None and path.exists() else []


def _size(conversation: Conversation, count: Callable[[Iterable[str]], list[int]]) -> int:
    return sum(n + _TOKENS_A_MESSAGE for n in count(m.content for m in conversation))


def _counter(base: Path) -> Callable[[Iterable[str]], list[int]]:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        return lambda texts: [len(text) // _CHARACTERS_A_TOKEN for text in texts]
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    return lambda texts: [len(e.ids) for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _highest_token(base: Path) -> int:
    """The highest id the tokenizer can give; -1 if its file is of a kind that does not list them."""
    content = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = (content.get("model") or {}).get("vocab") or {}
    known = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    return max([*known, *(token["id"] for token in content.get("added_tokens") or ())], default=-1)
