"""What the gate found, for a terminal, for a pull request (Markdown) and for a build server (JUnit XML)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from fieldwise.evaluate.gate import Flipped, GateReport
from fieldwise.evaluate.table import need
from fieldwise.records import GateResult

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FLIPS_SHOWN = 20
_MEANING = {
    "PASS": "every interval lies on the right side",
    "FAIL": "an interval lies on the wrong side or shows a loss beyond chance, or a metric was not measured",
    "INCONCLUSIVE": "an interval lies on both sides: these questions do not decide",
}


def _about(report: GateReport) -> list[str]:
    if report.baseline is None:
        lines = [f"{report.run}: its own gates, {report.questions} questions, seed {report.seed}"]
    else:
        lines = [
            f"{report.run} against {report.baseline}: {report.system}, {report.questions} questions, {report.documents} documents, seed {report.seed}"
        ]
    return [*lines, *(f"Note: {note}" for note in report.notes)]


def plain(report: GateReport) -> str:
    """The result for a terminal."""
    lines = [*_about(report), "", f"Gate: {report.verdict} ({_MEANING[report.verdict]})"]
    lines += [f"  {g.verdict:12} {g.requirement}: {g.found}{need(g)}" for g in report.gates]
    if report.baseline is not None:
        lines.append(f"  {len(report.lost)} questions lost, {len(report.won)} won{_first(report.lost)}")
    return "\n".join(lines)


def _first(lost: Sequence[Flipped]) -> str:
    return f"; most lost: {', '.join(f.id for f in lost[:5])}" if lost else ""


def markdown(report: GateReport) -> str:
    """The result as Markdown, with the questions that changed most; it holds ids and no word of a question."""
    lines = [f"# Gate: {report.verdict}", "", *(f"{line}  " for line in _about(report)), ""]
    lines += ["| verdict | wanted | found | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| **{g.verdict}** | {_cell(g.requirement)} | {_cell(g.found)} | {need(g).lstrip('; ')} |"
        for g in report.gates
    ]
    for word, flips in (("lost", report.lost), ("won", report.won)):
        if flips:
            more = f", the first {_FLIPS_SHOWN}" if len(flips) > _FLIPS_SHOWN else ""
            lines += ["", f"{len(flips)} questions {word} (F1 with declines{more}):", ""]
            lines += [f"- {_cell(f.id)}: {f.before:.2f} to {f.after:.2f}" for f in flips[:_FLIPS_SHOWN]]
    lines += ["", f"Hash of the questions (SHA-256): `{report.questions_sha256}`"]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|`*_<>\[\]\\])", r"\\\1", " ".join(text.split()))


def junit(report: GateReport) -> str:
    """The result as JUnit XML: a gate is a test; FAIL is a failure, INCONCLUSIVE an error."""
    failed = sum(g.verdict == "FAIL" for g in report.gates)
    open_ = sum(g.verdict == "INCONCLUSIVE" for g in report.gates)
    counts = {"tests": str(len(report.gates)), "failures": str(failed), "errors": str(open_), "skipped": "0"}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "fieldwise gate", **counts})
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "run": report.run,
        "baseline": report.baseline or "",
        "system": report.system or "",
        "questions": str(report.questions),
        "questions_sha256": report.questions_sha256,
        "seed": str(report.seed),
        "verdict": report.verdict,
    }
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for gate in report.gates:
        _testcase(suite, gate)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _testcase(suite: ElementTree.Element, gate: GateResult) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": f"fieldwise.gate.{_clean(gate.metric)}", "name": _clean(gate.requirement)}
    )
    said = _clean(gate.found + need(gate))
    if gate.verdict == "PASS":
        ElementTree.SubElement(case, "system-out").text = said
        return
    kind = "failure" if gate.verdict == "FAIL" else "error"
    ElementTree.SubElement(case, kind, {"type": gate.verdict, "message": said}).text = _clean(
        f"{gate.requirement}\nfound {gate.found}{need(gate)}"
    )


def _clean(text: str) -> str:
    """XML has no place for most control characters."""
    return _NOT_IN_XML.sub("\ufffd", text)
