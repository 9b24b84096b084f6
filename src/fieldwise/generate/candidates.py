"""On-policy pairs: replies of the model itself, ranked by the rules that tell what is wrong with one, and by a judge.

Only questions whose right reply is known are asked. The chosen reply breaks no rule, the rejected one breaks rules of at
least `margin` weight, and both are what the model said: nothing is written for it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import ServiceError
from fieldwise.generate.reply_rules import IN_WORDS, Fault, Known, faults, judged, known_of, weight
from fieldwise.generate.settings import CandidateSettings, GenerateSettings
from fieldwise.interfaces import LlmClient, LlmRequest
from fieldwise.judge.asking import announce, replies, require_use
from fieldwise.judge.rubric import Case, Verdict, judgements, rubric_request
from fieldwise.judge.settings import JudgeSettings
from fieldwise.llm.budget import cost, usual_tokens
from fieldwise.llm.client import BUDGET_SPENT, EndpointClient
from fieldwise.progress import say, track
from fieldwise.prompts import grounded_prompt, without_marks
from fieldwise.records import NOT_STATED, Chunk, Example, PreferencePair
from fieldwise.retrieve.index import passage_text

WHERE = "generate.candidates.endpoint"
JOURNAL = "memo/candidates/journal.jsonl"
JUDGE_WHERE = "generate.candidates.judge.endpoint"
JUDGE_JOURNAL = "memo/candidates/judge.jsonl"
_USUAL_QUESTION = "?" * 80
_USUAL_VERDICT_TOKENS = 120

Verdicts = Mapping[str, Verdict | None]
"""What the judge says of the replies to one question; a reply it was not asked about is absent."""


class Candidate(NamedTuple):
    """A reply of the model, the rules it breaks, and how bad that is."""

    text: str
    faults: tuple[Fault, ...]
    weight: float


class Ranked(NamedTuple):
    """The pairs and what the card says of them."""

    pairs: list[PreferencePair]
    facts: dict[str, JsonValue]


def open_client(settings: CandidateSettings, run_folder: Path) -> EndpointClient:
    """Return who is asked; its journal stands in the run folder's memo, so that no reply is asked for twice."""
    return EndpointClient(settings.endpoint, run_folder / JOURNAL, where=WHERE)


def open_judge(settings: CandidateSettings, run_folder: Path) -> LlmClient | None:
    """Return who judges the replies beside the rules, None where the recipe names nobody."""
    if settings.judge is None:
        return None
    return EndpointClient(settings.judge.endpoint, run_folder / JUDGE_JOURNAL, where=JUDGE_WHERE)


def candidates(
    examples: Sequence[Example],
    client: LlmClient,
    settings: CandidateSettings,
    rng: random.Random,
    judge: LlmClient | None = None,
) -> Ranked:
    """Ask for replies and return a pair for each question that has a right one and a clearly wrong one.

    `client` is an endpoint, or an engine as `llm.local.EngineClient`; `judge` needs `settings.judge`. Raises ServiceError when the budget is spent and the recipe wants all, or nothing came at all.
    """
    able = [(e, known) for e in examples if (known := known_of(e)) is not None]
    asked = rng.sample(able, min(settings.prompts, len(able)))
    requests = [
        LlmRequest(example.conversation[:-1], label=example.id, sample=n)
        for n in range(settings.samples)  # an engine samples all questions together
        for example, _ in asked
    ]
    _announce(client, len(asked), settings)
    given = list(track(client.ask_all(requests), "candidates", len(requests)))
    problems = Counter(r.problem for r in given if r.problem)
    _require_replies(problems, len(given), settings)
    said = [[r.text for r in given[n :: len(asked)] if not r.problem] for n in range(len(asked))]
    rights = [right for _, right in asked]
    verdicts = _verdicts(said, rights, settings.judge, judge) if settings.judge and judge else [{}] * len(asked)
    pairs: list[PreferencePair] = []
    found: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for (example, right), texts, told in zip(asked, said, verdicts, strict=True):
        ranking = ranked(texts, right, told)
        broken.update(fault for candidate in ranking for fault in candidate.faults)
        pair = best_against_worst(example, ranking, settings.margin, judge=judge.name if told and judge else "rules")
        if isinstance(pair, str):
            found[pair] += 1
        else:
            pairs.append(pair)
    facts: dict[str, JsonValue] = {
        "model": client.name,
        "prompts": len(asked),
        "replies": len(given) - problems.total(),
        "failed": dict(sorted(problems.items())),
        "faults": dict(sorted(broken.items())),
        "pairs": len(pairs),
        "without_a_pair": dict(sorted(found.items())),
    }
    if settings.judge and judge:
        facts["judge"] = _judge_facts(judge, verdicts)
    say(f"  {len(pairs)} pairs from {len(asked)} questions and {len(given) - problems.total()} replies")
    return Ranked(list({p.id: p for p in pairs}.values()), facts)


def ranked(said: Sequence[str], known: Known, verdicts: Verdicts | None = None) -> list[Candidate]:
    """Return replies with the rules they break, the best first; equal ones once, those alike in their order."""
    told = verdicts or {}
    found = [(text, judged(faults(text, known), told.get(text))) for text in _distinct(said)]
    return sorted((Candidate(text, broken, weight(broken)) for text, broken in found), key=lambda c: c.weight)


def best_against_worst(
    example: Example, ranking: Sequence[Candidate], margin: float, judge: str = "rules"
) -> PreferencePair | str:
    """Return the pair of a ranking, or why there is none."""
    if not ranking or ranking[0].faults:
        return "no right reply"
    worst = ranking[-1]
    if worst.weight < margin:
        return "no clearly wrong reply"
    return PreferencePair.make(
        prompt=example.conversation[:-1],
        chosen=ranking[0].text,
        rejected=worst.text,
        judge=judge,
        reason=f"of the model's own replies: {', '.join(IN_WORDS[fault] for fault in worst.faults)}",
        chunk_ids=example.chunk_ids,
        document_ids=example.document_ids,
        split=example.split,
    )


def most_cost(chunks: Sequence[Chunk], settings: GenerateSettings) -> str | None:
    """Say about what replies and their judge cost at most; None where nobody is asked. Passages count as long as the median chunk."""
    wish = settings.candidates
    if not wish.prompts or not chunks:
        return None
    text = passage_text(sorted(chunks, key=lambda c: c.tokens)[len(chunks) // 2])
    prompt = grounded_prompt(_USUAL_QUESTION, [text] * (1 + settings.distractors))
    total = cost(usual_tokens(prompt), wish.endpoint.max_tokens, wish.endpoint.price)
    if wish.judge is not None:
        shown = Case("", _USUAL_QUESTION, "", (text,) * (1 + settings.distractors))
        judged_prompt = rubric_request(shown, wish.judge.rule).conversation
        total += cost(usual_tokens(judged_prompt), _USUAL_VERDICT_TOKENS, wish.judge.endpoint.price)
    replies_wanted = wish.prompts * wish.samples
    told = f"candidates: at most about {replies_wanted} replies, {total.tokens * replies_wanted:,} tokens"
    money = total.money * replies_wanted
    return told + (f", {money:.4f} in the currency of the prices" if money else "")


def _distinct(said: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(reply.strip() for reply in said))


def _verdicts(
    said: Sequence[Sequence[str]], known: Sequence[Known], settings: JudgeSettings, judge: LlmClient
) -> list[dict[str, Verdict | None]]:
    """What the judge says of every reply to every question; without a verdict the rules alone decide."""
    texts = [(n, text) for n, replied in enumerate(said) for text in _distinct(replied)]
    cases = [
        Case(f"{n}", known[n].question, without_marks(text), known[n].passages, known[n].answer or NOT_STATED)
        for n, text in texts
    ]
    requests = [rubric_request(case, settings.rule) for case in cases]
    announce(judge, settings.endpoint, requests, "replies")
    found = list(replies(judge, requests, "judge"))
    require_use(found, judge, settings.endpoint, JUDGE_WHERE)
    told: list[dict[str, Verdict | None]] = [{} for _ in said]
    for (n, text), judgement in zip(texts, judgements(cases, found), strict=True):
        told[n][text] = judgement.verdict
    return told


def _judge_facts(judge: LlmClient, verdicts: Sequence[Verdicts]) -> dict[str, JsonValue]:
    counts = Counter(verdict or "not scored" for told in verdicts for verdict in told.values())
    return {"model": judge.name, **dict(sorted(counts.items()))}


def _announce(client: LlmClient, prompts: int, settings: CandidateSettings) -> None:
    if not isinstance(client, EndpointClient):
        return
    endpoint = settings.endpoint
    say(
        f"  candidates: {client.name} at {endpoint.base_url}; {settings.samples} replies to each of {prompts} questions"
    )
    if prompts and not endpoint.is_loopback:
        say(f"  the questions and their passages leave this machine for {endpoint.base_url}")


def _require_replies(problems: Counter[str], total: int, settings: CandidateSettings) -> None:
    if problems[BUDGET_SPENT] and settings.endpoint.budget.when_spent == "stop":
        raise ServiceError(
            "the budget for candidates is spent",
            where=f"{WHERE}.budget",
            found=f"{problems[BUDGET_SPENT]} of {total} replies left",
            fix="Nothing is lost: raise the budget and run the same command again, which asks for the rest alone. "
            f"Or go on with what is there: {WHERE}.budget.when_spent=finish",
        )
    if total and problems.total() == total:
        raise ServiceError(
            "no reply of the model can be used",
            where=WHERE,
            found=", ".join(f"{problem} {count}" for problem, count in problems.most_common()),
            fix="Check base_url and model, or set generate.candidates.prompts: 0.",
        )
