"""How much a set of questions can show: the smallest difference it would see, and how many would be needed.

All from the width of an interval that was found, so that what is printed beside a gate is what that gate does. With
half width h the estimate must exceed h; it does so with probability P from a true difference of h (1 + z_P / 1.96) on.
"""

from __future__ import annotations

import math

from fieldwise.evaluate.statistics import Z95, Estimate

POWER = 0.8
_Z_POWER = 0.8416212335729143  # the normal quantile of POWER


def minimum_detectable_effect(found: Estimate) -> float:
    """Return the smallest true difference that an interval of this width leaves 0 out for in 80 % of the cases.

    >>> round(minimum_detectable_effect(Estimate(0.3, 0.2, 0.4)), 3)
    0.143
    """
    return found.half * (1 + _Z_POWER / Z95)


def passes_from(found: Estimate, limit: float) -> float:
    """Return the true difference from which a gate that needs the interval above `limit` passes in 80 % of the cases."""
    return limit + minimum_detectable_effect(found)


def needed_n(n: int, found: Estimate, limit: float) -> int | None:
    """Return about how many items would decide in 80 % of the cases, if the truth is what was found; None if never.

    The half width shrinks with the root of n. The items must spread over documents as these do.

    >>> needed_n(100, Estimate(0.2, 0.0, 0.4), 0.0)
    205
    """
    distance = abs(found.value - limit)
    if distance == 0:
        return None
    return max(n + 1, math.ceil(n * (minimum_detectable_effect(found) / distance) ** 2 - 1e-9))
