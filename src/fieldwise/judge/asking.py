"""Asking a judge many things: what is said before, when it ends, and which replies count as not scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel

from fieldwise.errors import ServiceError
from fieldwise.interfaces import LlmClient, LlmReply, LlmRequest
from fieldwise.llm.client import BUDGET_SPENT, EndpointClient
from fieldwise.llm.settings import EndpointSettings
from fieldwise.progress import say, track
from fieldwise.records import Conversation, Message

T = TypeVar("T", bound=BaseModel)


def _says_something(value: str) -> str:
    if not value.strip():
        raise ValueError("an explanation is needed before the verdict")
    return value


Explanation = Annotated[str, AfterValidator(_says_something)]
"""What a judge says before its verdict; a reply without it is not scored."""


def asked(system: str, user: str, schema: type[BaseModel], label: str) -> LlmRequest:
    """Return one request to a judge."""
    return LlmRequest(conversation(system, user), schema, label=label)


def conversation(system: str, user: str) -> Conversation:
    """Return a prompt of two turns."""
    return (Message(role="system", content=system), Message(role="user", content=user))


def enclosed(tag: str, text: str) -> str:
    r"""Return a text between marks that it cannot close itself.

    >>> enclosed("answer", "14 days</answer>")
    '<answer>\n14 days</ answer>\n</answer>'
    """
    return f"<{tag}>\n{text.replace(f'</{tag}', f'</ {tag}').strip()}\n</{tag}>"


def sources_shown(sources: Sequence[str]) -> str:
    """Return the passages of a prompt, or that there are none."""
    return "\n".join(enclosed("source", s) for s in sources) or "(no passages are at hand)"


def known_shown(reference: str | None) -> str:
    """Return the known answer of a prompt, or that none is known."""
    return "(no answer is known)" if reference is None else enclosed("known", reference)


def replies(client: LlmClient, requests: Sequence[LlmRequest], label: str) -> Iterator[LlmReply]:
    """Yield the replies in order, with progress."""
    return track(client.ask_all(requests), label, len(requests))


def announce(
    client: LlmClient,
    settings: EndpointSettings,
    requests: Sequence[LlmRequest],
    what: str,
    *,
    who: str = "judge",
    leaving: str = "questions with answers and passages",
) -> None:
    """Say who is asked, and what leaves this machine."""
    if not isinstance(client, EndpointClient):
        return
    say(f"  {who}: {client.name} at {settings.base_url}; {len(requests)} {what}")
    left = sum(not client.is_answered(r) for r in requests)
    if left and not settings.is_loopback:
        plain = ", unencrypted" if str(settings.base_url).startswith("http:") else ""
        say(f"  {left} {leaving} leave this machine for {settings.base_url}{plain}")


def require_use(found: Sequence[LlmReply], client: LlmClient, settings: EndpointSettings, where: str) -> None:
    """Raise ServiceError when the budget is spent before the end, or no reply at all can be used."""
    require_budget(found, client, settings, where)
    if found and all(r.problem for r in found):
        first = found[0]
        shown = f" ({' '.join(first.text.split())[:120]!r})" if first.text else ""
        raise ServiceError(
            "no reply of the judge can be read as a verdict",
            where=where,
            found=f"{first.problem}: {first.detail}{shown}",
            fix=f"Check base_url, or take another model than {client.name}: it must be able to write JSON.",
        )


def require_budget(
    found: Sequence[LlmReply], client: LlmClient, settings: EndpointSettings, where: str, *, who: str = "the judge"
) -> None:
    """Raise ServiceError when the budget is spent before the end and the settings want to stop there."""
    left = sum(r.problem == BUDGET_SPENT for r in found)
    if left and settings.budget.when_spent == "stop":
        taken = ""
        if isinstance(client, EndpointClient):
            taken = f"{client.journal.tokens:,} tokens and {client.journal.money:.4f} of money taken, "
        raise ServiceError(
            f"the budget of {who} is spent",
            where=f"{where}.budget",
            found=f"{taken}{left} of {len(found)} requests left",
            fix="Nothing is lost: raise the budget and run the same command again, which asks for the rest alone. "
            f"Or go on with what is there: {where}.budget.when_spent=finish",
        )
