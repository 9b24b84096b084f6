"""What commands share: flags, the run they speak of and its recipe, the way results are printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fieldwise.errors import FieldwiseError

if TYPE_CHECKING:
    from fieldwise.recipe import Recipe
    from fieldwise.run import RunFolder

DEFAULT_RUN = Path("runs/default")


class Parents(NamedTuple):
    """Parsers of the flags that commands share."""

    common: argparse.ArgumentParser
    """--json, --quiet"""
    place: argparse.ArgumentParser
    """--run"""
    recipe: argparse.ArgumentParser
    """--config, key=value ..."""


def parents() -> Parents:
    """Make the parsers that commands share."""
    # --json may stand before the command or after it: a default of the command would undo what stands before
    common = common_flags(default=argparse.SUPPRESS)
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "--run", type=Path, default=DEFAULT_RUN, metavar="DIR", help=f"run folder (default {DEFAULT_RUN})"
    )
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="recipe file; without it the one of the run folder, else the defaults",
    )
    recipe.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that replace those of the recipe, such as train.sft.epochs=2; places count from the current folder",
    )

    return Parents(common, place, recipe)


def common_flags(default: bool | str) -> argparse.ArgumentParser:
    """The flags of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=default, help="print the result as JSON")
    common.add_argument("--quiet", action="store_true", default=default, help="no progress on stderr")
    return common


def add_command(
    commands: Any,
    name: str,
    function: Callable[[argparse.Namespace], int],
    about: str,
    *parents: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    """Add a command that calls a function, which returns the exit code; its flags are the caller's to add."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", parents=[*parents]
    )
    made.set_defaults(command=function)
    return made


def recipe_for(options: argparse.Namespace, run: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe named with --config, else the one the run was made with, else the defaults."""
    from fieldwise.recipe import load_recipe

    path = (
        options.config if getattr(options, "config", None) else run.recipe_path if run.recipe_path.is_file() else None
    )
    return load_recipe(path, overrides)


def standing_run(options: argparse.Namespace) -> RunFolder:
    """The run folder of --run; raises FieldwiseError where none stands."""
    from fieldwise.run import RunFolder

    run = RunFolder(options.run)
    if not run.recipe_path.is_file():
        raise FieldwiseError(
            "no run stands here",
            where=options.run,
            fix="Start one with: fieldwise run --config recipe.yaml --run DIR, or name another folder with --run.",
        )
    return run


def print_json(value: object) -> None:
    """Print a result as JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))
