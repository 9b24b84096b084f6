"""The whole journey over public benchmarks of three fields: nano base against tuned, with the full report of each.

    python benchmarks/bench_domains.py CORPORA --out runs/domains                     # all that stand there
    python benchmarks/bench_domains.py CORPORA --only pubmedqa --questions 40 --train 60 --steps 3

CORPORA is a folder with `pubmedqa/pqal.jsonl` (PQA-L; Jin et al. 2019), `legalbench/*.jsonl` with `prompts/` (Guha et al. 2023) and
`tatqa/tatqa_dataset_dev.json` (Zhu et al. 2021); what is missing is left out. Each becomes documents (an abstract, a clause, a table
with its paragraphs), rows to train on, and questions that are asked of documents which no row to train on is about. The gates
judge and do not stop the run: these figures are to be read, not to be released.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

from fieldwise.evaluate.constant import METRIC, hold_against
from fieldwise.evaluate.kept import read_report
from fieldwise.evaluate.metrics import exact_match
from fieldwise.evaluate.report import Scored
from fieldwise.evaluate.table import cell, plain
from fieldwise.files import read_jsonl, read_ledger, write_jsonl, write_text
from fieldwise.records import Answer, Question
from fieldwise.run import RunFolder

_SUITES = {"pubmedqa": "healthcare", "legalbench": "legal", "tatqa": "finance"}


class Asked(NamedTuple):
    """A document with one question about it."""

    document: str
    text: str
    question: str
    answer: str
    kind: str
    context: str


# ---------------------------------------------------------------- corpora


def pubmedqa(folder: Path) -> Iterator[Asked]:
    """Abstracts without their conclusion; the answer is yes, no or maybe."""
    for line in (folder / "pqal.jsonl").read_text(encoding="utf-8").strip().split("\n"):
        row = json.loads(line)
        parts = [f"{label.title()}: {text}" for label, text in zip(row["labels"], row["contexts"], strict=False)]
        text, question = "\n\n".join(parts), f"{row['question']} Answer yes, no or maybe."
        yield Asked(
            f"{row['pmid']}.md",
            f"# Abstract {row['pmid']}\n\n{text}\n",
            question,
            row["final_decision"],
            "decision",
            text,
        )


def legalbench(folder: Path) -> Iterator[Asked]:
    """Clauses of contracts; whether one is of a kind, yes or no."""
    for path in sorted(folder.glob("*.jsonl")):
        prompt = (folder / "prompts" / f"{path.stem}.txt").read_text(encoding="utf-8")
        if "Clause: {{text}}" not in prompt:
            continue
        task = re.sub(r"\s+", " ", prompt.split("\n\n")[0].partition("Clause:")[0]).strip()
        for number, line in enumerate(path.read_text(encoding="utf-8").strip().split("\n")):
            row = json.loads(line)
            text = row["text"].replace("<omitted>", " ... ").strip()
            name = f"{path.stem}-{number:03d}"
            yield Asked(
                f"{name}.md", f"# Clause {name}\n\n{text}\n", f"{task} Clause: {text}", row["label"], path.stem, text
            )


def tatqa(folder: Path) -> Iterator[Asked]:
    """Tables of annual reports with their paragraphs; answers that are one span, or one number with its scale."""
    for number, row in enumerate(json.loads((folder / "tatqa_dataset_dev.json").read_text(encoding="utf-8"))):
        cells = [[re.sub(r"\s+", " ", c).replace("|", "/") for c in line] for line in row["table"]["table"]]
        lines = ["| " + " | ".join(line) + " |" for line in cells]
        table = "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])
        paragraphs = "\n\n".join(p["text"] for p in sorted(row["paragraphs"], key=lambda p: p["order"]))
        text = f"{table}\n\n{paragraphs}"
        for asked in row["questions"]:
            answer = asked["answer"]
            said = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
            if not isinstance(said, list) and asked["answer_type"] != "multi-span":
                shown = f"{said} {asked['scale']}".strip()
                yield Asked(
                    f"{number:03d}.md",
                    f"# Report {number:03d}\n\n{text}\n",
                    asked["question"],
                    shown,
                    asked["answer_type"],
                    text,
                )


CORPORA: dict[str, Callable[[Path], Iterator[Asked]]] = {"pubmedqa": pubmedqa, "legalbench": legalbench, "tatqa": tatqa}


# ---------------------------------------------------------------- recipe


def make_recipe(name: str, folder: Path, place: Path, options: argparse.Namespace) -> Path:
    """Write documents, rows, questions and a recipe; questions and rows are never about the same document."""
    items = sorted(CORPORA[name](folder), key=lambda a: (a.document, a.question))
    documents = list(dict.fromkeys(a.document for a in items))
    Random(options.seed).shuffle(documents)
    held = set(documents[: max(1, len(documents) // 2)])
    rng = Random(options.seed)
    asked, rows = ([a for a in items if (a.document in held) is is_held] for is_held in (True, False))
    for part, most in ((asked, options.questions), (rows, options.train)):
        rng.shuffle(part)
        del part[most:]
    for one in [*asked, *rows]:
        write_text(place / "documents" / one.document, one.text)
    write_jsonl(
        place / "rows.jsonl", ({"question": r.question, "context": r.context, "answer": r.answer} for r in rows)
    )
    write_jsonl(
        place / "questions.jsonl",
        ({"question": a.question, "answer": a.answer, "document": a.document, "kind": a.kind} for a in asked),
    )
    recipe: dict[str, Any] = {
        "name": name,
        "domain": _SUITES[name],
        "seed": options.seed,
        "collect": {"sources": ["documents"], "ocr": "off"},
        "prepare": {},
        "generate": {"data": ["rows.jsonl"]},
        "train": {
            # all that the base can read: at 512 tokens more than half of the abstracts would be left out
            "sft": {"max_steps": options.steps, "max_length": 1024},
            "preference": {"enabled": False},
        },
        "evaluate": {
            "questions": "questions.jsonl",
            "systems": ["base", "rag_base", "sft", "rag_tuned"],
            "suites": [_SUITES[name]],
        },
        "release": {"quantisations": ["q8_0"], "override": "benchmark: measured, not released"},
    }
    recipe["evaluate"]["gates"] = [
        {"metric": "token_f1"},
        {"metric": "token_f1", "baseline": "rag_base", "requires": "not_worse", "margin": 0.05},
    ]
    if options.from_rows_alone:
        recipe["generate"]["from_documents"] = False
    write_text(place / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    return place / "recipe.yaml"


def beside_the_commonest(place: Path, run: Path) -> str:
    """What always saying the commonest answer of the rows would reach, and how the tuned system stands to it."""
    said = Counter(str(row["answer"]) for row in read_jsonl(place / "rows.jsonl")).most_common(1)[0][0]
    rows = list(read_ledger(run / "5_reports/predictions/rag_tuned.jsonl"))
    questions = [
        Question(id=str(r["id"]), question=str(r["question"]), answer=str(r["expected"]), document=str(r["document"]))
        for r in rows
    ]
    answers = [Answer.model_validate(r["answer"]) for r in rows]
    tuned = Scored("rag_tuned", METRIC, tuple(map(exact_match, answers, questions)))
    found = hold_against(said, tuned, questions, 2000, 0)
    more = found.difference
    told = f"{more.value:+.2f} [{more.low:+.2f}, {more.high:+.2f}]"
    return f"Always {said!r}: exact match {cell(found.exact_match)}; RAG over the tuned less that: {told}"


def main() -> None:
    """Run the journey of every corpus that stands there, and print its table."""
    options = _options()
    done = 0
    for name in options.only or CORPORA:
        folder = options.corpora / name
        if not folder.is_dir():
            print(f"{name}: not at {folder}, left out", file=sys.stderr)
            continue
        recipe = make_recipe(name, folder, options.out / name, options)
        began = time.monotonic()
        run = options.out / name / "run"
        command = [sys.executable, "-m", "fieldwise", "run", "--config", str(recipe), "--run", str(run)]
        command += ["--end", options.end] if options.end else []
        finished = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if finished.returncode not in (0, 3) or not (run / "5_reports/report.json").exists():
            sys.exit(f"{name}: the run ended with {finished.returncode}")
        print(f"\n{name}, {time.monotonic() - began:.0f} s, {run / '5_reports/report.html'}\n")
        print(plain(read_report(RunFolder(run))))
        print(f"\n{beside_the_commonest(options.out / name, run)}")
        done += 1
    sys.exit(0 if done else "no corpus was found")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/domains"))
    parser.add_argument("--only", nargs="*", choices=list(CORPORA))
    parser.add_argument("--questions", type=int, default=300, help="questions of each corpus (default 300)")
    parser.add_argument("--train", type=int, default=500, help="rows to train on (default 500)")
    parser.add_argument("--steps", type=int, default=-1, help="steps of SFT (default: one epoch)")
    parser.add_argument("--from-rows-alone", action="store_true", help="train on the rows, not on what documents give")
    parser.add_argument("--end", help="stop behind this stage; 4 leaves out file and suites")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()
