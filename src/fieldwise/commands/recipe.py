"""`fieldwise init` and `fieldwise validate`: a recipe to start from, and what is wrong with one."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from fieldwise.commands.common import Parents, add_command, print_json
from fieldwise.errors import RecipeError


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    init = add_command(commands, "init", _init, "write a recipe to start from", parents.common)
    init.add_argument("domain", help="healthcare, legal, finance or general")
    init.add_argument("--folder", type=Path, default=Path(), help="where to write it (default: here)")
    about = "check a recipe and report every problem"
    validate = add_command(commands, "validate", _validate, about, parents.common)
    validate.add_argument("recipe", type=Path, metavar="FILE", help="recipe file")
    validate.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace those of the recipe")


def _init(options: argparse.Namespace) -> int:
    from fieldwise.starter import init

    path = init(options.domain, options.folder)
    if options.json:
        print_json({"recipe": str(path), "documents": str(path.parent / "documents")})
    else:
        command = shlex.join(["fieldwise", "run", "--config", str(path), "--run", f"runs/{options.domain}"])
        print(f"Wrote {path}. Put your documents into {path.parent / 'documents'}, then: {command}")
    return 0


def _validate(options: argparse.Namespace) -> int:
    from fieldwise.recipe import load_recipe, missing_places

    recipe = load_recipe(options.recipe, options.overrides)
    if missing := missing_places(recipe):
        raise RecipeError(missing, where=options.recipe)
    if options.json:
        print_json({"valid": True, "recipe": recipe.model_dump(mode="json")})
    else:
        print(
            f"{options.recipe}: valid. Model {recipe.name}, base {recipe.base.model}, {len(recipe.collect.sources)} source{'s' if len(recipe.collect.sources) != 1 else ''}."
        )
    return 0
