"""Sequence-level distillation: a teacher is asked the training questions, and what it replies is learnt once it passes checks.

Kim and Rush 2016, arXiv:1606.07947, section 3.2, with one reply a question.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import ServiceError
from fieldwise.interfaces import LlmClient, LlmReply, LlmRequest, Sampling
from fieldwise.llm.client import BUDGET_SPENT, EndpointClient
from fieldwise.llm.local import EngineClient
from fieldwise.progress import say, track
from fieldwise.prompts import asked_of, cited_numbers, is_declined, without_marks
from fieldwise.records import BaseWeights, Example
from fieldwise.refusals import declines
from fieldwise.support import content_stems, unsupported
from fieldwise.tables import read_records
from fieldwise.train.distil_settings import DistillationSettings

MEMO = "memo/distillation"
_WHERE = "train.distillation.teacher.endpoint"
_MOST_WORDS, _MOST_TIMES = 60, 3  # a reply may be as long as the one, or so often as long as the known reply
_AGREES = 0.5  # of the words of the known answer that carry meaning
_USUAL_REPLY_TOKENS = 60
_CONTEXT_TOKENS = 4096


class Lesson(NamedTuple):
    """The examples to train on, a row for each question that was asked, and counts."""

    examples: list[Example]
    rows: list[dict[str, JsonValue]]
    facts: dict[str, JsonValue]


def taught(
    examples: Sequence[Example], settings: DistillationSettings, teacher: BaseWeights | None, memo: Path
) -> Lesson:
    """Return the examples with the teacher's replies in the place of the known ones, where these pass the checks.

    Each reply is paid once: the journal stands in `memo`. Raises ServiceError for a spent budget, or where no reply can
    be used. Examples with tools keep their known replies.
    """
    asked = [e for e in examples if _may_be_asked(e)]
    requests = [LlmRequest(e.conversation[:-1], label=e.id) for e in asked]
    with _opened(settings, teacher, memo) as client:
        _announce(settings, client, requests)
        replies = list(track(client.ask_all(requests), "teacher", len(requests)))
        left = sum(r.problem == BUDGET_SPENT for r in replies)
        if left and settings.teacher.endpoint is not None and settings.teacher.endpoint.budget.when_spent == "stop":
            raise _spent(client, left, len(requests))
    return lesson_of(examples, {e.id: r for e, r in zip(asked, replies, strict=True)}, settings)


def told_before(settings: DistillationSettings, run: Path) -> str | None:
    """Return what asking an endpoint would take, for a run whose examples are made; None for other teachers. Asks nothing."""
    endpoint = settings.teacher.endpoint
    if endpoint is None:
        return None
    path = run / "3_examples/train.parquet"
    if not path.exists():
        return "distillation: cost of the teacher not known before stage 3 has made examples"
    requests = [LlmRequest(e.conversation[:-1], label=e.id) for e in read_records(path, Example) if _may_be_asked(e)]
    client = EndpointClient(endpoint, run / MEMO / "journal.jsonl", where=_WHERE)
    return f"distillation: {_told(client, requests)}"


def lesson_of(examples: Sequence[Example], replies: dict[str, LlmReply], settings: DistillationSettings) -> Lesson:
    """Return what replies teach, by the id of their example."""
    kept: list[Example] = []
    rows: list[dict[str, JsonValue]] = []
    faults: Counter[str] = Counter()
    most = settings.max_new_tokens if settings.teacher.endpoint is None else settings.teacher.endpoint.max_tokens
    for example in examples:
        reply = replies.get(example.id)
        if reply is None:
            kept.append(example)
            continue
        fault = reply.problem or ("cut_reply" if reply.completion_tokens >= most else fault_of(example, reply.text))
        rows.append({"example": example.id, "reply": reply.text, "rejected": fault or None})
        if fault is None or not fault:
            kept.append(_saying(example, reply.text.strip()))
            continue
        faults[fault] += 1
        if settings.when_rejected == "known":
            kept.append(example)
    used = len(rows) - faults.total()
    facts: dict[str, JsonValue] = {
        "asked": len(rows),
        "learnt": used,
        "rejected": dict(sorted(faults.items())),
        "prompt_tokens": sum(r.prompt_tokens for r in replies.values()),
        "completion_tokens": sum(r.completion_tokens for r in replies.values()),
        "price": round(sum(r.price for r in replies.values()), 6),
    }
    if rows and not used:
        worst = faults.most_common(1)[0]
        raise ServiceError(
            "no reply of the teacher passes the checks",
            where="train.distillation.teacher",
            found=f"{worst[0]} in {worst[1]} of {len(rows)}",
            fix="Look at its replies in memo/distillation/journal.jsonl, and take a teacher that answers as the prompts ask.",
        )
    told = ", ".join(f"{name} {count}" for name, count in faults.most_common(4))
    instead = "the known reply is learnt" if settings.when_rejected == "known" else "left out"
    say(f"  teacher: {used} of {len(rows)} replies are learnt from" + (f"; {instead} for {told}" if faults else ""))
    return Lesson(kept, rows, facts)


# ---------------------------------------------------------------- checks


def fault_of(example: Example, reply: str) -> str | None:
    """Return the rule that a teacher's reply breaks, or None; what is known of the example decides, no model does.

    It declines where the known reply does, in its words, and only there, cites passages that are there and the one with the evidence,
    says nothing its passages or quotes do not hold, and agrees with the known answer in figures and half of its words.
    """
    known = example.conversation[-1].content
    said, wanted = without_marks(reply), without_marks(known)
    if not said:
        return "empty_reply"
    if is_declined(known):
        return None if is_declined(reply) else "declines_otherwise" if declines(said) else "answers_unanswerable"
    if declines(said):
        return "over_refusal"
    if (as_json := _json_keys(wanted)) is not None:
        found = _json_keys(said)
        return "not_json" if found is None else None if found == as_json else "other_keys"
    if len(said.split()) > max(_MOST_WORDS, _MOST_TIMES * len(wanted.split())):
        return "answer_length"
    return _marks_fault(example, reply, known) or unsupported(said, _evidence(example, reply)) or _differs(said, wanted)


def _marks_fault(example: Example, reply: str, known: str) -> str | None:
    wanted, cited = set(cited_numbers(known)), set(cited_numbers(reply))
    asked = asked_of(example.conversation[:-1])
    if asked is not None and any(not 1 <= n <= len(asked[1]) for n in cited):
        return "no_such_passage"
    if wanted and not cited:
        return "uncited"
    return "wrong_citation" if wanted and not wanted & cited else None


def _evidence(example: Example, reply: str) -> str:
    """What a reply must stand on: the passages it cites, or the quotes of a question without passages."""
    asked = asked_of(example.conversation[:-1])
    if asked is not None and asked[1]:
        cited = [n for n in cited_numbers(reply) if 1 <= n <= len(asked[1])]
        return "\n".join([asked[0], *(asked[1][n - 1] for n in cited or range(1, len(asked[1]) + 1))])
    said = [m.content for m in example.conversation if m.role in ("user", "tool")]
    return "\n".join([*said, *(e.quote for e in example.evidence), example.conversation[-1].content])


def _differs(said: str, wanted: str) -> str | None:
    """Another figure than the known answer's, or hardly any of its words."""
    if (rule := unsupported(wanted, said)) in (
        "number_not_in_evidence",
        "date_not_in_evidence",
        "unit_not_in_evidence",
    ):
        return f"lacks_{rule.partition('_')[0]}"
    stems = content_stems(wanted)
    return "differs_from_known" if stems and len(stems & content_stems(said)) < _AGREES * len(stems) else None


def _json_keys(text: str) -> object:
    """The keys of a JSON object, or "list" for a list; None for what is no JSON, or only a number or a word."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return sorted(value) if isinstance(value, dict) else "list" if isinstance(value, list) else None


# ---------------------------------------------------------------- asking


def _may_be_asked(example: Example) -> bool:
    return not example.tools and not any(m.tool_calls or m.role == "tool" for m in example.conversation)


def _saying(example: Example, reply: str) -> Example:
    """The example with another reply; its id stays, so that lineage still leads to its documents."""
    said = (*example.conversation[:-1], example.conversation[-1].model_copy(update={"content": reply}))
    return example.model_copy(update={"conversation": said, "answer": reply})


@contextmanager
def _opened(settings: DistillationSettings, teacher: BaseWeights | None, memo: Path) -> Iterator[LlmClient]:
    if teacher is None:
        assert settings.teacher.endpoint is not None
        yield EndpointClient(settings.teacher.endpoint, memo / "journal.jsonl", where=_WHERE)
        return
    from fieldwise.engine.opening import open_weights

    engine, sha256 = open_weights(teacher.path, context_tokens=_CONTEXT_TOKENS)
    sampling = Sampling(max_tokens=settings.max_new_tokens, temperature=settings.softening, seed=0)
    try:
        yield EngineClient(engine, memo / "journal.jsonl", sampling, name=sha256)
    finally:
        engine.close()


def _announce(settings: DistillationSettings, client: LlmClient, requests: Sequence[LlmRequest]) -> None:
    endpoint = settings.teacher.endpoint
    if endpoint is None or not isinstance(client, EndpointClient):
        say(f"  teacher: {len(requests)} questions")
        return
    say(f"  teacher: {client.name} at {endpoint.base_url}; {_told(client, requests)}")
    left = sum(not client.is_answered(r) for r in requests)
    if left and not endpoint.is_loopback:
        plain = ", unencrypted" if str(endpoint.base_url).startswith("http:") else ""
        say(f"  the text of {left} questions and their passages leaves this machine for {endpoint.base_url}{plain}")


def _told(client: EndpointClient, requests: Sequence[LlmRequest]) -> str:
    left, usual, most = client.estimate(requests, _USUAL_REPLY_TOKENS)
    price = f", about {usual.money:.4f} (at most {most.money:.4f}) in the currency of the prices" if most.money else ""
    return (
        f"{left} of {len(requests)} questions still to be asked, about {usual.tokens:,} tokens (at most {most.tokens:,})"
        + price
    )


def _spent(client: LlmClient, left: int, total: int) -> ServiceError:
    assert isinstance(client, EndpointClient)
    return ServiceError(
        "the budget of the teacher is spent",
        where=f"{_WHERE}.budget",
        found=f"{client.journal.tokens:,} tokens and {client.journal.money:.4f} of money taken, {left} of {total} questions left",
        fix="Nothing is lost: raise the budget and run the same command again, which asks for the rest alone. Or go on "
        f"with what is there: {_WHERE}.budget.when_spent=finish",
    )
