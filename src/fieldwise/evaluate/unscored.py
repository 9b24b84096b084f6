"""How many items may go without a score before nothing is decided by the others."""

from __future__ import annotations

MOST_UNSCORED = 0.1


def told_unscored(unscored: int, total: int, what: str = "items are not scored") -> str:
    """Return in words that too many items have no score; empty where they are few enough.

    >>> told_unscored(4, 30), told_unscored(3, 30)
    ('4 of 30 items are not scored, more than 10%', '')
    """
    if unscored <= MOST_UNSCORED * total:
        return ""
    return f"{unscored} of {total} {what}, more than {MOST_UNSCORED:.0%}"
