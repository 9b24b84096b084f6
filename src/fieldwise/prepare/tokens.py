"""Counting tokens fast: word by word, each word once.

Tokenizers cut at spaces first, so the tokens of a text are those of its words, each with the space before it. The words
of a document are looked up all at once and their tokens summed up; a span costs then two looks into the sums, and its
first and last word where it does not begin or end with them.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.prepare.word_table import Values, WordTable, characters, word_keys

_MAX_REMEMBERED_WORDS = 1_000_000
_MAX_REMEMBERED_CHARS = 20_000_000  # words may be long: addresses, or a picture in letters
_BLANKS_WITHIN = re.compile(r"\s+")
_SPACE = ord(" ")


class TokenCounter:
    """Counts the tokens of texts; `encode` returns the number of tokens of each of some texts."""

    def __init__(self, encode: Callable[[list[str]], list[int]]) -> None:
        self._encode = encode
        self._forget()

    def _forget(self) -> None:
        self._table, self._tokens = WordTable(), Values(np.int64)
        self._parts: dict[str, int] = {}  # beginnings of texts up to a space, and cut words after one
        self._after: dict[str, int] = {}  # whole words after a space
        self._chars = 0

    def _forget_much(self) -> None:
        words = len(self._table) + len(self._parts) + len(self._after)
        if self._chars > _MAX_REMEMBERED_CHARS or words > _MAX_REMEMBERED_WORDS:
            self._forget()

    @classmethod
    def from_file(cls, path: Path) -> TokenCounter:
        """Count with a tokenizer.json."""
        tokenizers: Any = require("tokenizers", extra="documents", to="count tokens")
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ModelError(
                "the tokenizer cannot be read",
                where=path,
                found=str(error)[:120],
                fix="Check base.model: the folder must hold a tokenizer.json.",
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(lambda texts: [len(e) for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)])

    def count(self, text: str) -> int:
        """Return how many tokens a short text has; its words are looked up one by one."""
        self._forget_much()
        begun, space, rest = text.partition(" ")
        tokens = self._parts[begun] if begun in self._parts else self._part(begun)
        if not space:
            return tokens
        words = rest.split(" ")
        try:
            return tokens + sum(map(self._after.__getitem__, words))
        except KeyError:
            new = sorted(set(words).difference(self._after))
            self._after.update(zip(new, self._encode([f" {word}" for word in new]), strict=True))
            self._chars += sum(map(len, new))
            return tokens + sum(map(self._after.__getitem__, words))

    def spans(self, text: str) -> Callable[[int, int], int]:
        """Return a function that counts the tokens of `text[start:end]`."""
        self._forget_much()
        codes = characters(text)
        starts = np.flatnonzero(codes == _SPACE)
        ends = np.append(starts[1:], len(text))
        summed = np.zeros(len(starts) + 1, np.int64)
        if len(starts):
            numbers, new = self._table.numbers(word_keys(codes, starts, ends))
            self._learn([text[starts[n] : ends[n]] for n in new])
            np.cumsum(self._tokens.of(numbers), out=summed[1:])
        spaces, sums = array("q", starts.tobytes()), array("q", summed.tobytes())  # single items at half the cost
        spaces.append(len(text))
        parts, part = self._parts, self._part

        def count(start: int, end: int) -> int:
            first = bisect_left(spaces, start)
            if spaces[first] >= end:
                begun = text[start:end]
                return parts[begun] if begun in parts else part(begun)
            begun = text[start : spaces[first]]
            tokens = parts[begun] if begun in parts else part(begun)
            after = bisect_left(spaces, end, first)
            if spaces[after] == end:
                return tokens + sums[after] - sums[first]
            cut = text[spaces[after - 1] : end]
            return tokens + sums[after - 1] - sums[first] + (parts[cut] if cut in parts else part(cut))

        return count

    def _learn(self, words: Sequence[str]) -> None:
        """Count words seen for the first time, each after its space, and what of them may begin or end a span."""
        parts: set[str] = set()
        for word in words:
            pieces = _BLANKS_WITHIN.split(word[1:]) if len(word.split(None, 2)) > 1 else ()
            if len(pieces) > 1:
                parts.update((f" {pieces[0]}", word[1 + len(pieces[0]) :], pieces[-1]))
        wanted = sorted(parts.difference(self._parts))
        counts = self._encode([*words, *wanted]) if words else []
        self._tokens.extend(counts[: len(words)])
        self._parts.update(zip(wanted, counts[len(words) :], strict=True))
        self._chars += sum(map(len, words)) + sum(map(len, wanted))

    def _part(self, text: str) -> int:
        (count,) = self._encode([text])
        self._parts[text] = count
        self._chars += len(text)
        return count
