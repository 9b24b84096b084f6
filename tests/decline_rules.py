"""A rule of when to decline, for tests: all doubt comes from the log-probability of declining."""

from __future__ import annotations

from typing import Any

from fieldwise.retrieve.decline import DeclineRule


def decline_rule(**values: Any) -> DeclineRule:
    """A rule that declines from a doubt of 0.1 on, but for the values given."""
    plain = {
        "bias": 0.0,
        "decline_weight": 1.0,
        "similarity_weight": 0.0,
        "threshold": 0.1,
        "answerable": 20,
        "unanswerable": 20,
        "right_declines": 0.0,
        "false_declines": 0.0,
        "auc": 0.5,
    }
    return DeclineRule.model_validate({**plain, **values})
