from pathlib import Path

import pytest
from judged_run import make_beir

from fieldwise.errors import DatasetError
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.ranking.mining import Mined, mine
from fieldwise.ranking.reading import read_beir
from fieldwise.ranking.synthetic import instead, make_questions
from fieldwise.ranking.train_reranker import LabelledPair, batched, curriculum
from fieldwise.records import Chunk
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.search import HybridRetriever
from fieldwise.retrieve.settings import RetrieveSettings


def chunk(n: int, text: str) -> Chunk:
    return Chunk(id=f"c{n}", document_id=f"d{n}", uri="", title="", start=0, end=len(text), text=text)


def searched(texts: list[str]) -> HybridRetriever:
    chunks = [chunk(n, text) for n, text in enumerate(texts)]
    return HybridRetriever(chunks, LexicalIndex(chunks), None, None, RetrieveSettings(embedding="none"))


def asked(text: str, *relevant: str, times: int = 20) -> JudgedSet:
    queries = tuple(JudgedQuery(f"q{n}", text, dict.fromkeys(relevant, 1)) for n in range(times))
    return JudgedSet("asked", "questions", "passage", "train", queries)


def test_negatives_go_from_far_to_near() -> None:
    texts = ["grey tag pump order broken valve"]
    texts += [f"grey {'word ' * n}" for n in range(1, 30)]  # the shorter, the nearer
    texts += [f"parking level number {n}" for n in range(40)]
    found = mine(asked("grey tag of a pump", "c0"), searched(texts), most=20, seed=1)
    first = found.questions[0]
    assert first.positive == texts[0] and found.false_negatives == 0
    assert len(first.hard) == 9 and "grey word" in first.hard[0]  # ranks 2 to 10, the first is the passage itself
    assert set(first.medium) == {t for t in texts if t.startswith("grey")} - {texts[0], *first.hard}
    assert first.random and all(text.startswith("parking") for text in first.random)


def test_a_passage_that_repeats_the_answer_or_scores_as_high_is_no_negative() -> None:
    texts = ["the grey tag marks a broken pump", "The grey tag marks a broken pump.", "grey tag mark", "grey shed"]
    found = mine(asked("what does a grey tag mark", "c0"), searched(texts), most=20, seed=1)
    hard = found.questions[0].hard
    assert "The grey tag marks a broken pump." not in hard and "grey tag mark" not in hard and "grey shed" in hard
    assert found.false_negatives == 2 * 20


def test_relevant_passages_are_never_negatives() -> None:
    texts = ["grey tag pump order", "a grey tag of another kind", "grey wall", "shed four"]
    found = mine(asked("grey tag pump", "c0", "c1"), searched(texts), most=20, seed=1)
    for mined in found.questions:
        assert texts[1] not in (*mined.hard, *mined.medium, *mined.random)


def test_too_few_questions_are_told() -> None:
    with pytest.raises(DatasetError, match=r"found 3 of 3 .*Give at least 20"):
        mine(asked("grey", "c0", times=3), searched(["grey", "tag"]), most=20, seed=1)


def test_the_curriculum_goes_from_random_to_hard() -> None:
    mined = Mined("q", "yes", ("far",), ("between", "between too"), ("near",))
    phases = [[(p.text, p.label) for p in phase] for phase in curriculum([mined], seed=1)]
    negatives = [sorted(text for text, label in phase if not label) for phase in phases]
    assert [("yes", 1.0) in phase for phase in phases] == [True] * 3
    assert negatives[0] == ["far"]
    assert "far" in negatives[1] and negatives[1] != negatives[0]
    assert "near" in negatives[2] and any(text.startswith("between") for text in negatives[2])


def test_where_nothing_hard_is_left_easier_ones_take_its_place() -> None:
    mined = Mined("q", "yes", ("far", "farther"), (), ())
    hardest = curriculum([mined], seed=1)[-1]
    assert sorted(p.text for p in hardest if not p.label) == ["far", "farther"]


def test_questions_made_of_passages_name_the_one_they_were_made_of(tmp_path: Path) -> None:
    judged = read_beir(make_beir(tmp_path), "train")
    assert judged.corpus is not None
    made = make_questions(judged, judged.corpus, seed=1)
    texts = {c.document_id: c.text for c in judged.corpus}
    assert made.queries and len({q.text for q in made.queries}) == len(made.queries)
    assert all(len(q.relevant) == 1 and set(q.relevant) <= set(texts) for q in made.queries)
    assert [q.text for q in make_questions(judged, judged.corpus, seed=1).queries] == [q.text for q in made.queries]
    fit, held = instead(judged, judged, judged.corpus, seed=1)
    assert fit.queries == made.queries and len(held.queries) == 2 * len(judged.queries)


def test_batches_hold_every_pair_once_and_texts_of_like_length() -> None:
    pairs = [LabelledPair("q", "x" * (n * 37 % 101), float(n % 2)) for n in range(300)]
    batches = batched(pairs, "1")
    assert sorted(p for batch in batches for p in batch) == sorted(pairs) and max(map(len, batches)) == 16
    spreads = [max(len(p.text) for p in b) - min(len(p.text) for p in b) for b in batches]
    assert sum(spreads) / len(spreads) < 30
    assert batched(pairs, "1") == batches != batched(pairs, "2")
