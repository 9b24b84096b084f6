"""Step 4c: the choice between the trained weights, and when the chosen ones decline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.evaluate.asking import make_answerer, tuned
from fieldwise.evaluate.questions import (
    read_development,
)
from fieldwise.evaluate.selection import ITEMS, comparable, of_replies, told
from fieldwise.evaluate.selection import scores as measured
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.files import write_json
from fieldwise.interfaces import Sampling
from fieldwise.progress import say, track
from fieldwise.records import Example, Message, Question
from fieldwise.retrieve.decline import Asked, fit, similarity
from fieldwise.retrieve.grounded import GroundedAnswerer
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import StepRun
from fieldwise.tables import read_records


class Choice(NamedTuple):
    """How the candidates did and by what; `asked` is what a rule of when to decline is fitted on."""

    metric: str
    items: int
    scores: dict[str, float]
    asked: dict[str, list[Asked]]


def run_select(settings: EvaluateSettings, retrieve: RetrieveSettings, step: StepRun) -> dict[str, JsonValue]:
    """Choose between the weights before and after the preference step and what RL made of them, and with development questions fit when to decline; no later figure uses these."""
    questions = read_development(settings)
    names = tuned(step.run)
    choice = (
        _on_development(names, questions, settings, retrieve, step)
        if questions
        else _on_validation(names, settings, step)
    )
    scores = choice.scores
    selected = max(names, key=lambda n: (scores.get(n, 0.0), n == "sft")) if names else "sft"
    rule = fit(choice.asked[selected], settings.false_declines) if questions and names else None
    write_json(
        step.out("4_adapters/selected.json"),
        {
            "selected": selected,
            "metric": choice.metric,
            "items": choice.items,
            "scores": dict(scores),
            "decline": rule.model_dump(mode="json") if rule else None,
        },
    )
    shown = ", ".join(f"{n} {score}" for n, score in scores.items())
    say(
        f"  {choice.metric}: {shown}: {selected} is taken"
        if choice.items
        else f"  nothing to validate on: {selected} is taken"
    )
    if rule is not None:
        say(
            f"  declines from a doubt of {rule.threshold:.2f}: {rule.right_declines:.0%} of {rule.unanswerable} unanswerable and "
            f"{rule.false_declines:.0%} of {rule.answerable} answerable development questions"
        )
    return {"selected": selected, "scores": dict(scores), "items": choice.items}


def _on_development(
    names: Sequence[str],
    questions: Sequence[Question],
    settings: EvaluateSettings,
    retrieve: RetrieveSettings,
    step: StepRun,
) -> Choice:
    """Let every candidate answer the development questions as it would be served, without a rule."""
    weights = settings.selection_weights
    name_of_it = "F1 with declines" if weights is None else told(weights)
    scores: dict[str, float] = {}
    asked: dict[str, list[Asked]] = {}
    for name in names:
        engine = TransformersEngine(step.run.path / f"4_adapters/{name}/merged", dtype="auto")
        try:
            sampling = Sampling(max_tokens=settings.max_new_tokens)
            answerer = make_answerer(f"rag_{name}", engine, step.run, retrieve, sampling)
            assert isinstance(answerer, GroundedAnswerer)
            conversations = [(Message(role="user", content=q.question),) for q in questions]
            replies = list(
                track(answerer.rated_answers(conversations), f"development answers of {name}", total=len(questions))
            )
        finally:
            engine.close()
        values = measured([a for a, _ in replies], questions, weights)
        scores[name] = round(sum(values) / len(values), 6)
        asked[name] = [
            Asked(logprob, similarity(a.passages), a.is_declined, q.answer is None)
            for (a, logprob), q in zip(replies, questions, strict=True)
            if logprob is not None
        ]
    return Choice(f"{name_of_it} on the development questions", len(questions), scores, asked)


def _on_validation(names: Sequence[str], settings: EvaluateSettings, step: StepRun) -> Choice:
    """Let every candidate answer the validation split of the generated examples."""
    examples = list(read_records(step.run.require("3_examples/validation.parquet", "generate"), Example))
    examples = comparable(examples, ITEMS)
    scores: dict[str, float] = {}
    for name in names if examples else ():
        engine = TransformersEngine(step.run.path / f"4_adapters/{name}/merged", dtype="auto")
        try:
            prompts = [engine.render(e.conversation[:-1]) for e in examples]
            fitting = [(e, p) for e, p in zip(examples, prompts, strict=True) if len(p) < engine.context_tokens]
            replies = engine.generate([p for _, p in fitting], Sampling(max_tokens=settings.max_new_tokens))
        finally:
            engine.close()
        values = of_replies([reply.text for reply in replies], [e for e, _ in fitting], settings.selection_weights)
        scores[name] = round(sum(values) / len(values), 6) if values else 0.0
    return Choice(f"{told(settings.selection_weights)} on validation", len(examples), scores, {})
