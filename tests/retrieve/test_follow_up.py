from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from test_grounded import Scripted

from fieldwise.errors import ServiceError
from fieldwise.interfaces import LlmReply, LlmRequest, Piece
from fieldwise.records import NOT_STATED, Conversation, Message
from fieldwise.retrieve.follow_up import MOST_CHARS, ByEndpoint, ByModel, Wording, carried, joined, leans_back


def talk(*turns: str) -> Conversation:
    return tuple(Message(role=("user", "assistant")[n % 2], content=text) for n, text in enumerate(turns))


VISITS = talk("When do visitors of the maternity ward leave?", "20:00 [1]", "And children?")


def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("turns", "query"),
    [
        (VISITS, "And children? 20 00 visitors maternity ward leave"),
        (
            talk("Who is the site manager?", "Dr Osei [2]", "What is the extension to reach her on at night?"),
            "What is the extension to reach her on at night? Dr Osei site manager",
        ),
        (
            talk("How is warfarin stored?", NOT_STATED, "What about heparin?"),
            "What about heparin? warfarin stored",
        ),
        (
            talk("How is warfarin stored?", "cold", "Who signs the key book of the pharmacy store room?"),
            "Who signs the key book of the pharmacy store room?",
        ),
        (
            talk("What is the dose of LMWH?", "40 mg", "And at night?", "20 mg", "Why is that?"),
            "Why is that? 20 mg night dose LMWH",
        ),
        (talk("And children?"), "And children?"),
    ],
)
def test_a_question_takes_the_words_that_it_leans_on(turns: Conversation, query: str) -> None:
    assert carried(turns).query == query
    assert carried(turns).by == ("question" if query == turns[-1].content else "carried")


def test_a_long_history_lends_only_a_few_words() -> None:
    long = talk("Explain " + " ".join(f"word{chr(97 + n)}{n}" for n in range(26)) * 5, "yes", "And that?")
    assert len(carried(long).query) <= MOST_CHARS


def test_a_short_question_is_joined_to_the_one_before_it() -> None:
    assert joined(VISITS).query == "When do visitors of the maternity ward leave? And children?"
    assert (joined(VISITS).by, joined(VISITS[:1]).by) == ("joined", "question")


def test_a_question_that_stands_by_itself_is_known() -> None:
    assert not leans_back("Which form must a tenant send when the heating fails?")


def test_the_model_words_the_search() -> None:
    engine = Scripted("When do children leave the maternity ward?")
    found = ByModel(engine, 5.0)(VISITS, never)
    assert (found.query, found.by, found.reason) == ("When do children leave the maternity ward?", "scripted", "")
    assert "Passages" not in engine.shown[-1][-1].content and "And children?" in engine.shown[-1][-1].content


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (NOT_STATED, "gave no wording"),
        ("   ", "gave no wording"),
        ("The capital of France is Paris", "does not hold"),
        ("children visitors " * 40, "longer than 400"),
    ],
)
def test_a_wording_that_is_none_is_not_taken(reply: str, reason: str) -> None:
    found = ByModel(Scripted(reply), 5.0)(VISITS, never)
    assert found.query == carried(VISITS).query and reason in found.reason


def test_a_model_that_takes_too_long_is_not_waited_for() -> None:
    class Endless(Scripted):
        def stream(self, prompt, sampling, is_cancelled=never, *, rated=()) -> Iterator[Piece]:
            while not is_cancelled():
                yield Piece(" children", 1)
            yield Piece("", 0, "cancelled")

    found = ByModel(Endless("x"), 0.05)(VISITS, never)
    assert found.by == "carried" and "longer than 0.05 s" in found.reason


def test_a_conversation_longer_than_the_context_is_not_given_to_the_model() -> None:
    found = ByModel(Scripted("x", context_tokens=20), 5.0)(VISITS, never)
    assert "longer than the model's context" in found.reason


def test_the_first_question_is_searched_as_it_is() -> None:
    engine = Scripted("something else")
    assert ByModel(engine, 5.0)(VISITS[:1], never).query == VISITS[0].content
    assert engine.shown == []


class Client:
    name = "wordy"

    def __init__(self, reply: LlmReply | ServiceError) -> None:
        self.reply, self.asked = reply, []

    def ask_all(self, requests: Sequence[LlmRequest]) -> Iterator[LlmReply]:
        self.asked += requests
        if isinstance(self.reply, ServiceError):
            raise self.reply
        yield self.reply


def test_an_endpoint_words_the_search() -> None:
    client = Client(LlmReply(value=Wording(query="children visitors leave maternity ward")))
    found = ByEndpoint(client)(VISITS, never)
    assert (found.query, found.by) == ("children visitors leave maternity ward", "wordy")
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(ServiceError("no connection"), "no connection"), (LlmReply(problem="not_json"), "not_json")],
)
def test_an_endpoint_that_fails_leaves_the_carried_words(reply: LlmReply | ServiceError, reason: str) -> None:
    found = ByEndpoint(Client(reply))(VISITS, never)
    assert found.by == "carried" and reason in found.reason
