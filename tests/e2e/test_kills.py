"""`kill -9` at any moment, then the same command again, ends in the same bytes. benchmarks/kill_anywhere.py does twenty."""

import random
import signal
import subprocess
import time
from pathlib import Path

import journey
import pytest


@pytest.mark.slow
def test_a_run_killed_three_times_ends_in_the_same_bytes(finished, tmp_path: Path) -> None:
    recipe = journey.prepare(tmp_path)
    arguments = journey.command(recipe, tmp_path / "run", journey.NO_GATES)
    rng = random.Random(5)
    kills = 0
    for share in (0.25, 0.5, 0.8):
        process = subprocess.Popen(
            arguments,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=journey.environment(),
            start_new_session=True,
        )
        time.sleep(max(2.0, finished.seconds * share * rng.uniform(0.6, 1.0) * 0.6))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    done = subprocess.run(
        arguments, capture_output=True, text=True, check=False, env=journey.environment(), timeout=540
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert kills >= 2
    assert journey.fingerprints(tmp_path / "run") == journey.fingerprints(finished.run)


def _heed_ctrl_c() -> None:
    """A suite that was started in the background hands on that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    recipe = journey.prepare(tmp_path)
    process = subprocess.Popen(
        journey.command(recipe, tmp_path / "run"),
        stderr=subprocess.PIPE,
        text=True,
        env=journey.environment(),
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,
    )
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in stderr and "Traceback" not in stderr
