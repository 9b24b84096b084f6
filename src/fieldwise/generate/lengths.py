"""How long chosen and rejected replies are: a model learns length along with everything else that tells the two apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pydantic import JsonValue

from fieldwise.records import PreferencePair

_LARGE_SHARE = 0.7
_LARGE_RATIO = 1.25
_LEAST = 20


def length_bias(pairs: Sequence[PreferencePair]) -> dict[str, JsonValue]:
    """Return mean characters and words of both sides, how often the chosen one is longer, over all and by reason.

    A note is among it when a model could learn "longer" or "shorter" in place of "right": one side is longer in 70 %
    of at least 20 pairs that differ in length, or by a quarter in the mean.
    """
    if not pairs:
        return {}
    by_reason: dict[str, list[PreferencePair]] = defaultdict(list)
    for pair in pairs:
        by_reason[pair.reason].append(pair)
    told = _measured(pairs)
    if note := _note(pairs):
        told["note"] = note
    return {**told, "by_reason": {reason: _measured(found) for reason, found in sorted(by_reason.items())}}


def _measured(pairs: Sequence[PreferencePair]) -> dict[str, JsonValue]:
    longer = [len(p.chosen) - len(p.rejected) for p in pairs]
    return {
        "pairs": len(pairs),
        "chosen_characters": _mean([len(p.chosen) for p in pairs]),
        "rejected_characters": _mean([len(p.rejected) for p in pairs]),
        "chosen_words": _mean([len(p.chosen.split()) for p in pairs]),
        "rejected_words": _mean([len(p.rejected.split()) for p in pairs]),
        "chosen_longer": round(sum(d > 0 for d in longer) / len(pairs), 3),
        "rejected_longer": round(sum(d < 0 for d in longer) / len(pairs), 3),
    }


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 1)


def _note(pairs: Sequence[PreferencePair]) -> str | None:
    longer = sum(len(p.chosen) > len(p.rejected) for p in pairs)
    shorter = sum(len(p.chosen) < len(p.rejected) for p in pairs)
    if longer + shorter < _LEAST:
        return None
    chosen, rejected = (sum(len(getattr(p, side)) for p in pairs) / len(pairs) for side in ("chosen", "rejected"))
    word = "longer" if chosen > rejected else "shorter"
    share = (longer if chosen > rejected else shorter) / (longer + shorter)
    if share < _LARGE_SHARE and max(chosen, rejected) < _LARGE_RATIO * min(chosen, rejected):
        return None
    return f"chosen replies are {word} in {share:.0%} of the pairs that differ in length ({chosen:.0f} to {rejected:.0f} characters in the mean): length alone may be learned; balance the kinds with generate.preferences"
