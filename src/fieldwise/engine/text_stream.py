"""Turn tokens into text as they come: whole characters only, and never past a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"


class ByteCharacters:
    """Joins the bytes of tokens into characters; a character split over tokens appears with its last byte."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Return the characters that are complete now."""
        return self._decoder.decode(self._piece(token))

    def finish(self) -> str:
        """Return what is left: a replacement character for bytes that never became one."""
        return self._decoder.decode(b"", True)


class DecodedCharacters:
    """The same for tokenizers that only decode whole lists: compares the text with and without the new tokens.

    Two short lists are decoded per token, not the whole reply: tokens before `_shown` only serve as context,
    because some tokenizers write the first token of a list without its leading blank.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._start = self._shown = 0

    def feed(self, token: int) -> str:
        """Return the characters that are complete now."""
        self._tokens.append(token)
        new = self._new()
        if new.endswith(_REPLACEMENT):
            return ""
        self._start, self._shown = self._shown, len(self._tokens)
        return new

    def finish(self) -> str:
        """Return what is left: replacement characters for bytes that never became one."""
        new = self._new()
        self._start, self._shown = self._shown, len(self._tokens)
        return new

    def _new(self) -> str:
        before = self._decode(self._tokens[self._start : self._shown])
        return self._decode(self._tokens[self._start :])[len(before) :]


class StopStream:
    """Passes text on until a stop string appears, which itself is dropped; it may begin and end in any token."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.has_stopped = False

    def feed(self, text: str) -> str:
        """Return the text that is safe to show: what could still begin a stop string is held back."""
        if self.has_stopped:
            return ""
        self._held += text
        found = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.has_stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = self._longest_beginning()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """Return what was held back when the reply ends without a stop string."""
        shown, self._held = self._held, ""
        return shown

    def _longest_beginning(self) -> int:
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if stop.startswith(self._held[-length:]):
                    longest = length
                    break
        return longest
