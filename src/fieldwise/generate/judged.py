"""An optional judge over the pairs that the checks let pass: it sees the passage, explains itself, and may not know."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from fieldwise.generate.examples import Asked
from fieldwise.generate.rules import pairs_of_chunk
from fieldwise.generate.settings import GenerateSettings, PairJudgeSettings
from fieldwise.generate.teacher import Taught, wanted_pairs
from fieldwise.interfaces import LlmClient, LlmReply
from fieldwise.judge.asking import announce, replies, require_use
from fieldwise.judge.rubric import Case, Judgement, judgements, rubric_request
from fieldwise.llm.client import EndpointClient
from fieldwise.progress import say
from fieldwise.records import NOT_STATED, Chunk, Rejection
from fieldwise.retrieve.index import passage_text

WHERE = "generate.judge.endpoint"
JOURNAL = "memo/judge/pairs.jsonl"  # apart from that of `fieldwise judge`, which has a budget of its own
_REASONS = {"wrong": "judged_wrong", "cannot tell": "judge_cannot_tell", None: "judge_not_scored"}
_USUAL_REPLY_TOKENS = 120
_UNANSWERABLE = 2  # that a teacher is asked for beside the pairs of a chunk


def open_judge(settings: PairJudgeSettings, run_folder: Path) -> LlmClient:
    """Return who judges. What was paid for stands in the run folder's memo and outlives a change of settings."""
    return EndpointClient(settings.endpoint, run_folder / JOURNAL, where=WHERE)


def judge_pairs(taught: Taught, settings: PairJudgeSettings, client: LlmClient) -> dict[str, JsonValue]:
    """Take out of `taught` what the judge finds wrong, and by setting what it cannot decide; returns the card's facts.

    Raises ServiceError when the budget is spent, or no reply can be read.
    """
    answerable = len(taught.asked)
    items = [*taught.asked, *(item for missed in taught.unanswerable.values() for item in missed)]
    cases = [_case(item, number) for number, item in enumerate(items)]
    requests = [rubric_request(case, settings.rule) for case in cases]
    announce(client, settings.endpoint, requests, "pairs")
    found: list[LlmReply] = list(replies(client, requests, "judge"))
    require_use(found, client, settings.endpoint, WHERE)
    verdicts = list(judgements(cases, found))
    keeps = [_keeps(v, settings) for v in verdicts]
    taught.asked = [item for item, kept in zip(items[:answerable], keeps, strict=False) if kept]
    taught.unanswerable = {}
    for item, kept in zip(items[answerable:], keeps[answerable:], strict=True):
        if kept:
            taught.unanswerable.setdefault(item.chunk.id, []).append(item)
    taught.rejected += [_rejection(item, v) for item, v, kept in zip(items, verdicts, keeps, strict=True) if not kept]
    return _facts(client, settings, verdicts, found)


def _case(item: Asked, number: int) -> Case:
    """The pair with its passage and no known answer: the judge finds it out from the passage alone."""
    chunk, pair = item.chunk, item.pair
    heading = " > ".join(h for h in chunk.heading_path if h != chunk.title)
    source = f"{heading}\n{passage_text(chunk)}" if heading else passage_text(chunk)
    return Case(f"{chunk.id}/{number}", pair.question, pair.answer or NOT_STATED, (source,))


def _keeps(judgement: Judgement, settings: PairJudgeSettings) -> bool:
    if judgement.verdict == "right":
        return True
    return judgement.verdict != "wrong" and settings.undecided == "keep"


def _rejection(item: Asked, judgement: Judgement) -> Rejection:
    told = judgement.explanation or f"{judgement.problem}: {judgement.detail}"
    detail = f"{item.pair.question} | {item.pair.answer} | {' '.join(told.split())}"[:600]
    return Rejection(stage="generate", item=item.chunk.id, reason=_REASONS[judgement.verdict], detail=detail)


def _facts(
    client: LlmClient, settings: PairJudgeSettings, verdicts: Sequence[Judgement], found: Sequence[LlmReply]
) -> dict[str, JsonValue]:
    counts = Counter(v.verdict for v in verdicts)
    problems = Counter(v.problem for v in verdicts if v.verdict is None)
    say(
        f"  judge: {counts['right']} right, {counts['wrong']} wrong, {counts['cannot tell']} cannot tell, {counts[None]} not scored"
    )
    return {
        "model": client.name,
        "right": counts["right"],
        "wrong": counts["wrong"],
        "cannot_tell": counts["cannot tell"],
        "not_scored": dict(problems.most_common()),
        "undecided": settings.undecided,
        "prompt_tokens": sum(r.prompt_tokens for r in found),
        "completion_tokens": sum(r.completion_tokens for r in found),
        "price": round(sum(r.price for r in found), 6),
    }


def most_cost(chunks: Sequence[Chunk], settings: GenerateSettings, seed: int) -> str | None:
    """Say how many pairs a judge would see at most, and about what that costs; None without a judge."""
    if settings.judge is None:
        return None
    from fieldwise.llm.budget import Cost, cost, usual_tokens

    total, pairs = Cost(), 0
    for chunk in chunks:
        if settings.teacher == "rules":
            rng = random.Random(f"{seed}/{chunk.id}")
            wanted = min(settings.max_per_chunk, len(pairs_of_chunk(chunk, rng, wide=settings.wide_questions)))
        else:
            wanted = wanted_pairs(chunk, settings) + _UNANSWERABLE * (settings.unanswerable_share > 0)
        prompt = rubric_request(Case(chunk.id, "", "", (passage_text(chunk),)), settings.judge.rule).conversation
        each = cost(usual_tokens(prompt), _USUAL_REPLY_TOKENS, settings.judge.endpoint.price)
        pairs += wanted
        total += Cost(each.tokens * wanted, each.money * wanted)
    told = f"judge: at most about {pairs} pairs, {total.tokens:,} tokens"
    return told + (f", {total.money:.4f} in the currency of the prices" if total.money else "")
