import random
from collections import Counter

import pytest

from fieldwise.generate.examples import Asked, ExampleMaker, drop_ambiguous, invent
from fieldwise.generate.pairs import Pair
from fieldwise.generate.preferences import preference_pairs
from fieldwise.generate.settings import GenerateSettings, SplitSettings
from fieldwise.generate.split import leakage, split_documents
from fieldwise.records import NOT_STATED, Chunk, Document, Example, RetrievedPassage, Source


def chunk(uri: str, text: str) -> Chunk:
    document = Document.make(title=uri, text=text, source=Source(uri=uri))
    return Chunk.make(document, 0, len(text))


LOG = chunk("a.md", "The log is kept for 14 days.")
OTHER = chunk("b.md", "The bag is kept for 3 weeks. The door is blue, it says.")
ALSO = chunk("c.md", "Somewhere else the period is 14 days as well.")
HELD = chunk("d.md", "A page of the test side about logs that are kept.")
PAIR = Pair("How long is the log kept?", "14 days", "duration", "The log is kept for 14 days")
SIDES = {LOG.document_id: "train", OTHER.document_id: "train", ALSO.document_id: "train", HELD.document_id: "test"}
GROUPS = {i: i for i in SIDES}


class Shelf:
    def __init__(self, *chunks: Chunk) -> None:
        self.chunks = chunks

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        return [RetrievedPassage(chunk=c, score=1.0) for c in self.chunks[:top_k]]


def maker(*chunks: Chunk, **settings) -> ExampleMaker:
    return ExampleMaker(Shelf(*chunks), GROUPS, SIDES, GenerateSettings(**settings), random.Random(0))


ASKED = Asked(PAIR, LOG, "train")


def test_a_grounded_example_cites_the_place_of_its_evidence() -> None:
    for seed in range(8):
        made = ExampleMaker(Shelf(LOG, OTHER), GROUPS, SIDES, GenerateSettings(), random.Random(seed)).grounded(
            [ASKED]
        )[0]
        user, reply = made.conversation[-2].content, made.conversation[-1].content
        number = reply.rpartition("[")[2].rstrip("]")
        assert f"[{number}] a.md\nThe log is kept for 14 days." in user
        assert made.evidence[0].quote in LOG.text


def test_a_passage_that_holds_the_answer_too_is_no_distractor() -> None:
    assert ALSO.text not in maker(ALSO, OTHER).grounded([ASKED])[0].conversation[-2].content


def test_questions_about_one_chunk_share_their_passages() -> None:
    second = Asked(Pair("What is kept for 14 days?", "The log", "subject", "The log is kept for 14 days"), LOG, "train")
    prompts = [e.conversation[-2].content.rpartition("Question:")[0] for e in maker(OTHER).grounded([ASKED, second])]
    assert len(prompts) == 2 and prompts[0] == prompts[1]


def test_a_page_of_the_test_side_is_never_shown_in_training() -> None:
    assert HELD.text not in maker(HELD, OTHER).grounded([ASKED])[0].conversation[-2].content


def test_over_the_passages_of_another_chunk_the_right_answer_is_to_decline() -> None:
    foreign = Asked(Pair("Which door is blue?", "The east door", "subject", "The east door is blue"), HELD, "train")
    made = {e.question: e for e in maker(OTHER).grounded([ASKED], [foreign])}
    declined, answered = made["Which door is blue?"], made[PAIR.question]
    assert declined.conversation[-1].content == NOT_STATED
    assert declined.kind == "unanswerable" and declined.evidence == ()
    assert declined.conversation[-2].content.partition("Question:")[0] in answered.conversation[-2].content
    assert set(declined.chunk_ids) == {LOG.id, OTHER.id}


def test_a_question_that_the_passages_answer_after_all_is_not_declined() -> None:
    foreign = Asked(Pair("How long is the list kept?", "14 days", "duration", "x"), HELD, "train")
    assert [e.question for e in maker(OTHER).grounded([ASKED], [foreign])] == [PAIR.question]


def test_a_question_with_two_answers_is_dropped_altogether() -> None:
    second = Asked(Pair(PAIR.question, "3 weeks", "duration", "x"), OTHER, "train")
    third = Asked(Pair("Which door is blue?", "The door", "subject", "x"), OTHER, "train")
    kept, dropped = drop_ambiguous([ASKED, second, third, third])
    assert kept == [third]
    assert len(dropped) == 3


def test_an_invented_name_is_one_the_documents_do_not_know() -> None:
    rng = random.Random(0)
    changed = invent("Who leads the Harrow unit?", "harrow unit", rng)
    assert changed is not None and "Harrow" not in changed and changed.startswith("Who leads the ")
    assert invent("Who is it?", "", rng) is None


@pytest.mark.parametrize("documents", [3, 10, 55])
def test_near_duplicates_stay_on_one_side_and_the_shares_are_kept(documents: int) -> None:
    groups = {f"doc{n}": f"group{n // 2 if n < 4 else n}" for n in range(documents)}
    sides = split_documents(groups, SplitSettings(), 7)
    by_group: dict[str, set[str]] = {}
    for document, side in sides.items():
        by_group.setdefault(groups[document], set()).add(side)
    assert all(len(found) == 1 for found in by_group.values())
    if documents == 55:
        assert [list(sides.values()).count(s) for s in ("train", "validation", "test")] == [43, 6, 6] or abs(
            list(sides.values()).count("test") - 5.5
        ) <= 1
    assert split_documents(dict(reversed(groups.items())), SplitSettings(), 7) == sides


def test_every_domain_gives_its_share_of_what_is_held_out() -> None:
    strata = {f"d{i}": "leases" if i < 60 else "wills" if i < 90 else "notes" for i in range(100)}
    groups = {document: document for document in strata}
    groups |= {"d1": "d0", "d95": "d61"}  # a near-duplicate in another folder stays with its group
    for seed in range(20):
        sides = split_documents(groups, SplitSettings(), seed, strata)
        assert sides["d0"] == sides["d1"] and sides["d61"] == sides["d95"]
        for side in ("test", "validation"):
            held = Counter(strata[d] for d, s in sides.items() if s == side)
            assert abs(held["leases"] - 6) <= 1 and abs(held["wills"] - 3) <= 1 and held["notes"] <= 2
    assert any(split_documents(groups, SplitSettings(), s, strata) != split_documents(groups, SplitSettings(), s) for s in range(3))  # fmt: skip


def test_a_stratum_of_one_large_group_leaves_its_share_to_the_others() -> None:
    groups = {f"d{i}": "copies" if i < 50 else f"d{i}" for i in range(100)}
    sides = split_documents(groups, SplitSettings(), 1, {d: "a" if int(d[1:]) < 50 else "b" for d in groups})
    assert [list(sides.values()).count(s) for s in ("train", "validation", "test")] == [80, 10, 10]


def test_leakage_is_found_when_it_is_there() -> None:
    made = maker(LOG, OTHER)
    train, test = made.closed(ASKED), made.closed(Asked(PAIR, LOG, "test"))
    assert leakage([train], GROUPS) == []
    assert any("question" in line for line in leakage([train, test], GROUPS))


def examples() -> list[Example]:
    made = maker(LOG, OTHER, ALSO)
    foreign = Asked(Pair("Which door is blue?", "The east door", "subject", "The east door is blue"), HELD, "train")
    return [*made.grounded([ASKED], [foreign]), made.closed(ASKED)]


def test_every_rejected_answer_has_one_named_fault() -> None:
    pairs = preference_pairs(examples(), random.Random(0), 50)
    reasons = {p.reason for p in pairs}
    assert {
        "declines although a passage answers",
        "gives no citation",
        "cites the wrong passage",
        "changes a number",
        "answers what the passages do not say",
    } <= reasons
    for pair in pairs:
        assert pair.chosen != pair.rejected
        if pair.reason == "gives no citation":
            assert (pair.chosen.startswith("14 days ["), pair.rejected) == (True, "14 days")
        if pair.reason == "changes a number":
            assert "14" not in pair.rejected.split("[")[0]
        if pair.reason == "answers what the passages do not say":
            assert pair.chosen == NOT_STATED


def test_no_more_pairs_than_wanted_and_no_kind_of_fault_crowds_out_another() -> None:
    pairs = preference_pairs(examples() * 5, random.Random(0), 4)
    assert len(pairs) == 4
    assert len({p.reason for p in pairs}) == 4
