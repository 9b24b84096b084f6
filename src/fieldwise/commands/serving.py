"""`fieldwise serve` and `fieldwise ask`: the released model over HTTP, or for one question."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldwise.commands.common import Parents, add_command, print_json, recipe_for
from fieldwise.errors import FieldwiseError, InputError

if TYPE_CHECKING:
    from fieldwise.recipe import Recipe
    from fieldwise.retrieve.answer_schema import AnswerSchema
    from fieldwise.serve.stored import OpenIngester


def add(commands: Any, parents: Parents) -> None:
    """Add the commands to the parser."""
    about = "serve the released model and the documents over HTTP, with a web page"
    serve = add_command(commands, "serve", _serve, about, *parents)
    serve.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port (default 8000, 0 takes a free one)")
    serve.add_argument("--model", help="file to serve, such as q4_k_m (default: release.serve of the recipe)")
    about = "document store to answer from; made from the run if it is not there (default serve.store of the recipe)"
    serve.add_argument("--store", metavar="DIR", help=about)
    serve.add_argument("--keys", metavar="FILE", help="keys with tenant, access groups and rights; needs a store")
    serve.add_argument("--read-only", action="store_true", default=None, help="open the store for reading only")
    ask = add_command(commands, "ask", _ask, "ask the released model one question", parents.common, parents.place)
    ask.add_argument("question")
    ask.add_argument("--model", help="file to ask, such as q4_k_m")
    ask.add_argument("--schema", metavar="FILE", help="JSON schema that the answer must fit")


def _serve(options: argparse.Namespace) -> int:
    from fieldwise.run import RunFolder
    from fieldwise.serve.server import serve_run

    run = RunFolder(options.run)
    flags = {
        "serve.host": options.host,
        "serve.port": options.port,
        "serve.store": options.store,
        "serve.keys": options.keys,
        "serve.read_only": options.read_only,
    }
    overrides = [*options.overrides, *(f"{k}={json.dumps(v)}" for k, v in flags.items() if v is not None)]
    recipe = recipe_for(options, run, overrides)
    ingest = ingester_of(recipe) if recipe.serve.store is not None else None
    return serve_run(run, recipe.serve, recipe.retrieve, options.model or recipe.release.serve, ingest)


def ingester_of(recipe: Recipe) -> OpenIngester:
    """Return what makes a reader of documents as a recipe reads, cuts and measures them."""
    from fieldwise.ingest import Ingester

    def tokenizer() -> Path:
        from fieldwise.engine.base_weights import resolve

        return Path(resolve(recipe.base.model, recipe.base.revision).path) / "tokenizer.json"

    return lambda embedder: Ingester(recipe.collect, recipe.prepare, tokenizer, embedder)


def _schema_in(path: Path) -> AnswerSchema:
    from fieldwise.retrieve.answer_schema import AnswerSchema

    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "the JSON schema cannot be read", where=path, found=str(error), fix="Name a file that holds one."
        ) from error
    return AnswerSchema.read(given, str(path))


def _ask(options: argparse.Namespace) -> int:
    from fieldwise.recipe import load_recipe
    from fieldwise.records import Message
    from fieldwise.retrieve.structured import StructuredAnswerer
    from fieldwise.run import RunFolder
    from fieldwise.serve.backend import open_backend

    schema = None if options.schema is None else _schema_in(Path(options.schema))
    is_text = not any("\ud800" <= c <= "\udfff" for c in options.question)  # bytes that are not UTF-8
    if not options.question.strip() or not is_text:
        raise FieldwiseError(
            "this is no question", where="ask", found=ascii(options.question), fix="Put the question in quotes."
        )
    run = RunFolder(options.run)
    recipe = load_recipe(run.require("recipe.yaml", "run"))
    settings = recipe.serve
    if settings.store is not None:  # a service may be writing to it
        is_there = (Path(settings.store) / "catalogue.sqlite").exists()
        settings = settings.model_copy(update={"read_only": True} if is_there else {"store": None})
    with open_backend(run, settings, recipe.retrieve, options.model or recipe.release.serve) as backend:
        conversation = (Message(role="user", content=options.question),)
        answerer = backend.answerer()
        if schema is None:
            answer = next(iter(answerer.answer_all([conversation])))
        else:
            answer = StructuredAnswerer(answerer, schema).answer(conversation)
    if options.json:
        print_json(answer.model_dump(mode="json"))
        return 0
    print(answer.text)
    for citation in answer.citations:
        page = f", page {citation.page}" if citation.page else ""
        shown = f"[{citation.mark}]" if citation.path is None else citation.path
        print(
            f"  {shown} {citation.uri}{page}: {' '.join(citation.quote.split())}"
            + ("" if citation.is_verified else "  (not found word for word)")
        )
    return 0
