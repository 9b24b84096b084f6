"""What an adapter was taught: its examples and their documents, found by their ids wherever its run still holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from fieldwise.adapters.registry import Held, Registry, Shelf
from fieldwise.records import Document, Example, PreferencePair, RatedReply, Record
from fieldwise.tables import read_records


class Taught(Record):
    """Examples by kind and the documents they were made from."""

    examples: int
    found: int = Field(description="how many of them the run still holds")
    kinds: dict[str, int] = Field(default_factory=dict)
    documents: tuple[str, ...] = Field((), description="names of documents and files of rows")
    sample: tuple[str, ...] = Field((), description="some of the questions")


def taught(registry: Registry, held: Held) -> Taught:
    """Return what an adapter and those below it were taught."""
    ids = {i for h in _with_parents(registry, held) for i in h.example_ids}
    kinds: dict[str, int] = {}
    documents: set[str] = set()
    questions: list[str] = []
    found: set[str] = set()
    for shelf in registry.shelves:
        for path in _files(shelf, "3_examples/train.parquet"):
            for example in (e for e in read_records(path, Example) if e.id in ids and e.id not in found):
                found.add(example.id)
                kinds[example.kind] = kinds.get(example.kind, 0) + 1
                documents.update(example.document_ids)
                questions.append(example.question)
        for path in _files(shelf, "3_examples/preferences.parquet"):
            for pair in (p for p in read_records(path, PreferencePair) if p.id in ids and p.id not in found):
                found.add(pair.id)
                kinds["preference pair"] = kinds.get("preference pair", 0) + 1
                documents.update(pair.document_ids)
        for path in _files(shelf, "3_examples/ratings.parquet"):
            for rating in (r for r in read_records(path, RatedReply) if r.id in ids and r.id not in found):
                found.add(rating.id)
                kinds["rated reply"] = kinds.get("rated reply", 0) + 1
                documents.update(rating.document_ids)
    return Taught(
        examples=len(ids),
        found=len(found),
        kinds=dict(sorted(kinds.items())),
        documents=_names(registry.shelves, documents),
        sample=tuple(questions[:3]),
    )


def _with_parents(registry: Registry, held: Held) -> list[Held]:
    found, waiting = {held.entry.id: held}, [held]
    while waiting:
        for parent in waiting.pop().entry.parents:
            above = registry.by_id(parent)
            if above is not None and parent not in found:
                found[parent] = above
                waiting.append(above)
    return list(found.values())


def _files(shelf: Shelf, output: str) -> list[Path]:
    step = "3_generate" if output.startswith("3_") else "2_prepare"
    found = (shelf.file(m, output) for m in shelf.every(step))
    return [p for p in found if p is not None]


def _names(shelves: Sequence[Shelf], ids: set[str]) -> tuple[str, ...]:
    """Documents by name; a row of a file, `file:number`, counts as its file."""
    names: dict[str, str] = {}
    for shelf in shelves:
        for path in _files(shelf, "2_chunks/documents.parquet"):
            if ids <= set(names):
                break
            names.update({d.id: d.source.uri for d in read_records(path, Document) if d.id in ids})
    return tuple(sorted({names.get(i) or i.rpartition(":")[0] or i for i in ids}))
