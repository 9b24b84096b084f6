"""The same training on a real Ray cluster of this machine; it takes minutes, and is skipped without Ray."""

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs_of_several as jobs
import pytest
from sessions import session_in

from fieldwise.hashing import sha256_of_files
from fieldwise.train.hardware import Device
from fieldwise.train.settings import ComputeSettings, LoraSettings, SftSettings
from fieldwise.train.sft import train_sft
from fieldwise.train.spread import spread

pytest.importorskip("ray", reason="pip install 'fieldwise[ray]'")
pytestmark = pytest.mark.slow

TWO = Device("cpu", 1, False, workers=2)
RAY = ComputeSettings(backend="ray", workers=2)
SFT = SftSettings(
    max_steps=4, learning_rate=5e-3, batch_size=4, max_length=256, packing=False, lora=LoraSettings(rank=8, alpha=16)
)
DRIVER = """
import pickle, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background without it
from fieldwise.errors import FieldwiseError
from fieldwise.train.spread import spread
function, compute, device, arguments, options, place = pickle.load(open(sys.argv[1], "rb"))
try:
    outcome = spread(function, "sft", compute, device)(*arguments, **options)
except FieldwiseError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
open(place, "wb").write(pickle.dumps(outcome))
"""


@pytest.fixture(autouse=True)
def workers_find_their_jobs(monkeypatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))))


def on_ray(function, arguments, options, folder: Path):
    """Call as the train stage does, from a process of its own: tests open no sockets, Ray opens many."""
    call, place = folder / "call.pickle", folder / "outcome.pickle"
    call.write_bytes(pickle.dumps((function, RAY, TWO, arguments, options, place)))
    ran = subprocess.run([sys.executable, "-c", DRIVER, str(call)], capture_output=True, text=True, timeout=580)
    return ran, pickle.loads(place.read_bytes()) if place.exists() else None


def options(folder: Path, **further):
    folder.mkdir()
    return {"session": session_in(folder), **further}


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


def test_a_killed_worker_goes_on_from_the_last_checkpoint_to_the_same_bytes(base, examples, tmp_path) -> None:
    arguments = (base, [*examples] * 4, examples[:2], SFT, TWO)
    torchrun = ComputeSettings(backend="torchrun", workers=2)
    undisturbed = spread(train_sft, "sft", torchrun, TWO)(*arguments, **options(tmp_path / "undisturbed"))
    further = options(tmp_path / "ray", died=tmp_path / "died")
    ran, outcome = on_ray(jobs.train_and_die_once, arguments, further, tmp_path)
    assert outcome is not None, ran.stderr
    assert (tmp_path / "died").exists() and "resuming from checkpoint-2" in ran.stderr
    assert "2 processes, MULTI_CPU, gloo" in ran.stderr and "a process has failed" in ran.stderr
    assert digest(outcome.merged) == digest(undisturbed.merged) and outcome.curve == undisturbed.curve
    steps = [json.loads(line)["step"] for line in (tmp_path / "ray/curve.jsonl").read_text().splitlines()]
    assert steps[-1] == 4


def test_ctrl_c_ends_the_workers_too(base, examples, tmp_path) -> None:
    further = options(tmp_path / "ray", go_on=tmp_path / "go-on")
    call, curve = tmp_path / "call.pickle", tmp_path / "ray/curve.jsonl"
    arguments = (base, [*examples] * 4, examples[:2], SFT, TWO)
    call.write_bytes(pickle.dumps((jobs.train_with_a_pause, RAY, TWO, arguments, further, tmp_path / "outcome.pickle")))
    running = subprocess.Popen([sys.executable, "-c", DRIVER, str(call)], stderr=subprocess.PIPE, text=True)
    try:
        while not (curve.exists() and '"step": 3' in curve.read_text()):
            assert running.poll() is None, running.communicate()[1]
            time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        assert running.wait(120) == 130, running.communicate()[1]
    finally:
        running.kill()
    with (tmp_path / "ray/work/processes.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while a worker lives
    assert (tmp_path / "ray/work/checkpoint-2/trainer_state.json").exists()


def test_an_error_of_the_user_is_told_once_and_not_tried_again(tmp_path) -> None:
    ran, outcome = on_ray(jobs.fail_as_a_user_would, (), options(tmp_path / "ray"), tmp_path)
    assert outcome is None and ran.returncode == 1
    assert ran.stderr.count("rows.jsonl:7: process 1 of 2: this is not a row") == 1
