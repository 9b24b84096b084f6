"""`fieldwise compare` and `fieldwise votes`: people vote blind between two answers, and what their votes say."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json
from fieldwise.errors import FieldwiseError

if TYPE_CHECKING:
    from fieldwise.compare.comparison import Comparison
    from fieldwise.compare.report import Counted


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    compared = argparse.ArgumentParser(add_help=False)
    compared.add_argument(
        "--left", metavar="SYSTEM", help="a system of the run, such as rag_base, or a predictions file"
    )
    compared.add_argument("--right", metavar="SYSTEM", help="the other; without both, every pair of the run's systems")
    shared = (parents.common, parents.place, compared)
    compare = add_command(commands, "compare", _compare, "vote blind between the answers of two systems", *shared)
    compare.add_argument(
        "--voter", metavar="NAME", help="your name or a code, kept with every vote; asked for without it"
    )
    compare.add_argument("--seed", type=int, default=0, help="draws the order and the sides (default 0)")
    about = "show what the votes of blind comparisons say, or export them"
    votes = add_command(commands, "votes", _votes, about, *shared)
    votes.add_argument("--width", type=float, default=0.2, help="width of the interval that is enough (default 0.2)")
    votes.add_argument(
        "--without", action="append", default=[], metavar="VOTER", help="leave a voter out; may be given again"
    )
    votes.add_argument("--export", type=Path, metavar="FILE", help="write the votes as preference pairs, JSON Lines")


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
        print_json({"voter": voter, "votes": kept, "is_done": is_done, "file": str(box.path)})
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
        print_json({**result.model_dump(mode="json"), "is_enough": result.is_enough})
    else:
        print(vote_report.plain(result))
    return 0


def _export_votes(options: argparse.Namespace, comparison: Comparison, counted: Counted) -> int:
    from fieldwise.compare.pairs import preference_pairs, write_pairs
    from fieldwise.progress import say

    exported = preference_pairs(comparison, counted.standing.counted)
    write_pairs(options.export, exported.pairs)
    if options.json:
        print_json({"file": str(options.export), "pairs": len(exported.pairs), "left_out": exported.left_out})
    else:
        left_out = "".join(f"; {n} left out: {reason}" for reason, n in exported.left_out.items())
        print(f"Wrote {len(exported.pairs)} preference pairs to {options.export}{left_out}.")
    say("  A model trained on these pairs must be measured on other questions than those voted on.")
    return 0
