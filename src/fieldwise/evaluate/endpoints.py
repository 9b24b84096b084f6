"""Models behind OpenAI-compatible endpoints as systems of the report: the same questions, over the same passages.

A question that is not answered (a time-out, status 500, a spent budget) is kept with its problem, not scored and counted.
A reply that says nothing, or refuses, is a reply: an endpoint must not win by silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from fieldwise.evaluate.report import AtEndpoint
from fieldwise.evaluate.settings import EndpointSystemSettings
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.judge.asking import announce, require_budget
from fieldwise.llm.client import EndpointClient
from fieldwise.llm.wire import require_key
from fieldwise.progress import say, track
from fieldwise.prompts import closed_prompt
from fieldwise.records import Answer, Question, Timings
from fieldwise.retrieve.grounded import asked_over, grounded_answer
from fieldwise.retrieve.settings import RetrieveSettings

_SAID_NOTHING = frozenset({"empty_reply", "refused"})
_USUAL_REPLY_TOKENS = 30


def where(number: int) -> str:
    """The key of the endpoint of a system, as messages name it."""
    return f"evaluate.endpoints.{number}.endpoint"


def require_keys(systems: Sequence[EndpointSystemSettings]) -> None:
    """Raise ServiceError for a key that is not in the environment."""
    for number, system in enumerate(systems):
        require_key(system.endpoint, where(number))


def ask_endpoints(
    systems: Sequence[EndpointSystemSettings],
    questions: Sequence[Question],
    beside: Sequence[Answer],
    retrieve: RetrieveSettings,
    run: Path,
) -> dict[str, list[Answer]]:
    """Return the answers of each system; what its journal in the run folder holds is not asked again.

    `beside` are the answers of the local system whose passages are shown. Raises ServiceError for what would meet every
    question, and for a budget that is spent before the end.
    """
    found: dict[str, list[Answer]] = {}
    for number, system in enumerate(systems):
        client, requests = _client(number, system, run), _requests(system, questions, beside, retrieve)
        leaving = "questions with their passages" if system.documents else "questions"
        announce(client, system.endpoint, requests, "questions", who=system.name, leaving=leaving)
        replies = list(track(client.ask_all(requests), f"answers of {system.name}", len(requests)))
        require_budget(replies, client, system.endpoint, where(number), who=system.name)
        shown = _shown(system, questions, beside)
        found[system.name] = [_answer(r, system, s) for r, s in zip(replies, shown, strict=True)]
        _tell_unanswered(system.name, found[system.name], replies)
    return found


def estimate(
    systems: Sequence[EndpointSystemSettings],
    questions: Sequence[Question],
    beside: Sequence[Answer],
    retrieve: RetrieveSettings,
    run: Path,
) -> str:
    """Return what asking would take, a line each; without `beside` nothing is known of prompts with passages."""
    lines = []
    for number, system in enumerate(systems):
        if system.documents and len(beside) < len(questions):
            lines.append(f"{system.name}: cost not known before stage 4a has searched the passages for rag_base")
            continue
        requests = _requests(system, questions, beside, retrieve)
        left, usual, most = _client(number, system, run).estimate(requests, _USUAL_REPLY_TOKENS)
        price = f", about {usual.money:.4f} (at most {most.money:.4f}) in the currency of the prices" * bool(most.money)
        lines.append(
            f"{system.name}: {left} of {len(requests)} questions still to be asked, about {usual.tokens:,} tokens "
            f"(at most {most.tokens:,}){price}"
        )
    return "\n".join(lines)


def at_endpoint(system: EndpointSystemSettings) -> AtEndpoint:
    """Return how the report names a system."""
    asked = system.endpoint
    price = asked.price if asked.price.input or asked.price.output else None
    return AtEndpoint(model=asked.model or "", base_url=asked.base_url or "", documents=system.documents, price=price)


def problems(answers: Sequence[Answer]) -> dict[str, int]:
    """Count why questions were not answered."""
    return dict(sorted(Counter(a.problem for a in answers if a.problem).items()))


def _client(number: int, system: EndpointSystemSettings, run: Path) -> EndpointClient:
    return EndpointClient(system.endpoint, run / f"memo/endpoints/{system.name}.jsonl", where=where(number))


def _shown(
    system: EndpointSystemSettings, questions: Sequence[Question], beside: Sequence[Answer]
) -> Iterator[Answer | None]:
    """The local answer over whose passages each question is asked; None without documents."""
    yield from beside if system.documents else [None] * len(questions)


def _requests(
    system: EndpointSystemSettings,
    questions: Sequence[Question],
    beside: Sequence[Answer],
    retrieve: RetrieveSettings,
) -> list[LlmRequest]:
    return [
        LlmRequest(
            closed_prompt(q.question) if shown is None else asked_over(q.question, shown.passages, retrieve), label=q.id
        )
        for q, shown in zip(questions, _shown(system, questions, beside), strict=True)
    ]


def _answer(reply: LlmReply, system: EndpointSystemSettings, shown: Answer | None) -> Answer:
    failed = "" if reply.problem in _SAID_NOTHING else reply.problem
    is_cut = reply.completion_tokens >= system.endpoint.max_tokens
    made = grounded_answer(
        "" if failed else reply.text,
        () if shown is None else shown.passages,
        system.endpoint.model or system.name,
        timings=Timings(),
        finish_reason="error" if failed else "length" if is_cut else "stop",
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )
    noted = {} if shown is None else {"searched": shown.searched, "screened": shown.screened}
    return made.model_copy(update={**noted, "problem": failed})


def _tell_unanswered(name: str, answers: Sequence[Answer], replies: Sequence[LlmReply]) -> None:
    found = [r for a, r in zip(answers, replies, strict=True) if a.problem]
    if found:
        counts = ", ".join(f"{count} {why}" for why, count in problems(answers).items())
        say(
            f"  {name}: {len(found)} of {len(answers)} questions were not answered ({counts}), such as: {found[0].detail}"
        )
