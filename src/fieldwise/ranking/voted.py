"""What votes between two answers say about passages: those that only the preferred answer quotes were the better find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from fieldwise.errors import DatasetError
from fieldwise.evaluate.metrics import normalise
from fieldwise.ranking.judged import JudgedQuery, JudgedSet
from fieldwise.records import Answer


class VotedAnswer(NamedTuple):
    """A question with the answer that a voter preferred, and the other."""

    question_id: str
    question: str
    preferred: Answer
    other: Answer


def with_votes(fit: JudgedSet, voted: Iterable[VotedAnswer], measured: Collection[str]) -> JudgedSet:
    """Return the questions to learn from with those that were voted on; `measured` are texts that are never learnt from.

    A passage counts as relevant where more voters preferred an answer that quotes it, and the other does not, than the
    other way round. Raises DatasetError if that leaves nothing to learn, or if the set has passages of its own.
    """
    if fit.corpus is not None:
        raise DatasetError(
            "votes are about the passages of the run",
            where=fit.name,
            found="a set with passages of its own",
            fix="Leave --votes out, or learn on the questions of the run.",
        )
    apart = {normalise(text) for text in measured}
    texts: dict[str, str] = {}
    tallies: dict[str, Counter[str]] = {}
    left_out = 0
    for vote in voted:
        if normalise(vote.question) in apart:
            left_out += 1
            continue
        texts[vote.question_id] = vote.question
        better, worse = _quoted(vote.preferred), _quoted(vote.other)
        tally = tallies.setdefault(vote.question_id, Counter())
        tally.update(better - worse)
        tally.subtract(worse - better)
    made = []
    for identifier, tally in tallies.items():
        relevant = {chunk: 1 for chunk, votes in tally.items() if votes > 0}
        if relevant:
            made.append(JudgedQuery(f"vote:{identifier}", texts[identifier], relevant, kind="vote", cluster=identifier))
    if not made:
        raise DatasetError(
            "no vote tells a passage to learn from",
            where="--votes",
            found=f"{left_out} votes on questions that are measured on, {len(tallies)} other questions",
            fix="Collect votes on other questions than evaluate.questions, between answers that quote different passages.",
        )
    return JudgedSet(fit.name, fit.kind, fit.level, fit.split, (*fit.queries, *made), fit.corpus, fit.notes)


def _quoted(answer: Answer) -> set[str]:
    return {c.chunk_id for c in answer.citations if c.is_verified}
