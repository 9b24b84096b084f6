"""A run folder with six short documents, their index and questions, made without the stages."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from fieldwise.files import write_json, write_jsonl, write_text
from fieldwise.records import Chunk, Document, Source
from fieldwise.retrieve.index import build
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.tables import write_records

SUBJECTS = {
    "visitors": ("Visitors may stay until 20:00 on weekdays.", "Children under six visit with an adult."),
    "sharps": ("Used needles go into the yellow container.", "A full container is sealed at the line."),
    "pharmacy": ("The on-call pharmacist answers extension 4411.", "Refills are ready after 15:00."),
    "fridges": ("Fridges are kept between 2 and 8 degrees.", "A broken fridge is emptied within 30 minutes."),
    "pumps": ("A grey tag means that the pump is out of order.", "Pumps are tested every 6 months."),
    "parking": ("Staff park on level 3 of the north garage.", "Permits are renewed each April."),
}
QUESTIONS = (
    ("Until when may visitors stay on weekdays?", "20:00", "visitors", 0),
    ("Who visits with an adult?", "Children under six", "visitors", 1),
    ("Where do used needles go?", "the yellow container", "sharps", 0),
    ("Where is a full container sealed?", "at the line", "sharps", 1),
    ("Which extension does the pharmacist answer?", "4411", "pharmacy", 0),
    ("When are refills ready?", "after 15:00", "pharmacy", 1),
    ("How cold are fridges kept?", "between 2 and 8 degrees", "fridges", 0),
    ("How soon is a broken fridge emptied?", "within 30 minutes", "fridges", 1),
    ("What does a grey tag mean?", "the pump is out of order", "pumps", 0),
    ("How often are pumps tested?", "every 6 months", "pumps", 1),
    ("Where do staff park?", "on level 3", "parking", 0),
    ("When are permits renewed?", "each April", "parking", 1),
)
RECIPE = """name: small
domain: healthcare
collect: {{sources: [{folder}]}}
retrieve: {{embedding: none, top_k: 1}}
evaluate: {{questions: {folder}/questions.jsonl, bootstrap_samples: 200}}
"""


@cache
def documents() -> list[Document]:
    return [
        Document.make(title=name.capitalize(), text="\n".join(lines), source=Source(uri=f"{name}.md"))
        for name, lines in SUBJECTS.items()
    ]


@cache
def chunks() -> list[Chunk]:
    """Two chunks of a document: one for each line."""
    made = []
    for document in documents():
        middle = document.text.index("\n") + 1
        made += [Chunk.make(document, 0, middle - 1), Chunk.make(document, middle, len(document.text))]
    return made


def question_rows(prefix: str = "q", words: str = "") -> list[dict[str, object]]:
    return [
        {
            "id": f"{prefix}{n:02}",
            "question": f"{words}{question}",
            "answer": answer,
            "document": f"{name}.md",
            "quote": SUBJECTS[name][line],
            "kind": "first" if line == 0 else "second",
        }
        for n, (question, answer, name, line) in enumerate(QUESTIONS)
    ]


def make_run(place: Path) -> Path:
    """A run of the six documents, searched by words only."""
    run = place / "run"
    write_records(run / "1_documents/documents.parquet", documents(), Document)
    write_records(run / "2_chunks/documents.parquet", documents(), Document)
    write_records(run / "2_chunks/chunks.parquet", chunks(), Chunk)
    write_json(run / "2_chunks/groups.json", {})
    build(chunks(), run / "2_chunks/index", RetrieveSettings(embedding="none"))
    unanswerable = {"id": "u1", "question": "Who paints the doors?", "answer": None}
    write_jsonl(place / "questions.jsonl", [*question_rows(), unanswerable])  # type: ignore[list-item]
    write_text(run / "recipe.yaml", RECIPE.format(folder=place))
    return run


def make_beir(place: Path, *, queries: int = 48) -> Path:
    """A BEIR folder: each sentence is a document; the questions come again with a number, half of them for training."""
    folder = place / "sentences"
    (folder / "qrels").mkdir(parents=True)
    lines = [(name, n, text) for name, texts in SUBJECTS.items() for n, text in enumerate(texts)]
    rows = [{"_id": f"{name}-{n}", "title": name, "text": text} for name, n, text in lines]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = []
    for n in range(queries):
        question, _, name, line = QUESTIONS[n % len(QUESTIONS)]
        asked.append((f"t{n}", f"{question} {n}", f"{name}-{line}"))
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": i, "text": t}) for i, t, _ in asked))
    for split, part in (("train", asked), ("test", asked[:12])):
        body = "".join(f"{i}\t{d}\t1\n" for i, _, d in part)
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{body}")
    return folder
