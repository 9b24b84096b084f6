"""The released files of a run, put through a suite in this process."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tiny_models import make_tiny_llama

from fieldwise.cli import main
from fieldwise.files import write_json
from fieldwise.records import ModelBuild
from fieldwise.release.gguf import convert


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tuned file and its base: two sets of random weights."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        name: convert(make_tiny_llama(folder / name, seed=seed), folder / f"{name}.gguf").path.read_bytes()
        for name, seed in (("tuned", 0), ("base", 1))
    }


@pytest.fixture
def run(gguf: dict[str, bytes], tmp_path: Path) -> Path:
    folder = tmp_path / "run"

    def build(name: str, kind: str) -> dict[str, object]:
        path = folder / f"6_builds/ward-{kind}.gguf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gguf[name])
        digest = hashlib.sha256(gguf[name]).hexdigest()
        made = ModelBuild(
            id=kind,
            format="gguf",
            quantisation="f32",
            adapter_id="a" if name == "tuned" else None,
            sha256=digest,
            bytes=1,
            path=f"6_builds/{path.name}",
        )
        return made.model_dump(mode="json")

    release = {
        "name": "ward",
        "serve": "f32",
        "builds": [build("tuned", "f32")],
        "base_build": build("base", "base-f32"),
    }
    write_json(folder / "6_builds/release.json", release)
    return folder


@pytest.fixture
def suite(tmp_path: Path) -> str:
    rows = [
        {
            "id": f"i{n}",
            "question": f"How long is wound {n} covered?",
            "answer": "48 hours",
            "passages": ["Cover it for 48 hours."],
        }
        for n in range(3)
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    return str(tmp_path / "own.jsonl")


def test_the_tuned_file_and_its_base_are_asked_and_compared(run: Path, suite: str, capsys) -> None:
    arguments = [
        "suite",
        suite,
        "--run",
        str(run),
        "--model",
        "tuned",
        "--model",
        "base",
        "--max-tokens",
        "5",
        "--quiet",
    ]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [m["model"] for m in told["models"]] == ["tuned", "base"]
    assert told["models"][0]["identity"] != told["models"][1]["identity"]
    assert all(m["passed"]["n"] == 3 for m in told["models"])
    ledgers = sorted((run / "suites/own").glob("*/replies.jsonl"))
    before = [p.read_bytes() for p in ledgers]
    assert len(before) == 2 and before[0] != before[1]
    assert main(arguments) == 0 and [p.read_bytes() for p in ledgers] == before
    assert "base against tuned" in capsys.readouterr().out


def test_a_file_that_is_not_the_released_one_is_refused(run: Path, suite: str, capsys) -> None:
    (run / "6_builds/ward-f32.gguf").write_bytes(b"another")
    assert main(["suite", suite, "--run", str(run), "--quiet"]) == 2
    assert "not the one that was released" in capsys.readouterr().err
    (run / "6_builds/ward-f32.gguf").unlink()
    assert main(["suite", suite, "--run", str(run), "--quiet"]) == 2
    assert "is not there" in capsys.readouterr().err


def test_a_model_that_was_not_built_is_named(run: Path, suite: str, capsys) -> None:
    assert main(["suite", suite, "--run", str(run), "--model", "q2_k", "--quiet"]) == 2
    assert "Choose one of: f32" in capsys.readouterr().err
