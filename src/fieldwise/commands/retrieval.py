"""`fieldwise retrieval`: how well passages are found, which settings find them best, and a reranker of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for, standing_run
from fieldwise.commands.numbers import number, share, whole_number

_COUNT = whole_number("a whole number above 0")
_RATE = number("a number between 0 and 1", lambda value: 0 < value < 1)


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    about = "Measure how well passages are found, or choose the settings of the search."
    retrieval = commands.add_parser(
        "retrieval",
        help="measure how well passages are found, choose the settings of the search",
        description=about,
        parents=[parents.common],
    )
    kinds = retrieval.add_subparsers(title="commands", metavar="COMMAND", required=True)

    about = "measure the search of a run on judged questions, beside the last time"
    evaluate = add_command(kinds, "evaluate", _evaluate, about, parents.common, parents.place)
    _add_set(evaluate, "the questions of the recipe, else the generated test split")
    about = "figure and what the lower end of its interval must reach, such as ndcg@10=0.7; may be given again"
    evaluate.add_argument("--at-least", action="append", default=[], type=_level, metavar="FIGURE=VALUE", help=about)
    about = "run folder or retrieval.json that must not be better, question by question"
    evaluate.add_argument("--not-worse-than", type=Path, metavar="PATH", help=about)
    evaluate.add_argument(
        "--figure", default="ndcg@10", metavar="FIGURE", help="figure of --not-worse-than (default ndcg@10)"
    )
    evaluate.add_argument(
        "--margin", type=share, default=0.0, metavar="SHARE", help="loss that --not-worse-than allows (default 0)"
    )

    about = "choose weight and number of candidates on training questions, and prove the choice on others"
    tune = add_command(kinds, "tune", _tune, about, parents.common, parents.place)
    _add_set(tune, "the development questions of the recipe, else the generated train and validation splits")

    about = "learn a reranker from training questions; it is kept only if it finds better on others"
    learn = add_command(kinds, "learn", _learn, about, parents.common, parents.place)
    _add_set(learn, "the development questions of the recipe, else the generated train and validation splits")
    learn.add_argument(
        "--out", type=Path, metavar="FILE", help="file of the model (default DIR/5_reports/reranker.json)"
    )
    _add_synthetic(learn)
    about = "learn from the votes of the run too: passages that only the preferred answer quotes"
    learn.add_argument("--votes", action="store_true", help=about)

    about = (
        "train a cross-encoder, from random to hard negatives; it is kept only if it finds better on other questions"
    )
    reranker = add_command(kinds, "train-reranker", _train_reranker, about, parents.common, parents.place)
    _add_training(reranker, "DIR/retrieval/cross-encoder", 2e-4)
    reranker.add_argument(
        "--base", type=Path, metavar="FOLDER", help="weights to start from (default: those of all-MiniLM-L6-v2)"
    )

    about = (
        "train the embedding model; it is kept only if the search finds better and it loses little outside its domain"
    )
    embedder = add_command(kinds, "train-embedder", _train_embedder, about, parents.common, parents.place)
    _add_training(embedder, "DIR/retrieval/embedder", 5e-5)
    embedder.add_argument("--epochs", type=_COUNT, default=1, metavar="N", help="passes over them (default 1)")


def _add_training(parser: argparse.ArgumentParser, default: str, rate: float) -> None:
    _add_set(parser, "the development questions of the recipe, else the generated train and validation splits")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"folder of the model (default {default})")
    parser.add_argument(
        "--questions", type=_COUNT, default=4000, metavar="N", help="train on at most so many (default 4000)"
    )
    parser.add_argument(
        "--learning-rate", type=_RATE, default=rate, metavar="RATE", help=f"highest learning rate (default {rate:g})"
    )
    _add_synthetic(parser)


def _add_synthetic(parser: argparse.ArgumentParser) -> None:
    about = "learn from questions that the rules make of the passages themselves; all judged ones prove it"
    parser.add_argument("--synthetic", action="store_true", help=about)


def _add_set(parser: argparse.ArgumentParser, default: str) -> None:
    about = f"BEIR folder, TREC qrels file (with --queries), or questions as .jsonl (default: {default})"
    parser.add_argument("path", nargs="?", metavar="PATH", help=about)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the recipe of the run"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="recipe file (default: the one of the run)")
    parser.add_argument(
        "--queries", type=Path, metavar="FILE", help="queries of a qrels file: JSON Lines, or id, tab, text"
    )
    parser.add_argument("--split", metavar="NAME", help="split of a BEIR folder or of the generated questions")


def _level(text: str) -> tuple[str, float]:
    figure, sign, value = text.partition("=")
    if not sign or not figure:
        raise argparse.ArgumentTypeError(f"expected FIGURE=VALUE such as ndcg@10=0.7, found {text!r}")
    return figure, share(value)


def _opened(options: argparse.Namespace) -> Any:
    """The recipe, the bench of the run and what the command line names; a first word with = is an override."""
    from fieldwise.ranking.sets import Asked, Bench

    path, overrides = options.path, list(options.overrides)
    if path is not None and "=" in path and not Path(path).exists():
        path, overrides = None, [path, *overrides]
    run = standing_run(options)
    recipe = recipe_for(options, run, overrides)
    asked = Asked(None if path is None else Path(path), options.queries, options.split)
    return recipe, Bench(run, recipe.evaluate, recipe.retrieve), asked


def _evaluate(options: argparse.Namespace) -> int:
    from fieldwise.evaluate.gate import EXIT_CODES
    from fieldwise.evaluate.report import overall
    from fieldwise.ranking.gates import Level, NotWorse, judge, same_set
    from fieldwise.ranking.kept import keep, on_same_set, read_reports
    from fieldwise.ranking.measure import against, put_through, report
    from fieldwise.ranking.table import plain

    recipe, bench, asked = _opened(options)
    earlier = read_reports(bench.run.path)
    references = read_reports(options.not_worse_than) if options.not_worse_than is not None else []
    judged = bench.to_measure(asked)
    retriever, samples = bench.retriever(judged), recipe.evaluate.bootstrap_samples
    shown = recipe.retrieve.top_k
    found = report(
        judged,
        put_through(judged, retriever, shown),
        passages=len(retriever.chunks),
        settings=recipe.retrieve.keyed(),
        shown=shown,
        samples=samples,
        seed=recipe.seed,
    )
    before = on_same_set(earlier, found)
    if before is not None:
        found = found.model_copy(update={"differences": against(found, before, samples, recipe.seed)})
    pairs = []
    if options.not_worse_than is not None:
        reference = _reference(references, found, options.not_worse_than)
        same_set(found, reference, options.not_worse_than)
        pairs.append(NotWorse(options.figure, reference, str(options.not_worse_than), options.margin))
    gates = judge(found, [Level(*level) for level in options.at_least], pairs, samples)
    found = found.model_copy(update={"gates": gates})
    verdict = overall(gates) if gates else None
    place = keep(bench.run.path, earlier, found)
    if options.json:
        print_json({**found.model_dump(mode="json"), "verdict": verdict, "file": str(place)})
    else:
        print(plain(found, verdict))
        print(f"\nReport:     {place}")
    return EXIT_CODES[verdict] if verdict else 0


def _reference(references: list[Any], found: Any, where: Path) -> Any:
    """The report to compare with: on the same set, else one of the same name, whose difference is then told."""
    from fieldwise.errors import DatasetError
    from fieldwise.ranking.kept import on_same_set

    reference = on_same_set(references, found) or next((r for r in references if r.name == found.name), None)
    if reference is None:
        raise DatasetError(
            "nothing was measured there on these questions",
            where=where,
            found=", ".join(f"{r.name} {r.split}".strip() for r in references) or "no report",
            fix="Run fieldwise retrieval evaluate there on the same set first.",
        )
    return reference


def _tune(options: argparse.Namespace) -> int:
    from fieldwise.files import write_json
    from fieldwise.ranking.table import plain_tuning
    from fieldwise.ranking.tune import tune

    recipe, bench, asked = _opened(options)
    fit, held = bench.to_tune(asked, recipe.seed)
    tuned = tune(fit, held, bench.retriever(fit), samples=recipe.evaluate.bootstrap_samples, seed=recipe.seed)
    value = tuned.model_dump(mode="json")
    write_json(bench.run.path / "5_reports/retrieval-tuning.json", value)
    print_json(value) if options.json else print(plain_tuning(tuned))
    return 0


def _learn(options: argparse.Namespace) -> int:
    from fieldwise.files import write_json
    from fieldwise.ranking.learn import learn
    from fieldwise.ranking.table import plain_learning

    recipe, bench, asked = _opened(options)
    fit, held, retriever = _to_train(options, recipe, bench, asked)
    if options.votes:
        fit = _with_votes(recipe, bench.run, fit)
    notes = {"questions_of": fit.name, "split": fit.split}
    learnt = learn(fit, held, retriever, samples=recipe.evaluate.bootstrap_samples, seed=recipe.seed, notes=notes)
    place = (options.out or bench.run.path / "5_reports/reranker.json") if learnt.is_better else None
    if place is not None:
        write_json(place, learnt.model.model_dump(mode="json"))
    told = {**learnt.model_dump(mode="json"), "file": None if place is None else str(place)}
    print_json(told) if options.json else print(plain_learning(learnt, place))
    return 0


def _to_train(options: argparse.Namespace, recipe: Any, bench: Any, asked: Any) -> tuple[Any, Any, Any]:
    """Questions to learn from, others to prove it, and the search over their passages."""
    from fieldwise.ranking.synthetic import instead

    fit, held = bench.to_tune(asked, recipe.seed)
    retriever = bench.retriever(fit)
    return (*(instead(fit, held, retriever.chunks, recipe.seed) if options.synthetic else (fit, held)), retriever)


def _with_votes(recipe: Any, run: Any, fit: Any) -> Any:
    from fieldwise.compare.comparison import open_comparison
    from fieldwise.compare.votes import LEDGER, read_votes, standing
    from fieldwise.evaluate.questions import read_questions
    from fieldwise.ranking.voted import VotedAnswer, with_votes

    comparison = open_comparison(run)
    counted = standing(read_votes(run.path / LEDGER).votes, comparison).counted
    voted = []
    for vote in counted:
        if vote.winner is not None:
            loser = vote.right.system if vote.winner == vote.left.system else vote.left.system
            won, lost = (comparison.systems[name].entries[vote.question_id] for name in (vote.winner, loser))
            voted.append(VotedAnswer(vote.question_id, won.question, won.answer, lost.answer))
    questions = recipe.evaluate.questions
    measured = [q.question for q in read_questions(Path(questions))] if questions is not None else []
    return with_votes(fit, voted, measured)


def _train_reranker(options: argparse.Namespace) -> int:
    from fieldwise.ranking.proof import aside
    from fieldwise.ranking.train_reranker import train_reranker

    recipe, bench, asked = _opened(options)
    place = options.out or bench.run.path / "retrieval/cross-encoder"
    with aside(place) as work:
        fit, held, retriever = _to_train(options, recipe, bench, asked)
        proof = train_reranker(
            fit,
            held,
            retriever,
            work,
            base=options.base,
            questions=options.questions,
            rate=options.learning_rate,
            samples=recipe.evaluate.bootstrap_samples,
            seed=recipe.seed,
        )
        return _kept(options, work, place, proof)


def _train_embedder(options: argparse.Namespace) -> int:
    from fieldwise.ranking.proof import aside
    from fieldwise.ranking.train_embedder import train_embedder

    recipe, bench, asked = _opened(options)
    place = options.out or bench.run.path / "retrieval/embedder"
    with aside(place) as work:
        fit, held, retriever = _to_train(options, recipe, bench, asked)
        proof = train_embedder(
            fit,
            held,
            retriever,
            work,
            bench.run.path / "work" / "retrieval",
            questions=options.questions,
            epochs=options.epochs,
            rate=options.learning_rate,
            samples=recipe.evaluate.bootstrap_samples,
            seed=recipe.seed,
        )
        return _kept(options, work, place, proof)


def _kept(options: argparse.Namespace, work: Path, place: Path, proof: Any) -> int:
    from fieldwise.ranking.proof import keep
    from fieldwise.ranking.table import plain_training

    if proof.is_better:
        keep(work, place, proof)
    told = {**proof.model_dump(mode="json"), "folder": str(place) if proof.is_better else None}
    print_json(told) if options.json else print(plain_training(proof, place))
    return 0
