"""`fieldwise store`: documents that come, change and go: add, list, delete, search, rebuild, check, and keys."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json
from fieldwise.errors import DatasetError, DocumentError, FieldwiseError

if TYPE_CHECKING:
    from fieldwise.recipe import Recipe
    from fieldwise.store.local import LocalStore
    from fieldwise.store.protocol import Identity, StoredDocument


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    about = "Keep documents that come, change and go, and search them for those who may see them."
    store = commands.add_parser(
        "store", help="documents that come, change and go, for those who may see them", description=about,
        parents=[parents.common],
    )  # fmt: skip
    kinds = store.add_subparsers(title="commands", metavar="COMMAND", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--store", type=Path, default=Path("store"), metavar="DIR", help="folder (default store)")
    shared.add_argument("--tenant", default="default", help="whose documents (default default)")
    groups = argparse.ArgumentParser(add_help=False)
    groups.add_argument("--group", action="append", default=[], metavar="NAME", help="access group; may be given again")

    about = "add files, folders or the documents of a run; the same name again is the next version"
    adding = add_command(kinds, "add", _add, about, parents.common, shared, groups)
    adding.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files, or folders with all below them")
    adding.add_argument("--run", type=Path, metavar="DIR", help="take the documents of this run, with its vectors")
    adding.add_argument("--mirror", action="store_true", help="with --run: delete what the run does not have")
    adding.add_argument("--config", type=Path, metavar="FILE", help="recipe that says how files are cut (default: that of --run)")  # fmt: skip
    adding.add_argument("--licence", help="licence or terms of the files")
    adding.add_argument("--valid-from", type=_day, metavar="DAY", help="first day they are valid, such as 2026-01-31")
    adding.add_argument("--valid-until", type=_day, metavar="DAY", help="last day they are valid")
    adding.add_argument("--field", action="append", default=[], type=_field, metavar="NAME=VALUE", help="field to filter by; a value in JSON, else a text")  # fmt: skip
    adding.add_argument("--keep-earlier", action="store_true", help="keep earlier versions, valid until the day before")

    listing = add_command(kinds, "list", _list, "list documents", parents.common, shared, groups)
    listing.add_argument("--after", type=int, default=0, metavar="KEY", help="those behind this key")
    listing.add_argument("--limit", type=int, default=1000, help="most of them (default 1000)")
    delete = add_command(kinds, "delete", _delete, "delete documents with all their versions", parents.common, shared)
    delete.add_argument("uris", nargs="+", metavar="URI", help="as `store list` shows it")

    about = "search as someone of these groups (default: of all)"
    search = add_command(kinds, "search", _search, about, parents.common, shared, groups)
    search.add_argument("query")
    search.add_argument("overrides", nargs="*", metavar="key=value", help="options, such as expand=section fold=0.8")
    search.add_argument("--top-k", type=int, default=5, metavar="N", help="most passages (default 5)")
    search.add_argument("--filter", type=_json, metavar="JSON", help='such as {"field": "year", "eq": 2024}')
    search.add_argument("--as-of", type=_day, metavar="DAY", help="what was valid on this day (default today)")
    search.add_argument("--explain", action="store_true", help="what each stage made of each passage")
    search.add_argument("--words-only", action="store_true", help="without embeddings")

    about = "make everything beside the catalogue anew"
    add_command(kinds, "rebuild", _rebuild, about, parents.common, shared)
    about = "tell how much there is, and whether it holds together; 2 if it does not"
    add_command(kinds, "check", _check, about, parents.common, shared)
    about = "make a key for `fieldwise serve --keys` and the entry that goes into the file"
    key = add_command(kinds, "key", _key, about, parents.common, groups)
    key.add_argument("name", help="whose key it is")
    key.add_argument("--tenant", default="default", help="whose documents (default default)")
    key.add_argument("--right", action="append", default=[], choices=("read", "write", "admin"), help="default read")


# ---------------------------------------------------------------- arguments


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2026-01-31") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no JSON") from None


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = value
    return name, tuple(read) if isinstance(read, list) else read


def _identity(store: LocalStore, options: argparse.Namespace) -> Identity:
    """Who looks: those of the groups that are named, else whoever keeps the store, who sees all of a tenant."""
    from fieldwise.store.protocol import Identity

    return Identity(options.tenant, frozenset(options.group or store.groups(options.tenant)))


# ---------------------------------------------------------------- commands


def _add(options: argparse.Namespace) -> int:
    from fieldwise.store.from_run import import_run
    from fieldwise.store.local import LocalStore
    from fieldwise.store.protocol import EVERYONE

    if not options.paths and options.run is None:
        raise FieldwiseError("nothing is named to be added", where="store add", fix="Name files, folders or --run DIR.")
    files = list(_files(options.paths))
    recipe = _recipe(options)
    groups = options.group or [EVERYONE]
    told: dict[str, Any] = {"added": [], "unchanged": [], "rejected": []}
    with LocalStore.open(options.store, language=recipe.retrieve.stemmer) as store:
        if options.run is not None:
            imported = import_run(store, options.run, groups=groups, tenant=options.tenant, is_mirror=options.mirror)
            told["imported"] = imported._asdict()
        _add_files(store, recipe, files, options, told)
        told["generation"] = store.generation
    if options.json:
        print_json(told)
    else:
        _print_added(told)
    return 2 if told["rejected"] else 0


def _add_files(
    store: LocalStore, recipe: Recipe, files: list[tuple[Path, str]], options: argparse.Namespace, told: dict[str, Any]
) -> None:
    from fieldwise.commands.serving import ingester_of
    from fieldwise.ingest import Particulars
    from fieldwise.progress import track
    from fieldwise.retrieve.embed import open_embedder
    from fieldwise.store.protocol import EVERYONE

    if not files:
        return
    stats = store.stats()
    has_vectors = bool(stats.model) or not stats.chunks
    embedder = open_embedder(recipe.retrieve) if recipe.retrieve.embedding != "none" and has_vectors else None
    particulars = Particulars(
        groups=options.group or [EVERYONE],
        tenant=options.tenant,
        licence=options.licence,
        valid_from=options.valid_from,
        valid_until=options.valid_until,
        fields=dict(options.field),
    )
    with ingester_of(recipe)(embedder) as ingester, store.batch():
        for path, uri in track(files, "adding"):
            try:
                entry = ingester.of_file(path, uri, particulars)
            except DocumentError as error:
                told["rejected"].append({"uri": uri, "reason": error.reason, "detail": str(error)})
                continue
            is_new = store.put_if_new(entry, keeps_earlier=options.keep_earlier)
            told["added" if is_new else "unchanged"].append(uri)


def _print_added(told: dict[str, Any]) -> None:
    if "imported" in told:
        done = told["imported"]
        print(
            f"{done['documents']} documents of the run, {done['changed']} of them new or changed, {done['removed']} removed"
        )
    if told["added"] or told["unchanged"] or "imported" not in told:
        print(f"{len(told['added'])} added, {len(told['unchanged'])} unchanged, {len(told['rejected'])} rejected")
    for one in told["rejected"]:
        print(f"  {one['detail']}", file=sys.stderr)


def _files(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Files with the names they go by: those of a folder by their place in it. What begins with a dot is left out."""
    seen: dict[str, Path] = {}
    for place in paths:
        if place.is_dir():
            found = [p for p in sorted(place.rglob("*")) if p.is_file()]
            named = [(p, p.relative_to(place)) for p in found]
            taken = [(p, str(at)) for p, at in named if not any(part.startswith(".") for part in at.parts)]
        elif place.is_file():
            taken = [(place, place.name)]
        else:
            raise FieldwiseError("there is no such file or folder", where=place, fix="Name one that is there.")
        for path, uri in taken:
            if seen.setdefault(uri, path) != path:
                raise FieldwiseError(
                    "two files go by the same name", where=path, found=f"{uri}, as {seen[uri]}",
                    fix="Add them from folders above, so that their names differ.",
                )  # fmt: skip
            yield path, uri


def _recipe(options: argparse.Namespace) -> Recipe:
    from fieldwise.commands.common import recipe_for
    from fieldwise.recipe import load_recipe
    from fieldwise.run import RunFolder

    return load_recipe(options.config) if options.run is None else recipe_for(options, RunFolder(options.run))


def _list(options: argparse.Namespace) -> int:
    from fieldwise.store.local import LocalStore

    with LocalStore.read(options.store) as store:
        documents = store.documents(_identity(store, options), options.after, options.limit)
    if options.json:
        print_json([_as_json(d) for d in documents])
        return 0
    for d in documents:
        days = f", {d.valid_from or ''} to {d.valid_until or ''}" if d.valid_from or d.valid_until else ""
        print(f"{d.uri}  version {d.version}, {d.chunks} chunks, for {', '.join(d.groups)}{days}  {d.id}")
    return 0


def _delete(options: argparse.Namespace) -> int:
    from fieldwise.store.local import LocalStore

    with LocalStore.open(options.store) as store:
        there = set(store.uris(options.tenant))
        unknown = [uri for uri in options.uris if uri not in there]
        if unknown:
            raise DatasetError(
                "there is no such document; nothing was deleted", where=options.store, found=", ".join(unknown[:5]),
                fix="fieldwise store list shows what there is.",
            )  # fmt: skip
        count = store.delete_all(options.uris, options.tenant)
        generation = store.generation
    print_json({"deleted": count, "generation": generation}) if options.json else print(f"{count} deleted")
    return 0


def _search(options: argparse.Namespace) -> int:
    from fieldwise.retrieve.embed import MiniLmEmbedder
    from fieldwise.retrieve.settings import RetrieveSettings
    from fieldwise.store.filters import parse_filter
    from fieldwise.store.local import LocalStore
    from fieldwise.store.retriever import StoreRetriever, today

    with LocalStore.read(options.store) as store:
        settings = RetrieveSettings()
        embedder = MiniLmEmbedder() if store.stats().model and not options.words_only else None
        retriever = StoreRetriever(
            store,
            embedder,
            _identity(store, options),
            settings,
            filter=None if options.filter is None else parse_filter(options.filter),
            as_of=today if options.as_of is None else (lambda: options.as_of),
            options=_search_options(options.overrides),
        )
        looked = retriever.look(options.query, max(options.top_k, 1))
    if options.json:
        hits = [{**h.passage.model_dump(mode="json"), "version": h.version, **({"explain": h.explained} if options.explain else {})} for h in looked.hits]  # fmt: skip
        print_json({"results": hits, "generation": looked.generation, **({"explain": looked.explained} if options.explain else {})})  # fmt: skip
        return 0
    for number, hit in enumerate(looked.hits, 1):
        chunk = hit.passage.chunk
        page = f", page {chunk.page}" if chunk.page else ""
        print(f"{number}. {chunk.uri}{page}  {hit.passage.score:.3f}\n   {' '.join(chunk.text.split())[:300]}")
        if options.explain:
            print(f"   {json.dumps(hit.explained, ensure_ascii=False)}")
    if options.explain:
        print(json.dumps(looked.explained, ensure_ascii=False))
    return 0


def _search_options(overrides: list[str]) -> Any:
    from pydantic import ValidationError

    from fieldwise.store.options import SearchOptions

    given = dict(_field(override) for override in overrides)
    if given.get("rewrite") == "endpoint":
        raise FieldwiseError("an endpoint words searches of a service only", where="rewrite", fix="Use acronyms.")
    try:
        return SearchOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise FieldwiseError(
            "this is no option of a search", where=".".join(map(str, first["loc"])), found=first["msg"],
            fix=f"There are {', '.join(n for n in SearchOptions.model_fields if n != 'endpoint')}.",
        ) from error  # fmt: skip


def _rebuild(options: argparse.Namespace) -> int:
    from fieldwise.store.local import LocalStore

    with LocalStore.rebuild(options.store) as store:
        return _report(store, options)


def _check(options: argparse.Namespace) -> int:
    from fieldwise.store.local import LocalStore

    with LocalStore.read(options.store) as store:
        return _report(store, options)


def _report(store: LocalStore, options: argparse.Namespace) -> int:
    stats, faults = store.stats(), store.faults()
    if options.json:
        print_json({**stats._asdict(), "faults": faults})
    else:
        print(f"{stats.documents} documents, {stats.chunks} chunks, {stats.vectors} vectors, change {stats.generation}")
        for fault in faults:
            print(f"  {fault}")
    return 2 if faults else 0


def _key(options: argparse.Namespace) -> int:
    from fieldwise.serve.keys import ClientKey, new_key

    key, digest = new_key()
    entry = ClientKey(
        name=options.name,
        sha256=digest,
        groups=tuple(options.group),
        tenant=options.tenant,
        rights=tuple(options.right or ["read"]),
    ).model_dump(mode="json")
    if options.json:
        print_json({"key": key, "entry": entry})
    else:
        print(f"Key, shown this once: {key}\nLine for the file of keys:\n- {json.dumps(entry, ensure_ascii=False)}")
    return 0


def _as_json(document: StoredDocument) -> dict[str, Any]:
    days = {name: value and value.isoformat() for name, value in (("valid_from", document.valid_from), ("valid_until", document.valid_until))}  # fmt: skip
    return {**document._asdict(), **days}
