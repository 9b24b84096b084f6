from pathlib import Path

import numpy as np
import pytest
from judged_run import chunks, documents, make_beir, question_rows

from fieldwise.errors import DatasetError
from fieldwise.ranking.corpus import embed_blocks
from fieldwise.ranking.judged import JudgedSet
from fieldwise.ranking.reading import from_questions, read_beir
from fieldwise.ranking.tune import halves, narrowed, tune
from fieldwise.records import Question
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.search import HybridRetriever, Legs
from fieldwise.retrieve.settings import RetrieveSettings


class Misleading:
    """Vectors that lie nearest to a wrong passage for every query: all weight belongs to the words."""

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0]] * len(texts), np.float32)


def retriever(judged: JudgedSet, weight: float) -> HybridRetriever:
    assert judged.corpus is not None
    settings = RetrieveSettings(dense_weight=weight)
    vectors = np.array([[1.0 - 0.01 * n, 0.0] for n in range(len(judged.corpus))], np.float32)
    return HybridRetriever(judged.corpus, LexicalIndex(judged.corpus), Misleading(), vectors, settings)  # type: ignore[arg-type]


def test_halves_share_no_document_and_lose_no_question(tmp_path: Path) -> None:
    questions = [Question.model_validate(row) for n in range(5) for row in question_rows(f"{n}-", f"{n} ")]
    judged = from_questions(questions, chunks(), documents(), name="questions")
    fit, held = halves(judged, seed=1)
    assert not {q.cluster for q in fit.queries} & {q.cluster for q in held.queries}
    assert len(fit.queries) + len(held.queries) == len(judged.queries)
    assert [q.id for q in halves(judged, seed=1)[0].queries] == [q.id for q in fit.queries]


def test_too_few_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"too few questions to tune on.*6 to choose on and 6 to prove it"):
        halves(read_beir(make_beir(tmp_path), "test"), seed=1)


def test_a_misleading_leg_loses_its_weight_and_the_lines_say_so(tmp_path: Path) -> None:
    fit, held = halves(read_beir(make_beir(tmp_path), "train"), seed=1)
    tuned = tune(fit, held, retriever(fit, 1.0), samples=200, seed=1)
    assert tuned.chosen.dense_weight < 0.5 and tuned.current.ndcg < tuned.chosen.ndcg
    assert tuned.is_better and tuned.lines.startswith("retrieve:\n  dense_weight: ")
    assert f"dense_weight: {tuned.chosen.dense_weight:g}" in tuned.lines


def test_settings_that_are_as_good_as_any_stay(tmp_path: Path) -> None:
    fit, held = halves(read_beir(make_beir(tmp_path), "train"), seed=1)
    best = tune(fit, held, retriever(fit, 1.0), samples=200, seed=1).chosen
    settings = RetrieveSettings(dense_weight=best.dense_weight, candidates=best.candidates)
    again = retriever(fit, best.dense_weight)
    again.settings = settings
    tuned = tune(fit, held, again, samples=200, seed=1)
    assert tuned.chosen == tuned.current and tuned.lines == "" and not tuned.is_better


def test_fewer_candidates_are_what_a_narrower_search_finds(tmp_path: Path) -> None:
    search = retriever(read_beir(make_beir(tmp_path), "train"), 0.4)
    wide, narrow = (search.legs("Where are pumps and fridges tested?", count) for count in (12, 2))
    assert narrowed(wide, 2) == narrow
    assert narrowed(Legs({}, {}), 5) == Legs({}, {})


def test_vectors_are_read_again_and_only_for_the_same_texts(tmp_path: Path) -> None:
    class Counting:
        dimensions, fingerprint, asked = 2, "counting/1", 0

        def encode(self, texts: list[str]) -> np.ndarray:
            self.asked += len(texts)
            return np.full((len(texts), 2), float(len(texts[0])), np.float32)

    embedder = Counting()
    first = embed_blocks(["one", "two"], embedder, tmp_path)  # type: ignore[arg-type]
    assert embedder.asked == 2
    again = embed_blocks(["one", "two"], embedder, tmp_path)  # type: ignore[arg-type]
    assert embedder.asked == 2 and np.array_equal(first, again)
    embed_blocks(["one", "three"], embedder, tmp_path)  # type: ignore[arg-type]
    assert embedder.asked == 4
