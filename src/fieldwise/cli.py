"""The command line: one command per stage, and those that look at a run, ask, gate, compare, vote and measure.

Results go to stdout, progress to stderr. Exit codes: 0 done, 2 something the user can mend, 3 a gate said no,
4 `gate` could not decide, 130 interrupted, 141 the reader of the output went away. Nothing heavy is imported before a
command needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise import __version__
from fieldwise.errors import FieldwiseError, GateFailed, RecipeError
from fieldwise.progress import remember_interrupts, set_quiet

if TYPE_CHECKING:
    from fieldwise.compare.comparison import Comparison
    from fieldwise.compare.report import Counted
    from fieldwise.pipeline import Step
    from fieldwise.recipe import Recipe
    from fieldwise.run import RunFolder

DEFAULT_RUN = Path("runs/default")
_TARGETS = ("chat", "alpaca", "sharegpt", "prompt-completion", "qa", "preference", "kto")
# What the file system may say no to because of a place the user named; any other OSError is a bug.
_PLACE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:  # argparse takes a list of positionals in one place only; overrides may stand between flags
        if not hasattr(options, "overrides") or any(r.startswith("-") or "=" not in r for r in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides = [*options.overrides, *rest]
    if not hasattr(options, "command"):
        parser.print_help()
        return 0
    set_quiet(options.quiet)
    remember_interrupts()
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except FieldwiseError as error:
        return _report(error, options)
    except KeyboardInterrupt:
        print("\nfieldwise: interrupted. Finished work is kept; run the same command again to go on.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough; the interpreter must not try to flush again
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            from fieldwise.files import disk_is_full

            return _report(disk_is_full(Path(error.filename or ".")), options)
        if error.errno not in _PLACE_ERRORS or error.filename is None:
            raise
        told = FieldwiseError(
            "the file or folder cannot be used",
            where=error.filename,
            found=error.strerror,
            fix="Check the place and your permissions, or name another.",
        )
        return _report(told, options)


def _report(error: FieldwiseError, options: argparse.Namespace) -> int:
    if options.json:
        problems = {"problems": [p.to_json() for p in error.problems]} if isinstance(error, RecipeError) else {}
        _print_json({**error.to_json(), **problems})
    print(f"fieldwise: {error}", file=sys.stderr)
    return error.exit_code


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


# ---------------------------------------------------------------- the parser


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    # --json may stand before the command or after it: a default of the command would undo what stands before
    common = _common(default=argparse.SUPPRESS)
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "--run", type=Path, default=DEFAULT_RUN, metavar="DIR", help=f"run folder (default {DEFAULT_RUN})"
    )
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="recipe file; without it the one of the run folder, else the defaults",
    )
    recipe.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that replace those of the recipe, such as train.sft.epochs=2; places count from the current folder",
    )

    parser = argparse.ArgumentParser(
        prog="fieldwise",
        description="From a folder of documents to a small language model that its owner can defend.",
        parents=[_common(default=False)],
    )
    parser.add_argument("--version", action="version", version=f"fieldwise {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(
        name: str, function: Callable[[argparse.Namespace], int], about: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=about, description=about[0].upper() + about[1:] + ".", parents=[common, *parents]
        )
        made.set_defaults(command=function)
        return made

    run = add("run", _run, "run the stages of a recipe; what is up to date is skipped", place, recipe)
    run.add_argument("--stage", metavar="STAGE", help="run one stage: a number such as 4b or 4, or a name")
    run.add_argument("--start", metavar="STAGE", help="first stage of a range")
    run.add_argument("--end", metavar="STAGE", help="last stage of a range")
    run.add_argument("--force", action="store_true", help="run even what is up to date")
    run.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    run.add_argument("--list", action="store_true", help="list the stages")

    collect = commands.add_parser(
        "collect",
        help="read folders, files, web addresses or rows of data sets into a run",
        description="Read folders, files, web addresses or rows of data sets into a run.",
        parents=[common, place],
    )
    collect.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, files, patterns or http(s) addresses; in braces, a source as in a recipe: '{rows: faq.csv}'",
    )
    collect.add_argument("--config", type=Path, metavar="FILE", help="recipe file")
    collect.add_argument("--force", action="store_true", help="run even if up to date")
    collect.set_defaults(command=_collect)
    for name, about in (
        ("prepare", "clean and cut the documents, and index them"),
        ("generate", "make training examples"),
        ("train", "measure the base, fine-tune, choose"),
        ("evaluate", "measure all systems and judge the gates"),
        ("release", "merge, convert, quantise, prove parity"),
    ):
        made = add(name, _stage, about, place, recipe)
        made.add_argument("--force", action="store_true", help="run even if up to date")
        made.set_defaults(stage_name=name)

    gate = add(
        "gate", _gate, "judge a run by its own gates, or against an earlier run on the same questions", place, recipe
    )
    gate.add_argument(
        "--baseline",
        type=Path,
        metavar="PATH",
        help="run folder or baseline file to compare with, question by question",
    )
    gate.add_argument(
        "--system", metavar="SYSTEM", help="what to compare (default: what both have, the served file first)"
    )
    gate.add_argument(
        "--save-baseline", type=Path, metavar="FILE", help="keep the scores of this run as a baseline file"
    )
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")
    gate.add_argument("--markdown", type=Path, metavar="FILE", help="write the result as Markdown")

    serve = add("serve", _serve, "serve the released model and the documents over HTTP, with a web page", place, recipe)
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port (default 8000, 0 takes a free one)")
    serve.add_argument("--model", help="file to serve, such as q4_k_m (default: release.serve of the recipe)")
    ask = add("ask", _ask, "ask the released model one question", place)
    ask.add_argument("question")
    ask.add_argument("--model", help="file to ask, such as q4_k_m")

    compared = argparse.ArgumentParser(add_help=False)
    compared.add_argument(
        "--left", metavar="SYSTEM", help="a system of the run, such as rag_base, or a predictions file"
    )
    compared.add_argument("--right", metavar="SYSTEM", help="the other; without both, every pair of the run's systems")
    compare = add("compare", _compare, "vote blind between the answers of two systems", place, compared)
    compare.add_argument(
        "--voter", metavar="NAME", help="your name or a code, kept with every vote; asked for without it"
    )
    compare.add_argument("--seed", type=int, default=0, help="draws the order and the sides (default 0)")
    votes = add("votes", _votes, "show what the votes of blind comparisons say, or export them", place, compared)
    votes.add_argument("--width", type=float, default=0.2, help="width of the interval that is enough (default 0.2)")
    votes.add_argument(
        "--without", action="append", default=[], metavar="VOTER", help="leave a voter out; may be given again"
    )
    votes.add_argument("--export", type=Path, metavar="FILE", help="write the votes as preference pairs, JSON Lines")
    about = "put the released model, any weights or an endpoint through a suite of prepared questions"
    _add_suite(add("suite", _suite, about, place))
    add("status", _status, "show what stands in a run folder", place)
    about = "show what came in, what was dropped and why, and what the documents of a run are"
    add("documents", _documents, about, place)
    validate = add("validate", _validate, "check a recipe and report every problem")
    validate.add_argument("recipe", type=Path, metavar="FILE", help="recipe file")
    validate.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the recipe")
    trace = add("trace", _trace, "follow a document, chunk, example, adapter or file through a run, both ways", place)
    trace.add_argument("id", help="id, file name of a document, or name of a built file")
    trace.add_argument("--all", action="store_true", help="list everything instead of the first few")
    add("doctor", _doctor, "look at the machine and the installed libraries", place)
    _add_data(commands, common)
    init = add("init", _init, "write a recipe to start from")
    init.add_argument("domain", help="healthcare, legal, finance or general")
    init.add_argument("--folder", type=Path, default=Path(), help="where to write it (default: here)")
    return parser


def _add_suite(suite: argparse.ArgumentParser) -> None:
    suite.add_argument("suite", nargs="?", metavar="NAME_OR_FILE", help="a shipped suite, or a .yaml or .jsonl file")
    suite.add_argument("--list", action="store_true", help="list the shipped suites")
    about = "model of the run (tuned, base, q4_k_m, ...) or of the endpoint; given again, models are compared"
    suite.add_argument("--model", action="append", default=[], metavar="NAME", help=about)
    suite.add_argument(
        "--weights", metavar="PLACE", help="ask these weights: GGUF file, folder, hub id, fieldwise-nano"
    )
    suite.add_argument("--endpoint", metavar="URL", help="ask an OpenAI-compatible endpoint, such as http://host/v1")
    suite.add_argument("--key-env", metavar="VAR", help="environment variable that holds the key of the endpoint")
    suite.add_argument("--max-tokens", type=_count, default=256, metavar="N", help="longest reply (default 256)")
    about = "share that must be passed, by the lower end of the interval; exit code 3 if it is not"
    suite.add_argument("--at-least", type=_share, metavar="SHARE", help=about)
    suite.add_argument("--out", type=Path, metavar="DIR", help="folder for replies and figures (default DIR/suites)")
    suite.add_argument("--force", action="store_true", help="ask again what has been answered")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 100000, found {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, found {text!r}")
    return value


def _add_data(commands: Any, common: argparse.ArgumentParser) -> None:
    data = commands.add_parser(
        "data",
        help="look at a data set of rows before training on it, or write it in another format",
        description="Look at a data set of rows before training on it, or write it in another format.",
        parents=[common],
    )
    kinds = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    about = "Report what is in a data set, what the base makes of it, and what would spoil a run (exit code 2)."
    doctor = kinds.add_parser("doctor", help="report what would spoil a run", description=about, parents=[common])
    doctor.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="JSON, JSONL, CSV or Parquet file, or a folder with train, validation, test",
    )
    doctor.add_argument("--base", default="fieldwise-nano", metavar="MODEL", help="base model (default fieldwise-nano)")
    _add_map(doctor)
    doctor.set_defaults(command=_data_doctor)

    about = "Write a data set, or the examples of a run, in another format; says what the format could not hold."
    convert = kinds.add_parser(
        "convert", help="write a data set in another format", description=about, parents=[common]
    )
    convert.add_argument("source", type=Path, metavar="SOURCE", help="file or folder of rows, or a run folder")
    convert.add_argument("--to", required=True, choices=_TARGETS, help="format to write")
    convert.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write (.jsonl, .json, .csv or .parquet); of a source with splits a folder of that name is made",
    )
    convert.add_argument("--split", metavar="NAME", help="write one split of the source")
    convert.add_argument("--force", action="store_true", help="replace what stands there")
    _add_map(convert)
    convert.set_defaults(command=_data_convert)

    about = "Write invented questions, passages and answers for a first try, from our own grammars (Apache-2.0)."
    sample = kinds.add_parser("sample", help="write invented rows for a first try", description=about, parents=[common])
    sample.add_argument("domain", metavar="DOMAIN", help="healthcare, legal or finance")
    sample.add_argument("--num-samples", type=int, default=100, metavar="N", help="how many (default 100)")
    sample.add_argument("--out", type=Path, required=True, metavar="FILE", help=".jsonl, .json, .csv or .parquet")
    sample.add_argument("--to", choices=_TARGETS, default="qa", help="format to write (default qa)")
    sample.add_argument("--seed", type=int, default=42, help="the same seed gives the same rows (default 42)")
    sample.add_argument("--force", action="store_true", help="replace what stands there")
    sample.set_defaults(command=_data_sample)

    about = "Compare two data sets: their versions, and the rows added, removed, moved and changed, by kind."
    diff = kinds.add_parser("diff", help="say what changed between two data sets", description=about, parents=[common])
    for side in ("a", "b"):
        diff.add_argument(side, type=Path, metavar=side.upper(), help="file or folder of rows, or a run folder")
    _add_map(diff)
    diff.set_defaults(command=_data_diff)


def _add_map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="the column of a field, such as question=frage; may be given again",
    )


def _common(default: bool | str) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=default, help="print the result as JSON")
    common.add_argument("--quiet", action="store_true", default=default, help="no progress on stderr")
    return common


# ---------------------------------------------------------------- run and its stages


def _recipe_for(options: argparse.Namespace, run: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe named with --config, else the one the run was made with, else the defaults."""
    from fieldwise.recipe import load_recipe

    path = (
        options.config if getattr(options, "config", None) else run.recipe_path if run.recipe_path.is_file() else None
    )
    return load_recipe(path, overrides)


def _run(options: argparse.Namespace) -> int:
    from fieldwise.pipeline import STEPS, choose, plan_all
    from fieldwise.run import RunFolder

    if options.list:
        rows = [{"number": s.number, "name": s.name, "about": s.about, "needs": list(s.inputs)} for s in STEPS]
        _print_json(rows) if options.json else print(
            "\n".join(f"{r['number']:>3}  {r['name']:10} {r['about']}" for r in rows)
        )
        return 0
    run = RunFolder(options.run)
    recipe = _recipe_for(options, run, options.overrides)
    steps = choose(options.stage, options.start, options.end)
    if options.dry_run:
        plans = plan_all(recipe, run, steps, force=options.force)
        rows = [{"step": p.step.id, "action": p.action, "reason": p.reason} for p in plans]
        costs = [p.step.estimate(recipe, run) if p.action in ("run", "wait") else None for p in plans]
        if options.json:
            _print_json([{**row, "estimate": cost} if cost else row for row, cost in zip(rows, costs, strict=True)])
        else:
            for p, cost in zip(plans, costs, strict=True):
                print(f"{p.step.number:>3}  {p.step.name:10} {p.action:8} {p.reason}")
                if cost:
                    print(f"{'':24}teacher: {cost}")
        return 2 if any(p.action == "blocked" for p in plans) else 0
    return _run_steps(options, recipe, run, steps, "run")


def _run_steps(
    options: argparse.Namespace, recipe: Recipe, run: RunFolder, steps: tuple[Step, ...], command: str
) -> int:
    from fieldwise.pipeline import require_outside, run_steps

    require_outside(recipe, run, steps)
    try:
        with run.locked(f"fieldwise {command}"):
            happened = run_steps(recipe, run, steps, force=options.force)
    except GateFailed:
        if not options.json:
            _print_table(run)  # it says which gain is not there
            print()
            _print_page(options, run)
        raise
    return _finish(options, run, happened)


def _finish(options: argparse.Namespace, run: RunFolder, happened: list[dict[str, Any]]) -> int:
    if options.json:
        _print_json({"run": str(run.path), "steps": happened})
    elif (
        any(h["step"] in ("4d_evaluate", "5c_release") for h in happened)
        and (run.path / "5_reports/report.json").exists()
    ):
        _print_table(run)
        print(f"\nRun folder: {options.run}")
        _print_page(options, run)
        if (run.path / "6_builds/release.json").exists():
            print(f"Serve it:   fieldwise serve --run {options.run}")
    else:
        if any(h["step"] == "2_prepare" for h in happened):
            _print_documents(options, run)
            print()
        print("\n".join(f"{h['step']}: {h['action']}" for h in happened))
    return 0


def _print_documents(options: argparse.Namespace, run: RunFolder) -> None:
    from fieldwise.prepare.report import PAGE, read_report
    from fieldwise.prepare.report_text import plain

    print(plain(read_report(run)), flush=True)
    if (run.path / PAGE).exists():
        print(f"Report:     {Path(options.run) / PAGE}", flush=True)


def _print_table(run: RunFolder) -> None:
    from fieldwise.evaluate.stage import read_report
    from fieldwise.evaluate.table import plain

    print(plain(read_report(run)), flush=True)


def _print_page(options: argparse.Namespace, run: RunFolder) -> None:
    if (run.path / "5_reports/report.html").exists():
        print(f"Report:     {Path(options.run) / '5_reports/report.html'}", flush=True)


def _collect(options: argparse.Namespace) -> int:
    from fieldwise.pipeline import choose
    from fieldwise.run import RunFolder

    run = RunFolder(options.run)
    mappings = [s for s in options.sources if s.startswith("{")]
    recipe = _recipe_for(options, run, [f"collect.sources=[{', '.join(mappings)}]"] if mappings else ())
    mapped = iter(recipe.collect.sources)  # checked and made absolute as those of a recipe are
    sources = tuple(next(mapped) if s.startswith("{") else _source(s) for s in options.sources)
    settings = recipe.collect.model_copy(update={"sources": sources})
    return _run_steps(options, recipe.model_copy(update={"collect": settings}), run, choose("1"), "collect")


def _source(named: str) -> str:
    """A source as named on the command line; places become absolute, addresses stay."""
    from fieldwise.collect.settings import is_other_scheme, is_url

    return named if is_url(named) or is_other_scheme(named) else str(_absolute(Path(named)))


def _absolute(path: Path) -> Path:
    with contextlib.suppress(RuntimeError):  # the home of a user that is not known: collect says it is not there
        path = path.expanduser()
    return path.absolute()


def _stage(options: argparse.Namespace) -> int:
    from fieldwise.pipeline import choose
    from fieldwise.run import RunFolder

    run = RunFolder(options.run)
    recipe = _recipe_for(options, run, options.overrides)
    ranges = {
        "prepare": ("2", "2i"),
        "generate": ("3", "3"),
        "train": ("4a", "4c"),
        "evaluate": ("4d", "4d"),
        "release": ("5a", "5c"),
    }
    start, end = ranges[options.stage_name]
    return _run_steps(options, recipe, run, choose(start=start, end=end), options.stage_name)


def _gate(options: argparse.Namespace) -> int:
    from fieldwise.evaluate import gate, gate_report
    from fieldwise.evaluate.baseline import write_baseline
    from fieldwise.files import write_text

    run, name = _standing_run(options), str(options.run)
    settings = _recipe_for(options, run, options.overrides).evaluate
    if options.save_baseline is not None:
        write_baseline(options.save_baseline, gate.to_keep(run, name, options.system))
    if options.baseline is not None:
        report = gate.against(run, options.baseline, settings, name=name, system=options.system)
    else:
        report = gate.own_gates(run, name)
    if options.junit is not None:
        write_text(options.junit, gate_report.junit(report))
    if options.markdown is not None:
        write_text(options.markdown, gate_report.markdown(report))
    _print_json(report.model_dump(mode="json")) if options.json else print(gate_report.plain(report))
    return report.exit_code


# ---------------------------------------------------------------- serving and asking


def _serve(options: argparse.Namespace) -> int:
    from fieldwise.run import RunFolder
    from fieldwise.serve.server import serve_run

    run = RunFolder(options.run)
    flags = {"serve.host": options.host, "serve.port": options.port}
    overrides = [*options.overrides, *(f"{k}={json.dumps(v)}" for k, v in flags.items() if v is not None)]
    recipe = _recipe_for(options, run, overrides)
    return serve_run(run, recipe.serve, recipe.retrieve, options.model or recipe.release.serve)


def _ask(options: argparse.Namespace) -> int:
    from fieldwise.recipe import load_recipe
    from fieldwise.records import Message
    from fieldwise.run import RunFolder
    from fieldwise.serve.backend import open_backend

    is_text = not any("\ud800" <= c <= "\udfff" for c in options.question)  # bytes that are not UTF-8
    if not options.question.strip() or not is_text:
        raise FieldwiseError(
            "this is no question", where="ask", found=ascii(options.question), fix="Put the question in quotes."
        )
    run = RunFolder(options.run)
    recipe = load_recipe(run.require("recipe.yaml", "run"))
    with open_backend(run, recipe.serve, recipe.retrieve, options.model or recipe.release.serve) as backend:
        answer = next(iter(backend.answerer().answer_all([(Message(role="user", content=options.question),)])))
    if options.json:
        _print_json(answer.model_dump(mode="json"))
        return 0
    print(answer.text)
    for citation in answer.citations:
        page = f", page {citation.page}" if citation.page else ""
        print(
            f"  [{citation.mark}] {citation.uri}{page}: {' '.join(citation.quote.split())}"
            + ("" if citation.is_verified else "  (not found word for word)")
        )
    return 0


# ---------------------------------------------------------------- comparing


def _compare(options: argparse.Namespace) -> int:
    from fieldwise.compare.comparison import open_comparison
    from fieldwise.compare.dialogue import vote_in_terminal
    from fieldwise.compare.votes import LEDGER, BallotBox
    from fieldwise.run import RunFolder

    run = RunFolder(options.run)
    comparison = open_comparison(run, options.left, options.right, options.seed)
    box = BallotBox(run.path / LEDGER, comparison)
    voter, kept, is_done = vote_in_terminal(box, options.voter, sys.stdin, sys.stderr)
    if options.json:
        _print_json({"voter": voter, "votes": kept, "is_done": is_done, "file": str(box.path)})
    else:
        ended = "All is voted on. " if is_done else ""
        again = shlex.join(["fieldwise", "votes", "--run", str(options.run)])
        print(f"{ended}{kept} vote{'s' if kept != 1 else ''} of {voter} kept in {box.path}. The result: {again}")
    return 0


def _votes(options: argparse.Namespace) -> int:
    from fieldwise.compare import report as vote_report
    from fieldwise.compare.comparison import open_comparison
    from fieldwise.compare.votes import LEDGER, read_votes
    from fieldwise.run import RunFolder

    if not 0 < options.width < 1:
        raise FieldwiseError(
            "the width of an interval lies between 0 and 1", where="--width", found=options.width, fix="Try 0.2."
        )
    run = RunFolder(options.run)
    comparison = open_comparison(run, options.left, options.right)
    counted = vote_report.count_votes(comparison, read_votes(run.path / LEDGER), options.without)
    if options.export is not None:
        return _export_votes(options, comparison, counted)
    result = vote_report.report(comparison, counted, options.width)
    if options.json:
        _print_json({**result.model_dump(mode="json"), "is_enough": result.is_enough})
    else:
        print(vote_report.plain(result))
    return 0


def _export_votes(options: argparse.Namespace, comparison: Comparison, counted: Counted) -> int:
    from fieldwise.compare.pairs import preference_pairs, write_pairs
    from fieldwise.progress import say

    exported = preference_pairs(comparison, counted.standing.counted)
    write_pairs(options.export, exported.pairs)
    if options.json:
        _print_json({"file": str(options.export), "pairs": len(exported.pairs), "left_out": exported.left_out})
    else:
        left_out = "".join(f"; {n} left out: {reason}" for reason, n in exported.left_out.items())
        print(f"Wrote {len(exported.pairs)} preference pairs to {options.export}{left_out}.")
    say("  A model trained on these pairs must be measured on other questions than those voted on.")
    return 0


def _suite(options: argparse.Namespace) -> int:
    from fieldwise.suite.reading import open_suite, shipped

    if options.list:
        suites = [open_suite(name) for name in shipped()]
        if options.json:
            _print_json(
                [{"name": s.name, "version": s.version, "items": len(s.items), "about": s.about} for s in suites]
            )
        else:
            print("\n".join(f"{s.name:12} {len(s.items):3} items  {' '.join(s.about.split())}" for s in suites))
        return 0
    if options.suite is None:
        raise FieldwiseError("which suite?", where="suite", fix=f"Name a file, or one of: {', '.join(shipped())}.")
    suite = open_suite(options.suite)
    from fieldwise.suite.command import Source, figures, run_suite
    from fieldwise.suite.report import plain

    models = tuple(dict.fromkeys(options.model))
    source = Source(options.run, models, options.weights, options.endpoint, options.key_env, options.max_tokens)
    results, folder = run_suite(suite, source, options.out, at_least=options.at_least, forget=options.force)
    if options.json:
        _print_json({"folder": str(folder), "models": [figures(r) for r in results]})
    else:
        print(plain(results))
        print(f"\nReport:     {folder / 'report.md'}")
    return 3 if any(r.verdict in ("FAIL", "INCONCLUSIVE") for r in results) else 0


# ---------------------------------------------------------------- looking


def _standing_run(options: argparse.Namespace) -> RunFolder:
    from fieldwise.run import RunFolder

    run = RunFolder(options.run)
    if not run.recipe_path.is_file():
        raise FieldwiseError(
            "no run stands here",
            where=options.run,
            fix="Start one with: fieldwise run --config recipe.yaml --run DIR, or name another folder with --run.",
        )
    return run


def _status(options: argparse.Namespace) -> int:
    from fieldwise.pipeline import STEPS, plan_all

    run = _standing_run(options)
    recipe = _recipe_for(options, run)
    plans = plan_all(recipe, run, STEPS)
    rows = []
    for plan in plans:
        manifest = run.manifest(plan.step.id)
        state = "missing" if manifest is None else {"skip": "done", "blocked": "unknown"}.get(plan.action, "stale")
        rows.append(
            {
                "number": plan.step.number,
                "name": plan.step.name,
                "state": state,
                "reason": plan.reason,
                "seconds": manifest.seconds if manifest else None,
                "facts": manifest.facts if manifest else {},
            }
        )
    if options.json:
        _print_json({"run": str(run.path), "recipe": recipe.name, "base": recipe.base.model, "steps": rows})
        return 0
    print(f"{recipe.name}, base {recipe.base.model}, {options.run}")
    for row in rows:
        print(
            f"{row['number']:>3}  {row['name']:10} {row['state']:8} "
            + (f"{row['seconds']:.1f} s" if row["state"] == "done" else str(row["reason"]))
        )
    return 0


def _documents(options: argparse.Namespace) -> int:
    from fieldwise.prepare.report import read_report

    run = _standing_run(options)
    if options.json:
        _print_json(read_report(run).model_dump(mode="json"))
    else:
        _print_documents(options, run)
    return 0


def _validate(options: argparse.Namespace) -> int:
    from fieldwise.recipe import load_recipe, missing_places

    recipe = load_recipe(options.recipe, options.overrides)
    if missing := missing_places(recipe):
        raise RecipeError(missing, where=options.recipe)
    if options.json:
        _print_json({"valid": True, "recipe": recipe.model_dump(mode="json")})
    else:
        print(
            f"{options.recipe}: valid. Model {recipe.name}, base {recipe.base.model}, {len(recipe.collect.sources)} source{'s' if len(recipe.collect.sources) != 1 else ''}."
        )
    return 0


def _trace(options: argparse.Namespace) -> int:
    from fieldwise.lineage import Lineage

    lineage = Lineage(_standing_run(options))
    node = lineage.find(options.id)
    up, down = lineage.upward(node), lineage.downward(node)
    if options.json:
        _print_json(
            {
                "node": node._asdict(),
                "made_from": {k: [n._asdict() for n in v] for k, v in up.items()},
                "used_in": {k: [n._asdict() for n in v] for k, v in down.items()},
            }
        )
        return 0
    print(f"{node.kind} {node.id}: {node.label}")
    for title, found in (("made from", up), ("used in", down)):
        for kind, nodes in found.items():
            print(f"  {title} {len(nodes)} {kind}{'s' if len(nodes) != 1 else ''}")
            for other in nodes if options.all else nodes[:5]:
                print(f"    {other.id}  {other.label}")
            if len(nodes) > 5 and not options.all:
                print(f"    ... {len(nodes) - 5} more (--all)")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from fieldwise.doctor import examine

    findings = examine(options.run)
    if options.json:
        _print_json([f._asdict() for f in findings])
    else:
        for finding in findings:
            print(
                f"{finding.state:8} {finding.area:10} {finding.name:20} {finding.value}"
                + (f"\n{'':40} {finding.fix}" if finding.fix else "")
            )
    return 2 if any(f.state == "problem" for f in findings) else 0


def _data_doctor(options: argparse.Namespace) -> int:
    from fieldwise.data.doctor import examine
    from fieldwise.data.rendering import Base
    from fieldwise.data.report import plain
    from fieldwise.rows.formats import parse_map

    mapped = parse_map(options.map)
    report = examine(options.path, Base.named(options.base), mapped)
    if options.json:
        _print_json(report.to_json())
    else:
        print(plain(report, colour=sys.stdout.isatty()))
    return 0 if report.is_fit else 2


def _data_convert(options: argparse.Namespace) -> int:
    from fieldwise.data.conversion import convert_set
    from fieldwise.rows.formats import parse_map

    mapped = parse_map(options.map)
    done = convert_set(options.source, options.to, options.out, mapped, split=options.split, force=options.force)
    _print_json(done.to_json()) if options.json else print(done.plain())
    return 0


def _data_sample(options: argparse.Namespace) -> int:
    from fieldwise.data.sample import LABELS, write_sample

    count = options.num_samples
    rows = write_sample(options.domain, count, options.out, options.to, options.seed, force=options.force)
    if options.json:
        _print_json({"file": str(options.out), "to": options.to, "rows": rows, "seed": options.seed, **LABELS})
    else:
        print(f"wrote      {options.out}: {rows:,} rows as {options.to}, all invented; licence {LABELS['licence']}")
    return 0


def _data_diff(options: argparse.Namespace) -> int:
    from fieldwise.data.versions import difference
    from fieldwise.rows.formats import parse_map

    found = difference(options.a, options.b, parse_map(options.map))
    _print_json(found.to_json()) if options.json else print(found.plain())
    return 0


def _init(options: argparse.Namespace) -> int:
    from fieldwise.starter import init

    path = init(options.domain, options.folder)
    if options.json:
        _print_json({"recipe": str(path), "documents": str(path.parent / "documents")})
    else:
        command = shlex.join(["fieldwise", "run", "--config", str(path), "--run", f"runs/{options.domain}"])
        print(f"Wrote {path}. Put your documents into {path.parent / 'documents'}, then: {command}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
