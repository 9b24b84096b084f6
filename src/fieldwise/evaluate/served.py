"""The file to serve (5b) asked what the weights it was made from were asked, and held against them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pydantic import JsonValue

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.errors import DatasetError
from fieldwise.evaluate.asking import answer_questions, decline_rule, load_questions, make_answerer
from fieldwise.evaluate.kept import Given, earlier_answers, keep_times, times_of, write_predictions
from fieldwise.evaluate.memory import Peak, peak_memory
from fieldwise.evaluate.metrics import METRICS, TIMES
from fieldwise.evaluate.perplexity import token_perplexity
from fieldwise.evaluate.quarantine import NONE, QUESTIONS, Quarantine
from fieldwise.evaluate.report import (
    Scored,
    as_family,
    cluster_names,
    judge_pair,
    overall,
    score_system,
    summarise,
    with_left_out,
    without,
)
from fieldwise.evaluate.settings import EvaluateSettings, GateSettings, System
from fieldwise.evaluate.table import told_peak
from fieldwise.files import read_json, write_json
from fieldwise.interfaces import Sampling
from fieldwise.progress import say
from fieldwise.records import Answer, GateResult, Question
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder, StepRun

_REFERENCE: System = "rag_tuned"  # what the file to serve is made of


def run_served(
    settings: EvaluateSettings,
    retrieve: RetrieveSettings,
    step: StepRun,
    *,
    serve: str,
    max_score_loss: float,
    quarantine: Quarantine = NONE,
) -> dict[str, JsonValue]:
    """Let the file to serve answer the questions and compare it with the weights it was made from, item by item.

    The gates leave out the questions in quarantine.
    """
    questions = load_questions(settings, step.run)
    path = _file_to_serve(step.run, serve)
    if path is None:
        raise DatasetError(
            "the file to serve was not built",
            where="release.serve",
            found=serve,
            fix="Name one of release.quantisations.",
        )
    with peak_memory() as peak, closing(LlamaCppEngine(path, parallel=8)) as engine:
        sampling = Sampling(max_tokens=settings.max_new_tokens)
        answerer = make_answerer("rag_served", engine, step.run, retrieve, sampling, decline_rule(step.run))
        given = Given(answer_questions(answerer, questions, step.work / "served.jsonl"), peak())
    answers = given.answers
    write_predictions(step, "served", answers, questions)
    keep_times(step, {"served": times_of(given, questions)})
    earlier = earlier_answers(step.run, _REFERENCE, questions)
    scores = score_system("served", answers, questions, semantic=settings.semantic, nli=settings.nli)
    verdicts = _not_worse(scores, earlier, questions, settings, step.seed, max_score_loss, quarantine)
    same = sum(a.text == b.text for a, b in zip(answers, earlier, strict=True))
    names = cluster_names(questions)
    figures: dict[str, JsonValue] = {
        m: summarise(s, names, settings.bootstrap_samples, step.seed).model_dump(mode="json")
        for m, s in scores.items()
        if m not in TIMES
    }
    verdict = overall(verdicts)
    perplexity = token_perplexity(answers, questions, names, settings.bootstrap_samples, step.seed)
    write_json(
        step.out("5_reports/served.json"),
        {
            "file": path.name,
            "figures": figures,
            "perplexity": None if perplexity is None else perplexity.model_dump(mode="json"),
            "same_replies": same,
            "questions": len(questions),
            "verdict": verdict,
            "gates": [v.model_dump(mode="json") for v in verdicts],
            **quarantine.of(QUESTIONS).rows(),
        },
    )
    say(
        f"  {path.name}: the same reply as the weights to {same} of {len(questions)} questions; {verdict}: "
        + "; ".join(f"{v.metric} {v.found}" for v in verdicts)
    )
    say(f"  {path.name}: {_speed(scores, given.peak)}")
    return {"verdict": verdict, "same_replies": same, "questions": len(questions), "figures": figures}


def _speed(scores: dict[str, Scored], peak: Peak) -> str:
    """What the file took, on the terminal alone."""
    parts = []
    for name in TIMES:
        if values := [v for v in scores[name].values if v is not None]:
            parts.append(f"{METRICS[name].title.lower()} {sum(values) / len(values):.2f}")
    if shown := told_peak(peak):
        parts.append(f"peak memory {shown} GB")
    return ", ".join(parts) or "no time is known"


def _not_worse(
    served: dict[str, Scored],
    earlier: Sequence[Answer],
    questions: Sequence[Question],
    settings: EvaluateSettings,
    seed: int,
    max_score_loss: float,
    quarantine: Quarantine,
) -> tuple[GateResult, ...]:
    """Judge whether the file does as well as the weights did, by what they said earlier."""
    names, left_out = cluster_names(questions), quarantine.left_out(QUESTIONS)
    before = score_system(_REFERENCE, earlier, questions)
    results = [
        judge_pair(
            GateSettings(metric=m, system=_REFERENCE, baseline=_REFERENCE, requires="not_worse", margin=max_score_loss),
            without(served[m], questions, left_out),
            without(before[m], questions, left_out),
            names,
            settings.bootstrap_samples,
            seed,
        )
        for m in ("token_f1", "overall_f1")
    ]
    return with_left_out(as_family(results), questions, left_out)


def _file_to_serve(run: RunFolder, serve: str) -> Path | None:
    """Return the tuned file of a type; the base beside it has a record without an adapter."""
    records = [read_json(p) for p in sorted((run.path / "6_builds").glob(f"*-{serve}.build.json"))]
    return next((run.path / str(r["path"]) for r in records if r.get("adapter_id") is not None), None)
