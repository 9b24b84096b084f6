import json
import random
import re

import pytest

from nano_recipe import real
from nano_recipe.forms import Frame, read_forms, slots
from nano_recipe.pools import CLOSED, Pools, gerund, in_test
from nano_recipe.tasks import NOT_STATED, Context
from nano_recipe.toolcalls import NO_TOOL, make_call, public
from nano_recipe.world import Passage


def test_there_are_many_forms_and_a_fifth_of_them_is_held_out(frames: list[Frame]) -> None:
    assert len(frames) > 150
    for kind in ("sentences", "questions"):
        used, held = (sum(len(getattr(f, prefix + kind)) for f in frames) for prefix in ("", "held_"))
        assert 0.15 < held / (used + held) < 0.25
    assert 8 <= sum(f.is_held_out for f in frames) <= 40


@pytest.mark.parametrize("line", ["+ {v} and {v}", "? What is {v}?", "< Who is {s} of {v}?", "! what"])
def test_a_malformed_form_is_told_with_file_and_line(tmp_path, line: str) -> None:
    (tmp_path / "x.txt").write_text(f"frame a\nabout {{s}}: patient\nvalue {{v}}: person\n{line}\n")
    with pytest.raises(SystemExit, match=r"x\.txt:4"):
        read_forms(tmp_path)


def test_no_value_is_on_both_sides(harvested) -> None:
    sides = {split: Pools(harvested, split, random.Random(1)) for split in ("train", "test")}
    for kind in sides["train"].makers:
        if kind in CLOSED:
            continue
        values = {split: {pools.draw(kind) for _ in range(40)} for split, pools in sides.items()}
        assert sum(in_test(v) for v in values["train"]) <= 2, kind
        assert not values["train"] & values["test"] or kind in (
            "word",
            "name",
            "np",
            "event",
            "item",
            "colour",
            "shift",
        ), kind


@pytest.mark.parametrize(
    ("act", "form"),
    [
        ("return the badge", "returning the badge"),
        ("submit it", "submitting it"),
        ("lie down", "lying down"),
        ("see the list", "seeing the list"),
        ("file a report", "filing a report"),
    ],
)
def test_gerunds(act: str, form: str) -> None:
    assert gerund(act) == form


def conversations(composer, count: int = 250, **options):
    for seed in range(count):
        composer.rng.seed(seed)
        passages, turns = composer.conversation(
            composer.rng.randint(1, 6), composer.rng.choice((1, 1, 2, 4)), **options
        )
        yield passages, turns


def test_every_answer_stands_in_the_passage_it_cites(composer) -> None:
    checked = 0
    for passages, turns in conversations(composer):
        for turn in turns:
            if turn.kind in (
                "name",
                "number",
                "bind",
                "reverse",
                "generic",
                "two_hop",
                "follow_up",
                "quote",
                "real",
                "real_quote",
            ):
                answer, _, mark = turn.answer.rpartition(" [")
                assert answer.strip('"') in passages[int(mark[0]) - 1].text, turn
                checked += 1
    assert checked > 400


def test_what_is_declined_is_really_not_there(composer) -> None:
    declined = 0
    for _, turns in conversations(composer, real_share=0.0):
        for turn in turns:
            assert (turn.answer == NOT_STATED) == turn.kind.startswith("absent")
            declined += turn.kind == "absent_entity"
    assert declined > 60


def test_an_absent_thing_is_asked_with_a_name_no_passage_holds(composer) -> None:
    from nano_recipe.tasks import ask_absent_entity

    asked = 0
    for seed in range(60):
        composer.rng.seed(seed)
        passage = composer.writer.passage(4)
        context = Context(composer.writer, [passage])
        turn = ask_absent_entity(context)
        if turn is None:
            continue
        asks_of_facts = {
            composer.writer.fill(form, fact)
            for fact in passage.facts
            for form in (*fact.frame.questions, *fact.frame.held_questions)
        }
        assert turn.question not in asks_of_facts or turn.question.count(" ") < 3
        asked += 1
    assert asked > 20


def test_json_answers_are_valid_and_hold_values_of_the_passages_or_null(composer) -> None:
    seen = 0
    for passages, turns in conversations(composer):
        text = "\n".join(p.text for p in passages)
        for turn in turns:
            if turn.kind == "json":
                value = json.loads(turn.answer)
                assert all(v is None or v in text for v in value.values())
                assert all(name in turn.question for name in value)
                seen += 1
    assert seen > 20


def test_held_out_forms_are_never_said_in_training(frames, harvested, documents) -> None:
    from nano_recipe.rows import Composer

    rng = random.Random(3)
    composer = Composer(frames, Pools(harvested, "train", rng), rng, documents)
    held = {re.sub(r"\{\w+\^?\}", "{}", f) for frame in frames for f in frame.held_sentences if slots(f) == {"v"}}
    for _ in range(150):
        for fact in composer.writer.passage(5).facts:
            shape = fact.sentence.replace(fact.value, "{}").replace(fact.value[:1].upper() + fact.value[1:], "{}")
            assert shape not in held


def test_real_text_is_asked_in_its_own_words(documents) -> None:
    rng = random.Random(5)
    kinds = set()
    for _ in range(200):
        passages = [Passage("", real.windows(rng.choice(documents), rng, 500))]
        turn = real.ask(passages, 1, rng, cite=True)
        if turn is not None:
            assert turn.answer.removesuffix(" [1]").strip('"') in passages[0].body
            kinds.add(turn.kind)
    assert kinds == {"real", "real_quote"}


def test_a_tool_call_names_an_offered_tool_and_only_its_parameters(harvested) -> None:
    rng = random.Random(7)
    pools = Pools(harvested, "train", rng)
    answers = set()
    for _ in range(200):
        call = make_call(pools, rng)
        offered = {t["function"]["name"]: t["function"]["parameters"] for t in map(public, call.tools)}
        assert "_kind" not in json.dumps(list(map(public, call.tools)))
        if call.answer.startswith("<tool_call>"):
            body = json.loads(call.answer.split("\n")[1])
            parameters = offered[body["name"]]
            assert set(parameters["required"]) <= set(body["arguments"]) <= set(parameters["properties"])
            assert all(str(v) in call.request for v in body["arguments"].values())
            answers.add("call")
        else:
            answers.add("none" if call.answer == NO_TOOL else "ask back")
    assert answers == {"call", "none", "ask back"}


def test_the_same_seed_writes_the_same_world(composer) -> None:
    made = []
    for _ in range(2):
        composer.rng.seed(99)
        passages, turns = composer.conversation(5, 2)
        made.append(([p.text for p in passages], turns))
    assert made[0] == made[1]
