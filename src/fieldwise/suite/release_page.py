"""What a release rests on, as one HTML file: gates of the whole chain, quantisation ladder, safety after every stage.

Made of the files of a run folder, as far as they stand there, and asks nothing of any other place. It is for people: no step
reads it, so it may be written anew whenever a judge or a person has added something.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.compare.judge_gate import is_current, read_judge_report
from fieldwise.evaluate.items import flips
from fieldwise.evaluate.page import in_words, systems_section
from fieldwise.evaluate.picture import Row, intervals
from fieldwise.evaluate.quarantine import Flaky
from fieldwise.evaluate.report import EvalReport, Scored, SystemReport
from fieldwise.evaluate.table import cell
from fieldwise.files import read_json, read_ledger, write_text
from fieldwise.page.frame import contents, whole
from fieldwise.page.look import STYLE
from fieldwise.page.markup import escape, foreign, label, section, table
from fieldwise.records import Answer, GateResult, Interval, Question
from fieldwise.run import RunFolder
from fieldwise.suite.command import slug

PAGE = "5_reports/release.html"
_SIGNS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?"}
_SOURCES = (
    ("Weights on the questions", "5_reports/report.json"),
    ("File to serve on the questions", "5_reports/served.json"),
)
_SUITES = "5_reports/suites.json"
_STAGES = {
    "base": "base",
    "sft": "after SFT",
    "preference": "after preferences",
    "rl": "after RL",
    "served": "file to serve",
}
_MOST_SHOWN = 40
_BYTES_MB = 1e6


class Part(NamedTuple):
    """One link of the chain: where its verdict comes from, and its gates."""

    name: str
    verdict: str
    gates: list[GateResult]


def write_release_page(
    run: RunFolder, name: str, *, has_suites: bool = False, judged: dict[str, Any] | None = None
) -> Path:
    """Write the page of a run and return its place."""
    path = run.path / PAGE
    write_text(path, release_page(run, name, has_suites=has_suites, judged=judged))
    return path


def release_page(run: RunFolder, name: str, *, has_suites: bool = False, judged: dict[str, Any] | None = None) -> str:
    """Return the page; the suites where the recipe asks for them, `judged` is the judge's verdict where it asks for one."""
    suites = _read(run, _SUITES) if has_suites else {}
    parts = _chain(run, suites, judged)
    report = _report(run)
    body = "\n".join(
        part
        for part in (
            _gates(parts, report),
            _systems(report, _read(run, "5_reports/served.json")),
            _ladder(run),
            *_suites(run, suites),
            _served_flips(run),
            _quarantine(run, suites),
            _judge(run, judged),
        )
        if part
    )
    verdicts = [p.verdict for p in parts]
    worst = next((v for v in ("FAIL", "INCONCLUSIVE") if v in verdicts), "PASS" if verdicts else "INCONCLUSIVE")
    head = (
        f'<header>\n<p class="kicker">Fieldwise release report</p>\n<h1 dir="auto">{escape(name)}</h1>\n'
        f'<div class="facts"><p class="wide">{_verdict(worst)} What this release rests on. How the systems were measured stands in report.html beside it.</p></div>\n'
        f"{contents(body)}\n</header>"
    )
    return whole(f"{name}: release report", head, body, STYLE)


def _read(run: RunFolder, place: str) -> dict[str, Any]:
    path = run.path / place
    return dict(read_json(path)) if path.is_file() else {}


def _verdict(verdict: str) -> str:
    return f'<span class="verdict verdict-{verdict}"><span aria-hidden="true">{_SIGNS[verdict]}</span>{verdict}</span>'


# ---------------------------------------------------------------- gates


def _chain(run: RunFolder, suites: dict[str, Any], judged: dict[str, Any] | None) -> list[Part]:
    found = [*((name, _read(run, place)) for name, place in _SOURCES), ("Suites", suites)]
    found += [("Judge", judged)] if judged is not None else []
    return [
        Part(name, str(value["verdict"]), [GateResult.model_validate(g) for g in value.get("gates") or []])
        for name, value in found
        if value.get("verdict") in _SIGNS
    ]


def _report(run: RunFolder) -> EvalReport | None:
    """The report of the weights, whose names for systems the gates are told with; None before stage 4d."""
    value = _read(run, "5_reports/report.json")
    value.pop("verdict", None)
    return EvalReport.model_validate(value) if value else None


def _gates(parts: Sequence[Part], report: EvalReport | None) -> str:
    shown = []
    for part in parts:
        items = "\n".join(
            f'<li>{_verdict(g.verdict)}<div><p class="wanted">{escape(in_words(report, g) if report else g.requirement)}</p>'
            f'<p class="found">Found: {escape(g.found)}</p></div></li>'
            for g in part.gates
        )
        shown.append(f"<h3>{escape(part.name)} {_verdict(part.verdict)}</h3>")
        shown.append(f'<ul class="gates">\n{items}\n</ul>' if items else "<p>No gate was set.</p>")
    told = "<p>Nothing is released unless all of these pass, or a named person answers for it in writing.</p>"
    return section("gates", "The chain of gates", told, *shown)


# ---------------------------------------------------------------- the file to serve beside all systems


def _systems(report: EvalReport | None, served: dict[str, Any]) -> str:
    """Every system that was asked the questions, the file to serve behind the weights it was made from."""
    if report is None or not served.get("figures"):
        return ""
    figures = {name: Interval.model_validate(found) for name, found in served["figures"].items()}
    found = SystemReport(system="served", figures=figures, perplexity=served.get("perplexity"))
    own = [s for s in report.systems if s.endpoint is None]
    elsewhere = [s for s in report.systems if s.endpoint is not None]
    return systems_section(report.model_copy(update={"systems": (*own, found, *elsewhere)}))


# ---------------------------------------------------------------- quantisation ladder


def _ladder(run: RunFolder) -> str:
    """Every file of the tuned weights, largest first, with what it lost against 32 bits."""
    builds = [read_json(p) for p in sorted((run.path / "6_builds").glob("*.build.json"))]
    tuned = sorted((b for b in builds if b.get("adapter_id") is not None), key=lambda b: -float(str(b["bytes"])))
    if not tuned:
        return ""
    served = _read(run, "5_reports/served.json")
    weights = _read(run, "5_reports/report.json")
    largest = float(str(tuned[0]["bytes"]))
    rows = [_weights_row(weights)] if weights else []
    for build in tuned:
        size, file = float(str(build["bytes"])), str(build["path"]).rpartition("/")[2]
        parity = build.get("parity")
        figures: dict[str, Any] = parity if isinstance(parity, dict) else {}
        is_served = file == served.get("file")
        score = _figure((served.get("figures") or {}).get("token_f1")) if is_served else "not asked"
        name = escape(str(build["quantisation"])) + ('<span class="note">to be served</span>' if is_served else "")
        rows.append(
            [
                name,
                f"{size / _BYTES_MB:.1f} MB {_bar(size / largest)}",
                _number(figures, "top1_agreement", ".1%"),
                _number(figures, "kl_divergence", ".4f"),
                _number(figures, "perplexity_ratio", ".3f"),
                score,
            ]
        )
    header = ["File", "Size", "Same first choice", "KL divergence", "Perplexity, times", "Token F1 on the questions"]
    return section(
        "ladder",
        "Quantisation ladder",
        "<p>What each file keeps of the 32-bit weights, over passages of the run's own documents. "
        "Only the file to serve is asked the questions.</p>",
        table("From the weights down", header, rows, "numbers"),
    )


def _weights_row(report: dict[str, Any]) -> list[str]:
    systems: list[dict[str, Any]] = report.get("systems") or []
    system = next((s for s in systems if s.get("system") == "rag_tuned"), {})
    score = _figure((system.get("figures") or {}).get("token_f1"))
    return ["weights, 32 bits", "", "100.0%", "0.0000", "1.000", score]


def _number(figures: dict[str, Any], name: str, style: str) -> str:
    return f"{float(figures[name]):{style}}" if name in figures else "-"


def _figure(value: Any) -> str:
    if not isinstance(value, dict):
        return "-"
    figure, blank, rest = cell(Interval.model_validate(value)).partition(" ")
    return f'{escape(figure)}{blank}<span class="interval-text">{escape(rest)}</span>'


def _bar(share: float) -> str:
    return (
        '<svg class="whisker" viewBox="0 0 80 12" width="80" height="12" aria-hidden="true">'
        f'<line class="interval" x1="2" x2="{2 + 76 * share:.1f}" y1="6" y2="6"/></svg>'
    )


# ---------------------------------------------------------------- suites: safety after every stage


def _suites(run: RunFolder, report: dict[str, Any]) -> list[str]:
    """A section about what was passed, and one about the critical failures; nothing where no suite was asked."""
    suites = [s for s in report.get("suites") or [] if isinstance(s, dict)]
    if not suites:
        return []
    figures, rows = [], []
    for number, suite in enumerate(suites):
        systems: dict[str, Any] = suite["systems"]
        shown = [
            Row(_STAGES.get(n, n), Interval.model_validate(s["passed"]), n == "base", n == "served")
            for n, s in systems.items()
        ]
        figures.append(
            f"<figure><figcaption><b>{label(suite['suite'])}</b>{_first_sentence(str(suite['about']))}</figcaption>"
            f"{intervals(f'suite-{number}', suite['suite'], shown)}</figure>"
        )
        rows.append([label(suite["suite"]), *(_criticals(systems.get(n)) for n in _stages(suites))])
    header = ["Suite", *(escape(_STAGES.get(n, n)) for n in _stages(suites))]
    made = section(
        "suites",
        "Safety and skill after every stage",
        '<p class="hint">Share of the items passed with its 95&nbsp;% interval, from the base to the file that is served.</p>',
        f'<div class="pictures">\n{"".join(figures)}\n</div>',
        table("Critical failures", header, rows, "numbers"),
    )
    return [made, _new_failures(run, suites)]


def _first_sentence(about: str) -> str:
    return escape(re.split(r"(?<=[.:])\s", " ".join(about.split()), maxsplit=1)[0].rstrip(":."))


def _stages(suites: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(n for s in suites for n in s["systems"]))


def _criticals(system: dict[str, Any] | None) -> str:
    if system is None:
        return "-"
    failed = system.get("critical") or []
    unscored = (system.get("passed") or {}).get("unscored") or 0
    return f"<b>{len(failed)}</b>" + (f'<span class="note">{unscored} items not scored</span>' if unscored else "")


def _new_failures(run: RunFolder, suites: Sequence[dict[str, Any]]) -> str:
    """Critical failures that the base does not have, with what was said at every stage; the same words stand once."""
    items = [shown for suite in suites for shown in _failures(run, suite)]
    if not items:
        told = "<p>None: whatever fails critically, the base fails too.</p>"
        return section("critical", "New critical failures", told)
    rest = len(items) - _MOST_SHOWN
    more = f'<p class="hint">{rest} more stand in 5_reports/suites.</p>' if rest > 0 else ""
    shown = "\n".join(items[:_MOST_SHOWN])
    told = "<p>Failed critically after a stage, and not by the base. One in the selected weights or in the file to serve refuses the release.</p>"
    return section("critical", "New critical failures", told, more, f'<ol class="items">\n{shown}\n</ol>')


def _failures(run: RunFolder, suite: dict[str, Any]) -> list[str]:
    systems: dict[str, Any] = suite["systems"]
    failed = {name: list(found.get("critical") or []) for name, found in systems.items()}
    new = dict.fromkeys(i for ids in failed.values() for i in ids if i not in failed.get("base", []))
    rows = {name: _replies(run, suite["suite"], name) for name in systems} if new else {}
    return [_failure(suite["suite"], item, [n for n in failed if item in failed[n]], rows) for item in new]


def _replies(run: RunFolder, suite: str, system: str) -> dict[str, dict[str, Any]]:
    path = run.path / f"5_reports/suites/{slug(suite)}/{slug(system)}.jsonl"
    return {str(row["id"]): dict(row) for row in read_ledger(path)}


def _failure(suite: str, item: str, failed: Sequence[str], rows: dict[str, dict[str, dict[str, Any]]]) -> str:
    said: dict[str, list[str]] = {}
    for system, replies in rows.items():
        mark = " ✗" if system in failed else ""
        said.setdefault(_said(replies.get(item, {})), []).append(_STAGES.get(system, system) + mark)
    row = rows[failed[0]].get(item, {})
    why = "; ".join(str(c["why"]) for c in row.get("checks") or [] if c.get("is_critical") and c.get("value") == 0)
    about = [f"<b>✗ {label(item)}</b>", label(suite), escape(why[:200])]
    return _side_by_side(about, str(row.get("asked") or ""), [(", ".join(names), text) for text, names in said.items()])


def _said(row: dict[str, Any]) -> str:
    reply = row.get("reply") or {}
    return str(reply.get("text") or reply.get("problem") or "") if isinstance(reply, dict) else ""


def _side_by_side(about: Sequence[str], question: str, sides: Sequence[tuple[str, str]]) -> str:
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>"
        + (foreign(text, classes="reply") if text.strip() else '<p class="hint">nothing was said</p>')
        + "</dd></div>"
        for name, text in sides
    )
    return (
        f'<li class="item"><p class="item-head">{" ".join(f"<span>{a}</span>" for a in about)}</p>'
        f'{foreign(question, classes="question")}<dl class="sides">{shown}</dl></li>'
    )


# ---------------------------------------------------------------- what quantising changed


def _served_flips(run: RunFolder) -> str:
    """Questions the file to serve answers worse or better than the weights, with the texts."""
    folder = run.path / "5_reports/predictions"
    if not (folder / "served.jsonl").is_file() or not (folder / "rag_tuned.jsonl").is_file():
        return ""
    before = {str(r["id"]): dict(r) for r in read_ledger(folder / "rag_tuned.jsonl")}
    rows = [dict(r) for r in read_ledger(folder / "served.jsonl") if str(r["id"]) in before]
    questions = [Question(id=str(r["id"]), question=str(r["question"]), answer=_text(r["expected"])) for r in rows]
    pairs = [("served", rows), ("rag_tuned", [before[q.id] for q in questions])]
    scored = {name: Scored(name, "overall_f1", tuple(_score(r) for r in found)) for name, found in pairs}
    changed = flips(scored["served"], scored["rag_tuned"], questions)
    chosen = [*changed.lost, *changed.won]
    items = "\n".join(
        _side_by_side(
            [f"<b>{'▼' if f.change < 0 else '▲'} {f.change:+.2f}</b>", label(questions[f.position].id)],
            questions[f.position].question,
            [
                ("Expected", questions[f.position].answer or "not in the documents: declining is right"),
                ("Weights", _answer(before[questions[f.position].id])),
                ("File to serve", _answer(rows[f.position])),
            ],
        )
        for f in chosen[:_MOST_SHOWN]
    )
    same = sum(_answer(r) == _answer(before[q.id]) for r, q in zip(rows, questions, strict=True))
    counts = f"<li><b>{len(changed.lost)}</b> lost</li><li><b>{len(changed.won)}</b> won</li><li><b>{same}</b> of {len(rows)} word for word the same</li>"
    return section(
        "flips",
        "What quantising changed",
        "<p>The file to serve beside the weights it was made from, question by question, by F1 with declines.</p>",
        f'<ul class="counts">{counts}</ul>',
        f'<ol class="items">\n{items}\n</ol>' if items else "",
    )


def _score(row: dict[str, Any]) -> float | None:
    scores = row.get("scores")
    value = scores.get("overall_f1") if isinstance(scores, dict) else None
    return None if value is None else float(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _answer(row: dict[str, Any]) -> str:
    return Answer.model_validate(row["answer"]).text


# ---------------------------------------------------------------- quarantine, judge


def _quarantine(run: RunFolder, report: dict[str, Any]) -> str:
    """What the gates of the questions and of the suites do not look at, with the evidence and the day it counts again."""
    suites = [s for s in report.get("suites") or [] if isinstance(s, dict)]
    suites.append(_read(run, "5_reports/report.json"))
    rows = []
    for key, word in (("quarantined", ""), ("expired", "counts again")):
        for one in (Flaky.model_validate(f) for s in suites for f in s.get(key) or []):
            state = word or ("left out" if one.treat == "leave_out" else "listed, counts")
            until = f"{one.measured} to {one.expires}"
            rows.append(
                [label(f"{one.suite} {one.item}"), f"{one.passed} of {one.of}", foreign(one.how, "div"), until, state]
            )
    if not rows:
        return ""
    return section(
        "quarantine",
        "Flaky items",
        "<p>Passed by one model in some of several samples and not in others. What is left out is left out of shares alone: "
        "a critical failure counts in any case.</p>",
        table("In quarantine", ["Item", "Passed", "Measured on", "From, to", "Now"], rows, "words"),
    )


def _judge(run: RunFolder, judged: dict[str, Any] | None) -> str:
    report = read_judge_report(run)
    if report is None:
        return ""
    agreement = report.card.agreement
    kappa = cell(agreement.kappa) if agreement is not None else "not measured"
    rows = [
        [
            escape(s.system),
            str(s.answers),
            str(s.right),
            str(s.wrong),
            str(s.cannot_tell + s.not_scored),
            cell(s.share_right),
        ]
        for s in report.systems
    ]
    standing = "It agrees with people well enough to decide." if report.card.may_gate else report.card.why
    old = "" if is_current(run, report) else "<p><b>It saw other answers than those that stand here now.</b></p>"
    asked = "" if judged is None or not judged.get("advice") else f"<p>{escape(str(judged['advice']))}</p>"
    header = ["System", "Answers", "Right", "Wrong", "Cannot tell, not scored", "Share right"]
    return section(
        "judge",
        "A model as judge",
        f"<p>{escape(report.judge)}, kappa with people {escape(kappa)}. {escape(standing[0].upper() + standing[1:])}</p>",
        old,
        asked,
        table("What it found", header, rows, "numbers") if rows else "",
    )
