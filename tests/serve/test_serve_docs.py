"""docs/serve.md says what the service does."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from live import Live

from fieldwise.serve.problems import openai_error, own_error, too_busy

PAGE = (Path(__file__).resolve().parents[2] / "docs/serve.md").read_text(encoding="utf-8")


def test_every_route_stands_in_the_page(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert len(paths) > 14
    assert [
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if f"`{method.upper()} {path}`" not in PAGE
    ] == []


def test_every_metric_stands_in_the_page_and_no_other(client: httpx.Client) -> None:
    exported = {
        name
        for name in re.findall(r"^# TYPE (fieldwise_\w+) ", client.get("/metrics").text, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert exported == set(re.findall(r"`(fieldwise_\w+)`", PAGE))


def test_the_example_with_the_openai_client_runs(service: Live, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    exec(example.group(1).replace("http://127.0.0.1:8000", service.url), {})
    assert (
        capsys.readouterr().out
        == "25 seconds [1]\npolicies/hand-hygiene.pdf 1 Rub the gel with both hands for 25 seconds, until the hands are dry.\nYou said: Hello"
    )


def test_the_shapes_of_errors_are_those_of_the_page() -> None:
    problem = too_busy(3, 2)
    assert [
        f'"{name}"' in PAGE for name in (*own_error(problem, "r")["error"], *openai_error(problem, "r")["error"])
    ] == [True] * 11  # type: ignore[misc]
