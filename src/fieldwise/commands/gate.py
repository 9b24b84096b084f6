"""`fieldwise gate`: a run against its own gates, or against an earlier run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for, standing_run
from fieldwise.errors import FieldwiseError

if TYPE_CHECKING:
    from fieldwise.evaluate.gate import GateReport
    from fieldwise.retrieve.settings import RetrieveSettings
    from fieldwise.run import RunFolder


def add(commands: Any, parents: Parents) -> None:
    """Add the command to the parser."""
    about = "judge a run by its own gates, or against an earlier run on the same questions"
    gate = add_command(commands, "gate", _gate, about, *parents)
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
    about = "with --baseline DIR: add the questions that were answered there and are not here to this suite (.yaml)"
    gate.add_argument("--save-suite", type=Path, metavar="FILE", help=about)
    about = "another run of the same weights on the same questions; with two or more, says which answers come and go"
    gate.add_argument("--repeat", type=Path, action="append", default=[], metavar="DIR", help=about)
    about = "write what --repeat found flaky into this file, with evidence and an expiry in 30 days"
    gate.add_argument("--quarantine", type=Path, metavar="FILE", help=about)
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")
    gate.add_argument("--markdown", type=Path, metavar="FILE", help="write the result as Markdown")


def _gate(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from fieldwise.evaluate import gate, gate_report
    from fieldwise.evaluate.baseline import write_baseline
    from fieldwise.evaluate.quarantine import NONE, read_quarantine
    from fieldwise.files import write_text

    run, name = standing_run(options), str(options.run)
    recipe = recipe_for(options, run, options.overrides)
    settings = recipe.evaluate
    if options.repeat or options.quarantine is not None:
        return _repeated(options, run, name)
    if options.save_suite is not None and (options.baseline is None or not options.baseline.is_dir()):
        raise FieldwiseError(
            "what was lost shows beside the answers of an earlier run",
            where="--save-suite",
            found="no --baseline" if options.baseline is None else f"--baseline {options.baseline}, no run folder",
            fix="Name the folder of the earlier run: --baseline DIR",
        )
    if options.save_baseline is not None:
        write_baseline(options.save_baseline, gate.to_keep(run, name, options.system, settings.nli))
    if options.baseline is not None:
        today = datetime.now(UTC).date()
        kept = NONE if settings.quarantine is None else read_quarantine(Path(settings.quarantine), today)
        report = gate.against(run, options.baseline, settings, name=name, system=options.system, quarantine=kept)
        if options.save_suite is not None:
            _keep_lost(options, run, report, recipe.retrieve)
    else:
        from fieldwise.compare.judge_gate import judged_release
        from fieldwise.suite.release_page import write_release_page

        judged = judged_release(run, settings.judge_at_least)
        gates, advice = (judged.gates, judged.advice) if judged is not None else ((), "")
        told = None if judged is None else judged.model_dump(mode="json")
        write_release_page(run, recipe.name, has_suites=bool(settings.suites), judged=told)
        report = gate.own_gates(run, name, has_suites=bool(settings.suites), judged=gates, advice=advice)
    if options.junit is not None:
        write_text(options.junit, gate_report.junit(report))
    if options.markdown is not None:
        write_text(options.markdown, gate_report.markdown(report))
    print_json(report.model_dump(mode="json")) if options.json else print(gate_report.plain(report))
    return report.exit_code


def _keep_lost(options: argparse.Namespace, run: RunFolder, report: GateReport, retrieve: RetrieveSettings) -> None:
    """Keep what was lost as a suite."""
    from fieldwise.progress import say
    from fieldwise.run import RunFolder
    from fieldwise.suite.lost import keep_lost

    lost = [f.id for f in report.lost]
    kept = keep_lost(options.save_suite, run, RunFolder(options.baseline), str(report.system), lost, retrieve)
    told = f"{kept.new} of {len(lost)} lost questions were answered before and are new in {options.save_suite}"
    say(
        f"{told}, which holds {kept.items}" if kept.items else f"none of {len(lost)} lost questions was answered before"
    )


def _repeated(options: argparse.Namespace, run: RunFolder, name: str) -> int:
    """Measure which answers differ between runs that should not."""
    from datetime import UTC, datetime

    from fieldwise.evaluate.gate import repeated
    from fieldwise.evaluate.quarantine import LEAST_SAMPLES, QUESTIONS, flaky_items, keep

    runs = 1 + len(options.repeat)
    if runs < LEAST_SAMPLES:
        raise FieldwiseError(
            "too few runs to call a question flaky",
            where="--repeat",
            found=f"{runs} runs",
            fix=f"Name at least {LEAST_SAMPLES - 1} others.",
        )
    found = repeated(run, options.repeat, name=name, system=options.system)
    how = f"{runs} runs of {options.system or 'the released system'}"
    flaky = flaky_items(QUESTIONS, found, how=how, measured=datetime.now(UTC).date(), days=30)
    if options.quarantine is not None:
        keep(options.quarantine, QUESTIONS, flaky)
    if options.json:
        print_json({"questions": len(found), "runs": runs, "flaky": [f.model_dump(mode="json") for f in flaky]})
    else:
        print(f"{len(flaky)} of {len(found)} questions are answered in some of {runs} runs and not in others")
        print("".join(f"  {f.item}: {f.passed} of {f.of}\n" for f in flaky), end="")
    return 0
