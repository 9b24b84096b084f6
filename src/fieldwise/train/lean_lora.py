"""A linear layer with its low-rank update as one function of autograd, for training in bfloat16 on a CPU.

PEFT calls three layers and adds up their results (Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1): the input is cast
twice, the update is scaled and added in passes over memory of their own, and autograd keeps what lies between. Here the
input is cast once, and the update is added within the matrix product that makes it.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn
from torch.autograd import Function


class AdaptedLinear(Function):
    """y = x W^T + b + s (x A^T) B^T in the type of the frozen W; A is (rank, inputs), B (outputs, rank).

    With g the gradient of y: dx = g W + s (g B) A, dA = s (g B)^T x, dB = s g^T (x A^T).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        """Return y, of the shape of x with outputs in place of inputs."""
        rows = x.reshape(-1, x.shape[-1]).to(weight.dtype)
        down, up = down.to(weight.dtype), up.to(weight.dtype)
        low = rows @ down.t()
        found = nn.functional.linear(rows, weight, bias).addmm_(low, up.t(), alpha=scale)
        ctx.save_for_backward(rows, low, weight, down, up)
        ctx.scale, ctx.shape = scale, x.shape
        return found.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, A and B; those of the frozen parts are None."""
        rows, low, weight, down, up = ctx.saved_tensors
        given = gradients[0].reshape(-1, weight.shape[0]).to(weight.dtype)
        of_low = (given @ up).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (given @ weight).addmm_(of_low, down).view(ctx.shape)
        to_down, to_up = of_low.t() @ rows, (given.t() @ low).mul_(ctx.scale)
        return to_x, None, None, to_down, to_up, None


class LeanLinear(lora.Linear):
    """PEFT's layer, computed by `AdaptedLinear` while its one adapter is on and by PEFT in every other case."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return what PEFT's layer returns, but for rounding."""
        names = self.active_adapters
        if args or kwargs or self.disable_adapters or self.merged or len(names) != 1 or not is_autocast():
            return super().forward(x, *args, **kwargs)
        down, up, scale = self.lora_A[names[0]].weight, self.lora_B[names[0]].weight, self.scaling[names[0]]
        with torch.autocast("cpu", enabled=False):
            layer = self.base_layer
            found: Tensor = AdaptedLinear.apply(x, layer.weight, layer.bias, down, up, scale)  # type: ignore[no-untyped-call]
        return found


def is_autocast() -> bool:
    """Say whether arithmetic is in bfloat16 here."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16


def lighten(model: nn.Module) -> None:
    """Hold the frozen weights below each adapter in bfloat16, where autocast would turn them at every use, and pass through both at once.

    Only plain layers: no dropout, no magnitudes of DoRA, no bias of the adapter, no other variant.
    """
    for module in model.modules():
        if type(module) is not lora.Linear or type(module.base_layer) is not nn.Linear:
            continue
        for part in module.base_layer.parameters():
            part.data = part.data.bfloat16()
        is_plain = all(isinstance(d, nn.Identity) for d in module.lora_dropout.values())
        if is_plain and not module.lora_variant and not any(module.lora_bias.values()):
            module.__class__ = LeanLinear
