"""Cores and memory within the limits of a container."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fieldwise import machine


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content + "\n")


def _limits(tmp_path: Path, membership: str) -> tuple[float | None, int | None]:
    (tmp_path / "membership").write_text(membership)
    return (
        machine._quota(tmp_path / "membership", tmp_path / "groups"),
        machine._memory_limit(tmp_path / "membership", tmp_path / "groups"),
    )


def test_the_tightest_limit_on_the_way_up_holds(tmp_path: Path) -> None:
    _write(tmp_path / "groups/pod", cpu__max="250000 100000", memory__max="4000000000")
    _write(tmp_path / "groups/pod/inner", cpu__max="max 100000", memory__max="6000000000")
    assert _limits(tmp_path, "0::/pod/inner\n") == (2.5, 4_000_000_000)


def test_groups_of_version_one_are_read_too(tmp_path: Path) -> None:
    _write(tmp_path / "groups/cpu,cpuacct/job", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    _write(tmp_path / "groups/memory", memory__limit_in_bytes="9223372036854771712")
    _write(tmp_path / "groups/memory/job", memory__limit_in_bytes="2000000000")
    assert _limits(tmp_path, "4:memory:/job\n3:cpu,cpuacct:/job\n") == (1.5, 2_000_000_000)


def test_no_limit_and_no_groups_say_none(tmp_path: Path) -> None:
    _write(tmp_path / "groups", cpu__max="max 100000", memory__max="max")
    assert _limits(tmp_path, "0::/\n") == (None, None)
    _write(tmp_path / "groups/old", cpu__cfs_quota_us="-1", memory__limit_in_bytes="9223372036854771712")
    assert _limits(tmp_path, "0::/old\n") == (None, None)
    assert machine._quota(tmp_path / "not there", tmp_path / "nor this") is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (2.0, 2), (2.5, 3), (0.25, 1), (64.0, 8)])
def test_no_more_threads_than_the_quota_feeds(quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_physical_cores", lambda cpuinfo: 8)
    monkeypatch.setattr(machine, "_quota", lambda membership, mounted: quota)
    assert machine.usable_cores() == cores


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    first = min(os.sched_getaffinity(0))
    blocks = [
        f"processor\t: {number}\nphysical id\t: 0\ncore id\t: {core}"
        for number, core in ((first, 0), (first, 0), (999999, 1))
    ]
    (tmp_path / "cpuinfo").write_text("\n\n".join(blocks), encoding="utf-8")
    assert machine._physical_cores(tmp_path / "cpuinfo") == 1


def test_without_a_list_of_cores_every_processor_counts(tmp_path: Path) -> None:
    assert machine._physical_cores(tmp_path / "none") == len(os.sched_getaffinity(0))


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= machine.usable_cores() <= len(os.sched_getaffinity(0))
    assert (machine.memory_bytes() or 0) > 500_000_000


def test_what_a_group_still_allows_counts_idle_file_pages_as_free(tmp_path: Path) -> None:
    _write(tmp_path / "groups/pod", memory__max="4000000000", memory__current="3000000000")
    _write(tmp_path / "groups/pod", memory__stat="anon 2000000000\ninactive_file 500000000")
    (tmp_path / "membership").write_text("0::/pod\n")
    assert machine._memory_left(tmp_path / "membership", tmp_path / "groups") == 1_500_000_000
    assert machine._memory_left(tmp_path / "membership", tmp_path / "none") is None


def test_vector_arithmetic_is_read_by_whole_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x86").write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16x amx_bf16\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "x86")
    assert machine.cpu_features() == ("AVX2", "AVX-512", "AMX-BF16")
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd bf16 sve\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "arm")
    assert machine.cpu_features() == ("NEON", "SVE", "BF16")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert machine.cpu_features() == ()


def test_gpus_are_asked_of_the_driver_while_torch_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'NVIDIA A10G, 23028, 8.6'\necho 'Tesla T4, 15360, 7.5'\necho 'odd, [N/A], [N/A]'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(machine, "_torch_is_for_cpu", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first, second = machine.gpus()
    assert first == machine.Gpu("NVIDIA A10G", 23028 << 20, (8, 6)) and first.bfloat16 and not second.bfloat16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.gpus() == (second,)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus() == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpus() == ()
