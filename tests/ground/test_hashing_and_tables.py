from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldwise.errors import DatasetError
from fieldwise.hashing import canonical_json, content_id, sha256_of_files
from fieldwise.records import Chunk, Document, Evidence, Example, Heading, Message, PageSpan, Source, ToolCall
from fieldwise.tables import read_records, write_records


@given(st.dictionaries(st.text(), st.integers()))
def test_order_of_keys_does_not_change_the_hash(value: dict[str, int]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(list(value.items()))))


def test_ids_differ_for_different_content_and_repeat_for_the_same() -> None:
    assert content_id("chk", "a", 1) == content_id("chk", "a", 1)
    assert content_id("chk", "a", 1) != content_id("chk", "a1")
    assert content_id("chk", "a").startswith("chk_")


def test_the_hash_of_files_knows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    before = sha256_of_files([tmp_path / "a", tmp_path / "b"], tmp_path)
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").write_text("1")
    assert sha256_of_files([tmp_path / "a", tmp_path / "b"], tmp_path) != before


def _document() -> Document:
    return Document.make(
        title="T",
        text="Kopf\nText ä €",
        source=Source(uri="a.md", bytes=3, licence="CC0"),
        pages=(PageSpan(number=1, start=0, end=12),),
        headings=(Heading(level=1, text="Kopf", start=0, end=4),),
        notes=("one", "two"),
    )


def test_long_records_are_written_few_at_a_time_and_come_back(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    long = _document().model_copy(update={"text": "words " * 2_000_000})
    documents = [long.model_copy(update={"id": f"doc_{n}"}) for n in range(8)]
    assert write_records(tmp_path / "d.parquet", iter(documents), Document) == 8
    assert pq.ParquetFile(tmp_path / "d.parquet").num_row_groups == 3
    assert [d.id for d in read_records(tmp_path / "d.parquet", Document)] == [d.id for d in documents]


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    document = _document()
    assert write_records(tmp_path / "d.parquet", [document], Document) == 1
    assert list(read_records(tmp_path / "d.parquet", Document)) == [document]
    conversation = (
        Message(role="user", content="?"),
        Message(role="assistant", content="", tool_calls=(ToolCall(name="f", arguments={"a": [1, None]}),)),
    )
    example = Example.make(
        question="?",
        answer="!",
        kind="fact",
        conversation=conversation,
        evidence=(Evidence(chunk_id="chk_1", quote="!"),),
        chunk_ids=("chk_1",),
        difficulty=0.25,
    )
    write_records(tmp_path / "e.parquet", [example] * 3000, Example)
    assert list(read_records(tmp_path / "e.parquet", Example)) == [example] * 3000


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_records(tmp_path / name, [_document()], Document)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_table_can_be_read(tmp_path: Path) -> None:
    write_records(tmp_path / "c", [], Chunk)
    assert list(read_records(tmp_path / "c", Chunk)) == []


def test_a_damaged_or_missing_table_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DatasetError, match=r"x\.parquet: not a readable Parquet file"):
        list(read_records(tmp_path / "x.parquet", Chunk))
    with pytest.raises(DatasetError, match="is not there"):
        list(read_records(tmp_path / "y.parquet", Chunk))


def test_a_chunk_is_the_text_between_its_offsets() -> None:
    document = _document()
    chunk = Chunk.make(document, 5, 11, heading_path=("Kopf",))
    assert chunk.text == document.text[5:11]
    assert chunk.page == 1
    assert chunk.label == "T > Kopf"
