"""What the embedded store does beside the contract: its files, their damage, several processes."""

import json
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from stored_documents import DIMENSIONS, EVERY, MODEL, asked, entry, found, scope, vector

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.files import read_json, write_json
from fieldwise.retrieve.lexical import LexicalIndex
from fieldwise.store import vectors as v
from fieldwise.store.filters import And, Eq, Exists, In, Not, Or, Range, parse_filter
from fieldwise.store.local import LocalStore, StoreSettings
from fieldwise.store.protocol import QueryVector
from fieldwise.store.snapshot import Words
from fieldwise.store.words import State, WordIndex

HERE = Path(__file__).parent
SMALL = StoreSettings(flat_rows=40, seal_rows=8)
WORDS = "fridge needle pump tag ward visitor bed staff north garage level degree".split()


def texts_of(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 6)) + f" number {seed}x{n}" for n in range(count)]


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs a script with this folder on its path."""
    lines = f"import sys; sys.path.insert(0, {str(HERE)!r})\n{textwrap.dedent(script)}"
    command = [sys.executable, "-c", lines, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---------------------------------------------------------------- processes


_WRITER = """
from pathlib import Path
from fieldwise.store.local import LocalStore, StoreSettings
from stored_documents import entry
with LocalStore.open(Path(sys.argv[1]), settings=StoreSettings(40, 8)) as store:
    for n in range(1, 7):
        with store.batch():
            for d in range(6):
                store.put(entry(str(d), [f"fridge version {n}"] + [f"more {n} {k}" for k in range(n % 3)]))
        store.delete(str(n % 6))
"""


def test_a_reader_sees_both_legs_agree_while_another_process_writes(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path, settings=SMALL) as store:
        store.put(entry("0", ["fridge version 0"]))
    seen = set()
    with LocalStore.read(tmp_path) as reader:
        writer = child(_WRITER, tmp_path)
        while writer.poll() is None:
            hits = reader.candidates("fridge version", asked("fridge version"), EVERY, 200)
            assert hits.lexical.keys() <= hits.dense.keys()
            texts = {c.key: c.chunk.text for c in reader.fetch(list(hits.dense), EVERY.identity)}
            assert {key for key, text in texts.items() if "fridge" in text} <= hits.lexical.keys()
            seen.add(hits.generation)
        assert writer.returncode == 0, writer.communicate()[1]
        assert len(seen) > 1
        last = found(reader, "fridge", count=200)
    with LocalStore.open(tmp_path) as store:
        assert found(store, "fridge", count=200) == last


def test_a_second_writer_is_told_and_readers_are_not_in_its_way(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path) as store:
        store.put(entry("a", ["Fridge."]))
        with pytest.raises(RunError, match="another process writes"):
            LocalStore.open(tmp_path)
        with LocalStore.read(tmp_path) as one, LocalStore.read(tmp_path) as two:
            assert found(one, "fridge") == found(two, "fridge") == ({"a"}, {"a"})
            with pytest.raises(RunError, match="open for reading only"):
                one.put(entry("b", ["Fridge."]))
    LocalStore.open(tmp_path).close()


def test_many_threads_search_at_once(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path) as store:
        for n in range(6):
            store.put(entry(str(n), texts_of(n, 5)))
        expected = [store.candidates(w, asked(w), EVERY, 7) for w in WORDS]
        wrong: list[str] = []

        def ask() -> None:
            for _ in range(5):
                wrong.extend(
                    w for w, e in zip(WORDS, expected, strict=True) if store.candidates(w, asked(w), EVERY, 7) != e
                )

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_batch_is_seen_at_its_end_a_deletion_at_once(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path) as store:
        store.put(entry("a", ["Fridge a."]))
        with pytest.raises(ZeroDivisionError), store.batch():
            store.put(entry("b", ["Fridge b."]))
            assert found(store, "fridge") == ({"a"}, {"a"})
            store.delete("a")
            assert found(store, "fridge") == ({"b"}, {"b"})
            store.put(entry("c", ["Fridge c."]))
            _ = 1 / 0
        assert found(store, "fridge") == ({"b", "c"}, {"b", "c"}), "what was put before the error is kept"


def test_narrower_access_holds_before_the_batch_ends(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path) as store:
        store.put(entry("a", ["Fridge a."]))
        with store.batch():
            store.put(entry("a", ["Fridge a."], ["board"]))
            hits = store.candidates("fridge", None, EVERY, 5)
            assert store.fetch(list(hits.lexical), EVERY.identity) == []


# ---------------------------------------------------------------- what is derived


def damage_missing(place: Path) -> None:
    shutil.rmtree(place / "words")


def damage_pointer(place: Path) -> None:
    (place / "words/words.json").write_text("{")


def damage_meta(place: Path) -> None:
    next((place / "words").glob("index-*/meta.json")).write_text("not json")


def damage_segment(place: Path) -> None:
    path = next((place / "words").glob("index-*/*.term"))
    path.write_bytes(path.read_bytes()[:10])


def damage_format(place: Path) -> None:
    path = place / "words/words.json"
    write_json(path, {**read_json(path), "format": 0})


@pytest.mark.parametrize("damage", [damage_missing, damage_pointer, damage_meta, damage_segment, damage_format])
def test_a_damaged_lexical_index_is_made_again_and_readers_do_without(damage, tmp_path: Path) -> None:
    with LocalStore.open(tmp_path) as store:
        for n in range(3):
            store.put(entry(str(n), texts_of(n, 4)))
        expected = found(store, "fridge pump")
    damage(tmp_path)
    with LocalStore.read(tmp_path) as reader:
        assert found(reader, "fridge pump") == expected
    with LocalStore.open(tmp_path) as store:
        assert found(store, "fridge pump") == expected
    with LocalStore.read(tmp_path) as reader:
        assert found(reader, "fridge pump") == expected
        assert reader.views.words().folder is not None


def test_a_kill_between_a_list_of_deletions_and_its_commit_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    words = [Words(n, n // 2 + 1, "en", "", text) for n, text in enumerate(texts_of(0, 6))]
    WordIndex.build(tmp_path, "english", words, State(1, "one")).close()
    (folder,) = tmp_path.glob("index-*")
    before = (folder / "meta.json").read_bytes()
    for again in (False, True):
        index = WordIndex.open(tmp_path)
        assert index is not None and index.state == State(1, "one")
        index.apply([2], [], State(2, "two"))
        assert int(index.searcher.num_docs) == 4 + 1, again  # one is the marker of the generation
        index.close()
        assert list(folder.glob("*.del"))
        (folder / "meta.json").write_bytes(before)  # as if it had been killed just before this file was replaced


@pytest.mark.parametrize("file", ["codes.npy", "keys.npy", "segment.json", "scales.npy"])
def test_a_half_written_segment_is_made_again_and_readers_do_without(file: str, tmp_path: Path) -> None:
    with LocalStore.open(tmp_path, settings=SMALL) as store:
        for n in range(4):
            store.put(entry(str(n), texts_of(n, 5)))
        expected = store.candidates("fridge", asked("fridge"), EVERY, 9)
        assert store.stats().segments > 0
    path = next((tmp_path / "vectors").glob(f"*/seg-*/{file}"))
    path.write_bytes(path.read_bytes()[:-7])
    left = path.parent.parent / ".tmp-left-by-a-kill"
    left.mkdir()
    for opened in (LocalStore.read(tmp_path, settings=SMALL), LocalStore.open(tmp_path, settings=SMALL)):
        with opened as store:
            assert store.candidates("fridge", asked("fridge"), EVERY, 9).dense == pytest.approx(expected.dense)
    with LocalStore.read(tmp_path) as reader:
        assert reader.stats().segments == 1
    assert not left.exists()


@pytest.mark.parametrize("which", ["words/words.json", "vectors/*/segments.json"])
def test_derived_files_of_a_newer_version_are_refused_with_what_to_do(which: str, tmp_path: Path) -> None:
    with LocalStore.open(tmp_path, settings=SMALL) as store:
        store.put(entry("a", texts_of(1, 20)))
    path = next(tmp_path.glob(which))
    write_json(path, {**read_json(path), "format": 99})
    with pytest.raises(RunError, match=r"newer version of Fieldwise.*Upgrade"), LocalStore.read(tmp_path) as reader:
        found(reader, "fridge")


def test_a_catalogue_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    LocalStore.open(tmp_path).close()
    db = sqlite3.connect(tmp_path / "catalogue.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    for opener in (LocalStore.open, LocalStore.read):
        with pytest.raises(RunError, match=r"newer version of Fieldwise.*schema 99"):
            opener(tmp_path)


def test_what_is_no_store_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no document store"):
        LocalStore.read(tmp_path / "nowhere")
    (tmp_path / "catalogue.sqlite").write_bytes(b"no database at all" * 100)
    for opener in (LocalStore.open, LocalStore.read):
        with pytest.raises(DatasetError, match="damaged"):
            opener(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        LocalStore.open(tmp_path / "file")


def test_a_catalogue_put_back_from_a_copy_does_not_meet_indexes_of_another_history(tmp_path: Path) -> None:
    place, copy = tmp_path / "store", tmp_path / "copy.sqlite"
    with LocalStore.open(place, settings=SMALL) as store:
        store.put(entry("a", texts_of(1, 10)))
    shutil.copy(place / "catalogue.sqlite", copy)
    with LocalStore.open(place, settings=SMALL) as store:
        store.put(entry("b", texts_of(2, 10)))
    shutil.copy(copy, place / "catalogue.sqlite")
    with LocalStore.open(place, settings=SMALL) as store:
        assert found(store, "number 2x1", count=100)[1] == {"a"}
        store.put(entry("c", texts_of(3, 10)))  # takes the numbers that b once had
        assert found(store, "fridge pump", count=100) == found_by_hand({"a": texts_of(1, 10), "c": texts_of(3, 10)})
        dense = store.candidates("3x4", asked(texts_of(3, 10)[4]), EVERY, 1).dense
        assert list(dense.values()) == [pytest.approx(1, abs=0.003)]


def found_by_hand(documents: dict[str, list[str]]) -> tuple[set[str], set[str]]:
    lexical = {uri for uri, texts in documents.items() if any("fridge" in t or "pump" in t for t in texts)}
    return lexical, set(documents)


def test_many_small_segments_become_one_and_give_exact_cosines(tmp_path: Path) -> None:
    everything: dict[str, list[str]] = {}
    with LocalStore.open(tmp_path, settings=StoreSettings(10_000, 8)) as store:
        for n in range(14):
            everything[str(n)] = texts_of(n, 9)
            store.put(entry(str(n), everything[str(n)]))
        store.delete("3")
        del everything["3"]
        assert 0 < store.stats().segments <= 8
        hits = store.candidates("x", asked("fridge pump ward"), EVERY, 20)
        query = vector("fridge pump ward")
        best = sorted((float(vector(t) @ query) for ts in everything.values() for t in ts), reverse=True)[:20]
        assert sorted(hits.dense.values(), reverse=True) == pytest.approx(best, abs=0.005)
        store.optimise()
        assert store.stats().segments == 1
        assert store.candidates("x", asked("fridge pump ward"), EVERY, 20).dense == pytest.approx(hits.dense)


def test_segments_that_hold_keys_of_deleted_chunks_are_searched(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path, settings=SMALL) as store:
        store.put(entry("a", texts_of(1, 5)))
        store.put(entry("b", texts_of(2, 12)))
        store.delete("b")
    for opened in (LocalStore.read(tmp_path), LocalStore.open(tmp_path)):
        with opened as store:
            assert found(store, "x", count=100)[1] == {"a"}


def test_a_graph_finds_what_looking_at_everything_finds(tmp_path: Path) -> None:
    pytest.importorskip("usearch.index")
    rng = np.random.default_rng(0)
    with LocalStore.open(tmp_path, settings=StoreSettings(500, 200)) as store:
        with store.batch():
            for n in range(20):
                given = entry(str(n), texts_of(n, 50), ["everyone"] if n % 4 else ["few"], fields={"third": n % 3})
                vectors = rng.standard_normal((50, DIMENSIONS)).astype(np.float32)
                store.put(given.__class__(**{**given.__dict__, "vectors": vectors}))
        segments = store.views.current().listed.segments
        assert any(s.graph is not None for s in segments)
        both, everyone = scope("everyone", "few"), scope("everyone")
        some = scope("everyone", "few", filter=Eq("third", 1))
        agreed = 0
        for _ in range(30):
            query = QueryVector(MODEL, rng.standard_normal(DIMENSIONS).astype(np.float32))
            for where in (both, everyone, some, scope("few", filter=Eq("third", 1))):
                hits = store.candidates("x", query, where, 10).dense
                view = store.views.current()
                with store.catalogue.reading() as db:
                    allowed = store.views.allowed(db, view, where)
                unit = query.values / np.linalg.norm(query.values)
                exact: dict[int, float] = {}
                for s in [*segments, *([view.tail] if view.tail else [])]:
                    exact.update(s._replace(graph=None).nearest(unit, allowed.chunks, 10))
                best = dict(sorted(exact.items(), key=lambda i: -i[1])[:10])
                assert all(allowed.chunks[key] for key in hits)
                agreed += len(hits.keys() & best.keys())
        assert agreed >= 0.97 * 30 * 4 * 10
    with LocalStore.read(tmp_path) as reader:
        assert any(s.graph is not None for s in reader.views.current().listed.segments)


def test_without_the_library_for_graphs_every_vector_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v, "can_make_graphs", lambda: False)
    with LocalStore.open(tmp_path, settings=StoreSettings(20, 10)) as store:
        with store.batch():
            for n in range(6):
                store.put(entry(str(n), texts_of(n, 10)))
        store.optimise()
        assert [s.graph for s in store.views.current().listed.segments] == [None]
        assert found(store, "x", count=100)[1] == {str(n) for n in range(6)}


def test_scores_are_those_of_the_index_in_memory(tmp_path: Path) -> None:
    given = [entry(str(n), texts_of(n, 6)) for n in range(5)]
    index = LexicalIndex([c for e in given for c in e.chunks])
    chunks = [c for e in given for c in e.chunks]
    with LocalStore.open(tmp_path) as store:
        with store.batch():
            for e in given:
                store.put(e)
        for query in ("the fridge of the ward", "pumps", "degrees and levels in the north", "to be or not"):
            expected = {chunks[row].id: score for row, score in index.search(query, 100)}
            hits = store.candidates(query, None, EVERY, 100)
            ids = {c.key: c.chunk.id for c in store.fetch(list(hits.lexical), EVERY.identity)}
            assert {ids[k]: s for k, s in hits.lexical.items()} == pytest.approx(expected, rel=0.08)


def test_what_was_deleted_cannot_be_read_from_the_catalogue(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path) as store:
        store.put(entry("a", ["The patient is called Zebedee Quux."]))
        store.put(entry("b", ["Fridge."]))
        store.delete("a")
    left = b"".join(p.read_bytes() for p in tmp_path.glob("catalogue.sqlite*"))
    assert b"Fridge." in left
    assert b"Zebedee" not in left


# ---------------------------------------------------------------- another model


def test_another_model_takes_over_when_every_chunk_has_its_vector(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path, settings=SMALL) as store:
        for n in range(3):
            store.put(entry(str(n), texts_of(n, 10)))
        with pytest.raises(ModelError, match="not every chunk"):
            store.activate("new")
        while missing := store.without_vector("new", 7):
            vectors = np.stack([np.concatenate([vector(c.chunk.text)] * 2) for c in missing])
            store.add_vectors("new", [c.key for c in missing], vectors)
        assert found(store, "fridge")[1] == {"0", "1", "2"}, "the old one serves until then"
        store.activate("new")
        with pytest.raises(ModelError, match="another embedding model"):
            store.candidates("fridge", asked("fridge"), EVERY, 5)
        query = QueryVector("new", np.concatenate([vector("fridge")] * 2))
        assert len(store.candidates("fridge", query, EVERY, 50).dense) == 30
    with LocalStore.read(tmp_path) as reader:
        assert len(reader.candidates("fridge", query, EVERY, 50).dense) == 30


# ---------------------------------------------------------------- disks

_DISK = """
import json
from pathlib import Path
from fieldwise.errors import FieldwiseError
from fieldwise.store.local import LocalStore
from stored_documents import EVERY, entry, found
place, said = Path(sys.argv[1]), {}
"""


def in_namespace(tmp_path: Path, mount: str, script: str) -> dict[str, object]:
    """Run a script with a mount that only it sees."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("mounts need a right that this process does not have")
    file = tmp_path / "script.py"
    file.write_text(
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n{_DISK}{textwrap.dedent(script)}\nprint(json.dumps(said))"
    )
    command = f"{mount} && exec {sys.executable} {file} {tmp_path / 'mounted'}"
    (tmp_path / "mounted").mkdir()
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.namespace
def test_a_store_on_a_disk_that_cannot_be_written_is_searched_but_not_changed(tmp_path: Path) -> None:
    with LocalStore.open(tmp_path / "store") as store:
        store.put(entry("a", ["Fridge."]))
    inside = (
        f"mount --bind {tmp_path / 'store'} {tmp_path / 'mounted'} && mount -o remount,ro,bind {tmp_path / 'mounted'}"
    )
    said = in_namespace(
        tmp_path,
        inside,
        """
        with LocalStore.read(place) as reader:
            said["found"] = [sorted(leg) for leg in found(reader, "fridge")]
        try:
            LocalStore.open(place)
        except FieldwiseError as error:
            said["error"] = str(error)
        """,
    )
    assert said["found"] == [["a"], ["a"]]
    assert "cannot be written" in str(said["error"])


@pytest.mark.namespace
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    said = in_namespace(
        tmp_path,
        f"mount -t tmpfs -o size=3m none {tmp_path / 'mounted'}",
        """
        kept = []
        store = LocalStore.open(place)
        try:
            for n in range(2000):
                store.put(entry(str(n), [f"fridge {n} {k} " + "words " * 60 for k in range(20)]))
                kept.append(str(n))
        except FieldwiseError as error:
            said["error"] = str(error)
        store.close()
        with LocalStore.read(place) as reader:
            legs = found(reader, "fridge", count=100_000)
            said["lost"] = [sorted(set(kept) - leg) for leg in legs]
            said["chunks"] = reader.stats().chunks / 20 - reader.stats().documents
            said["kept"] = len(kept)
        """,
    )
    assert "full" in str(said["error"]) or "could not be added" in str(said["error"])
    assert (said["lost"], said["chunks"]) == ([[], []], 0)
    assert int(str(said["kept"])) > 0


# ---------------------------------------------------------------- filters as JSON


def test_filters_are_read_from_json() -> None:
    wanted = parse_filter(
        json.loads(
            '{"and": [{"field": "a", "eq": "x"}, {"or": [{"field": "b", "in": [1, 2]}, {"not": {"field": "c", "exists": true}}]},'
            '{"field": "d", "range": {"above": 1, "at_most": 2.5}}]}'
        )
    )
    assert wanted == And((Eq("a", "x"), Or((In("b", (1, 2)), Not(Exists("c")))), Range("d", above=1, at_most=2.5)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "licence = 'MIT'",
        {},
        {"field": "a"},
        {"field": "a", "eq": None},
        {"field": "a", "eq": "x", "in": []},
        {"field": "a", "in": [[1]]},
        {"field": "a", "range": {}},
        {"field": "a", "range": {"over": 1}},
        {"and": {"field": "a", "eq": 1}},
        {"and": [], "or": []},
        {"field": 3, "eq": 1},
    ],
)
def test_json_that_is_no_filter_is_refused_with_an_example(value) -> None:
    with pytest.raises(DatasetError, match=r"this is no filter.*Write"):
        parse_filter(value)


def test_json_filters_are_not_read_without_end() -> None:
    value: dict[str, object] = {"field": "a", "eq": 1}
    for _ in range(500):
        value = {"not": value}
    with pytest.raises(DatasetError, match="levels"):
        parse_filter(value)  # type: ignore[arg-type]
