"""The vector maths of PyTorch, called once by one thread before several threads call it together."""

from __future__ import annotations

from typing import Any

# what PyTorch computes by oneMKL over whole vectors of floats (aten/src/ATen/cpu/vml.h)
FUNCTIONS = (
    "abs",
    "acos",
    "asin",
    "atan",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "log",
    "log10",
    "log1p",
    "log2",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
)


def settle(torch: Any) -> None:
    """Call each function on one element, which no second thread takes part in.

    oneMKL chooses the code of a function at its first call. Where two threads make that call together, one of them may
    compute its half of the vector with 12 correct bits instead of 24, once, without a word (pytorch/pytorch#188792).
    The first batch of a process is then off by 1e-5 to 1e-4, and a repeated run no longer writes the same bytes.
    """
    for dtype in (torch.float32, torch.float64):
        one = torch.ones(1, dtype=dtype)
        for name in FUNCTIONS:
            getattr(torch, name)(one)
