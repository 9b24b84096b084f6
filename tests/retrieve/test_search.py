import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fieldwise.errors import DatasetError, ModelError
from fieldwise.records import Chunk, Document, Source
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.retrieve.index import build, open_index, passage_text
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.retrieve.search import fuse
from fieldwise.retrieve.settings import _STEMMERS, RetrieveSettings

TEXTS = (
    "Visitors may stay until 20:00 on weekdays.",
    "Used needles go into the yellow container beside the bed.",
    "The on-call pharmacist answers extension 4411.",
    "Fridges are kept between 2 and 8 degrees.",
    "A grey tag means that the pump is out of order.",
    "Staff park on level 3 of the north garage.",
)


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    made = []
    for n, text in enumerate(TEXTS):
        document = Document.make(title=f"Policy {n}", text=text, source=Source(uri=f"{n}.md"))
        made.append(Chunk.make(document, 0, len(text)))
    return made


@pytest.fixture(scope="module")
def embedder() -> MiniLmEmbedder:
    return MiniLmEmbedder(threads=1)


def test_vectors_equal_the_reference_implementation(embedder: MiniLmEmbedder) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    texts = [*TEXTS, "short", " ".join(["word"] * 400)]
    model = transformers.AutoModel.from_pretrained(embedder.folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(embedder.folder)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    assert float((expected * embedder.encode(texts)).sum(1).min()) > 0.999


def test_vectors_do_not_depend_on_their_company(embedder: MiniLmEmbedder) -> None:
    together = embedder.encode(TEXTS)
    alone = np.concatenate([embedder.encode([t]) for t in TEXTS])
    assert float((together * alone).sum(1).min()) > 0.9995
    assert embedder.encode([]).shape == (0, 384)


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("When do guests have to leave?", 0),
        ("Where do I throw away a syringe?", 1),
        ("phone of the pharmacist", 2),
        ("How cold is the refrigerator?", 3),
        ("What does a grey tag mean?", 4),
        ("car park for employees", 5),
    ],
)
def test_the_right_passage_comes_first_also_in_other_words(
    chunks: list[Chunk], tmp_path_factory: pytest.TempPathFactory, query: str, row: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "index"
    if not folder.exists():
        build(chunks, folder, RetrieveSettings())
    hits = open_index(chunks, folder, RetrieveSettings()).search(query, 3)
    assert hits[0].chunk.id == chunks[row].id
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_lexical_search_stems_and_ignores_stop_words(chunks: list[Chunk]) -> None:
    index = LexicalIndex(chunks)
    assert [row for row, _ in index.search("What is the fridge?", 5)] == [3]
    assert index.search("zzz", 5) == []


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_no_text_breaks_the_query(query: str) -> None:
    document = Document.make(title="T", text=TEXTS[0], source=Source(uri="a"))
    index = LexicalIndex([Chunk.make(document, 0, len(TEXTS[0]))])
    assert isinstance(index.search(query, 3), list)


@pytest.mark.parametrize("query", ["title: x AND (", 'say "it', "body:/[/", "a" * 100_000, "", "   ", "?!.,"])
def test_query_language_is_only_words(chunks: list[Chunk], tmp_path, query: str) -> None:
    build(chunks, tmp_path, RetrieveSettings(embedding="none"))
    assert isinstance(open_index(chunks, tmp_path, RetrieveSettings(embedding="none")).search(query), list)


def test_fusion_by_hand() -> None:
    # z-scores: words 1, 0, -1 scaled by sqrt(3/2); meaning 1 and -1; a row missing in one leg gets that leg's lowest.
    high = (1.5) ** 0.5
    fused = fuse({0: 3.0, 1: 2.0, 2: 1.0}, {0: 0.9, 9: 0.1}, 0.4)
    assert fused[0] == pytest.approx(0.6 * high + 0.4)
    assert fused[9] == pytest.approx(0.6 * -high - 0.4)
    assert fused[1] == pytest.approx(0.0 - 0.4)


def test_fusion_with_equal_scores_or_one_leg_does_not_divide_by_zero() -> None:
    assert fuse({1: 2.0, 2: 2.0}, {}, 0.4) == {1: 0.0, 2: 0.0}
    assert fuse({}, {3: 0.5}, 0.4) == {3: 0.0}


def test_an_index_of_other_chunks_or_another_model_is_refused(chunks: list[Chunk], tmp_path) -> None:
    build(chunks, tmp_path, RetrieveSettings())
    with pytest.raises(DatasetError, match="belongs to other chunks"):
        open_index(chunks[:3], tmp_path, RetrieveSettings())
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace("all-MiniLM", "other"))
    with pytest.raises(ModelError, match="another embedding model"):
        open_index(chunks, tmp_path, RetrieveSettings())


def test_the_same_chunks_give_the_same_index(chunks: list[Chunk], tmp_path) -> None:
    shuffled = list(chunks)
    random.Random(1).shuffle(shuffled)
    for name in ("a", "b"):
        build(chunks, tmp_path / name, RetrieveSettings())
    assert (tmp_path / "a/vectors.npy").read_bytes() == (tmp_path / "b/vectors.npy").read_bytes()
    assert (
        build(shuffled, tmp_path / "c", RetrieveSettings())["content"]
        != build(chunks, tmp_path / "d", RetrieveSettings())["content"]
    )


def test_a_passage_shows_its_title_once() -> None:
    document = Document.make(title="Fridges", text="# Fridges\nCold.", source=Source(uri="a"))
    assert passage_text(Chunk.make(document, 0, len(document.text))) == "# Fridges\nCold."
    assert passage_text(Chunk.make(document, 10, len(document.text))) == "Fridges\nCold."


def test_a_stemmer_there_is_not_is_refused_before_work_starts(chunks: list[Chunk]) -> None:
    with pytest.raises(ValidationError, match="no stemmer for this language"):
        RetrieveSettings(stemmer="klingon")
    for language in _STEMMERS:
        LexicalIndex(chunks[:1], RetrieveSettings(stemmer=language).stemmer)
