"""Questions that could stand in any text of their field: right beside their sentence, unclear or untrue without it.

A question of general words alone ("What happens if you have symptoms?") is left out. "What should follow-up include?" is
clear among the documents of one organisation and unclear where each document is about another thing: there a recipe that
says generate.named_subjects has the title put before it.
"""

from __future__ import annotations

from fieldwise.generate.pairs import Pair
from fieldwise.support import content_stems

_GENERAL = content_stems(
    "symptom symptoms sign treatment treat treating treated therapy surgery test testing exam examination result results case cause causing disease condition disorder "
    "syndrome problem complication diagnosis diagnose diagnosed doctor physician provider health care patient people person persons individual family adult man men woman "
    "women male female type form kind standard other most common commonly usual rare more many some several certain number one two three four five six seven help include "
    "affect lead result show make made take get have need use used using find found develop occur begin start time first early late brief delay short medicine medication "
    "drug plan human information severe serious mild consider considering consult recommend effect side part mainstay important sickness illness feature finding risk factor you're you've you'll"
)
_TELLS = ("definition", "duty", "effect", "contents", "object")
_ANSWERED_BY_NAME = ("subject", "cause", "superlative", "name", "gap", "person")
_MOST_TITLE_WORDS = 12


def generality(pair: Pair) -> str | None:
    """Return what makes a pair too general to be asked at all, or None."""
    if pair.kind != "gap" and content_stems(pair.question) <= _GENERAL:
        return "question_general"
    is_told = content_stems(pair.answer) <= _GENERAL | content_stems(pair.question)
    return "says_nothing" if pair.kind in _TELLS and is_told else None


def with_subject(pair: Pair, title: str) -> Pair:
    """Return the pair with the title before its question, unless the question speaks of it or the answer is it.

    >>> with_subject(Pair("What should follow-up include?", "yearly eye exams", "contents", ""), "Cohen syndrome").question
    'Cohen syndrome: What should follow-up include?'
    """
    subject = content_stems(title) - _GENERAL
    is_told = subject & content_stems(pair.question) or (
        pair.kind in _ANSWERED_BY_NAME and subject <= content_stems(pair.answer)
    )
    if not subject or is_told or len(title.split()) > _MOST_TITLE_WORDS:
        return pair
    return pair._replace(question=f"{title.rstrip(' .:?!')}: {pair.question}")
