"""A small journey over a handful of the example documents, by the real command line in a child process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

DOCUMENTS = Path("examples/documents/healthcare")
QUESTIONS = Path("examples/questions/healthcare.jsonl")
NAMES = (
    "medication-storage.md",
    "visitor-rules.html",
    "on-call-rota.docx",
    "controlled-drugs.pdf",
    "falls-prevention.md",
    "record-retention.pdf",
    "radiology-booking.html",
    "laundry-notice-scanned.pdf",
    "quiet-room-notice.md",
    "interpreter-service.docx",
    "interpreter-service.html",
    "specimen-labels.md",
)
QUICK = (
    "base.model=fieldwise-nano",
    "train.sft.max_steps=6",
    "train.sft.max_length=768",
    "train.preference.max_steps=2",
    "train.checkpoint_every_steps=2",
    "generate.max_per_chunk=2",
    "generate.grounded_share=0.2",
    "generate.preference_pairs=8",
    "evaluate.bootstrap_samples=200",
    "evaluate.max_new_tokens=16",
    "release.parity_prompts=3",
    "release.max_score_loss=0.5",  # so few questions decide nothing
)
NO_GATES = "evaluate.gates=[]"


def prepare(folder: Path) -> Path:
    """Copy documents, questions and a recipe into a folder; returns the recipe."""
    documents = folder / "documents"
    documents.mkdir(parents=True)
    for name in NAMES:
        shutil.copyfile(DOCUMENTS / name, documents / name)
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    kept = [r for r in rows if r["document"] in NAMES][:26] + [r for r in rows if r["answer"] is None][:22]
    (folder / "questions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kept), encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: small handbook\ndomain: healthcare\ncollect: {sources: [documents], ocr: off}\nevaluate: {questions: questions.jsonl}\n"
    )
    return recipe


def command(recipe: Path, run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "fieldwise", "run", "--config", str(recipe), "--run", str(run), *QUICK, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}


def without_network() -> list[str]:
    """The prefix that runs a command in a network namespace with loopback only; empty where that is not allowed."""
    probe = ["unshare", "--net", "sh", "-c", "ip link set lo up 2>/dev/null; true"]
    try:
        allowed = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return ["unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"] if allowed else []


def fingerprints(run: Path) -> dict[str, dict[str, str]]:
    """Step -> output -> hash, of every manifest of a run."""
    found = {}
    for path in sorted((run / "manifests").glob("*.json")):
        manifest = json.loads(path.read_text())
        found[manifest["step"]] = {name: o["sha256"] for name, o in manifest["outputs"].items()}
    return found
