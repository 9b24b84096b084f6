"""Tables of figures, as reports have them: periods above, items to the left, headings over several rows.

A cell is asked for only where its row and its column have one name each in the whole table; what spans columns in a way
that the text does not tell leaves the table unasked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fieldwise.generate.pairs import Pair

_FIGURE = re.compile(
    r"^\(?[-+−–]?\s?(?:US|NT|RMB|C|A)?\s?[$€£¥]?\s?[-(]?\s?\d[\d,.]*\s?\)?\s?(?:%|per cent|[mk]|bn|x)?\)?$"
)
_YEAR = re.compile(r"^(?:(?:FY|fiscal|Fiscal)\s?)?['’]?(?:19|20)\d\d$|^FY\s?\d\d$")
_DATE = re.compile(
    r"^(?:(?:as )?(?:of|at) )?(?:\d{1,2} )?(?:January|February|March|April|May|June|July|August|September|October|November|December)(?: \d{1,2},?)? (?:19|20)\d\d$",
    re.I,
)
_PERIOD = re.compile(
    r"^(?:for the )?((?:fiscal |financial )?(?:years?|(?:three|six|nine|twelve) months|quarters?)) ended,? (.+?),?:?$",
    re.I,
)
_DAY = re.compile(r"^(?:as )?(?:of |at )?((?:\d{1,2} )?[A-Z][a-z]+(?: \d{1,2})?),?:?$", re.I)
_MONTH = re.compile(r"January|February|March|April|May|June|July|August|September|October|November|December", re.I)
_UNIT = re.compile(
    r"^\(?(?:(?:all )?(?:amounts|figures|dollars|euros)? ?(?:[$€£¥]|US\$|NT\$|RMB)? ?(?:expressed |stated )?in (?:thousands|millions|billions)(?: of [\w$. ]{2,15})?|"
    r"in (?:million|thousand|billion)s?|(?:US)?[$€£¥] ?(?:m|million|'000|000|bn)|USDm|RMB['’]?(?:000|million)|[$€£¥]['’]?000s?|%)\)?$",
    re.I,
)
_VAGUE_ROW = re.compile(r"^(?:other|total|totals|foreign|federal|state|domestic|current|deferred|basic|diluted|granted|vested|forfeited|high|low|net|gross|subtotal|balance|average|level \d)$", re.I)  # fmt: skip
_MAX_ROW_WORDS = 16


class _Head(NamedTuple):
    rows: int
    labels: list[str]
    unit: str


def is_figure_table(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether cells are mostly figures, or the first row alone cannot name the columns."""
    header = [_plain(cell) for cell in rows[0][1:]]
    cells = [_plain(cell) for row in rows[1:] for cell in row[1:] if cell]
    figures = sum(bool(_FIGURE.match(cell)) for cell in cells)
    spans = "" in header or len(set(header)) < len(header)
    dated = any(_YEAR.match(c) or _DATE.match(c) or _PERIOD.match(c) for c in header)
    return spans or dated or figures > len(cells) / 2


def from_figures(rows: Sequence[Sequence[str]], lines: Sequence[str]) -> Iterator[Pair]:
    """Yield a pair for every figure that one row and one column name; `rows` begin with the header, `lines` are their words."""
    head = _head(rows)
    if head is None:
        return
    names = Counter(_plain(row[0]).casefold() for row in rows)
    columns = Counter(label.casefold() for label in head.labels)
    in_section = dated = False
    of_shares = any(re.fullmatch(r"100(?:\.0+)? ?%", _plain(cell)) for row in rows for cell in row[1:])
    for row, line in zip(rows[head.rows :], lines[head.rows :], strict=True):
        name = _plain(row[0])
        if not any(row[1:]):
            if _UNIT.match(name) and not head.unit:
                head = head._replace(unit=name.strip("()"))
                continue
            in_section, dated = True, dated or bool(_MONTH.search(name) or re.search(r"\b(?:19|20)\d\d\b", name))
            continue
        if dated or not _is_name(name, in_section=in_section) or names[name.casefold()] > 1:
            continue
        for label, cell in zip(head.labels, row[1:], strict=True):
            figure = _plain(cell)
            if (
                not label
                or columns[label.casefold()] > 1
                or not _FIGURE.match(figure)
                or not re.search(r"[1-9]", figure)
            ):
                continue
            if of_shares and "%" not in figure:
                continue
            unit = f" ({head.unit})" if head.unit and not _has_own_unit(name, label, figure) else ""
            yield Pair(f"What figure is given for {name} {label}{unit}?", figure, "table", line)


def _head(rows: Sequence[Sequence[str]]) -> _Head | None:
    """Read the names of the columns off the first rows; None where they do not tell."""
    count = 1
    while count < len(rows) and _is_header(rows[count], rows[:count]):
        count += 1
    if count == len(rows):
        return None
    units = {_plain(row[0]) for row in rows[:count] if _UNIT.match(_plain(row[0]))}
    spanned = False
    parts: list[list[str]] = [[] for _ in rows[0][1:]]
    context = ""
    for row in rows[:count]:
        cells = [_plain(cell) for cell in row[1:]]
        named = [cell for cell in cells if cell]
        if named and all(_UNIT.match(cell) for cell in named):
            if len(set(named)) > 1 or (len(named) not in (1, len(cells))):
                return None
            units.add(named[0])
        elif len(named) == len(cells):
            for part, cell in zip(parts, cells, strict=True):
                part.append(cell)
        elif len(named) == 1 and row is not rows[count - 1]:
            context = f"{context} {named[0]}".strip() if re.search(r"ended,?$", context, re.I) else named[0]
            spanned = spanned or not (_PERIOD.match(context) or _DAY.match(context))
        elif named:
            return None
    if len(units) > 1 or not all(parts):
        return None
    context = context or _plain(rows[count - 1][0])
    labels = [_label(part, context) for part in parts]
    if spanned:  # a heading over some columns that the text does not tell: it may be part of their names
        labels = [label if _is_period(part[-1]) else "" for label, part in zip(labels, parts, strict=True)]
    return _Head(count, labels, units.pop().strip("()") if units else "")


def _is_header(row: Sequence[str], above: Sequence[Sequence[str]]) -> bool:
    """Tell whether a row still belongs to the header: no figure beside the first column but years that are the first."""
    cells = [_plain(cell) for cell in row[1:] if cell]
    if not cells:
        return not any(_plain(c) for r in above for c in r[1:])
    if any(_FIGURE.match(c) and not _YEAR.match(c) for c in cells):
        return False
    if any(_YEAR.match(c) for c in cells):
        return not any(_YEAR.match(_plain(c)) or _DATE.match(_plain(c)) for r in above for c in r[1:])
    return any(c not in ("-", "–", "—", "n/a", "N/A") for c in cells) and (
        not row[0] or bool(_UNIT.match(_plain(row[0]))) or _plain(row[0]).endswith(":")
    )


def _label(parts: Sequence[str], context: str) -> str:
    """Return how a question names a column: "in 2019", "for the year ended 31 March 2019", "under “Carrying amount”"."""
    last = parts[-1]
    if len(parts) > 1:
        return f'under "{", ".join(p.rstrip(",:") for p in parts)}"'
    if _YEAR.match(last):
        if found := _PERIOD.match(context):
            return f"for the {found.group(1).lower().removesuffix('s') if 'year' in found.group(1).lower() else found.group(1).lower()} ended {found.group(2)}, {last}"
        if (day := _DAY.match(context)) and _MONTH.search(context):
            return f"as of {day.group(1)}, {last}"
        return f"in {last}"
    if found := _PERIOD.match(last):
        return f"for the {found.group(1).lower()} ended {found.group(2)}" if re.search(r"(?:19|20)\d\d", last) else ""
    if last.endswith((",", ":")) or (_DAY.match(last) and _MONTH.search(last)):
        return ""
    return f'under "{last}"'


def _is_period(label: str) -> bool:
    return bool(_YEAR.match(label) or _DATE.match(label) or _PERIOD.match(label))


def _is_name(name: str, *, in_section: bool) -> bool:
    if not re.match(r"[A-Z]", name) or name.endswith((":", ",")) or len(name.split()) > _MAX_ROW_WORDS:
        return False
    if _UNIT.match(name) or _YEAR.match(name) or _VAGUE_ROW.match(name) or name.count("(") != name.count(")"):
        return False
    return (
        not in_section
        or len(name.split()) > 2
        or not re.match(r"(?:\w+$|current|prior|other|total|adjust)", name, re.I)
    )


def _has_own_unit(name: str, label: str, figure: str) -> bool:
    return bool(
        re.search(
            r"%|\bper\b|percent|\bratio\b|rate\b|\bto (?:EBITDA|equity|debt)\b|\bcover\b|\btimes\b|shares|\(in |\b[Nn]umber of|\bdays\b|\byears\b|headcount|EPS",
            f"{name} {label} {figure}",
        )
    )


def _plain(cell: str) -> str:
    return re.sub(r"\s+", " ", cell).strip()
