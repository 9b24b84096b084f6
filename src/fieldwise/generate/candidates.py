"""On-policy pairs: replies of the model itself, ranked by the rules that tell what is wrong with one.

Only questions whose right reply is known are asked. The chosen reply breaks no rule, the rejected one breaks rules of at
least `margin` weight, and both are what the model said: nothing is written for it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import ServiceError
from fieldwise.generate.reply_rules import IN_WORDS, Fault, Known, faults, known_of, weight
from fieldwise.generate.settings import CandidateSettings
from fieldwise.interfaces import LlmClient, LlmRequest
from fieldwise.llm.client import BUDGET_SPENT, EndpointClient
from fieldwise.progress import say, track
from fieldwise.records import Example, PreferencePair

WHERE = "generate.candidates.endpoint"
JOURNAL = "memo/candidates/journal.jsonl"


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


def candidates(
    examples: Sequence[Example], client: LlmClient, settings: CandidateSettings, rng: random.Random
) -> Ranked:
    """Ask for replies and return a pair for each question that has a right one and a clearly wrong one.

    `client` is an endpoint, or an engine as `llm.local.EngineClient`. Raises ServiceError when the budget is spent and the recipe wants all, or nothing came at all.
    """
    able = [(e, known) for e in examples if (known := known_of(e)) is not None]
    asked = rng.sample(able, min(settings.prompts, len(able)))
    requests = [
        LlmRequest(example.conversation[:-1], label=example.id, sample=n)
        for n in range(settings.samples)  # an engine samples all questions together
        for example, _ in asked
    ]
    _announce(client, len(asked), settings)
    replies = list(track(client.ask_all(requests), "candidates", len(requests)))
    problems = Counter(r.problem for r in replies if r.problem)
    _require_replies(problems, len(replies), settings)
    pairs: list[PreferencePair] = []
    found: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for n, (example, known) in enumerate(asked):
        said = [r.text for r in replies[n :: len(asked)] if not r.problem]
        ranking = ranked(said, known)
        broken.update(fault for candidate in ranking for fault in candidate.faults)
        pair = best_against_worst(example, ranking, settings.margin)
        if isinstance(pair, str):
            found[pair] += 1
        else:
            pairs.append(pair)
    facts: dict[str, JsonValue] = {
        "model": client.name,
        "prompts": len(asked),
        "replies": len(replies) - problems.total(),
        "failed": dict(sorted(problems.items())),
        "faults": dict(sorted(broken.items())),
        "pairs": len(pairs),
        "without_a_pair": dict(sorted(found.items())),
    }
    say(f"  {len(pairs)} pairs from {len(asked)} questions and {len(replies) - problems.total()} replies")
    return Ranked(list({p.id: p for p in pairs}.values()), facts)


def ranked(replies: Sequence[str], known: Known) -> list[Candidate]:
    """Return replies with the rules they break, the best first; equal ones once, those alike in their order."""
    found = [(text, faults(text, known)) for text in dict.fromkeys(r.strip() for r in replies)]
    return sorted((Candidate(text, broken, weight(broken)) for text, broken in found), key=lambda c: c.weight)


def best_against_worst(example: Example, ranking: Sequence[Candidate], margin: float) -> PreferencePair | str:
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
        judge="rules",
        reason=f"of the model's own replies: {', '.join(IN_WORDS[fault] for fault in worst.faults)}",
        chunk_ids=example.chunk_ids,
        document_ids=example.document_ids,
        split=example.split,
    )


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
