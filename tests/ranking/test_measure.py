from collections.abc import Sequence
from pathlib import Path

import pytest
from judged_run import chunks, documents, question_rows

from fieldwise.errors import DatasetError
from fieldwise.ranking.gates import Level, NotWorse, judge
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.ranking.kept import keep, on_same_set, read_reports
from fieldwise.ranking.measure import RetrievalReport, against, put_through, report, score
from fieldwise.ranking.reading import from_questions
from fieldwise.records import Chunk, Question, RetrievedPassage


class Fixed:
    """A search that always finds the passages of one order, the wanted one at a chosen rank."""

    def __init__(self, wanted: dict[str, str], rank: int) -> None:
        self.wanted, self.rank = wanted, rank

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        others: list[Chunk] = [c for c in chunks() if c.id != self.wanted[query]]
        first = next(c for c in chunks() if c.id == self.wanted[query])
        order = [*others[: self.rank - 1], first, *others[self.rank - 1 :]]
        return [RetrievedPassage(chunk=c, score=-float(n)) for n, c in enumerate(order[:top_k])]


def judged_set(repeats: int = 1) -> JudgedSet:
    questions = [
        Question.model_validate(row) for n in range(repeats) for row in question_rows(f"q{n}-", f"{n} " * (n > 0))
    ]
    return from_questions(questions, chunks(), documents(), name="questions")


def measured(rank: int, repeats: int = 3) -> RetrievalReport:
    judged = judged_set(repeats)
    wanted = {q.text: next(iter(q.relevant)) for q in judged.queries}
    items = put_through(judged, Fixed(wanted, rank), shown=1)
    return report(judged, items, passages=12, settings={"top_k": 1}, shown=1, samples=200, seed=1)


def test_figures_of_a_search_whose_ranks_are_known() -> None:
    figures = measured(rank=3).figures
    assert figures["ndcg@10"].value == pytest.approx(0.5)  # 1 / log2(4)
    assert figures["mrr@10"].value == pytest.approx(1 / 3)
    assert figures["recall@1"].value == 0.0 and figures["recall@3"].value == 1.0
    assert figures["span_f1"].value == 0.0
    best = measured(rank=1).figures
    assert best["span_f1"].value == best["document_recall@1"].value == pytest.approx(1.0)


def test_documents_are_ranked_by_their_first_passage() -> None:
    of = chunks()
    query = JudgedQuery(id="q", text="?", relevant={of[3].id: 1}, documents={of[3].document_id: 1})
    found = [RetrievedPassage(chunk=of[n], score=1.0) for n in (0, 1, 2, 3)]
    scores = score(query, found, "passage", 1)
    assert scores["mrr@10"] == pytest.approx(1 / 4) and scores["document_mrr@10"] == pytest.approx(1 / 2)


def test_a_query_that_is_a_document_of_the_corpus_does_not_find_itself() -> None:
    of = chunks()
    query = JudgedQuery(id=of[0].document_id, text="?", relevant={of[2].document_id: 1})
    found = [RetrievedPassage(chunk=of[n], score=1.0) for n in (0, 2)]
    assert score(query, found, "document", 1)["mrr@10"] == 1.0


def test_slices_by_kind_and_length_hold_all_their_queries() -> None:
    slices = measured(rank=1).slices
    assert {"kind=first", "kind=second"} <= slices.keys()
    assert sum(figures["ndcg@10"].n for name, figures in slices.items() if name.startswith("kind=")) == 36


def test_the_difference_to_the_last_run_is_paired() -> None:
    worse, better = measured(rank=2), measured(rank=1)
    found = against(better, worse, 200, 1)
    assert found["mrr@10"].value == pytest.approx(0.5) and found["mrr@10"].changed == 36
    assert found["recall@10"].value == 0.0 and found["recall@10"].changed == 0
    assert found["ndcg@10"].p_adjusted is not None and found["ndcg@10"].p_adjusted < 0.05


def test_gates_pass_fail_and_stay_open() -> None:
    good, bad = measured(rank=1), measured(rank=5)
    assert judge(good, [Level("ndcg@10", 0.7)], [], 200)[0].verdict == "PASS"
    assert judge(bad, [Level("ndcg@10", 0.7)], [], 200)[0].verdict == "FAIL"
    few = measured(rank=1, repeats=1)
    assert judge(few, [Level("ndcg@10", 0.7)], [], 200)[0].verdict == "INCONCLUSIVE"  # twelve questions
    assert judge(bad, [], [NotWorse("ndcg@10", good, "earlier", 0.0)], 200)[0].verdict == "FAIL"
    assert judge(good, [], [NotWorse("ndcg@10", bad, "earlier", 0.0)], 200)[0].verdict == "PASS"
    assert judge(good, [], [NotWorse("ndcg@10", good, "earlier", 0.0)], 200)[0].verdict == "PASS"


def test_gates_refuse_unknown_figures_and_other_questions() -> None:
    with pytest.raises(DatasetError, match=r"no such figure.*ndgc@10"):
        judge(measured(rank=1), [Level("ndgc@10", 0.7)], [], 200)
    with pytest.raises(DatasetError, match="12 in both, 0 of them changed, 24 only here, 0 only there"):
        judge(measured(rank=1), [], [NotWorse("ndcg@10", measured(1, repeats=1), "earlier", 0.0)], 200)


def test_reports_are_kept_one_for_each_set(tmp_path: Path) -> None:
    first, second, other = measured(rank=2), measured(rank=1), measured(rank=1, repeats=1)
    reports: Sequence[RetrievalReport] = read_reports(tmp_path)
    assert reports == []
    for made in (first, other, second):
        keep(tmp_path, read_reports(tmp_path), made)
    kept = read_reports(tmp_path / "5_reports/retrieval.json")
    assert len(kept) == 2 and on_same_set(kept, first) == second


def test_a_spoilt_report_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "5_reports").mkdir()
    (tmp_path / "5_reports/retrieval.json").write_text('{"reports": [{"name": 1}]}')
    with pytest.raises(DatasetError, match=r"retrieval\.json.*Delete the file"):
        read_reports(tmp_path)
