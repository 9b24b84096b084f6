"""The card of a reward model: what it was trained on, how good it is, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue


def card(record: Mapping[str, JsonValue]) -> str:
    """Return the card as Markdown, from the record of a training."""
    held = record["held_out"]
    assert isinstance(held, dict)
    calibration, length = held["calibration"], held["length"]
    assert isinstance(calibration, dict) and isinstance(length, dict)
    rows = [
        ("accuracy", _share(held["accuracy"])),
        ("longer reply wins (baseline)", _share(held["longer_wins"])),
        ("accuracy above the baseline, paired", _share(held["above_longer_wins"])),
        ("accuracy where the chosen reply is longer", _share(length["accuracy_chosen_longer"])),
        ("accuracy where it is shorter", _share(length["accuracy_chosen_shorter"])),
        ("accuracy where both are of one length", _share(length["accuracy_same_length"])),
        ("rank correlation of reward and length", _number(length["rank_correlation"])),
        ("expected calibration error", _number(calibration["error"])),
        ("log loss (a coin: 0.693)", _number(calibration["log_loss"])),
        ("Brier score (a coin: 0.25)", _number(calibration["brier"])),
        ("temperature of least log loss", _number(calibration["temperature"])),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""# Reward model

Gives a conversation that ends with a reply one number: the more, the likelier people or rules would prefer it. It was
trained on {record["pairs"]} preference pairs in {record["steps"]} steps, from the {record["start"]} weights, with the
loss of Bradley and Terry.

Measured on {held["pairs"]} pairs of {held["documents"]} documents that it has not seen ({record["held_out_split"]});
intervals are of 95 %, with pairs of one document counted as alike as they are.

| figure | value |
| --- | --- |
{table}

Rewards have mean {_number(held["reward_mean"])} and standard deviation {_number(held["reward_std"])} over these
replies; reinforcement learning takes them scaled to 0 and 1.

**Not for** judging what is true: it learns whatever tells the two sides of a pair apart, and says nothing sensible about
replies unlike those it has seen. A model trained against it for long will find what it mistakes for good.
"""


def _share(value: JsonValue) -> str:
    if not isinstance(value, dict):
        return "- (no such pair)"
    return f"{_number(value['value'])} [{_number(value['low'])}, {_number(value['high'])}], n = {value['n']}"


def _number(value: JsonValue) -> str:
    return f"{value:.3f}" if isinstance(value, float | int) else "-"
