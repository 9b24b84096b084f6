"""Learning from preferences: which of two replies is wanted, or which replies are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import PreferencePair, RatedReply
from fieldwise.train import distributed
from fieldwise.train.configuring import build_config, common_options, score_labelled_only
from fieldwise.train.hardware import Device
from fieldwise.train.loading import adapter_config, lighten, load_model, load_tokenizer
from fieldwise.train.loop import train_to_the_end
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.outcome import Outcome, with_account
from fieldwise.train.plan import told
from fieldwise.train.preference_effect import effect, told_effect
from fieldwise.train.preference_methods import options_of, prepare, trainer_of
from fieldwise.train.preference_rows import no_pair_fits, pair_rows, probes_of, reply_rows
from fieldwise.train.retry import with_one_retry
from fieldwise.train.session import Session
from fieldwise.train.settings import PreferenceSettings, TrainSettings
from fieldwise.train.watching import curves, watched
from fieldwise.train.workload import preference_work


def train_preference(
    base: Path,
    pairs: Sequence[PreferencePair],
    settings: PreferenceSettings,
    device: Device,
    session: Session,
    *,
    ratings: Sequence[RatedReply] = (),
    held: Sequence[PreferencePair] = (),
) -> Outcome:
    """Learn which replies are wanted, starting from merged weights; the reference is the same weights without the adapter.

    `ratings` are single replies, for KTO alone; `held` are pairs that are not trained on, to measure the effect on.
    """
    require("trl", extra="train", to="fine-tune")
    score_labelled_only()
    tokenizer = load_tokenizer(base)
    session = session.with_fitter("preference", TrainSettings(preference=settings), device)
    max_length = session.max_length
    rows = (
        reply_rows(pairs, ratings, tokenizer, max_length, session.seed)
        if settings.method == "kto"
        else pair_rows(pairs, settings, tokenizer, max_length)
    )
    if not rows.rows:
        raise no_pair_fits(max_length)
    probes, split = probes_of(held, pairs, tokenizer, max_length)
    fitted = session.fit(lambda plan: preference_work(rows.extent, len(rows.rows), settings, plan))
    say(f"  {settings.method}, {told(fitted, 'preference')}")
    kind, config = trainer_of(settings)

    def once(plan: MemoryPlan) -> Outcome:
        arguments = build_config(
            config,
            output_dir=str(session.work),
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps,
            learning_rate=settings.learning_rate,
            max_length=max_length,
            eval_strategy="no",
            weight_decay=0.0,
            **options_of(settings, plan, rows),
            **common_options(device, plan, session),
        )
        model = load_model(base, plan)
        prepare(model, settings)
        alone = _alone(len(rows.rows), plan)
        if alone:
            say("  the last reply has none beside it in memory to compare with, and was left out")
        trainer = watched(kind, "preference")(
            model=model,
            args=arguments,
            train_dataset=_dataset(rows.rows[: len(rows.rows) - alone], session.work),
            processing_class=tokenizer,
            peft_config=adapter_config(settings.lora, model, "preference"),
            callbacks=[curves(session.tracker, "preference")],
        )
        lighten(trainer.model, settings.lora, device)
        return train_to_the_end(trainer, base, session.work, session.out, rows.dropped + alone, measure=measure)

    def measure(model: Any) -> tuple[dict[str, float], dict[str, JsonValue]]:
        found = effect(model, probes, split, bfloat16=device.bfloat16)
        about: dict[str, JsonValue] = {"method": settings.method, "lengths": rows.lengths, "effect": found}
        if not found:
            return {}, about
        say(f"  preference: {told_effect(found)}")
        return {name: float(str(found[name])) for name in ("accuracy", "kl_per_token")}, about

    outcome, plan = with_one_retry(once, fitted.plan, "preference")
    return with_account(outcome, fitted._replace(plan=plan), "preference")


def _alone(rows: int, plan: MemoryPlan) -> int:
    """How many rows are left alone in memory by a method that compares those which are there at once: one or none."""
    return int(plan.least_micro > 1 and rows % plan.micro_batch == 1)


def _dataset(rows: Sequence[dict[str, Any]], work: Path) -> Any:
    """Return rows as a data set; of several processes in a folder that all see, where TRL keeps the reference's scores."""
    datasets = require("datasets", extra="train", to="fine-tune")
    made = datasets.Dataset.from_list(rows)
    if distributed.here() is None:
        return made
    if distributed.is_first():
        shutil.rmtree(work / "rows", ignore_errors=True)
        made.save_to_disk(work / "rows")
    distributed.wait()
    return datasets.load_from_disk(work / "rows")
