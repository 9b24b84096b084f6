"""`fieldwise judge`: a model judges the answers of a run, and says what its verdicts are worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for, standing_run
from fieldwise.errors import FieldwiseError

if TYPE_CHECKING:
    from fieldwise.judge.settings import JudgeSettings

_ABOUT = "let a model judge the answers of a run, by a rubric or two systems beside each other, and measure the judge"


def add(commands: Any, parents: Parents) -> None:
    """Add the command to the parser."""
    judge = add_command(commands, "judge", _judge, _ABOUT, parents.common, parents.place, parents.recipe)
    judge.add_argument(
        "--system",
        action="append",
        default=[],
        metavar="SYSTEM",
        help="judge the answers of this system or predictions file by the rubric; may be given again (default: all)",
    )
    judge.add_argument("--left", metavar="SYSTEM", help="compare two systems instead: this one, in both orders,")
    judge.add_argument("--right", metavar="SYSTEM", help="with this one")
    judge.add_argument(
        "--endpoint",
        metavar="URL",
        help="OpenAI-compatible endpoint that judges (default: evaluate.judge of the recipe)",
    )
    judge.add_argument("--model", metavar="NAME", help="model of the endpoint")
    judge.add_argument("--key-env", metavar="VAR", help="environment variable that holds the key of the endpoint")
    judge.add_argument(
        "--weights",
        metavar="PLACE",
        help="judge with these weights by their next token: GGUF file, folder, hub id, fieldwise-nano",
    )
    judge.add_argument("--rule", metavar="TEXT", help="a rule of your own that an answer must meet besides")
    judge.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="human labels, CSV or JSON Lines with id, label and system (default for two systems: the votes of the run)",
    )
    judge.add_argument(
        "--own", action="append", default=[], metavar="SYSTEM", help="a system that is the judge's own model"
    )
    judge.add_argument("--limit", type=int, metavar="N", help="judge so many questions, drawn at random")
    judge.add_argument(
        "--at-least",
        type=float,
        metavar="SHARE",
        help="share that must be right (or preferred, of --left), by the lower end; refused until the judge agrees with people",
    )
    judge.add_argument(
        "--sheet", type=Path, metavar="FILE", help="write answers to label by hand as CSV, and judge nothing"
    )
    judge.add_argument("--sheet-size", type=int, default=100, metavar="N", help="how many (default 100)")
    judge.add_argument("--dry-run", action="store_true", help="say what it would cost, and ask nothing")


def _judge(options: argparse.Namespace) -> int:
    from fieldwise.compare.judge_labels import write_sheet
    from fieldwise.compare.judge_report import plain
    from fieldwise.compare.judge_run import REPORT, Wish, estimate, gather, judge_run, require_judge
    from fieldwise.judge.settings import JudgeSettings

    _check(options)
    run = standing_run(options)
    recipe = recipe_for(options, run, options.overrides)
    wish = Wish(
        systems=tuple(dict.fromkeys(options.system)),
        left=options.left,
        right=options.right,
        labels=options.labels,
        own=tuple(options.own),
        limit=options.limit,
        at_least=options.at_least,
        seed=recipe.seed,
    )
    material = gather(run, wish)
    if options.sheet is not None:
        return _sheet(options, write_sheet(options.sheet, material.answered, options.sheet_size, recipe.seed))
    settings = _settings(options, recipe.evaluate.judge)
    if options.weights is None:
        settings = require_judge(settings)
        if options.dry_run:
            return _dry_run(options, estimate(run, material, settings))
    with run.locked("fieldwise judge"):
        report = judge_run(run, material, wish, settings or JudgeSettings(), options.weights)
    if options.json:
        print_json(report.model_dump(mode="json"))
    else:
        print(plain(report))
        print(f"\nReport:     {Path(options.run) / REPORT}")
    return report.exit_code


def _check(options: argparse.Namespace) -> None:
    def wrong(where: str, what: str, fix: str) -> FieldwiseError:
        return FieldwiseError(what, where=where, found=getattr(options, where[2:].replace("-", "_")), fix=fix)

    if options.at_least is not None and not 0 < options.at_least <= 1:
        raise wrong("--at-least", "a share lies between 0 and 1", "Try 0.8.")
    for name in ("--limit", "--sheet-size"):
        value = getattr(options, name[2:].replace("-", "_"))
        if value is not None and value < 1:
            raise wrong(name, "expected a whole number from 1", "Leave it out to take all.")
    if options.weights is not None and (options.endpoint or options.model):
        raise wrong("--weights", "two judges at once", "Name an endpoint with its model, or weights.")
    if options.system and (options.left or options.right):
        raise wrong("--system", "a rubric and a comparison at once", "Name --left and --right, or --system.")
    if options.sheet is not None and (options.left or options.right):
        raise wrong("--sheet", "two answers beside each other are labelled by voting", "Use: fieldwise compare")


def _settings(options: argparse.Namespace, named: JudgeSettings | None) -> JudgeSettings | None:
    """The judge of the recipe with what the flags change; a key goes to the endpoint it was named with alone."""
    from pydantic import ValidationError

    from fieldwise.judge.settings import JudgeSettings
    from fieldwise.llm.settings import EndpointSettings

    given = {"base_url": options.endpoint, "model": options.model, "key_variable": options.key_env}
    flags = {k: v for k, v in given.items() if v is not None}
    if not flags and options.rule is None:
        return named
    base = named or JudgeSettings()
    kept = base.endpoint.model_dump()
    if options.endpoint is not None and options.endpoint != base.endpoint.base_url:
        kept |= {"key_variable": None, "model": None}
    try:
        endpoint = EndpointSettings.model_validate({**kept, **flags})
        return JudgeSettings(endpoint=endpoint, rule=base.rule if options.rule is None else options.rule)
    except ValidationError as error:
        told = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        flag = "--rule" if "rule" in error.errors()[0]["loc"] else "--endpoint"
        raise FieldwiseError(told, where=flag, fix="Check --endpoint, --model and --key-env.") from None


def _dry_run(options: argparse.Namespace, estimated: dict[str, Any]) -> int:
    if options.json:
        print_json(estimated)
        return 0
    text = f"{estimated['requests']} requests to {estimated['model']} at {estimated['endpoint']}, about {estimated['tokens']:,} tokens (at most {estimated['most_tokens']:,})"
    if estimated["most_price"]:
        text += f", about {estimated['price']} (at most {estimated['most_price']}) in the currency of the prices"
    print(text + (f"; {estimated['answered']} are answered already" if estimated["answered"] else ""))
    return 0


def _sheet(options: argparse.Namespace, count: int) -> int:
    if options.json:
        print_json({"file": str(options.sheet), "answers": count})
    else:
        print(
            f"Wrote {count} answers to {options.sheet}. Fill the column label with right, wrong or cannot tell, then judge with --labels {options.sheet}."
        )
    return 0
