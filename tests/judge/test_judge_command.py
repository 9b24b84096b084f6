"""`fieldwise judge` over a run folder and a real endpoint on loopback."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ballots import box_of, cast
from chat_server import KEY, Answer, ChatServer, failed, prompt_of, said

from fieldwise.cli import main
from fieldwise.files import read_json, read_ledger, write_json, write_jsonl
from fieldwise.records import Answer as Reply
from fieldwise.records import Chunk, RetrievedPassage
from fieldwise.run import RunFolder

QUESTIONS = 60


def days(number: int) -> str:
    return f"{number + 2} days"


def passage(number: int) -> RetrievedPassage:
    text = f"Log {number} is kept for {days(number)}."
    document = f"d{number % 20}"
    chunk = Chunk(
        id=f"chk_{number}", document_id=document, uri=f"{document}.md", title="Logs", start=0, end=9, text=text
    )
    return RetrievedPassage(chunk=chunk, score=1.0)


def make_run(folder: Path, systems: dict[str, Callable[[int], str]], models: dict[str, str] | None = None) -> Path:
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.recipe_path.write_text("name: small\n")
    for system, answer in systems.items():
        write_jsonl(
            folder / f"5_reports/predictions/{system}.jsonl",
            (
                {
                    "id": f"q{n:02}",
                    "question": f"How long is log {n} kept?",
                    "expected": days(n),
                    "document": f"d{n % 20}.md",
                    "answer": Reply(
                        text=answer(n),
                        answer=answer(n),
                        model=(models or {}).get(system, "nano"),
                        passages=() if system == "base" else (passage(n),),
                    ).model_dump(mode="json", exclude={"timings"}),
                }
                for n in range(QUESTIONS)
            ),
        )
    return folder


def right(number: int) -> str:
    return days(number)


def mostly(number: int) -> str:
    return days(number) if number % 3 else "a year"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"base": mostly, "tuned": right})


def known(body: dict[str, Any]) -> str:
    return re.search(r"<known>\n(.*)\n</known>", prompt_of(body)).group(1)


def answers(body: dict[str, Any]) -> list[str]:
    return re.findall(r"<answer(?:_[ab])?>\n(.*)\n</answer", prompt_of(body))


def verdict(word: str) -> Answer:
    return said(json.dumps({"explanation": "The source says so.", "verdict": word}), prompt=300, completion=30)


def fair(body: dict[str, Any]) -> Answer:
    """A judge that compares with the known answer."""
    given = [a == known(body) for a in answers(body)]
    if len(given) == 1:
        return verdict("right" if given[0] else "wrong")
    return verdict("tie" if given[0] == given[1] else "A" if given[0] else "B")


def judge(run: Path, server: ChatServer, *more: str) -> int:
    return main(["judge", "--run", str(run), "--endpoint", server.url, "--model", "m", *more])


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def label_file(path: Path, rows: Sequence[tuple[str, str, str]], *more: str) -> Path:
    lines = ["id,system,label", *(",".join(row) for row in rows), *more]
    path.write_text("\n".join(lines) + "\n")
    return path


def true_labels(system: str, answer: Callable[[int], str], count: int = QUESTIONS) -> list[tuple[str, str, str]]:
    return [(f"q{n:02}", system, "right" if answer(n) == days(n) else "wrong") for n in range(count)]


# ---------------------------------------------------------------- by the rubric


def test_every_system_is_judged_with_intervals_a_card_and_the_verdicts_kept(
    run: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    assert judge(run, server, "--json") == 0
    report = shown(capsys)
    base, tuned = report["systems"]
    assert (base["right"], base["wrong"], tuned["right"]) == (40, 20, 60)
    assert base["share_right"]["low"] < 2 / 3 < base["share_right"]["high"] < 1
    assert tuned["difference"]["value"] == pytest.approx(1 / 3) and tuned["difference"]["low"] > 0.1
    assert report == read_json(run / "5_reports/judge.json")
    assert report["card"]["may_gate"] is False and "no human labels" in report["card"]["why"]
    rows = read_ledger(run / "5_reports/judge_verdicts.jsonl")
    assert len(rows) == 120 and all(r["explanation"] for r in rows)
    assert main(["judge", "--run", str(run), "--endpoint", server.url, "--model", "m"]) == 0
    text = capsys.readouterr().out
    assert "67% [" in text and "advisory" in text
    assert server.count == 80  # 40 answers are the same for both; the second time everything was on record


def test_answers_given_without_passages_are_judged_over_those_that_others_read(run: Path, server: ChatServer) -> None:
    server.behave = fair
    assert judge(run, server, "--system", "base") == 0
    assert server.count == QUESTIONS
    assert all(known(b) in re.search(r"<source>(.*)</source>", prompt_of(b), re.S).group(1) for b in server.bodies)


def test_what_is_no_verdict_is_not_scored_and_counted(
    run: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def sometimes(body: dict[str, Any]) -> Answer:
        number = int(re.search(r"log (\d+)", json.dumps(body["messages"])).group(1))
        if number % 10 == 1:
            return said("It looks right to me.")
        if number % 10 == 2:
            return failed(400, "maximum context length is 10")
        return verdict("cannot tell") if number % 10 == 3 else fair(body)

    server.behave = sometimes
    assert judge(run, server, "--system", "tuned", "--json") == 0
    report = shown(capsys)
    (tuned,) = report["systems"]
    assert (tuned["right"], tuned["wrong"], tuned["cannot_tell"], tuned["not_scored"]) == (42, 0, 6, 12)
    assert tuned["share_right"]["n"] == 42 and tuned["share_right"]["unscored"] == 18
    assert report["card"]["not_scored"] == {"not_json": 6, "prompt_too_long": 6}


def test_a_judge_that_only_writes_prose_ends_with_what_to_do(
    run: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = lambda body: said("I like it.")
    assert judge(run, server) == 2
    assert "model" in capsys.readouterr().err and server.count < 60
    assert not (run / "5_reports/judge.json").exists()


def test_a_key_goes_to_the_endpoint_it_was_named_with_alone(
    run: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    monkeypatch.setenv("OUR_KEY", KEY)
    elsewhere = "{endpoint: {base_url: 'http://127.0.0.1:1/v1', model: other, key_variable: OUR_KEY}}"
    assert judge(run, server, "--system", "base", "--limit", "3", f"evaluate.judge={elsewhere}") == 0
    assert not any("authorization" in h for h in server.headers)
    assert judge(run, server, "--system", "tuned", "--limit", "3", "--key-env", "OUR_KEY") == 0
    assert server.headers[-1]["authorization"] == f"Bearer {KEY}"
    written = [p for p in run.rglob("*") if p.is_file()]
    assert not any(KEY.encode() in p.read_bytes() for p in written) and KEY not in capsys.readouterr().err


def test_nothing_is_asked_that_nobody_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = "generate.endpoint={base_url: 'http://127.0.0.1:1/v1', model: m}"
    assert main(["judge", "--run", str(run), teacher]) == 2
    assert "--endpoint" in capsys.readouterr().err
    assert main(["judge", "--run", str(run), "--endpoint", "http://127.0.0.1:1/v1"]) == 2
    assert "the model of the judge is not named" in capsys.readouterr().err
    assert main(["judge", "--run", str(run), "--endpoint", "127.0.0.1:1", "--model", "m"]) == 2
    assert "--endpoint: base_url is an address" in capsys.readouterr().err


def test_the_recipe_may_name_the_judge_and_a_dry_run_sends_nothing(
    run: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = (
        f"evaluate.judge={{endpoint: {{base_url: '{server.url}', model: m, price: {{output: 2}}}}, rule: 'Be brief.'}}"
    )
    assert main(["judge", "--run", str(run), "--dry-run", settings]) == 0
    assert "80 requests to m at" in capsys.readouterr().out and server.count == 0
    server.behave = fair
    assert main(["judge", "--run", str(run), settings, "--limit", "5", "--json"]) == 0
    assert shown(capsys)["rule"] == "Be brief." and 5 <= server.count <= 10
    assert "Be brief." in server.bodies[0]["messages"][0]["content"]


def test_a_spent_budget_stops_and_a_larger_one_asks_for_the_rest(
    run: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    settings = f"evaluate.judge={{endpoint: {{base_url: '{server.url}', model: m, concurrency: 1, max_tokens: 16, budget: {{tokens: 9000}}}}}}"
    assert main(["judge", "--run", str(run), "--system", "tuned", settings]) == 2
    assert "the budget of the judge is spent" in capsys.readouterr().err
    asked = server.count
    assert 0 < asked < QUESTIONS
    assert main(["judge", "--run", str(run), "--system", "tuned", settings.replace("9000", "900000")]) == 0
    assert server.count == QUESTIONS


# ---------------------------------------------------------------- beside people


def test_a_judge_that_agrees_with_people_may_gate_and_the_gate_can_say_no(
    run: Path, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    labels = label_file(tmp_path / "labels.csv", true_labels("base", mostly))
    for at_least, code, word in (("0.5", 0, "PASS"), ("0.9", 3, "FAIL"), ("0.66", 4, "INCONCLUSIVE")):
        asked = judge(run, server, "--system", "base", "--labels", str(labels), "--at-least", at_least, "--json")
        report = shown(capsys)
        assert (asked, report["verdict"]) == (code, word)
    assert report["card"]["agreement"]["kappa"]["value"] == 1.0 and report["card"]["may_gate"] is True
    assert report["card"]["agreement"]["kappa"]["low"] < 1


def test_a_judge_that_does_not_agree_enough_decides_nothing(
    run: Path, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = lambda body: verdict("right")  # flatters everyone
    labels = label_file(tmp_path / "labels.csv", true_labels("base", mostly))
    assert judge(run, server, "--system", "base", "--labels", str(labels), "--at-least", "0.9") == 2
    told = capsys.readouterr().err
    assert "this judge may not gate" in told and "kappa 0.00" in told
    report = read_json(run / "5_reports/judge.json")
    assert report["verdict"] is None and report["card"]["may_gate"] is False


def gated(run: Path, baseline: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of a gate over the verdicts of a judge, and what it found."""
    capsys.readouterr()
    wanted = "evaluate.regressions=[{metric: judged_right}]"
    code = main(["gate", "--run", str(run), "--baseline", str(baseline), "--json", wanted])
    return code, shown(capsys)["gates"][0]["found"]


def test_an_earlier_run_is_gated_by_one_judge_that_agrees_with_people(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    good, worse = (make_run(tmp_path / n, {"base": says}) for n, says in (("good", right), ("worse", mostly)))
    for run in (good, worse):
        write_json(run / "5_reports/report.json", {"systems": [], "seed": 0})
    assert judge(good, server) == 0
    assert gated(worse, good, capsys)[1].startswith("no judge saw the answers of the run one by one")
    assert judge(worse, server) == 0
    assert gated(worse, good, capsys)[1].startswith("m jdg_") and "is advice" in gated(worse, good, capsys)[1]

    labels = label_file(tmp_path / "labels.csv", true_labels("base", mostly))
    assert judge(worse, server, "--labels", str(labels)) == 0
    code, told = gated(worse, good, capsys)
    assert code == 3 and told.startswith("-0.333 [")
    assert gated(good, worse, capsys)[0] == 0

    kept = tmp_path / "baseline.json"
    assert main(["gate", "--run", str(good), "--baseline", str(good), "--save-baseline", str(kept)]) == 0
    assert gated(worse, kept, capsys) == (code, told) and "127.0.0.1" not in kept.read_text()
    write_json(kept, {**read_json(kept), "judge": "another jdg_1"})
    assert "the baseline by another jdg_1: ask one judge" in gated(worse, kept, capsys)[1]

    path = worse / "5_reports/predictions/base.jsonl"
    path.write_text(path.read_text().replace("a year", "a month"))  # answers that the judge did not see
    assert gated(worse, good, capsys)[1].startswith("no judge saw the answers of the run")


def test_no_stage_is_gated_by_a_judge(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = "evaluate.gates=[{metric: judged_right, baseline: null, at_least: 0.5}]"
    assert main(["gate", "--run", str(run), gate]) == 2
    assert "No stage asks a judge" in capsys.readouterr().err


def test_few_labels_are_not_enough_however_well_they_agree(
    run: Path, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    labels = label_file(tmp_path / "labels.csv", true_labels("base", mostly, 49))
    assert judge(run, server, "--system", "base", "--labels", str(labels), "--at-least", "0.1") == 2
    assert "against 49 human labels" in capsys.readouterr().err


def test_lines_of_labels_that_cannot_be_used_are_left_aside_with_their_number(
    run: Path, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    more = ["q99,base,right", "q01,base,maybe", "q02,base", "q03,base,", "q00,base,right"]
    labels = label_file(tmp_path / "labels.csv", true_labels("base", mostly, 2), *more)
    assert judge(run, server, "--system", "base", "--labels", str(labels), "--json") == 0
    report = shown(capsys)
    told = "\n".join(report["labels_aside"])
    assert re.findall(r"labels.csv:(\d+)", told) == ["4", "5", "6", "8"]
    assert "q99" in told and "'maybe' is none of right, wrong, cannot tell" in told and "line 2" in told
    assert report["card"]["agreement"]["labels"] == 1  # q00 is labelled both ways
    empty = label_file(tmp_path / "none.csv", [("q99", "base", "right")])
    assert judge(run, server, "--system", "base", "--labels", str(empty)) == 2
    assert "no label can be used" in capsys.readouterr().err


def test_a_sheet_to_label_holds_no_verdict_and_comes_back_as_labels(
    run: Path, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sheet.csv"
    assert main(["judge", "--run", str(run), "--system", "base", "--sheet", str(path), "--sheet-size", "55"]) == 0
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 55 and all(r["label"] == "" and r["known_answer"] in r["sources"] for r in rows)
    for row in rows:
        row["label"] = "Right" if row["answer"] == row["known_answer"] else "wrong"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    server.behave = fair
    capsys.readouterr()
    assert judge(run, server, "--system", "base", "--labels", str(path), "--json") == 0
    report = shown(capsys)
    assert report["card"]["may_gate"] is True and report["labels_aside"] == []
    assert main(["judge", "--run", str(run), "--sheet", str(path)]) == 2  # labels are not written over


# ---------------------------------------------------------------- two systems beside each other


def test_two_systems_are_judged_in_both_orders_and_compared_with_the_votes(
    run: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = fair
    folder = RunFolder(run)
    cast(box_of(folder), "ann", "tuned", 20)
    assert judge(run, server, "--left", "base", "--right", "tuned", "--json") == 0
    report = shown(capsys)
    pair = report["pair"]
    assert (pair["contests"], pair["same_answers"]) == (20, 40) and server.count == 40
    assert pair["outcomes"] == {
        "first": 0,
        "second": 20,
        "tie": 0,
        "cannot tell": 0,
        "inconsistent": 0,
        "not scored": 0,
    }
    assert pair["share"]["value"] == 0.0 and pair["share"]["high"] < 0.3 and pair["p"] < 1e-4
    card = report["card"]
    assert card["order_consistency"]["value"] == 1.0 and card["agreement"]["labels"] >= 15
    assert card["agreement"]["kappa"]["value"] is None and not card["may_gate"]  # all labels say tuned
    assert card["first_place"]["low"] < 0 < card["first_place"]["high"]


def test_a_judge_that_takes_the_first_place_counts_for_nothing(
    run: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = lambda body: verdict("A")
    assert judge(run, server, "--left", "base", "--right", "tuned", "--json") == 0
    report = shown(capsys)
    assert report["pair"]["outcomes"]["inconsistent"] == 20 and report["pair"]["share"]["value"] is None
    assert report["card"]["order_consistency"]["value"] == 0.0 and report["card"]["first_place"]["low"] > 0.5


def test_a_judge_of_its_own_model_is_named_and_measured_against_people(
    tmp_path: Path, server: ChatServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "own", {"base": mostly, "tuned": right}, {"base": "m"})

    def vain(body: dict[str, Any]) -> Answer:
        first, second = answers(body)
        return verdict("A" if first == "a year" else "B" if second == "a year" else "tie")

    server.behave = vain
    cast(box_of(RunFolder(run)), "ann", "tuned", 20)
    assert judge(run, server, "--left", "base", "--right", "tuned", "--json") == 0
    card = shown(capsys)["card"]
    assert card["judges_itself"] == ["base"]
    assert card["self_preference"]["value"] == 1.0 and card["self_preference"]["low"] > 0.5


# ---------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--at-least", "80"), "a share lies between 0 and 1"),
        (("--limit", "0"), "whole number from 1"),
        (("--system", "base", "--left", "base"), "at once"),
        (("--left", "base"), "needs two systems"),
        (("--system", "nobody"), "no predictions of this name"),
        (("--weights", "/nowhere/judge.gguf"), "two judges at once"),
    ],
)
def test_flags_that_do_not_fit_are_told(
    run: Path, server: ChatServer, flags: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(run, server, *flags) == 2
    assert told in capsys.readouterr().err and server.count == 0


def test_weights_judge_by_their_next_token_without_any_endpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiny_models import make_tiny_llama

    weights = make_tiny_llama(tmp_path / "weights")
    assert (
        main(["judge", "--run", str(run), "--weights", str(weights), "--system", "tuned", "--limit", "1", "--json"])
        == 0
    )
    report = shown(capsys)
    assert report["card"]["how"] == "next token" and report["place"].startswith("weights ")
    assert report["card"]["asked"] == 1
