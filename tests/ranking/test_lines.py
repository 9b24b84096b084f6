from pathlib import Path

import pytest
from judged_run import chunks, documents, make_beir, question_rows

from fieldwise.errors import DatasetError
from fieldwise.ranking.reading import from_questions, read_beir, read_qrels, read_trec
from fieldwise.records import Question


def test_a_beir_folder_is_read_by_split(tmp_path: Path) -> None:
    judged = read_beir(make_beir(tmp_path), "test")
    assert len(judged.queries) == 12 and judged.level == "document"
    assert judged.queries[0].relevant == {"visitors-0": 1}
    assert judged.corpus is not None and judged.corpus[0].title == "visitors"


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"dev\.tsv.*splits: test, train"):
        read_beir(make_beir(tmp_path), "dev")


def test_what_a_beir_folder_lacks_is_told_and_counts_as_not_found(tmp_path: Path) -> None:
    folder = make_beir(tmp_path)
    with (folder / "qrels/test.tsv").open("a") as stream:
        stream.write("ghost\tvisitors-0\t1\nt0\tgone\t1\nt13\tpumps-0\t0\n")
    judged = read_beir(folder, "test")
    assert judged.queries[0].relevant == {"visitors-0": 1, "gone": 1}
    assert [note.split(" ", 1)[0] for note in judged.notes] == ["1", "1", "1"]
    assert "ghost" in judged.notes[0] and "not in the corpus" in judged.notes[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("query-id\tcorpus-id\tscore\n1\td1\t2\n", {"1": {"d1": 2}}),
        ("1 0 d1 2\n1 0 d2 0\n\n2 Q0 d1 1\n", {"1": {"d1": 2, "d2": 0}, "2": {"d1": 1}}),
        ("1\t0\td 1\t-1\r\n", {"1": {"d 1": -1}}),
    ],
)
def test_judgements_of_both_formats(tmp_path: Path, text: str, expected: dict[str, dict[str, int]]) -> None:
    (tmp_path / "q.tsv").write_text(text, newline="")
    assert read_qrels(tmp_path / "q.tsv") == expected


@pytest.mark.parametrize("line", ["1 d1", "1 0 d1 high", "1 0 d1 0.5", "one two three four five"])
def test_a_line_that_is_no_judgement_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "q.txt").write_text(f"1 0 d1 1\n{line}\n")
    with pytest.raises(DatasetError, match=r"q\.txt:2: not a judgement"):
        read_qrels(tmp_path / "q.txt")


@pytest.mark.parametrize("name", ["pumps.md", "pumps", "id"])
def test_trec_judgements_name_documents_of_the_run(tmp_path: Path, name: str) -> None:
    chunk = next(c for c in chunks() if c.uri == "pumps.md")
    (tmp_path / "qrels.txt").write_text(f"7 0 {chunk.document_id if name == 'id' else name} 1\n")
    (tmp_path / "topics.tsv").write_text("7\tHow often are pumps tested?\n")
    judged = read_trec(tmp_path / "qrels.txt", tmp_path / "topics.tsv", chunks())
    assert judged.level == "document" and judged.queries[0].relevant == {chunk.document_id: 1}
    assert judged.queries[0].cluster == "pumps.md"


def test_trec_judgements_may_name_chunks(tmp_path: Path) -> None:
    chunk = chunks()[3]
    (tmp_path / "qrels.txt").write_text(f"7 0 {chunk.id} 2\n")
    (tmp_path / "topics.jsonl").write_text('{"id": 7, "question": "Where is it sealed?"}\n')
    judged = read_trec(tmp_path / "qrels.txt", tmp_path / "topics.jsonl", chunks())
    assert judged.level == "passage" and judged.queries[0].relevant == {chunk.id: 2}


def test_judgements_of_other_documents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("7 0 doc99 1\n")
    (tmp_path / "topics.tsv").write_text("7\tWhat?\n")
    with pytest.raises(DatasetError, match="no judgement is about a document of this run, found doc99"):
        read_trec(tmp_path / "qrels.txt", tmp_path / "topics.tsv", chunks())


def test_the_passage_with_the_quote_is_relevant() -> None:
    questions = [Question.model_validate(row) for row in question_rows()]
    judged = from_questions(questions, chunks(), documents(), name="questions")
    texts = {c.id: c.text for c in chunks()}
    for query, row in zip(judged.queries, question_rows(), strict=True):
        assert [texts[i] for i in query.relevant] == [row["quote"]]
        assert query.cluster == row["document"] and len(query.documents) == 1


def test_questions_without_place_are_left_out_or_judged_by_document() -> None:
    rows = [
        {"id": "a", "question": "Who?", "answer": None},
        {"id": "b", "question": "When?", "answer": "20:00", "document": "visitors.md", "quote": "never written"},
        {"id": "c", "question": "Where?", "answer": "there", "document": "gone.md", "quote": "there"},
    ]
    judged = from_questions([Question.model_validate(r) for r in rows], chunks(), documents(), name="questions")
    by_id = {q.id: q for q in judged.queries}
    assert set(by_id) == {"b", "c"}
    assert not by_id["b"].relevant and by_id["b"].documents
    assert by_id["c"].relevant  # nothing can be found for it: it counts against the search
    assert len(judged.notes) == 3


def test_the_hash_of_a_set_knows_its_questions_and_judgements(tmp_path: Path) -> None:
    first = read_beir(make_beir(tmp_path), "test")
    (tmp_path / "sentences/qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nt0\tvisitors-1\t1\n")
    assert read_beir(tmp_path / "sentences", "test").sha256 != first.sha256
    assert read_beir(tmp_path / "sentences", "train").sha256 != first.sha256
