"""Walk the lineage of a run both ways: from an answer's model to its documents, and from a document to all that read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.adapters.registry import MERGES, MergedAdapter
from fieldwise.errors import DatasetError
from fieldwise.files import read_json, read_ledger
from fieldwise.records import Adapter, Chunk, Document, Example, ModelBuild, PreferencePair, RatedReply
from fieldwise.run import RunFolder
from fieldwise.tables import read_records

Kind = Literal["document", "chunk", "row", "review", "example", "preference", "adapter", "build"]
ORDER: tuple[Kind, ...] = ("document", "chunk", "row", "review", "example", "preference", "adapter", "build")


class Node(NamedTuple):
    """One thing of the run, by id, with a line that tells what it is."""

    kind: Kind
    id: str
    label: str


class Lineage:
    """The graph of a run: what was made from what."""

    def __init__(self, run: RunFolder) -> None:
        self.left_out = {
            str(row["item"]): f"{row['stage']}: {row['reason']}. {row['detail']}"
            for folder in ("1_documents", "2_chunks")
            for row in read_ledger(run.path / folder / "rejected.jsonl")
        }
        for row in read_ledger(run.path / "3_examples/rejected.jsonl"):
            if str(row["item"]).startswith("exa_"):
                self.left_out[str(row["item"])] = f"{row['stage']}: {row['reason']}. {row['detail']}"
        self.nodes: dict[str, Node] = {}
        self.made_from: dict[str, set[str]] = {}
        for add in (self._documents, self._chunks, self._examples, self._models):
            add(run)
        self.used_in: dict[str, set[str]] = {}
        for child, parents in self.made_from.items():
            for parent in parents:
                self.used_in.setdefault(parent, set()).add(child)

    # ------------------------------------------------------------ reading

    def _add(self, kind: Kind, identifier: str, label: str, parents: Iterator[str] | tuple[str, ...] = ()) -> None:
        self.nodes[identifier] = Node(kind, identifier, label)
        self.made_from[identifier] = set(parents)

    def _documents(self, run: RunFolder) -> None:
        path = run.path / "1_documents/documents.parquet"
        for document in read_records(path, Document) if path.exists() else ():
            self._add("document", document.id, document.source.uri)

    def _chunks(self, run: RunFolder) -> None:
        path = run.path / "2_chunks/chunks.parquet"
        for chunk in read_records(path, Chunk) if path.exists() else ():
            place = f", page {chunk.page}" if chunk.page else ""
            self._add(
                "chunk", chunk.id, f"{chunk.uri}{place}: {' '.join(chunk.text.split())[:60]}", (chunk.document_id,)
            )

    def _examples(self, run: RunFolder) -> None:
        reviewed: dict[str, list[dict[str, JsonValue]]] = {}
        for row in read_ledger(
            run.path / "3_examples/corrections.jsonl"
        ):  # of several sheets the later read the earlier
            reviewed[str(row["id"])] = [*reviewed.get(str(row["was"]), ()), row]
        evolved = {str(row["id"]): row for row in read_ledger(run.path / "3_examples/evolutions.jsonl")}
        for split in ("train", "validation", "test"):
            path = run.path / f"3_examples/{split}.parquet"
            for example in read_records(path, Example) if path.exists() else ():
                parents = example.chunk_ids or self._rows(example.document_ids)
                for row in reviewed.get(example.id, ()):
                    parents = (*parents, self._review(row))
                told = f"{split}, {example.style}"
                if made := evolved.get(example.id):
                    told += f", {made['evolution']} of {str(made['parent_question'])[:40]!r}"
                    parents = (*parents, *([str(made["parent"])] if made["parent"] else []))
                self._add("example", example.id, f"{told}: {example.question[:60]}", parents)
        path = run.path / "3_examples/preferences.parquet"
        for pair in read_records(path, PreferencePair) if path.exists() else ():
            places = tuple(d for d in pair.document_ids if ":" in d)  # of rows, and of votes beside their documents
            parents = (*pair.chunk_ids, *self._rows(places))
            self._add("preference", pair.id, f"{pair.reason}: {pair.chosen[:40]}", parents)
        path = run.path / "3_examples/ratings.parquet"
        for rating in read_records(path, RatedReply) if path.exists() else ():
            thumb = "wanted" if rating.is_wanted else "unwanted"
            self._add("preference", rating.id, f"{thumb}: {rating.reply[:40]}", self._rows(rating.document_ids))

    def _review(self, row: dict[str, JsonValue]) -> str:
        """The line of a review sheet that shaped an example, with what it changed."""
        place = str(row["sheet"])
        changed = [
            f"{what} was {str(row[f'{what}_was'])[:60]!r}"
            for what in ("question", "answer")
            if row[what] != row[f"{what}_was"]
        ]
        self._add("review", place, f"{row['decision']}{': ' if changed else ''}{', '.join(changed)}")
        return place

    def _rows(self, places: tuple[str, ...]) -> tuple[str, ...]:
        """Rows of `generate.data` and lines of `generate.votes`, `file:number`, each with its file above it."""
        for place in places:
            file = place.rpartition(":")[0]
            self._add("document", file, file)
            self._add("row", place, place, (file,))
        return places

    def _models(self, run: RunFolder) -> None:
        for training in ("pretrain", "sft", "preference", "rl"):
            path = run.path / f"4_adapters/{training}/adapter.json"
            if path.exists():
                adapter = Adapter.model_validate(read_json(path))
                parents = (*adapter.example_ids, *((adapter.parent,) if adapter.parent else ()))
                self._add("adapter", adapter.id, f"{adapter.method}, {len(adapter.example_ids)} examples", parents)
        for path in sorted((run.path / MERGES).glob("*/adapter.json")):
            self._merge(MergedAdapter.model_validate(read_json(path)))
        for path in sorted((run.path / "6_builds").glob("*.build.json")):
            build = ModelBuild.model_validate(read_json(path))
            self._add(
                "build",
                build.id,
                f"{build.path}, {build.quantisation}",
                (build.adapter_id,) if build.adapter_id else (),
            )

    def _merge(self, merge: MergedAdapter) -> None:
        parents = tuple(dict.fromkeys(i for part in merge.parts for i in (*part.chain, part.adapter)))
        for parent in parents:
            if parent not in self.nodes:
                self._add("adapter", parent, "of another run, or of an earlier training of this one")
        self._add("adapter", merge.id, f"merge {merge.name}: {merge.method} of {len(merge.parts)}", parents)

    # ------------------------------------------------------------ walking

    def find(self, wanted: str) -> Node:
        """Return the node with this id, id prefix, document name or build path; says what there is if nothing fits."""
        if wanted in self.nodes:
            return self.nodes[wanted]
        matches = [
            n
            for n in self.nodes.values()
            if n.id.startswith(wanted)
            or (n.kind == "document" and (n.label == wanted or n.label.rpartition("/")[2] == wanted))
            or (n.kind == "build" and wanted in n.label)
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise DatasetError(
                "several things match",
                where="trace",
                found="; ".join(f"{n.id} {n.label}" for n in matches[:5]),
                fix="Give the whole id.",
            )
        for item, reason in self.left_out.items():
            if wanted in (item, item.rpartition("/")[2]):
                raise DatasetError(
                    f"{item} was left out, so nothing was made from it",
                    where="trace",
                    found=reason,
                    fix="Mend the file or the setting and run again.",
                )
        raise DatasetError(
            "nothing in this run has this id or name",
            where="trace",
            found=wanted,
            fix="Give an id (doc_, chk_, exa_, prf_, ada_, bld_), the file name of a document or of rows, a row (file:number), or the name of a built file.",
        )

    def upward(self, node: Node) -> dict[Kind, list[Node]]:
        """Return what the node was made from, by kind."""
        return self._walk(node, self.made_from)

    def downward(self, node: Node) -> dict[Kind, list[Node]]:
        """Return what was made from the node, by kind: all that must be rebuilt if it is taken away."""
        return self._walk(node, self.used_in)

    def _walk(self, node: Node, edges: dict[str, set[str]]) -> dict[Kind, list[Node]]:
        seen: set[str] = set()
        waiting = [node.id]
        while waiting:
            for other in edges.get(waiting.pop(), ()):
                if other not in seen and other in self.nodes:
                    seen.add(other)
                    waiting.append(other)
        found: dict[Kind, list[Node]] = {}
        for kind in ORDER:
            nodes = sorted((self.nodes[i] for i in seen if self.nodes[i].kind == kind), key=lambda n: n.label)
            if nodes:
                found[kind] = nodes
        return found
