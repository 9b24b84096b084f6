"""A store behind the service: answers, search, and documents in and out over HTTP."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fake_engine import FakeEngine
from live import Live, events_of
from stored_service import FRIDGE, QUESTION, add, problem, stored, uris

from fieldwise.run import RunFolder

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


# ---------------------------------------------------------------- settings


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


def test_neither_torch_nor_the_training_libraries_are_in_the_serving_process() -> None:
    import subprocess
    import sys

    code = "import fieldwise.serve.app, fieldwise.serve.stored, fieldwise.ingest, sys; print({'torch', 'transformers', 'sentence_transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
