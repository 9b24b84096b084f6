"""The report as one HTML file: what stands in it, what cannot get into it, and how a browser takes it."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from fieldwise.evaluate import stage
from fieldwise.evaluate.items import declines, flips, slices
from fieldwise.evaluate.metrics import TIMES
from fieldwise.evaluate.page import Measured, _word, in_words, page
from fieldwise.evaluate.page_items import MOST_SHOWN
from fieldwise.evaluate.report import Scored, report_json, score_system, with_whole_sets
from fieldwise.evaluate.settings import EvaluateSettings, GateSettings
from fieldwise.evaluate.table import SHOWN, cell
from fieldwise.files import write_json, write_jsonl
from fieldwise.page.look import STYLE
from fieldwise.page.markup import escape
from fieldwise.records import NOT_STATED, Answer, BaseWeights, Citation, Difference, GateResult, Interval, Question
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.run import RunFolder, StepRun

SYSTEMS = ("base", "rag_base", "sft", "preference", "rag_tuned")
HOSTILE = "<script>document.title='owned'</script></textarea></style><img src=x onerror=alert(1)>\x00"
ARABIC = "كم من الوقت يجب أن أغسل يدي؟ \u202eevil"
LONG = "w" * 3000
VOID = {"meta", "input", "br", "link", "img", "hr"}


def said(text: str, *, cites: bool = False) -> Answer:
    citation = Citation(
        mark=1, chunk_id="c", document_id="d", uri="u", title=f"T {HOSTILE[:20]}", page=3, start=0, end=1, quote="q",
        is_verified=True,
    )  # fmt: skip
    return Answer(
        text=text,
        answer=text,
        model="m",
        is_declined=text == NOT_STATED,
        citations=(citation,) if cites else (),
        known_bits=1.25 if cites else 4.5,
    )


def asked(count: int = 40) -> list[Question]:
    """Four questions in five have an answer; the first ones carry texts that try to break out."""
    texts = [HOSTILE, ARABIC, LONG]
    return [
        Question(
            id=f"q{n:03d}",
            question=texts[n] if n < len(texts) else f"Question {n}?",
            answer=None if n % 5 == 4 else "14 days",
            document=None if n % 5 == 4 else f"d{n % 3}.pdf",
            kind=("duration", "place", LONG, "rare")[n % 4 if n < 38 else 3],
        )
        for n in range(count)
    ]


MEASURED = [m for m in SHOWN if m not in (*TIMES, "claims_entailed")]  # times are not shown, and no NLI model is named


def measured(count: int = 40, systems: tuple[str, ...] = SYSTEMS, **settings: Any) -> Measured:
    questions = asked(count)
    answers: dict[str, list[Answer]] = {}
    for place, system in enumerate(systems):
        answers[system] = [
            said("14 days" if (n + place) % 4 else "red" if n % 2 else NOT_STATED, cites=system.startswith("rag"))
            for n in range(count)
        ]
    answers[systems[-1]][:3] = [said(HOSTILE, cites=True), said(ARABIC), said(LONG)]
    given = EvaluateSettings(bootstrap_samples=100, systems=systems, **settings)  # type: ignore[arg-type]
    scores = {s: score_system(s, a, questions) for s, a in answers.items()}
    report = stage.build_report(scores, questions, given, 7, selected="preference")
    return Measured("ward <handbook> & co", report, questions, answers, scores, 100)  # type: ignore[arg-type]


class Reader(HTMLParser):
    """Opens and closes elements as written, without mending anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.seen: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        for name, value in attrs:
            self.ids[value or ""] += name == "id"
            if name in ("src", "href", "action", "srcset", "data"):
                self.addresses.append(value or "")
            if name.startswith("on") or name == "style":
                self.faults.append(f"{tag} {name}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


# ---------------------------------------------------------------- structure


def test_every_element_is_closed_and_every_id_stands_once() -> None:
    reader = read(page(measured()))
    assert reader.open == [] and reader.faults == []
    assert max(reader.ids.values()) == 1
    assert (reader.seen["h1"], reader.seen["main"], reader.seen["script"], reader.seen["style"]) == (1, 1, 1, 1)


def test_tables_have_captions_and_headers_and_pictures_say_what_they_show() -> None:
    root = html.document_fromstring(page(measured()))
    assert root.xpath("//table") and not root.xpath("//table[not(caption)] | //th[not(@scope)]")
    pictures = root.xpath("//figure/svg")
    assert len(pictures) == len(MEASURED)
    for picture in pictures:
        assert picture.get("role") == "img" and picture.get("aria-labelledby") == picture[0].get("id")
        assert re.search(r"base, closed book \(baseline\) \d\.", picture[0].text)
    assert not root.xpath("//section//svg[not(@role) and not(@aria-hidden)]")


def test_every_part_is_in_the_list_at_the_top() -> None:
    root = html.document_fromstring(page(measured()))
    assert [a.get("href")[1:] for a in root.xpath("//nav//a")] == root.xpath("//section/@id")


def test_nothing_is_asked_of_another_place() -> None:
    text = page(measured())
    assert all(a.startswith("#") for a in read(text).addresses)
    assert not re.search(r"url\(|@import|https?://|\bfetch\(|innerHTML", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize("scheme", [0, 1])
def test_words_stand_out_from_what_is_behind_them(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[0] + (blocks[1] if scheme else "")))
    pairs = [(ink, back) for ink in ("ink", "muted") for back in ("ground", "surface", "sunken")]
    pairs += [(n, f"{n}-soft") for n in ("accent", "warning", "error")] + [("accent", "ground"), ("accent", "surface")]
    for ink, back in pairs:
        assert contrast(colours[ink], colours[back]) >= 4.5, (ink, back)
    assert contrast(colours["strong-line"], colours["surface"]) >= 3


def contrast(first: str, second: str) -> float:
    """Contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


# ---------------------------------------------------------------- escaping


def test_texts_stay_texts() -> None:
    text = page(measured())
    root = html.document_fromstring(text)
    shown = HOSTILE.replace("\x00", "\ufffd")
    assert root.xpath("//h1")[0].text == "ward <handbook> & co"
    assert shown in [e.text for e in root.xpath("//*[@class='question' or @class='reply']")]
    assert not root.xpath("//img | //textarea") and text.count("<script>") == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_escape_takes_what_html_and_utf_8_forbid() -> None:
    assert escape("a\ud800b\x0c\"'<&\r\n") == "a\ufffdb\ufffd&quot;&#x27;&lt;&amp;\n\n"


def test_of_a_very_long_text_the_beginning_is_shown_and_the_rest_counted() -> None:
    root = html.document_fromstring(page(measured()))
    assert "w" * 2000 + "… (1,000 more characters)" in root.xpath("//*[@class='question']/text()")
    assert "w" * 160 + "… (2,840 more characters)" in root.xpath("//section[@id='slices']//th/bdi/text()")


def test_right_to_left_texts_keep_their_direction_to_themselves() -> None:
    root = html.document_fromstring(page(measured()))
    holders = [e for e in root.iter() if isinstance(e.tag, str) and ARABIC in (e.text or "")]
    assert holders and all(e.get("dir") == "auto" or e.tag == "bdi" for e in holders)


# ---------------------------------------------------------------- numbers


def test_the_numbers_are_those_of_the_report() -> None:
    given = measured()
    written = json.loads(json.dumps(report_json(given.report)))
    root = html.document_fromstring(page(given))
    rows = root.xpath("//section[@id='systems']//tbody/tr")
    for name, row in zip(MEASURED, rows, strict=True):
        figures = [Interval.model_validate(s["figures"][name]) for s in written["systems"]]
        n = max(f.n for f in figures)
        assert [td.text_content() for td in row.xpath("td")] == [cell(f, n) for f in figures]
    rows = root.xpath("//section[@id='differences']//tbody/tr")
    for name, row in zip(MEASURED, rows, strict=True):
        for system, td in zip(written["systems"][1:], row.xpath("td"), strict=True):
            d = Difference.model_validate(system["differences"][name])
            found = f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}]" if d.value is not None else "-"
            assert td.text_content().startswith(found) and (d.value is None or f"n={d.n}" in td.text_content())
    assert written["questions_sha256"] in root.xpath("//dd[@class='hash']")[0].text


def test_differences_say_what_the_questions_can_show_and_what_holds_only_taken_alone() -> None:
    words = html.document_fromstring(page(measured())).get_element_by_id("differences").text_content()
    assert "is seen with 80 % power from: Token F1 0." in words and "{" not in words
    assert "no question differs" in words
    found = Difference(value=0.1, low=0.01, high=0.2, n=40, changed=9, p=0.03, p_adjusted=0.2)
    assert _word(found) == "better taken alone"
    assert _word(found.model_copy(update={"p_adjusted": 0.04})) == "better"
    assert _word(found.model_copy(update={"value": -0.1, "low": -0.2, "high": -0.01})) == "worse taken alone"
    assert _word(found.model_copy(update={"low": -0.01})) == "not decided"


def test_each_gate_stands_in_words_with_its_figures() -> None:
    given = measured()
    shown = html.document_fromstring(page(given)).xpath("//section[@id='gates']")[0].text_content()
    for gate in given.report.gates:
        assert gate.verdict in shown and gate.found in shown
    assert "Token F1 of RAG over SFT+DPO: not worse than that of RAG over base by more than 0.05" in shown


@pytest.mark.parametrize(
    ("metric", "requirement", "words"),
    [
        ("token_f1", "sft: token_f1 at least 0.5", "Token F1 of SFT, closed book: at least 0.5"),
        (
            "token_f1",
            "sft: token_f1 at least 0.5 and better than base",
            "Token F1 of SFT, closed book: at least 0.5 and better than that of base, closed book",
        ),
        (
            "mine",
            "sft: mine better than preference",
            "mine of SFT, closed book: better than that of SFT+DPO, closed book",
        ),
        ("mine", "something else", "something else"),
    ],
)
def test_what_a_gate_wants_in_words(metric: str, requirement: str, words: str) -> None:
    gate = GateResult(metric=metric, verdict="PASS", requirement=requirement, found="")
    assert in_words(measured().report, gate) == words


def test_no_gate_is_no_pass() -> None:
    shown = html.document_fromstring(page(measured(gates=()))).xpath("//section[@id='gates']")[0].text_content()
    assert "No gate was set" in shown and "PASS" not in shown


def test_a_gate_on_seconds_shows_no_time() -> None:
    given = measured(gates=(GateSettings(metric="seconds", system="base", baseline=None, at_least=1.0),))
    gate = given.report.gates[0].model_copy(update={"found": "0.123 [0.100, 0.140], n=40"})
    text = page(given._replace(report=given.report.model_copy(update={"gates": (gate,)})))
    assert "0.123" not in text and "a time" in text


# ---------------------------------------------------------------- slices, flips, declines


def scored(*values: float | None) -> Scored:
    return Scored("s", "token_f1", values)


def test_slices_are_counted_worst_first_and_small_ones_together_at_the_end() -> None:
    names = ["good"] * 5 + ["bad"] * 6 + ["few"] * 4 + ["one"] + ["good"]
    values = [0.8] * 5 + [0.25] * 6 + [0.5] * 4 + [0.0] + [None]
    found = slices(names, scored(*values), scored(*[0.5] * 17), [f"d{n % 4}" for n in range(17)], 100, 0)
    assert [(s.name, s.figure.n, s.merged) for s in found] == [("bad", 6, 0), ("good", 5, 0), ("other", 5, 2)]
    assert [round(s.figure.value or 0, 3) for s in found] == [0.25, 0.8, 0.4]
    assert [s.reference.n if s.reference else None for s in found] == [6, 5, 5]
    assert found[2].figure.low is not None and found[2].figure.low < 0.4 < (found[2].figure.high or 0)


def test_domain_and_difficulty_are_slices_where_questions_name_them() -> None:
    made = measured(40)
    captions = "//section[@id='slices']//caption/text()"
    assert html.document_fromstring(page(made)).xpath(captions) == ["By kind of question", "By document"]
    named = [
        q.model_copy(update={"difficulty": ("easy", "hard")[n % 2], "domain": "ward" if n < 20 else ""})
        for n, q in enumerate(made.questions)
    ]
    root = html.document_fromstring(page(made._replace(questions=named)))
    assert root.xpath(captions) == ["By domain", "By kind of question", "By difficulty", "By document"]
    rows = root.xpath("//table[caption='By difficulty']/tbody/tr")
    assert sorted((r.xpath("string(*[1])"), r.xpath("string(*[2])")) for r in rows) == [("easy", "16"), ("hard", "16")]
    assert "no domain named" in root.xpath("string(//table[caption='By domain'])")


def test_a_doubt_has_a_section_with_both_curves_and_none_has_none() -> None:
    made = measured(60)
    assert "The doubt" not in page(made)
    answers = {
        s: [a.model_copy(update={"doubt": (n % 10) / 10}) for n, a in enumerate(given)]
        for s, given in made.answers.items()
    }
    report = with_whole_sets(made.report, answers, made.questions, 100)
    root = html.document_fromstring(page(made._replace(report=report, answers=answers)))
    pictures = root.xpath("//section[@id='doubt']//figure/svg")
    assert [p.get("aria-labelledby") for p in pictures] == ["coverage-said", "reliability-said"]
    assert [p[0].get("id") for p in pictures] == ["coverage-said", "reliability-said"]
    assert read(page(made._replace(report=report, answers=answers))).faults == []


def test_flips_are_counted_and_the_largest_loss_is_first() -> None:
    questions = [Question(id=i, question="?", answer="a") for i in "fedcba"]
    found = flips(scored(0.2, 0.0, 1.0, 0.5, None, 0.0), scored(0.5, 1.0, 0.5, 0.5, 1.0, 1.0), questions)
    assert [(f.position, round(f.change, 3)) for f in found.lost] == [(5, -1.0), (1, -1.0), (0, -0.3)]
    assert [(f.position, f.change) for f in found.won] == [(2, 0.5)] and found.same == 1


def test_declines_are_right_wrong_and_missed() -> None:
    questions = [Question(id=str(n), question="?", answer=a) for n, a in enumerate(("x", None, "x", None))]
    assert declines([said(t) for t in (NOT_STATED, NOT_STATED, "x", "x")], questions) == ([1], [0], [3])


def test_flips_and_declines_stand_on_the_page_as_counted() -> None:
    given = measured()
    root = html.document_fromstring(page(given))
    found = flips(given.scores["rag_tuned"]["overall_f1"], given.scores["rag_base"]["overall_f1"], given.questions)
    kinds = [e.get("data-flip") for e in root.xpath("//*[@data-flip]")]
    assert kinds == ["lost"] * len(found.lost) + ["won"] * len(found.won) and found.lost and found.won
    counts = [e.text_content() for e in root.xpath("//section[@id='flips']//ul[@class='counts']/li")]
    assert counts == [f"{len(found.lost)} lost", f"{len(found.won)} won", f"{found.same} same score"]
    sorted_out = declines(given.answers["rag_tuned"], given.questions)
    captions = root.xpath("//section[@id='declines']//caption/text()")
    assert captions[0] == f"Declined although the documents answer ({len(sorted_out.wrong)})"


def test_of_many_flips_the_first_are_shown_and_the_rest_is_counted() -> None:
    given = measured(900)
    root = html.document_fromstring(page(given))
    found = flips(given.scores["rag_tuned"]["overall_f1"], given.scores["rag_base"]["overall_f1"], given.questions)
    rest = len(found.lost) + len(found.won) - MOST_SHOWN
    assert rest > 0 and len(root.xpath("//*[@data-flip]")) == MOST_SHOWN
    assert f"{rest} more are in the files" in root.xpath("//section[@id='flips']")[0].text_content()


@pytest.mark.parametrize("systems", [("base",), ("base", "sft"), ("rag_tuned",), ("rag_base", "rag_tuned")])
def test_fewer_systems_make_a_page_as_well(systems: tuple[str, ...]) -> None:
    reader = read(page(measured(systems=systems, gates=())))
    assert reader.open == [] and reader.faults == []


# ---------------------------------------------------------------- the stage


class Echo:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def close(self) -> None: ...

    def answer_all(self, conversations: Any, known: Any = ()) -> Any:
        for _ in conversations:
            yield said("14 days")

    name = "echo"


def evaluated(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> bytes:
    run, questions = RunFolder(folder), asked(20)
    (run.path / "4_adapters/sft/merged").mkdir(parents=True)
    write_json(run.path / "4_adapters/sft/merged/config.json", {})
    write_json(run.path / "4_adapters/selected.json", {"selected": "sft"})
    write_json(run.path / "times/base.json", {"seconds": [seconds] * 20})
    rows = ({"id": q.id, "answer": said(NOT_STATED).model_dump(mode="json", exclude={"timings"})} for q in questions)
    write_jsonl(run.path / "5_reports/predictions/base.jsonl", rows)
    for name, value in (("TransformersEngine", Echo), ("make_answerer", lambda *_: Echo())):
        monkeypatch.setattr(stage, name, value)
    monkeypatch.setattr(stage, "load_questions", lambda *_: questions)
    settings = EvaluateSettings(systems=("base", "sft"), gates=(), bootstrap_samples=100)
    step = StepRun(run, "4d_evaluate", "0" * 64, 0)
    stage.run_evaluate(settings, RetrieveSettings(), BaseWeights(), step, name="wards")
    return (step.staging / "5_reports/report.html").read_bytes()


def test_a_run_repeated_writes_the_same_bytes_whatever_time_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluated(tmp_path / "one", monkeypatch, 1.25)
    assert first == evaluated(tmp_path / "two", monkeypatch, 98.75)
    assert b"<title>wards: evaluation report</title>" in first and b"held-out generated examples" in first
    assert str(tmp_path).encode() not in first


def test_name_and_code_of_the_page_are_part_of_the_key(tmp_path: Path) -> None:
    from fieldwise.recipe import Recipe
    from fieldwise.steps import STEPS

    step = next(s for s in STEPS if s.number == "4d")
    assert "evaluate" in step.rooms  # every module of the room is hashed
    assert step.settings(Recipe(name="one")) != step.settings(Recipe(name="two"))


# ---------------------------------------------------------------- in a browser


@pytest.mark.browser
def test_the_page_opens_offline_fits_a_phone_and_can_be_filtered(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(measured()), encoding="utf-8")
    context = browser.new_context(viewport={"width": 375, "height": 720}, offline=True)
    opened, faults, requests = context.new_page(), [], []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(file.as_uri())
    assert opened.title() == "ward <handbook> & co: evaluation report"
    for width in (375, 1280):
        opened.set_viewport_size({"width": width, "height": 720})
        assert opened.evaluate("document.documentElement.scrollWidth") == width
    every = opened.locator("[data-flip]").count()
    opened.locator("#filter-kind").select_option("won")
    won = opened.locator("[data-flip]:visible").count()
    assert 0 < won < every and opened.locator("#filter-shown").text_content() == f"{won} of {every} shown"
    assert len(opened.screenshot(full_page=True)) > 10_000
    assert faults == [] and requests == [file.as_uri()]
    context.close()


@pytest.mark.browser
def test_without_scripts_everything_stands_there(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(measured()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(file.as_uri())
    items = opened.locator("[data-flip]")
    assert items.count() > 0 and all(items.nth(n).is_visible() for n in range(items.count()))
    assert not opened.locator("#filter").is_visible()
    context.close()
