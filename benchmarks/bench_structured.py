"""Answers as JSON of a schema beside answers in words: how many are right, quoted, and declined as they should be.

    python benchmarks/bench_structured.py [--run runs/demo] [--questions examples/questions/healthcare-development.jsonl] [--json]

Takes the released file of a run (`make demo` makes one) and asks every question three times over the same passages: in
words, as JSON with one key and the way around for models unused to JSON, and as JSON without it. Questions without an
answer should be declined. Skips where nothing is released. About three minutes on two threads.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from fieldwise.errors import RunError
from fieldwise.evaluate.metrics import exact_match
from fieldwise.evaluate.questions import read_questions
from fieldwise.evaluate.statistics import wilson
from fieldwise.progress import track
from fieldwise.recipe import load_recipe
from fieldwise.records import Answer, Conversation, Message, Question
from fieldwise.retrieve import structured
from fieldwise.retrieve.answer_schema import AnswerSchema
from fieldwise.retrieve.structured import StructuredAnswerer
from fieldwise.run import RunFolder
from fieldwise.serve.backend import open_backend

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
Ask = Callable[[Conversation], Answer]


def measured(name: str, ask: Ask, questions: list[Question]) -> dict[str, object]:
    """The counts of one way to ask, with the interval of the share that is right."""
    answers = [ask((Message(role="user", content=q.question),)) for q in track(questions, name, total=len(questions))]
    known = [(q, in_words(a)) for q, a in zip(questions, answers, strict=True) if q.answer is not None]
    right = sum(int(exact_match(a, q) or 0) for q, a in known)
    share = wilson(right, len(known))
    return {
        "answerable": len(known),
        "right": right,
        "right_share": [round(x, 3) for x in (share.value, share.low, share.high)],
        "declined_though_answerable": sum(a.is_declined for _, a in known),
        "with_a_verified_quote": sum(any(c.is_verified for c in a.citations) for _, a in known),
        "unanswerable": len(questions) - len(known),
        "declined_as_they_should": sum(
            a.is_declined for q, a in zip(questions, answers, strict=True) if q.answer is None
        ),
    }


def in_words(answer: Answer) -> Answer:
    """An answer to the schema with what its key holds in the place of the JSON."""
    if not isinstance(answer.value, dict):
        return answer
    return answer.model_copy(update={"answer": str(answer.value["answer"])})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs/demo")
    parser.add_argument("--questions", type=Path, default=ROOT / "examples/questions/healthcare-development.jsonl")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    recipe = load_recipe(options.run / "recipe.yaml")
    questions = read_questions(options.questions)
    schema, fills = AnswerSchema.read(SCHEMA), structured.can_fill
    try:
        with open_backend(RunFolder(options.run), recipe.serve, recipe.retrieve, recipe.release.serve) as backend:
            answerer = backend.answerer()
            as_json = StructuredAnswerer(answerer, schema).answer
            report = {"in words": measured("in words", lambda c: next(iter(answerer.answer_all([c]))), questions)}
            report["as JSON"] = measured("as JSON", as_json, questions)
            structured.can_fill = lambda _: False
            report["as JSON alone"] = measured("as JSON alone", as_json, questions)
    except RunError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 0
    finally:
        structured.can_fill = fills
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        for name, figures in report.items():
            print(f"{name:14} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
