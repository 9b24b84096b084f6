import random

import pytest

from nano_recipe import questions
from nano_recipe.tasks import NOT_STATED


@pytest.fixture(scope="module")
def asked(documents: list[str]) -> list[questions.Asked]:
    return questions.ask_documents([("clinical", f"Rules {n}", text) for n, text in enumerate(documents)], seed=1)


def test_every_question_is_answered_by_a_span_of_its_passage(asked) -> None:
    assert sum(len(a.pairs) for a in asked) > 30
    assert all(answer in a.text for a in asked for _, answer in a.pairs)


def test_what_is_saved_is_loaded_again(asked, tmp_path) -> None:
    questions.save(tmp_path / "q.json", asked)
    assert questions.load(tmp_path / "q.json") == asked


def test_an_answer_cites_the_only_passage_that_holds_it_and_a_decline_is_true(asked) -> None:
    rng, declined, cited = random.Random(4), 0, 0
    for _ in range(200):
        texts, turns = questions.conversation(asked, rng, 3, 4, 0.3)
        for _, said in turns:
            if said == NOT_STATED:
                declined += 1
            else:
                answer, _, mark = said.rpartition(" [")
                assert [answer in t for t in texts].index(True) == int(mark[0]) - 1
                assert sum(answer in t for t in texts) == 1
                cited += 1
    assert declined > 20 and cited > 100
