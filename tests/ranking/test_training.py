import json
from pathlib import Path

import numpy as np
import pytest
from judged_run import make_run
from tiny_encoders import make_encoder, make_marked, make_topics

from fieldwise.errors import FieldwiseError, ModelError
from fieldwise.ranking import proof as proof_module
from fieldwise.ranking.proof import Training, aside, elsewhere, keep, prove
from fieldwise.ranking.reading import read_beir
from fieldwise.ranking.train_embedder import Asked, ignored, train_on
from fieldwise.ranking.tune import halves
from fieldwise.records import Difference
from fieldwise.retrieve.cross_encoder import CrossEncoderReranker
from fieldwise.retrieve.embed import MiniLmEmbedder

torch = pytest.importorskip("torch")
TRAINING = Training(
    kind="embedder", base="b", questions_of="q", questions=1, pairs=1, steps=1, learning_rate=0.1, seed=1, losses=(1.0,), seconds=1
)  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("models") / "encoder")


def call(*words: object) -> int:
    from fieldwise.cli import main

    return main(["retrieval", *map(str, words), "--quiet"])


# ---------------------------------------------------------------- what is kept


def proven(gain: float, worst: float | None = None) -> tuple[bool, str]:
    judged = halves(read_beir_of_topics(), seed=1)[1]
    before = [0.5 + 0.01 * (n % 3) for n in range(len(judged.queries))]
    after = [b + gain + 0.01 * (n % 2) for n, b in enumerate(before)]
    lost = None if worst is None else Difference(value=worst + 0.01, low=worst, high=worst + 0.02, n=9, baseline="b")
    proof = prove(TRAINING, judged, before, after, samples=200, seed=1, elsewhere=lost)
    return proof.is_better, proof.reason


_TOPICS: list[Path] = []


@pytest.fixture(autouse=True, scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _TOPICS.append(make_topics(tmp_path_factory.mktemp("sets")))
    return _TOPICS[-1]


def read_beir_of_topics():  # type: ignore[no-untyped-def]
    return read_beir(_TOPICS[-1], "train")


@pytest.mark.parametrize(
    ("gain", "worst", "kept", "reason"),
    [
        (0.1, None, True, ""),
        (0.1, -0.01, True, ""),
        (-0.005, None, False, "the interval of the difference reaches 0"),
        (0.1, -0.03, False, "out of its domain it may lose more than 0.02"),
    ],
)
def test_only_what_is_better_and_loses_little_elsewhere_is_kept(
    gain: float, worst: float | None, kept: bool, reason: str
) -> None:
    assert proven(gain, worst) == (kept, reason)


def test_what_is_not_kept_leaves_nothing_and_what_is_takes_the_place_of_the_older(tmp_path: Path) -> None:
    place = tmp_path / "model"
    with aside(place) as work:
        (work / "model.safetensors").write_text("weights")
    assert list(tmp_path.iterdir()) == []
    judged = halves(read_beir_of_topics(), seed=1)[1]
    proof = prove(TRAINING, judged, [0.0] * len(judged.queries), [1.0] * len(judged.queries), samples=200, seed=1)
    for text in ("first", "second"):
        with aside(place) as work:
            (work / "model.safetensors").write_text(text)
            keep(work, place, proof)
    assert (place / "model.safetensors").read_text() == "second"
    assert json.loads((place / "fieldwise.json").read_text())["difference"]["value"] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_not_ours_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FieldwiseError, match="something else stands"), aside(tmp_path):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


# ---------------------------------------------------------------- the embedder


def test_passages_that_answer_too_are_no_negatives() -> None:
    one = Asked("q1", "a", "text a", frozenset({"a", "b"}))
    two = Asked("q2", "b", "text b", frozenset({"b"}))
    three = Asked("q3", "c", "text a", frozenset({"c"}))
    assert ignored([one, two, three]) == [[False, True, True], [False] * 3, [True, False, False]]


def test_another_model_is_read_and_its_vectors_are_those_of_sentence_transformers(encoder: Path) -> None:
    package = pytest.importorskip("sentence_transformers")
    texts = ["where is amber report", "the report of the otter " * 9]
    ours = MiniLmEmbedder(folder=encoder)
    assert ours.dimensions == 32 and ours.fingerprint.startswith("own/")
    reference = package.SentenceTransformer(str(encoder), device="cpu").encode(texts, normalize_embeddings=True)
    assert np.min(np.sum(ours.encode(texts) * reference, axis=1)) > 0.999


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [("model.safetensors", None, "without model.safetensors"), ("config.json", '{"model_type": "gpt2"}', "gpt2")],
)
def test_another_kind_of_model_is_refused(
    encoder: Path, tmp_path: Path, name: str, text: str | None, told: str
) -> None:
    for path in encoder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=f"not an embedding model.*{told}"):
        MiniLmEmbedder(folder=tmp_path)


def test_an_untrained_copy_loses_nothing_elsewhere(encoder: Path, tmp_path: Path) -> None:
    same = MiniLmEmbedder(folder=encoder)
    found = elsewhere(same, MiniLmEmbedder(folder=encoder), samples=100, seed=1)
    assert found.value == 0.0 and found.n == 400


def test_the_same_training_ends_in_the_same_weights(encoder: Path, tmp_path: Path) -> None:
    asked = [Asked(f"where is amber {n}", str(n), f"the otter {n}", frozenset({str(n)})) for n in range(40)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        training = train_on(asked, encoder, tmp_path / name, rate=1e-3, seed=5)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two != (encoder / "model.safetensors").read_bytes()
    assert training.steps == 2 and training.pairs == 40


def test_the_command_trains_an_embedder_that_finds_what_words_do_not(
    encoder: Path,
    topics: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proof_module, "WORST_ELSEWHERE", -0.2)  # weights of chance find everyday passages by chance
    run, out = make_run(tmp_path), tmp_path / "embedder"
    own = ("retrieve.embedding=all-MiniLM-L6-v2", f"retrieve.embedding_model={encoder}", "retrieve.dense_weight=0.9")
    assert (
        call("train-embedder", topics, *own, "--run", run, "--out", out, "--learning-rate", 0.005, "--epochs", 12) == 0
    )
    told = capsys.readouterr().out
    assert f"embedding_model: {out}" in told, told
    card = json.loads((out / "fieldwise.json").read_text())
    assert (
        card["is_better"]
        and card["elsewhere"]["n"] == 400
        and card["training"]["losses"][-1] < card["training"]["losses"][0]
    )
    assert MiniLmEmbedder(folder=out).fingerprint != MiniLmEmbedder(folder=encoder).fingerprint
    assert call("train-embedder", topics, "--run", run, "--out", out) == 2  # the recipe has no embeddings
    assert "no embedding model to train" in capsys.readouterr().err


# ---------------------------------------------------------------- the cross-encoder


def test_the_command_trains_a_cross_encoder_that_finds_what_words_do_not(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out, marked = make_run(tmp_path), tmp_path / "cross", make_marked(tmp_path)
    words = ("train-reranker", marked, "--run", run, "--out", out, "--base", encoder, "--learning-rate", 0.02)
    assert call(*words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    training = found["training"]
    assert training["pairs"] == 3 * 3 * 240 and training["steps"] == 3 * 45
    assert training["losses"][-1] < training["losses"][0]
    assert found["is_better"] and found["folder"] == str(out) and found["difference"]["low"] > 0
    right, wrong = CrossEncoderReranker(out).predict(
        [("where is iris memo", "the memo of the turbine"), ("where is iris memo", "the memo of the anvil")]
    )
    assert right > wrong
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".cross")]


def test_a_cross_encoder_that_finds_no_better_is_not_kept(
    encoder: Path, topics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = make_run(tmp_path), tmp_path / "cross"
    words = ("train-reranker", topics, "--run", run, "--out", out, "--base", encoder, "--learning-rate", 1e-6)
    assert call(*words, "--questions", 30) == 0
    assert "Not kept: the interval of the difference reaches 0." in capsys.readouterr().out
    assert not out.exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".cross")]


def test_weights_that_cannot_be_read_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], topics: Path) -> None:
    run, empty = make_run(tmp_path), tmp_path / "empty"
    empty.mkdir()
    assert call("train-reranker", topics, "--run", run, "--base", empty) == 2
    assert "the weights to start from cannot be read" in capsys.readouterr().err
    assert not (run / "retrieval").exists() or not list((run / "retrieval").iterdir())
