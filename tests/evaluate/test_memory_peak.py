"""The peak of the memory of a block: what it took itself, and nothing of what came before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldwise.evaluate import memory
from fieldwise.evaluate.memory import Peak, peak_memory
from fieldwise.evaluate.settings import EvaluateSettings

LARGE = 200_000_000


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux")
def test_the_peak_holds_what_the_block_took_and_not_what_came_before() -> None:
    with peak_memory() as before:
        quiet = before().process_bytes
    with peak_memory() as inside:
        taken = np.ones(LARGE, dtype=np.int8)
        del taken
        loud = inside().process_bytes
    with peak_memory() as after:
        again = after().process_bytes
    assert quiet is not None and loud is not None and again is not None
    assert loud > quiet + 0.9 * LARGE and again < quiet + 0.5 * LARGE


def test_where_the_system_does_not_tell_nothing_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET", tmp_path / "none" / "clear_refs")
    with peak_memory() as peak:
        assert peak().process_bytes is None


def test_of_a_gpu_the_tensors_count_from_the_beginning_of_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cuda:
        held = 7

        def reset_peak_memory_stats(self) -> None:
            self.held = 0

        def max_memory_allocated(self) -> int:
            return self.held

    cuda = Cuda()
    monkeypatch.setattr(memory, "_cuda", lambda: cuda)
    with peak_memory() as peak:
        assert peak().gpu_bytes == 0
        cuda.held = 5
        assert peak() == Peak(process_bytes=peak().process_bytes, gpu_bytes=5)


def test_a_price_is_part_of_the_key_of_the_report_only_where_one_is_named() -> None:
    plain, priced = EvaluateSettings(), EvaluateSettings(price={"input": 1.0, "output": 2.0})
    assert "price" not in plain.keyed()
    assert priced.keyed() == {**plain.keyed(), "price": {"input": 1.0, "output": 2.0}}
