"""Replies of a given form: at each step only the tokens pass that can still lead to one. llguidance tells which."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwise.errors import InputError
from fieldwise.extras import require
from fieldwise.interfaces import Shape

_TIGHT = {"whitespace_flexible": False}  # a small model that may write blanks writes nothing else
_FIX = "Make the schema smaller and flatter."


def can_shape() -> bool:
    """Tell whether the library that follows a schema is installed; without it replies are only checked."""
    return importlib.util.find_spec("llguidance") is not None


class Shaper:
    """Makes guides over one vocabulary; what it takes to make them is computed with the first one.

    `make_tokenizer` returns llguidance's picture of the vocabulary.
    """

    def __init__(self, make_tokenizer: Callable[[Any], Any]) -> None:
        self._make, self._tokenizer, self._lock = make_tokenizer, None, threading.Lock()

    def guide(self, shape: Shape) -> Guide:
        """Return what holds one reply to a shape. Raises InputError for a schema that cannot be followed."""
        llguidance = require("llguidance", extra="gguf", to="hold replies to a schema")
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._make(llguidance)
        schema = {**json.loads(shape.schema), "x-guidance": _TIGHT}
        instead = f" | {json.dumps(shape.instead)}" if shape.instead else ""
        # templates of small models put a blank before the first word of a reply
        lark = f"start: /[ ]?/ said\nsaid: value{instead}\nvalue: %json {json.dumps(schema)}"
        matcher = llguidance.LLMatcher(self._tokenizer, llguidance.LLMatcher.grammar_from_lark(lark), log_level=0)
        if matcher.is_error():
            raise InputError("the schema cannot be followed", where="schema", found=matcher.get_error()[:200], fix=_FIX)
        return Guide(matcher)


class Guide:
    """Follows one reply."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allowed(self, logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the logits with minus infinity for what may not come next; None if nothing may."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
        passes = np.zeros(len(logits), dtype=bool)
        passes[: min(len(bits), len(logits))] = bits[: len(logits)] == 1
        if self._matcher.is_error() or not passes.any():
            return None
        return np.where(passes, logits, np.float32(-np.inf))

    def take(self, token: int) -> bool:
        """Note the token that was chosen; True if the reply is complete with it."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()
