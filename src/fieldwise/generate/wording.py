"""How something is worded, whatever it says: a refusal in place of an answer, another language than its passage's."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from fieldwise.extras import require

_REFUSES = re.compile(r"\b(?:as an ai|language model|i(?:'m| am) sorry|i can(?:no|')t (?:help|assist|answer)|i(?:'m| am) (?:unable|not able) to|i do(?:n't| not) know)\b", re.I)  # fmt: skip
_LEAST_LETTERS = 12
_SURE = 20.0
"""By how much the log-likelihood of one language must exceed that of another.

Of 852 English questions of the rules the surest mistake had 3.6, of eight short ones in other languages the least sure
35.7 (py3langid).
"""


def refuses(text: str) -> bool:
    """Tell whether a model speaks of itself in place of an answer.

    >>> refuses("I'm sorry, but I can't help with that."), refuses("The service cannot help after 17:00.")
    (True, False)
    """
    return _REFUSES.search(text.replace("’", "'")) is not None


def other_language(text: str, passage: str) -> str | None:
    """Return the language of a text if it is surely another one than that of its passage, else None.

    >>> other_language("Wie lange wird das Protokoll aufbewahrt?", "The log is kept for 14 days in the office.")
    'de'
    """
    if sum(c.isalpha() for c in text) < _LEAST_LETTERS:
        return None
    asked, told = _ranked(text), _ranked(passage)
    language, expected = next(iter(asked)), next(iter(told))
    is_sure = asked[language] - asked[expected] >= _SURE and told[expected] - told[language] >= _SURE
    return language if language != expected and is_sure else None


@lru_cache(maxsize=64)  # the questions of a passage come one after the other
def _ranked(text: str) -> dict[str, float]:
    """Languages by their log-likelihood, the likeliest first."""
    py3langid: Any = require("py3langid", extra="documents", to="compare languages")
    return {str(language): float(score) for language, score in py3langid.rank(text)}
