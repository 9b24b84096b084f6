"""What the preference step did to the probabilities of replies, and whether length was learnt along."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from statistics import StatisticsError, correlation, fmean
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.extras import require
from fieldwise.train.preference_rows import FEWEST_HELD, Probe

_LARGE_GAP = 0.25  # between the shares of longer and shorter chosen replies that lead
_LARGE_CORRELATION = 0.5


def effect(model: Any, probes: Sequence[Probe], split: str, *, bfloat16: bool) -> dict[str, JsonValue]:
    """Return what the training did to the probabilities of replies, against the weights it began with.

    `margin` is the mean of log pi(chosen)/start(chosen) - log pi(rejected)/start(rejected) in nats, `accuracy` the share
    of pairs where it is above 0, `kl_per_token` the mean KL(pi || start) of the next token at the replies' positions,
    whole vocabulary. The same by which reply is longer, and the rank correlation of margin and difference in length,
    say whether length was learnt.
    """
    if not probes:
        return {}
    margins, kls, further = [], [], []
    for pair in probes:
        chosen, rejected = _moved(model, pair, bfloat16=bfloat16)
        kls += [*chosen.kls, *rejected.kls]
        margins.append(chosen.ratio - rejected.ratio)
        further.append(len(pair.chosen) - len(pair.rejected))
    told: dict[str, JsonValue] = {
        "pairs": len(probes),
        "split": split,
        "margin": round(fmean(margins), 4),
        "accuracy": round(sum(m > 0 for m in margins) / len(margins), 3),
        "kl_per_token": round(fmean(kls), 6),
    }
    for name, sign in (("chosen_longer", 1), ("chosen_shorter", -1)):
        found = [m for m, d in zip(margins, further, strict=True) if d * sign > 0]
        share = round(sum(m > 0 for m in found) / len(found), 3) if found else None
        told[name] = {"pairs": len(found), "accuracy": share}
    told["margin_by_length"] = rank_correlation(margins, further)
    told["length_learnt"] = follows_length(told)
    return told


def told_effect(found: dict[str, JsonValue]) -> str:
    """Return an effect in one line for people."""
    longer, shorter = found["chosen_longer"], found["chosen_shorter"]
    assert isinstance(longer, dict) and isinstance(shorter, dict)
    whose = "held-out pairs" if found["split"] == "validation" else "of its own pairs"
    text = (
        f"over {found['pairs']} {whose} the chosen reply gains in {float(str(found['accuracy'])):.0%} "
        f"(margin {found['margin']} nats), KL to the start {found['kl_per_token']} nats a token"
    )
    parts = [
        f"{float(str(side['accuracy'])):.0%} where it is {word} (n={side['pairs']})"
        for side, word in ((longer, "longer"), (shorter, "shorter"))
        if side["accuracy"] is not None
    ]
    text += f"; {', '.join(parts)}" if parts else ""
    return text + ("; length was learnt along" if found["length_learnt"] else "")


def follows_length(found: dict[str, JsonValue]) -> bool:
    """Tell whether the margins go with length: by a large gap between longer and shorter, or in rank."""
    longer, shorter, rank = found["chosen_longer"], found["chosen_shorter"], found["margin_by_length"]
    assert isinstance(longer, dict) and isinstance(shorter, dict)
    enough = all(int(str(side["pairs"])) >= FEWEST_HELD for side in (longer, shorter))
    gap = abs(float(str(longer["accuracy"])) - float(str(shorter["accuracy"]))) if enough else 0.0
    is_ranked = isinstance(rank, float) and int(str(found["pairs"])) >= FEWEST_HELD
    return gap >= _LARGE_GAP or (is_ranked and abs(float(str(rank))) >= _LARGE_CORRELATION)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties by their mean rank; None where one of the two does not vary.

    >>> rank_correlation([1.0, 2.0, 9.0], [3, 5, 6])
    1.0
    """
    try:
        return round(correlation(_ranks(first), _ranks(second)), 3)
    except StatisticsError:
        return None


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


class _Moved(NamedTuple):
    """The log-ratio of a reply to what it was without the adapter, and the KL of the next token at each position."""

    ratio: float
    kls: list[float]


def _moved(model: Any, pair: Probe, *, bfloat16: bool) -> list[_Moved]:
    """What the adapter changed for the chosen and the rejected reply; their prompt is read once."""
    torch = require("torch", extra="train", to="learn from preferences")
    device = next(model.parameters()).device
    prompt = torch.tensor([pair.prompt], device=device)
    replies = [torch.tensor([reply], device=device) for reply in (pair.chosen, pair.rejected)]
    was_training = model.training
    model.eval()
    found: list[list[Any]] = []
    for context in (contextlib.nullcontext, model.disable_adapter):
        with torch.no_grad(), context(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            read = model(prompt[:, :-1], use_cache=True, logits_to_keep=1).past_key_values
            said = [torch.cat((prompt[:, -1:], reply[:, :-1]), 1) for reply in replies]
            logits = [model(ids, past_key_values=copy.deepcopy(read), use_cache=True).logits[0] for ids in said]
        found.append([torch.log_softmax(scores.float(), -1) for scores in logits])
    model.train(was_training)
    return [
        _Moved(float((now - start).gather(1, reply.T).sum()), (now.exp() * (now - start)).sum(-1).tolist())
        for now, start, reply in zip(*found, replies, strict=True)
    ]
