"""A writer of a store on points that dies or fails at any step: a document is there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from stored_documents import DIMENSIONS, EVERY, entry, found, scope

from fieldwise.store.points import PointStore

Opening = Callable[..., PointStore]


def on_qdrant(folder: Path) -> Opening:
    qdrant_client = pytest.importorskip("qdrant_client", reason="needs fieldwise[qdrant]")
    from fieldwise.store.qdrant import QdrantStore

    client = qdrant_client.QdrantClient(":memory:")
    return lambda **more: QdrantStore(client, "s", dimensions=DIMENSIONS, **more)


def in_lance(folder: Path) -> Opening:
    pytest.importorskip("lancedb", reason="needs fieldwise[lancedb]")
    from fieldwise.store.lance import open_lance

    return lambda **more: open_lance(str(folder), dimensions=DIMENSIONS, **more)


class KilledError(Exception):
    pass


class Dying:
    """A database that fails at the n-th change."""

    def __init__(self, points: Any, left: int) -> None:
        self._points, self._left = points, left

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._points, name)
        if name not in ("add", "change", "remove", "write_state"):
            return value

        def change(*given: Any, **more: Any) -> Any:
            if self._left <= 0:
                raise KilledError
            self._left -= 1
            return value(*given, **more)

        return change


def texts_of(store: PointStore) -> list[str]:
    hits = store.candidates("fridge freezer", None, EVERY, 9)
    return sorted(c.chunk.text for c in store.fetch(list(hits.lexical), EVERY.identity))


@pytest.mark.parametrize("goes_on", [False, True], ids=["killed", "failed"])
@pytest.mark.parametrize("change", ["put", "replace", "delete"])
@pytest.mark.parametrize("kind", [on_qdrant, in_lance])
def test_a_change_that_fails_at_any_step_is_whole_or_not_at_all(
    kind: Callable[[Path], Opening], change: str, goes_on: bool, tmp_path: Path
) -> None:
    for steps in range(20):
        opening = kind(tmp_path / f"{steps}")
        store = opening()
        store.put(entry("a", ["fridge one", "fridge two"]))
        store.put(entry("other", ["pump"]))
        before, points = store.generation, store.points
        store.points = Dying(points, steps)  # type: ignore[assignment]
        died = False
        try:
            if change == "put":
                store.put(entry("b", ["fridge three", "fridge four"]))
            elif change == "replace":
                store.put(entry("a", ["freezer one", "freezer two"]))
            else:
                store.delete("a")
        except KilledError:
            died = True
        store.points = points
        seen = [opening(writes=False)]
        is_done = seen[0].generation > before
        if goes_on:  # the same process does something else afterwards
            store.put(entry("later", ["pump again"]))
            seen.append(store)
        else:
            seen += [opening(), opening()]
        for opened in seen:
            assert is_done or died, "what was acknowledged is kept"
            words, meaning = found(opened, "fridge freezer")
            assert meaning - {"other", "later"} == words, "both legs agree"
            expected = {"put": ({"a"}, {"a", "b"}), "replace": ({"a"}, {"a"}), "delete": ({"a"}, set[str]())}[change]
            assert words == expected[is_done], (steps, opened.writes)
            old, new = ["fridge one", "fridge two"], ["freezer one", "freezer two"]
            if change == "replace":
                assert texts_of(opened) == (new if is_done else old)
            assert len(texts_of(opened)) % 2 == 0, "a part of a document"
        kept = points.count("chunks", points.conditions.all())
        assert kept == seen[-1].stats().chunks, "what was begun or deleted stays in the database"
        if not died:
            assert steps >= 3
            return
    raise AssertionError("the change never came to its end")


@pytest.mark.parametrize("kind", [on_qdrant, in_lance])
def test_the_validity_of_an_earlier_version_ends_with_the_change_or_not_at_all(
    kind: Callable[[Path], Opening], tmp_path: Path
) -> None:
    for steps in range(20):
        opening = kind(tmp_path / f"{steps}")
        store = opening()
        store.put(entry("law", ["fridge five days"], valid_from=date(2020, 1, 1)))
        before, points = store.generation, store.points
        store.points = Dying(points, steps)  # type: ignore[assignment]
        died = False
        try:
            store.put(entry("law", ["fridge nine days"], valid_from=date(2024, 1, 1)), keeps_earlier=True)
        except KilledError:
            died = True
        opened = opening()
        is_done = opened.generation > before
        hits = opened.candidates("fridge", None, scope("everyone", as_of=date(2025, 1, 1)), 5)
        (chunk,) = opened.fetch(list(hits.lexical), EVERY.identity)
        assert chunk.chunk.text == ("fridge nine days" if is_done else "fridge five days"), steps
        assert opened.stats().documents == 1 + is_done
        if not died:
            return
    raise AssertionError("the change never came to its end")


def test_fields_that_come_later_can_be_asked_for_beside_documents_without_them(tmp_path: Path) -> None:
    from fieldwise.store.filters import Eq, Not, Range

    store = in_lance(tmp_path)()
    store.put(entry("plain", ["fridge"]))
    store.put(entry("dated", ["fridge"], fields={"year": 2024, "tags": ("a", "b"), "it's": "x'y", "final": True}))
    for wanted, expected in (
        (Eq("year", 2024), {"dated"}),
        (Not(Eq("year", 2024)), {"plain"}),
        (Eq("tags", "b"), {"dated"}),
        (Eq("it's", "x'y"), {"dated"}),
        (Eq("it's", "x' OR true --"), set[str]()),
        (Eq("final", False), set[str]()),
        (Range("licence", at_least="A", below="N"), {"plain", "dated"}),
    ):
        assert found(store, "fridge", scope("everyone", filter=wanted)) == (expected, expected), wanted


def test_tidying_keeps_what_is_there(tmp_path: Path) -> None:
    opening = in_lance(tmp_path)
    store = opening()
    for n in range(12):
        store.put(entry(f"{n % 4}", [f"fridge number {n}"]))
    store.delete("3")
    store.points.tidy()  # type: ignore[attr-defined]
    for opened in (store, opening(writes=False)):
        assert found(opened, "fridge") == ({"0", "1", "2"}, {"0", "1", "2"})
        assert opened.stats()[2:5] == (3, 3, 3)
