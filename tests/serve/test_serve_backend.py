"""Opening a release: names, files, errors; and real weights behind it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fake_engine import FakeEngine
from live import live, wait_for
from released_run import edit_release, make_run

from fieldwise.errors import DatasetError, ModelError, RunError
from fieldwise.files import read_json, write_json
from fieldwise.records import Message
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder
from fieldwise.serve.backend import Backend, UnknownModelError, open_backend
from fieldwise.serve.library import NotFoundError
from fieldwise.serve.settings import ServeSettings

WORDS_ONLY = RetrieveSettings(embedding="none")


def opened(run: RunFolder, model: str = "q8_0", loaded: list[str] | None = None) -> Any:
    def open_engine(path: Path, name: str, settings: ServeSettings) -> Any:
        if loaded is not None:
            loaded.append(f"{name}={path.stem}")
        return FakeEngine(name)

    return open_backend(run, ServeSettings(), WORDS_ONLY, model, open_engine=open_engine)


@pytest.fixture
def words_run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", embedding="none")


def test_the_chosen_file_is_tuned_and_the_others_carry_their_type(words_run: RunFolder) -> None:
    loaded: list[str] = []
    with opened(words_run, "q4_k_m", loaded) as backend:
        assert [(m.name, m.build.path) for m in backend.models()] == [
            ("tuned", "6_builds/ward-handbook-q4_k_m.gguf"),
            ("base", "6_builds/ward-handbook-base-q8_0.gguf"),
            ("tuned:q8_0", "6_builds/ward-handbook-q8_0.gguf"),
        ]
        assert loaded == ["tuned=ward-handbook-q4_k_m"]
        assert backend.name_of("tuned:q4_k_m") == "tuned" and backend.engine("tuned:q4_k_m") is backend.engine()
        backend.engine("base")
        assert loaded[1:] == ["base=ward-handbook-base-q8_0"]


def test_an_engine_that_a_fault_has_ended_is_loaded_again(words_run: RunFolder) -> None:
    loaded: list[str] = []
    with opened(words_run, loaded=loaded) as backend:
        first = backend.engine()
        assert backend.engine() is first
        first.close()
        second = backend.engine()
        assert second is not first and not second.is_closed
    assert loaded == ["tuned=ward-handbook-q8_0"] * 2 and second.is_closed


def test_an_answer_comes_without_a_server(words_run: RunFolder) -> None:
    with opened(words_run) as backend:
        answer = next(
            iter(backend.answerer().answer_all([(Message(role="user", content="How long do I rub the gel?"),)]))
        )
    assert answer.text == "25 seconds [1]" and answer.model == "tuned" and answer.citations[0].is_verified


def test_nothing_released_names_the_command_that_does_it(words_run: RunFolder) -> None:
    (words_run.path / "6_builds/release.json").unlink()
    with pytest.raises(RunError, match="nothing has been released") as found, opened(words_run):
        pass
    assert f"fieldwise run --run {words_run.path}" in str(found.value)
    with pytest.raises(RunError, match="not there"), opened(RunFolder(words_run.path / "elsewhere")):
        pass


def test_a_run_that_a_gate_held_back_names_the_gate(words_run: RunFolder) -> None:
    (words_run.path / "6_builds/release.json").unlink()
    gates = [
        {"verdict": "PASS", "requirement": "fast enough", "found": "1 s"},
        {
            "verdict": "FAIL",
            "requirement": "tuned: token_f1 better than base",
            "found": "-0.010 [-0.030, +0.010], n=40",
        },
    ]
    write_json(words_run.path / "5_reports/report.json", {"gates": gates})
    with pytest.raises(RunError, match="gates have held back") as found, opened(words_run):
        pass
    assert "FAIL: tuned: token_f1 better than base, found -0.010" in str(found.value) and "fast" not in str(found.value)
    assert "release.override" in str(found.value)


def test_a_model_that_was_not_built_lists_those_there_are(words_run: RunFolder) -> None:
    with pytest.raises(ModelError, match=r"'q2_k'.*q8_0, q4_k_m"), opened(words_run, "q2_k"):
        pass


def test_an_unknown_name_lists_those_there_are(words_run: RunFolder) -> None:
    with opened(words_run) as backend, pytest.raises(UnknownModelError, match="tuned, base, tuned:q4_k_m"):
        backend.engine("gpt-4")


def test_a_file_that_fell_back_to_another_type_is_found_by_its_name(words_run: RunFolder) -> None:
    release = read_json(words_run.path / "6_builds/release.json")
    builds: Any = release["builds"]
    builds[1]["quantisation"] = "q5_0"
    edit_release(words_run, builds=builds)
    with opened(words_run, "q4_k_m") as backend:
        assert backend.models()[0].build.quantisation == "q5_0"


def test_a_missing_model_file_and_one_with_another_content_are_told(words_run: RunFolder) -> None:
    file = words_run.path / "6_builds/ward-handbook-q8_0.gguf"
    file.write_bytes(b"something else")
    with pytest.raises(ModelError, match="not the one that was released") as found, opened(words_run):
        pass
    assert "fieldwise release" in str(found.value)
    file.unlink()
    with pytest.raises(ModelError, match="not there"), opened(words_run):
        pass


def test_a_model_file_outside_the_run_is_refused(words_run: RunFolder) -> None:
    release = read_json(words_run.path / "6_builds/release.json")
    builds: Any = release["builds"]
    builds[0]["path"] = "../model.gguf"
    (words_run.path.parent / "model.gguf").write_bytes(b"x")
    edit_release(words_run, builds=builds)
    with pytest.raises(ModelError, match="outside the run folder"), opened(words_run):
        pass


@pytest.mark.parametrize("content", ['{"name": "x"}', "[]", "{"])
def test_a_broken_release_file_is_told(words_run: RunFolder, content: str) -> None:
    (words_run.path / "6_builds/release.json").write_text(content, encoding="utf-8")
    with pytest.raises((RunError, DatasetError), match=r"release\.json"), opened(words_run):
        pass


def test_documents_and_chunks_are_found_by_id(words_run: RunFolder) -> None:
    with opened(words_run) as backend:
        chunk = next(iter(backend.library.search("gel", 1))).chunk
        assert (
            backend.library.chunk(chunk.id) == chunk
            and backend.document(chunk.document_id).text[chunk.start : chunk.end] == chunk.text
        )
        with pytest.raises(NotFoundError):
            backend.document("doc_none")
        with pytest.raises(NotFoundError):
            backend.library.chunk("chk_none")


# ------------------------------------------------------------ real weights


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    from tiny_models import make_tiny_llama

    from fieldwise.release.gguf import convert

    folder = tmp_path_factory.mktemp("real")
    file = convert(make_tiny_llama(folder / "weights", context=2048), folder / "tiny.gguf").path
    return make_run(folder / "run", embedding="none", models=dict.fromkeys(("q8_0", "q4_k_m", "base-q8_0"), file))


@pytest.fixture(scope="module")
def real(real_run: RunFolder) -> Iterator[tuple[str, Backend]]:
    from fieldwise.serve.backend import open_llama

    settings = ServeSettings(threads=1)
    with live(
        real_run,
        retrieve=WORDS_ONLY,
        engine=lambda name: open_llama(real_run.path / "6_builds/ward-handbook-q8_0.gguf", name, settings),
        threads=1,
    ) as service:
        yield service.url, service.backend


def test_real_weights_answer_eight_questions_at_once(real: tuple[str, Backend]) -> None:
    url, _ = real
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: (
                    httpx.post(
                        f"{url}/ask", json={"question": "How long do I rub the gel?", "max_tokens": 12}, timeout=30
                    )
                    .raise_for_status()
                    .json()
                ),
                range(8),
            )
        )
    assert (
        len({a["text"] for a in answers}) == 1
        and answers[0]["completion_tokens"] <= 12
        and answers[0]["prompt_tokens"] > 50
    )


def test_real_weights_stream_what_they_say_whole_and_never_begin_with_a_blank(real: tuple[str, Backend]) -> None:
    client = openai.OpenAI(base_url=f"{real[0]}/v1", api_key="none", max_retries=0, timeout=30)
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    whole = (
        client.chat.completions.create(model="tuned", messages=messages, max_tokens=16).choices[0].message.content or ""
    )
    chunks = client.chat.completions.create(model="tuned", messages=messages, max_tokens=16, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole == whole.lstrip()


def test_real_weights_stop_when_the_client_goes(real: tuple[str, Backend]) -> None:
    url, backend = real
    engine: Any = backend.engine()
    with httpx.stream(
        "POST",
        f"{url}/api/v1/generate",
        json={"prompt": "hello", "max_tokens": 1800, "temperature": 2, "top_p": 1, "top_k": 0, "stream": True},
        timeout=30,
    ) as response:
        next(response.iter_raw())
    wait_for(lambda: engine.stats.running == 0, 5)
    assert engine.stats.generated_tokens < 1800


def serve(run: RunFolder, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    environment.pop("FIELDWISE_API_KEY", None)
    command = [
        sys.executable,
        "-m",
        "fieldwise",
        "serve",
        "--run",
        str(run.path),
        "--port",
        "0",
        *more,
        "retrieve.embedding=none",
        "serve.threads=1",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "shutdown"])
def test_the_command_prints_its_address_answers_and_stops_cleanly(real_run: RunFolder, how: Any) -> None:
    process = serve(real_run)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[-1]
        assert line.startswith("Serving ward-handbook (q8_0) at http://127.0.0.1:")
        assert httpx.get(f"{url}/health", timeout=10).json()["status"] == "alive"
        if how == "shutdown":
            assert httpx.post(f"{url}/api/v1/shutdown", timeout=10).json() == {"message": "Shutdown initiated"}
        else:
            process.send_signal(how)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0 and out == ""
    assert all(json.loads(text)["level"] == "info" for text in err.splitlines()), err


def test_the_command_stops_while_a_reply_is_being_written(real_run: RunFolder) -> None:
    process = serve(real_run)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with httpx.stream(
            "POST",
            f"{url}/api/v1/generate",
            json={"prompt": "hello", "max_tokens": 2000, "temperature": 2, "top_p": 1, "top_k": 0, "stream": True},
            timeout=30,
        ) as response:
            next(response.iter_raw())
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0


def test_the_command_says_what_is_missing_and_exits_with_2(real_run: RunFolder, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(real_run.path, copy)
    (copy / "6_builds/release.json").unlink()
    process = serve(RunFolder(copy))
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2 and out == "" and "nothing has been released" in err and "Traceback" not in err
