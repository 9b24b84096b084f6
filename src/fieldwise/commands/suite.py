"""`fieldwise suite`: any model through prepared questions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json
from fieldwise.commands.numbers import number, share, whole_number
from fieldwise.errors import FieldwiseError

if TYPE_CHECKING:
    from fieldwise.suite.command import Source
    from fieldwise.suite.items import Suite

_COUNT = whole_number("a whole number from 1 to 100000", 100_000)
_DAYS = whole_number("a whole number from 1 to 90", 90)
_PRICE = number("a price of 0 or more", lambda value: 0 <= value < float("inf"))
_TEMPERATURE = number("a number from 0 to 2", lambda value: 0 <= value <= 2)


def add(commands: Any, parents: Parents) -> None:
    """Add the command to the parser."""
    about = "put the released model, any weights or an endpoint through a suite of prepared questions"
    suite = add_command(commands, "suite", _suite, about, parents.common, parents.place)
    suite.add_argument(
        "suite",
        nargs="?",
        metavar="NAME_OR_FILE",
        help="a shipped suite, a .yaml or .jsonl file, or a task of lm-evaluation-harness: lm-eval:NAME, or its file",
    )
    suite.add_argument("--list", action="store_true", help="list the shipped suites")
    about = "model of the run (tuned, base, q4_k_m, ...) or of the endpoint; given again, models are compared"
    suite.add_argument("--model", action="append", default=[], metavar="NAME", help=about)
    suite.add_argument(
        "--weights", metavar="PLACE", help="ask these weights: GGUF file, folder, hub id, fieldwise-nano"
    )
    suite.add_argument("--endpoint", metavar="URL", help="ask an OpenAI-compatible endpoint, such as http://host/v1")
    suite.add_argument("--key-env", metavar="VAR", help="environment variable that holds the key of the endpoint")
    about = "prices of the endpoint for a million tokens, of prompts and of replies: the report says the cost"
    suite.add_argument("--price", type=_PRICE, nargs=2, metavar=("IN", "OUT"), help=about)
    suite.add_argument("--max-tokens", type=_COUNT, default=256, metavar="N", help="longest reply (default 256)")
    about = "share that must be passed, by the lower end of the interval; exit code 3 if it is not"
    suite.add_argument("--at-least", type=share, metavar="SHARE", help=about)
    suite.add_argument("--out", type=Path, metavar="DIR", help="folder for replies and figures (default DIR/suites)")
    suite.add_argument("--force", action="store_true", help="ask again what has been answered")
    about = "ask one model every item this often, and say which it passes now and then"
    suite.add_argument("--limit", type=_COUNT, metavar="N", help="of a task of lm-evaluation-harness the first N items")
    suite.add_argument("--samples", type=_COUNT, metavar="K", help=about)
    suite.add_argument("--temperature", type=_TEMPERATURE, default=0.7, metavar="T", help="of --samples (default 0.7)")
    about = "write the items that --samples found flaky into this file, with evidence and expiry"
    suite.add_argument("--quarantine", type=Path, metavar="FILE", help=about)
    suite.add_argument("--days", type=_DAYS, default=30, metavar="N", help="until they count again (default 30)")


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
    from fieldwise.suite.lm_eval import is_task

    if is_task(options.suite):
        return _task(options)
    suite = open_suite(options.suite)
    from fieldwise.suite.command import figures, run_suite
    from fieldwise.suite.report import plain

    source = _source(options)
    if options.samples is not None:
        return _sampled(options, suite, source)
    if options.quarantine is not None:
        raise FieldwiseError("what is flaky shows in several samples", where="--quarantine", fix="Add --samples 5.")
    results, folder = run_suite(suite, source, options.out, at_least=options.at_least, forget=options.force)
    if options.json:
        print_json({"folder": str(folder), "models": [figures(r) for r in results]})
    else:
        print(plain(results))
        print(f"\nReport:     {folder / 'report.md'}")
    return 3 if any(r.verdict in ("FAIL", "INCONCLUSIVE") for r in results) else 0


def _sampled(options: argparse.Namespace, suite: Suite, source: Source) -> int:
    from datetime import UTC, datetime

    from fieldwise.suite.flaky import Draws, measure_flaky, plain

    draws = Draws(options.samples, options.temperature, options.days, datetime.now(UTC).date())
    found = measure_flaky(suite, source, draws, options.quarantine, options.out)
    if options.json:
        flaky = [f.model_dump(mode="json") for f in found.flaky]
        split = found.split._asdict() if found.split is not None else None
        print_json({**found._asdict(), "flaky": flaky, "split": split})
    else:
        print(plain(found, options.quarantine))
    return 0


def _source(options: argparse.Namespace) -> Source:
    from fieldwise.llm.settings import PriceSettings
    from fieldwise.suite.command import Source

    if options.price is not None and options.endpoint is None:
        raise FieldwiseError(
            "only an endpoint has prices", where="--price", fix="Leave it out: the tokens are told all the same."
        )
    price = PriceSettings(input=options.price[0], output=options.price[1]) if options.price is not None else None
    models = tuple(dict.fromkeys(options.model))
    return Source(options.run, models, options.weights, options.endpoint, options.key_env, options.max_tokens, price)


def _task(options: argparse.Namespace) -> int:
    """A task of lm-evaluation-harness."""
    from fieldwise.suite.lm_eval import plain, run_task

    for flag in ("at_least", "samples", "quarantine"):
        if getattr(options, flag) is not None:
            raise FieldwiseError(
                "a task of lm-evaluation-harness has metrics of its own and no gate",
                where=f"--{flag.replace('_', '-')}",
                fix="Leave it out, or write the items as a suite.",
            )
    found, folder = run_task(options.suite, _source(options), options.out, limit=options.limit)
    if options.json:
        shown = [
            {**f._asdict(), "metrics": {m: i.model_dump(mode="json") for m, i in f.metrics.items()}} for f in found
        ]
        print_json({"folder": str(folder), "tasks": shown})
    else:
        print(plain(found))
        print(f"\nReport:     {folder / 'report.md'}")
    return 0
