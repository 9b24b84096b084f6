"""Runs with adapters of tiny weights, published as the stages publish them, without a training."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_models import edit_json, make_adapter

from fieldwise.adapters.factors import AdapterFiles, read_updates
from fieldwise.adapters.weights import write_full
from fieldwise.engine.base_weights import resolve
from fieldwise.files import write_json, write_jsonl
from fieldwise.hashing import content_id, sha256_of_files
from fieldwise.pipeline import choose, parts_of
from fieldwise.recipe import Recipe, load_recipe, save_recipe
from fieldwise.records import Answer, Document, Example, Message, PreferencePair, Question, Source
from fieldwise.run import RunFolder
from fieldwise.tables import write_records

QUESTIONS = [Question(id=f"q{n}", question=f"Q{n}?", answer="14 days", document=f"d{n % 12}.md") for n in range(24)]


def files_of(folder: Path) -> AdapterFiles:
    return AdapterFiles(folder / "adapter_config.json", folder / "adapter_model.safetensors")


def example(word: str) -> Example:
    said = (Message(role="user", content=f"What is {word}?"), Message(role="assistant", content=word))
    return Example.make(
        question=f"What is {word}?", answer=word, kind="fact", conversation=said, document_ids=(document(word).id,)
    )


def document(word: str) -> Document:
    return Document.make(title=word, text=f"All about {word}.", source=Source(uri=f"{word}.md"))


@dataclass
class Home:
    """A run folder that is filled by hand, with the keys that the pipeline would give."""

    run: RunFolder
    recipe: Recipe
    base: Path
    targets: list[str] | None = None

    def publish(self, number: str, files: dict[str, Any], facts: dict[str, Any] | None = None, **settings: Any) -> None:
        step = choose(number)[0]
        parts = {"step": step.id, "inputs": {}} if number == "1" else parts_of(step, self.recipe, self.run)
        assert parts is not None
        parts = {**parts, "settings": settings or parts.get("settings")}
        staging = self.run.staging(step.id)
        for name, content in files.items():
            place = staging / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copytree(content, place)
            elif isinstance(content, list):
                write_records(place, content, type(content[0])) if name.endswith("parquet") else write_jsonl(
                    place, content
                )
            else:
                write_json(place, content)
        self.run.publish(step.id, content_id("key", parts), parts, staging, facts or {}, 1.0)

    def prepare(self, *words: str) -> None:
        with self.run.locked("test"):
            self.publish("1", {"1_documents/provenance.json": {}})
            self.publish("2", {"2_chunks/documents.parquet": [document(w) for w in words], "2_chunks/report.json": {}})
            self.publish("2i", {"2_chunks/index/index.json": {}})
            pair = PreferencePair.make(
                prompt=(Message(role="user", content="?"),), chosen=words[0], rejected="", judge="rules", reason="r"
            )
            made = {
                "3_examples/train.parquet": [example(w) for w in words],
                "3_examples/preferences.parquet": [pair],
                "3_examples/card.json": {},
            }
            self.publish("3", made, {"version": content_id("dat", list(words))})
        self.words = words

    def train(self, folder: Path, *, rank: int = 4, seed: int = 1, preference: bool = True) -> tuple[str, str | None]:
        """Publish a training of random adapters; returns the ids of SFT and preference."""
        made: dict[str, Any] = {}
        sft = self._adapter(
            made, folder / "sft", "sft", self.base, None, rank, seed, [example(w).id for w in self.words]
        )
        other = None
        if preference:
            merged = folder / "sft/merged"
            other = self._adapter(made, folder / "preference", "preference", merged, sft, rank, seed + 50, ["prf_1"])
        with self.run.locked("test"):
            self.publish("4b", made, {"sft": {"eval_loss": 1.5}}, rank=rank, seed=seed)
        return sft, other

    def train_on_plain(self, folder: Path, plain: Path, targets: list[str] | None = None) -> str:
        """Publish an SFT whose random adapter is made on other weights than the base it states; returns its id."""
        made: dict[str, Any] = {}
        stated, self.base, self.targets = self.base, plain, targets
        identifier = self._adapter(made, folder / "sft", "sft", plain, None, 4, 8, [example(w).id for w in self.words])
        self.base = stated
        made["4_adapters/sft/adapter.json"]["base_sha256"] = resolve(str(stated)).sha256
        edit_json(folder / "sft/adapter/adapter_config.json", base_model_name_or_path=str(stated))
        with self.run.locked("test"):
            self.publish("4b", made)
        return identifier

    def _adapter(
        self,
        made: dict[str, Any],
        folder: Path,
        name: str,
        base: Path,
        parent: str | None,
        rank: int,
        seed: int,
        ids: list[str],
    ) -> str:
        adapter = make_adapter(folder / "adapter", base, rank=rank, seed=seed, targets=self.targets or "all-linear")
        (adapter / "README.md").unlink(missing_ok=True)
        config = adapter / "adapter_config.json"
        stated = str(base) if parent is None else "4_adapters/sft/merged"
        config.write_text(config.read_text().replace(str(base), stated))
        write_full(base, read_updates(files_of(adapter)), folder / "merged")
        identifier = content_id("ada", sha256_of_files([p for p in adapter.iterdir() if p.is_file()], adapter))
        inside = sorted(p for p in base.iterdir() if p.is_file())
        record = {
            "id": identifier,
            "method": "dpo" if name == "preference" else name,
            "base_sha256": resolve(str(base)).sha256 if parent is None else sha256_of_files(inside, base),
            "parent": parent,
            "recipe_hash": "0" * 64,
            "example_ids": ids,
            "metrics": {"loss": 1.25},
            "path": f"4_adapters/{name}/adapter",
        }
        made |= {
            f"4_adapters/{name}/adapter": folder / "adapter",
            f"4_adapters/{name}/merged": folder / "merged",
            f"4_adapters/{name}/adapter.json": record,
        }
        return identifier

    def measure(self, selected: str, right: int, verdict: str = "PASS") -> None:
        """Publish a choice and a report in which so many of the answers are right."""
        answers = ["14 days" if n < right else "a week" for n in range(len(QUESTIONS))]
        given = [Answer(text=a, answer=a, model="m").model_dump(mode="json") for a in answers]
        rows = [
            {"id": q.id, "question": q.question, "expected": q.answer, "document": q.document, "answer": a}
            for q, a in zip(QUESTIONS, given, strict=True)
        ]
        figure = {"value": right / len(QUESTIONS), "low": 0.1, "high": 0.9, "n": len(QUESTIONS)}
        systems = [{"system": s, "figures": {"overall_f1": figure}} for s in ("sft", "preference", "rag_tuned")]
        report = {"questions": len(QUESTIONS), "systems": systems, "verdict": verdict, "seed": 1}
        with self.run.locked("test"):
            self.publish("4a", {"5_reports/predictions/base.jsonl": rows})
            self.publish(
                "4c",
                {
                    "4_adapters/selected.json": {
                        "selected": selected,
                        "metric": "f1",
                        "items": 3,
                        "scores": {selected: 0.5},
                    }
                },
            )
            written: dict[str, Any] = {f"5_reports/predictions/{s['system']}.jsonl": rows for s in systems}
            self.publish("4d", {"5_reports/report.json": report, **written})


def make_home(folder: Path, base: Path, *words: str) -> Home:
    recipe = load_recipe(None, [f"base.model={base}"])
    home = Home(RunFolder(folder), recipe, base)
    with home.run.locked("test"):
        save_recipe(recipe, home.run.recipe_path)
    home.prepare(*(words or ("linen", "rota")))
    return home
