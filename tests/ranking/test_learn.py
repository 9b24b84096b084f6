from pathlib import Path

import numpy as np
import pytest
from judged_run import make_beir, make_run

from fieldwise.errors import DatasetError
from fieldwise.ranking.learn import fit_pairs, learn
from fieldwise.ranking.reading import read_beir
from fieldwise.ranking.tune import halves
from fieldwise.retrieve.features import LinearModel
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.search import HybridRetriever
from fieldwise.retrieve.settings import RetrieveSettings


def test_weights_point_to_what_tells_relevant_passages_apart() -> None:
    rng = np.random.default_rng(1)
    lists = []
    for _ in range(60):
        rows = rng.normal(size=(10, 3))
        score = 2 * rows[:, 0] - rows[:, 1]
        lists.append((rows, score == score.max()))
    first, second, noise = fit_pairs(lists)
    assert first > 0 > second and first / -second == pytest.approx(2.0, rel=0.35)
    assert abs(noise) < 0.3 * first


def test_one_pair_by_hand() -> None:
    # One pair that differs by 1 in one feature: ridge 0.01 and slope 1 / (1 + e^w) are equal at w = 3.3593.
    found = fit_pairs([(np.array([[1.0, 5.0], [0.0, 5.0]]), np.array([True, False]))])
    assert found[0] == pytest.approx(3.3593, abs=1e-3)
    assert found[1] == 0.0  # a feature in which no pair differs


def test_what_is_learnt_is_proven_on_others(tmp_path: Path) -> None:
    fit, held = halves(read_beir(make_beir(tmp_path, queries=96), "train"), seed=1)
    assert fit.corpus is not None
    settings = RetrieveSettings(embedding="none")
    retriever = HybridRetriever(fit.corpus, LexicalIndex(fit.corpus), None, None, settings)
    learnt = learn(fit, held, retriever, samples=200, seed=1, notes={"questions_of": "sentences"})
    assert learnt.held_out == 48 and learnt.learnt_from >= 20
    assert learnt.model.learnt_from["questions_of"] == "sentences"
    assert not learnt.is_better or (learnt.difference.low or 0) > 0
    again = learn(fit, held, retriever, samples=200, seed=1, notes={"questions_of": "sentences"})
    assert again.model == learnt.model


def test_lists_without_a_relevant_passage_teach_nothing(tmp_path: Path) -> None:
    fit, held = halves(read_beir(make_beir(tmp_path), "train"), seed=1)
    assert fit.corpus is not None
    corpus = [c for c in fit.corpus if c.id == "parking-1"]
    settings = RetrieveSettings(embedding="none")
    retriever = HybridRetriever(corpus, LexicalIndex(corpus), None, None, settings)
    with pytest.raises(DatasetError, match="too few questions to learn from, found 0 of 24"):
        learn(fit, held, retriever, samples=200, seed=1, notes={})


def test_the_command_keeps_a_model_only_if_it_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_retrieval_command import call

    run, out = make_run(tmp_path), tmp_path / "model.json"
    assert call("learn", make_beir(tmp_path, queries=96), "--run", run, "--out", out) == 0
    told = capsys.readouterr().out
    assert out.exists() == ("rerank_model" in told) != ("Not kept" in told)
    if out.exists():
        assert LinearModel.read(out).weights
