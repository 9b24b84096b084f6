"""Personal data: recall and false alarms by kind, on generated notes whose spans are known.

    python benchmarks/bench_personal_data.py [--json] [--notes 400] [--seed 7]

Notes are filled from templates. Numbers are made with valid check digits. Half of the names come from the detector's
own first names, half from names it does not know. Each note also holds codes that look like identifiers and are none:
slips in check digits, part numbers, versions, times, dates. A span counts as found if a finding of its kind covers
all of it; anything a finding of another kind covers counts as a false alarm of that kind. Intervals are Wilson's.
Where presidio-analyzer is installed it is measured on the same notes as well, by itself and beside our detectors.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fieldwise.evaluate.statistics import wilson
from fieldwise.prepare.checksums import IBAN_LENGTHS, is_npi, luhn
from fieldwise.prepare.names import FIRST_NAMES
from fieldwise.prepare.personal_data import KINDS, find_personal_data

BESIDE = (
    "CreditCardRecognizer", "IbanRecognizer", "UsSsnRecognizer", "IpRecognizer", "PhoneRecognizer", "UsLicenseRecognizer",
    "MedicalLicenseRecognizer", "NhsRecognizer", "UsNpiRecognizer", "UsPassportRecognizer", "UsBankRecognizer",
    "UsItinRecognizer", "UkNinoRecognizer", "CryptoRecognizer",
)  # fmt: skip
STRUCTURED = tuple(kind for kind in KINDS if kind not in ("name", "address"))
UNKNOWN_FIRST = (
    "Ottoline Eudora Casimir Hannelore Wilbur Quentin Isolde Thandeka Rufus Aurelio Bettany Nkechi Ewart".split()
)
SURNAMES = [
    *"Okonjo Brask Pellworthy Khatri Fenwick Rowntree Lantrip Garth Werrin Orrock Lindqvale Hartigal Smith".split(),
    *"Patel Nguyen O'Brien Müller Santos Kowalska Abara Finch Osei Pryce McAllister".split(),
    "van Dyk",
    "de la Cruz",
]
STREETS = "Oak Candlewick Mill Station Elm Harbour Church Victoria Queens Maple".split()
STREET_KINDS = "Street Road Avenue Lane Drive Row Close Blvd St Rd".split()
CITIES = "Springfield Thornquill Dover Ashford Millbrook Leeds".split()
MONTHS = "January February March April May June July August September October November December".split()


class Span(NamedTuple):
    """A piece of a note that is personal data, and which sort of it."""

    kind: str
    sort: str
    start: int
    end: int


class Note(NamedTuple):
    """A generated note with its true spans."""

    text: str
    spans: tuple[Span, ...]


# ---------------------------------------------------------------- values


def _digits(chance: random.Random, n: int) -> str:
    return "".join(chance.choices("0123456789", k=n))


def _with_luhn(prefix: str, length: int, chance: random.Random) -> str:
    body = prefix + _digits(chance, length - len(prefix) - 1)
    return next(body + d for d in "0123456789" if luhn(body + d))


def card(chance: random.Random) -> tuple[str, str]:
    prefix, length = chance.choice([("4", 16), ("4", 13), ("4", 19), ("51", 16), ("2221", 16), ("37", 15), ("36", 14), ("6011", 16), ("3530", 16), ("62", 16), ("5018", 12)])  # fmt: skip
    number = _with_luhn(prefix, length, chance)
    if length == 15:
        parts = [number[:4], number[4:10], number[10:]]
    else:
        parts = [number[n : n + 4] for n in range(0, length, 4)]
    return chance.choice(["", " ", "-"]).join(parts), f"{length} digits"


def iban(chance: random.Random) -> tuple[str, str]:
    country = chance.choice(sorted(IBAN_LENGTHS))
    body = _digits(chance, IBAN_LENGTHS[country] - 4)
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    number = f"{country}{check:02d}{body}"
    if chance.random() < 0.5:
        number = " ".join(number[n : n + 4] for n in range(0, len(number), 4))
    return number, "grouped" if " " in number else "in one"


def ssn(chance: random.Random) -> tuple[str, str]:
    area = chance.choice([n for n in range(1, 900) if n != 666])
    parts = [f"{area:03d}", f"{chance.randint(1, 99):02d}", f"{chance.randint(1, 9999):04d}"]
    return "-".join(parts), "dashes"


def npi(chance: random.Random) -> tuple[str, str]:
    body = chance.choice("12") + _digits(chance, 8)
    return next(body + d for d in "0123456789" if is_npi(body + d)), "labelled"


def mrn(chance: random.Random) -> tuple[str, str]:
    number = _digits(chance, chance.randint(6, 9))
    shape = chance.choice(["{}", "A{}", "RK-{}", "TQ-{}", "{}-B"])
    return shape.format(number), shape


def licence(chance: random.Random) -> tuple[str, str]:
    shape = chance.choice(["D{7}", "{8}", "{3}-{3}-{3}", "MD{6}"])
    number = "".join(_digits(chance, int(p[1])) if p.startswith("{") else p for p in _pieces(shape))
    return number, shape


def _pieces(shape: str) -> list[str]:
    return [p for p in shape.replace("{", "\0{").replace("}", "}\0").split("\0") if p]


def date(chance: random.Random) -> str:
    year, month, day = chance.randint(1925, 2015), chance.randint(1, 12), chance.randint(1, 28)
    name = MONTHS[month - 1]
    return chance.choice(
        [
            f"{day:02d}/{month:02d}/{year}", f"{month}/{day}/{year % 100:02d}", f"{year}-{month:02d}-{day:02d}",
            f"{day} {name} {year}", f"{name} {day}, {year}", f"{day}.{month}.{year}", f"{day}-{name[:3]}-{year}",
            f"{name[:3]} {day}, {year}", f"{day}{_ordinal(day)} of {name} {year}",
        ]
    )  # fmt: skip


def _ordinal(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def email(chance: random.Random) -> tuple[str, str]:
    local = chance.choice(["{a}.{b}", "{a}{n}", "{a}_{b}", "{a}+{n}", "{b}-{a}"])
    host = chance.choice(["example.org", "mail.example.co.uk", "clinic-one.example", "xn--bcher-kva.example"])
    words = {"a": chance.choice(UNKNOWN_FIRST).lower(), "b": "finch", "n": chance.randint(1, 999)}
    return f"{local.format(**words)}@{host}", "e-mail"


def phone(chance: random.Random) -> tuple[str, str]:
    area, exchange, line = chance.randint(201, 989), chance.randint(200, 999), f"{chance.randint(0, 9999):04d}"
    return chance.choice(
        [
            (f"({area}) {exchange}-{line}", "US"), (f"{area}-{exchange}-{line}", "US"), (f"{area}.{exchange}.{line}", "US"),
            (f"+1 {area} {exchange} {line}", "international"), (f"1-{area}-{exchange}-{line}", "US"),
            (f"+44 20 {chance.randint(7000, 7999)} {line}", "international"), (f"01632 96{line}", "UK"),
            (f"07700 90{line}", "UK"), (f"(020) 7946 {line}", "UK"), (f"+49 171 {_digits(chance, 7)}", "international"),
            (f"030/{chance.randint(1000000, 9999999)}", "German"), (f"+33 1 42 68 53 {line[:2]}", "international"),
            (f"00 44 20 7946 {line}", "international"),
        ]
    )  # fmt: skip


def ip_address(chance: random.Random) -> tuple[str, str]:
    if chance.random() < 0.3:
        return f"2001:db8:{_hex(chance)}::{_hex(chance)}:{_hex(chance)}", "IPv6"
    return f"{chance.choice([10, 172, 192, 203])}.{chance.randint(0, 255)}.{chance.randint(0, 255)}.{chance.randint(1, 254)}", "IPv4"  # fmt: skip


def _hex(chance: random.Random) -> str:
    return f"{chance.randint(1, 0xFFFF):x}"


def url(chance: random.Random) -> tuple[str, str]:
    return chance.choice(["https://{}/a?b=1", "http://www.{}", "www.{}/x", "https://{}:8443/p/q.html#s"]).format(
        f"portal{chance.randint(1, 99)}.example.org"
    ), "URL"


def name(chance: random.Random) -> tuple[str, str]:
    known = chance.random() < 0.5
    first = chance.choice(sorted(FIRST_NAMES) if known else UNKNOWN_FIRST)
    middle = f" {chance.choice('ABCDEFGHJK')}." if chance.random() < 0.3 else ""
    return f"{first}{middle} {chance.choice(SURNAMES)}", "first name known" if known else "first name unknown"


def address(chance: random.Random) -> tuple[str, str]:
    street = f"{chance.randint(1, 9999)} {chance.choice(STREETS)} {chance.choice(STREET_KINDS)}"
    city = chance.choice(CITIES)
    return chance.choice(
        [
            (f"{street}, {city}, IL {_digits(chance, 5)}", "US"), (f"{street}, Apt {chance.randint(1, 99)}, {city}, TX {_digits(chance, 5)}", "US"),
            (f"{street}, {city} NW1 6XE", "UK"), (f"PO Box {chance.randint(1, 9999)}, {city}", "box"),
        ]
    )  # fmt: skip


VALUES: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "card": card, "iban": iban, "ssn": ssn, "npi": npi, "mrn": mrn, "licence": licence, "email": email, "phone": phone,
    "ip_address": ip_address, "url": url, "name": name, "address": address,
    "date_of_birth": lambda chance: (date(chance), "labelled"),
}  # fmt: skip

SENTENCES = """Patient: {name}, DOB {date_of_birth}, MRN: {mrn}.
The patient {name} (date of birth: {date_of_birth}, medical record number {mrn}) was seen by Dr {name} today.
Mrs {name} was born on {date_of_birth} and lives at {address}.
She can be reached at {phone} or by mail to {email}.
Her social security number is {ssn}; she paid with card {card}.
Payment by {card}, refund to IBAN {iban}.
Referred by Dr. {name}, NPI {npi}.
NPI: {npi}; medical license number {licence}.
Driver's license: {licence}.
Hospital number {mrn}. Next of kin: {name}, {phone}.
The portal {url} was opened from {ip_address}.
Access from {ip_address} was logged; write to {email} with questions.
| Patient name | DOB | MRN | Phone |¶| --- | --- | --- | --- |¶| {name} | {date_of_birth} | {mrn} | {phone} |
Dear {name},¶your letter went to {address}.
Later {name} came back on foot.
Signed by {name}, for the record.
SSN: {ssn}. Patient ID: {mrn}.
Home address: {address}. Mobile: {phone}.""".split("\n")
SENTENCES = [s.replace("¶", "\n") for s in SENTENCES]
CLEAN = """The ward opens at 07.30-15.30 and closes on 12.03.2024 at 16.00.
Order part 978-3-16-148410-0 in version 1.2.3.4; see section 10.4.2.1.
Ring 4600 or bleep 2231; form RG-1 replaces OPS-11 of 3 June 2024.
The count rose from 250 300 to 1 000 000 000 between 2019 and 2024.
Dose 4.5 mg at 12:30:45, ratio 1:2:3, batch 12 34 56 78, lot AB12-3456.
The card 4111 1111 1111 1112 and the IBAN GB82 WEST 1234 5698 7654 33 hold a slip.
The committee met at the hospital in March and agreed with the Head of Nursing.
The Infection Control Team asks that Grace Ward and the Day Unit report by Monday.
Room 12 is on the third floor; 5 Steps Down leads to the yard.
Item 00012345 costs 1,250.00, and 12/03/2020 was a Thursday.""".split("\n")


def notes(count: int, seed: int) -> Iterator[Note]:
    """Yield notes of five filled sentences with three clean ones between them."""
    chance = random.Random(seed)
    for _ in range(count):
        chosen = chance.sample(SENTENCES, 5) + chance.sample(CLEAN, 3)
        chance.shuffle(chosen)
        text, spans = "", []
        for sentence in chosen:
            filled, own = _filled(sentence, chance)
            spans += [span._replace(start=span.start + len(text), end=span.end + len(text)) for span in own]
            text += filled + "\n\n"
        yield Note(text, tuple(spans))


def _filled(sentence: str, chance: random.Random) -> tuple[str, list[Span]]:
    text, spans = "", []
    for part in _pieces(sentence):
        kind = part[1:-1]
        if part.startswith("{") and kind in VALUES:
            value, sort = VALUES[kind](chance)
            spans.append(Span(kind, sort, len(text), len(text) + len(value)))
            part = value
        text += part
    return text, spans


# ---------------------------------------------------------------- measuring

Found = tuple[str, int, int]


def ours(text: str) -> list[Found]:
    """Our findings."""
    return [(f.kind, f.start, f.end) for f in find_personal_data(text)]


def presidio() -> dict[str, Callable[[str], list[Found]]]:
    """Return presidio by itself and beside our detectors, as a recipe would add it; nothing if it is not installed.

    By itself it is given what it needs offline: a tokenizer with lemmas, without which no word of context counts. All
    recognisers it starts with are on; beside ours those for which there is a kind, and of those e-mail and web addresses
    are left to ours.
    """
    if importlib.util.find_spec("presidio_analyzer") is None or importlib.util.find_spec("spacy") is None:
        return {}
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    from fieldwise.prepare.presidio import ENTITY_KINDS, presidio_detector, tokenizer
    from fieldwise.prepare.settings import PresidioSettings

    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())  # the list in the package, not that of the network
    nlp = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    nlp.nlp = {"en": tokenizer("en")}
    engine = AnalyzerEngine(nlp_engine=nlp, supported_languages=["en"])
    kinds = ENTITY_KINDS | {"EMAIL_ADDRESS": "email", "URL": "url", "LOCATION": "address", "DATE_TIME": "date_of_birth"}
    beside = presidio_detector(PresidioSettings(recognizers=BESIDE))

    def alone(text: str) -> list[Found]:
        results: list[Any] = engine.analyze(text=text, language="en", score_threshold=0.4)
        return [(kinds.get(r.entity_type, "identifier"), r.start, r.end) for r in results]

    def both(text: str) -> list[Found]:
        return [(f.kind, f.start, f.end) for f in find_personal_data(text, None, beside)]

    return {"presidio without a spaCy model": alone, "fieldwise with presidio beside it": both}


def measure(detect: Callable[[str], list[Found]], count: int, seed: int) -> dict[str, Any]:
    """Return recall and precision by kind and by sort, misses, and characters per second of processor time."""
    hits: Counter[tuple[str, str]] = Counter()
    totals: Counter[tuple[str, str]] = Counter()
    findings: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    missed: list[str] = []
    wrong: list[str] = []
    characters, seconds = 0, 0.0
    for note in notes(count, seed):
        began = time.process_time()
        found = detect(note.text)
        seconds += time.process_time() - began
        characters += len(note.text)
        for span in note.spans:
            totals[span.kind, span.sort] += 1
            if any(k == span.kind and s <= span.start and span.end <= e for k, s, e in found):
                hits[span.kind, span.sort] += 1
            else:
                missed.append(f"{span.kind}: {note.text[max(0, span.start - 20) : span.end + 5]!r}")
        for kind, start, end in found:
            findings[kind] += 1
            if not any(s.kind == kind and s.start < end and start < s.end for s in note.spans):
                alarms[kind] += 1
                wrong.append(f"{kind}: {note.text[max(0, start - 20) : end + 5]!r}")
    kinds = {kind: _row(kind, hits, totals, findings, alarms) for kind in KINDS}
    structured_alarms = sum(alarms[kind] for kind in STRUCTURED)
    return {
        "kinds": kinds,
        "missed_structured": sum(totals[k] - hits[k] for k in totals if k[0] in STRUCTURED),
        "structured": sum(totals[k] for k in totals if k[0] in STRUCTURED),
        "structured_false_alarms": structured_alarms,
        "names_by_sort": {sort: _share(hits[k, sort], totals[k, sort]) for k, sort in sorted(totals) if k == "name"},
        "missed": sorted(missed, key=lambda line: line.startswith(("name", "address")))[:20],
        "false_alarms": wrong[:20],
        "mb_per_cpu_second": round(characters / 1e6 / max(seconds, 1e-9), 2),
    }


def _row(
    kind: str,
    hits: Counter[tuple[str, str]],
    totals: Counter[tuple[str, str]],
    findings: Counter[str],
    alarms: Counter[str],
) -> dict[str, Any]:
    own = [k for k in totals if k[0] == kind]
    recall = _share(sum(hits[k] for k in own), sum(totals[k] for k in own))
    return {"recall": recall, "false_alarms": _share(alarms[kind], findings[kind])}


def _share(part: int, n: int) -> dict[str, Any]:
    if not n:
        return {"count": part, "n": n}
    estimate = wilson(part, n)
    return {"count": part, "n": n, "share": round(estimate.value, 4), "low": round(estimate.low, 4), "high": round(estimate.high, 4)}  # fmt: skip


def _shown(share: dict[str, Any]) -> str:
    if not share["n"]:
        return "none"
    return f"{share['count']:>5}/{share['n']:<5} {share['share']:6.1%} [{share['low']:.1%}, {share['high']:.1%}]"


def _print(title: str, result: dict[str, Any]) -> None:
    print(f"\n{title}: {result['mb_per_cpu_second']} MB per processor second")
    print(f"{'kind':15} {'found (recall)':34} {'false alarms among findings'}")
    for kind, row in result["kinds"].items():
        print(f"{kind:15} {_shown(row['recall']):34} {_shown(row['false_alarms'])}")
    for sort, share in result["names_by_sort"].items():
        print(f"names, {sort}: {_shown(share)}")
    print(
        f"structured identifiers missed: {result['missed_structured']} of {result['structured']}"
        f", false alarms {result['structured_false_alarms']}"
    )
    for line in result["missed"][:8]:
        print(f"  missed {line}")
    for line in result["false_alarms"][:8]:
        print(f"  false alarm {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--notes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    results: dict[str, Any] = {"fieldwise": measure(ours, given.notes, given.seed)}
    peers = presidio()
    results |= {name: measure(find, given.notes, given.seed) for name, find in peers.items()}
    if not peers:
        results["presidio"] = "skipped: presidio-analyzer is not installed"
    if given.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        for name in ("fieldwise", *peers):
            _print(name, results[name])
        if not peers:
            print(f"\npresidio: {results['presidio']}")
    return 1 if results["fieldwise"]["missed_structured"] else 0


if __name__ == "__main__":
    sys.exit(main())
