"""Commands that look and change nothing: status, documents, trace, doctor."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for, standing_run

if TYPE_CHECKING:
    from fieldwise.run import RunFolder


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    shared = (parents.common, parents.place)
    add_command(commands, "status", _status, "show what stands in a run folder", *shared)
    about = "show what came in, what was dropped and why, and what the documents of a run are"
    add_command(commands, "documents", _documents, about, *shared)
    about = "follow a document, chunk, example, adapter or file through a run, both ways"
    trace = add_command(commands, "trace", _trace, about, *shared)
    trace.add_argument("id", help="id, file name of a document, or name of a built file")
    trace.add_argument("--all", action="store_true", help="list everything instead of the first few")
    add_command(commands, "doctor", _doctor, "look at the machine and the installed libraries", *shared)


def _status(options: argparse.Namespace) -> int:
    from fieldwise.pipeline import plan_all
    from fieldwise.steps import STEPS

    run = standing_run(options)
    recipe = recipe_for(options, run)
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
        print_json({"run": str(run.path), "recipe": recipe.name, "base": recipe.base.model, "steps": rows})
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

    run = standing_run(options)
    if options.json:
        print_json(read_report(run).model_dump(mode="json"))
    else:
        print_documents(options, run)
    return 0


def print_documents(options: argparse.Namespace, run: RunFolder) -> None:
    """Print the report of documents and where its page stands."""
    from fieldwise.prepare.report import PAGE, read_report
    from fieldwise.prepare.report_text import plain

    print(plain(read_report(run)), flush=True)
    if (run.path / PAGE).exists():
        print(f"Report:     {Path(options.run) / PAGE}", flush=True)


def _trace(options: argparse.Namespace) -> int:
    from fieldwise.lineage import Lineage

    lineage = Lineage(standing_run(options))
    node = lineage.find(options.id)
    up, down = lineage.upward(node), lineage.downward(node)
    if options.json:
        print_json(
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
        print_json([f._asdict() for f in findings])
    else:
        for finding in findings:
            print(
                f"{finding.state:8} {finding.area:10} {finding.name:20} {finding.value}"
                + (f"\n{'':40} {finding.fix}" if finding.fix else "")
            )
    return 2 if any(f.state == "problem" for f in findings) else 0
