"""The votes of a run: `5_reports/votes.jsonl`, one line a vote, only ever added to.

A line says who, when, on which answers (hashes of the file of predictions and of the answer seen, the step that made
it) and which system stood on which side. Taking a vote back adds a line as well. A vote counts for the predictions it
was cast on and for no others: when a file of predictions changes, its votes stay in the file, apart.
"""

from __future__ import annotations

import fcntl
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from fieldwise.compare.comparison import Comparison, Showing, next_showing
from fieldwise.errors import FieldwiseError
from fieldwise.evaluate.preference import Judged
from fieldwise.files import append_jsonl
from fieldwise.hashing import content_id, sha256_text
from fieldwise.records import Record

LEDGER = "5_reports/votes.jsonl"
MOST_NAME_CHARS = 60
Choice = Literal["left", "right", "tie", "both_bad", "skip"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both_bad", "skip")
Via = Literal["terminal", "page"]


class Side(Record):
    """What stood on one side."""

    system: str
    predictions_sha256: str
    answer_sha256: str
    made_by: str = Field("", description="step and key of the manifest of the predictions")
    words: int


class Vote(Record):
    """One vote as it stands in the file."""

    id: str
    at: str = Field(description="ISO 8601, UTC")
    voter: str
    item: str
    question_id: str
    question_sha256: str
    question_words: int
    left: Side
    right: Side
    choice: Choice
    seconds: float | None = Field(None, ge=0, description="from showing to vote, as the terminal or the page saw it")
    is_repeat: bool = Field(False, description="shown a second time, sides changed, to see whether the voter agrees")
    seed: int
    via: Via

    @property
    def winner(self) -> str | None:
        """The system voted for; None for a tie, both bad, and skip."""
        return {"left": self.left.system, "right": self.right.system}.get(self.choice)

    @property
    def who(self) -> str:
        """The voter without regard to case."""
        return self.voter.casefold()


class Withdrawal(Record):
    """A vote taken back."""

    withdraws: str
    at: str
    voter: str


class Ledger(NamedTuple):
    """The file as it stands: votes that were not taken back, how many were, and lines that cannot be read."""

    votes: list[Vote]
    withdrawn: int = 0
    unreadable: tuple[int, ...] = ()


class Standing(NamedTuple):
    """Votes sorted by what they may say about a comparison."""

    counted: list[Vote]
    repeats: list[tuple[Vote, Vote]]
    skipped: list[Vote]
    duplicates: list[Vote]
    apart: dict[str, int]
    """System and first letters of its file's hash -> votes on answers that are no longer these."""


def voter_name(given: str) -> str:
    """Return a voter's name or code as it is kept: one line, no blanks around. Raises FieldwiseError when it is none."""
    name = " ".join(unicodedata.normalize("NFC", given).split())
    if not name or len(name) > MOST_NAME_CHARS or not name.isprintable():
        raise FieldwiseError(
            "a voter needs a name or a code",
            where="voter",
            found=repr(given[:MOST_NAME_CHARS]),
            fix=f"Give 1 to {MOST_NAME_CHARS} printable characters. It is kept with every vote; a code such as v1 will do.",
        )
    return name


class BallotBox:
    """Gives voters their next item and keeps their votes. Safe for several processes that share the file."""

    def __init__(self, path: Path, comparison: Comparison) -> None:
        self.path, self.comparison = path, comparison

    def next(self, voter: str) -> tuple[Showing | None, int]:
        """Return what a voter sees next, None when all is done, and how many votes they have given on these systems."""
        return self._next(voter, read_votes(self.path).votes)

    def _next(self, voter: str, votes: Sequence[Vote]) -> tuple[Showing | None, int]:
        known = {item.id for item in self.comparison.items}
        mine = [v for v in votes if v.who == voter.casefold() and v.item in known]
        done = {(v.item, v.is_repeat) for v in mine}
        skipped = {v.item for v in mine if v.choice == "skip"}
        return next_showing(self.comparison, voter.casefold(), done, skipped), len(mine)

    def vote(self, voter: str, token: str, choice: Choice, seconds: float | None, via: Via) -> Vote | None:
        """Keep a vote on what the voter was shown last; None when they have voted on it already or were shown no such."""
        with _locked(self.path):
            ledger = read_votes(self.path)
            showing, _ = self._next(voter, ledger.votes)
            if showing is None or showing.token != token:
                return None
            made = self._vote(voter, showing, choice, seconds, via, len(ledger.votes) + ledger.withdrawn)
            append_jsonl(self.path, made.model_dump(mode="json"))
            return made

    def withdraw(self, voter: str) -> Vote | None:
        """Take back the voter's last vote on these systems; None when there is none."""
        known = {item.id for item in self.comparison.items}
        with _locked(self.path):
            votes = read_votes(self.path).votes
            last = next((v for v in reversed(votes) if v.who == voter.casefold() and v.item in known), None)
            if last is not None:
                row = Withdrawal(withdraws=last.id, at=_now(), voter=voter)
                append_jsonl(self.path, row.model_dump(mode="json"))
            return last

    def _vote(
        self, voter: str, showing: Showing, choice: Choice, seconds: float | None, via: Via, earlier: int
    ) -> Vote:
        question = self.comparison.question(showing)
        at = _now()
        return Vote(
            id=content_id("vot", voter, showing.token, at, earlier),  # given anew within the second, it is another vote
            at=at,
            voter=voter,
            item=showing.item.id,
            question_id=showing.item.question_id,
            question_sha256=sha256_text(question),
            question_words=len(question.split()),
            left=self._side(showing, "left"),
            right=self._side(showing, "right"),
            choice=choice,
            seconds=None if seconds is None else round(seconds, 2),
            is_repeat=showing.is_repeat,
            seed=self.comparison.seed,
            via=via,
        )

    def _side(self, showing: Showing, side: str) -> Side:
        system = self.comparison.systems[getattr(showing, side)]
        entry = system.entries[showing.item.question_id]
        return Side(
            system=system.system,
            predictions_sha256=system.sha256,
            answer_sha256=entry.sha256,
            made_by=system.made_by,
            words=len(entry.answer.answer.split()),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file, so that two pages of one voter do not both vote on one showing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


# ---------------------------------------------------------------- reading


def read_votes(path: Path) -> Ledger:
    """Read the votes of a run; a line left half written by a kill, or changed by hand, is counted and passed over."""
    votes: dict[str, Vote] = {}
    unreadable, withdrawn = [], set()
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if isinstance(row, dict) and "withdraws" in row:
                withdrawn.add(Withdrawal.model_validate(row).withdraws)
            else:
                vote = Vote.model_validate(row)
                votes.setdefault(vote.id, vote)
        except (json.JSONDecodeError, ValidationError):
            unreadable.append(number)
    kept = [v for v in votes.values() if v.id not in withdrawn]
    return Ledger(kept, len(votes) - len(kept), tuple(unreadable))


def standing(votes: Sequence[Vote], comparison: Comparison) -> Standing:
    """Sort votes: those that count, repeats beside their first showing, skipped, double, and on other answers."""
    known = {item.id for item in comparison.items}
    apart: Counter[str] = Counter()
    firsts: dict[tuple[str, str], Vote] = {}
    found = Standing([], [], [], [], {})
    for vote in votes:
        if vote.item not in known:
            apart.update(_other_answers(vote, comparison))
        elif vote.choice == "skip":
            found.skipped.append(vote)
        elif vote.is_repeat:
            if first := firsts.get((vote.who, vote.item)):
                found.repeats.append((first, vote))
        elif (vote.who, vote.item) in firsts:
            found.duplicates.append(vote)
        else:
            firsts[vote.who, vote.item] = vote
            found.counted.append(vote)
    return found._replace(apart=dict(apart))


def _other_answers(vote: Vote, comparison: Comparison) -> list[str]:
    """Name what a vote was cast on that is not compared here: changed answers; nothing for systems left out on purpose."""
    sides = (vote.left, vote.right)
    if any(s.system not in comparison.systems for s in sides):
        return []
    return [
        f"{s.system} ({s.predictions_sha256[:8]})"
        for s in sides
        if s.predictions_sha256 != comparison.systems[s.system].sha256
    ]


def judged(vote: Vote) -> Judged:
    """A counted vote as the statistics take it; "both bad" prefers neither, so it is a tie."""
    words = vote.left.words + vote.right.words
    return Judged(
        vote.left.system,
        vote.right.system,
        vote.winner,
        vote.question_id,
        (vote.left.words - vote.right.words) / words if words else 0.0,
    )
