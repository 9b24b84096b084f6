"""The page of the blind comparison in a real browser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "compare"))

from ballots import write_predictions
from live import Live, live
from released_run import make_documents, make_run
from test_ui_page import CONTRAST

from fieldwise.compare.votes import read_votes
from fieldwise.records import Answer, Citation
from fieldwise.run import RunFolder

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]
QUOTE = "Rub the gel with both hands for 25 seconds, until the hands are dry."
PHONE = {"viewport": {"width": 375, "height": 720}, "is_mobile": True, "has_touch": True}
HOSTILE = "<img src=x onerror=\"window.hacked='answer'\">"


def cited(text: str) -> Answer:
    document = make_documents()[0]
    start = document.text.index(QUOTE)
    citation = Citation(
        mark=1, chunk_id="chk_x", document_id=document.id, uri=document.source.uri, title=document.title, heading_path=("Hand hygiene", "Alcohol gel"),
        page=1, start=start, end=start + len(QUOTE), quote=QUOTE, is_verified=True,
    )  # fmt: skip
    return Answer(text=f"{text} [1]", answer=text, model="the-hidden-model", citations=(citation,))


def plain(text: str) -> Answer:
    return Answer(text=text, answer=text, model="the-hidden-model")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = make_run(tmp_path / "run")
    write_predictions(
        made, "base", {f"q{n:02}": plain(f"about {n} seconds, or so one would think {HOSTILE}") for n in range(16)}
    )
    write_predictions(made, "tuned", {f"q{n:02}": cited(f"{n} seconds") for n in range(16)})
    return made


@pytest.fixture
def service(run: RunFolder) -> Iterator[Live]:
    with live(run) as running:
        yield running


def begin(open_page: OpenPage, service: Live, voter: str = "Mia", **options: Any) -> Any:
    page = open_page(service.url, **options)
    page.goto(f"{service.url}/compare")
    page.get_by_test_id("voter").fill(voter)
    page.get_by_test_id("begin").click()
    page.get_by_test_id("choose-tie").wait_for()
    return page


def wait_for_votes(page: Any, count: int, voter: str = "Mia") -> None:
    page.wait_for_function(
        "text => document.getElementById('progress').textContent.startsWith(text)", arg=f"{voter} · {count} of "
    )


def votes(run: RunFolder) -> list[str]:
    return [v.choice for v in read_votes(run.path / "5_reports/votes.jsonl").votes]


def test_two_answers_without_names_a_vote_and_the_next(open_page: OpenPage, service: Live, run: RunFolder) -> None:
    page = begin(open_page, service)
    assert page.evaluate("document.activeElement.id") == "question"
    shown = page.content()
    assert "seconds" in shown and not any(
        name in page.get_by_test_id("ballot").inner_text() for name in ("base", "tuned")
    )
    assert "the-hidden-model" not in shown
    first = page.get_by_test_id("question").text_content()
    page.get_by_test_id("choose-left").click()
    wait_for_votes(page, 1)
    assert page.get_by_test_id("question").text_content() != first and votes(run) == ["left"]
    vote = read_votes(run.path / "5_reports/votes.jsonl").votes[0]
    assert vote.voter == "Mia" and vote.via == "page" and 0 <= vote.seconds < 60
    page.get_by_test_id("undo").click()
    wait_for_votes(page, 0)
    assert page.get_by_test_id("question").text_content() == first and votes(run) == []


def test_everything_can_be_voted_with_the_keyboard_and_the_keys_can_be_switched_off(
    open_page: OpenPage, service: Live, run: RunFolder
) -> None:
    page = begin(open_page, service)
    for count, key in enumerate(("ArrowLeft", "ArrowRight", "t", "N", "s"), 1):
        page.keyboard.press(key)
        wait_for_votes(page, count)
    assert votes(run) == ["left", "right", "tie", "both_bad", "skip"]
    page.keyboard.press("u")
    wait_for_votes(page, 4)
    page.get_by_test_id("shortcuts").uncheck(force=True)
    page.keyboard.press("t")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(150)
    assert len(votes(run)) == 4
    page.get_by_test_id("choose-tie").focus()
    page.keyboard.press("Enter")
    wait_for_votes(page, 5)


def test_the_cited_passage_opens_beside_the_answers(open_page: OpenPage, service: Live) -> None:
    page = begin(open_page, service)
    page.get_by_test_id("source").first.click()
    page.get_by_test_id("mark").wait_for()
    assert page.get_by_test_id("mark").text_content() == QUOTE
    page.keyboard.press("t")  # reading the document is no voting
    page.keyboard.press("Escape")
    assert not page.get_by_test_id("document").is_visible()
    page.get_by_test_id("choose-tie").click()
    wait_for_votes(page, 1)


def test_who_comes_back_goes_on_and_the_end_leads_to_the_result(
    open_page: OpenPage, service: Live, run: RunFolder
) -> None:
    page = begin(open_page, service)
    for count in range(1, 4):
        page.keyboard.press("ArrowLeft")
        wait_for_votes(page, count)
    page.get_by_test_id("stop").click()
    assert page.evaluate("document.activeElement.id") == "ended-title"
    page = begin(open_page, service, voter="mia")
    wait_for_votes(page, 3, "mia")
    for count in range(4, 18):
        page.keyboard.press("ArrowRight")
        if count < 17:
            wait_for_votes(page, count, "mia")
    page.get_by_text("Everything is voted on").wait_for()
    page.get_by_test_id("result-open").click()
    page.get_by_test_id("pair-result").wait_for()
    assert "base against tuned, 16 votes on 16 questions" in page.get_by_test_id("pair-result").inner_text()
    assert "more vote" in page.get_by_test_id("enough").text_content()
    assert "too fast" in page.get_by_test_id("looks").inner_text()
    assert page.evaluate("document.activeElement.id") == "result-title"


def test_text_of_answers_is_never_run_as_markup(open_page: OpenPage, service: Live) -> None:
    page = begin(open_page, service)
    assert HOSTILE in page.get_by_test_id("ballot").inner_text()
    assert page.evaluate("window.hacked") is None and page.locator("main img").count() == 0


def test_a_vote_that_does_not_arrive_is_told_and_can_be_cast_again(
    open_page: OpenPage, service: Live, run: RunFolder
) -> None:
    page = begin(open_page, service)
    page.context.set_offline(True)
    page.keyboard.press("t")
    page.get_by_test_id("problem").wait_for()
    assert "cannot be reached" in page.get_by_test_id("problem").text_content()
    page.context.set_offline(False)
    page.keyboard.press("t")
    wait_for_votes(page, 1)
    assert votes(run) == ["tie"] and not page.get_by_test_id("problem").is_visible()


def test_two_windows_of_one_voter_do_not_vote_twice(open_page: OpenPage, service: Live, run: RunFolder) -> None:
    one, other = begin(open_page, service), begin(open_page, service)
    one.keyboard.press("t")
    wait_for_votes(one, 1)
    other.keyboard.press("ArrowLeft")
    wait_for_votes(other, 1)
    assert votes(run) == ["tie"]


def test_on_a_phone_nothing_is_wider_than_the_screen_and_the_choices_stay_in_view(
    open_page: OpenPage, service: Live
) -> None:
    page = begin(open_page, service, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    boxes = [page.get_by_test_id(f"answer-{side}").bounding_box() for side in ("left", "right")]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
    for choice in ("left", "tie", "right", "both-bad", "skip"):
        box = page.get_by_test_id(f"choose-{choice}").bounding_box()
        assert box["height"] >= 44 and box["y"] + box["height"] <= 720
    page.get_by_test_id("choose-right").tap()
    wait_for_votes(page, 1)
    page.get_by_test_id("stop").tap()
    page.get_by_test_id("result-open").tap()
    page.get_by_test_id("pair-result").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_key_is_asked_for_where_the_service_wants_one(
    open_page: OpenPage, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_THIS_TEST", "right-key")
    with live(run, api_key_env="KEY_OF_THIS_TEST") as service:
        page = open_page(service.url)
        page.goto(f"{service.url}/compare")
        page.get_by_test_id("key").fill("wrong")
        page.get_by_test_id("key-save").click()
        page.get_by_text("This key is not accepted.").wait_for()
        page.get_by_test_id("key").fill("right-key")
        page.get_by_test_id("key-save").click()
        page.get_by_test_id("voter").fill("Mia")
        page.get_by_test_id("begin").click()
        page.get_by_test_id("choose-tie").click()
        wait_for_votes(page, 1)
    assert votes(run) == ["tie"]


def test_a_run_without_two_systems_says_what_to_do(open_page: OpenPage, ui_service: Live) -> None:
    page = open_page(ui_service.url)
    page.goto(f"{ui_service.url}/compare")
    page.get_by_text("not two systems to compare").wait_for()
    assert "fieldwise evaluate" in page.get_by_test_id("problem").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page: OpenPage, service: Live, scheme: str) -> None:
    page = begin(open_page, service, color_scheme=scheme)
    ratios = page.evaluate(CONTRAST)
    page.keyboard.press("t")
    wait_for_votes(page, 1)
    page.get_by_test_id("stop").click()
    page.get_by_test_id("result-open").click()
    page.get_by_test_id("pair-result").wait_for()
    ratios += page.evaluate(CONTRAST)
    assert len(ratios) > 25 and min(ratio for ratio, _ in ratios) >= 4.5, sorted(ratios)[:3]
