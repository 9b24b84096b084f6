"""`fieldwise gate`: a run against its own gates, or against an earlier run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for, standing_run


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
    gate.add_argument("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")
    gate.add_argument("--markdown", type=Path, metavar="FILE", help="write the result as Markdown")


def _gate(options: argparse.Namespace) -> int:
    from fieldwise.evaluate import gate, gate_report
    from fieldwise.evaluate.baseline import write_baseline
    from fieldwise.files import write_text

    run, name = standing_run(options), str(options.run)
    settings = recipe_for(options, run, options.overrides).evaluate
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
    print_json(report.model_dump(mode="json")) if options.json else print(gate_report.plain(report))
    return report.exit_code
