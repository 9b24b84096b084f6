"""`fieldwise data`: rows looked at, converted, made up for a first try, compared."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, print_json

if TYPE_CHECKING:
    from fieldwise.data.contamination import Benchmark

TARGETS = ("chat", "alpaca", "sharegpt", "prompt-completion", "qa", "preference", "kto")


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    data = commands.add_parser(
        "data",
        help="look at a data set of rows before training on it, or write it in another format",
        description="Look at a data set of rows before training on it, or write it in another format.",
        parents=[parents.common],
    )
    kinds = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_doctor(kinds, parents)
    _add_convert(kinds, parents)
    _add_sample(kinds, parents)
    _add_card(kinds, parents)
    _add_diff(kinds, parents)


def _add_doctor(kinds: Any, parents: Parents) -> None:
    about = "Report what is in a data set, what the base makes of it, and what would spoil a run (exit code 2)."
    doctor = kinds.add_parser(
        "doctor", help="report what would spoil a run", description=about, parents=[parents.common]
    )
    doctor.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="JSON, JSONL, CSV or Parquet file, or a folder with train, validation, test",
    )
    doctor.add_argument("--base", default="fieldwise-nano", metavar="MODEL", help="base model (default fieldwise-nano)")
    doctor.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME_OR_FILE",
        help="questions that must not be trained on: a shipped suite, or a file of rows; may be given again",
    )
    doctor.add_argument("--embed", action="store_true", help="compare splits, and --against, in meaning too")
    doctor.add_argument("--html", type=Path, metavar="FILE", help="write the report as a page")
    _add_map(doctor)
    doctor.set_defaults(command=_data_doctor)


def _add_convert(kinds: Any, parents: Parents) -> None:
    about = "Write a data set, or the examples of a run, in another format; says what the format could not hold."
    convert = kinds.add_parser(
        "convert", help="write a data set in another format", description=about, parents=[parents.common]
    )
    convert.add_argument("source", type=Path, metavar="SOURCE", help="file or folder of rows, or a run folder")
    convert.add_argument("--to", required=True, choices=TARGETS, help="format to write")
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


def _add_sample(kinds: Any, parents: Parents) -> None:
    about = "Write invented questions, passages and answers for a first try, from our own grammars (Apache-2.0)."
    sample = kinds.add_parser(
        "sample", help="write invented rows for a first try", description=about, parents=[parents.common]
    )
    sample.add_argument("domain", metavar="DOMAIN", help="healthcare, legal or finance")
    sample.add_argument("--num-samples", type=int, default=100, metavar="N", help="how many (default 100)")
    sample.add_argument("--out", type=Path, required=True, metavar="FILE", help=".jsonl, .json, .csv or .parquet")
    sample.add_argument("--to", choices=TARGETS, default="qa", help="format to write (default qa)")
    sample.add_argument("--seed", type=int, default=42, help="the same seed gives the same rows (default 42)")
    sample.add_argument("--force", action="store_true", help="replace what stands there")
    sample.set_defaults(command=_data_sample)


def _add_card(kinds: Any, parents: Parents) -> None:
    about = (
        "Write what a data set is as Markdown: version, splits, kinds, terms, how it was made, what was found in it."
    )
    card = kinds.add_parser("card", help="write the card of a data set", description=about, parents=[parents.common])
    card.add_argument("path", type=Path, metavar="PATH", help="file or folder of rows, or a run folder")
    card.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="Markdown file to write, such as README.md"
    )
    card.add_argument("--name", help="title of the card (default: the name of the file or folder)")
    card.add_argument("--licence", metavar="TEXT", help="terms under which the rows stand")
    card.add_argument("--base", default="fieldwise-nano", metavar="MODEL", help="base model (default fieldwise-nano)")
    card.add_argument("--force", action="store_true", help="replace what stands there")
    _add_map(card)
    card.set_defaults(command=_data_card)


def _add_diff(kinds: Any, parents: Parents) -> None:
    about = "Compare two data sets: their versions, and the rows added, removed, moved and changed, by kind."
    diff = kinds.add_parser(
        "diff", help="say what changed between two data sets", description=about, parents=[parents.common]
    )
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


def _data_doctor(options: argparse.Namespace) -> int:
    from fieldwise.data.doctor import examine
    from fieldwise.data.doctor_page import page
    from fieldwise.data.rendering import Base
    from fieldwise.data.report import plain
    from fieldwise.files import write_text
    from fieldwise.rows.schema import parse_map

    mapped = parse_map(options.map)
    against = [_benchmark(named) for named in options.against]
    report = examine(options.path, Base.named(options.base), mapped, against=against, embed=options.embed)
    if options.html is not None:
        write_text(options.html, page(report))
    if options.json:
        print_json(report.to_json())
    else:
        print(plain(report, colour=sys.stdout.isatty()))
    return 0 if report.is_fit else 2


def _data_card(options: argparse.Namespace) -> int:
    from fieldwise.data.card import data_card, origin_of
    from fieldwise.data.doctor import examine
    from fieldwise.data.rendering import Base
    from fieldwise.errors import DatasetError
    from fieldwise.files import write_text
    from fieldwise.rows.schema import parse_map

    if options.out.exists() and not options.force:
        raise DatasetError(
            "something stands there already", where=options.out, fix="Name another file, or add --force."
        )
    report = examine(options.path, Base.named(options.base), parse_map(options.map))
    name = options.name or options.path.resolve().name
    text = data_card(report, name, licence=options.licence, origin=origin_of(options.path))
    write_text(options.out, text)
    if options.json:
        print_json({"file": str(options.out), "version": report.version, "fit": report.is_fit})
    else:
        print(f"wrote      {options.out}: card of {report.version}")
    return 0


def _benchmark(named: str) -> Benchmark:
    from fieldwise.data.contamination import Benchmark, BenchmarkItem, read_benchmark
    from fieldwise.suite.reading import open_suite, shipped

    if named not in shipped() and Path(named).suffix not in (".yaml", ".yml"):
        return read_benchmark(Path(named))
    suite = open_suite(named)
    return Benchmark(suite.name, tuple(BenchmarkItem(i.id, i.asked) for i in suite.items))


def _data_convert(options: argparse.Namespace) -> int:
    from fieldwise.data.conversion import convert_set
    from fieldwise.rows.schema import parse_map

    mapped = parse_map(options.map)
    done = convert_set(options.source, options.to, options.out, mapped, split=options.split, force=options.force)
    print_json(done.to_json()) if options.json else print(done.plain())
    return 0


def _data_sample(options: argparse.Namespace) -> int:
    from fieldwise.data.sample import LABELS, write_sample

    count = options.num_samples
    rows = write_sample(options.domain, count, options.out, options.to, options.seed, force=options.force)
    if options.json:
        print_json({"file": str(options.out), "to": options.to, "rows": rows, "seed": options.seed, **LABELS})
    else:
        print(f"wrote      {options.out}: {rows:,} rows as {options.to}, all invented; licence {LABELS['licence']}")
    return 0


def _data_diff(options: argparse.Namespace) -> int:
    from fieldwise.data.versions import difference
    from fieldwise.rows.schema import parse_map

    found = difference(options.a, options.b, parse_map(options.map))
    print_json(found.to_json()) if options.json else print(found.plain())
    return 0
