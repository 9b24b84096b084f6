"""A store behind the service: who may see and change what, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from live import live
from stored_service import KEYS, QUESTION, add, keys_file, problem, reading, stored, uris

from fieldwise.errors import FieldwiseError
from fieldwise.ingest import Ingester
from fieldwise.run import RunFolder
from fieldwise.serve.access import Access
from fieldwise.serve.settings import ServeSettings
from fieldwise.store.protocol import Identity


def test_every_route_that_shows_documents_asks_who_it_is(guarded: dict[str, httpx.Client]) -> None:
    secret = add(
        guarded["nurse"],
        "secret.md",
        "# Secret\n\nThe morphine cupboard opens with the code okapi okapi okapi.",
        groups=["nurses"],
    )
    identifier = secret["document"]["id"]
    routes: list[tuple[str, str, Any]] = [
        ("POST", "/ask", {"question": "Which code opens the morphine cupboard?"}),
        ("POST", "/v1/chat/completions", {"model": "rag", "messages": [{"role": "user", "content": "morphine cupboard code"}]}),
        ("POST", "/api/v1/search", {"query": "morphine cupboard code okapi", "explain": True, "rewrite": "acronyms", "expand": "section", "fold": 0.5}),
        ("GET", "/api/v1/documents", None),
        ("GET", f"/api/v1/documents/{identifier}", None),
        ("GET", f"/documents/{identifier}", None),
        ("GET", f"/documents/{identifier}/original", None),
        ("GET", "/models", None),
    ]  # fmt: skip
    for method, path, body in routes:
        seen = {name: client.request(method, path, json=body) for name, client in guarded.items()}
        for name in ("reader", "without", "elsewhere", "admin"):
            assert "code okapi" not in seen[name].text.replace("cupboard code okapi", ""), (name, path)
            assert "secret.md" not in seen[name].text, (name, path)
            assert seen[name].status_code in (200, 404), (name, path)
        assert seen["stranger"].status_code == seen["wrong"].status_code == 401
    assert "code okapi" in guarded["nurse"].get(f"/documents/{identifier}").text
    counts = {
        n: guarded[n].get("/models").json()["release"]["documents"] for n in ("nurse", "reader", "without", "elsewhere")
    }
    assert counts["nurse"] == counts["reader"] + 1
    assert counts["without"] == counts["elsewhere"] == 0
    assert guarded["nurse"].delete(f"/api/v1/documents/{identifier}").status_code == 200


def test_random_keys_and_filters_leak_nothing_on_any_route(run: RunFolder, tmp_path: Path) -> None:
    """Each document holds a word of its own; a key that does not share a group with it never meets that word."""
    from random import Random

    chance = Random(3)
    groups = ["everyone", "nurses", "board", "lab"]
    keys = [
        {"name": f"k{n}", "key": f"key-{n}", "groups": chance.sample(groups, chance.randrange(0, 3)), "tenant": tenant}
        for n, tenant in enumerate(["default", "default", "default", "other"] * 3)
    ]
    boss = {"name": "boss", "key": "boss", "groups": groups, "rights": ["admin"]}
    other = {**boss, "name": "other boss", "key": "other", "tenant": "other"}
    path = keys_file(tmp_path / "keys.yaml", boss, other, *keys)
    with live(run, store=str(tmp_path / "store"), keys=str(path), ingest=reading) as service:

        def asking_as(key: dict[str, Any]) -> httpx.Client:
            return httpx.Client(base_url=service.url, timeout=30, headers={"Authorization": f"Bearer {key['key']}"})

        known: list[tuple[str, str, str, set[str]]] = []
        for n in range(10):
            tenant, own = chance.choice(["default", "default", "other"]), chance.sample(groups, chance.randrange(1, 3))
            word = f"zyx{n}qua"
            text = f"# Note\n\nThe fridge note says {word} and nothing more of it (ZQ{n})."
            with asking_as(boss if tenant == "default" else other) as client:
                added = add(client, f"n{n}.md", text, groups=own, fields={"n": n})
            known.append((word, added["document"]["id"], tenant, set(own)))
        for key in keys:
            with asking_as(key) as client:
                wanted = chance.choice([None, {"field": "version", "eq": 1}, {"not": {"field": "uri", "eq": "n1.md"}}])
                told = "".join(
                    client.post(route, json=body).text
                    for route, body in (
                        ("/api/v1/search", {"query": "fridge note", "top_k": 50, "filters": wanted, "explain": True}),
                        ("/api/v1/search", {"query": "ZQ3 ZQ4", "rewrite": "acronyms", "explain": True, "fold": 0.3}),
                        ("/ask", {"question": "What does the fridge note say?", "top_k": 9}),
                        ("/v1/chat/completions", {"model": "rag", "messages": [{"role": "user", "content": "fridge note"}]}),
                    )
                )  # fmt: skip
                told += client.get("/api/v1/documents").text
                for word, identifier, tenant, own in known:
                    may = tenant == key["tenant"] and bool(own & {*key["groups"]})
                    for route in (
                        f"/documents/{identifier}",
                        f"/api/v1/documents/{identifier}",
                        f"/documents/{identifier}/original",
                    ):
                        assert client.get(route).status_code == (200 if may else 404), (key, route)
                    assert may or (word not in told and identifier not in told), key


def test_an_identity_without_groups_sees_nothing_at_all(guarded: dict[str, httpx.Client]) -> None:
    nobody = guarded["without"]
    assert uris(nobody, "gel") == []
    assert nobody.get("/api/v1/documents").json() == {"documents": [], "next": None}
    answer = nobody.post("/ask", json=QUESTION).json()
    assert (answer["is_declined"], answer["passages"], answer["citations"]) == (True, [], [])


def test_rights_and_groups_bound_what_a_key_may_write(guarded: dict[str, httpx.Client]) -> None:
    body = {"uri": "x.md", "text": "# X\n\nThe numbat lives in the eucalyptus woods of the south west."}
    for name, more, code in (
        ("reader", {}, "not_allowed"),
        ("without", {}, "not_allowed"),
        ("nurse", {"groups": ["board"]}, "not_allowed"),
        ("nurse", {"groups": ["nurses", "board"]}, "not_allowed"),
    ):
        response = guarded[name].post("/api/v1/documents", json={**body, **more})
        assert (response.status_code, problem(response)["code"]) == (403, code), name
    board = add(
        guarded["admin"],
        "minutes.md",
        "# Minutes\n\nThe board met on the first day of May in the hall.",
        groups=["board"],
    )
    assert guarded["admin"].get(f"/api/v1/documents/{board['document']['id']}").status_code == 404, (
        "groups bound what an admin sees"
    )
    taken = guarded["nurse"].post("/api/v1/documents", json={**body, "uri": "minutes.md"})
    assert taken.status_code == 403
    elsewhere = add(
        guarded["elsewhere"], "minutes.md", "# Minutes\n\nAnother tenant has minutes of its own in its own hall."
    )
    assert elsewhere["document"]["version"] == 1
    assert uris(guarded["elsewhere"], "minutes hall") == ["minutes.md"]
    assert "minutes.md" not in uris(guarded["nurse"], "minutes hall", top_k=50)
    with_write = guarded["filler"]
    added = add(with_write, "filled.md", "# Filled\n\nThe numbat was put here by a machine that reads nothing itself.")
    for path in ("/api/v1/documents", f"/documents/{added['document']['id']}", "/models", "/v1/models"):
        assert with_write.get(path).status_code == 403, path
    assert with_write.post("/ask", json=QUESTION).status_code == 403
    assert uris(guarded["reader"], "numbat machine", top_k=1) == ["filled.md"]
    assert with_write.delete(f"/api/v1/documents/{added['document']['id']}").status_code == 200
    for path, method in (
        ("/api/v1/compare/systems", "GET"),
        ("/api/v1/shutdown", "POST"),
        ("/api/v1/compare/next", "POST"),
    ):
        for name in ("nurse", "reader"):
            assert guarded[name].request(method, path, json={"voter": "x"}).status_code == 403, path


def test_a_key_that_is_taken_out_stops_working_and_a_broken_file_lets_nobody_in(run: RunFolder, tmp_path: Path) -> None:
    path = keys_file(tmp_path / "keys.yaml", KEYS[0], KEYS[1])
    with live(run, store=str(tmp_path / "store"), keys=str(path)) as service:

        def status(key: str) -> int:
            return httpx.get(f"{service.url}/api/v1/documents", headers={"Authorization": f"Bearer {key}"}).status_code

        assert (status("k-nurse"), status("k-reader")) == (200, 200)
        keys_file(path, KEYS[1])
        assert (status("k-nurse"), status("k-reader")) == (401, 200)
        path.write_text("- name: [", encoding="utf-8")
        assert status("k-reader") == 401
        keys_file(path, KEYS[0])
        assert status("k-nurse") == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no list of keys"),
        ("{}", "no list"),
        ("- 3", "entry 1"),
        ("- {name: a, sha256: abc}", "entry 1, sha256"),
        ("- {name: a, key: secret}", "entry 1"),
        (f"- {{name: a, sha256: {'a' * 64}, rights: [root]}}", "rights"),
        (f"- {{name: a, sha256: {'a' * 64}}}\n- {{name: b, sha256: {'a' * 64}}}", "entry 2 repeats"),
    ],
)
def test_a_file_of_keys_that_is_none_is_refused_at_the_start(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "keys.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(FieldwiseError, match="keys cannot be used") as found:
        Access.from_settings(ServeSettings(store="x", keys=str(tmp_path / "keys.yaml")))
    assert said in str(found.value)


def test_the_command_names_store_keys_and_reading_only(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldwise.cli import main
    from fieldwise.serve import server

    given: list[Any] = []
    monkeypatch.setattr(server, "serve_run", lambda *arguments: given.append(arguments) or 0)
    path = keys_file(tmp_path / "keys.yaml", KEYS[0])
    flags = ["--store", str(tmp_path / "store"), "--keys", str(path), "--read-only", "--port", "0"]
    assert main(["serve", "--run", str(run.path), *flags, "serve.search.per_document=2"]) == 0
    assert main(["serve", "--run", str(run.path)]) == 0
    (_, settings, _, _, ingest), (_, plain, _, _, none) = given
    assert (settings.store, settings.keys) == (str(tmp_path / "store"), str(path))
    assert (settings.read_only, settings.search.per_document) == (True, 2)
    assert (plain.store, plain.read_only, none) == (None, False, None)
    with ingest(None) as ingester:
        assert isinstance(ingester, Ingester)


def test_keys_without_a_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FieldwiseError, match="need a document store"):
        Access.from_settings(ServeSettings(keys=str(keys_file(tmp_path / "k.yaml", KEYS[0]))))


def test_whoever_runs_the_service_without_groups_sees_nothing(run: RunFolder, tmp_path: Path) -> None:
    with stored(run, tmp_path / "store", groups=()) as (_, client):
        assert uris(client, "gel") == []
        assert client.post("/ask", json=QUESTION).json()["passages"] == []
        assert client.get("/documents/doc_x").status_code == 404


def test_search_needs_an_identity_of_the_key_alone(guarded: dict[str, httpx.Client]) -> None:
    for more in ({"groups": ["nurses"]}, {"tenant": "other"}, {"identity": "nurse"}):
        response = guarded["reader"].post("/api/v1/search", json={"query": "gel", **more})
        assert response.status_code == 422
    assert Identity("default", frozenset()).groups == frozenset()
