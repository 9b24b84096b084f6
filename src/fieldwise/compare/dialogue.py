"""Voting in a terminal: one question, two answers without names, one key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from fieldwise.compare.comparison import Comparison, Showing
from fieldwise.compare.votes import BallotBox, Choice, voter_name
from fieldwise.records import Answer

_KEYS: dict[str, Choice] = {"a": "left", "b": "right", "t": "tie", "n": "both_bad", "s": "skip"}
_HELP = "[a] A is better  [b] B is better  [t] tie  [n] neither will do  [s] skip  [u] undo  [q] stop"


def vote_in_terminal(
    box: BallotBox, voter: str | None, source: TextIO, screen: TextIO, clock: Callable[[], float] = time.monotonic
) -> tuple[str, int, bool]:
    """Ask until all is voted on or the voter stops; returns the voter, how many votes were kept, and whether all is done.

    Every vote is on the disk before the next question is shown. The end of the input stops like `q`.
    """
    if voter is None:
        _say(screen, "Your name or a code, kept with every vote: ", end="")
        voter = source.readline()
    name = voter_name(voter)
    kept = 0
    while True:
        showing, given = box.next(name)
        if showing is None:
            return name, kept, True
        _show(screen, box.comparison, showing, given)
        began = clock()
        key = _key(source, screen)
        if key == "q":
            return name, kept, False
        if key == "u":
            undone = box.withdraw(name)
            kept -= undone is not None and kept > 0
            _say(screen, "The last vote is taken back." if undone else "There is no vote to take back.")
        elif box.vote(name, showing.token, _KEYS[key], clock() - began, "terminal"):
            kept += 1


def _key(source: TextIO, screen: TextIO) -> str:
    while True:
        _say(screen, "> ", end="")
        line = source.readline()
        typed = line.strip().lower()[:1]
        if not line or typed == "q":
            return "q"
        if typed in _KEYS or typed == "u":
            return typed
        _say(screen, _HELP)


def _show(screen: TextIO, comparison: Comparison, showing: Showing, given: int) -> None:
    _say(screen, f"\n{'-' * 72}\n{given + 1}. {_readable(comparison.question(showing))}")
    for name, side in (("A", "left"), ("B", "right")):
        _say(screen, f"\n{name}:")
        _say(screen, _indented(_answer(comparison.answer(showing, side))))
    _say(screen, f"\n{_HELP}")


def _answer(answer: Answer) -> str:
    lines = [_readable(answer.text)]
    for citation in answer.citations:
        page = f", page {citation.page}" if citation.page else ""
        quote = " ".join(_readable(citation.quote).split())
        lines.append(f"  [{citation.mark}] {_readable(citation.uri)}{page}: {quote}")
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.split("\n"))


def _readable(text: str) -> str:
    """Leave out what a terminal would obey: text of models and documents is shown, never run."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _say(screen: TextIO, text: str, end: str = "\n") -> None:
    screen.write(text + end)
    screen.flush()
