"""Systems that are asked in one command: one search for a question, one prompt for those of one tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import make_tiny_llama

from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.evaluate import asking
from fieldwise.evaluate.asking import answer_questions, make_answerer
from fieldwise.interfaces import Sampling
from fieldwise.records import Answer, Chunk, Document, Question, Source
from fieldwise.retrieve import once
from fieldwise.retrieve.index import build
from fieldwise.retrieve.once import Once
from fieldwise.retrieve.search import HybridRetriever
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.tables import write_records

TEXTS = ("The desk opens at 9:00.", "Visitors leave at 20:00.", "Used needles go into the yellow container.")
QUESTIONS = [
    Question(id=f"q{n}", question=q, answer="9:00")
    for n, q in enumerate(["When does the desk open?", "When do visitors leave?", "Where do needles go?"])
]
SYSTEMS = ("base", "rag_base", "sft", "preference", "rag_tuned")


class Counted:
    """What was searched, and the prompts that were made."""

    def __init__(self) -> None:
        self.searches: list[str] = []
        self.prompts = 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    found, search, render = Counted(), HybridRetriever.search, TransformersEngine.render

    def searched(self: Any, query: str, *rest: Any) -> Any:
        found.searches.append(query)
        return search(self, query, *rest)

    def rendered(self: Any, *arguments: Any, **named: Any) -> Any:
        found.prompts += 1
        return render(self, *arguments, **named)

    monkeypatch.setattr(HybridRetriever, "search", searched)
    monkeypatch.setattr(TransformersEngine, "render", rendered)
    asking._shared.cache_clear()
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return indexed(tmp_path / "run", TEXTS)


def indexed(folder: Path, texts: tuple[str, ...]) -> RunFolder:
    run = RunFolder(folder)
    documents = [Document.make(title=f"P{n}", text=t, source=Source(uri=f"{n}.md")) for n, t in enumerate(texts)]
    chunks = [Chunk.make(d, 0, len(d.text)) for d in documents]
    write_records(run.path / "2_chunks/chunks.parquet", chunks, Chunk)
    build(chunks, run.path / "2_chunks/index", PLAIN)
    return run


PLAIN = RetrieveSettings(embedding="none")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[TransformersEngine]]:
    """The base and weights trained from it: one tokenizer, other weights."""
    folders = [make_tiny_llama(tmp_path_factory.mktemp("weights") / f"w{seed}", seed=seed) for seed in (0, 1)]
    opened = [TransformersEngine(folder, attention="eager") for folder in folders]
    yield opened
    for engine in opened:
        engine.close()


def answers(system: str, engine: Any, run: RunFolder, ledger: Path, settings: RetrieveSettings = PLAIN) -> list[Answer]:
    answerer = make_answerer(system, engine, run, settings, Sampling(max_tokens=4))
    return answer_questions(answerer, QUESTIONS, ledger)


def test_five_systems_search_once_and_share_their_prompts(
    run: RunFolder, engines: list[TransformersEngine], counted: Counted, tmp_path: Path
) -> None:
    base, tuned = engines
    together = {
        s: answers(s, base if s in ("base", "rag_base") else tuned, run, tmp_path / f"{s}.jsonl") for s in SYSTEMS
    }
    assert counted.searches == [q.question for q in QUESTIONS]
    assert counted.prompts == 2 * len(QUESTIONS)  # with passages and without
    asking._shared.cache_clear()
    alone = answers("rag_tuned", tuned, run, tmp_path / "alone.jsonl")
    assert len(counted.searches) == 2 * len(QUESTIONS)
    assert [a.model_copy(update={"timings": b.timings}) for a, b in zip(alone, together["rag_tuned"], strict=True)] == (
        together["rag_tuned"]
    )
    assert all(a.timings.retrieve_seconds > 0 for a in together["rag_tuned"])


def test_another_tokenizer_has_its_own_prompts_over_the_same_passages(
    run: RunFolder, engines: list[TransformersEngine], counted: Counted, tmp_path: Path
) -> None:
    class File:
        """The same weights as a file: an engine that cannot tell how it makes tokens."""

        prompt_identity = ""

        def __getattr__(self, name: str) -> Any:
            return getattr(engines[0], name)

    first = answers("rag_base", engines[0], run, tmp_path / "a.jsonl")
    second = answers("rag_served", File(), run, tmp_path / "b.jsonl")
    assert len(counted.searches) == len(QUESTIONS) and counted.prompts == 2 * len(QUESTIONS)
    assert [a.passages for a in first] == [a.passages for a in second]


def test_other_settings_and_other_passages_are_searched_anew(
    run: RunFolder, engines: list[TransformersEngine], counted: Counted, tmp_path: Path
) -> None:
    answers("rag_base", engines[0], run, tmp_path / "a.jsonl")
    fewer = answers("rag_base", engines[0], run, tmp_path / "b.jsonl", RetrieveSettings(embedding="none", top_k=1))
    assert len(counted.searches) == 2 * len(QUESTIONS) and all(len(a.passages) <= 1 for a in fewer)
    other = indexed(tmp_path / "other", ("The desk opens at 7:00.", *TEXTS[1:]))
    found = answers("rag_base", engines[0], other, tmp_path / "c.jsonl")
    assert len(counted.searches) == 3 * len(QUESTIONS) and "7:00" in found[0].passages[0].chunk.text


def test_what_was_spared_is_charged_as_the_first_one_paid_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(once, "time", SimpleNamespace(monotonic=lambda: now[0]))
    shared = Once()

    def search() -> str:
        now[0] += 2.0
        return "found"

    def prompt() -> str:
        now[0] += 1.0
        return "prompt over " + shared("query", search)

    assert shared("one tokenizer", prompt) == "prompt over found" and (now[0], shared.spared_seconds) == (3.0, 0.0)
    assert shared("one tokenizer", prompt) == "prompt over found" and (now[0], shared.spared_seconds) == (3.0, 3.0)
    shared("another tokenizer", prompt)  # makes its prompt, spares the search
    assert (now[0], shared.spared_seconds) == (4.0, 5.0)
    shared("another tokenizer", prompt)
    assert (now[0], shared.spared_seconds) == (4.0, 8.0)
