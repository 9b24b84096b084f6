"""The report as people read it: one row a metric, one column a system, the interval beside each figure."""

from __future__ import annotations

from collections.abc import Sequence

from fieldwise.evaluate.memory import Peak
from fieldwise.evaluate.metrics import COSTS, METRICS, TIMES
from fieldwise.evaluate.report import EvalReport, SystemReport
from fieldwise.llm.settings import PriceSettings
from fieldwise.records import GateResult, Interval

SHOWN = (
    "exact_match",
    "token_f1",
    "rouge_l",
    "bits_per_byte",
    "groundedness",
    "claims_entailed",
    "abstention",
    "false_decline",
    "overall_f1",
    *TIMES,
)
TITLES = {
    "base": "base, closed book",
    "rag_base": "RAG over base",
    "sft": "SFT, closed book",
    "rl": "after RL, closed book",
    "served": "served file",
}
A_TIME = "a time, which the table on the terminal shows"
PERPLEXITY = "Perplexity of a token, known answer, by this tokenizer"
METHODS = {"dpo": "DPO", "orpo": "ORPO", "kto": "KTO", "simpo": "SimPO", "cpo": "CPO"}


def title(report: EvalReport, system: str) -> str:
    """How a system is called; retrieval runs over the weights that were selected, which may be those before preferences."""
    if system == "preference":
        return (
            "SFT again (no preference step)"
            if report.preference_method is None
            else f"{trained_by(report)}, closed book"
        )
    if system == "rag_tuned" and report.selected == "rl":
        return "RAG over RL (selected)"
    if system == "rag_tuned":
        return "RAG over SFT (selected)" if report.selected == "sft" else f"RAG over {trained_by(report)}"
    found = report.system(system)
    if found is not None and found.endpoint is not None:
        shown = "over the same passages" if found.endpoint.documents else "closed book"
        return f"{system}: {found.endpoint.model}, {shown}"
    return TITLES.get(system, system)


def trained_by(report: EvalReport) -> str:
    """How the weights behind the preference step came about, such as `SFT+DPO`."""
    return f"SFT+{METHODS.get(report.preference_method or '', 'preferences')}"


def cell(figure: Interval | None, n: int | None = None) -> str:
    """One figure with its interval, such as `0.41 [0.35, 0.47]`, and its own number of items where it is not `n`."""
    if figure is None or figure.value is None:
        return "-"
    fewer = "" if n in (None, figure.n) else f" n={figure.n}"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2f}{fewer}"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]{fewer}"


def scored(report: EvalReport) -> tuple[str, ...]:
    """The metrics to show: those at least one system was scored on."""
    return tuple(m for m in SHOWN if any(m in s.figures and s.figures[m].value is not None for s in report.systems))


def spent(report: EvalReport) -> tuple[str, ...]:
    """The metrics that tell what answers cost, where somebody counted."""
    return tuple(m for m in COSTS if any(m in s.figures and s.figures[m].value is not None for s in report.systems))


def rows(report: EvalReport, metrics: Sequence[str]) -> list[list[str]]:
    """Header and one row a metric; n is the largest number of items any system was scored on, others name theirs."""
    table = [["", *(title(report, s.system) for s in report.systems)]]
    for name in metrics:
        n = max((s.figures[name].n for s in report.systems if name in s.figures), default=0)
        table.append([f"{METRICS[name].title} (n={n})", *(cell(s.figures.get(name), n) for s in report.systems)])
        table += _perplexities(report) if name == "bits_per_byte" else []
    return table


def _perplexities(report: EvalReport) -> list[list[str]]:
    """The row of the perplexity of a token, where known answers were rated."""
    n = max((s.perplexity.n for s in report.systems if s.perplexity is not None), default=0)
    return [[f"{PERPLEXITY} (n={n})", *(cell(s.perplexity, n) for s in report.systems)]] if n else []


def plain(report: EvalReport) -> str:
    """The table for a terminal, with the gates below."""
    table = [*rows(report, (*scored(report), *spent(report))), *_peaks(report)]
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    lines = ["  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append("")
    lines.append(
        f"{report.questions} questions that training never saw, {report.unanswerable} of them not answerable from the documents; 95 % intervals; documents are drawn whole."
    )
    lines += [told for told in (detectable(report), beside_constant(report), *elsewhere(report), money(report)) if told]
    if report.gates:
        lines += ["", f"Gates: {report.verdict}"]
        lines += [f"  {gate.verdict:12} {gate.requirement}: {gate.found}{need(gate)}" for gate in report.gates]
        lines += [f"  {note}" for note in report.quarantine.notes]
    return "\n".join(lines)


def need(gate: GateResult) -> str:
    """What more a gate would have taken to decide, or from which difference on it passes; nothing if neither is known."""
    if gate.need_n:
        return f"; would need about {gate.need_n} items"
    if gate.passes_from is not None:
        return f"; passes in 80 % of cases from a true {gate.passes_from:+.3f} on"
    return ""


def detectable(report: EvalReport) -> str:
    """Which true difference to the baseline these questions would show, for what would be released."""
    system = report.system(report.candidate)
    assert system is not None
    known = {m: d.detectable for m, d in system.differences.items() if d.detectable is not None}
    parts = [f"{METRICS[m].title} {known[m]:.2f}" for m in ("token_f1", "overall_f1", "abstention") if m in known]
    if not parts:
        return ""
    return (
        f"With these questions a true difference between {title(report, system.system)} and "
        f"{title(report, report.baseline)} is seen with 80 % power from: {', '.join(parts)}."
    )


def beside_constant(report: EvalReport) -> str:
    """What one and the same answer would reach, in one sentence; nothing where it is no rival."""
    found = report.constant
    if found is None:
        return ""
    share, more = found.exact_match, found.difference
    return (
        f"Always answering {found.answer!r} would reach an exact match of {share.value:.2f} "
        f"[{share.low:.2f}, {share.high:.2f}]; {title(report, found.system)} less that: {more.value:+.2f} "
        f"[{more.low:+.2f}, {more.high:+.2f}]."
    )


def elsewhere(report: EvalReport) -> list[str]:
    """Who answered at an endpoint, what has no value there, and how many questions were not answered; a line each."""
    lines = []
    for system in report.systems:
        if system.endpoint is None:
            continue
        line = (
            f"{system.system} is {system.endpoint.model} at {system.endpoint.base_url}: an endpoint gives no probabilities of "
            "tokens, so bits per byte, perplexity, token accuracy and a calibrated doubt have no value, and its times are not measured."
        )
        if count := sum(system.unanswered.values()):
            why = ", ".join(f"{n} {problem}" for problem, n in system.unanswered.items())
            line += f" {count} of {report.questions} questions were not answered and are not scored ({why})."
        lines.append(line)
    return lines


def money(report: EvalReport) -> str:
    """What a thousand answers of each system cost, in a sentence a price; nothing where the recipe names none."""
    asked: dict[PriceSettings, list[str]] = {}
    for system in report.systems:
        price = report.price if system.endpoint is None else system.endpoint.price
        found = [system.figures[m].value for m in COSTS if m in system.figures]
        if price is not None and len(found) == len(COSTS) and found[0] is not None and found[1] is not None:
            each = (found[0] * price.input + found[1] * price.output) / 1e6
            asked.setdefault(price, []).append(f"{title(report, system.system)} {1000 * each:.4g}")
    return " ".join(
        f"A thousand answers cost, at {price.input:g} for a million tokens read and {price.output:g} for a million said: "
        f"{', '.join(parts)}."
        for price, parts in asked.items()
    )


def _peaks(report: EvalReport) -> list[list[str]]:
    """The row of the memory, where it was measured."""
    found = [told_peak(s.peak) for s in report.systems]
    return [["Peak memory, GB", *(told or "-" for told in found)]] if any(found) else []


def told_peak(peak: Peak | None) -> str:
    """Both peaks in GB; empty where neither is known."""
    if peak is None:
        return ""
    parts = [f"{peak.process_bytes / 1e9:.2f}"] if peak.process_bytes is not None else []
    return ", ".join([*parts, *([f"{peak.gpu_bytes / 1e9:.2f} on the GPU"] if peak.gpu_bytes is not None else [])])


def markdown(report: EvalReport) -> str:
    """The same as Markdown, with the paired differences to the baseline; without times, which no rerun repeats."""
    table = rows(report, [*(m for m in scored(report) if m not in TIMES), *spent(report)])
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + " --- |" * len(table[0]))
    lines += [
        "",
        f"{report.questions} questions that training never saw, {report.unanswerable} of them not answerable from the documents; 95 % intervals; documents are drawn whole.",
        "",
    ]
    for told in (detectable(report), beside_constant(report), *elsewhere(report), money(report)):
        lines += [told, ""] if told else []
    lines += [f"Paired differences to {title(report, report.baseline)} (positive is better):", ""]
    lines += [f"- {title(report, s.system)}: {_differences(s)}" for s in report.systems if s.differences]
    if report.gates:
        lines += ["", f"Gates: **{report.verdict}**", ""]
        lines += [f"- **{g.verdict}** {g.requirement}: {g.found}{need(g)}" for g in report.gates]
        lines += [f"- {note}" for note in report.quarantine.notes]
    return "\n".join(lines) + "\n"


def _differences(system: SystemReport) -> str:
    parts = []
    for name, difference in system.differences.items():
        if difference.value is not None and name in SHOWN and name not in TIMES:
            parts.append(
                f"{METRICS[name].title} {difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"
            )
    return "; ".join(parts) or "nothing scored on both"
