"""PyTorch enters by one door, behind which its vector maths has been called once by one thread."""

import json
import subprocess
import sys

from fieldwise import vector_maths
from fieldwise.extras import require

_WATCHED = """
import json, sys
import torch
from torch.overrides import TorchFunctionMode

class Watch(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        seen.append((function.__name__, list(result.shape), str(result.dtype)))
        return result

from fieldwise.extras import require
seen = []
with Watch():
    CALLS
print(json.dumps(seen))
"""


def _calls(code: str) -> list[tuple[str, list[int], str]]:
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED.replace("CALLS", code)], capture_output=True, text=True, check=True
    )
    return [(name, shape, dtype) for name, shape, dtype in json.loads(done.stdout)]


def test_the_first_call_of_each_function_takes_one_element() -> None:
    seen = _calls('require("torch", extra="train", to="test")')
    for dtype in ("torch.float32", "torch.float64"):
        called = {name for name, shape, kind in seen if shape == [1] and kind == dtype}
        assert called >= set(vector_maths.FUNCTIONS)
        assert {"cos", "sin", "exp", "sqrt", "tanh"} <= called


def test_it_is_called_once_also_where_another_library_brought_pytorch() -> None:
    first = _calls('require("safetensors", extra="train", to="test")')
    both = _calls('require("torch", extra="train", to="test"); require("torch", extra="train", to="test")')
    assert len(first) == len(both) > 0


def test_what_was_asked_for_comes_back() -> None:
    assert require("json", extra="train", to="test").__name__ == "json"
