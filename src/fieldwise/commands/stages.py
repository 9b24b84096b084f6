"""`fieldwise run` and one command a stage: what is up to date is skipped, the report is printed at the end."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for
from fieldwise.commands.looking import print_documents
from fieldwise.errors import GateFailed

if TYPE_CHECKING:
    from fieldwise.recipe import Recipe
    from fieldwise.run import RunFolder
    from fieldwise.steps import Step

_RANGES = {
    "prepare": ("2", "2i"),
    "generate": ("3", "3"),
    "train": ("4a", "4c"),
    "evaluate": ("4d", "4d"),
    "release": ("5a", "5c"),
}


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    about = "run the stages of a recipe; what is up to date is skipped"
    run = add_command(commands, "run", _run, about, *parents)
    run.add_argument("--stage", metavar="STAGE", help="run one stage: a number such as 4b or 4, or a name")
    run.add_argument("--start", metavar="STAGE", help="first stage of a range")
    run.add_argument("--end", metavar="STAGE", help="last stage of a range")
    run.add_argument("--force", action="store_true", help="run even what is up to date")
    run.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    run.add_argument("--list", action="store_true", help="list the stages")

    about = "read folders, files, web addresses or rows of data sets into a run"
    collect = add_command(commands, "collect", _collect, about, parents.common, parents.place)
    collect.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, files, patterns or http(s) addresses; in braces, a source as in a recipe: '{rows: faq.csv}'",
    )
    collect.add_argument("--config", type=Path, metavar="FILE", help="recipe file")
    collect.add_argument("--force", action="store_true", help="run even if up to date")
    for name, about in (
        ("prepare", "clean and cut the documents, and index them"),
        ("generate", "make training examples"),
        ("train", "measure the base, fine-tune, choose"),
        ("evaluate", "measure all systems and judge the gates"),
        ("release", "merge, convert, quantise, prove parity"),
    ):
        made = add_command(commands, name, _stage, about, *parents)
        made.add_argument("--force", action="store_true", help="run even if up to date")
        made.set_defaults(stage_name=name)


def _run(options: argparse.Namespace) -> int:
    from fieldwise.pipeline import choose, plan_all
    from fieldwise.run import RunFolder
    from fieldwise.steps import STEPS

    if options.list:
        rows = [{"number": s.number, "name": s.name, "about": s.about, "needs": list(s.inputs)} for s in STEPS]
        print_json(rows) if options.json else print(
            "\n".join(f"{r['number']:>3}  {r['name']:10} {r['about']}" for r in rows)
        )
        return 0
    run = RunFolder(options.run)
    recipe = recipe_for(options, run, options.overrides)
    steps = choose(options.stage, options.start, options.end)
    if options.dry_run:
        plans = plan_all(recipe, run, steps, force=options.force)
        rows = [{"step": p.step.id, "action": p.action, "reason": p.reason} for p in plans]
        costs = [p.step.estimate(recipe, run) if p.action in ("run", "wait") else None for p in plans]
        if options.json:
            print_json([{**row, "estimate": cost} if cost else row for row, cost in zip(rows, costs, strict=True)])
        else:
            for p, cost in zip(plans, costs, strict=True):
                print(f"{p.step.number:>3}  {p.step.name:10} {p.action:8} {p.reason}")
                for line in (cost or "").splitlines():
                    print(f"{'':24}{line}")
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
        print_json({"run": str(run.path), "steps": happened})
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
            print_documents(options, run)
            print()
        print("\n".join(f"{h['step']}: {h['action']}" for h in happened))
    return 0


def _print_table(run: RunFolder) -> None:
    from fieldwise.evaluate.kept import read_report
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
    recipe = recipe_for(options, run, [f"collect.sources=[{', '.join(mappings)}]"] if mappings else ())
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
    recipe = recipe_for(options, run, options.overrides)
    ranges = {
        "prepare": ("2", "2i"),
        "generate": ("3", "3"),
        "train": ("4a", "4c"),
        "evaluate": ("4d", "4d"),
        "release": ("5a", "5c"),
    }
    start, end = ranges[options.stage_name]
    return _run_steps(options, recipe, run, choose(start=start, end=end), options.stage_name)
