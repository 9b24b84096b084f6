"""Two processes share a training: real workers over gloo on tiny weights, against one process."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jobs_of_several as jobs
import pytest
from safetensors.torch import load_file
from sessions import session_in

from fieldwise.errors import DatasetError, ModelError
from fieldwise.evaluate.selection import comparable, of_replies
from fieldwise.hashing import sha256_of_files
from fieldwise.train.curriculum import train_in_phases
from fieldwise.train.hardware import PRESETS, Device
from fieldwise.train.plan import Fitted, first_plan
from fieldwise.train.preference import train_preference
from fieldwise.train.rows import Course
from fieldwise.train.scoring import TaskScore
from fieldwise.train.settings import (
    ComputeSettings,
    CurriculumSettings,
    LoraSettings,
    PreferenceSettings,
    SftSettings,
    TrainSettings,
)
from fieldwise.train.sft import train_sft
from fieldwise.train.spread import spread

ONE, TWO = Device("cpu", 1, False), Device("cpu", 1, False, workers=2)
TORCHRUN = ComputeSettings(backend="torchrun", workers=2)
SFT = SftSettings(
    max_steps=4, learning_rate=5e-3, batch_size=4, max_length=256, packing=False, lora=LoraSettings(rank=8, alpha=16)
)
DRIVER = """
import pickle, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background without it
from fieldwise.train.spread import spread
function, settings, device, arguments, options = pickle.load(open(sys.argv[1], "rb"))
try:
    spread(function, "sft", settings, device)(*arguments, **options)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(autouse=True)
def workers_find_their_jobs(monkeypatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))))


def options(folder: Path, **further):
    folder.mkdir(parents=True, exist_ok=True)
    return {"session": session_in(folder), **further}


def cheap(function, tmp_path: Path, fitter=None):
    return spread(function, "sft", TORCHRUN, TWO)(session=session_in(tmp_path, fitter=fitter))


def weights(adapter: Path):
    return load_file(adapter / "adapter_model.safetensors")


def digest(folder: Path) -> str:
    return sha256_of_files([p for p in folder.iterdir() if p.is_file()], folder)


def alike(one: Path, two: Path) -> bool:
    """Whether two adapters agree within a thousandth of the largest weight."""
    first, second = weights(one), weights(two)
    largest = max(float(t.abs().max()) for t in first.values())
    return first.keys() == second.keys() and all(
        float((first[k] - second[k]).abs().max()) < 1e-3 * largest for k in first
    )


@pytest.fixture(scope="module")
def rows(base, examples):
    return (base, [*examples] * 4, examples[:2], SFT)


@pytest.fixture(scope="module")
def two(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return spread(train_sft, "sft", TORCHRUN, TWO)(*rows, TWO, **options(folder)), folder


def test_two_processes_end_with_the_weights_of_one(two, rows, base, tmp_path) -> None:
    outcome, _ = two
    one = train_sft(*rows, ONE, **options(tmp_path))
    assert alike(one.adapter, outcome.adapter)
    other = train_sft(*rows, ONE, session_in(tmp_path / "other", seed=8))
    assert not alike(one.adapter, other.adapter)  # other rows in every step: the measure tells them apart
    assert [r["loss"] for r in outcome.curve if "loss" in r] == pytest.approx(
        [r["loss"] for r in one.curve if "loss" in r], rel=1e-5
    )
    assert outcome.figures == pytest.approx(one.figures, rel=1e-4) and outcome.steps == one.steps == 4
    assert outcome.about["processes"] == {"workers": 2, "backend": "gloo", "distribution": "MULTI_CPU"}
    assert outcome.about["plan"]["workers"] == 2 and "workers" not in one.about["plan"]


def test_one_process_writes_and_every_one_keeps_its_random_numbers(two) -> None:
    outcome, folder = two
    steps = [json.loads(line)["step"] for line in (folder / "curve.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == [1, 2, 3, 4]
    last = folder / "work/checkpoint-4"
    assert {p.name for p in last.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert {p.name for p in last.glob("*model*")} == {"adapter_model.safetensors"}
    assert (outcome.merged / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_two_processes_learn_the_preferences_that_one_does(base, pairs, tmp_path, method) -> None:
    own = PreferenceSettings(
        method=method,
        max_steps=3,
        learning_rate=1e-3,
        batch_size=4,
        micro_batch_size=2,
        max_length=256,
        lora=LoraSettings(rank=8),
    )
    arguments = (base, [*pairs] * 2, own)
    one = train_preference(*arguments, ONE, **options(tmp_path / "one"))
    both = spread(train_preference, "preference", TORCHRUN, TWO)(*arguments, TWO, **options(tmp_path / "both"))
    assert both.about["processes"]["workers"] == 2 and both.steps == one.steps == 3
    if method == "kto":  # its KL is estimated over what both have in memory at once
        assert both.figures["loss"] == pytest.approx(one.figures["loss"], rel=0.2)
    else:
        assert alike(one.adapter, both.adapter) and both.figures == pytest.approx(one.figures, rel=1e-2, abs=1e-3)


# ---------------------------------------------------------------- interrupted


def start(function, arguments, further, folder: Path) -> subprocess.Popen[bytes]:
    file = folder / "call.pickle"
    file.write_bytes(pickle.dumps((function, TORCHRUN, TWO, arguments, further)))
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(file)])


def wait_until(condition, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.2)


def processes_of(folder: Path) -> list[int]:
    """Those whose command line names a folder, other than this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_after_ctrl_c_every_process_is_gone_and_the_run_goes_on_to_the_same_bytes(two, rows, tmp_path) -> None:
    further = options(tmp_path, go_on=tmp_path / "go-on")
    running = start(jobs.train_with_a_pause, (*rows, TWO), further, tmp_path)
    wait_until(lambda: (tmp_path / "curve.jsonl").exists() and '"step": 3' in (tmp_path / "curve.jsonl").read_text())
    assert len(processes_of(tmp_path)) == 4  # this run, torchrun, two workers
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130 and processes_of(tmp_path) == []
    (tmp_path / "go-on").touch()
    outcome = spread(jobs.train_with_a_pause, "sft", TORCHRUN, TWO)(*rows, TWO, **further)
    assert digest(outcome.merged) == digest(two[0].merged) and outcome.curve == two[0].curve


def test_the_processes_end_when_the_one_that_waits_is_killed(tmp_path) -> None:
    running = start(jobs.wait_for_ever, (), options(tmp_path), tmp_path)
    wait_until((tmp_path / "curve.jsonl").exists)
    running.kill()
    running.wait()
    wait_until(lambda: processes_of(tmp_path) == [], 60)


# ---------------------------------------------------------------- what goes wrong


def test_an_error_is_told_once_with_the_number_of_its_process(tmp_path) -> None:
    with pytest.raises(DatasetError) as caught:
        cheap(jobs.fail_as_a_user_would, tmp_path)
    assert str(caught.value) == "rows.jsonl:7: process 1 of 2: this is not a row, found {. Mend it."


@pytest.mark.slow
def test_a_bug_keeps_its_traceback_and_a_killed_process_its_signal(tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"process 1 of 2 failed\n(.|\n)*KeyError: 'a bug'"):
        cheap(jobs.fail_as_a_bug_would, tmp_path)
    with pytest.raises(ModelError, match="ended from outside, found process 1 of 2, SIGKILL"):
        cheap(jobs.be_killed, tmp_path)


@pytest.mark.slow
def test_when_memory_runs_out_in_one_process_all_try_once_more_with_less(tmp_path, capsys) -> None:
    settings = TrainSettings(sft=SftSettings(batch_size=4, micro_batch_size=2))
    plan = first_plan("sft", settings, settings.sft, PRESETS["cpu"], TWO)
    fitter = partial(Fitted, estimate=None, limit=None, reasons=())
    assert cheap(jobs.run_out_of_memory, tmp_path, fitter=partial(jobs.as_planned, fitter, plan)) == 1
    assert "process 1 of 2: cannot allocate" in capsys.readouterr().err


def test_a_curriculum_whose_weights_are_chosen_by_their_replies_ends_as_that_of_one_process(
    base, examples, tmp_path
) -> None:
    graded = [e.model_copy(update={"phase": ("single_turn", "hard_negatives")[n // 4]}) for n, e in enumerate(examples)]
    settings = SFT.model_copy(
        update={
            "max_steps": 2,
            "evaluate_every_steps": 1,
            "best_by": "score",
            "curriculum": CurriculumSettings(enabled=True, difficulty="base_loss"),
        }
    )
    told = {"course": Course(task=TaskScore(partial(of_replies, weights=None), comparable, 6))}
    rows = (base, graded * 2, examples[:3], settings)
    together = spread(train_in_phases, "sft", TORCHRUN, TWO)
    two = together(*rows, TWO, **options(tmp_path / "two", **told))
    one = train_in_phases(*rows, ONE, **options(tmp_path / "one", **told))
    assert alike(one.adapter, two.adapter) and two.steps == one.steps == 4
    chosen = [[p["phase"], p["weights_of_step"], p["eval_score"]] for p in two.about["phases"]]
    assert chosen == [[p["phase"], p["weights_of_step"], p["eval_score"]] for p in one.about["phases"]]
    assert len(list((tmp_path / "two/done/phases").iterdir())) == 2
    shutil.rmtree(tmp_path / "two/done")  # killed behind the last step: what is finished is not trained again
    again = together(*rows, TWO, **options(tmp_path / "two", **told))
    assert digest(again.adapter) == digest(two.adapter) and again.curve == two.curve
