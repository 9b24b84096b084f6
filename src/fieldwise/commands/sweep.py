"""`fieldwise sweep`: several values of some settings, measured side by side."""

from __future__ import annotations

import argparse
import re
from typing import Any

from fieldwise.commands.common import Parents, add_command, print_json
from fieldwise.errors import FieldwiseError


def add(commands: Any, parents: Parents) -> None:
    """Add the command to the parser."""
    about = "train and measure a recipe with several values of some settings: rank=4,8,16; a grid where several vary"
    sweep = add_command(commands, "sweep", _sweep, about, *parents)
    sweep.add_argument("--name", help="name of the sweep: its folder below DIR/sweeps (default: what varies)")
    about = "last stage of each point: 4d measures (default), 4c ends with the score that chooses the weights"
    sweep.add_argument("--end", choices=("4c", "4d"), default="4d", help=about)
    about = "metric to show; may be given again (default overall_f1, token_f1, bits_per_byte)"
    sweep.add_argument("--metric", action="append", default=[], metavar="NAME", help=about)
    sweep.add_argument("--system", metavar="SYSTEM", help="system to compare (default: the one nearest to the release)")
    sweep.add_argument("--list", action="store_true", help="list the points and run nothing")


def _sweep(options: argparse.Namespace) -> int:
    from fieldwise.files import write_json
    from fieldwise.run import RunFolder
    from fieldwise.sweep.grid import default_name, grid
    from fieldwise.sweep.running import FOLDER, run_grid, steps_until
    from fieldwise.sweep.table import plain, require_metrics, tabulate

    home, metrics = RunFolder(options.run), require_metrics(options.metric)
    config = options.config or (home.recipe_path if home.recipe_path.is_file() else None)
    made = grid(config, options.overrides)
    name = options.name or default_name(made.keys)
    if not re.fullmatch(r"[\w][\w.-]{0,62}", name):
        raise FieldwiseError(
            "not a name for a sweep", where="--name", found=repr(name), fix="Use letters, figures, '.', '_' and '-'."
        )
    if options.list:
        rows = [{"name": p.name, "values": p.values, "is_own": p.is_own} for p in made.points]
        shown = (f"{p.name}{'  (the recipe)' if p.is_own else ''}" for p in made.points)
        print_json(rows) if options.json else print("\n".join(shown))
        return 0
    ran = run_grid(made, home, name, steps_until(options.end))
    found = tabulate(made, ran, name, metrics, options.system, is_measured=options.end == "4d")
    place = home.path / FOLDER / name / "sweep.json"
    write_json(place, found.model_dump(mode="json"))
    print_json(found.model_dump(mode="json")) if options.json else print(f"{plain(found)}\n\nTable:      {place}")
    return 2 if found.has_failed else 0
