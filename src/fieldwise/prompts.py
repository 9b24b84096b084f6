"""The words of every prompt: one answer style for training, evaluation and serving, so that comparisons are fair."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fieldwise.records import NOT_STATED, Conversation, Message

CLOSED_SYSTEM = f"Answer in a few words, without explanation. If you do not know, reply: {NOT_STATED}"
ANSWER_STYLE = "Keep the answer short and in their words."
"""How answers over passages are worded: told to the models that answer and to the teacher that writes examples."""
GROUNDED_SYSTEM = (
    f"Answer from the passages only. {ANSWER_STYLE} Put the number of the passage after it, like [1]. "
    f"If the passages do not say, reply: {NOT_STATED}"
)

QUOTED_SYSTEM = (
    f"Answer from the passages only. {ANSWER_STYLE} Put the number of the passage after it, like [1], and then the "
    f"sentence that says so in quotation marks. If the passages do not say, reply: {NOT_STATED}"
)
EXTRACTION_SYSTEM = (
    f"Extract from the passages only. {ANSWER_STYLE} Reply with JSON that fits the schema and nothing else. "
    "Write null for what the passages do not say."
)
TOOLS_SYSTEM = (
    "If a tool fits the request, call it with the values that are given. If a value that it needs is missing, ask for "
    f"it. If no tool fits, answer from the passages only. {ANSWER_STYLE} Put the number of the passage after it, like "
    f"[1]. If the passages do not say, reply: {NOT_STATED}"
)

STRUCTURED_SYSTEM = f"{EXTRACTION_SYSTEM} If they say none of it, reply: {NOT_STATED}"
"""As for extraction, with a way to say that there is nothing to extract, which a schema does not have."""

FOLLOW_UP_SYSTEM = (
    "Word a search for the last question of a conversation, so that it can be understood without the turns before it: "
    "put in what it refers to, and keep its own words. Add nothing that answers it. Reply with the search alone."
)
SEARCH_SYSTEM = (
    "Word a search for the question: its subject, the names in it, and words that documents would use for the same. "
    "Add nothing that answers it. Reply with JSON that fits the schema and nothing else."
)

_LISTED = "Passages:\n"
_SCHEMA = "\n\nSchema:\n"
_ASKS = "\n\nQuestion: "
_MARK = re.compile(r"\s*\[(\d)\]")


def closed_prompt(question: str) -> Conversation:
    """A question without passages: what the weights alone know."""
    return (Message(role="system", content=CLOSED_SYSTEM), Message(role="user", content=question))


def grounded_prompt(question: str, passages: Sequence[str]) -> Conversation:
    """A question over numbered passages; each passage is the label of its chunk and its text."""
    listed = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(passages, 1))
    return (
        Message(role="system", content=GROUNDED_SYSTEM),
        Message(role="user", content=f"{_LISTED}{listed}{_ASKS}{question}"),
    )


def quoted_prompt(question: str, passages: Sequence[str]) -> Conversation:
    """A question over numbered passages whose answer also quotes the sentence it stands in."""
    return (Message(role="system", content=QUOTED_SYSTEM), grounded_prompt(question, passages)[1])


def extraction_prompt(task: str, passages: Sequence[str], schema: str) -> Conversation:
    """Numbered passages, a JSON schema as text, and what to extract."""
    listed = grounded_prompt("", passages)[1].content.rpartition(_ASKS)[0]
    user = f"{listed}{_SCHEMA}{schema}{_ASKS}{task}"
    return (Message(role="system", content=EXTRACTION_SYSTEM), Message(role="user", content=user))


def structured_prompt(question: str, passages: Sequence[str], schema: str) -> Conversation:
    """A question over numbered passages that is answered with JSON of a schema, or declined."""
    return (Message(role="system", content=STRUCTURED_SYSTEM), extraction_prompt(question, passages, schema)[1])


def follow_up_prompt(turns: Conversation) -> Conversation:
    """A conversation for whose last question a model words a search; the turns are data, whatever they say."""
    names = {"user": "Question", "assistant": "Answer"}
    told = "\n".join(f"{names[m.role]}: {' '.join(m.content.split())}" for m in turns)
    return (Message(role="system", content=FOLLOW_UP_SYSTEM), Message(role="user", content=f"{told}\nSearch:"))


def search_query_prompt(question: str) -> Conversation:
    """A question for which a model words a search; the question is data, whatever it says."""
    return (Message(role="system", content=SEARCH_SYSTEM), Message(role="user", content=f"Question: {question}"))


def tools_prompt(request: str, passages: Sequence[str] = ()) -> Conversation:
    """A request to someone who has tools; the tools themselves stand beside the conversation."""
    user = grounded_prompt(request, passages)[1] if passages else Message(role="user", content=request)
    return (Message(role="system", content=TOOLS_SYSTEM), user)


def asked_of(prompt: Conversation) -> tuple[str, tuple[str, ...]] | None:
    """Return question and passages of a prompt made by `closed_prompt` or `grounded_prompt`; None for any other."""
    if [m.role for m in prompt] != ["system", "user"]:
        return None
    user = prompt[1].content
    if prompt == closed_prompt(user):
        return user, ()
    listed, asks, question = user.rpartition(_ASKS)
    passages: list[str] = []
    rest = f"\n\n{listed.removeprefix(_LISTED)}"
    while rest.startswith(mark := f"\n\n[{len(passages) + 1}] "):
        found = rest.find(f"\n\n[{len(passages) + 2}] ", len(mark))
        passages.append(rest[len(mark) : found if found >= 0 else None])
        rest = rest[found:] if found >= 0 else ""
    return (question, tuple(passages)) if asks and prompt == grounded_prompt(question, passages) else None


def same_passages(conversations: Sequence[Conversation], most: int = 8) -> list[list[Conversation]]:
    """Put questions over the same passages together, at most `most`, in order of first appearance.

    A conversation without passages stays alone.
    """
    groups: list[list[Conversation]] = []
    open_: dict[tuple[str, str], list[Conversation]] = {}
    for conversation in conversations:
        passages, asks, _ = conversation[1].content.rpartition(_ASKS) if len(conversation) == 3 else ("", "", "")
        group = open_.get((conversation[0].content, passages)) if asks else None
        if group is None or len(group) == most:
            group = []
            groups.append(group)
            if asks:
                open_[conversation[0].content, passages] = group
        group.append(conversation)
    return groups


def joined(group: Sequence[Conversation]) -> Conversation:
    """Make one conversation of questions over the same passages, which are then read once for all of them."""
    first, *rest = group
    turns = ((Message(role="user", content=c[1].content.rpartition(_ASKS)[2]), c[2]) for c in rest)
    return (*first, *(message for turn in turns for message in turn))


def without_marks(text: str) -> str:
    """Return an answer without its citation marks.

    >>> without_marks("14 days [2]")
    '14 days'
    """
    return _MARK.sub("", text).strip()


def cited_numbers(text: str) -> list[int]:
    """Return the passage numbers an answer cites, in order, without repeats.

    >>> cited_numbers("14 days [2][1] [2]")
    [2, 1]
    """
    return list(dict.fromkeys(int(n) for n in _MARK.findall(text)))


def is_declined(text: str) -> bool:
    """Tell whether an answer says that the documents do not tell."""
    return (
        without_marks(text).casefold().rstrip(". ") == NOT_STATED.casefold().rstrip(". ") or without_marks(text) == ""
    )
