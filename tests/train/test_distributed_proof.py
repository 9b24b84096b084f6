"""What must be so before several processes train, and what is refused."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from sessions import session_in

from fieldwise.errors import FieldwiseError, ModelError
from fieldwise.machine import Gpu
from fieldwise.recipe import Recipe
from fieldwise.steps import STEPS
from fieldwise.train import distributed
from fieldwise.train.distributed import Found, Processes, require_as_asked, require_equal, require_share
from fieldwise.train.forecast import require_shareable
from fieldwise.train.hardware import PRESETS, Device, Machine, shared
from fieldwise.train.plan import first_plan, smaller, within
from fieldwise.train.settings import ComputeSettings, LoraSettings, SftSettings, TrainSettings
from fieldwise.train.sft import train_sft

CPU = Processes(2, "cpu", "ddp", 0)
RIGHT = Found(2, "gloo", "MULTI_CPU", 2, "DistributedDataParallel", ("a cpu:0", "a cpu:0"))
GPUS = Processes(2, "cuda", "fsdp2", 1)
MACHINE = Machine(4, 8_000_000_000, 8_000_000_000, ("AVX-512",), (), False)


def test_what_runs_is_taken_when_it_is_what_was_asked_for() -> None:
    require_as_asked(CPU, RIGHT)
    require_as_asked(GPUS, Found(2, "nccl", "FSDP", 2, "FSDPModule", ("a cuda:0", "a cuda:1")))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (RIGHT._replace(workers=1), "processes: 1 instead of 2"),
        (RIGHT._replace(kind="NO"), "distribution: NO instead of MULTI_CPU"),
        (RIGHT._replace(backend="mpi"), "backend: mpi instead of gloo"),
        (RIGHT._replace(accelerate_workers=1), "processes of accelerate: 1 instead of 2"),
        (RIGHT._replace(wrapper="PeftModel"), "gradients go through: PeftModel instead of DistributedDataParallel"),
        (RIGHT._replace(devices=("a cpu:0", "a cuda:0")), "kind of device: cpu, cuda instead of cpu"),
    ],
)
def test_what_accelerate_falls_back_to_is_refused(found, told) -> None:
    with pytest.raises(ModelError, match=told):
        require_as_asked(CPU, found)


def test_ddp_in_the_place_of_fsdp_and_two_processes_on_one_gpu_are_refused() -> None:
    fell_back = Found(2, "nccl", "MULTI_GPU", 2, "DistributedDataParallel", ("a cuda:0", "a cuda:1"))
    with pytest.raises(ModelError, match="distribution: MULTI_GPU instead of FSDP"):
        require_as_asked(GPUS, fell_back)
    with pytest.raises(ModelError, match="two processes on one GPU"):
        require_as_asked(replace(GPUS, strategy="ddp"), fell_back._replace(devices=("a cuda:0", "a cuda:0")))


def test_a_process_that_is_given_every_row_is_refused() -> None:
    require_share(rows=10, at_once=2, batches=3, workers=2)
    with pytest.raises(ModelError, match="given 5 batches of 10 rows, 3 are its share"):
        require_share(rows=10, at_once=2, batches=5, workers=2)


def test_gradients_that_were_not_averaged_are_refused() -> None:
    require_equal("the gradients", ["a", "a", "a"])
    with pytest.raises(ModelError, match="the gradients of process 1 are not those of process 0"):
        require_equal("the gradients", ["a", "b", "a"])


def test_a_training_that_fell_back_to_one_process_stops_before_its_first_step(base, examples, tmp_path) -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)  # fmt: skip
    distributed.join(CPU)
    own = SftSettings(max_steps=2, batch_size=2, max_length=256, lora=LoraSettings(rank=4))
    try:
        with pytest.raises(ModelError, match="not the distribution that the recipe asks for, found processes: 1"):
            train_sft(
                base, examples, [], own, Device("cpu", 1, False, workers=2), session=session_in(tmp_path, save_steps=1),
            )  # fmt: skip
    finally:
        distributed.leave()
    assert not list((tmp_path / "work").glob("checkpoint-*")) and not (tmp_path / "curve.jsonl").exists()


# ---------------------------------------------------------------- settings and plan


def test_a_recipe_that_names_no_processes_keeps_its_keys() -> None:
    settings = next(s for s in STEPS if s.name == "train").settings
    plain = settings(Recipe())
    assert plain == {"train": TrainSettings().keyed()}
    of_two = [settings(Recipe(compute=ComputeSettings(backend=b, workers=2))) for b in ("torchrun", "ray")]
    assert of_two[0] == of_two[1] == {**plain, "compute": {"workers": 2, "strategy": "ddp"}}
    assert settings(Recipe(compute=ComputeSettings(backend="ray"))) == plain


SEVERAL = ComputeSettings(backend="torchrun", workers=2)
SHARDED = ComputeSettings(backend="torchrun", workers=2, strategy="fsdp2")


@pytest.mark.parametrize(
    ("own", "compute"),
    [
        ({"lora": {"start": "pissa"}}, SEVERAL),
        ({"best_by": "score"}, SHARDED),
        ({"curriculum": {"enabled": True}}, SHARDED),
        ({"method": "full"}, SHARDED),
    ],
)
def test_what_only_whole_weights_in_one_process_can_do_is_refused_before_it_is_left_out(own, compute) -> None:
    settings = TrainSettings(sft=SftSettings(**own))
    require_shareable(settings, ComputeSettings())
    with pytest.raises(FieldwiseError, match="several processes cannot train in this way"):
        require_shareable(settings, compute)


def test_processes_that_hold_whole_weights_take_a_curriculum_and_choose_by_replies() -> None:
    require_shareable(TrainSettings(sft=SftSettings(best_by="score", curriculum={"enabled": True})), SEVERAL)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"workers": 2}, "local is one process"),
        ({"backend": "torchrun"}, "torchrun needs workers: 2 or more"),
        ({"backend": "torchrun", "workers": 2, "address": "auto"}, "address is a setting of ray"),
        ({"backend": "ray", "workers": 2, "strategy": "fsdp2"}, "fsdp2 is started by torchrun"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(own, told) -> None:
    with pytest.raises(ValidationError, match=told):
        ComputeSettings(**own)


def test_weights_shared_out_on_a_cpu_and_more_processes_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(FieldwiseError, match=r"several GPUs only.*fsdp2 on a CPU"):
        shared(Device("cpu", 4, True), "fsdp2", 2, MACHINE)
    with pytest.raises(FieldwiseError, match=r"found 5 for 4 cores. Set compute.workers=4"):
        shared(Device("cpu", 4, True), "ddp", 5, MACHINE)
    gpu = Gpu("a", 24_000_000_000, (8, 0))
    with pytest.raises(FieldwiseError, match="found 2 for 1 GPUs"):
        shared(Device("cuda", 4, True), "ddp", 2, MACHINE._replace(gpus=(gpu,)))
    assert shared(Device("cpu", 4, True), "ddp", 2, MACHINE) == Device("cpu", 2, True, workers=2)


def test_a_batch_is_dealt_out_and_stays_the_same_whatever_is_in_memory_at_once() -> None:
    settings = TrainSettings(sft=SftSettings(batch_size=16, micro_batch_size=4))
    plan = first_plan("sft", settings, settings.sft, PRESETS["cpu"], Device("cpu", 1, False, workers=2))
    assert (plan.micro_batch, plan.accumulation, plan.effective_batch) == (4, 2, 16)
    less = smaller(plan)
    assert less is not None and (less.micro_batch, less.accumulation, less.effective_batch) == (2, 4, 16)
    assert within(plan, 7).effective_batch == 6  # the most that both can share
    with pytest.raises(FieldwiseError, match=r"cannot be dealt out evenly.*15 for 2 processes. Give a multiple of 2"):
        first_plan("sft", settings, SftSettings(batch_size=15), PRESETS["cpu"], Device("cpu", 1, False, workers=2))
