"""The gate over weights that were really trained: answers that slipped by a row are refused, a file of the same weights is not.

As it happens to people: the same rows, the same settings, only that the column of answers slipped in the sheet. What is
required are the regressions of `EvaluateSettings()` as a recipe has them that says nothing; no threshold belongs to this test.
The base is the embedded one of ten million weights, which reads; SFT is the product's own but for one epoch in place of three,
as in the quickstart, and 96 rows. Rows and questions are invented ones (`fieldwise data sample`). 180 questions, since with 84
the gate said INCONCLUSIVE of the file of 8 bits, as it should.

Found when this was written: the file -0.006 [-0.027, +0.015] token F1, PASS; slipped answers -0.383 [-0.462, -0.303], FAIL by
all three metrics. About 90 seconds of processor time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from sessions import session_in

from fieldwise.cli import main
from fieldwise.data.sample import DOMAINS, Sample, samples
from fieldwise.engine.base_weights import resolve
from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.evaluate.gate import EXIT_CODES
from fieldwise.files import write_json, write_jsonl, write_text
from fieldwise.interfaces import Sampling
from fieldwise.prompts import grounded_prompt, is_declined
from fieldwise.records import Chunk, Example, Message, RetrievedPassage, Timings
from fieldwise.release.gguf import convert
from fieldwise.release.quantise import quantise
from fieldwise.retrieve.grounded import grounded_answer
from fieldwise.train.hardware import detect
from fieldwise.train.settings import SftSettings
from fieldwise.train.sft import train_sft

pytestmark = pytest.mark.slow
ROWS, QUESTIONS, SEED = 96, 180, 11


class Silent:
    def log(self, stage: str, step: int, figures: dict[str, float]) -> None: ...


class Asked(NamedTuple):
    """An invented question over its passage, with a known answer or none."""

    sample: Sample

    @property
    def prompt(self) -> tuple[Message, ...]:
        return grounded_prompt(self.sample.question, [self.sample.context])

    @property
    def reply(self) -> str:
        return self.sample.answer if is_declined(self.sample.answer) else f"{self.sample.answer} [1]"


def drawn(count: int, seed: int) -> list[Asked]:
    return [Asked(s) for domain in DOMAINS for s in samples(domain, count // len(DOMAINS), seed)]


def taught(rows: Sequence[Asked], replies: Sequence[str], place: Path) -> Path:
    """SFT of the embedded base by the product's settings; returns the file of 32 bits."""
    examples = [
        Example.make(
            question=row.sample.question,
            answer=reply,
            kind="sample",
            style="grounded",
            conversation=(*row.prompt, Message(role="assistant", content=reply)),
        )
        for row, reply in zip(rows, replies, strict=True)
    ]
    outcome = train_sft(
        Path(resolve("fieldwise-nano/nano-10m").path), examples, [], SftSettings(epochs=1), detect("auto", 0),
        session=session_in(place, Silent(), seed=SEED, save_steps=10_000),
    )  # fmt: skip
    convert(outcome.merged, place / "whole.gguf")
    return place / "whole.gguf"


def measured(file: Path, asked: Sequence[Asked], run: Path) -> Path:
    """A run folder with what a file answers to the questions, each over its own passage."""
    engine = LlamaCppEngine(file, parallel=8)
    try:
        prompts = [engine.render(a.prompt) for a in asked]
        replies = engine.generate(prompts, Sampling(max_tokens=48))
    finally:
        engine.close()
    rows: Iterator[dict[str, object]] = (
        {
            "id": f"q{n}",
            "question": a.sample.question,
            "expected": None if is_declined(a.sample.answer) else a.sample.answer,
            "aliases": [],
            "document": f"d{n}.md",
            "kind": a.sample.kind,
            "answer": grounded_answer(
                reply.text, [shown(a, n)], "m", timings=Timings(), finish_reason="stop", prompt_tokens=0,
                completion_tokens=0,
            ).model_dump(mode="json", exclude={"timings"}),
        }
        for n, (a, reply) in enumerate(zip(asked, replies, strict=True))
    )  # fmt: skip
    write_jsonl(run / "5_reports/predictions/rag_tuned.jsonl", rows)
    write_json(run / "5_reports/report.json", {"systems": [], "questions_sha256": "0" * 64})
    write_text(run / "recipe.yaml", "name: t\ncollect: {sources: [x]}\n")
    return run


def shown(asked: Asked, number: int) -> RetrievedPassage:
    text, name = asked.sample.context, f"d{number}.md"
    chunk = Chunk(id=name, document_id=name, uri=name, title=name, start=0, end=len(text), text=text)
    return RetrievedPassage(chunk=chunk, score=1.0)


def test_sft_on_shuffled_answers_fails_and_a_file_of_the_same_weights_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = drawn(ROWS, SEED)
    known = {row.sample.question for row in rows}
    asked = [a for a in drawn(QUESTIONS, SEED + 1) if a.sample.question not in known]
    replies = [row.reply for row in rows]
    honest = taught(rows, replies, tmp_path / "honest")
    random.Random(0).shuffle(replies)
    slipped = taught(rows, replies, tmp_path / "slipped")
    quantise(honest, tmp_path / "q8_0.gguf", "q8_0")
    before = measured(honest, asked, tmp_path / "before")
    capsys.readouterr()

    def gate(file: Path, run: Path) -> dict[str, str]:
        code = main(["gate", "--run", str(measured(file, asked, run)), "--baseline", str(before), "--json"])
        report = json.loads(capsys.readouterr().out)
        assert code == EXIT_CODES[report["verdict"]] and report["questions"] == len(asked) > 150
        return {"verdict": report["verdict"], **{g["metric"]: g["verdict"] for g in report["gates"]}}

    assert gate(tmp_path / "q8_0.gguf", tmp_path / "unchanged")["verdict"] != "FAIL"
    assert set(gate(slipped, tmp_path / "worse").values()) == {"FAIL"}
