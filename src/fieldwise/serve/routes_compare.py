"""Blind comparison over HTTP: the next two answers without their names, votes, and what the votes say."""

from __future__ import annotations

import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field, JsonValue

from fieldwise.compare.comparison import PREDICTIONS, Comparison, Showing, open_comparison, systems_of
from fieldwise.compare.report import VoteReport, count_votes, report
from fieldwise.compare.votes import LEDGER, MOST_NAME_CHARS, BallotBox, Choice, read_votes, voter_name
from fieldwise.errors import FieldwiseError
from fieldwise.records import Answer
from fieldwise.run import RunFolder
from fieldwise.serve.bodies import Body, ReadableText
from fieldwise.serve.problems import RequestError
from fieldwise.serve.routes_ask import shown_citations
from fieldwise.serve.service import Service


def _name(given: str) -> str:
    try:
        return voter_name(given)
    except FieldwiseError as error:
        raise ValueError(error.what) from error


System = Annotated[str, Field(max_length=200, description="a system of the run; without both, every pair")]
Voter = Annotated[ReadableText, Field(max_length=MOST_NAME_CHARS), AfterValidator(_name)]


class VoterBody(Body):
    """Who votes, on which systems."""

    voter: Voter = Field(description="name or code, kept with every vote")
    left: System | None = None
    right: System | None = None


class VoteBody(VoterBody):
    """A vote on what was shown last."""

    showing: str = Field(max_length=80, description="as in the answer that showed it")
    choice: Choice
    seconds: float | None = Field(None, ge=0, le=1e6, description="from showing to vote")


class Comparisons:
    """The comparisons of a run, read anew when a file of predictions has changed."""

    def __init__(self, run: RunFolder) -> None:
        self._run, self._lock = run, threading.Lock()
        self._known: dict[tuple[str | None, str | None], tuple[object, Comparison]] = {}

    def box(self, left: str | None, right: str | None) -> BallotBox:
        """Return the ballot box of two systems, of all without names; what cannot be compared is a 404 problem."""
        known = systems_of(self._run)
        for name in (left, right):
            if name is not None and name not in known:  # never a file: that would let a client read any
                raise RequestError(
                    404, "system_not_found", "there are no predictions of this system", where="left, right",
                    found=repr(name), fix=f"Name one of: {', '.join(known)}.",
                )  # fmt: skip
        try:
            return BallotBox(self._run.path / LEDGER, self._comparison(left, right))
        except FieldwiseError as error:
            raise RequestError(
                404,
                "nothing_to_compare",
                error.what,
                found=error.found,
                fix="Measure at least two systems on the same questions: fieldwise evaluate",
            ) from error

    def _comparison(self, left: str | None, right: str | None) -> Comparison:
        files = sorted((self._run.path / PREDICTIONS).glob("*.jsonl"))
        stamp = [(p.name, s.st_mtime_ns, s.st_size, s.st_ino) for p in files for s in [p.stat()]]
        with self._lock:
            kept = self._known.get((left, right))
            if kept is None or kept[0] != stamp:
                kept = (stamp, open_comparison(self._run, left, right))
                self._known[left, right] = kept
            return kept[1]


def router(service: Service) -> APIRouter:
    """Return the routes below /api/v1/compare."""
    routes = APIRouter(prefix="/api/v1/compare", tags=["compare"])
    comparisons = Comparisons(service.backend.run)

    @routes.get("/systems")
    def systems() -> dict[str, list[str]]:
        """List the systems whose answers can be compared."""
        return {"systems": systems_of(service.backend.run)}

    @routes.post("/next")
    def following(body: VoterBody) -> dict[str, JsonValue]:
        """Return what a voter sees next: a question and two answers, without the names of the systems."""
        return _shown(comparisons.box(body.left, body.right), body.voter)

    @routes.post("/votes")
    def vote(body: VoteBody) -> dict[str, JsonValue]:
        """Keep a vote; returns what comes next."""
        box = comparisons.box(body.left, body.right)
        if box.vote(body.voter, body.showing, body.choice, body.seconds, "page") is None:
            raise RequestError(
                409,
                "not_shown",
                "this is not what the voter was shown last",
                where="showing",
                found="voted on already, or the answers have changed",
                fix="Ask for the next one. Votes on earlier answers are kept apart.",
            )
        return _shown(box, body.voter)

    @routes.post("/undo")
    def undo(body: VoterBody) -> dict[str, JsonValue]:
        """Take the voter's last vote back; returns what is shown again."""
        box = comparisons.box(body.left, body.right)
        if box.withdraw(body.voter) is None:
            raise RequestError(409, "no_vote", "there is no vote to take back", where="voter", fix="Vote first.")
        return _shown(box, body.voter)

    @routes.get("/result", response_model=VoteReport)
    def result(
        left: Annotated[System | None, Query()] = None, right: Annotated[System | None, Query()] = None
    ) -> VoteReport:
        """Return what the votes say, systems named."""
        box = comparisons.box(left, right)
        return report(box.comparison, count_votes(box.comparison, read_votes(box.path)))

    return routes


def _shown(box: BallotBox, voter: str) -> dict[str, JsonValue]:
    showing, given = box.next(voter)
    shown: dict[str, JsonValue] = {"votes": given, "showings": box.comparison.showings, "showing": None}
    if showing is not None:
        shown |= {
            "showing": showing.token,
            "question": box.comparison.question(showing),
            "left": _side(box.comparison, showing, "left"),
            "right": _side(box.comparison, showing, "right"),
        }
    return shown


def _side(comparison: Comparison, showing: Showing, side: str) -> dict[str, Any]:
    """What is to be seen of an answer, and nothing that names its system."""
    answer: Answer = comparison.answer(showing, side)
    return {"text": answer.text, "is_declined": answer.is_declined, "citations": shown_citations(answer.citations)}
