"""What a search does beside finding: off by default, and each stage as its source describes it."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from stored_documents import MODEL, entry, vector

from fieldwise.errors import DatasetError, ModelError, ServiceError
from fieldwise.llm.fake import FakeLlm
from fieldwise.records import RetrievedPassage
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.store.filters import Eq
from fieldwise.store.local import LocalStore
from fieldwise.store.options import SearchOptions
from fieldwise.store.protocol import EVERYONE, NOBODY, ChunkStore, Identity
from fieldwise.store.retriever import StoreRetriever
from fieldwise.store.rewrite import acronyms_of, definitions, with_acronyms

READER = Identity("default", frozenset({EVERYONE}))
TODAY = date(2026, 6, 1)


class WordVectors:
    """The embedding of these tests: nearer the more words are shared."""

    fingerprint = MODEL

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.stack([vector(t) for t in texts])


def retriever(store: ChunkStore, identity: Identity = READER, **more: object) -> StoreRetriever:
    options = {name: more.pop(name) for name in list(more) if name in SearchOptions.model_fields}
    return StoreRetriever(
        store,
        WordVectors(),  # type: ignore[arg-type]
        identity,
        RetrieveSettings(),
        as_of=lambda: TODAY,
        options=SearchOptions(**options),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def uris(found: list[RetrievedPassage]) -> list[str]:
    return [p.chunk.uri for p in found]


def test_the_default_options_are_plain_fusion(store: ChunkStore) -> None:
    for n in range(12):
        store.put(entry(f"{n}.md", [f"fridge number {n} hums", f"pump {n} beside fridge {n % 3}"]))
    plain = retriever(store)
    asked_for = retriever(store, fold=1.0, per_document=99)
    for query in ("fridge 1", "pump beside", "hums number 7"):
        assert [(p.chunk.id, p.score) for p in plain.search(query, 6)] == [
            (p.chunk.id, p.score) for p in asked_for.search(query, 6)
        ]
    assert not SearchOptions().needs_a_pool


def test_at_most_so_many_passages_of_a_document(store: ChunkStore) -> None:
    store.put(entry("long.md", [f"fridge rule {n}" for n in range(6)]))
    store.put(entry("short.md", ["one more word on a fridge among many other things here"]))
    assert uris(retriever(store).search("fridge rule", 3)) == ["long.md"] * 3
    looked = retriever(store, per_document=2).look("fridge rule", 3)
    assert uris(looked.passages) == ["long.md", "long.md", "short.md"]
    assert looked.explained["dropped"]["over_cap"] == 4  # type: ignore[index,call-overload]


def test_near_identical_hits_are_folded_into_the_best_and_named(store: ChunkStore) -> None:
    text = "Fridges are kept between two and eight degrees at all times of the day"
    for n in range(3):
        store.put(entry(f"copy{n}.md", [text + ("." if n else "")]))
    store.put(entry("other.md", ["Fridges are cleaned on Mondays by the night shift"]))
    looked = retriever(store, fold=0.9).look("fridges degrees", 4)
    assert len(looked.hits) == 2
    assert len(looked.hits[0].explained["folded"]) == 2  # type: ignore[arg-type]
    assert looked.hits[1].passage.chunk.uri == "other.md"


def test_a_copy_that_the_reader_may_not_see_is_neither_shown_nor_named(store: ChunkStore) -> None:
    text = "Fridges are kept between two and eight degrees at all times"
    store.put(entry("open.md", [text]))
    store.put(entry("secret.md", [text], ["board"]))
    looked = retriever(store, fold=0.9).look("fridges", 4)
    assert uris(looked.passages) == ["open.md"]
    assert looked.hits[0].explained["folded"] == []


def test_diversity_takes_the_unlike_before_the_alike(store: ChunkStore) -> None:
    store.put(entry("a.md", ["fridge cold alarm"]))
    store.put(entry("b.md", ["fridge cold alarm bell"]))
    store.put(entry("c.md", ["fridge warranty paperwork"]))
    assert uris(retriever(store).search("fridge cold alarm", 2)) == ["a.md", "b.md"]
    looked = retriever(store, diversity=0.9).look("fridge cold alarm", 2)
    assert uris(looked.passages) == ["a.md", "c.md"]
    assert looked.hits[0].explained["relevance"] == 1.0
    likeness = looked.hits[1].explained["likeness"]
    assert isinstance(likeness, float)
    assert likeness == pytest.approx(float(vector("fridge cold alarm") @ vector("fridge warranty paperwork")), abs=0.01)


def test_newer_documents_gain_and_those_without_a_day_do_not(store: ChunkStore) -> None:
    store.put(entry("old.md", ["fridge rules"], valid_from=date(2016, 6, 1)))
    store.put(entry("new.md", ["fridge rules"], valid_from=date(2026, 6, 1)))
    store.put(entry("undated.md", ["fridge rules"]))
    store.put(entry("issued.md", ["fridge rules"], fields={"issued": "2026-05-31"}))
    looked = retriever(store, freshness=1.0, half_life_days=365).look("fridge rules", 4)
    gains = {h.passage.chunk.uri: h.explained["freshness"] for h in looked.hits}
    assert looked.hits[0].passage.chunk.uri == "new.md"
    assert gains["new.md"] == 1.0
    assert gains["old.md"] == pytest.approx(0.5 ** (3652 / 365))
    assert gains["undated.md"] == gains["issued.md"] == 0.0
    by_field = retriever(store, freshness=1.0, freshness_field="issued").look("fridge rules", 1)
    assert by_field.hits[0].passage.chunk.uri == "issued.md"


def test_neighbours_widen_a_passage_to_words_of_the_original(store: ChunkStore) -> None:
    given = entry("a.md", ["Introduction.", "Fridges hum.", "They stay cold.", "Pumps have tags."])
    store.put(given)
    looked = retriever(store, expand="neighbours").look("fridges hum", 1)
    chunk = looked.hits[0].passage.chunk
    assert chunk.text == "Introduction.\nFridges hum.\nThey stay cold."
    assert given.document.text[chunk.start : chunk.end] == chunk.text
    assert chunk.id == given.chunks[1].id
    assert looked.hits[0].explained["is_widened"] is True
    assert looked.hits[0].explained["found_at"] == [given.chunks[1].start, given.chunks[1].end]


def test_what_is_shown_already_is_not_shown_twice(store: ChunkStore) -> None:
    store.put(entry("a.md", [f"fridge part {n}" for n in range(8)]))
    found = retriever(store, expand="neighbours").search("fridge part", 8)
    spans = sorted((p.chunk.start, p.chunk.end) for p in found)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert sum(p.chunk.text.count("fridge") for p in found) == 8


def test_a_section_ends_at_its_heading_and_at_the_limit(store: ChunkStore) -> None:
    from dataclasses import replace

    given = entry("a.md", ["Cold one.", "Cold fridges two.", "Cold three.", "Warm four."])
    chunks = [
        c.model_copy(update={"heading_path": ("Cold",) if n < 3 else ("Warm",)}) for n, c in enumerate(given.chunks)
    ]
    store.put(replace(given, chunks=chunks))
    whole = retriever(store, expand="section").search("fridges", 1)[0].chunk.text
    assert whole == "Cold one.\nCold fridges two.\nCold three."
    long = entry("b.md", ["zebra " * 20, *("stripe " * 20 for _ in range(10))])
    chunks = [c.model_copy(update={"heading_path": ()}) for c in long.chunks]
    store.put(replace(long, chunks=chunks))
    cut = retriever(store, expand="section", expand_chars=500).search("zebra", 1)[0].chunk
    assert 121 < cut.end - cut.start <= 500


def test_a_document_deleted_while_its_passages_are_widened_leaves_its_place(store: ChunkStore) -> None:
    store.put(entry("a.md", ["fridge one", "fridge two"]))
    store.put(entry("b.md", ["fridge three and more words", "other"]))

    class Meanwhile:
        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def around(self, *given: object) -> object:
            store.delete("a.md")
            return store.around(*given)  # type: ignore[arg-type]

    assert set(uris(retriever(Meanwhile(), expand="neighbours").search("fridge", 4))) == {"b.md"}  # type: ignore[arg-type]


def test_a_reranker_puts_passages_in_its_own_order(store: ChunkStore) -> None:
    for n in range(4):
        store.put(entry(f"{n}.md", ["fridge" + " word" * n]))
    turned = retriever(store, rerank=lambda query, found: list(reversed(found)))
    plain = retriever(store).search("fridge", 4)
    assert uris(turned.search("fridge", 2)) == list(reversed(uris(plain)))[:2]
    shown: list[list[RetrievedPassage]] = []
    retriever(store, rerank=lambda query, found: shown.append(list(found)) or list(found)).search("fridge", 4)
    assert shown == [plain], "a reranker is shown the scores of both legs"


# ---------------------------------------------------------------- words of the search


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A venous thromboembolism (VTE) is treated.", [("VTE", "venous thromboembolism")]),
        (
            "MRSA (methicillin-resistant Staphylococcus aureus)",
            [("MRSA", "methicillin-resistant Staphylococcus aureus")],
        ),
        ("See the table (below) and section (4).", []),
        ("The Data Protection Act 1998 (DPA) applies.", [("DPA", "Data Protection Act 1998")]),
        ("nothing fits (XQZ) here", []),
        ("(" * 5000, []),
    ],
)
def test_definitions_are_read_off_the_text(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(definitions(text)) == expected


def test_acronyms_are_written_out_from_what_the_reader_may_see(store: ChunkStore) -> None:
    store.put(entry("a.md", ["Treat a venous thromboembolism (VTE) at once."]))
    store.put(entry("b.md", ["A venous thromboembolism is painful in winter."]))
    store.put(entry("secret.md", ["Project Very Tall Elephant (VTE) is secret."], ["board"]))
    looked = retriever(store, rewrite="acronyms").look("VTE in winter", 3)
    assert looked.searched.added == ("venous thromboembolism",)
    assert looked.explained["words_by"] == "acronyms"
    assert uris(looked.passages)[0] == "b.md"
    back = retriever(store, rewrite="acronyms").look("what is a venous thromboembolism", 3)
    assert back.searched.added == ("VTE",)
    assert retriever(store, NOBODY, rewrite="acronyms").look("VTE", 3).searched.added == ()
    assert acronyms_of("How is it in the UK?") == ["UK"]
    assert with_acronyms("plain words", lambda _: ["plain text"]).text == "plain words"


def test_a_model_words_the_search_and_acronyms_stand_in_when_it_cannot(store: ChunkStore) -> None:
    store.put(entry("a.md", ["Treat a venous thromboembolism (VTE) at once."]))
    store.put(entry("b.md", ["Needles go into the yellow bin."]))
    good = FakeLlm(lambda _: '{"query": "needles bin"}', name="worder")
    looked = retriever(store, rewrite="endpoint", client=good).look("where does it go?", 1)
    assert (looked.searched.text, looked.searched.by, uris(looked.passages)) == ("needles bin", "worder", ["b.md"])
    assert "where does it go?" in good.asked[0].conversation[-1].content

    for bad in ("no JSON", '{"query": ""}', '{"query": "' + "x" * 5000 + '"}', "[]"):
        looked = retriever(store, rewrite="endpoint", client=FakeLlm(lambda _, bad=bad: bad)).look("VTE", 1)  # type: ignore[misc]
        assert (looked.searched.by, looked.searched.added) == ("acronyms", ("venous thromboembolism",))

    class Down:
        name = "down"

        def ask_all(self, requests: object) -> object:
            raise ServiceError("nobody answers")

    looked = retriever(store, rewrite="endpoint", client=Down()).look("VTE", 1)
    assert looked.searched.by == "acronyms"


# ---------------------------------------------------------------- explain, and bad input


def test_explain_holds_every_score_of_every_stage(store: ChunkStore) -> None:
    store.put(entry("a.md", ["fridge cold"]))
    store.put(entry("b.md", ["fridge warm and other words"]))
    looked = retriever(store).look("fridge cold", 2)
    first = looked.hits[0].explained
    lexical, dense, fused = first["lexical"], first["dense"], first["fused"]
    assert isinstance(lexical, dict) and isinstance(dense, dict) and isinstance(fused, dict)
    assert (lexical["rank"], dense["rank"], fused["rank"]) == (1, 1, 1)
    assert fused["score"] == pytest.approx(0.6 * lexical["z"] + 0.4 * dense["z"])  # type: ignore[operator]
    assert looked.hits[0].passage.score == fused["score"]
    assert looked.explained["candidates"] == {"lexical": 2, "dense": 2}
    assert looked.explained["groups"] == ["everyone"]
    assert looked.generation == store.generation


@pytest.mark.parametrize(
    "query",
    [
        "title:fridge AND (", "fridge OR NOT *", '"fridge', "fridge~2 ^5 [a TO z]", "körper: übel", "' OR 1=1 --",
        "{\"query\": 1}", "\\", "fridge " * 15_000, "x" * 100_000, "\0fridge\0", "fridge \ud800", "🙂" * 30_000,
    ],
)  # fmt: skip
def test_no_query_is_a_language(store: ChunkStore, query: str) -> None:
    store.put(entry("a.md", ["The fridge is cold."]))
    found = StoreRetriever(store, None, READER, RetrieveSettings()).search(query, 3)
    assert uris(found) == (["a.md"] if "fridge" in query else [])


def test_an_empty_query_and_a_reader_without_groups_find_nothing(store: ChunkStore) -> None:
    store.put(entry("a.md", ["The fridge is cold."]))
    for query in ("", "   \n", "\t"):
        assert retriever(store).look(query).hits == []
    assert retriever(store, Identity("default", frozenset())).search("fridge") == []
    assert retriever(store, NOBODY, expand="neighbours", fold=0.9).search("fridge") == []


def test_filters_on_unknown_fields_and_wrong_types_are_told(store: ChunkStore) -> None:
    store.put(entry("a.md", ["The fridge is cold."], fields={"year": 2024}))
    asking = retriever(store)
    with pytest.raises(DatasetError, match="Did you mean 'year'"):
        asking.acting_for(READER, Eq("yaer", 2024)).search("fridge")
    with pytest.raises(DatasetError, match="compared with a number"):
        asking.acting_for(READER, Eq("year", "2024")).search("fridge")
    assert uris(asking.acting_for(READER, Eq("year", 2024)).search("fridge")) == ["a.md"]


def test_a_question_embedded_by_another_model_is_refused(store: ChunkStore) -> None:
    store.put(entry("a.md", ["The fridge is cold."]))

    class Other(WordVectors):
        fingerprint = "another/1"

    with pytest.raises(ModelError, match="another embedding model"):
        StoreRetriever(store, Other(), READER, RetrieveSettings()).search("fridge")  # type: ignore[arg-type]


# ---------------------------------------------------------------- lists and keeping


def test_documents_are_listed_page_by_page_for_who_may_see_them(store: ChunkStore) -> None:
    for n in range(5):
        store.put(entry(f"{n}.md", ["fridge"], ["everyone", "board"] if n else ["board"], fields={"n": n}))
    first = store.documents(READER, count=2)
    rest = store.documents(READER, after=first[-1].key, count=9)
    assert [d.uri for d in (*first, *rest)] == ["1.md", "2.md", "3.md", "4.md"]
    assert {d.groups for d in first} == {("everyone",)}, "other groups of a document are nobody's business"
    assert first[0].fields == {"n": 1}
    assert store.describe(first[0].id, READER) == first[0]
    assert store.documents(NOBODY) == []


def test_check_finds_what_does_not_hold_together_and_rebuild_mends_it(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path / "store") as store:
        for n in range(3):
            store.put(entry(f"{n}.md", [f"fridge {n}", "pump"]))
        store.delete("0.md")
        assert store.faults() == []
        words = store.views.words()
        assert words.state is not None
        words.apply([2], [], words.state)  # a document is lost from the index alone
        assert any("rebuild" in fault for fault in store.faults())
    with LocalStore.rebuild(tmp_path / "store") as store:
        assert store.faults() == []
        assert store.stats().chunks == 4
    with pytest.raises(DatasetError, match="no document store"):
        LocalStore.rebuild(tmp_path / "nothing")
