"""The report as one HTML file: figures, gates, pictures, slices and the answers that changed; see page_items.py.

It asks nothing of any other place and holds no time, so that a run repeated ends in the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fieldwise.evaluate.curves import calibration_section
from fieldwise.evaluate.effect import told as told_effect
from fieldwise.evaluate.items import LEAST_IN_SLICE, Slice, slices
from fieldwise.evaluate.metrics import METRICS, TIMES
from fieldwise.evaluate.page_items import FILTER_SCRIPT, declines_section, flips_section
from fieldwise.evaluate.page_training import Curve, contamination_section, curves_section
from fieldwise.evaluate.picture import Row, intervals, whisker
from fieldwise.evaluate.report import RELEASED, EvalReport, Scored, cluster_names
from fieldwise.evaluate.table import (
    A_TIME,
    PERPLEXITY,
    beside_constant,
    cell,
    detectable,
    elsewhere,
    money,
    need,
    scored,
    spent,
    title,
    trained_by,
)
from fieldwise.page.frame import contents, whole
from fieldwise.page.look import STYLE
from fieldwise.page.markup import escape, label, section, table
from fieldwise.records import Answer, Difference, GateResult, Interval, Question

REFERENCE = "rag_base"
_ABOUT = {
    "exact_match": "the answer is the known one, apart from case and punctuation",
    "token_f1": "words shared with the known answer",
    "rouge_l": "longest run of words shared with the known answer",
    "groundedness": "the answer stands in a sentence that is cited and verified",
    "abstention": "questions without an answer that were declined",
    "false_decline": "questions with an answer that were declined all the same",
    "bits_per_byte": "how surprised the model is by the known answer, over what it was shown",
    "overall_f1": "words shared, over all questions; declining counts where it is right",
}
_METRIC_HEADING = '<span class="unseen">Metric</span>'
_SIGNS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?"}
_MEANING = {
    "PASS": "Every gate passed: each interval lies on the right side.",
    "FAIL": "A gate failed: its interval lies on the wrong side, or shows a loss beyond chance that was found larger than allowed, or its figure could not be measured.",
    "INCONCLUSIVE": "No gate failed, but not all passed: an interval lies on both sides, so these questions do not decide.",
}
_METHODS = {
    "Wilson": "Wilson score interval of a share, widened where questions about one document agree with each other.",
    "Clopper-Pearson": "Exact interval of a share where all or none of the questions count, for as many questions as they are worth if those about one document agree a little.",
    "cluster bootstrap": "Whole documents are drawn again and again; the middle 95&nbsp;% of the means, widened to what Student's t says for this number of documents, is the interval.",
    "few documents": "Fewer than ten documents were there to draw, or a few of them hold most of the questions: the interval is that of Student's t over the documents, or that of draws of single questions where it is wider.",
    "McNemar": "p is that of the exact McNemar test on the questions that only one of the two systems gets right, since no two questions are about one document. Elsewhere it is read off the interval.",
}


class Measured(NamedTuple):
    """What a page is made of; answers and scores stand in the order of the questions."""

    name: str
    report: EvalReport
    questions: Sequence[Question]
    answers: dict[str, Sequence[Answer]]
    scores: dict[str, dict[str, Scored]]
    samples: int
    has_own_questions: bool = True
    curves: Sequence[Curve] = ()
    touched: Sequence[bool] | None = None

    @property
    def candidate(self) -> str:
        """The system that would be released, or the last one of this run's own."""
        return self.report.candidate

    @property
    def reference(self) -> str | None:
        """The system beside which the candidate's answers are read."""
        wanted = REFERENCE if REFERENCE in self.answers else self.report.baseline
        return wanted if wanted != self.candidate else None


def page(measured: Measured) -> str:
    """Return the whole file."""
    parts = [
        _gates(measured.report),
        systems_section(measured.report),
        _pictures(measured),
        _differences(measured.report),
        contamination_section(
            measured.report, measured.touched, measured.scores, cluster_names(measured.questions), measured.samples
        ),
        _slices(measured),
        flips_section(measured.report, measured.questions, measured.answers, measured.scores),
        _doubt(measured),
        declines_section(measured.report, measured.candidate, measured.questions, measured.answers),
        curves_section(measured.curves),
        _method(measured),
    ]
    body = "\n".join(part for part in parts if part)
    return whole(f"{measured.name}: evaluation report", _head(measured, body), body, STYLE, FILTER_SCRIPT)


def _head(measured: Measured, body: str) -> str:
    report = measured.report
    documents = len({q.document for q in measured.questions if q.document})
    facts = [
        ("Questions", f"{report.questions}, {report.unanswerable} of them not answerable from the documents"),
        ("Documents asked about", str(documents) if documents else "not named in the questions"),
        ("Asked from", "a file of questions" if measured.has_own_questions else "held-out generated examples"),
        ("Weights selected", _selected(report)),
        ("Baseline", escape(title(report, report.baseline))),
    ]
    effect = told_effect(report)
    told = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    told += f'<div class="wide"><dt>What preferences did</dt><dd>{escape(effect)}</dd></div>' if effect else ""
    told += f'<div class="wide"><dt>Hash of the questions (SHA-256)</dt><dd class="hash">{escape(report.questions_sha256)}</dd></div>'
    return (
        f'<header>\n<p class="kicker">Fieldwise evaluation report</p>\n<h1 dir="auto">{escape(measured.name)}</h1>\n'
        f'<dl class="facts">{told}</dl>\n{contents(body)}\n</header>'
    )


def _selected(report: EvalReport) -> str:
    if report.selected == "rl":
        return "after reinforcement learning, better than what it began with on the validation split"
    if report.preference_method is None:
        return "SFT (no preference step was run)"
    preferred = trained_by(report)
    return preferred if report.selected == "preference" else f"SFT, better than {preferred} on the validation split"


# ---------------------------------------------------------------- gates


def _gates(report: EvalReport) -> str:
    if not report.gates:
        return section("gates", "Gates", "<p>No gate was set, so nothing was judged.</p>")
    passed = sum(g.verdict == "PASS" for g in report.gates)
    items = "\n".join(f"<li>{_verdict(g.verdict)}<div>{_gate(report, g)}</div></li>" for g in report.gates)
    return section(
        "gates",
        "Gates",
        f"<p>{_verdict(report.verdict)} {passed} of {len(report.gates)} gates passed. {_MEANING[report.verdict]}</p>",
        f'<ul class="gates">\n{items}\n</ul>',
        *(f'<p class="hint">{escape(note)}</p>' for note in report.quarantine.notes),
    )


def _verdict(verdict: str) -> str:
    return f'<span class="verdict verdict-{verdict}"><span aria-hidden="true">{_SIGNS[verdict]}</span>{verdict}</span>'


def _gate(report: EvalReport, gate: GateResult) -> str:
    found = f"Found: {gate.found}"
    more = need(gate)
    if gate.metric in TIMES:  # no rerun repeats a time, and this file must be repeated
        found, more = f"Found: {A_TIME}", ""
    return f'<p class="wanted">{escape(in_words(report, gate))}</p><p class="found">{escape(found + more)}</p>'


def in_words(report: EvalReport, gate: GateResult) -> str:
    """Return what a gate wants with the names that the tables use."""
    system, _, wanted = gate.requirement.partition(f": {gate.metric} ")
    if not wanted:
        return gate.requirement
    metric = METRICS[gate.metric].title if gate.metric in METRICS else gate.metric
    known = "|".join(s.system for s in report.systems)
    named = re.sub(rf"(?<=than )({known})\b(?=$| by | and )", lambda m: f"that of {title(report, m[0])}", wanted)
    return f"{metric} of {title(report, system)}: {named}"


# ---------------------------------------------------------------- figures


def _metric(name: str, n: int | None = None) -> str:
    metric = METRICS[name]
    notes = [f"n={n}"] if n is not None else []
    notes += ["less is better"] if metric.better == "lower" else []
    return escape(metric.title) + (f'<span class="note">{", ".join(notes)}</span>' if notes else "")


def _largest_n(report: EvalReport, name: str) -> int:
    return max((s.figures[name].n for s in report.systems if name in s.figures), default=0)


def _heading(report: EvalReport, system: str) -> str:
    note = '<span class="note">baseline</span>' if system == report.baseline else ""
    note = '<span class="note">to be released</span>' if system == RELEASED else note
    return escape(title(report, system)) + note


def _figure(text: str) -> str:
    """A figure with its interval on a line below."""
    value, blank, rest = text.partition(" ")
    return escape(value) + (f'{blank}<span class="interval-text">{escape(rest)}</span>' if rest else "")


def _metrics(report: EvalReport) -> list[str]:
    """What the page shows: times differ from run to run, and the page must not."""
    return [m for m in scored(report) if m not in TIMES]


def systems_section(report: EvalReport) -> str:
    """Return the table of all systems, with what it cost and who answered elsewhere."""
    rows = []
    for name in (*_metrics(report), *spent(report)):
        n = _largest_n(report, name)
        rows.append([_metric(name, n), *(_figure(cell(s.figures.get(name), n)) for s in report.systems)])
        rows += _perplexities(report) if name == "bits_per_byte" else []
    return section(
        "systems",
        "Systems",
        "<p>Every system was asked the same questions, which training never saw. In brackets: the 95&nbsp;% interval.</p>",
        table("All systems", [_METRIC_HEADING, *(_heading(report, s.system) for s in report.systems)], rows, "numbers"),
        *(f"<p>{escape(told)}</p>" for told in (*elsewhere(report), money(report)) if told),
    )


def _perplexities(report: EvalReport) -> list[list[str]]:
    n = max((s.perplexity.n for s in report.systems if s.perplexity is not None), default=0)
    heading = f'{escape(PERPLEXITY)}<span class="note">n={n}, less is better</span>'
    return [[heading, *(_figure(cell(s.perplexity, n)) for s in report.systems)]] if n else []


def _pictures(measured: Measured) -> str:
    report = measured.report
    figures = []
    for name in _metrics(report):
        rows = [
            Row(
                title(report, s.system),
                s.figures.get(name),
                s.system == report.baseline,
                s.system == measured.candidate,
            )
            for s in report.systems
        ]
        better = "less is better" if METRICS[name].better == "lower" else "more is better"
        figures.append(
            f"<figure><figcaption><b>{escape(METRICS[name].title)}</b>{_ABOUT[name]}; {better}</figcaption>"
            f"{intervals(f'picture-{name}', METRICS[name].title, rows)}</figure>"
        )
    return section(
        "intervals",
        "Intervals",
        f'<p class="hint">A dot is the figure, the line its 95&nbsp;% interval. The diamond and the dashed line mark the baseline; in bold: {escape(title(report, measured.candidate))}.</p>',
        f'<div class="pictures">\n{"".join(figures)}\n</div>',
    )


def _differences(report: EvalReport) -> str:
    systems = [s for s in report.systems if s.differences]
    if not systems:
        return ""
    rows = [[_metric(name), *(_difference(s.differences.get(name)) for s in systems)] for name in _metrics(report)]
    return section(
        "differences",
        "Paired differences",
        f"<p>To {escape(title(report, report.baseline))}, on the questions both were scored on. Positive is better, also where less is better. "
        "Better or worse is said only where the whole interval lies on one side of 0, and taken alone is added where "
        f"p, adjusted for all differences of this table together (Holm), is above 0.05.</p><p>{escape(detectable(report))}</p>",
        *([f"<p>{escape(beside_constant(report))}</p>"] if report.constant else []),
        table(
            "Difference to the baseline",
            [_METRIC_HEADING, *(_heading(report, s.system) for s in systems)],
            rows,
            "numbers",
        ),
    )


def _difference(found: Difference | None) -> str:
    if found is None or found.value is None or found.low is None or found.high is None:
        return '-<span class="note">no question scored on both</span>'
    notes = f"{_word(found)}, n={found.n}"
    if found.p_adjusted is not None and found.changed:
        notes += ", p<0.001" if found.p_adjusted < 0.001 else f", p={found.p_adjusted:.2g}"
    return (
        f'{found.value:+.2f} <span class="interval-text">[{found.low:+.2f}, {found.high:+.2f}]</span>'
        f'<span class="note">{escape(notes)}</span>'
    )


def _word(found: Difference) -> str:
    if found.changed == 0:
        return "no question differs"
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return "not decided"
    alone = "" if found.p_adjusted is None or found.p_adjusted <= 0.05 else " taken alone"
    return ("better" if found.low > 0 else "worse") + alone


def _doubt(measured: Measured) -> str:
    system = measured.report.system(measured.candidate)
    if system is None or system.calibration is None:
        return ""
    return calibration_section(system.calibration, title(measured.report, system.system))


# ---------------------------------------------------------------- slices


_SLICED: tuple[tuple[str, Callable[[Question], str | None], str], ...] = (
    ("By domain", lambda q: q.domain, "no domain named"),
    ("By kind of question", lambda q: q.kind, "no kind named"),
    ("By difficulty", lambda q: q.difficulty, "no difficulty named"),
    ("By document", lambda q: q.document, "no document named"),
)
_ONLY_IF_NAMED = ("By domain", "By difficulty")


def _slices(measured: Measured) -> str:
    report, clusters = measured.report, cluster_names(measured.questions)
    candidate, reference = measured.scores[measured.candidate]["token_f1"], None
    if measured.reference is not None:
        reference = measured.scores[measured.reference]["token_f1"]
    tables = []
    for caption, named, without in _SLICED:
        names = [named(q) or without for q in measured.questions]
        if caption in _ONLY_IF_NAMED and not any(map(named, measured.questions)):
            continue
        found = slices(names, candidate, reference, clusters, measured.samples, report.seed)
        tables.append(_slice_table(measured, caption, found))
    return section(
        "slices",
        "Slices",
        f"<p>Token F1 of {escape(title(report, measured.candidate))} on the questions with an answer, worst first. "
        f"Slices of fewer than {LEAST_IN_SLICE} questions are put together as other.</p>",
        *tables,
    )


def _slice_table(measured: Measured, caption: str, found: Sequence[Slice]) -> str:
    if not found:
        return f"<p>{caption}: no question with an answer was asked.</p>"
    header = [caption.removeprefix("By ").capitalize(), "n", escape(title(measured.report, measured.candidate))]
    if measured.reference is not None:
        header.append(escape(title(measured.report, measured.reference)))
    rows = []
    for part in found:
        name = label(part.name)
        if part.merged:
            name = f'other<span class="note">{part.merged} small slice{"s" if part.merged > 1 else ""}</span>'
        row = [name, str(part.figure.n), _in_line(part.figure) + whisker(part.figure)]
        if measured.reference is not None:
            row.append(_in_line(part.reference))
        rows.append(row)
    return table(caption, header, rows, "slices")


def _in_line(figure: Interval | None) -> str:
    return f'<span class="figure-text">{_figure(cell(figure))}</span>'


# ---------------------------------------------------------------- method


def _method(measured: Measured) -> str:
    report = measured.report
    used = {f.method for s in report.systems for f in (*s.figures.values(), *s.differences.values())}
    told = [(name, text) for name, text in _METHODS.items() if any(name in method for method in used)]
    items = "".join(f"<div><dt>{name[:1].upper()}{name[1:]}</dt><dd>{text}</dd></div>" for name, text in told)
    return section(
        "method",
        "How the intervals were made",
        f"<p>All intervals are 95&nbsp;%, from {measured.samples} draws with seed {report.seed} where something is drawn. "
        "Questions about one document are not independent, so documents are drawn whole. "
        "Intervals are not corrected for how many figures are compared here, the p-values of the differences are (Holm), and so are the gates that failed; slices are for finding out where to look. "
        "What could not be scored is left out and counted, never taken as 0.</p>",
        f'<dl class="methods">{items}</dl>',
    )
