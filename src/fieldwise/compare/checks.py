"""Are the votes those of people who read? Checks that name what to look at and take nothing out by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from fieldwise.compare.votes import Standing, Vote
from fieldwise.evaluate.statistics import sign_test

# Silent reading of English prose runs at 238 words a minute (Brysbaert 2019); three times that is skimming at best.
FASTEST_WORDS_PER_SECOND = 3 * 238 / 60
LEAST_SECONDS = 1.0
_FAST_SHARE, _LEAST_FAST = 0.1, 3
_LEAST_REPEATS, _LEAST_SAME = 4, 0.5
_ONE_SIDE_P = 0.01


class Check(NamedTuple):
    """One look at the votes; `voter` None is about all of them."""

    check: Literal["one_side", "too_fast", "repeats", "sides", "duplicates", "unreadable", "other_answers"]
    voter: str | None
    state: Literal["ok", "look"]
    found: str


def checks(standing: Standing, unreadable: Sequence[int]) -> list[Check]:
    """Return the checks of every voter, then those of the votes as a whole."""
    by_voter: dict[str, list[Vote]] = {}
    for vote in standing.counted:
        by_voter.setdefault(vote.who, []).append(vote)
    found = []
    for votes in by_voter.values():
        repeats = [(a, b) for a, b in standing.repeats if a.who == votes[0].who]
        found += [_one_side(votes, len(by_voter)), _too_fast(votes)]
        found += [_repeats(votes[0].voter, repeats)] if repeats else []
    return [*found, *_overall(standing, unreadable)]


def _one_side(votes: Sequence[Vote], voters: int) -> Check:
    """Sides are drawn at random, so whoever reads prefers each about as often, whatever the systems are worth."""
    left, right = (sum(v.choice == side for v in votes) for side in ("left", "right"))
    p = sign_test(left, right)
    state: Literal["ok", "look"] = "look" if p < _ONE_SIDE_P / voters else "ok"
    return Check("one_side", votes[0].voter, state, f"{left} times left, {right} times right (p = {p:.2g})")


def too_fast(vote: Vote) -> bool:
    """Tell whether question and answers could not have been read in the time.

    Sixty words need five seconds of skimming.
    """
    words = vote.question_words + vote.left.words + vote.right.words
    return vote.seconds is not None and vote.seconds < max(LEAST_SECONDS, words / FASTEST_WORDS_PER_SECOND)


def _too_fast(votes: Sequence[Vote]) -> Check:
    fast = sum(map(too_fast, votes))
    is_suspect = fast >= _LEAST_FAST and fast > _FAST_SHARE * len(votes)
    return Check(
        "too_fast",
        votes[0].voter,
        "look" if is_suspect else "ok",
        f"{fast} of {len(votes)} votes faster than the texts can be skimmed",
    )


def _repeats(voter: str, repeats: Sequence[tuple[Vote, Vote]]) -> Check:
    same = sum(a.winner == b.winner for a, b in repeats)
    is_suspect = len(repeats) >= _LEAST_REPEATS and same < _LEAST_SAME * len(repeats)
    return Check(
        "repeats",
        voter,
        "look" if is_suspect else "ok",
        f"{same} of {len(repeats)} items judged the same when they came back with the sides changed",
    )


def _overall(standing: Standing, unreadable: Sequence[int]) -> list[Check]:
    """The lot that draws the sides, double votes, lines that cannot be read, votes on other answers."""
    first = sum(v.left.system < v.right.system for v in standing.counted)
    second = len(standing.counted) - first
    p = sign_test(first, second)
    found = [
        Check("sides", None, "look" if p < _ONE_SIDE_P else "ok", f"the same system left {first} times, right {second}")
    ]
    if standing.duplicates:
        names = ", ".join(sorted({v.voter for v in standing.duplicates}))
        found.append(
            Check("duplicates", None, "look", f"{len(standing.duplicates)} cast twice, by {names}: the first counts")
        )
    if unreadable:
        lines = ", ".join(map(str, unreadable[:5]))
        found.append(Check("unreadable", None, "look", f"{len(unreadable)} lines of the file cannot be read: {lines}"))
    if standing.apart:
        apart = ", ".join(f"{n} on {name}" for name, n in sorted(standing.apart.items()))
        found.append(Check("other_answers", None, "look", f"answers have changed since; not counted: {apart}"))
    return found
