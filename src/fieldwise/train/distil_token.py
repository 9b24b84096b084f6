"""Token-level distillation: SFT whose loss mixes the known reply with what a teacher held likely at each of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldwise.extras import require
from fieldwise.records import Example
from fieldwise.train.distil_cache import Cached, CacheKey, cached
from fieldwise.train.distil_math import divergence, mixed_loss, outcomes
from fieldwise.train.distil_settings import DistillationSettings
from fieldwise.train.distil_teacher import Teaching
from fieldwise.train.hardware import Device
from fieldwise.train.labels import IGNORED
from fieldwise.train.loading import load_tokenizer
from fieldwise.train.outcome import Outcome
from fieldwise.train.rows import Course, by_sft, train_rows
from fieldwise.train.session import Session
from fieldwise.train.settings import SftSettings, TrainSettings
from fieldwise.train.sft import labelled_data, require_held
from fieldwise.train.shape import read_shape


def train_token(
    base: Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: SftSettings,
    device: Device,
    session: Session,
    *,
    teaching: Teaching,
) -> Outcome:
    """Fine-tune on the known replies and the teacher's probabilities of them; resumes from the last checkpoint of the session."""
    distillation, teacher = teaching.settings, teaching.teacher
    tokenizer = load_tokenizer(base)
    session = session.with_fitter("sft", TrainSettings(sft=settings), device)
    max_length = session.max_length
    data = labelled_data(tokenizer, train, validation, max_length)
    require_held(settings, data.held, validation, max_length)
    shape = read_shape(base)
    words = len(tokenizer) if shape is None else shape.vocabulary
    key = CacheKey(teacher.sha256, distillation.top_k, distillation.softening, words, device.bfloat16)
    both, known = cached([*data.train, *data.held], Path(teacher.path), key, teaching.memo, device.name)
    return train_rows(
        base,
        data._replace(train=both[: len(data.train)], held=both[len(data.train) :]),
        settings,
        device,
        "sft",
        session,
        course=Course(
            best_by="loss" if settings.best_by else None,
            way=by_sft(lambda trainer: _distilling(trainer, known, distillation)),
        ),
    )


def _distilling(trainer: Any, known: Cached, settings: DistillationSettings) -> Any:
    """Return the kind of trainer whose labels are places in the cache and whose loss is that of distillation."""
    torch = require("torch", extra="train", to="distil")
    temperature = settings.softening

    class Distilling(trainer):  # type: ignore[misc]
        """SFT with another loss: packing, accumulation and checkpoints are TRL's."""

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            places = inputs["labels"][:, 1:]
            learnt = places != IGNORED
            at = learnt.any(0).nonzero().squeeze(-1)  # the output layer scores nothing else
            rest = {name: value for name, value in inputs.items() if name != "labels"}
            outputs = model(**{**rest, "use_cache": False}, logits_to_keep=at)
            logits = outputs.logits[learnt[:, at]].float()
            where = places[:, at][learnt[:, at]].cpu()
            tokens = known.tokens[where].to(logits.device, torch.long)
            ids = known.ids[where].to(logits.device, torch.long)
            # 16 bits do not sum to one: normed again
            teacher = known.log_probs[where].to(logits.device).float().log_softmax(-1)
            by_token = torch.nn.functional.cross_entropy(logits, tokens, reduction="none")
            apart = divergence(teacher, outcomes(logits, ids, temperature), settings.divergence, settings.beta)
            mixed = mixed_loss(by_token, apart, settings.alpha, temperature)
            count = mixed.new_tensor(float(max(1, len(mixed)))) if num_items_in_batch is None else num_items_in_batch
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["cross_entropy"].append(float(by_token.detach().mean()))
            self._metrics[mode]["teacher_divergence"].append(float(apart.detach().mean()))
            self._metrics[mode]["mean_token_accuracy"].append(float((logits.argmax(-1) == tokens).float().mean()))
            loss = mixed.sum() / count
            return (loss, outputs) if return_outputs else loss

    return Distilling
