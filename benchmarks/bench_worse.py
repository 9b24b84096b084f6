"""Whether the gate says no to a model that was made worse on purpose, and yes to one that was not.

Takes a finished run, makes its model worse in ways that happen (answers that slipped by a row in the training data, a file
quantised too far, citations dropped by whoever serves it), lets each answer the run's own questions, and judges it
against the run by the regressions of the recipe. Prints a line each; `--record FILE` keeps the scores without a word
of any question, as the tests have them.

    python benchmarks/bench_worse.py --run runs/demo
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from fieldwise.engine.base_weights import resolve
from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.evaluate.asking import decline_rule, load_questions, make_answerer
from fieldwise.evaluate.report import Scored, as_family, cluster_names, judge_pair, overall, score_system
from fieldwise.evaluate.settings import GateSettings
from fieldwise.files import read_json, read_ledger, write_text
from fieldwise.interfaces import Engine, Sampling
from fieldwise.prompts import without_marks
from fieldwise.recipe import Recipe, load_recipe
from fieldwise.records import Answer, Example, Message, Question
from fieldwise.release.gguf import convert
from fieldwise.release.quantise import quantise
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import read_records, write_records
from fieldwise.train.settings import PreferenceSettings
from fieldwise.train.stage import run as train

METRICS = ("token_f1", "overall_f1", "groundedness", "citation_recall")


def main() -> None:
    """Make worse, ask, judge, print."""
    options = _options()
    run, recipe = RunFolder(options.run), load_recipe(options.run / "recipe.yaml")
    questions = load_questions(recipe.evaluate, run)[: options.questions]
    reference = _known(run, "rag_tuned", questions)
    answers = {"unchanged": _known(run, "served", questions), "citations dropped": [_bare(a) for a in reference]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "q2_k" not in options.without:
            with _timed("q2_k"):
                answers["q2_k"] = _asked(LlamaCppEngine(_q2(run, folder), parallel=8), run, recipe, questions)
        if "shuffled" not in options.without:
            with _timed("SFT on shuffled answers"):
                weights = _shuffled(run, recipe, folder, options)
                answers["SFT on shuffled answers"] = _asked(TransformersEngine(weights), run, recipe, questions)
    answers["unchanged, 12 questions"] = answers["unchanged"][:12]
    scores = {"reference": _scores(reference, questions)}
    for name, given in answers.items():
        scores[name] = _scores(given, questions[: len(given)])
        gates = judge_worse(scores["reference"], scores[name], cluster_names(questions), recipe)
        print(f"{overall(gates):12} {name}: " + "; ".join(f"{g.metric} {g.found} {g.verdict}" for g in gates))
    if options.record is not None:
        names = [str(n) for n in _numbers(cluster_names(questions))]
        write_text(options.record, json.dumps({"clusters": names, "scores": scores}) + "\n")


def judge_worse(
    reference: dict[str, list[float | None]],
    candidate: dict[str, list[float | None]],
    clusters: Sequence[str],
    recipe: Recipe,
) -> tuple:
    """Judge by the recipe's regressions, and that citations are not lost."""
    wanted = [GateSettings(metric=r.metric, requires=r.requires, margin=r.margin) for r in recipe.evaluate.regressions]
    wanted.append(GateSettings(metric="citation_recall", requires="not_worse", margin=0.05))
    n = len(candidate[METRICS[0]])
    return as_family(
        [
            judge_pair(
                gate,
                Scored("candidate", gate.metric, tuple(candidate[gate.metric])),
                Scored("reference", gate.metric, tuple(reference[gate.metric][:n])),
                clusters[:n],
                2000,
                0,
            )
            for gate in wanted
        ]
    )


def _scores(answers: Sequence[Answer], questions: Sequence[Question]) -> dict[str, list[float | None]]:
    found = score_system("rag", answers, questions)
    return {m: [None if v is None else round(v, 4) for v in found[m].values] for m in METRICS}


def _numbers(names: Sequence[str]) -> Iterator[int]:
    seen: dict[str, int] = {}
    for name in names:
        yield seen.setdefault(name, len(seen))


def _known(run: RunFolder, system: str, questions: Sequence[Question]) -> list[Answer]:
    path = run.require(f"5_reports/predictions/{system}.jsonl", "run")
    rows = {str(r["id"]): Answer.model_validate(r["answer"]) for r in read_ledger(path)}
    return [rows[q.id] for q in questions]


def _bare(answer: Answer) -> Answer:
    return answer.model_copy(update={"text": without_marks(answer.text), "citations": ()})


def _asked(engine: Engine, run: RunFolder, recipe: Recipe, questions: Sequence[Question]) -> list[Answer]:
    sampling = Sampling(max_tokens=recipe.evaluate.max_new_tokens)
    answerer = make_answerer("rag_worse", engine, run, recipe.retrieve, sampling, decline_rule(run))
    try:
        return list(answerer.answer_all([(Message(role="user", content=q.question),) for q in questions]))
    finally:
        engine.close()


def _q2(run: RunFolder, folder: Path) -> Path:
    selected = read_json(run.require("4_adapters/selected.json", "run"))["selected"]
    whole, out = folder / "whole.gguf", folder / "q2_k.gguf"
    convert(run.path / f"4_adapters/{selected}/merged", whole)
    quantise(whole, out, "q2_k")
    return out


def _shuffled(run: RunFolder, recipe: Recipe, folder: Path, options: argparse.Namespace) -> Path:
    """Train on the same examples with the answers of others, as a sheet whose column slipped would give them."""
    other = RunFolder(folder / "run")
    shutil.copytree(run.path / "3_examples", other.path / "3_examples")
    examples = list(read_records(run.path / "3_examples/train.parquet", Example))[: options.examples]
    replies = [e.conversation[-1] for e in examples]
    Random(0).shuffle(replies)
    slipped = [
        e.model_copy(update={"conversation": (*e.conversation[:-1], reply), "answer": reply.content})
        for e, reply in zip(examples, replies, strict=True)
    ]
    write_records(other.path / "3_examples/train.parquet", slipped, Example)
    sft = recipe.train.sft.model_copy(update={"learning_rate": options.learning_rate, "epochs": options.epochs})
    settings = recipe.train.model_copy(update={"sft": sft, "preference": PreferenceSettings(enabled=False)})
    step = StepRun(other, "4b_train", "0" * 64, recipe.seed)
    train(settings, resolve(recipe.base.model, recipe.base.revision), step)
    return step.staging / "4_adapters/sft/merged"


@contextmanager
def _timed(name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--questions", type=int, help="ask the first N (default all)")
    parser.add_argument("--examples", type=int, help="train on the first N (default all)")
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--without", nargs="*", default=[], choices=["q2_k", "shuffled"])
    parser.add_argument("--record", type=Path, help="keep the scores here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
