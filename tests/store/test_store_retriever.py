from datetime import date
from pathlib import Path

import numpy as np
import pytest
from stored_documents import entry

from fieldwise.errors import DatasetError, ModelError
from fieldwise.files import write_json
from fieldwise.interfaces import Retriever
from fieldwise.records import Chunk, Document, Source
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.retrieve.index import build, open_index
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.store.filters import Eq
from fieldwise.store.from_run import import_run
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import EVERYONE, NOBODY, Identity
from fieldwise.store.retriever import StoreRetriever, reciprocal_ranks
from fieldwise.tables import write_records

TEXTS = (
    "Visitors may stay until 20:00 on weekdays.",
    "Used needles go into the yellow container beside the bed.",
    "The on-call pharmacist answers extension 4411.",
    "Fridges are kept between 2 and 8 degrees.",
    "A grey tag means that the pump is out of order.",
    "Staff park on level 3 of the north garage.",
)
SETTINGS = RetrieveSettings()
READER = Identity("default", frozenset({EVERYONE}))
QUESTIONS = (
    "When do guests have to leave?",
    "Where do I throw away a syringe?",
    "phone of the pharmacist",
    "How cold is the refrigerator?",
    "What does a grey tag mean?",
    "car park for employees",
)


@pytest.fixture(scope="module")
def embedder() -> MiniLmEmbedder:
    return MiniLmEmbedder(threads=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), TEXTS)


def make_run(folder: Path, texts: tuple[str, ...], settings: RetrieveSettings = SETTINGS) -> Path:
    documents = [Document.make(title=f"Policy {n}", text=t, source=Source(uri=f"{n}.md")) for n, t in enumerate(texts)]
    chunks = [Chunk.make(d, 0, len(d.text)) for d in documents]
    write_records(folder / "2_chunks/documents.parquet", documents, Document)
    write_records(folder / "2_chunks/chunks.parquet", chunks, Chunk)
    build(chunks, folder / "2_chunks/index", settings)
    return folder


def chunks_of(run: Path) -> list[Chunk]:
    from fieldwise.tables import read_records

    return list(read_records(run / "2_chunks/chunks.parquet", Chunk))


def test_an_imported_run_answers_as_its_own_index_does(run: Path, tmp_path: Path, embedder: MiniLmEmbedder) -> None:
    own = open_index(chunks_of(run), run / "2_chunks/index", SETTINGS)
    with LocalStore.open(tmp_path / "store") as store:
        assert import_run(store, run) == (6, 6, 6, 0)
        retriever: Retriever = StoreRetriever(store, embedder, READER, SETTINGS)
        for query in QUESTIONS:
            expected, found = own.search(query, 4), retriever.search(query, 4)
            assert [p.chunk for p in found] == [p.chunk for p in expected]
            for a, b in zip(expected, found, strict=True):
                assert b.dense == pytest.approx(a.dense, abs=0.004)
                assert (b.lexical is None) == (a.lexical is None)


def test_a_second_import_changes_only_what_changed(tmp_path: Path) -> None:
    settings = RetrieveSettings(embedding="none")
    with LocalStore.open(tmp_path / "store") as store:
        import_run(store, make_run(tmp_path / "one", TEXTS, settings))
        generation = store.generation
        assert import_run(store, tmp_path / "one").changed == 0
        assert store.generation == generation
        other = make_run(tmp_path / "two", (TEXTS[0], "Needles go elsewhere now.", *TEXTS[2:4]), settings)
        assert import_run(store, other, is_mirror=True) == (4, 4, 1, 2)
        retriever = StoreRetriever(store, None, READER, settings)
        assert [p.chunk.text for p in retriever.search("needles")] == ["Needles go elsewhere now."]
        assert retriever.search("garage") == []


def test_a_run_whose_index_is_of_other_chunks_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", TEXTS, RetrieveSettings(embedding="none"))
    write_json(run / "2_chunks/index/index.json", {"content": "other", "embedding": "none"})
    with LocalStore.open(tmp_path / "store") as store:
        with pytest.raises(DatasetError, match="belongs to other chunks"):
            import_run(store, run)
        assert store.stats().documents == 0


def test_a_run_of_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    with LocalStore.open(tmp_path / "store") as store:
        store.put(entry("a", ["Fridge."]))
        with pytest.raises(ModelError, match="another embedding model"):
            import_run(store, run)
        assert store.stats().documents == 1


def test_the_retriever_speaks_for_one_identity_and_the_day(tmp_path: Path) -> None:
    settings = RetrieveSettings(embedding="none")
    with LocalStore.open(tmp_path / "store") as store:
        store.put(entry("open", ["Fridge rules for all."], embedded=False))
        store.put(entry("ward", ["Fridge rules of the ward."], ["nurses"], embedded=False))
        store.put(entry("past", ["Fridge rules of old."], valid_until=date(2001, 1, 1), embedded=False))
        reader = StoreRetriever(store, None, READER, settings)
        nurse = reader.acting_for(Identity("default", frozenset({EVERYONE, "nurses"})))
        filtered = reader.acting_for(nurse.identity, Eq("uri", "ward"))

        def uris(retriever: StoreRetriever) -> set[str]:
            return {p.chunk.uri for p in retriever.search("fridge rules", 9)}

        assert uris(reader) == {"open"}
        assert uris(nurse) == {"open", "ward"}
        assert uris(filtered) == {"ward"}
        assert uris(reader.acting_for(NOBODY)) == set()
        assert uris(StoreRetriever(store, None, READER, settings, as_of=None)) == {"open", "past"}
        assert reader.search("") == reader.search("  \n") == []


def test_ranks_can_be_fused_instead_of_scores(run: Path, tmp_path: Path, embedder: MiniLmEmbedder) -> None:
    with LocalStore.open(tmp_path / "store") as store:
        import_run(store, run)
        found = StoreRetriever(store, embedder, READER, SETTINGS, fusion="reciprocal_ranks").search(QUESTIONS[2], 6)
    assert found[0].chunk.text == TEXTS[2]
    assert found[0].score == pytest.approx(2 / 61)


def test_reciprocal_ranks_by_hand() -> None:
    fused = reciprocal_ranks({5: 2.0, 7: 1.0}, {7: 0.5, 9: 0.4})
    assert fused == {5: 1 / 61, 7: 1 / 62 + 1 / 61, 9: 1 / 62}


def test_a_document_deleted_between_search_and_fetch_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    settings = RetrieveSettings(embedding="none")
    with LocalStore.open(tmp_path / "store") as store:
        for n in range(4):
            store.put(entry(f"{n}", [f"fridge number {n}"], embedded=False))

        class Meanwhile:
            """The store, from which the best document goes while a search is under way."""

            def __init__(self) -> None:
                self.is_first = True

            def candidates(self, *given: object) -> object:
                found = store.candidates(*given)  # type: ignore[arg-type]
                if self.is_first:
                    self.is_first = False
                    store.delete("0")
                return found

            def fetch(self, *given: object) -> object:
                return store.fetch(*given)  # type: ignore[arg-type]

        retriever = StoreRetriever(Meanwhile(), None, READER, settings)  # type: ignore[arg-type]
        assert [p.chunk.uri for p in retriever.search("fridge", 2)] == ["1", "2"]


def test_vectors_of_a_store_and_of_a_run_are_the_same_numbers(run: Path, tmp_path: Path) -> None:
    with LocalStore.open(tmp_path / "store") as store:
        import_run(store, run)
        with store.catalogue.reading() as db:
            model = db.model
            assert model is not None
            _, stored = db.vectors(model, 0, db.generation)
    assert float((stored * np.load(run / "2_chunks/index/vectors.npy")).sum(1).min()) > 0.9999
