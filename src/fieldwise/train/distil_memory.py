"""Whether a teacher fits into memory: beside the student where it stays, alone where it is asked beforehand."""

from __future__ import annotations

from pathlib import Path

from fieldwise.errors import ModelError
from fieldwise.train.distil_settings import DistillationSettings
from fieldwise.train.plan import Fitted
from fieldwise.train.shape import read_shape

# float32 rows of the whole vocabulary that GKD and GOLD hold at a position, of both models and on the way back
_COPIES = 8


def with_teacher(fitted: Fitted, settings: DistillationSettings, teacher: Path, base: Path) -> Fitted:
    """Return a plan that counts the teacher's weights, and whole rows of probabilities; raises ModelError for no room.

    Where nothing is estimated, or the teacher only gives its text, the plan comes back as it is.
    """
    if settings.method == "sequence" or fitted.estimate is None:
        return fitted
    large, small = read_shape(teacher), read_shape(base)
    if large is None or small is None:
        return fitted
    plan = fitted.plan
    weights = (4 if plan.device == "cpu" or not plan.bfloat16 else 2) * large.parameters
    if settings.method == "token":  # it is gone before the training begins
        if fitted.limit is not None and weights + fitted.estimate.libraries > fitted.limit:
            raise _too_large(
                "the teacher does not fit into memory",
                "train.distillation.teacher.model",
                (weights, weights + fitted.estimate.libraries, fitted.limit),
                "Name a smaller teacher, or take method: sequence with an endpoint or a GGUF file.",
            )
        return fitted
    rows = _COPIES * 4 * plan.micro_batch * plan.max_length * max(large.vocabulary, small.vocabulary)
    whole = fitted.estimate.peak + weights + rows
    if fitted.limit is not None and whole > fitted.limit:
        raise _too_large(
            "the training does not fit into memory beside its teacher",
            "train.distillation",
            (weights, whole, fitted.limit),
            "Take method: token, which needs the teacher only beforehand, or lower train.sft.max_length.",
        )
    told = f"{(weights + rows) / 1e9:.1f} GB more for the teacher and whole rows of probabilities"
    return fitted._replace(reasons=(*fitted.reasons, told))


def _too_large(what: str, where: str, sizes: tuple[float, float, float], fix: str) -> ModelError:
    weights, whole, limit = (size / 1e9 for size in sizes)
    found = f"about {whole:.1f} GB needed ({weights:.1f} of it the teacher), {limit:.1f} usable"
    return ModelError(what, where=where, found=found, fix=fix)
