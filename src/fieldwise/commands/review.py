"""`fieldwise review`: a page or a sheet to review training examples by hand, and a look at a sheet that came back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for, standing_run
from fieldwise.errors import FieldwiseError

_ABOUT = "write a page or a sheet to review the training examples of a run by hand, or check one that came back"
_PAGE = "review.html"


def add(commands: Any, parents: Parents) -> None:
    """Add the command to the parser."""
    review = add_command(commands, "review", _review, _ABOUT, parents.common, parents.place)
    review.add_argument(
        "--out", type=Path, metavar="FILE", help=f"page to write, one HTML file without a server (default RUN/{_PAGE})"
    )
    review.add_argument("--csv", type=Path, metavar="FILE", help="write a sheet for a spreadsheet instead")
    review.add_argument(
        "--check", type=Path, metavar="FILE", help="say what an edited sheet would do, and change nothing"
    )
    review.add_argument(
        "--split", action="append", choices=("train", "validation", "test"), help="only this split; may be given again"
    )
    review.add_argument("--sample", type=int, metavar="N", help="so many pairs, drawn at random")


def _review(options: argparse.Namespace) -> int:
    run = standing_run(options)
    if options.check is not None:
        return _check(options)
    if options.sample is not None and options.sample < 1:
        raise FieldwiseError("a sample has at least one pair", where="--sample", found=options.sample, fix="Try 100.")
    from fieldwise.data.review_page import review_page
    from fieldwise.data.review_sheet import SPLITS, open_review, write_sheet
    from fieldwise.files import write_text

    review = open_review(run, options.split or SPLITS, options.sample, recipe_for(options, run).seed)
    path = options.csv or options.out or Path(options.run) / _PAGE
    if options.csv is not None:
        write_sheet(path, review)
    else:
        write_text(path, review_page(review))
    if options.json:
        print_json({"file": str(path), "pairs": len(review.items), "left_out": review.left})
    else:
        print(
            f"Wrote {len(review.items)} pairs to {path}. When it is filled: generate.review={path if options.csv else 'review.csv'}"
        )
    return 0


def _check(options: argparse.Namespace) -> int:
    """Read a sheet against the examples as they stand; the run that takes it reads it against the same."""
    from fieldwise.data.review_sheet import SPLITS
    from fieldwise.files import read_json
    from fieldwise.generate.review import apply, read_sheet
    from fieldwise.hashing import sha256_file
    from fieldwise.records import Chunk, Example
    from fieldwise.tables import read_records

    run = standing_run(options)
    if not options.check.is_file():
        raise FieldwiseError(
            "the review sheet is not there", where="--check", found=options.check, fix="Check the name."
        )
    card, digest = read_json(run.require("3_examples/card.json", "generate")), sha256_file(options.check)
    applied = card.get("review")
    if any(isinstance(r, dict) and r.get("sha256") == digest for r in (applied if isinstance(applied, list) else ())):
        told = "these examples hold what this sheet decides already"
        print_json({"applied": True}) if options.json else print(f"{options.check}: {told}")
        return 0
    examples = [e for s in SPLITS for e in read_records(run.require(f"3_examples/{s}.parquet", "generate"), Example)]
    chunks = read_records(run.require("2_chunks/chunks.parquet", "prepare"), Chunk)
    found = apply(read_sheet(options.check, {e.id: e for e in examples}), examples, chunks)
    problems = [r for r in found.rejected if r.reason != "reviewed_drop"]
    if options.json:
        print_json({**found.facts, "problems": [r.model_dump(mode="json") for r in problems]})
    else:
        facts = found.facts
        print(
            f"{options.check}: {facts['rows_decided']} rows decide {facts['kept']} examples to keep, {facts['fixed']} to fix and {facts['dropped']} to drop; {facts['rows_untouched']} rows untouched"
        )
        print("\n".join(f"  {r.item}: {r.reason}: {r.detail}" for r in problems) or "  every line can be used")
    return 2 if problems else 0
