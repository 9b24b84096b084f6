"""One whole run, shared by the tests of this folder."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import journey
import pytest


@dataclass
class Finished:
    folder: Path
    recipe: Path
    run: Path
    stdout: str
    stderr: str
    seconds: float


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("journey")
    recipe = journey.prepare(folder)
    run = folder / "run"
    began = time.monotonic()
    done = subprocess.run(
        [*journey.without_network(), *journey.command(recipe, run, journey.NO_GATES)],
        capture_output=True,
        text=True,
        check=False,
        env=journey.environment(),
        timeout=540,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Finished(folder, recipe, run, done.stdout, done.stderr, time.monotonic() - began)
