"""A layer and its adapter as one function: its formulas, PEFT's numbers, and when PEFT computes it after all."""

import peft
import pytest
import torch
from peft.tuners import lora

from fieldwise.train.lean_lora import AdaptedLinear, LeanLinear, lighten


def test_one_row_by_hand() -> None:
    x, weight, bias = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]]), torch.tensor([0.5])
    down, up = torch.tensor([[1.0, 1.0]], requires_grad=True), torch.tensor([[2.0]], requires_grad=True)
    x.requires_grad_()
    found = AdaptedLinear.apply(x, weight, bias, down, up, 0.5)
    assert found.tolist() == [[4.5]]  # 3 - 2 + 0.5 from the layer, 0.5 * 2 * (1 + 2) from the adapter
    found.backward(torch.tensor([[10.0]]))
    assert x.grad.tolist() == [[40.0, 0.0]]  # 10 * (3, -1) + 0.5 * 10 * 2 * (1, 1)
    assert down.grad.tolist() == [[10.0, 20.0]] and up.grad.tolist() == [[15.0]]


def test_gradients_are_those_of_differences() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 3, 5).double(), torch.randn(4, 5).double(), torch.randn(4).double()
    down, up = torch.randn(2, 5).double(), torch.randn(4, 2).double()
    for part in (x, down, up):
        part.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *given: AdaptedLinear.apply(given[0], weight, bias, *given[1:], 0.7), (x, down, up)
    )


def adapted(**options: object) -> peft.PeftModel:
    torch.manual_seed(4)
    net = torch.nn.Sequential(torch.nn.Linear(32, 48), torch.nn.GELU(), torch.nn.Linear(48, 16))
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0", "2"], init_lora_weights=False, **options)
    return peft.get_peft_model(net, config)


def run(model: peft.PeftModel) -> tuple[torch.Tensor, list[torch.Tensor]]:
    x = torch.linspace(-1, 1, 6 * 32).view(6, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    model.zero_grad()
    found.float().square().sum().backward()
    return found, [p.grad for p in model.parameters() if p.grad is not None]


def test_it_gives_what_peft_gives_but_for_rounding() -> None:
    plain, lean = adapted(), adapted()
    lighten(lean)
    assert sum(type(m) is LeanLinear for m in lean.modules()) == 2
    assert {p.dtype for n, p in lean.named_parameters() if "base_layer" in n} == {torch.bfloat16}
    (expected, gradients), (found, ours) = run(plain), run(lean)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.03)
    assert len(ours) == len(gradients) == 4
    for a, b in zip(ours, gradients, strict=True):
        assert a.dtype is torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_switched_off_or_in_32_bit_peft_computes_it() -> None:
    plain, lean = adapted(), adapted()
    lighten(lean)
    with torch.autocast("cpu", torch.bfloat16), plain.disable_adapter(), lean.disable_adapter():
        x = torch.ones(2, 32)
        torch.testing.assert_close(lean(x), plain(x), rtol=0, atol=0)
    layer = next(m for m in lean.modules() if type(m) is LeanLinear)
    with pytest.raises(
        RuntimeError, match="dtype"
    ):  # PEFT's own way, which does not turn types: frozen in 16 bit, x in 32
        layer(torch.ones(2, 32))


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_dropout": 0.1}, {"lora_bias": True}])
def test_other_kinds_of_adapters_are_left_to_peft(options: dict[str, object]) -> None:
    model = adapted(**options)
    lighten(model)
    assert {type(m) for m in model.modules() if isinstance(m, lora.Linear)} == {lora.Linear}
