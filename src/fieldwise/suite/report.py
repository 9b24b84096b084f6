"""What a suite found, as people read it: one row a figure, one column a model; critical failures item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fieldwise.evaluate.statistics import mcnemar, paired_difference
from fieldwise.evaluate.table import cell
from fieldwise.records import Interval
from fieldwise.suite.checks import title
from fieldwise.suite.items import Reply
from fieldwise.suite.run import SuiteResult

_SAMPLES, _SEED = 2000, 0
_SHOWN_CHARS = 160


class Row(NamedTuple):
    """A figure of every model."""

    label: str
    cells: list[str]


def rows(results: Sequence[SuiteResult]) -> list[Row]:
    """All items, then domains, kinds, difficulties, then the single checks with their parts."""
    first = results[0]
    made = [_row("all items", [r.passed for r in results])]
    for by, slices in first.by.items():
        if by == "domain" and len(slices) < 2:
            continue
        made += [_row(f"{by} {name}", [r.by[by].get(name) for r in results]) for name in slices]
    made += [_row(title(name), [r.checks.get(name) for r in results]) for name in first.checks]
    return made


def _row(label: str, figures: Sequence[Interval | None]) -> Row:
    n = max((f.n for f in figures if f is not None), default=0)
    return Row(f"{label} (n={n})", [cell(f, n) for f in figures])


def difference(result: SuiteResult, reference: SuiteResult) -> str:
    """How the share passed differs from that of another model on the items both were scored on."""
    other = {i.id: i for i in reference.items}
    pairs = [(i, other[i.id]) for i in result.items if i.id in other]
    pairs = [(a, b) for a, b in pairs if a.is_passed is not None and b.is_passed is not None]
    if not pairs:
        return f"{result.model} against {reference.model}: no item scored on both"
    mine, theirs = [float(bool(a.is_passed)) for a, _ in pairs], [float(bool(b.is_passed)) for _, b in pairs]
    found = paired_difference(mine, theirs, [a.cluster for a, _ in pairs], _SAMPLES, _SEED)
    return (
        f"{result.model} against {reference.model}: {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}], "
        f"n={len(pairs)}, McNemar p={mcnemar(mine, theirs):.2g}"
    )


def _unscored(result: SuiteResult) -> list[str]:
    lines = []
    if result.problems:
        listed = ", ".join(f"{why} {n}" for why, n in sorted(result.problems.items()))
        lines.append(f"{result.model}: {result.passed.unscored} of {len(result.items)} items not scored ({listed})")
    return lines


def _notes(results: Sequence[SuiteResult]) -> list[str]:
    first = results[0]
    lines = [difference(r, first) for r in results[1:]]
    lines += [line for r in results for line in _unscored(r)]
    lines += [_cost(r) for r in results if r.spent is not None]
    if first.skipped:
        reasons = sorted({s.reason for s in first.skipped})
        lines.append(
            f"{len(first.skipped)} items of the file cannot be judged here and were left out ({'; '.join(reasons[:5])})"
        )
    return lines


def _cost(result: SuiteResult) -> str:
    spent = result.spent
    assert spent is not None
    fewer = f" for {spent.items} of {len(result.items)} items" if spent.items < len(result.items) else ""
    money = f", cost {spent.price:.4g} in the currency of the prices" if spent.price is not None else ""
    return f"{result.model}: {spent.prompt_tokens} tokens read, {spent.completion_tokens} said{fewer}{money}"


def _verdicts(results: Sequence[SuiteResult]) -> list[str]:
    return [
        f"{r.model}: {r.verdict}" + (f" ({'; '.join(r.reasons)})" if r.reasons else "") for r in results if r.verdict
    ]


def _said(reply: Reply) -> str:
    calls = ", ".join(f"{c.name}({', '.join(f'{k}={v!r}' for k, v in c.arguments.items())})" for c in reply.tool_calls)
    return " ".join((reply.spoken or calls or "(nothing)").split())[:_SHOWN_CHARS]


def _head(first: SuiteResult) -> str:
    return f"{first.suite} {first.version}, {len(first.items)} items; share passed with its 95 % interval"


def plain(results: Sequence[SuiteResult]) -> str:
    """The figures for a terminal."""
    table = [Row("", [r.model for r in results]), *rows(results)]
    label = max(len(r.label) for r in table)
    widths = [max(len(r.cells[n]) for r in table) for n in range(len(results))]
    lines = [_head(results[0]), ""]
    lines += [
        "  ".join([r.label.ljust(label), *(c.ljust(w) for c, w in zip(r.cells, widths, strict=True))]).rstrip()
        for r in table
    ]
    for part in (_notes(results), _verdicts(results)):
        lines += ["", *part] if part else []
    for result in results:
        if result.critical:
            lines += ["", f"Critical failures of {result.model}: {len(result.critical)}"]
            lines += [
                f"  {i.id}: {_short(i.asked)}\n    said: {_said(i.reply)}\n    {'; '.join(f'{title(c.check)}: {c.why}' for c in i.critical)}"
                for i in result.critical
            ]
    return "\n".join(lines)


def markdown(results: Sequence[SuiteResult], about: str = "") -> str:
    """The same as a section of a Markdown page."""
    first = results[0]
    lines = [f"## Suite {_escaped(first.suite)}", "", *([_escaped(" ".join(about.split())), ""] if about else [])]
    lines += [f"{_escaped(_head(first))}. SHA-256 of the items `{first.suite_sha256[:16]}`.", ""]
    lines += [
        "| " + " | ".join(["", *(_escaped(r.model) for r in results)]) + " |",
        "|" + " --- |" * (len(results) + 1),
    ]
    lines += ["| " + " | ".join([_escaped(r.label), *r.cells]) + " |" for r in rows(results)]
    for part in (_notes(results), [f"**{v}**" for v in map(_escaped, _verdicts(results))]):
        lines += ["", *(f"- {line if line.startswith('**') else _escaped(line)}" for line in part)] if part else []
    for result in results:
        if not any(c.is_critical for i in result.items for c in i.checks):
            continue
        lines += ["", f"### Critical failures of {_escaped(result.model)}: {len(result.critical)}", ""]
        if not result.critical:
            lines.append("None.")
            continue
        lines += ["| item | asked | said | what failed |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {_escaped(i.id)} | {_escaped(_short(i.asked))} | {_escaped(_said(i.reply))} | {_escaped('; '.join(f'{title(c.check)}: {c.why}' for c in i.critical))} |"
            for i in result.critical
        ]
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    plain_text = " ".join(text.split())
    return plain_text if len(plain_text) <= _SHOWN_CHARS else plain_text[: _SHOWN_CHARS - 1] + "…"


def _escaped(text: str) -> str:
    """What a model said must not become markup of the page."""
    for sign in "\\`*_<>[]|":
        text = text.replace(sign, "\\" + sign if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return text
