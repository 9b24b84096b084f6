import json
from pathlib import Path

import pytest
import yaml

from fieldwise.cli import main
from fieldwise.data.versions import difference
from fieldwise.records import Document, Source
from fieldwise.tables import write_records


def write(folder: Path, **splits: int) -> Path:
    folder.mkdir(parents=True)
    for split, count in splits.items():
        rows = ({"question": f"How long is log {split} {n} kept?", "answer": f"{n} days"} for n in range(count))
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_a_card_tells_version_splits_terms_and_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, card = write(tmp_path / "logs", train=40, test=2), tmp_path / "README.md"
    command = ["data", "card", str(rows), "--out", str(card), "--licence", "CC BY: 4.0"]
    assert main(command) == 0
    version = difference(rows, rows, {}).versions[0]
    _, front, body = card.read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front) == {"license": "CC BY: 4.0", "language": ["en"], "tags": ["fieldwise"]}
    assert f"Version `{version}`" in body and "| train | 40 | 40 |" in body and "| test | 2 | 2 |" in body
    assert "# logs" in body and "Terms: CC BY: 4.0." in body and "**note** test has 2 rows" in body
    assert "How it was made" not in body

    assert main(command) == 2 and "stands there already" in capsys.readouterr().err
    assert main([*command, "--force", "--name", "The logs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(card), "version": version, "fit": True}
    assert "# The logs" in card.read_text(encoding="utf-8")


def test_the_card_of_a_run_tells_how_it_was_made_and_the_terms_of_its_documents(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    for n in range(3):
        text = "\n\n".join(f"The log of ward {n}{m} is kept for {m + 2} days." for m in range(9))
        (tmp_path / f"documents/ward-{n}.md").write_text(f"# Ward {n}\n\n{text}\n", encoding="utf-8")
    run, card = tmp_path / "run", tmp_path / "card.md"
    sources = f"collect.sources=[{tmp_path / 'documents'}]"
    assert main(["run", "--end", "3", "--run", str(run), sources, "retrieve.embedding=none", "--quiet"]) == 0
    kept = [Document.make(title=t, text=t, source=Source(uri=t, licence="CC0")) for t in ("a", "b")]
    write_records(run / "2_chunks/documents.parquet", kept, Document)
    assert main(["data", "card", str(run), "--out", str(card), "--quiet"]) == 0
    made = json.loads((run / "3_examples/card.json").read_text())
    text = card.read_text(encoding="utf-8")
    assert (
        f"from {made['chunks']} passages, {made['chunks_covered']} of which gave an example; questions written by rules"
        in text
    )
    assert "Terms of the documents: CC0 2." in text and "Documents or questions on two sides: 0." in text
    assert f"| train | {made['train']} |" in text
