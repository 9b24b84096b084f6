"""Our own routes, over a real server."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from live import Live, events_of, live, wait_for
from released_run import HYGIENE, edit_release, make_run, original_bytes

from fieldwise.run import RunFolder

QUESTION = {"question": "How long do I rub the gel?"}


def test_an_answer_comes_with_a_citation_that_points_at_its_words(client: httpx.Client) -> None:
    answer = client.post("/ask", json=QUESTION).raise_for_status().json()
    assert (answer["text"], answer["answer"], answer["model"], answer["is_declined"]) == (
        "25 seconds [1]",
        "25 seconds",
        "tuned",
        False,
    )
    place = answer["citations"][0]["document"]
    assert place["uri"] == "policies/hand-hygiene.pdf" and place["page"] == 1 and answer["citations"][0]["is_verified"]
    text = client.get(place["url"]).json()["text"]
    assert (
        text[place["start"] : place["end"]]
        == place["quote"]
        == "Rub the gel with both hands for 25 seconds, until the hands are dry."
    )


def test_a_question_the_documents_do_not_answer_is_declined_without_citations(client: httpx.Client) -> None:
    answer = client.post("/ask", json={"question": "What does the moon weigh?"}).json()
    assert answer["is_declined"] and answer["citations"] == [] and answer["text"] == "Not stated in the documents."


def test_a_streamed_answer_sends_passages_then_text_then_the_same_answer(client: httpx.Client) -> None:
    with client.stream("POST", "/ask", json={**QUESTION, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = list(events_of(response.iter_lines()))
    names = [name for name, _ in events]
    assert names[0] == "passages" and names[-1] == "answer" and set(names[1:-1]) == {"text"}
    assert "".join(value["text"] for name, value in events if name == "text") == "25 seconds [1]"
    whole = client.post("/ask", json=QUESTION).json()
    assert {**events[-1][1], "timings": None} == {**whole, "timings": None}


def test_top_k_says_how_many_passages_are_read(client: httpx.Client) -> None:
    assert [len(client.post("/ask", json={**QUESTION, "top_k": k}).json()["passages"]) for k in (1, 2)] == [1, 2]


def test_a_short_follow_up_is_searched_together_with_the_question_before_it(client: httpx.Client) -> None:
    history = [
        {"role": "user", "content": "Who pays the deposit of the staff flats?"},
        {"role": "assistant", "content": "The tenant."},
    ]
    alone = client.post("/ask", json={"question": "Is that all?", "top_k": 1}).json()
    together = client.post("/ask", json={"question": "Is that all?", "top_k": 1, "history": history}).json()
    assert alone["passages"][0]["chunk"]["uri"] != "lease.txt"
    assert together["passages"][0]["chunk"]["uri"] == "lease.txt"


def test_the_base_reads_the_same_passages_and_its_loose_words_are_not_verified(client: httpx.Client) -> None:
    tuned, base = (client.post("/ask", json={**QUESTION, "model": model}).json() for model in ("tuned", "base"))
    assert [p["chunk"]["id"] for p in tuned["passages"]] == [p["chunk"]["id"] for p in base["passages"]]
    assert base["answer"] == "about 25 seconds or so" and not base["citations"][0]["is_verified"]


def test_eight_questions_at_once_are_all_answered_and_at_most_four_are_computed_together(
    service: Live, client: httpx.Client
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/ask", json=QUESTION).json()["text"], range(8)))
    assert answers == ["25 seconds [1]"] * 8
    assert service.tuned.largest_running <= 4


def test_generate_answers_through_the_chat_template_and_raw_takes_the_prompt_as_it_stands(client: httpx.Client) -> None:
    made = client.post("/api/v1/generate", json={"prompt": "hello there"}).json()
    assert made == {
        "generated_text": "You said: hello there",
        "prompt": "hello there",
        "tokens_generated": 4,
        "finish_reason": "stop",
    }
    assert (
        client.post("/api/v1/generate", json={"prompt": "hello there", "raw": True})
        .json()["generated_text"]
        .startswith(" You said")
    )


def test_a_reply_cut_at_max_tokens_says_so(client: httpx.Client) -> None:
    made = client.post("/api/v1/generate", json={"prompt": "one two three", "max_tokens": 3}).json()
    assert (
        made["generated_text"] == "You said: one"
        and made["finish_reason"] == "length"
        and made["tokens_generated"] == 3
    )


def test_a_streamed_generation_ends_with_its_figures(client: httpx.Client) -> None:
    with client.stream("POST", "/api/v1/generate", json={"prompt": "hi", "stream": True}) as response:
        events = list(events_of(response.iter_lines()))
    assert "".join(value["text"] for name, value in events if name == "text") == "You said: hi"
    assert events[-1] == ("done", {"tokens_generated": 3, "finish_reason": "stop"})


def test_a_batch_longer_than_the_places_keeps_its_order(client: httpx.Client) -> None:
    prompts = [f"prompt number {n}" for n in range(11)]
    made = client.post("/api/v1/generate/batch", json={"prompts": prompts}).json()
    assert [r["generated_text"] for r in made["results"]] == [f"You said: {p}" for p in prompts] and made[
        "total_prompts"
    ] == 11


def test_rerank_puts_the_text_that_fits_first_and_keeps_its_place_in_the_request(client: httpx.Client) -> None:
    texts = ["Heart disease is common.", "The dose of insulin depends on blood sugar.", "Insulin was found in 1921."]
    found = client.post("/api/v1/rerank", json={"query": "insulin dose", "documents": texts, "top_k": 2}).json()[
        "results"
    ]
    assert (
        [r["index"] for r in found] == [1, 2]
        and [r["rank"] for r in found] == [1, 2]
        and found[0]["document"] == texts[1]
    )
    assert 1 >= found[0]["score"] > found[1]["score"] >= 0 and found[0]["overlap"] == 1.0


def test_models_tell_what_is_loaded_and_others_load_with_the_first_question(run: RunFolder) -> None:
    with live(run) as service:
        loaded = {m["name"]: m["is_loaded"] for m in httpx.get(f"{service.url}/models").json()["models"]}
        assert loaded == {"tuned": True, "base": True, "tuned:q4_k_m": False}
        assert (
            httpx.post(f"{service.url}/ask", json={**QUESTION, "model": "tuned:q4_k_m"}, timeout=20).json()["model"]
            == "tuned:q4_k_m"
        )
        assert httpx.get(f"{service.url}/models").json()["models"][2]["is_loaded"]
    assert all(engine.is_closed for engine in service.engines.values())


def test_health_tells_name_and_version(client: httpx.Client) -> None:
    health = client.get("/api/v1/health").json()
    assert health["status"] == "healthy" and health["model_loaded"] and health["model_name"] == "ward-handbook"
    assert client.get("/api/v1/model/info").json() == {
        "model_name": "ward-handbook",
        "model_type": "causal-lm",
        "quantization": "q8_0",
        "max_context_length": 1500,
        "domain": "healthcare",
    }


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/ready", "/v1/models", "/ui/app.js"])
def test_whoever_asks_for_the_headers_only_gets_those_of_get(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] and client.head("/ask").status_code == 405


def test_a_document_shows_its_text_pages_and_headings(client: httpx.Client) -> None:
    found = client.post("/ask", json=QUESTION).json()["citations"][0]["document_id"]
    document = client.get(f"/documents/{found}").json()
    assert (
        document["text"] == HYGIENE
        and [p["number"] for p in document["pages"]] == [1, 2]
        and document["headings"][1]["text"] == "Alcohol gel"
    )


def test_an_original_is_only_ever_saved_never_run(client: httpx.Client) -> None:
    answer = client.post("/ask", json={"question": "What does the payload say?"}).json()
    response = client.get(answer["citations"][0]["document"]["original"])
    assert response.content == original_bytes("evil.html")
    assert (
        response.headers["content-type"] == "application/octet-stream"
        and response.headers["x-content-type-options"] == "nosniff"
    )
    assert (
        response.headers["content-disposition"].startswith('attachment; filename="evil.html"')
        and "sandbox" in response.headers["content-security-policy"]
    )


def test_an_original_that_was_changed_is_not_handed_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = make_run(tmp_path_factory.mktemp("changed") / "run", embedding="none")
    from fieldwise.retrieve.settings import RetrieveSettings

    for path in (run.path / "1_documents/originals").iterdir():
        path.write_bytes(b"something else")
    with live(run, retrieve=RetrieveSettings(embedding="none")) as service:
        place = httpx.post(f"{service.url}/ask", json=QUESTION, timeout=20).json()["citations"][0]["document"]
        assert httpx.get(service.url + place["url"]).json()["original"] is None
        assert httpx.get(service.url + place["original"]).status_code == 404


def test_metrics_count_requests_tokens_declined_answers_and_citations_but_hold_no_words(client: httpx.Client) -> None:
    secret = "zebra" + hashlib.sha256(b"x").hexdigest()[:8]
    client.post("/ask", json={"question": f"How long do I rub the {secret}?"})
    client.post("/ask", json={"question": f"moon {secret}", "model": "base"})
    client.post("/ask", json={"question": "x", "model": secret})
    expected = (
        'fieldwise_request_seconds_count{model="tuned",outcome="ok",route="/ask"}',
        'fieldwise_tokens_total{direction="completion",model="tuned"}',
        'fieldwise_answers_total{model="base",outcome="declined"}',
        'fieldwise_citations_total{model="tuned",outcome="verified"}',
        'fieldwise_first_token_seconds_count{model="tuned",route="/ask"}',
        "fieldwise_queue_depth 0.0",
        "fieldwise_in_flight 1.0",
        'fieldwise_request_seconds_count{model="none",outcome="invalid",route="/ask"}',
    )
    wait_for(lambda: all(line in client.get("/metrics").text for line in expected))  # counted when the answer is out
    text = client.get("/metrics").text
    assert secret not in text and "rub" not in text
    assert "process_resident_memory_bytes" in text or not Path("/proc/self/stat").exists()


def test_a_release_against_a_gate_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = make_run(tmp_path_factory.mktemp("override") / "run")
    edit_release(run, verdict="FAIL", override="J. Doe: pilot only")
    with live(run) as service:
        assert httpx.get(f"{service.url}/models").json()["release"]["override"] == "J. Doe: pilot only"
