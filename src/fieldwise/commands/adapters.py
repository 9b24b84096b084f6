"""`fieldwise adapters`: list, show, compare, merge and remove the adapters of runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import DEFAULT_RUN, Parents, add_command, print_json
from fieldwise.commands.numbers import number, whole_number
from fieldwise.errors import FieldwiseError

if TYPE_CHECKING:
    from fieldwise.adapters.registry import Registry
    from fieldwise.run import RunFolder

_METHODS = ("cat", "svd", "linear", "ties", "dare", "dare_ties")
_RANK = whole_number("a whole number from 1", 100_000)
_DENSITY = number("a share above 0 and up to 1", lambda value: 0 < value <= 1)


def add(commands: Any, parents: Parents) -> None:
    """Add the command to the parser."""
    about = "list, show, compare, merge and remove the adapters of runs"
    adapters = commands.add_parser(
        "adapters", help=about, description=f"{about[0].upper()}{about[1:]}.", parents=[parents.common]
    )
    kinds = adapters.add_subparsers(title="commands", metavar="COMMAND", required=True)
    runs = argparse.ArgumentParser(add_help=False)
    runs.add_argument(
        "--run",
        type=Path,
        action="append",
        metavar="DIR",
        help=f"run folder, or folder of run folders; may be given again (default {DEFAULT_RUN})",
    )
    common = (parents.common, runs)
    add_command(kinds, "list", _list, "list the adapters with base, data, figures and status", *common)

    shown = add_command(kinds, "show", _show, "show one adapter, what it was taught and what depends on it", *common)
    shown.add_argument(
        "adapter", metavar="ADAPTER", help="id or its beginning, or RUN:NAME such as runs/first:preference"
    )

    diff = add_command(kinds, "diff", _diff, "compare two adapters: settings, data, figures, weights", *common)
    diff.add_argument("first", metavar="FIRST", help="id or its beginning, or RUN:NAME")
    diff.add_argument("second", metavar="SECOND", help="id or its beginning, or RUN:NAME")
    diff.add_argument("--all", action="store_true", help="show every module instead of one line a kind")

    _add_merge(
        add_command(kinds, "merge", _merge, "make one adapter, or full weights, of several of one base", *common)
    )

    remove = add_command(kinds, "remove", _remove, "delete a superseded adapter or a merge that nothing needs", *common)
    remove.add_argument("adapter", metavar="ADAPTER", help="id or its beginning, or RUN:NAME")


def _add_merge(merge: argparse.ArgumentParser) -> None:
    merge.add_argument(
        "adapters",
        nargs="+",
        metavar="ADAPTER[=WEIGHT]",
        help="id or its beginning, or RUN:NAME; weights may be negative; without any, equal shares that sum to 1",
    )
    merge.add_argument("--name", help="name of the merge: its folder below 4_adapters/merges")
    about = "how (default cat, which is exact; docs/adapters.md says when another is better)"
    merge.add_argument("--method", choices=_METHODS, default="cat", help=about)
    about = "rank of svd, ties and dare (default: the largest of the parts)"
    merge.add_argument("--rank", type=_RANK, metavar="R", help=about)
    about = "share of the entries that ties and dare keep (default 0.5)"
    merge.add_argument("--density", type=_DENSITY, default=0.5, metavar="SHARE", help=about)
    merge.add_argument("--seed", type=int, default=0, help="draws what dare drops (default 0)")
    about = "take each adapter together with those that were merged into its base before it, as SFT before preference"
    merge.add_argument("--chain", action="store_true", help=about)
    merge.add_argument("--full", action="store_true", help="write base plus merge as full weights too")
    about = (
        "type of the full weights (default float32; rounding to 16 bits takes its share of the update, which is told)"
    )
    merge.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help=about)
    about = "folder of the base for --full, in 16 or 32 bits (default: the one the adapters name)"
    merge.add_argument("--base", type=Path, metavar="FOLDER", help=about)
    merge.add_argument(
        "--into", type=Path, metavar="DIR", help="run folder that takes the merge (default: the one of --run)"
    )
    merge.add_argument("--compare", action="store_true", help="print the error of every method and write nothing")
    merge.add_argument("--all", action="store_true", help="show every module instead of one line a kind")


def _registry(options: argparse.Namespace, *more: Path) -> Registry:
    from fieldwise.adapters.registry import open_registry

    return open_registry([*(options.run or [DEFAULT_RUN]), *more])


def _list(options: argparse.Namespace) -> int:
    from fieldwise.adapters.text import listing

    entries = _registry(options).entries
    print_json([e.model_dump(mode="json") for e in entries]) if options.json else print(listing(entries))
    return 0


def _show(options: argparse.Namespace) -> int:
    from fieldwise.adapters.lineage import taught
    from fieldwise.adapters.registry import MergedAdapter
    from fieldwise.adapters.removal import depends
    from fieldwise.adapters.text import details

    registry = _registry(options)
    held = registry.find(options.adapter)
    seen, needed = taught(registry, held), depends(registry, held)
    merge = MergedAdapter.model_validate(held.record) if held.manifest.step.startswith("4m_") else None
    if options.json:
        print_json(
            {
                **held.entry.model_dump(mode="json"),
                "settings": held.manifest.parts.get("settings"),
                "merge": merge.model_dump(mode="json") if merge else None,
                "taught": seen.model_dump(mode="json"),
                "needed_by": needed,
            }
        )
    else:
        print(details(held.entry, seen, needed, merge))
    return 0


def _diff(options: argparse.Namespace) -> int:
    from fieldwise.adapters.difference import difference
    from fieldwise.adapters.text import told_difference

    registry = _registry(options)
    found = difference(registry, registry.find(options.first), registry.find(options.second))
    print_json(found.model_dump(mode="json")) if options.json else print(told_difference(found, every=options.all))
    return 0


def _merge(options: argparse.Namespace) -> int:
    from fieldwise.adapters.merge import Order, compare_methods, gather, make
    from fieldwise.adapters.methods import Plan
    from fieldwise.adapters.text import told_merge, told_methods

    wanted = tuple(_weighted(text) for text in options.adapters)
    plan = Plan(options.method, options.rank, options.density, options.seed)
    order = Order(wanted, plan, options.name or "", options.chain, options.full, options.base, options.dtype)
    registry = _registry(options)
    if options.compare:
        found = compare_methods(gather(registry, order), plan)
        print_json(found) if options.json else print(told_methods(found))
        return 0
    if options.name is None:
        raise FieldwiseError(
            "the merge needs a name", where="adapters merge", fix="Give one with --name, such as --name both."
        )
    place, run = _destination(options, registry)
    record, was_there = make(registry, order, run)
    if options.json:
        print_json({"run": str(place), "was_there": was_there, **record.model_dump(mode="json")})
    else:
        print(told_merge(record, str(place), every=options.all, was_there=was_there))
    return 0


def _weighted(text: str) -> tuple[str, float | None]:
    adapter, equals, weight = text.rpartition("=")
    if not equals:
        return text, None
    try:
        value = float(weight)
    except ValueError:
        value = float("nan")
    if not adapter or not abs(value) < float("inf"):
        raise FieldwiseError(
            "a weight is written ADAPTER=NUMBER", where="adapters merge", found=repr(text), fix="Example: 94a16f64=0.5"
        )
    return adapter, value


def _destination(options: argparse.Namespace, registry: Registry) -> tuple[Path, RunFolder]:
    """The run that takes the merge: --into, else the one of --run if that is one run."""
    from fieldwise.run import RunFolder

    named = options.into or (options.run or [DEFAULT_RUN])[0]
    run = RunFolder(named)
    if not run.recipe_path.is_file() or (options.into is None and len(options.run or [0]) > 1):
        raise FieldwiseError(
            "no run stands here" if not run.recipe_path.is_file() else "several runs are named",
            where=named,
            fix="Name the run folder that takes the merge with --into DIR.",
        )
    return named, run


def _remove(options: argparse.Namespace) -> int:
    from fieldwise.adapters.removal import remove

    registry = _registry(options)
    gone = remove(registry, registry.find(options.adapter, one_place=True))
    if options.json:
        print_json(gone._asdict())
    else:
        print(f"removed    {gone.id} from {gone.run}: {gone.files} files, {gone.bytes / 1e6:.1f} MB")
    return 0
