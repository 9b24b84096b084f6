"""What every `ChunkStore` must do; a new adapter is added to the fixture `store` and nothing else."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from stored_documents import EVERY, MODEL, asked, entry, found, scope

from fieldwise.errors import DatasetError, ModelError
from fieldwise.store.filters import And, Eq, Exists, Filter, In, Not, Or, Range
from fieldwise.store.protocol import NOBODY, ChunkStore, GoneError, Identity, QueryVector, Scope


def test_what_is_put_is_found_by_both_legs_and_comes_back_whole(store: ChunkStore) -> None:
    given = entry("a.md", ["Fridges stay cold.", "Needles go into the yellow bin."], fields={"year": 2024})
    store.put(given)
    assert found(store, "fridge cold") == ({"a.md"}, {"a.md"})
    hits = store.candidates("fridge", asked("fridges"), EVERY, 5)
    (key,) = hits.lexical
    chunk = store.fetch([key], EVERY.identity)[0]
    assert chunk.chunk == given.chunks[0]
    assert (chunk.version, chunk.licence, chunk.fields, chunk.tenant) == (1, "MIT", {"year": 2024}, "default")
    assert store.original(given.document.id, EVERY.identity) == given.document


def test_a_new_version_takes_the_place_of_the_old_in_both_legs_at_once(store: ChunkStore) -> None:
    store.put(entry("a.md", ["Fridges stay cold."]))
    store.put(entry("b.md", ["Pumps have a grey tag."]))
    store.put(entry("a.md", ["Freezers stay colder."]))
    assert found(store, "fridges")[0] == set()
    hits = store.candidates("freezers", asked("freezers"), EVERY, 10)
    chunks = store.fetch(list(hits.dense), EVERY.identity)
    assert sorted((c.chunk.text, c.version) for c in chunks) == [
        ("Freezers stay colder.", 2),
        ("Pumps have a grey tag.", 1),
    ]


def test_a_deleted_document_is_gone_from_both_legs_and_says_so_when_cited(store: ChunkStore) -> None:
    given = entry("a.md", ["Fridges stay cold."])
    store.put(given)
    store.put(entry("b.md", ["Fridges hum."]))
    hits = store.candidates("fridges", asked("fridges"), EVERY, 10)
    assert store.delete("a.md")
    assert found(store, "fridges") == ({"b.md"}, {"b.md"})
    assert {c.chunk.uri for c in store.fetch(list(hits.lexical), EVERY.identity)} == {"b.md"}
    with pytest.raises(GoneError, match="was deleted"):
        store.quote(given.document.id, 0, 7, EVERY.identity)
    with pytest.raises(DatasetError, match="there is no such document") as unknown:
        store.quote(given.document.id, 0, 7, Identity("default", frozenset({"others"})))
    assert not isinstance(unknown.value, GoneError), "who could not see it must not learn that it was there"
    assert not store.delete("a.md")


def test_a_citation_of_a_replaced_version_says_so(store: ChunkStore) -> None:
    given = entry("a.md", ["Fridges stay cold."])
    store.put(given)
    store.put(entry("a.md", ["Freezers stay colder."]))
    with pytest.raises(GoneError, match="replaced by a newer version"):
        store.quote(given.document.id, 0, 7, EVERY.identity)


def test_a_quote_is_the_stored_original_word_for_word(store: ChunkStore) -> None:
    given = entry("a.md", ["Fridges stay cold – 2 °C.", "𝔘nicode beyond."])
    store.put(given)
    start, end = given.chunks[1].start, given.chunks[1].end
    quote = store.quote(given.document.id, start, end, EVERY.identity)
    assert (quote.text, quote.uri, quote.version) == ("𝔘nicode beyond.", "a.md", 1)
    for bad in ((-1, 3), (3, 3), (0, 10_000)):
        with pytest.raises(DatasetError, match="not within the document"):
            store.quote(given.document.id, *bad, EVERY.identity)


def test_the_same_entry_again_changes_nothing(store: ChunkStore) -> None:
    first = store.put(entry("a.md", ["Fridges stay cold."]))
    assert store.put(entry("a.md", ["Fridges stay cold."])) == first
    assert store.put(entry("a.md", ["Fridges stay cold."], ["nurses"])) > first


def test_other_groups_take_effect_with_the_same_text(store: ChunkStore) -> None:
    store.put(entry("a.md", ["Fridges stay cold."]))
    store.put(entry("a.md", ["Fridges stay cold."], ["nurses"]))
    assert found(store, "fridges") == (set(), set())
    assert found(store, "fridges", scope("nurses")) == ({"a.md"}, {"a.md"})


# ---------------------------------------------------------------- who may see what


@pytest.mark.parametrize(
    "who",
    [
        NOBODY,
        Identity("default", frozenset()),
        Identity("", frozenset({"everyone"})),
        Identity("other", frozenset({"everyone"})),
    ],
)
def test_who_has_no_groups_or_another_tenant_sees_nothing(store: ChunkStore, who: Identity) -> None:
    given = entry("a.md", ["Fridges stay cold."])
    store.put(given)
    hits = store.candidates("fridges", asked("fridges"), EVERY, 10)
    assert store.candidates("fridges", asked("fridges"), Scope(who), 10)[:2] == ({}, {})
    assert store.fetch(list(hits.dense), who) == []
    with pytest.raises(DatasetError, match="no such document"):
        store.original(given.document.id, who)


def test_no_identity_at_all_sees_nothing(store: ChunkStore) -> None:
    store.put(entry("a.md", ["Fridges stay cold."]))
    assert store.candidates("fridges", asked("fridges"), Scope(None), 10)[:2] == ({}, {})  # type: ignore[arg-type]


def test_groups_as_one_text_are_refused_since_its_letters_would_be_groups(store: ChunkStore) -> None:
    with pytest.raises(DatasetError, match="list of names"):
        Identity("default", "everyone")  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="list of names"):
        store.put(replace(entry("a.md", ["x"]), groups="everyone"))
    with pytest.raises(DatasetError, match="nobody could find it"):
        store.put(entry("a.md", ["x"], []))


def test_the_same_document_of_two_tenants_stays_apart(store: ChunkStore) -> None:
    store.put(entry("a.md", ["Fridges stay cold."], tenant="north"))
    store.put(entry("a.md", ["Fridges stay cold."], tenant="south"))
    store.delete("a.md", "north")
    assert found(store, "fridges", scope("everyone", tenant="north")) == (set(), set())
    assert found(store, "fridges", scope("everyone", tenant="south")) == ({"a.md"}, {"a.md"})


def test_what_may_be_seen_fills_the_list_however_much_else_matches_better(store: ChunkStore) -> None:
    store.put(entry("secret.md", [f"fridge fridge fridge {n}" for n in range(300)], ["board"]))
    store.put(entry("open.md", ["One fridge among very many other words that make it a weak hit."]))
    assert found(store, "fridge", count=3) == ({"open.md"}, {"open.md"})


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Eq("licence", "MIT"), {"a", "c"}),
        (Not(Eq("licence", "MIT")), {"b", "d"}),
        (Exists("licence"), {"a", "b", "c"}),
        (Not(Exists("year")), {"d"}),
        (In("year", (2020, 2024)), {"a", "c"}),
        (In("year", ()), set()),
        (Range("year", at_least=2020, below=2024), {"a", "b"}),
        (Not(Range("year", above=2020)), {"a", "d"}),
        (Eq("topic", "law"), {"a", "b"}),
        (In("topic", ("law", "health")), {"a", "b", "c"}),
        (Eq("final", True), {"a"}),
        (And((Eq("topic", "law"), Or((Eq("year", 2020), Eq("year", 2021))))), {"a", "b"}),
        (And(()), {"a", "b", "c", "d"}),
        (Or(()), set()),
        (Eq("heading", "part 1"), {"b"}),
        (Not(Eq("heading", "part 1")), {"a", "b", "c", "d"}),
        (Range("tokens", at_least=1), {"b"}),
        (Eq("uri", "a"), {"a"}),
        (Range("valid_from", at_least=date(2024, 1, 1)), {"c"}),
        (Range("valid_from", at_most="2023-12-31"), {"b"}),
        (Eq("language", "de"), {"c"}),
        (Eq("version", 1), {"a", "b", "c", "d"}),
        (Range("score", above=0.5), {"a"}),
        (Eq("uri", "' OR 1=1 --"), set()),
    ],
)
def test_filters_mean_the_same_in_both_legs(filled: ChunkStore, wanted: Filter, expected: set[str]) -> None:
    assert found(filled, "fridge", scope("everyone", filter=wanted)) == (expected, expected)


def test_a_field_with_several_values_equals_each_of_them(store: ChunkStore) -> None:
    store.put(entry("a", ["Fridge."], fields={"tags": ("cold", "ward")}))
    store.put(entry("b", ["Fridge."], fields={"tags": ("ward",)}))
    assert found(store, "fridge", scope("everyone", filter=Eq("tags", "cold")))[0] == {"a"}
    assert found(store, "fridge", scope("everyone", filter=Not(Eq("tags", "cold"))))[0] == {"b"}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Eq("licens", "MIT"), "Did you mean 'licence'"),
        (Eq("yaer", 2020), "Did you mean 'year'"),
        (Eq("year", "2020"), "compared with a number"),
        (Eq("year", True), "compared with a number"),
        (Eq("year", float("nan")), "compared with a number"),
        (Eq("licence", 3), "compared with a text"),
        (Eq("valid_from", "soon"), "compared with a day"),
        (Eq("final", 1), "true or false"),
        (Range("final", at_least=True), "has no range"),
        (Range("year"), "no bound"),
        (In("year", (2020, "x")), "compared with a number"),
        (In("licence", "MIT"), "needs a list"),
        (Eq("groups", "board"), "no document has"),
        (Eq("secret_of_others", "x"), "no document has"),
        (Eq("licence", "a\0b"), "character 0"),
        ("licence = 'MIT'", "made of Eq"),
        (And(tuple(Eq("year", n) for n in range(600))), "too large"),
    ],
)
def test_a_bad_filter_is_told_what_is_wrong(filled: ChunkStore, wanted: Filter, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        filled.candidates("fridge", None, scope("everyone", filter=wanted), 5)


def test_a_field_keeps_its_type(store: ChunkStore) -> None:
    store.put(entry("a", ["Fridge."], fields={"year": 2020}))
    with pytest.raises(DatasetError, match="holds number in other documents"):
        store.put(entry("b", ["Fridge."], fields={"year": "2020"}))
    assert found(store, "fridge")[0] == {"a"}, "nothing of a refused document stays"
    for bad in ({"licence": "MIT"}, {"x": None}, {"x": float("inf")}, {" ": 1}, {"x": (1, 2)}):
        with pytest.raises(DatasetError):
            store.put(entry("b", ["Fridge."], fields=bad))


# ---------------------------------------------------------------- validity and versions


def test_only_what_is_valid_on_the_day_is_found(store: ChunkStore) -> None:
    store.put(entry("old", ["Fridge."], valid_until=date(2023, 12, 31)))
    store.put(entry("new", ["Fridge."], valid_from=date(2024, 1, 1)))
    for day, expected in ((date(2023, 12, 31), {"old"}), (date(2024, 1, 1), {"new"}), (None, {"old", "new"})):
        assert found(store, "fridge", scope("everyone", as_of=day)) == (expected, expected)


def test_earlier_versions_can_be_kept_and_end_where_the_new_one_begins(store: ChunkStore) -> None:
    store.put(entry("law", ["The limit is 5 days."], valid_from=date(2020, 1, 1)))
    store.put(entry("law", ["The limit is 9 days."], valid_from=date(2024, 1, 1)), keeps_earlier=True)
    for day, text, version in ((date(2022, 6, 1), "5 days", 1), (date(2024, 1, 1), "9 days", 2)):
        hits = store.candidates("limit", None, scope("everyone", as_of=day), 5)
        (chunk,) = store.fetch(list(hits.lexical), EVERY.identity)
        assert text in chunk.chunk.text
        assert chunk.version == version
    store.delete("law")
    assert found(store, "limit") == (set(), set())


# ---------------------------------------------------------------- what cannot be stored or asked


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "?!.,",
        "body_english:x AND (",
        'say "it',
        "*",
        "a* OR [b TO c]",
        "\ud800 fridge",
        "x\0y",
        "ward " * 20_000,
    ],
)
def test_any_text_is_only_words(store: ChunkStore, query: str) -> None:
    store.put(entry("doc", ["Fridge of the ward."]))
    hits = store.candidates(query, asked("fridge"), EVERY, 5)
    assert len(hits.lexical) == (1 if "ward" in query or "fridge" in query else 0)
    assert bool(hits.dense) == bool(query.strip())


def test_a_vector_of_another_model_is_refused(store: ChunkStore) -> None:
    store.put(entry("a", ["Fridge."]))
    with pytest.raises(ModelError, match="another embedding model"):
        store.candidates("fridge", QueryVector("other", asked("x").values), EVERY, 5)
    with pytest.raises(ModelError, match="another embedding model"):
        store.put(replace(entry("b", ["Fridge."]), model="other"))
    for bad in (np.ones(3), np.full(16, np.nan), np.zeros(16)):
        with pytest.raises(ModelError):
            store.candidates("fridge", QueryVector(MODEL, bad.astype(np.float32)), EVERY, 5)
    assert found(store, "fridge")[0] == {"a"}


@pytest.mark.parametrize("change", ["span", "double", "rows", "dates", "uri", "zero", "surrogate"])
def test_an_entry_that_is_wrong_leaves_nothing(store: ChunkStore, change: str) -> None:
    given = entry("a", ["Fridge one.", "Fridge two."])
    bad = {
        "span": replace(given, chunks=[given.chunks[0].model_copy(update={"end": 3}), given.chunks[1]]),
        "double": replace(given, chunks=[given.chunks[0]] * 2),
        "rows": replace(given, vectors=np.ones((1, 16), np.float32)),
        "dates": replace(given, valid_from=date(2024, 1, 2), valid_until=date(2024, 1, 1)),
        "uri": replace(given, tenant=""),
        "zero": replace(given, vectors=np.zeros((2, 16), np.float32)),
        "surrogate": replace(given, groups=["\ud800"]),
    }[change]
    with pytest.raises((DatasetError, ModelError)):
        store.put(bad)
    assert store.stats()[:5] == (0, 0, 0, 0, 0)


def test_stems_go_by_the_language_of_the_document(store: ChunkStore) -> None:
    store.put(entry("de", ["Die Kühlschränke werden täglich geprüft."], language="de"))
    store.put(entry("en", ["Fridges are checked daily."], language="en"))
    store.put(entry("zh", ["冰箱每天检查一次。"], language="zh"))
    store.put(entry("pl", ["Lodówki sprawdza się codziennie."], language="pl"))
    for query, uri in (("Kühlschrank", "de"), ("checking a fridge", "en"), ("检查冰箱", "zh"), ("lodówki", "pl")):
        assert found(store, query)[0] == {uri}
    assert found(store, "werden die")[0] == {"de"}, "stop words count when nothing else is left"
