"""Random identities, filters, changes and days against a model that looks at every document: nothing leaks, nothing lacks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from stored_documents import asked, entry

from fieldwise.errors import DatasetError
from fieldwise.store.filters import And, Eq, Exists, Filter, In, Not, Or, Range
from fieldwise.store.local import LocalStore, StoreSettings
from fieldwise.store.protocol import Identity, Scope

GROUPS = ["nurses", "doctors", "board", "everyone", "tenant", "north' OR 1=1"]
TENANTS = ["north", "south"]
WORDS = "fridge needle pump tag ward".split()
FIRST_DAY = date(2024, 1, 1)


@dataclass(frozen=True)
class Known:
    """What the naive model keeps of a chunk: plain values, no index."""

    tenant: str
    uri: str
    groups: frozenset[str]
    text: str
    values: dict[str, Any] = field(hash=False)
    valid_from: date | None
    valid_until: date | None


def holds(node: Filter, chunk: Known) -> bool:
    """Python's own comparison, written apart from the SQL."""
    if isinstance(node, And):
        return all(holds(part, chunk) for part in node.parts)
    if isinstance(node, Or):
        return any(holds(part, chunk) for part in node.parts)
    if isinstance(node, Not):
        return not holds(node.part, chunk)
    value = chunk.values.get(node.field)
    values = [] if value is None else list(value) if isinstance(value, tuple) else [value]
    if isinstance(node, Exists):
        return bool(values)
    if isinstance(node, Eq):
        return node.value in values
    if isinstance(node, In):
        return any(v in node.values for v in values)
    return any(
        (node.at_least is None or v >= node.at_least)
        and (node.at_most is None or v <= node.at_most)
        and (node.above is None or v > node.above)
        and (node.below is None or v < node.below)
        for v in values
    )


def random_filter(chance: Random, depth: int = 0) -> Filter:
    kind = chance.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return Eq("year", chance.randrange(2018, 2026))
    if kind == 1:
        return In("topic", tuple(chance.sample(["law", "health", "money", "x"], chance.randrange(0, 3))))
    if kind == 2:
        low = chance.randrange(2018, 2026)
        bounds = chance.choice([{"at_least": low}, {"below": low}, {"above": low - 3, "at_most": low}])
        return Range("year", **bounds)
    if kind == 3:
        return Exists(chance.choice(["year", "topic", "tags", "licence"]))
    if kind == 4:
        return Eq("tags", chance.choice(["a", "b", "c"]))
    if kind == 5:
        return chance.choice(
            [Eq("licence", "MIT"), Eq("heading", "part 1"), Range("tokens", at_least=1), Eq("final", True)]
        )
    if kind == 6:
        return Not(random_filter(chance, depth + 1))
    parts = tuple(random_filter(chance, depth + 1) for _ in range(chance.randrange(0, 4)))
    return And(parts) if kind == 7 else Or(parts)


def random_change(chance: Random, store: LocalStore, known: dict[tuple[str, str], list[Known]]) -> None:
    tenant, uri = chance.choice(TENANTS), f"{chance.randrange(25)}.md"
    if chance.random() < 0.25:
        assert store.delete(uri, tenant) == ((tenant, uri) in known)
        known.pop((tenant, uri), None)
        return
    texts = [" ".join(chance.sample(WORDS, 2)) + f" {chance.random()}" for _ in range(chance.randrange(1, 5))]
    groups = chance.sample(GROUPS, chance.randrange(1, 3))
    fields: dict[str, Any] = {}
    if chance.random() < 0.8:
        fields["year"] = chance.randrange(2018, 2026)
    if chance.random() < 0.6:
        fields["topic"] = chance.choice(["law", "health", "money"])
    if chance.random() < 0.5:
        fields["tags"] = tuple(chance.sample(["a", "b", "c"], chance.randrange(0, 3)))
    if chance.random() < 0.5:
        fields["final"] = chance.random() < 0.5
    valid_from = FIRST_DAY + timedelta(chance.randrange(0, 20)) if chance.random() < 0.4 else None
    valid_until = FIRST_DAY + timedelta(chance.randrange(20, 40)) if chance.random() < 0.4 else None
    licence = chance.choice(["MIT", "CC0", None])
    more = {"fields": fields, "valid_from": valid_from, "valid_until": valid_until, "tenant": tenant}
    store.put(entry(uri, texts, groups, licence=licence, **more))
    known[tenant, uri] = [
        Known(
            tenant,
            uri,
            frozenset(groups),
            text,
            {**fields, "licence": licence, "heading": (f"part {n % 3}",), "tokens": n},
            valid_from,
            valid_until,
        )
        for n, text in enumerate(texts)
    ]


def random_identity(chance: Random) -> Identity:
    tenant = chance.choice([*TENANTS, *TENANTS, "", "east"])
    return Identity(tenant, frozenset(chance.sample([*GROUPS, "strangers"], chance.choice([0, 1, 1, 2, 3]))))


def compare(chance: Random, store: LocalStore, known: dict[tuple[str, str], list[Known]]) -> None:
    """One random search of one random identity: exactly what the model allows."""
    who, wanted = random_identity(chance), random_filter(chance) if chance.random() < 0.7 else None
    day = FIRST_DAY + timedelta(chance.randrange(-5, 45)) if chance.random() < 0.5 else None
    word, count = chance.choice(WORDS), 1000 if chance.random() < 0.7 else chance.randrange(1, 6)
    allowed = [
        c
        for chunks in known.values()
        for c in chunks
        if c.tenant == who.tenant
        and c.groups & who.groups
        and (wanted is None or holds(wanted, c))
        and (
            day is None
            or ((c.valid_from is None or c.valid_from <= day) and (c.valid_until is None or day <= c.valid_until))
        )
    ]
    try:
        hits = store.candidates(word, asked(word), Scope(who, wanted, day), count)
    except DatasetError as error:  # no document of the tenant has brought the field yet
        assert "no document has" in str(error)
        return
    texts = {c.key: (c.tenant, c.chunk.uri, c.chunk.text) for c in store.fetch([*hits.lexical, *hits.dense], who)}
    lexical, dense = ({texts.get(key) for key in leg} for leg in (hits.lexical, hits.dense))
    may = {(c.tenant, c.uri, c.text) for c in allowed}
    matching = {c for c in may if word in c[2]}
    assert lexical <= matching, "a leak, or a hit without the word"
    assert dense <= may, "a leak"
    assert len(lexical) == min(count, len(matching))
    assert len(dense - lexical) <= count
    assert len(dense) >= min(count, len(may))


def run(folder: Path, seed: int, changes: int, searches: int) -> None:
    chance, known = Random(seed), {}  # type: ignore[var-annotated]
    with (
        LocalStore.open(folder, settings=StoreSettings(flat_rows=30, seal_rows=6)) as store,
        LocalStore.read(folder) as reader,
    ):
        for _ in range(changes):
            with store.batch():
                for _ in range(chance.randrange(1, 12)):
                    random_change(chance, store, known)
            for _ in range(searches):
                compare(chance, chance.choice([store, reader]), known)


def test_random_identities_and_filters_find_exactly_what_a_naive_model_allows(tmp_path: Path) -> None:
    run(tmp_path, seed=1, changes=6, searches=120)


@pytest.mark.slow
def test_ten_thousand_random_identities_and_filters_leak_nothing(tmp_path: Path) -> None:
    run(tmp_path, seed=int(os.environ.get("FIELDWISE_SEED", "2")), changes=25, searches=400)
