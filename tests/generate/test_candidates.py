import json
import random
from pathlib import Path
from typing import Any

import pytest

from fieldwise.errors import ServiceError
from fieldwise.generate.candidates import Ranked, best_against_worst, candidates, ranked
from fieldwise.generate.reply_rules import WEIGHTS, Known
from fieldwise.generate.settings import CandidateSettings
from fieldwise.interfaces import LlmReply, LlmRequest
from fieldwise.llm.fake import FakeLlm
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.records import NOT_STATED, Example, Message, PreferencePair

LOG, BAG = "The log is kept for 14 days.", "The bag is red, and it is kept for 3 weeks."
KNOWN = Known("How long is the log kept?", (LOG, BAG), 1, "14 days")


def example(question: str, reply: str, *passages: str) -> Example:
    prompt = grounded_prompt(question, passages) if passages else closed_prompt(question)
    return Example.make(
        question=question,
        answer=reply.partition(" [")[0],
        kind="fact",
        conversation=(*prompt, Message(role="assistant", content=reply)),
        document_ids=("doc_a",),
        chunk_ids=("chk_a",),
    )


ANSWERED = example("How long is the log kept?", "14 days [1]", LOG, BAG)
DECLINED = example("Who signs the log?", NOT_STATED, LOG, BAG)
CLOSED = example("How long is the log kept?", "14 days")
ODD = example("How long is the log kept?", "15 days [1]", LOG, BAG)  # its own reply is wrong


def settings(**more: Any) -> CandidateSettings:
    endpoint = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    return CandidateSettings.model_validate({"prompts": 10, "endpoint": endpoint, **more})


def ask(replies: dict[str, list[str]], *examples: Example, **more: Any) -> tuple[Ranked, FakeLlm]:
    def respond(request: LlmRequest) -> str:
        return replies[request.conversation[-1].content.rpartition("Question: ")[2]][request.sample]

    client = FakeLlm(respond, "own-model")
    return candidates(examples, client, settings(**more), random.Random(0)), client


def test_replies_are_ranked_by_the_rules_they_break() -> None:
    said = [
        "15 days [1]",
        "14 days",
        " 14 days [1]",
        "It is kept for 14 days [1]",
        "15 days",
        "14 days [1]",
        NOT_STATED,
    ]
    assert [(c.text, c.weight) for c in ranked(said, KNOWN)] == [
        ("14 days [1]", 0),
        ("It is kept for 14 days [1]", WEIGHTS["other_words"]),
        ("14 days", WEIGHTS["no_citation"]),
        ("15 days [1]", WEIGHTS["number"]),
        (NOT_STATED, WEIGHTS["declines"]),
        ("15 days", WEIGHTS["number"] + WEIGHTS["no_citation"]),
    ]


def test_a_pair_has_a_right_reply_and_one_that_is_clearly_wrong() -> None:
    pair = best_against_worst(ANSWERED, ranked(["14 days [1]", "15 days [2]", "14 days"], KNOWN), 2)
    assert isinstance(pair, PreferencePair)
    assert (pair.chosen, pair.rejected, pair.judge) == ("14 days [1]", "15 days [2]", "rules")
    assert (
        pair.reason == "of the model's own replies: cites the wrong passage, gives a number that its passage does not"
    )
    assert pair.prompt == ANSWERED.conversation[:-1] and pair.chunk_ids == ("chk_a",)


@pytest.mark.parametrize(
    ("said", "margin", "told"),
    [
        (["15 days [1]", "14 days"], 2, "no right reply"),
        ([], 2, "no right reply"),
        (["14 days [1]", "it is 14 days [1]"], 2, "no clearly wrong reply"),
        (["14 days [1]", "14 days"], 3, "no clearly wrong reply"),
        (["14 days [1]"] * 3, 1, "no clearly wrong reply"),
    ],
)
def test_without_a_clear_margin_there_is_no_pair(said: list[str], margin: float, told: str) -> None:
    assert best_against_worst(ANSWERED, ranked(said, KNOWN), margin) == told


def test_only_questions_whose_right_reply_is_known_are_asked_and_each_as_often_as_wanted() -> None:
    replies = {
        "How long is the log kept?": ["14 days [1]", "14 weeks [1]", "14 days [1]"],
        "Who signs the log?": ["The nurse [1]", NOT_STATED, NOT_STATED],
    }
    found, client = ask(replies, ANSWERED, DECLINED, CLOSED, ODD, samples=3)
    assert sorted((r.label, r.sample) for r in client.asked) == sorted(
        (e.id, n) for e in (ANSWERED, DECLINED) for n in range(3)
    )
    assert {(p.chosen, p.rejected) for p in found.pairs} == {
        ("14 days [1]", "14 weeks [1]"),
        (NOT_STATED, "The nurse [1]"),
    }
    assert found.facts == {
        "model": "own-model",
        "prompts": 2,
        "replies": 6,
        "failed": {},
        "faults": {"answers_unstated": 1, "unit": 1},
        "pairs": 2,
        "without_a_pair": {},
    }


def test_no_more_questions_are_asked_than_the_recipe_says() -> None:
    many = [example(f"How long is log {n} kept?", "14 days [1]", LOG, BAG) for n in range(9)]
    found, client = ask({e.question: ["14 days [1]"] * 2 for e in many}, *many, prompts=4, samples=2)
    assert len(client.asked) == 8 and len({r.label for r in client.asked}) == 4
    assert found.facts["without_a_pair"] == {"no clearly wrong reply": 4}


class Failing(FakeLlm):
    def ask_all(self, requests: Any) -> Any:
        for request in requests:
            yield LlmReply(problem=self._respond(request), detail="no")


@pytest.mark.parametrize(
    ("problem", "told"),
    [("empty_reply", "no reply of the model can be used"), ("budget_spent", "budget for candidates")],
)
def test_a_model_that_says_nothing_and_a_spent_budget_stop_with_what_to_do(problem: str, told: str) -> None:
    with pytest.raises(ServiceError, match=told):
        candidates([ANSWERED], Failing(lambda _: problem), settings(), random.Random(0))


def test_some_failed_replies_are_counted_and_left_out() -> None:
    client = Failing(lambda r: "prompt_too_long" if r.sample else "")
    found = candidates([ANSWERED], client, settings(samples=2), random.Random(0))
    assert found.facts["failed"] == {"prompt_too_long": 1} and found.facts["replies"] == 1 and found.pairs == []


# ---------------------------------------------------------------- a judge


def judging(**verdicts: str) -> FakeLlm:
    """A judge that says of an answer what stands here, by its first word; of others that it cannot tell."""

    def respond(request: LlmRequest) -> str:
        answer = request.conversation[-1].content.rpartition("<answer>")[2].split()[0]
        return json.dumps({"explanation": "So it is.", "verdict": verdicts.get(answer, "cannot tell")})

    return FakeLlm(respond, "a-judge")


def judged_pairs(said: list[str], judge: FakeLlm, **more: Any) -> Ranked:
    client = FakeLlm(lambda request: said[request.sample], "own-model")
    wish = settings(samples=len(said), judge={"endpoint": {"base_url": "http://127.0.0.1:2/v1", "model": "j"}}, **more)
    return candidates([ANSWERED], client, wish, random.Random(0), judge)


def test_a_judge_finds_what_the_rules_cannot_and_lets_other_words_pass() -> None:
    right, wrong = "It is kept for 14 days [1]", "14 days [1]"
    found = judged_pairs([right, wrong], judging(It="right", **{"14": "wrong"}))
    assert [(p.chosen, p.rejected, p.judge) for p in found.pairs] == [(right, wrong, "a-judge")]
    assert found.pairs[0].reason == "of the model's own replies: is wrong by the judge"
    assert found.facts["judge"] == {"model": "a-judge", "right": 1, "wrong": 1}


def test_what_a_judge_cannot_tell_is_counted_and_left_to_the_rules() -> None:
    judge = judging(**{"15": "right"})  # which the passage contradicts
    found = judged_pairs(["14 days [1]", "15 days [1]", "14 days [1]"], judge)
    assert [(p.chosen, p.rejected) for p in found.pairs] == [("14 days [1]", "15 days [1]")]
    assert found.facts["judge"] == {"model": "a-judge", "cannot tell": 1, "right": 1}
    assert len(judge.asked) == 2 and all(LOG in r.conversation[-1].content for r in judge.asked)


def test_a_judge_whose_replies_are_no_verdicts_ends_it() -> None:
    with pytest.raises(ServiceError, match=r"^generate\.candidates\.judge\.endpoint: no reply of the judge"):
        judged_pairs(["14 days [1]", "15 days [1]"], FakeLlm(lambda _: "I think so.", "a-judge"))


# ---------------------------------------------------------------- an engine


def test_an_engine_is_asked_like_an_endpoint_and_nothing_twice(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tiny_models import make_tiny_llama

    from fieldwise.engine.transformers_engine import TransformersEngine
    from fieldwise.interfaces import Sampling
    from fieldwise.llm.local import EngineClient

    engine = TransformersEngine(make_tiny_llama(tmp_path / "model", hidden=64, ffn=128), threads=1)
    journal, sampling = tmp_path / "journal.jsonl", Sampling(max_tokens=6, temperature=1.0, seed=3)
    prompts = [ANSWERED.conversation[:-1], DECLINED.conversation[:-1]]
    requests = [LlmRequest(p, label="x", sample=n) for n in range(3) for p in prompts]
    replies = [r.text for r in EngineClient(engine, journal, sampling).ask_all(requests)]
    assert len(set(replies[::2])) > 1  # samples of one prompt differ
    assert len(journal.read_text().splitlines()) == 6

    torn = journal.read_bytes()[:-40]  # killed while the last line was written
    journal.write_bytes(torn)
    asked: list[int] = []
    generate = engine.generate
    engine.generate = lambda p, s, **k: (asked.append(len(p)), generate(p, s, **k))[1]  # type: ignore[method-assign]
    again = EngineClient(engine, journal, sampling)
    assert [r.text for r in again.ask_all(requests)][:5] == replies[:5] and asked == [1]
    assert len(list(EngineClient(engine, journal, sampling).ask_all(requests))) == 6 and asked == [1]

    long = LlmRequest((Message(role="user", content="word " * 2000),))
    told = list(again.ask_all([long, requests[0]]))
    assert [r.problem for r in told] == ["prompt_too_long", ""] and told[1].text == replies[0]
    found = candidates([ANSWERED, DECLINED], again, settings(samples=3), random.Random(0))
    assert found.facts["prompts"] == 2 and found.facts["model"] == engine.model_id
    engine.close()
