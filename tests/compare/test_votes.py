"""Blind comparison: what is shown, what is kept, what it says."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from ballots import answer, box_of, cast, make_run, write_predictions

from fieldwise.cli import main
from fieldwise.compare import votes
from fieldwise.compare.checks import checks, too_fast
from fieldwise.compare.comparison import compare, open_comparison, plan
from fieldwise.compare.dialogue import vote_in_terminal
from fieldwise.compare.pairs import preference_pairs
from fieldwise.compare.report import count_votes, plain, report
from fieldwise.compare.votes import read_votes, standing, voter_name
from fieldwise.errors import DatasetError, FieldwiseError
from fieldwise.files import append_jsonl, read_jsonl
from fieldwise.records import PreferencePair
from fieldwise.run import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


# ---------------------------------------------------------------- what is shown


def test_every_item_is_shown_once_in_an_order_and_on_sides_of_chance(run: RunFolder) -> None:
    comparison = open_comparison(run)
    shown = [s for s in plan(comparison, "mia") if not s.is_repeat]
    assert len({s.item.id for s in shown}) == len(shown) == 40
    assert [s.item.question_id for s in shown] != sorted(s.item.question_id for s in shown)
    assert 8 <= sum(s.left == "base" for s in shown) <= 32
    assert [s.token for s in plan(comparison, "mia") if not s.is_repeat] == [s.token for s in shown]
    assert [s.item.id for s in plan(comparison, "tom")][:20] != [s.item.id for s in shown][:20]


def test_questions_and_pairs_are_drawn_uniformly(tmp_path: Path) -> None:
    comparison = open_comparison(make_run(tmp_path, questions=10, systems=("a", "b", "c")))
    first = Counter(next(plan(comparison._replace(seed=seed), "mia")).item.id for seed in range(1500))
    assert len(first) == 30 and min(first.values()) > 20 and max(first.values()) < 90  # 50 each, sd 7


def test_every_fourth_item_is_shared_by_all_voters_and_each_twelfth_comes_back_with_its_sides_changed(
    run: RunFolder,
) -> None:
    comparison = open_comparison(run)
    plans = [[s for s in plan(comparison, voter)] for voter in ("mia", "tom")]
    early = [{s.item.id for s in p[:20]} for p in plans]
    assert len(early[0] & early[1]) >= 5
    repeats = [s for s in plans[0] if s.is_repeat]
    assert len(repeats) == 3 and plans[0][12] is repeats[0]
    for again in repeats:
        before = next(s for s in plans[0] if s.item == again.item)
        assert (again.left, again.right) == (before.right, before.left) and again.token != before.token


def test_questions_answered_alike_are_counted_and_not_shown(run: RunFolder) -> None:
    write_predictions(
        run, "other", {f"q{n:03}": answer("base says 0 [1]" if n == 0 else f"new {n}", (0, 1)) for n in range(30)}
    )
    comparison = open_comparison(run, "base", "other")
    assert (comparison.same, len(comparison.items), comparison.unshared) == (1, 29, 10)
    assert "q000" not in {item.question_id for item in comparison.items}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no predictions"),
        ('{"id": "a", "question": "Q?"}\n', "answer is missing"),
        ('{"id": "a", "question": "Q?", "answer": "x"}\n' * 2, "an id stands twice"),
        ('{"id": "a", "question": "Q?", "answer": {"txt": 1}}\n', "not an answer"),
        ('{"id": "q000", "question": "Another?", "answer": "x"}\n', "different questions under one id"),
        ('{"id": "zz", "question": "Q?", "answer": "x"}\n', "nothing to vote on"),
        ("{broken\n", "not valid JSON"),
    ],
)
def test_predictions_that_cannot_be_compared_are_told(
    run: RunFolder, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "mine.jsonl").write_text(content)
    with pytest.raises(DatasetError, match=message):
        open_comparison(run, "base", str(tmp_path / "mine.jsonl"))


def test_two_files_with_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "answers.jsonl").write_text(json.dumps({"id": "1", "question": "Q?", "answer": folder}))
    files = [str(tmp_path / f / "answers.jsonl") for f in ("old", "new")]
    assert open_comparison(RunFolder(tmp_path / "run"), *files).pairs == (("new/answers", "old/answers"),)


def test_what_cannot_be_compared_names_what_there_is(run: RunFolder) -> None:
    with pytest.raises(FieldwiseError, match="Name one of base, tuned"):
        raise_message(lambda: open_comparison(run, "base", "sft"))
    with pytest.raises(FieldwiseError, match="needs two systems"):
        open_comparison(run, "base")
    with pytest.raises(FieldwiseError, match="with itself"):
        open_comparison(run, "base", "base")
    with pytest.raises(DatasetError, match="not two systems"):
        open_comparison(RunFolder(run.path / "nowhere"))


def raise_message(call: object) -> None:
    try:
        call()  # type: ignore[operator]
    except FieldwiseError as error:
        raise FieldwiseError(str(error)) from error


# ---------------------------------------------------------------- what is kept


def test_a_voter_who_comes_back_goes_on_and_every_vote_says_who_when_what_and_which_side(run: RunFolder) -> None:
    cast(box_of(run), "Mia", "tuned", 5)
    later = box_of(run)
    assert later.next("mia")[1] == 5 and later.next("tom")[1] == 0
    vote = read_votes(later.path).votes[0]
    assert vote.voter == "Mia" and vote.at.endswith("+00:00") and vote.winner == "tuned" and vote.seed == 0
    assert {vote.left.system, vote.right.system} == {"base", "tuned"} and vote.choice in ("left", "right")
    assert vote.left.predictions_sha256 == later.comparison.systems[vote.left.system].sha256
    assert vote.left.answer_sha256 != vote.right.answer_sha256 and len(vote.question_sha256) == 64


def test_one_showing_takes_one_vote(run: RunFolder) -> None:
    box = box_of(run)
    showing, _ = box.next("mia")
    assert box.vote("mia", showing.token, "tie", 5, "page") is not None
    assert box.vote("mia", showing.token, "left", 5, "page") is None
    assert box.vote("tom", box.next("mia")[0].token, "left", 5, "page") is None
    assert [v.choice for v in read_votes(box.path).votes] == ["tie"]


def test_a_vote_taken_back_stays_in_the_file_and_is_asked_again(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = box_of(run)
    monkeypatch.setattr(votes, "_now", lambda: "2026-11-22T03:36:00+00:00")  # all within one second
    cast(box, "mia", "tuned", 3)
    last = read_votes(box.path).votes[-1]
    assert box.withdraw("mia") == last and box.withdraw("tom") is None
    assert box.next("mia")[0].item.id == last.item and len(box.path.read_text().splitlines()) == 4
    ledger = read_votes(box.path)
    assert len(ledger.votes) == 2 and ledger.withdrawn == 1
    cast(box, "mia", "tuned", 1)
    assert read_votes(box.path).votes[-1].item == last.item


def test_what_was_skipped_neither_counts_nor_comes_back(run: RunFolder) -> None:
    box = box_of(run)
    shown = []
    while (showing := box.next("mia")[0]) is not None:
        shown.append(showing)
        box.vote("mia", showing.token, "skip", 1, "page")
    assert len(shown) == 40 and not any(s.is_repeat for s in shown)
    found = standing(read_votes(box.path).votes, box.comparison)
    assert len(found.skipped) == 40 and found.counted == []


def test_votes_on_answers_that_have_changed_are_kept_apart_and_come_back_with_the_answers(run: RunFolder) -> None:
    cast(box_of(run), "mia", "tuned", 6)
    path = run.path / "5_reports/predictions/tuned.jsonl"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"tuned says 7 ", b"tuned says seven "))
    changed = box_of(run)
    assert changed.next("mia")[1] == 0
    result = report(changed.comparison, count_votes(changed.comparison, read_votes(changed.path)))
    assert result.votes == 0 and "answers have changed since; not counted: 6 on tuned (" in plain(result)
    cast(changed, "mia", "base", 2)
    path.write_bytes(before)
    assert box_of(run).next("mia")[1] == 6 and len(read_votes(changed.path).votes) == 8


def test_lines_left_half_written_or_spoilt_are_counted_and_cost_no_other_vote(run: RunFolder) -> None:
    box = box_of(run)
    cast(box, "mia", "tuned", 3)
    lines = box.path.read_text().splitlines(keepends=True)
    box.path.write_text(lines[0] + '{"id": "vot_x", "choice": "up"}\n' + lines[1] + lines[2][:80])
    cast(box, "mia", "tuned", 1)
    ledger = read_votes(box.path)
    assert len(ledger.votes) == 3 and ledger.unreadable == (2, 4)
    assert "2 lines of the file cannot be read: 2, 4" in plain(
        report(box.comparison, count_votes(box.comparison, ledger))
    )


def test_a_kill_in_the_middle_of_voting_loses_nothing_that_was_voted(run: RunFolder) -> None:
    command = [sys.executable, "-m", "fieldwise", "compare", "--run", str(run.path), "--voter", "mia"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    for key in "abt":
        process.stdin.write(f"{key}\n")
    process.stdin.flush()
    seen = ""
    while "\n4. " not in seen:
        seen += process.stderr.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert [v.choice for v in read_votes(run.path / "5_reports/votes.jsonl").votes] == ["left", "right", "tie"]
    assert box_of(run).next("mia")[1] == 3


@pytest.mark.parametrize("given", ["", "   ", "x" * 61, "a\x1bb", "\udcff"])
def test_a_name_that_cannot_be_kept_is_refused(given: str) -> None:
    with pytest.raises(FieldwiseError, match="needs a name or a code"):
        voter_name(given)


def test_a_name_is_one_line() -> None:
    assert voter_name("  Mia \n  B. ") == "Mia B."


# ---------------------------------------------------------------- what it says


def test_the_preferred_system_is_found_with_what_is_missing(run: RunFolder) -> None:
    box = box_of(run)
    cast(box, "mia", "tuned", 30)
    result = report(box.comparison, count_votes(box.comparison, read_votes(box.path)))
    pair = result.pairs[0]
    assert (pair.first, pair.prefers_first, pair.prefers_second, pair.verdict) == ("base", 0, 28, "second")
    assert pair.share.value == 0 and pair.share.low == 0 and 0.03 < pair.share.high < 0.12
    assert result.is_enough and pair.questions_left == 12 and result.systems[1].strength.low > 0
    assert [c.state for c in result.checks if c.check == "repeats"] == ["ok"]
    assert "tuned is preferred" in plain(result) and "enough" in plain(result)
    assert report(box.comparison, count_votes(box.comparison, read_votes(box.path))) == result


def test_a_voter_who_always_takes_the_left_is_named_and_can_be_left_out(run: RunFolder) -> None:
    box = box_of(run)
    cast(box, "Left", None, 20)
    cast(box, "mia", "tuned", 20)
    result = report(box.comparison, count_votes(box.comparison, read_votes(box.path)))
    suspects = {(c.check, c.voter) for c in result.checks if c.state == "look"}
    assert ("one_side", "Left") in suspects and not any(voter == "mia" for _, voter in suspects)
    assert result.left_effect.value > 0
    without = report(box.comparison, count_votes(box.comparison, read_votes(box.path), ["left"]))
    assert [v.voter for v in without.voters] == ["mia"] and without.pairs[0].prefers_first == 0


def test_votes_faster_than_the_texts_can_be_skimmed_are_named(run: RunFolder) -> None:
    box = box_of(run)
    cast(box, "quick", "tuned", 10, seconds=0.4)
    cast(box, "mia", "tuned", 10)
    found = {
        c.voter: c for c in checks(standing(read_votes(box.path).votes, box.comparison), ()) if c.check == "too_fast"
    }
    assert found["quick"].state == "look" and found["mia"].state == "ok"
    vote = read_votes(box.path).votes[-1]
    side = vote.left.model_copy(update={"words": 20})
    sixty = vote.model_copy(update={"left": side, "right": side, "question_words": 20})
    limit = 60 / (3 * 238 / 60)  # 5.04 s
    assert too_fast(sixty.model_copy(update={"seconds": limit - 0.1}))
    assert not too_fast(sixty.model_copy(update={"seconds": limit + 0.1}))
    assert not too_fast(sixty.model_copy(update={"seconds": None}))


def test_a_vote_cast_twice_counts_once_and_is_named(run: RunFolder) -> None:
    box = box_of(run)
    cast(box, "mia", "tuned", 4)
    again = read_votes(box.path).votes[0].model_copy(update={"id": "vot_again", "choice": "tie"})
    append_jsonl(box.path, again.model_dump(mode="json"))
    result = report(box.comparison, count_votes(box.comparison, read_votes(box.path)))
    assert result.votes == 4 and result.pairs[0].ties == 0
    assert any(c.check == "duplicates" and "1 cast twice, by mia" in c.found for c in result.checks)


def test_voters_of_one_mind_agree_and_coin_throwers_do_not(run: RunFolder) -> None:
    box = box_of(run)
    rng = random.Random(3)
    for voter in ("one", "two"):
        while (showing := box.next(voter)[0]) is not None:
            box.vote(voter, showing.token, rng.choice(["left", "right", "tie"]), 60, "page")
    chance = report(box.comparison, count_votes(box.comparison, read_votes(box.path)))
    assert chance.shared_items == 40 and chance.agreement.low < 0 < chance.agreement.high
    assert chance.pairs[0].verdict == "no difference shown"


def test_systems_that_no_vote_links_have_no_strengths(tmp_path: Path) -> None:
    run = make_run(tmp_path, questions=20, systems=("a", "b", "c", "d"))
    for pair in (("a", "b"), ("c", "d")):
        cast(box_of(run, open_comparison(run, *pair)), "mia", pair[0], 6)
    whole = open_comparison(run)
    result = report(whole, count_votes(whole, read_votes(run.path / "5_reports/votes.jsonl")))
    assert result.votes == 12 and all(s.strength is None for s in result.systems)
    assert "do not link" in plain(result) and "No votes on a against c" in plain(result)
    cast(box_of(run, open_comparison(run, "b", "c")), "mia", "b", 6)
    linked = report(whole, count_votes(whole, read_votes(run.path / "5_reports/votes.jsonl")))
    strength = {s.system: s.strength.value for s in linked.systems}
    assert strength["a"] > strength["b"] > strength["c"] > strength["d"] and sum(strength.values()) == pytest.approx(0)


# ---------------------------------------------------------------- votes as preference pairs


def test_votes_become_pairs_over_the_passages_both_answers_read(run: RunFolder) -> None:
    box = box_of(run)
    cast(box, "mia", "tuned", 6)
    made = preference_pairs(box.comparison, standing(read_votes(box.path).votes, box.comparison).counted)
    assert len(made.pairs) == 6 and made.left_out == {}
    pair = made.pairs[0]
    assert pair.judge == "human" and pair.chosen.startswith("tuned says") and pair.rejected.startswith("base says")
    assert pair.prompt[1].content.startswith("Passages:\n[1] Rules\nRule 0.") and pair.chunk_ids == ("chk_0", "chk_1")
    assert pair.prompt[1].content.endswith("say?") and pair.reason == "preferred by 1 of 1 voters, blind"


def test_ties_disputes_and_answers_over_other_passages_make_no_pair(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_predictions(run, "a", {"q0": answer("a0"), "q1": answer("a1", (0,)), "q2": answer("a2"), "q3": answer("a3")})
    write_predictions(run, "b", {"q0": answer("b0"), "q1": answer("b1"), "q2": answer("b2"), "q3": answer("b3")})
    box = box_of(run)
    for voter, wanted in (("mia", {"q2": None, "q3": "a"}), ("tom", {"q2": "a", "q3": "b"})):
        while (showing := box.next(voter)[0]) is not None:
            system = wanted.get(showing.item.question_id, "b")
            choice = "tie" if system is None else "left" if showing.left == system else "right"
            box.vote(voter, showing.token, choice, 60, "page")
    made = preference_pairs(box.comparison, standing(read_votes(box.path).votes, box.comparison).counted)
    assert [(p.chosen, p.rejected, len(p.prompt)) for p in made.pairs] == [("b0", "a0", 2)]
    assert made.left_out == {"no side preferred by most": 2, "the two answers read different passages": 1}


# ---------------------------------------------------------------- the terminal


def dialogue(run: RunFolder, typed: str, voter: str | None = "mia") -> tuple[tuple[str, int, bool], str]:
    screen = io.StringIO()
    return vote_in_terminal(box_of(run), voter, io.StringIO(typed), screen), screen.getvalue()


def test_the_terminal_takes_keys_asks_again_and_hides_who_answered(run: RunFolder) -> None:
    found, shown = dialogue(run, "Mia\na\nB\nzz\n\nt\nn\ns\nu\nq\n", voter=None)
    assert found == ("Mia", 4, False)
    assert [v.choice for v in read_votes(run.path / "5_reports/votes.jsonl").votes] == [
        "left",
        "right",
        "tie",
        "both_bad",
    ]
    assert "hidden-model-name" not in shown and "[1] rules.md: Rule 0." in shown and "taken back" in shown
    assert dialogue(run, "")[0] == ("mia", 0, False)


def test_text_of_models_cannot_steer_the_terminal(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_predictions(run, "a", {"q0": answer("\x1b[2Jcleared \u202ereversed\nsecond line")})
    write_predictions(run, "b", {"q0": answer("plain")})
    _, shown = dialogue(run, "q\n")
    assert "\x1b" not in shown and "\u202e" not in shown and "[2Jcleared reversed\n   second line" in shown


def test_when_all_is_voted_on_the_terminal_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, questions=3)
    assert dialogue(run, "a\na\na\n")[0] == ("mia", 3, True)


def test_the_commands_vote_report_and_export(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ["--run", str(run.path)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nb\na\nq\n"))
    assert main(["compare", *place, "--voter", "v1", "--left", "base", "--right", "tuned", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["votes"] == 3
    assert main(["votes", *place, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["votes"] == 3 and shown["is_enough"] is False and shown["pairs"][0]["more_votes"] > 10
    assert main(["votes", *place]) == 0 and "3 votes by 1 voter: v1 3" in capsys.readouterr().out
    target = tmp_path / "pairs.jsonl"
    for _ in range(2):
        assert main(["votes", *place, "--export", str(target)]) == 0
    captured = capsys.readouterr()
    assert "Wrote 3 preference pairs" in captured.out and "other questions" in captured.err
    assert {PreferencePair.model_validate(row).judge for row in read_jsonl(target)} == {"human"}
    assert main(["votes", *place, "--export", str(run.path / "5_reports/votes.jsonl")]) == 2
    assert main(["votes", *place, "--width", "3"]) == 2 and main(["compare", *place, "--left", "base"]) == 2
    assert len(read_votes(run.path / "5_reports/votes.jsonl").votes) == 3


def test_systems_given_in_another_order_are_the_same_comparison(run: RunFolder) -> None:
    one, other = open_comparison(run, "base", "tuned"), open_comparison(run, "tuned", "base")
    assert {i.id for i in one.items} == {i.id for i in other.items}
    assert compare(list(other.systems.values()), 0).pairs == one.pairs
