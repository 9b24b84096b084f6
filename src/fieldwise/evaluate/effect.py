"""What the preference step did: its figures from the training beside how long the systems' answers have become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fieldwise.evaluate.report import EvalReport, PreferenceEffect
from fieldwise.evaluate.table import title, trained_by
from fieldwise.files import read_json
from fieldwise.records import Answer
from fieldwise.run import RunFolder


def read_effect(run: RunFolder, given: Mapping[str, Sequence[Answer]]) -> PreferenceEffect | None:
    """Return the effect that the preference step recorded, with the mean words of each system's answers; None without one."""
    path = run.path / "4_adapters/preference/figures.json"
    content: Any = read_json(path) if path.is_file() else {}
    effect = content.get("about", {}).get("effect")
    if not effect:
        return None
    answered = {system: [len(a.answer.split()) for a in said if not a.is_declined] for system, said in given.items()}
    words = {system: round(fmean(counts), 1) for system, counts in answered.items() if counts}
    known = {name: effect[name] for name in PreferenceEffect.model_fields if name in effect}
    return PreferenceEffect.model_validate({**known, "words": words})


def told(report: EvalReport) -> str:
    """Return the effect in words; nothing without a preference step that recorded one."""
    effect = report.effect
    if effect is None or report.preference_method is None:
        return ""
    whose = "held-out pairs" if effect.split == "validation" else "pairs it was trained on"
    words = ", ".join(f"{title(report, system)} {count:.1f}" for system, count in effect.words.items())
    return (
        f"The preference step ({trained_by(report)}): over {effect.pairs} {whose} the chosen reply gained on the other in "
        f"{effect.accuracy:.0%} (mean margin {effect.margin:.2f} nats), {effect.kl_per_token:.4f} nats of KL a token from where "
        f"it began{'; it learnt length along' if effect.length_learnt else ''}. "
        f"Mean words of an answer that does not decline: {words or 'none was given'}."
    )
