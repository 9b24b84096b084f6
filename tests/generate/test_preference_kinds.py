"""Each kind of pair by hand-checked examples, and the proof that a pair of one kind is no pair of another."""

import json
import random
from pathlib import Path

import pytest

from fieldwise.data.conversion import convert_set
from fieldwise.errors import RecipeError
from fieldwise.generate.lengths import length_bias
from fieldwise.generate.preference_kinds import KINDS, Answers, Maker, Sides, proves, reason_of, turns_of
from fieldwise.generate.preferences import pairs_of_kinds
from fieldwise.generate.reply_rules import Known, faults, known_of
from fieldwise.generate.settings import GenerateSettings, PreferenceKind
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.recipe import load_recipe
from fieldwise.records import NOT_STATED, Conversation, Evidence, Example, Message, PreferencePair, ToolCall
from fieldwise.refusals import declines
from fieldwise.tables import write_records

LOG = "Fridge log\nThe log is kept for 14 days. It must not leave the ward. The round of 12 March 2024 starts at 08:30."
BAG = "Blood bags\nThe bag is kept for 3 weeks in the cellar. Petra Lind opens the east door on Monday."
QUESTION = "How long is the log kept?"


def example(question: str, reply: str, passages: tuple[str, ...] = (LOG, BAG), **more: object) -> Example:
    prompt = grounded_prompt(question, passages) if passages else closed_prompt(question)
    return made(prompt, reply, question, **more)


def made(prompt: Conversation, reply: str, question: str = "?", **more: object) -> Example:
    answer = reply.rpartition(" [")[0] or reply
    values = {"question": question, "answer": answer, "kind": "fact", "style": "grounded", "chunk_ids": ("log", "bag")}
    conversation = (*prompt, Message(role="assistant", content=reply))
    return Example.make(**{**values, "conversation": conversation, "document_ids": ("doc_a",), **more})  # type: ignore[arg-type]


ANSWERED = example(QUESTION, "14 days [1]", evidence=(Evidence(chunk_id="log", quote="The log is kept for 14 days."),))
MEASURED = example(
    "How long is the bag kept?", "3 weeks in the cellar [2]", evidence=(Evidence(chunk_id="bag", quote=BAG),)
)
FORBIDDEN = example("What must the log not do?", "It must not leave the ward [1]")
DATED = example("When does the round start?", "on 12 March 2024 starts at 08:30 [1]".replace("on ", "", 1))
DECLINED = example("Who signs the log?", NOT_STATED, kind="unanswerable")
ELSEWHERE = example("Who signs the log?", "the ward clerk", (), style="closed")
ALIKE = example("How long is the list kept?", "5 months", (), style="closed")
TRAIN = [ANSWERED, MEASURED, FORBIDDEN, DATED, DECLINED, ELSEWHERE, ALIKE]


def pairs(kind: PreferenceKind, *examples: Example) -> list[PreferencePair]:
    return list(Maker(kind, examples or TRAIN, Answers(TRAIN), "0").pairs())


def rejected(kind: PreferenceKind, of: Example) -> set[str]:
    """What stands against the reply of an example, over many seeds."""
    found = [next(Maker(kind, [of], Answers(TRAIN), str(seed)).pairs(), None) for seed in range(40)]
    assert all(p is None or p.chosen == of.conversation[-1].content for p in found)
    return {p.rejected for p in found if p is not None}


# ---------------------------------------------------------------- kinds, by hand


def test_closed_book_says_under_the_same_mark_what_stands_in_no_passage() -> None:
    assert rejected("closed_book", ANSWERED) == {"5 months [1]"}  # not "3 weeks", which the other passage says


def test_an_altered_number_stands_in_no_passage() -> None:
    found = rejected("altered_number", ANSWERED)
    assert "15 days [1]" in found and found <= {f"{n} days [1]" for n in (4, 7, 13, 15, 16, 17, 19, 24, 28)}
    assert pairs("altered_number", FORBIDDEN) == []


def test_an_altered_date_is_one_part_of_it() -> None:
    found = rejected("altered_date", DATED)
    assert found and found <= {
        *(f"{d} March 2024 starts at 08:30 [1]" for d in (5, 10, 11, 13, 14, 19)),
        *(f"12 {m} 2024 starts at 08:30 [1]" for m in "January February April May June July August September October November December".split()),
        *(f"12 March {y} starts at 08:30 [1]" for y in (2022, 2023, 2025, 2026)),
        *(f"12 March 2024 starts at {h}:30 [1]" for h in ("06", "07", "09", "10")),
    }  # fmt: skip
    assert pairs("altered_date", ANSWERED) == []


def test_an_altered_unit_keeps_the_figure() -> None:
    assert rejected("altered_unit", ANSWERED) == {f"14 {unit} [1]" for unit in ("minutes", "hours", "weeks", "months")}


def test_a_flipped_negation_says_the_opposite() -> None:
    assert rejected("flipped_negation", FORBIDDEN) == {"It must leave the ward [1]"}
    assert pairs("flipped_negation", ANSWERED) == []


def test_uncited_is_the_same_without_its_mark() -> None:
    assert rejected("uncited", ANSWERED) == {"14 days"}


def test_a_wrong_citation_is_the_same_under_another_mark() -> None:
    assert rejected("wrong_citation", ANSWERED) == {"14 days [2]"}
    alone = example(QUESTION, "14 days [1]", (LOG,))
    assert rejected("wrong_citation", alone) == {"14 days [2]"}  # a passage that is not shown
    both = example(QUESTION, "14 days [1]", (LOG, "The list is kept for 14 days."))
    assert pairs("wrong_citation", both) == []  # the other passage holds the words: not wrong


def test_the_wrong_passage_answers_in_its_own_words_under_its_own_mark() -> None:
    assert "3 weeks in the cellar [2]" in rejected("wrong_passage", ANSWERED)
    for text in rejected("wrong_passage", ANSWERED):
        assert text.endswith(" [2]") and text.removesuffix(" [2]") in BAG


def test_over_refusal_declines_what_a_passage_states_and_unstated_answers_what_none_does() -> None:
    assert rejected("over_refusal", ANSWERED) == {NOT_STATED}
    assert rejected("unstated", DECLINED) == {"the ward clerk [1]", "the ward clerk [2]"}
    assert pairs("over_refusal", DECLINED) == [] and pairs("unstated", ANSWERED) == []


def test_over_compliance_gives_in_to_who_presses_for_a_guess() -> None:
    asked = set()
    for seed in range(20):
        pair = next(Maker("over_compliance", [DECLINED], Answers(TRAIN), str(seed)).pairs())
        assert (pair.chosen, pair.rejected) == (NOT_STATED, "the ward clerk")
        assert declines(pair.chosen) and not declines(pair.rejected)
        asked.add(pair.prompt[-1].content.rpartition("Question: ")[2])
    assert len(asked) > 3 and all("Who signs the log?" in text and len(text) > 25 for text in asked)


TOOLS = json.dumps({"name": "book", "parameters": {"properties": {"room": {"type": "integer"}}, "required": ["room"]}})
EXTRACTED = made((Message(role="user", content="As JSON."),), '{"name": "Ada", "beds": 14}')
CALLED = Example.make(
    question="?",
    answer="?",
    kind="tool",
    conversation=(
        Message(role="system", content=f"Tools: {TOOLS}"),
        Message(role="user", content="Book room 4."),
        Message(role="assistant", content="", tool_calls=(ToolCall(name="book", arguments={"room": 4}),)),
        Message(role="tool", content="done"),
        Message(role="assistant", content="It is booked."),
    ),
    document_ids=("tools.jsonl:7",),
)


def test_invalid_json_stands_against_the_json_of_a_row() -> None:
    (pair,) = pairs("invalid_json", EXTRACTED)
    assert json.loads(pair.chosen) == {"name": "Ada", "beds": 14}
    with pytest.raises(json.JSONDecodeError):
        json.loads(pair.rejected)
    assert pairs("invalid_json", ANSWERED) == []


def test_an_invalid_call_stands_against_the_call_where_it_is_made() -> None:
    (pair,) = pairs("invalid_tool_call", CALLED)
    assert pair.chosen == '<tool_call>\n{"name": "book", "arguments": {"room": 4}}\n</tool_call>'
    assert [m.role for m in pair.prompt] == ["system", "user"]
    assert pair.rejected != pair.chosen and pair.document_ids == ("tools.jsonl:7",)
    assert pairs("invalid_tool_call", EXTRACTED, ANSWERED) == []


# ---------------------------------------------------------------- proofs


def test_a_pair_is_proved_by_its_own_kind_and_by_no_other() -> None:
    turn = next(turns_of(ANSWERED))
    found = {
        "closed_book": "5 months [1]",
        "altered_number": "15 days [1]",
        "altered_unit": "14 hours [1]",
        "uncited": "14 days",
        "wrong_citation": "14 days [2]",
        "wrong_passage": "3 weeks in the cellar [2]",
        "over_refusal": NOT_STATED,
    }
    for kind, text in found.items():
        sides = Sides(turn.prompt, turn.reply, text)
        assert [k for k in KINDS if proves(k, sides, turn.known)] == [kind]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("altered_number", "15 weeks [1]"),
        ("altered_number", "15 days [2]"),
        ("altered_number", "about 15 days [1]"),
        ("altered_unit", "15 hours [1]"),
        ("uncited", "15 days"),
        ("uncited", "for 14 days"),
        ("wrong_citation", "15 days [2]"),
        ("wrong_passage", "3 weeks in the cellar"),
        ("over_refusal", "I would rather not say."),
        ("closed_book", "5 months"),
        ("closed_book", "3 weeks [1]"),
        ("uncited", "14 days [1]"),
    ],
)
def test_a_second_fault_or_none_at_all_is_no_pair(kind: PreferenceKind, text: str) -> None:
    turn = next(turns_of(ANSWERED))
    assert not proves(kind, Sides(turn.prompt, turn.reply, text), turn.known)


def test_a_chosen_reply_that_is_wrong_itself_makes_no_pair() -> None:
    for reply in ("15 days [1]", "14 days", "14 days [2]", "14 days [3]", "14 days [1][2]"):
        assert known_of(example(QUESTION, reply)) is None
        assert all(pairs(kind, example(QUESTION, reply)) == [] for kind in KINDS)


KNOWN = Known(QUESTION, (LOG, BAG), 1, "14 days")


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("14 days [1]", ()),
        ("kept for 14 days [1]", ()),
        ("The log is kept for 14 days. [1]", ()),
        ("14 days", ("no_citation",)),
        ("14 days [2]", ("wrong_citation",)),
        ("14 days [9]", ("wrong_citation",)),
        ("15 days [1]", ("number",)),
        ("14 weeks [1]", ("unit",)),
        ("14 days, says Dr Brand [1]", ("name",)),
        ("3 weeks [2]", ("other_answer",)),
        ("It must not leave the ward [1]", ("other_answer",)),
        ("it is 14 days [1]", ("other_words",)),
        (NOT_STATED, ("declines",)),
        ("", ("declines",)),
        ("15 days", ("no_citation", "number")),
    ],
)
def test_the_rules_name_what_is_wrong_with_a_reply(reply: str, found: tuple[str, ...]) -> None:
    assert faults(reply, KNOWN) == found


def test_over_passages_that_do_not_answer_only_declining_is_right() -> None:
    known = Known(QUESTION, (BAG,), None, "")
    assert faults(NOT_STATED, known) == () and faults("3 weeks [1]", known) == ("answers_unstated",)


# ---------------------------------------------------------------- how many of each


def many(count: int) -> list[Example]:
    return [
        example(
            f"How long is list {n} kept?",
            f"{n + 20} days [1]",
            (f"List {n} is kept for {n + 20} days.", f"Bag {n} is red."),
        )
        for n in range(count)
    ]


def test_shares_are_held_and_rounded_to_the_whole() -> None:
    made = pairs_of_kinds(many(40), {"uncited": 0.5, "altered_number": 0.25, "over_refusal": 0.25}, "0", 41)
    assert {kind: told["made"] for kind, told in made.kinds.items()} == {
        "altered_number": 10,
        "over_refusal": 10,
        "uncited": 21,
    }


def test_a_kind_without_enough_pairs_falls_short_and_nothing_takes_its_place() -> None:
    made = pairs_of_kinds(many(30), {"uncited": 0.5, "altered_date": 0.5}, "0", 20)
    assert made.kinds["altered_date"] == {"made": 0, "wanted": 10, "left_out": 0}
    assert len(made.pairs) == 10


def test_of_a_list_every_kind_gives_as_many_as_long_as_it_can() -> None:
    made = pairs_of_kinds([*many(30), DECLINED], ("uncited", "over_refusal", "unstated"), "0", 21)
    assert {kind: told["made"] for kind, told in made.kinds.items()} == {
        "uncited": 10,
        "over_refusal": 10,
        "unstated": 1,
    }


def test_the_same_seed_gives_the_same_pairs_whatever_the_order_of_the_kinds() -> None:
    first = pairs_of_kinds(many(30), {"uncited": 0.5, "wrong_passage": 0.5}, "0", 20).pairs
    again = pairs_of_kinds(many(30), {"wrong_passage": 0.5, "uncited": 0.5}, "0", 20).pairs
    assert first == again and first != pairs_of_kinds(many(30), {"uncited": 0.5, "wrong_passage": 0.5}, "1", 20).pairs
    assert len({p.id for p in first}) == len(first)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[uncitd]", "found 'uncitd'. Did you mean uncited?"),
        ("{altered_dat: 0.5}", "found 'altered_dat'. Did you mean altered_date?"),
        ("{uncited: 1.5}", "a share lies between 0 and 1, that of uncited is 1.5"),
        ("{uncited: 0.6, unstated: 0.6}", "shares must add up to 1 at most, found 1.2"),
        ("[uncited, uncited]", "names a kind twice"),
        ("[]", "names no kind"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"generate: {{preferences: {text}}}")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert told in str(caught.value) and str(caught.value).startswith(f"{tmp_path / 'recipe.yaml'}: 1 problem")


def test_what_is_not_used_does_not_enter_the_key() -> None:
    assert {"preferences", "votes", "candidates"}.isdisjoint(GenerateSettings().keyed())
    assert GenerateSettings(preferences=("uncited",)).keyed()["preferences"] == ["uncited"]


# ---------------------------------------------------------------- length


def pair(chosen: str, rejected: str, reason: str = "r") -> PreferencePair:
    prompt = (Message(role="user", content=f"{chosen}{rejected}?"),)
    return PreferencePair.make(prompt=prompt, chosen=chosen, rejected=rejected, judge="rules", reason=reason)


def test_lengths_are_told_for_all_and_by_reason() -> None:
    told = length_bias([pair("14 days [1]", "14 days", "a"), pair("one", "two words", "b")])
    assert {k: told[k] for k in ("chosen_characters", "rejected_characters", "chosen_longer", "rejected_longer")} == {
        "chosen_characters": 7.0,
        "rejected_characters": 8.0,
        "chosen_longer": 0.5,
        "rejected_longer": 0.5,
    }
    assert told["by_reason"]["a"] == {
        "pairs": 1,
        "chosen_characters": 11.0,
        "rejected_characters": 7.0,
        "chosen_words": 3.0,
        "rejected_words": 2.0,
        "chosen_longer": 1.0,
        "rejected_longer": 0.0,
    }
    assert "note" not in told and length_bias([]) == {}


def test_a_large_difference_of_length_is_noted_and_a_small_one_is_not() -> None:
    long = [pair(f"{n:02d} a longer answer", "short") for n in range(20)]
    assert "chosen replies are longer in 100%" in str(length_bias(long)["note"])
    assert "chosen replies are shorter in 100%" in str(length_bias([pair(p.rejected, p.chosen) for p in long])["note"])
    assert "note" not in length_bias([*long, *(pair("short", p.chosen) for p in long)])
    assert "note" not in length_bias(long[:19])


# ---------------------------------------------------------------- KTO


def test_pairs_of_every_kind_become_kto_labels(tmp_path: Path) -> None:
    every = [p for kind in KINDS for p in pairs(kind, *TRAIN, EXTRACTED, CALLED)]
    assert {p.reason for p in every} == {reason_of(kind) for kind in KINDS}
    (tmp_path / "3_examples").mkdir()
    write_records(tmp_path / "3_examples/preferences.parquet", every, PreferencePair)
    write_records(tmp_path / "3_examples/train.parquet", TRAIN, Example)
    done = convert_set(tmp_path, "kto", tmp_path / "kto.jsonl", {})
    rows = [json.loads(line) for line in (tmp_path / "kto.jsonl").read_text().splitlines()]
    assert done.left_out == [] and len(rows) == 2 * len(every)
    labels = {(r["completion"], r["label"]) for r in rows}
    assert all((p.chosen, True) in labels and (p.rejected, False) in labels for p in every)
    assert random.Random(0).choice(rows).keys() >= {"prompt", "completion", "label"}
