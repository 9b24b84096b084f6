import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fieldwise.errors import ModelError
from fieldwise.records import Chunk, RetrievedPassage
from fieldwise.retrieve.features import (
    FEATURES,
    FeatureMaker,
    FeatureReranker,
    LinearModel,
    longest_run,
    proximity,
)
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.rerank import Reranker, blend, open_reranker
from fieldwise.retrieve.search import HybridRetriever
from fieldwise.retrieve.settings import RetrieveSettings

TEXTS = ("Pumps hang on the wall.", "A grey tag means that the pump is out of order.", "Grey paint is kept in shed 4.")
WORDS_ONLY = LinearModel(features=("body_overlap", "phrase"), weights=(1.0, 1.0))


class Longest(Reranker):
    """The longer a text, the better."""

    name = "longest"

    def predict(self, pairs: list[tuple[str, str]]) -> list[float]:  # type: ignore[override]
        return [float(len(text)) for _, text in pairs]


def passage(text: str, n: int = 0, **given: object) -> RetrievedPassage:
    fields = {"title": "", "heading_path": (), "score": 0.0, "lexical": None, "dense": None, **given}
    chunk = Chunk(
        id=str(n),
        document_id=str(n),
        uri="",
        start=0,
        end=len(text),
        text=text,
        title=str(fields["title"]),
        heading_path=fields["heading_path"],  # type: ignore[arg-type]
    )
    return RetrievedPassage(
        chunk=chunk,
        score=fields["score"],  # type: ignore[arg-type]
        lexical=fields["lexical"],  # type: ignore[arg-type]
        dense=fields["dense"],  # type: ignore[arg-type]
    )


def column(name: str, query: str, passages: list[RetrievedPassage]) -> list[float]:
    return [round(float(v), 6) for v in FeatureMaker().rows(query, passages)[:, FEATURES.index(name)]]


# ---------------------------------------------------------------- the interface


def test_everything_follows_from_the_scores_of_pairs() -> None:
    reranker, texts = Longest(), ["aa", "a", "aaaa", "bb"]
    assert [(r.place, r.score) for r in reranker.rerank("q", texts)] == [(2, 4.0), (0, 2.0), (3, 2.0), (1, 1.0)]
    assert reranker.get_top_documents("q", texts, 1) == ["aaaa"]
    assert [[r.document for r in order] for order in reranker.batch_rerank(["q", "r"], [["a", "bb"], ["c"]], 1)] == [
        ["bb"],
        ["c"],
    ]
    assert [r.document for r in reranker.filter_by_threshold("q", texts, 2.0)] == ["aaaa", "aa", "bb"]
    assert reranker.compare_documents("q", "a", "aaa") == ("second", 1.0, 3.0, -2.0)
    assert reranker.compare_documents("q", "a", "b").better == "equal"
    assert reranker.rerank("q", []) == []


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k: expected 1 or more, found 0"):
        Longest().rerank("q", ["a"], 0)
    with pytest.raises(ValueError, match="zip"):
        Longest().batch_rerank(["q"], [["a"], ["b"]])


def test_both_scores_count_by_their_weight() -> None:
    assert blend([2.0, 1.0, 0.0], [0.0, 1.0, 2.0], 0.5) == pytest.approx([0.0, 0.0, 0.0])
    assert blend([2.0, 1.0], [5.0, 5.0], 0.5) == [0.5, -0.5]
    assert blend([], [], 0.5) == []


# ---------------------------------------------------------------- features


def test_the_text_with_the_words_of_the_query_comes_first() -> None:
    reranker = FeatureReranker(WORDS_ONLY, None)
    assert reranker.get_top_documents("What does a grey tag mean?", TEXTS, 1) == [TEXTS[1]]
    two = reranker.predict([("grey tag", TEXTS[1]), ("grey shed", TEXTS[1]), ("grey tag", TEXTS[2])])
    assert two[0] > two[2]  # each query is judged with its own texts


def test_words_are_looked_for_field_by_field() -> None:
    found = [
        passage("Return it.", 0, title="Library cards", heading_path=("Lost cards",)),
        passage("Cards are lost often.", 1),
    ]
    assert column("body_overlap", "lost cards", found) == [0.0, 1.0]
    assert column("title_overlap", "lost cards", found)[1] == 0.0 < column("title_overlap", "lost cards", found)[0] < 1
    assert column("heading_overlap", "lost cards", found) == [1.0, 0.0]
    assert column("heading_match", "a lost badge", found) == [0.5, 0.0]  # lost, of lost cards
    assert column("coverage", "lost cards", found) == [1.0, 1.0]


def test_order_nearness_and_figures_count() -> None:
    found = [passage("order the 12 spare pump", 0), passage("pump order 13", 1)]
    assert column("bigrams", "pump order", found) == [0.0, 1.0]
    assert column("phrase", "pump order", found) == [0.5, 1.0]
    assert column("proximity", "pump order", found) == [0.4, 1.0]
    assert column("numbers", "pump order 13", found) == [0.0, 1.0]
    assert column("numbers", "pump order", found) == [0.0, 0.0]


def test_runs_and_stretches_by_hand() -> None:
    assert longest_run(["a", "b", "c"], ["x", "a", "b", "a", "b", "c"]) == 3
    assert longest_run(["a"], []) == 0
    assert proximity(["a", "b"], ["a", "x", "x", "a", "b"]) == 1.0
    assert proximity(["a", "b"], ["a", "a"]) == 0.0


def test_what_a_leg_did_not_find_counts_as_its_worst_and_has_no_rank() -> None:
    found = [passage("a", 0, lexical=4.0, dense=0.5), passage("b", 1, dense=0.7), passage("c", 2, lexical=2.0)]
    assert column("lexical", "q", found)[1] == column("lexical", "q", found)[2]
    assert column("lexical_rank", "q", found) == [1.0, 0.0, 0.5]
    assert column("dense_rank", "q", found) == [0.5, 1.0, 0.0]
    assert column("cosine_gap", "q", found) == [-0.2, 0.0, 0.0]
    assert column("lexical_share", "q", found) == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("query", ["", "the", "?!", "x" * 5000, "title: AND ("])
def test_no_query_and_no_passage_gives_a_score_that_is_no_number(query: str) -> None:
    rows = FeatureMaker().rows(query, [passage("", 0), passage("the same", 1), passage("the same", 2)])
    assert rows.shape == (3, len(FEATURES)) and np.isfinite(rows).all()


def test_the_shipped_model_can_be_read_and_puts_the_right_text_first() -> None:
    model = LinearModel.shipped()
    assert set(model.features) <= set(FEATURES) and model.learnt_from
    reranker = FeatureReranker(model, None)
    assert reranker.get_top_documents("What does a grey tag mean?", TEXTS, 1) == [TEXTS[1]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"features": ["charm"], "weights": [1.0]}, "another version.*charm"),
        ({"features": ["fused"], "weights": []}, "another version.*0 weights"),
        ({"features": ["fused"], "weights": [1.0], "version": 2}, "another version.*version 2"),
        ({"features": ["fused"]}, "weights: field required"),
        ([1], "expected a JSON object"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(value))
    with pytest.raises(Exception, match=message):
        LinearModel.read(path)
    with pytest.raises(ModelError, match="is not there"):
        LinearModel.read(tmp_path / "none.json")


# ---------------------------------------------------------------- in the search


def retriever(**given: object) -> HybridRetriever:
    chunks = [passage(text, n).chunk for n, text in enumerate(TEXTS)]
    settings = RetrieveSettings(embedding="none", **given)  # type: ignore[arg-type]
    return HybridRetriever(chunks, LexicalIndex(chunks), None, None, settings, open_reranker(settings, None))


def test_without_a_reranker_nothing_changes() -> None:
    search = retriever()
    assert search.reranker is None
    found = search.search("grey pump")
    assert all(p.rerank is None for p in found)
    assert "rerank" not in found[0].model_dump(mode="json")


def test_a_reranker_orders_what_was_found_and_says_its_score() -> None:
    search = retriever(rerank="features", rerank_weight=1.0)
    search.reranker = Longest()
    found = search.search("grey pump", 3)
    assert [len(p.chunk.text) for p in found] == sorted((len(t) for t in TEXTS), reverse=True)
    assert [p.rerank for p in found] == [float(len(p.chunk.text)) for p in found]


def test_beyond_the_candidates_passages_keep_their_place() -> None:
    plain = [p.chunk.id for p in retriever().search("grey pump", 3)]
    search = retriever(rerank="features", rerank_weight=1.0, rerank_candidates=2)
    search.reranker = Longest()
    found = search.search("grey pump", 3)
    assert found[2].chunk.id == plain[2] and found[2].rerank is None
    assert {p.chunk.id for p in found[:2]} == set(plain[:2])


def test_with_a_weight_of_0_the_reranker_changes_no_order() -> None:
    plain = [p.chunk.id for p in retriever().search("grey pump", 3)]
    search = retriever(rerank="features", rerank_weight=0.0)
    search.reranker = Longest()
    assert [p.chunk.id for p in search.search("grey pump", 3)] == plain


def test_settings_without_a_reranker_keep_their_key_and_a_model_counts_by_its_content(tmp_path: Path) -> None:
    assert not any(name.startswith("rerank") for name in RetrieveSettings().keyed())
    path = tmp_path / "model.json"
    path.write_text("1")
    settings = RetrieveSettings(rerank="features", rerank_model=str(path))
    before = settings.keyed()
    assert str(tmp_path) not in json.dumps(before)
    path.write_text("2")
    assert settings.keyed() != before


def test_a_cross_encoder_needs_its_place() -> None:
    with pytest.raises(ValidationError, match="needs rerank_model"):
        RetrieveSettings(rerank="cross-encoder")


def test_the_score_of_a_cross_encoder_is_one_more_feature() -> None:
    model = LinearModel(features=("body_overlap", "cross_encoder"), weights=(0.0, 1.0))
    reranker = FeatureReranker(model, None, cross_encoder=Longest())
    assert reranker.get_top_documents("grey tag", TEXTS) == sorted(TEXTS, key=len, reverse=True)
    with pytest.raises(ModelError, match=r"learnt with a cross-encoder.*rerank_cross_encoder"):
        FeatureReranker(model, None)
    with pytest.raises(ValidationError, match="needs rerank features"):
        RetrieveSettings(rerank_cross_encoder="folder")


def test_another_embedding_model_counts_by_its_content_and_only_where_it_is_named(tmp_path: Path) -> None:
    assert RetrieveSettings().embedded() == {"embedding": "all-MiniLM-L6-v2"}
    assert "embedding_model" not in RetrieveSettings().keyed()
    (tmp_path / "model.safetensors").write_text("1")
    settings = RetrieveSettings(embedding_model=str(tmp_path))
    before = settings.embedded()
    assert str(tmp_path) not in json.dumps(before) and settings.keyed()["embedding_model"] == before["embedding_model"]
    (tmp_path / "model.safetensors").write_text("2")
    assert settings.embedded() != before
    with pytest.raises(ValidationError, match="embedding is none"):
        RetrieveSettings(embedding="none", embedding_model=str(tmp_path))
