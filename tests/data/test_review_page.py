"""The page to review examples by hand: what it holds, and that its sheet comes back as it was decided."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from fieldwise.cli import main
from fieldwise.data.review_page import review_page
from fieldwise.data.review_sheet import open_review
from fieldwise.generate.review import COLUMNS, apply, read_sheet
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.records import Chunk, Evidence, Example, Message
from fieldwise.run import RunFolder
from fieldwise.tables import write_records

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>'
COUNT = 45


def make_run(folder: Path) -> RunFolder:
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.recipe_path.write_text("name: small\n")
    chunks, examples = [], []
    for n in range(COUNT):
        text = f"Rules of room {n}. {'It is quiet here. ' * 30}The key of room {n} is kept for {n + 2} days.\nEnd."
        chunks.append(
            Chunk(
                id=f"chk_{n}",
                document_id=f"doc_{n}",
                uri=f"room-{n}.md",
                title="Rooms",
                start=0,
                end=9,
                text=text,
                page=3,
            )
        )
        question, answer = f'How long is "key {n}" kept, and where?', f"=for {n + 2} days"
        if n == 1:
            question, answer = HOSTILE, HOSTILE
        for prompt in (closed_prompt(question), grounded_prompt(question, [text])):
            examples.append(
                Example.make(
                    question=question, answer=answer, kind="fact" if n % 2 else "time",
                    style="closed" if len(prompt) == 2 and prompt == closed_prompt(question) else "grounded",
                    conversation=(*prompt, Message(role="assistant", content=answer)),
                    evidence=(Evidence(chunk_id=f"chk_{n}", quote=f"The key of room {n} is kept for {n + 2} days."),),
                    chunk_ids=(f"chk_{n}",), document_ids=(f"doc_{n}",),
                )
            )  # fmt: skip
    write_records(folder / "2_chunks/chunks.parquet", chunks, Chunk)
    write_records(folder / "3_examples/train.parquet", examples, Example)
    for split in ("validation", "test"):
        write_records(folder / f"3_examples/{split}.parquet", [], Example)
    (folder / "3_examples/card.json").write_text("{}")
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


def test_each_pair_stands_once_for_all_its_wordings(run: RunFolder) -> None:
    review = open_review(run)
    assert len(review.items) == COUNT and {i.wordings for i in review.items} == {2}
    assert all(i.example.style == "closed" and i.chunk is not None for i in review.items)
    some = open_review(run, sample=10)
    assert (len(some.items), some.left) == (10, COUNT - 10) and some.items == open_review(run, sample=10).items


def test_the_page_is_one_file_that_asks_nobody_and_holds_no_foreign_markup(run: RunFolder) -> None:
    text = review_page(open_review(run))
    page = html.fromstring(text)
    assert len(page.xpath("//script")) == 2 and not page.xpath("//img | //link | //*[@src]")
    policy = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    held = json.loads(page.xpath("//script[@id='sheet']")[0].text)
    assert len(held["items"]) == COUNT and held["items"][1]["question"] == HOSTILE
    assert text == review_page(open_review(run))


def test_the_command_writes_page_or_sheet_and_checks_one_that_came_back(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "--run", str(run.path)]) == 0
    assert "45 pairs" in capsys.readouterr().out and (run.path / "review.html").is_file()
    sheet = tmp_path / "sheet.csv"
    assert main(["review", "--run", str(run.path), "--csv", str(sheet), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == COUNT
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS and rows[0]["answer"] == "'=for 2 days"  # no formula for a spreadsheet
    assert main(["review", "--run", str(run.path), "--csv", str(sheet)]) == 2  # decisions are not written over
    rows[0]["verdict"], rows[2]["verdict"] = "drop", "whatever"
    with sheet.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    assert main(["review", "--run", str(run.path), "--check", str(sheet)]) == 2
    told = capsys.readouterr().out
    assert "2 to drop" in told and "sheet.csv:4: review_unknown_verdict" in told


@pytest.mark.browser
def test_what_is_decided_on_the_page_comes_back_as_a_sheet(browser: Any, run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "review.html"
    path.write_text(review_page(open_review(run)), encoding="utf-8")
    context = browser.new_context(viewport={"width": 375, "height": 720}, offline=True, accept_downloads=True)
    context.set_default_timeout(60_000)  # milliseconds; for busy machines, nothing waits so long
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    items = page.locator(".item")
    assert items.count() == 20 and "0 of 45 decided" in page.locator("#done").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".passage mark").first.inner_text() == "The key of room 0 is kept for 2 days."

    items.nth(0).get_by_label("Keep").check()
    items.nth(1).get_by_label("Drop").check()
    items.nth(2).get_by_label("Fix").check()
    items.nth(2).get_by_label("Right answer").fill('for "4" days,\nat most')
    items.nth(2).get_by_label("Note").fill("=checked")
    page.get_by_role("button", name="Next").click()
    assert page.locator(".item-head b").first.inner_text() == "21"
    page.wait_for_timeout(1000)  # the browser writes what a page stores behind its back, and reloading may be faster
    page.reload()  # what was decided is still there
    assert "3 of 45 decided: 1 keep, 1 fix, 1 drop" in page.locator("#done").inner_text()
    page.locator("#state").select_option("fix")
    assert items.count() == 1 and items.get_by_label("Right answer").input_value() == 'for "4" days,\nat most'
    with page.expect_download() as started:
        page.get_by_role("button", name="Save the sheet").click()
    sheet = tmp_path / "back.csv"
    started.value.save_as(sheet)

    examples = [i.example for i in open_review(run).items]
    found = apply(read_sheet(sheet, {e.id: e for e in examples}), examples, [])
    assert (found.facts["kept"], found.facts["fixed"], found.facts["dropped"]) == (1, 1, 1)
    assert found.facts["rows_untouched"] == COUNT - 3 and not found.facts["lines_aside"]
    fixed = next(c for c in found.corrections if c.decision == "fix")
    assert (fixed.answer, fixed.question, fixed.note) == ('for "4" days,\nat most', fixed.question_was, "=checked")

    page.evaluate("localStorage.clear()")
    page.reload()
    assert "0 of 45 decided" in page.locator("#done").inner_text()
    page.locator("#load").set_input_files(sheet)
    page.wait_for_function("document.getElementById('done').textContent.includes('3 of 45 decided')")
    assert page.title() != "owned" and faults == []
    context.close()
