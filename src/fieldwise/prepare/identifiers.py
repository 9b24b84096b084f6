"""Detectors of structured identifiers: shape first, then the check digit or the words around it.

Each takes a Reading and yields findings. Numbers whose shape says little (MRN, NPI, licences, dates) count only
beside the words that name them, or in a table's column of that name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from fieldwise.prepare.checksums import IBAN_LENGTHS, is_card, is_dea, is_iban, is_nhs_number, is_npi, is_ssn
from fieldwise.prepare.reading import Finding, Reading

_DASH = r"\-\u2010-\u2013"
_NOT_DIGIT = re.compile(r"\D+")
_MONTH = (
    r"(?:jan(?:uary|uar)?|feb(?:ruary|ruar)?|mar(?:ch)?|märz|apr(?:il)?|may|mai|june?|juni|july?|juli|aug(?:ust)?"
    r"|sep(?:t(?:ember)?)?|oct(?:ober)?|okt(?:ober)?|nov(?:ember)?|dec(?:ember)?|dez(?:ember)?)\.?"
)
_DATE_TEXT = (
    rf"\d{{1,2}}(?:st|nd|rd|th|\.)?[ {_DASH}]?(?:of )?{_MONTH},?[ {_DASH}]?(?:1[89]|20)?\d\d"
    rf"|{_MONTH} ?\d{{1,2}}(?:st|nd|rd|th)?,? ?(?:1[89]|20)\d\d"
    rf"|\d{{1,4}} ?[./{_DASH}] ?\d{{1,2}} ?[./{_DASH}] ?\d{{2,4}}"
    r"|\d\d \d\d (?:1[89]|20)\d\d|(?:1[89]|20)\d\d(?:0\d|1[0-2])[0-3]\d|[0-3]\d(?:0\d|1[0-2])(?:1[89]|20)\d\d"
)
_DATE = re.compile(rf"(?:{_DATE_TEXT})(?!\d)", re.IGNORECASE)


def _is_possible(date: str) -> bool:
    """Whether a date of three numbers has a month and a day."""
    parts = [int(part) for part in re.findall(r"\d+", date)]
    if len(parts) != 3:
        return True
    first, second, third = parts
    day_month = (first, second) if first <= 31 else (third, second)
    return 1 <= min(day_month) <= 12 and max(day_month) <= 31 and min(day_month) > 0


def _digits(text: str) -> str:
    return _NOT_DIGIT.sub("", text)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter, digit or decimal part is glued to a span."""
    before, after = text[max(0, start - 1) : start], text[end : end + 2]
    return not (
        before.isalnum() or before == "_" or after[:1].isalnum() or (after[:1] in ".-_" and after[1:].isdigit())
    )


# ---------------------------------------------------------------- addresses of the net

_LOCAL_PART = re.compile(r"[^\W_][\w.%+'&\-]*\Z|[\w.%+\-]+\Z")
_DOMAIN = re.compile(r"[^\W_](?:[\w\-]{0,62})(?:\.[\w\-]{1,63})*\.[^\W\d_][\w\-]{1,62}(?!\w)")
_MAX_LOCAL_CHARS = 64


def emails(reading: Reading) -> Iterator[Finding]:
    """E-mail addresses, by their @."""
    text = reading.text
    at = text.find("@")
    while at >= 0:
        first = max(0, at - _MAX_LOCAL_CHARS)
        local = _LOCAL_PART.search(text[first:at])
        domain = _DOMAIN.match(text, at + 1)
        if local is not None and domain is not None:
            yield Finding("email", first + local.start(), domain.end(), "email")
        at = text.find("@", at + 1)


_SCHEME = re.compile(r"[a-z][a-z0-9+]{1,9}\Z", re.IGNORECASE)
_URL_REST = re.compile(r"[^\s<>\"|\[\]{}\u201c\u201d\u2018\u2019]+")
_URL_END = ".,;:!?'*"


def urls(reading: Reading) -> Iterator[Finding]:
    """Web addresses: scheme://..., or www. at the start of a word."""
    text = reading.text
    at = text.find("://")
    while at >= 0:
        scheme = _SCHEME.search(text[max(0, at - 10) : at])
        if scheme is not None and (rest := _URL_REST.match(text, at + 3)) is not None:
            start = at - len(scheme[0])
            yield Finding("url", start, _url_end(text, start, rest.end()), "url_scheme")
        at = text.find("://", at + 3)
    for end in reading.places("www."):
        if text[end : end + 1].isalnum() and (rest := _URL_REST.match(text, end)) is not None and "." in rest[0]:
            yield Finding("url", end - 4, _url_end(text, end - 4, rest.end()), "url_www")


def _url_end(text: str, start: int, end: int) -> int:
    """Without the stop of the sentence, and without a bracket that was opened before the address."""
    while text[end - 1] in _URL_END or (
        text[end - 1] == ")" and text.count("(", start, end) < text.count(")", start, end)
    ):
        end -= 1
    return end


_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}", re.ASCII)
_IPV6 = re.compile(r":[0-9A-Fa-f:.]*")
_IPV6_HEAD = re.compile(r"[0-9A-Fa-f]{1,4}\Z")
_NOT_IP = re.compile(r"(?:\bv|version|release|build|firmware|section|chapter|clause|rev(?:ision)?|§|no)\.?[ :#]{0,2}$")
_IP_WORDS = re.compile(r"\bips?\b|address|host|server|gateway|router|dns|subnet|client|login|log(?:ged)? in|from")
_SMALL_OCTET = 20


def ip_addresses(reading: Reading) -> Iterator[Finding]:
    """IPv4 and IPv6 addresses; four small numbers are an address only beside a word such as "host", else a section."""
    for run in reading.runs:
        if run.text.count(".") >= 3:
            for match in _IPV4.finditer(reading.text, run.start, run.end):
                if _is_ipv4(reading, match):
                    yield Finding("ip_address", match.start(), match.end(), "ipv4")
    if "::" in reading.text or reading.text.count(":") >= 7:
        yield from _ipv6(reading.text)


def _is_ipv4(reading: Reading, match: re.Match[str]) -> bool:
    octets = [int(part) for part in match[0].split(".")]
    if max(octets) > 255 or octets[0] == 0 or not _stands_alone(reading.text, match.start(), match.end()):
        return False
    if match.start() and reading.text[match.start() - 1] in ".-":
        return False
    before = reading.before(match.start())
    if _NOT_IP.search(before):
        return False
    return max(octets) >= _SMALL_OCTET or octets[0] == 10 or _IP_WORDS.search(before) is not None


def _ipv6(text: str) -> Iterator[Finding]:
    done = 0
    for match in _IPV6.finditer(text):
        if match.start() < done:
            continue
        head = _IPV6_HEAD.search(text[max(0, match.start() - 4) : match.start()])
        start = match.start() - (len(head[0]) if head else 0)
        found = text[start : match.end()].rstrip(".")
        if found.endswith(":") and not found.endswith("::"):
            found = found[:-1]
        done = match.end()
        groups = [g for g in found.split(":") if g]
        if len(groups) < 3 or (start and (text[start - 1].isalnum() or text[start - 1] == ".")):
            continue
        if text[start + len(found) : start + len(found) + 1].isalnum():
            continue
        try:
            ipaddress.IPv6Address(found)
        except ValueError:
            continue
        yield Finding("ip_address", start, start + len(found), "ipv6")


# ---------------------------------------------------------------- numbers with check digits

_SSN = re.compile(rf"\d{{3}}([ .{_DASH}]?)\d\d\1\d{{4}}(?!\d)", re.ASCII)
_SSN_WORDS = re.compile(r"(?:\bssn|social security|\bsoc\.? ?sec|\btax(?:payer)? id)[^\d\n]{0,20}$")


def ssns(reading: Reading) -> Iterator[Finding]:
    """US Social Security numbers: with dashes anywhere, otherwise beside the words for it."""
    for run in reading.runs:
        if len(run.text) < 9:
            continue
        for match in _SSN.finditer(reading.text, run.start, run.end):
            start, end = match.span()
            if not is_ssn(_digits(match[0])) or not _stands_alone(reading.text, start, end):
                continue
            if start and reading.text[start - 1] in "-./":
                continue
            if match[1] not in ("", " ", "."):
                yield Finding("ssn", start, end, "ssn_shape")
            elif _SSN_WORDS.search(reading.before(start)):
                yield Finding("ssn", start, end, "ssn_words")


_CARD = re.compile(rf"\d(?:[ {_DASH}]?\d){{11,18}}", re.ASCII)
_GROUP = re.compile(r"\d+", re.ASCII)


def cards(reading: Reading) -> Iterator[Finding]:
    """Payment card numbers: known issuer, its lengths, Luhn; groups of digits are taken whole."""
    for run in reading.runs:
        if len(run.text) < 12:
            continue
        groups = [(m.start() + run.start, m.end() + run.start) for m in _GROUP.finditer(run.text)]
        done = run.start
        for first, (start, _) in enumerate(groups):
            if start < done:
                continue
            for _, end in reversed(groups[first : first + 6]):
                found = reading.text[start:end]
                if (
                    _CARD.fullmatch(found)
                    and is_card(_digits(found))
                    and _is_grouped(found)
                    and _stands_alone(reading.text, start, end)
                ):
                    yield Finding("card", start, end, "card")
                    done = end
                    break


def _is_grouped(found: str) -> bool:
    """Whether groups are as long as on a card, which a column of small numbers is not."""
    groups = [len(g) for g in re.split(r"\D", found)]
    return len(groups) == 1 or (min(groups[:-1]) >= 4 and max(groups) <= 7)


_IBAN_START = re.compile(r"\d(?<=[A-Za-z]{2}\d)\d", re.ASCII)


def ibans(reading: Reading) -> Iterator[Finding]:
    """International bank account numbers: the country's length, and 1 modulo 97; blanks or dashes may stand between."""
    text = reading.text
    for match in _IBAN_START.finditer(text):
        start = match.start() - 2
        length = IBAN_LENGTHS.get(text[start : start + 2].upper())
        if length is None or (start and text[start - 1].isalnum()):
            continue
        found, at = "", start
        while at < len(text) and len(found) < length and (text[at].isalnum() or (text[at] in " -" and found)):
            found += text[at] if text[at].isalnum() else ""
            at += 1
        if is_iban(found) and not text[at : at + 1].isalnum():
            yield Finding("iban", start, at, "iban")


_NPI = re.compile(r"(?<![\d\w])[12]\d{9}(?![\w])", re.ASCII)
_NPI_WORDS = re.compile(r"(?:\bnpi|provider id|provider number)[^\d\n]{0,24}$")


def npis(reading: Reading) -> Iterator[Finding]:
    """US National Provider Identifiers: the words for it, and Luhn with the prefix 80840."""
    if "npi" not in reading.lower and "provider" not in reading.lower:
        return
    for run in reading.runs:
        for match in _NPI.finditer(reading.text, run.start, run.end):
            if is_npi(match[0]) and _NPI_WORDS.search(reading.before(match.start())):
                yield Finding("npi", match.start(), match.end(), "npi_words")


# ---------------------------------------------------------------- telephone

_PHONE_INTERNATIONAL = re.compile(rf"\+ ?\d[\d ().{_DASH}/]{{5,24}}\d", re.ASCII)
_PHONE_NANP = re.compile(
    rf"(?:1[ .{_DASH}])?(?:\([2-9]\d\d\)[ {_DASH}]?|[2-9]\d\d[ .{_DASH}/])[2-9]\d\d[ .{_DASH}]\d{{4}}(?!\d)", re.ASCII
)
_PHONE_TRUNK = re.compile(
    rf"\(?0(?:[1-9]\d{{0,4}}|0[1-9]\d{{0,2}})\)?[ .{_DASH}/]{{1,2}}\d{{2,8}}(?:([ .{_DASH}])\d{{2,8}}(?:\1\d{{2,8}}){{0,3}})?",
    re.ASCII,
)
_PHONE_EXIT_CODE = re.compile(
    rf"00 ?[1-9]\d{{0,2}}(?:[ .{_DASH}]?\(0\))?(?:[ .{_DASH}/]\d{{1,8}}){{1,5}}(?!\d)", re.ASCII
)
_PHONE_WORDS = re.compile(
    r"(?:\btel(?:ephone|efon|\.)?|\bphone|\bmobile|\bmob\b|\bcell(?:phone)?|\bfax|\bcall(?:ed|s|ing)?|\bring|\bwhatsapp"
    r"|\bhandy|\bhotline|\bhelpline|\bcontact)\b[^\d\n]{0,20}$"
)
_PHONE_ANY = re.compile(rf"\(?\d(?:[ .()/{_DASH}]{{0,2}}\d){{6,14}}", re.ASCII)
_EXTENSION = re.compile(r",? ?(?:ext\.?|extension|x) ?\d{1,6}(?!\w)", re.IGNORECASE)


def phones(reading: Reading) -> Iterator[Finding]:
    """Telephone numbers: international, North American, with a leading 0, or any beside a word such as "phone"."""
    for run in reading.runs:
        digits = len(_digits(run.text))
        if digits < 7:
            continue
        found, at = _phone(reading, run.start, run.end), run.start
        while found is not None:
            yield found
            at = max(found.end, at + 1)
            found = _phone(reading, at, run.end) if at < run.end else None


def _phone(reading: Reading, start: int, end: int) -> Finding | None:
    """The first telephone number in a run of digits."""
    text = reading.text
    first = start
    while first > 0 and start - first < 3 and text[first - 1] in "+( ":
        first -= 1
    for rule, pattern, fits in _PHONE_RULES:
        for match in pattern.finditer(text, first, end):
            stop = _plausible_end(match)
            if stop is not None and _is_alone(text, match.start(), stop) and fits(reading, match, stop):
                extension = _EXTENSION.match(text, stop)
                return Finding("phone", match.start(), extension.end() if extension else stop, rule)
    return None


def _is_alone(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - 1) : start]
    return _stands_alone(text, start, end) and not (before in ("-", "/", ".", "+") and text[start : start + 1] != "+")


def _plausible_end(match: re.Match[str]) -> int | None:
    """Where the number ends: whole groups up to the most digits a number has (E.164: 15; North America: 11)."""
    most = 11 if match[0].startswith(("+1 ", "+1-", "+1.", "+1(")) else 15
    if not match[0].startswith("+"):
        return match.end()
    count, end = 0, None
    for group in _GROUP.finditer(match[0]):
        count += len(group[0])
        if count > most:
            break
        if count >= 8:
            end = match.start() + group.end()
    return end


def _fits_always(reading: Reading, match: re.Match[str], end: int) -> bool:
    return True


def _fits_nanp(reading: Reading, match: re.Match[str], end: int) -> bool:
    """Blanks alone between the groups count only where no other number stands beside them."""
    if any(c in match[0] for c in "(-./\u2010\u2011\u2012\u2013"):
        return True
    text = reading.text
    return (
        not text[max(0, match.start() - 2) : match.start()].strip().isdigit()
        and not text[end : end + 2].strip()[:1].isdigit()
    )


def _fits_trunk(reading: Reading, match: re.Match[str], end: int) -> bool:
    """The leading 0 must not be the inside of a number written in groups, such as 1 023 456 789."""
    before = reading.text[max(match.pos, match.start() - 2) : match.start()]
    is_inside = match.start() > match.pos and before[:1].isdigit()
    return 9 <= len(_digits(match[0])) <= 14 and not is_inside and not _is_date(match[0])


def _fits_exit_code(reading: Reading, match: re.Match[str], end: int) -> bool:
    return 11 <= len(_digits(match[0])) <= 17


def _fits_words(reading: Reading, match: re.Match[str], end: int) -> bool:
    return not _is_date(match[0]) and _PHONE_WORDS.search(reading.before(match.start())) is not None


def _is_date(text: str) -> bool:
    found = _DATE.match(text)
    return (
        found is not None and len(_digits(found[0])) >= 6 and len(_digits(found[0])) <= 8 and not text.startswith("(")
    )


_PHONE_RULES: tuple[tuple[str, re.Pattern[str], Callable[[Reading, re.Match[str], int], bool]], ...] = (
    ("phone_international", _PHONE_INTERNATIONAL, _fits_always),
    ("phone_nanp", _PHONE_NANP, _fits_nanp),
    ("phone_international", _PHONE_EXIT_CODE, _fits_exit_code),
    ("phone_trunk", _PHONE_TRUNK, _fits_trunk),
    ("phone_words", _PHONE_ANY, _fits_words),
)


# ---------------------------------------------------------------- beside the words that name them

# what may stand between a label and its value; no mask, so that the label of a masked value finds nothing behind it
_LINK = r"(?:[^\w\n\[\]]|\n(?!\n\n)|\b(?:number|numbers|no|nr|num|is|was|id|identifier|code|of|the|her|his|patient|with|under|as|pin)\b){0,10}"
_MRN_VALUE = r"(?<![\w\-])(?:[A-Z]{1,4}[ \-]?)?\d[A-Z\d]*(?:[\-/][A-Z\d]+)*(?![\w])"
_MRN_AFTER = re.compile(rf"(?i:{_LINK})({_MRN_VALUE})")
_MRN_LABELS = (
    "mrn", "medical record", "medical records number", "med rec", "hospital number", "hospital no", "hospital id",
    "patient id", "patient number", "patient no", "patient identifier", "chart number", "chart no", "record number",
    "record no", "unit number", "case number", "nhs number", "nhs no", "fallnummer", "patientennummer", "health record number",
)  # fmt: skip
_NHS = re.compile(r"(?i:[^\w\n\[\]]|\bis\b|\bwas\b){0,8}(\d{3}[ -]?\d{3}[ -]?\d{4})(?!\d)")


def mrns(reading: Reading) -> Iterator[Finding]:
    """Medical record numbers, by the words before them; NHS numbers with their check digit."""
    for label in _MRN_LABELS:
        for at in reading.places(label):
            if label.startswith("nhs") and (match := _NHS.match(reading.text, at)) is not None:
                if is_nhs_number(_digits(match[1])):
                    yield Finding("mrn", *match.span(1), "nhs_number")
            elif (match := _MRN_AFTER.match(reading.text, at)) is not None and _is_record_number(match[1]):
                yield Finding("mrn", *match.span(1), "mrn_words")


def _is_record_number(value: str) -> bool:
    letters_and_digits = sum(c.isalnum() for c in value)
    return 5 <= letters_and_digits <= 15 and len(_digits(value)) >= 4 and not _is_whole_date(value)


def _is_whole_date(value: str) -> bool:
    return any(c in value for c in "-/. ") and _DATE.fullmatch(value) is not None


_BIRTH_AFTER = re.compile(
    rf"(?:[^\d\n\[\]]{{0,24}}?)\n{{0,2}}(?:[^\d\n\[\]]{{0,12}}?)(?<!\w)({_DATE_TEXT})(?![\d])", re.IGNORECASE
)
_BIRTH_LABELS = (
    "date of birth", "birth date", "birthdate", "birthday", "dob", "d.o.b", "d.o.b.", "born", "geburtsdatum", "geboren",
    "geb", "naissance", "né le", "née le", "fecha de nacimiento", "b.d.",
)  # fmt: skip


def birth_dates(reading: Reading) -> Iterator[Finding]:
    """Dates of birth: a date behind words such as "date of birth" or "born"."""
    for label in _BIRTH_LABELS:
        for at in reading.places(label):
            match = _BIRTH_AFTER.match(reading.text, at)
            if match is not None and _is_possible(match[1]):
                yield Finding("date_of_birth", *match.span(1), "birth_words")


_LICENCE_VALUE = r"(?<![\w\-])(?:[A-Z9]{5} ?\d{6} ?[A-Z9\d]{5}(?: ?\d\d)?|[A-Z]{0,3}[ \-]?\d[A-Z\d]*(?:\-[A-Z\d]+)*|[A-Z]{2,3}\d[A-Z\d\-]+)(?!\w)"
_LICENCE_AFTER = re.compile(rf"(?i:{_LINK})({_LICENCE_VALUE})")
_LICENCE_LABELS = (
    "driver's license", "driver’s license", "drivers license", "driver license", "driver's licence", "driver’s licence",
    "driving licence", "driving license", "driver licence", "dl", "license", "licence", "gmc", "nmc", "dea",
    "registration pin", "führerschein", "führerscheinnummer",
)  # fmt: skip


def licences(reading: Reading) -> Iterator[Finding]:
    """Numbers of driving and medical licences, by the words before them; DEA numbers with their check digit."""
    for label in _LICENCE_LABELS:
        for at in reading.places(label):
            match = _LICENCE_AFTER.match(reading.text, at)
            if match is None or not (5 <= sum(c.isalnum() for c in match[1]) <= 18 and len(_digits(match[1])) >= 4):
                continue
            if _is_whole_date(match[1]) or (label == "dea" and not _is_dea_number(match[1])):
                continue
            yield Finding("licence", *match.span(1), f"licence_{'dea' if label == 'dea' else 'words'}")


def _is_dea_number(value: str) -> bool:
    return re.fullmatch(r"[A-Z][A-Z9]\d{7}", value) is not None and is_dea(value)


# ---------------------------------------------------------------- columns of tables

_ANY_LICENCE = re.compile(_LICENCE_VALUE)
_COLUMNS: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "mrn": (
        re.compile(r"mrn|(?:medical )?record (?:number|no\.?)|(?:hospital|patient|chart) (?:number|no\.?|id)"),
        lambda v: re.fullmatch(_MRN_VALUE, v) is not None and _is_record_number(v),
    ),
    "date_of_birth": (
        re.compile(r"dob|d\.o\.b\.?|date of birth|birth ?date|born|birthday|geburtsdatum|geboren"),
        lambda v: _DATE.fullmatch(v) is not None and _is_possible(v),
    ),
    "ssn": (re.compile(r"ssn|social security.*"), lambda v: is_ssn(_digits(v)) and _SSN.fullmatch(v) is not None),
    "npi": (re.compile(r"npi.*"), is_npi),
    "phone": (
        re.compile(r"(?:.* )?(?:tel(?:ephone|efon|\.)?|phone|mobile|cell|fax)(?: (?:number|no\.?))?"),
        lambda v: _PHONE_ANY.fullmatch(v) is not None and not _is_date(v),
    ),
    "licence": (
        re.compile(r"(?:.* )?(?:licen[cs]e|dl|gmc|dea|nmc)(?: (?:number|no\.?|#|pin))?"),
        lambda v: _ANY_LICENCE.fullmatch(v) is not None and len(v) >= 5 and len(_digits(v)) >= 4 and not _is_whole_date(v),
    ),
}  # fmt: skip


def in_column(kind: str) -> Callable[[Reading], Iterator[Finding]]:
    """Return the detector of a kind in table columns that are named after it."""
    label_fits, value_fits = _COLUMNS[kind]

    def found(reading: Reading) -> Iterator[Finding]:
        for cell in reading.cells:
            if any(label_fits.fullmatch(label) for label in cell.labels):
                value = reading.text[cell.start : cell.end]
                if value_fits(value):
                    yield Finding(kind, cell.start, cell.end, f"{kind}_column")

    return found


COLUMN_KINDS = tuple(_COLUMNS)
