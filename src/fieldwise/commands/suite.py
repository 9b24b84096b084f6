"""`fieldwise suite`: any model through prepared questions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fieldwise.commands.common import Parents, add_command, print_json
from fieldwise.errors import FieldwiseError


def add(commands: Any, parents: Parents) -> None:
    """Add the command to the parser."""
    about = "put the released model, any weights or an endpoint through a suite of prepared questions"
    suite = add_command(commands, "suite", _suite, about, parents.common, parents.place)
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


def _suite(options: argparse.Namespace) -> int:
    from fieldwise.suite.reading import open_suite, shipped

    if options.list:
        suites = [open_suite(name) for name in shipped()]
        if options.json:
            print_json(
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
        print_json({"folder": str(folder), "models": [figures(r) for r in results]})
    else:
        print(plain(results))
        print(f"\nReport:     {folder / 'report.md'}")
    return 3 if any(r.verdict in ("FAIL", "INCONCLUSIVE") for r in results) else 0
