"""One fact of an answer made wrong: a number, a date, a unit, or whether something is so; every other word stays.

Each function yields such texts in random order, and one beside it proves, from the two texts alone, that nothing else
is different. What is put in stands nowhere in the text that is to be avoided: it could be right there by chance.
"""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from fieldwise.support import words_in

_SPELT = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18,
    "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_MONTHS = "January February March April May June July August September October November December".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTH, _FULL_YEAR = f"(?P<month>{'|'.join(_MONTHS)})", r"(?P<year>(?:19|20)\d\d)"
_DAY = r"(?P<day>\d{1,2})(?P<ordinal>st|nd|rd|th)?"
_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{_FULL_YEAR}-(?P<month>\d\d)-(?P<day>\d\d)\b",
        rf"\b{_DAY} (?:of )?{_MONTH}\b(?:,? {_FULL_YEAR}\b)?",
        rf"\b{_MONTH} {_DAY}\b(?:,? {_FULL_YEAR}\b)?",
        rf"\b{_MONTH} {_FULL_YEAR}\b",
        r"(?<![\d:.])(?P<hour>[01]?\d|2[0-3]):[0-5]\d(?![\d:])",
        rf"\b(?:{'|'.join(_WEEKDAYS)})\b",
        r"(?<=\b[io]n )(?:19|20)\d\d\b(?! \w+s\b)",
        r"(?<=\b(?:of|by) )(?:19|20)\d\d\b(?! \w+s\b)",
        r"(?<=\bsince )(?:19|20)\d\d\b",
    )
)
_FIGURE = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_NUMBER = re.compile(
    rf"(?<![\w.,:/–])(?<!\w-)(?:{_FIGURE})(?=[a-zA-Zµ°%]{{0,4}}(?!\w))(?![.,]?\d|[:/]|[-–]\d|(?:st|nd|rd|th)\b)"
)
_SPELT_NUMBER = re.compile(rf"\b(?:{'|'.join(_SPELT)})\b(?!-)", re.IGNORECASE)
_LIST_SIGN = re.compile(r"(?:^|\n)\s*\d+[.)]\s")
_UNITS: tuple[tuple[str, ...], ...] = (
    ("seconds", "minutes", "hours", "days", "weeks", "months", "years"),
    ("second", "minute", "hour", "day", "week", "month", "year"),
    ("micrograms", "milligrams", "grams", "kilograms"), ("mcg", "mg", "g", "kg"), ("µg", "mg", "g"),
    ("millilitres", "litres"), ("milliliters", "liters"), ("ml", "l"), ("mL", "L"),
    ("millimetres", "centimetres", "metres", "kilometres"), ("millimeters", "centimeters", "meters", "kilometers"),
    ("mm", "cm", "m", "km"), ("miles", "kilometres"), ("°C", "°F"), ("Celsius", "Fahrenheit"),
    ("mmHg", "kPa"), ("pascals", "kilopascals"), ("kcal", "kJ"), ("calories", "joules"),
    ("KB", "MB", "GB", "TB"), ("bytes", "kilobytes", "megabytes", "gigabytes"),
    ("thousand", "million", "billion", "trillion"), ("dollars", "euros", "pounds"), ("USD", "EUR", "GBP"),
    ("cents", "dollars"), ("watts", "kilowatts", "megawatts"), ("W", "kW", "MW"),
)  # fmt: skip
_MEASURED = re.compile(
    rf"(?<![\w-])(?:\d[\d.,]*|{'|'.join(['one', *_SPELT])})(?: (?:working|business|calendar|consecutive))?[ -]?"
    rf"(?P<unit>{'|'.join(sorted({re.escape(u) for family in _UNITS for u in family}, key=lambda u: (-len(u), u)))})(?!\w)"
)
_NEGATION = re.compile(r"\b(?:not|no|never|none|nor|neither|without|cannot|nobody|nothing)\b|n't\b", re.IGNORECASE)
_HALF_A_PHRASE = re.compile(r"\bonly\b|\bor not\b|\bif not\b|\bwhether\b|\bnot (?:un|in)\w+", re.IGNORECASE)
_VERBS = "must may can should shall will would could might is are was were has have had need"
_TAKEN_OUT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"\b({_VERBS.replace(' ', '|')}) not\b", re.IGNORECASE), r"\1"),
    (re.compile(r"\b(?:cannot|can't)\b"), "can"),
    (re.compile(r"\bwon't\b"), "will"),
    (re.compile(r"\b(must|should|would|could|is|are|was|were|has|have|had)n't\b", re.IGNORECASE), r"\1"),
    (re.compile(r"\bnever\b"), "always"),
    (re.compile(r"^Never\b"), "Always"),
    (re.compile(r"^[Dd]o not (?=\w)"), ""),
    (re.compile(r"\bwithout\b"), "with"),
)
_PUT_IN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(must|may|should|shall|will|is|are|was|were)(?= [a-z])"), r"\1 not"),
    (re.compile(r"\bcan(?= [a-z])"), "cannot"),
    (re.compile(r"\balways(?= \w)"), "never"),
)


# ---------------------------------------------------------------- alterations


def other_numbers(answer: str, avoid: str, rng: random.Random) -> Iterator[str]:
    """Yield the answer with another number of the same form; dates, times, ranges and the number 1 are left alone.

    >>> next(other_numbers("2 tablets", "2 or 3 tablets", random.Random(0))) in ("4 tablets", "5 tablets", "7 tablets", "12 tablets")
    True
    """
    taken = [m.span() for pattern in (*_DATES, _LIST_SIGN) for m in pattern.finditer(answer)]
    found = [m for p in (_NUMBER, _SPELT_NUMBER) for m in p.finditer(answer) if not _overlaps(m.span(), taken)]
    known = _figures(avoid)
    texts = [
        _replaced(answer, match.span(), other)
        for match in found
        for other in _near(match.group(0))
        if _value(other) not in known
    ]
    yield from _shuffled(texts, rng)


def other_dates(answer: str, avoid: str, rng: random.Random) -> Iterator[str]:
    """Yield the answer with another day, month, year, weekday or hour of the day, always one that the calendar has."""
    texts: list[str] = []
    taken: list[tuple[int, int]] = []
    for match in (m for pattern in _DATES for m in pattern.finditer(answer)):
        if _overlaps(match.span(), taken):
            continue  # the month of a date whose day would no longer fit
        taken.append(match.span())
        for span, other in _near_dates(match):
            text = _replaced(answer, span, other)
            phrase = text[match.start() : match.end() + len(text) - len(answer)]
            if words_in(phrase, avoid) is None:
                texts.append(text)
    yield from _shuffled(texts, rng)


def other_units(answer: str, avoid: str, rng: random.Random) -> Iterator[str]:
    """Yield the answer with another unit of the same kind behind a number.

    >>> next(other_units("1,500 mL a day", "1,500 mL a day", random.Random(1)))
    '1,500 L a day'
    """
    texts = []
    for match in _MEASURED.finditer(answer):
        unit = match.group("unit")
        for other in sorted({u for family in _UNITS if unit in family for u in _beside(unit, family)} - {unit}):
            if words_in(match.group(0)[: -len(unit)] + other, avoid) is None:
                texts.append(_replaced(answer, match.span("unit"), other))
    yield from _shuffled(texts, rng)


def opposites(answer: str, avoid: str, rng: random.Random) -> Iterator[str]:
    """Yield the answer saying the opposite: its one negation taken out, or one put in where it holds none.

    >>> list(opposites("must not be opened", "", random.Random(0))), list(opposites("14 days", "", random.Random(0)))
    (['must be opened'], [])
    """
    negations = len(_NEGATION.findall(answer))
    if _HALF_A_PHRASE.search(answer) or negations > 1:
        return  # one of two taken out, or half of "not only", does not make the opposite
    elsewhere = re.sub(re.escape(answer), " ", avoid, flags=re.IGNORECASE)  # "open it" stands in "do not open it"
    texts = []
    for pattern, new in _TAKEN_OUT if negations else _PUT_IN:
        for match in pattern.finditer(answer):
            text = _replaced(answer, match.span(), match.expand(new))
            text = text[:1].upper() + text[1:] if answer[:1].isupper() else text
            if words_in(text, elsewhere) is None:
                texts.append(text)
    yield from _shuffled(texts, rng)


# ---------------------------------------------------------------- proofs


def is_other_number(chosen: str, rejected: str) -> bool:
    """Tell whether two texts differ in one number that belongs to no date, and in nothing else."""
    changed = _one_word(chosen, rejected)
    if changed is None or any(_overlaps(changed.span, [m.span()]) for p in _DATES for m in p.finditer(chosen)):
        return False
    return _form(changed.before) == _form(changed.after)


def is_other_date(chosen: str, rejected: str) -> bool:
    """Tell whether two texts differ in one part of a date or time of day, and in nothing else."""
    changed = _one_word(chosen, rejected)
    if changed is None or not any(_overlaps(changed.span, [m.span()]) for p in _DATES for m in p.finditer(chosen)):
        return False
    before, after = changed.before.strip(",.;:()"), changed.after.strip(",.;:()")
    is_name = any(before in names and after in names for names in (_MONTHS, _WEEKDAYS))
    return is_name or _form(changed.before) == _form(changed.after)


def is_other_unit(chosen: str, rejected: str) -> bool:
    """Tell whether two texts differ in one unit of the same kind, and in nothing else."""
    changed = _one_word(chosen, rejected)
    if changed is None or _figures(changed.before) != _figures(changed.after):
        return False
    before, after = (re.sub(r"^[(]?[\d.,]*-?", "", w).strip(",.;:()") for w in (changed.before, changed.after))
    return any(before in family and after in family for family in _UNITS)


def is_opposite(chosen: str, rejected: str) -> bool:
    """Tell whether two texts say the same but for one negation.

    >>> is_opposite("It may be opened", "It may not be opened"), is_opposite("may go", "may not stay")
    (True, False)
    """
    counts = [len(_NEGATION.findall(text)) for text in (chosen, rejected)]
    return abs(counts[0] - counts[1]) == 1 and _without_negation(chosen) == _without_negation(rejected)


# ---------------------------------------------------------------- parts


class _Changed(NamedTuple):
    before: str
    after: str
    span: tuple[int, int]


def _one_word(first: str, second: str) -> _Changed | None:
    """The word that is another, where just one is."""
    words, others = list(re.finditer(r"\S+", first)), second.split()
    if len(words) != len(others):
        return None
    found = [_Changed(m.group(0), o, m.span()) for m, o in zip(words, others, strict=True) if m.group(0) != o]
    return found[0] if len(found) == 1 else None


def _form(word: str) -> str:
    """A word with a sign for every number: what must stay as it is when a number changes."""
    return _SPELT_NUMBER.sub("#", re.sub(_FIGURE, "#", word))


def _without_negation(text: str) -> list[str]:
    plain = re.sub(r"\b(?:cannot|can't)\b", "can", text.casefold()).replace("won't", "will")
    plain = re.sub(r"^do not |n't\b|\b(?:not|never|always)\b", " ", plain)
    return re.sub(r"\bwithout\b", "with", plain).split()


def _replaced(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def _shuffled(texts: list[str], rng: random.Random) -> list[str]:
    rng.shuffle(texts)
    return texts


def _overlaps(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(span[0] < end and start < span[1] for start, end in others)


def _beside(unit: str, family: Sequence[str]) -> Sequence[str]:
    """Units of a family that are not too far off to be believed."""
    place = family.index(unit)
    return family[max(0, place - 2) : place + 3]


def _value(number: str) -> str:
    plain = number.replace(",", "").casefold()
    return str(_SPELT.get(plain, plain))


def _figures(text: str) -> set[str]:
    """Every number of a text in figures, also those inside of dates and codes."""
    words = re.findall(rf"{_FIGURE}|[^\W\d_]+", text)
    whole = {_value(word) for word in words if word[0].isdigit() or word.casefold() in _SPELT}
    return whole | set(re.findall(r"\d+", text))


def _near(written: str) -> Iterator[str]:
    """Numbers near enough to be believed, written alike; never 0, and never 1, whose noun would give it away."""
    if written.casefold() in _SPELT:
        yield from (w.capitalize() if written[0].isupper() else w for w in _SPELT if w != written.casefold())
        return
    plain = written.replace(",", "")
    if len(plain) > 1 and plain.startswith("0") and "." not in plain:  # a telephone number, a code
        yield from (f"{(int(plain) + step) % 10 ** len(plain):0{len(plain)}d}" for step in (1, 2, 5, 10))
        return
    value, places = Decimal(plain), len(plain.partition(".")[2])
    if value in (0, 1):
        return
    step = Decimal(1).scaleb(-places)
    near = [value + n * step for n in (-10, -2, -1, 1, 2, 3, 5, 10)] + [value * 2]
    near += [value / 2] if value % (2 * step) == 0 else []
    for other in dict.fromkeys(near):
        if other > (0 if places else 1) and other not in (1, value):
            yield f"{other:,.{places}f}" if "," in written else f"{other:.{places}f}"


def _near_dates(match: re.Match[str]) -> Iterator[tuple[tuple[int, int], str]]:
    """Parts of a date with what may stand in their places."""
    parts, whole = match.groupdict(), match.group(0)
    if not parts:  # a weekday, or a year alone
        others = _WEEKDAYS if whole in _WEEKDAYS else [str(int(whole) + n) for n in (-2, -1, 1, 2)]
        yield from ((match.span(), other) for other in others if other != whole)
        return
    if hour := parts.get("hour"):
        for n in (-2, -1, 1, 2):
            yield match.span("hour"), f"{(int(hour) + n) % 24:0{len(hour)}d}"
        return
    is_iso = parts["month"].isdigit()
    month = int(parts["month"]) if is_iso else _MONTHS.index(parts["month"]) + 1
    day, year = int(parts.get("day") or 1), int(parts.get("year") or 2024)
    for other in range(1, 13):
        if other != month and _is_day(year, other, day):
            yield match.span("month"), f"{other:02d}" if is_iso else _MONTHS[other - 1]
    for n in (-7, -2, -1, 1, 2, 7):
        if parts.get("day") and not parts.get("ordinal") and _is_day(year, month, day + n):
            yield match.span("day"), f"{day + n:0{2 if is_iso else 1}d}"
        if parts.get("year") and abs(n) < 7 and _is_day(year + n, month, day):
            yield match.span("year"), str(year + n)


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True
