"""Replies of a model while it is trained, to held-out examples, and the score they get.

Greedy replies draw nothing at random, so that a training takes the same steps with or without being scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fieldwise.extras import require
from fieldwise.records import Example
from fieldwise.train.labels import messages

_AT_ONCE = 8
ITEMS = 32  # replies of one measurement: a few seconds for a model of ten million weights


class TaskScore(NamedTuple):
    """How replies are judged: `score` takes texts and the examples they reply to."""

    score: Callable[[Sequence[str], Sequence[Example]], Sequence[float]]
    choose: Callable[[Sequence[Example], int], list[Example]]  # those it can judge, at most so many
    max_new_tokens: int


def scorer(
    task: TaskScore, held: Sequence[Example], tokenizer: Any, *, bfloat16: bool
) -> Callable[[Any], float] | None:
    """Return what gives a model its mean score on held-out examples; None if there is none that can be judged."""
    examples = task.choose(held, ITEMS)
    if not examples:
        return None
    prompts = [
        list(
            tokenizer.apply_chat_template(
                messages(e.conversation[:-1], tokenizer), tokenize=True, return_dict=True, add_generation_prompt=True
            )["input_ids"]
        )
        for e in examples
    ]

    def measured(model: Any) -> float:
        texts = replies(model, tokenizer, prompts, task.max_new_tokens, bfloat16=bfloat16)
        found = task.score(texts, examples)
        return sum(found) / len(found)

    return measured


def replies(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], max_new_tokens: int, *, bfloat16: bool
) -> list[str]:
    """Return the greedy reply to each prompt, in order; one that leaves no room in the model's context is empty."""
    torch = require("torch", extra="train", to="fine-tune")
    context = getattr(model.config, "max_position_embeddings", None) or 1 << 30
    fitting = [n for n, p in enumerate(prompts) if len(p) + max_new_tokens <= context]
    order = sorted(fitting, key=lambda n: (len(prompts[n]), n))
    texts = [""] * len(prompts)
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        for begin in range(0, len(order), _AT_ONCE):
            group = order[begin : begin + _AT_ONCE]
            width = max(len(prompts[n]) for n in group)
            pad = tokenizer.pad_token_id
            ids = torch.tensor([[pad] * (width - len(prompts[n])) + prompts[n] for n in group], device=device)
            mask = torch.tensor([[0] * (width - len(prompts[n])) + [1] * len(prompts[n]) for n in group], device=device)
            with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
                said = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    do_sample=False,
                    max_new_tokens=max_new_tokens,
                    use_cache=True,
                    pad_token_id=pad,
                    eos_token_id=tokenizer.eos_token_id,
                )
            for n, row in zip(group, said[:, width:].tolist(), strict=True):
                end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
                texts[n] = tokenizer.decode(row[:end], skip_special_tokens=True).strip()
    finally:
        model.train(was_training)
    return texts
