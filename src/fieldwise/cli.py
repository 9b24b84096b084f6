"""The command line: one command per stage, plus run, status, documents, validate, trace, ask, gate, doctor, data and init.

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
    from fieldwise.pipeline import Step
    from fieldwise.recipe import Recipe
    from fieldwise.run import RunFolder

DEFAULT_RUN = Path("runs/default")
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
        help="read folders, files or web addresses into a run",
        description="Read folders, files or web addresses into a run.",
        parents=[common, place],
    )
    collect.add_argument("sources", nargs="+", metavar="SOURCE", help="folders, files, patterns or http(s) addresses")
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


def _add_data(commands: Any, common: argparse.ArgumentParser) -> None:
    data = commands.add_parser(
        "data",
        help="look at a data set of rows before training on it",
        description="Look at a data set of rows before training on it.",
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
    doctor.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="the column of a field, such as question=frage; may be given again",
    )
    doctor.set_defaults(command=_data_doctor)


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
        if options.json:
            _print_json([{"step": p.step.id, "action": p.action, "reason": p.reason} for p in plans])
        else:
            print("\n".join(f"{p.step.number:>3}  {p.step.name:10} {p.action:8} {p.reason}" for p in plans))
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
    recipe = _recipe_for(options, run)
    settings = recipe.collect.model_copy(update={"sources": tuple(_source(s) for s in options.sources)})
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
    from fieldwise.data.formats import parse_map
    from fieldwise.data.rendering import Base
    from fieldwise.data.report import plain

    mapped = parse_map(options.map)
    report = examine(options.path, Base.named(options.base), mapped)
    if options.json:
        _print_json(report.to_json())
    else:
        print(plain(report, colour=sys.stdout.isatty()))
    return 0 if report.is_fit else 2


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
