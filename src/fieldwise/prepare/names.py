"""Names and postal addresses by what can be had offline: titles, form labels, common first names, the shape of an address.

No model is asked: names that stand without title, label or a common first name are not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fieldwise.prepare.reading import Finding, Reading

FIRST_NAMES = frozenset(
    """Aaron Abigail Adam Adrian Ahmed Aisha Alan Albert Alejandro Alex Alexander Alexandra Ali Alice Alison Amanda Amelia Amina
    Amy Ana Andrea Andreas Andrew Angela Anita Ann Anna Anne Annette Anthony Antonio Arthur Aylin Barbara Beatrice Ben
    Benjamin Bernard Beth Bettina Bogdan Brenda Brian Bruce Camille Carl Carla Carlos Carmen Carol Caroline Catherine
    Cecilia Charles Charlotte Chen Chloe Christian Christina Christine Christopher Claire Clara Claudia Colin Craig Cynthia
    Daniel Daniela David Deborah Denise Dennis Diana Diego Dmitri Donald Dorothy Douglas Edith Edward Eileen Elena Eleanor
    Elisabeth Elizabeth Ella Ellen Emily Emma Eric Erik Erika Ernest Esther Eva Evelyn Fatima Felix Fernando Fiona Florence
    Frances Francesca Francis Frank Fred Frederick Gabriel Gareth Gary Geoffrey George Gerald Giovanni Gloria Gordon Graham
    Greg Gregory Hannah Hans Harold Harriet Harry Hassan Heather Heinrich Helen Helena Helga Henry Hiroshi Howard Hugh Ian
    Ibrahim Ingrid Irene Isaac Isabel Isabella Ivan Jack Jacob Jacqueline James Jan Jane Janet Janice Jason Javier Jean
    Jeffrey Jennifer Jeremy Jessica Jill Joan Joanna Joanne Johann Johanna John Jonathan Jorge Jose Joseph Joshua Joyce
    Juan Judith Julia Julian Julie Karen Karin Karl Kate Katharina Katherine Kathleen Katie Keith Kelly Kenneth Kevin
    Khalid Kim Klaus Kristin Kyle Larry Laura Lauren Laurence Leah Leila Leo Leon Leonard Leslie Liam Linda Lisa Lorenzo
    Louis Louise Lucas Lucia Lucy Luis Luke Lukas Lydia Malcolm Manuel Marco Margaret Maria Marie Marion Marjorie Mark
    Martha Martin Martina Mary Mateo Matthew Maureen Maurice Max Maya Mei Melissa Mia Michael Michelle Miguel Mohamed
    Mohammed Monica Monika Muhammad Nancy Naomi Natalie Natasha Neil Nicholas Nicola Nicole Nigel Nina Noah Nora Norman
    Oliver Olivia Omar Oscar Owen Pamela Patricia Patrick Paul Paula Pauline Pedro Peter Petra Philip Phillip Pierre
    Priya Rachel Rafael Raj Ralph Raymond Rebecca Renate Ricardo Richard Robert Roberta Roger Ronald Rosa Rosemary Roy
    Ruth Ryan Sabine Sally Sam Samantha Samuel Sandra Sara Sarah Scott Sean Sebastian Sergei Sharon Sheila Shirley Simon
    Sofia Sonia Sophia Sophie Stefan Stephanie Stephen Steve Steven Stuart Susan Susanne Svetlana Sylvia Teresa Terry
    Theresa Thomas Timothy Tina Tobias Tom Tracy Ulrich Ursula Valerie Vanessa Vera Veronica Victor Victoria Vincent
    Virginia Vladimir Walter Wei Wendy Werner William Wolfgang Yasmin Yolanda Yuki Yusuf Yvonne Zainab Zoe""".split()
)
"""First names that are seldom a word or a place; our own list."""

_NOT_NAMES = frozenset(
    """person patient patients name names mask unknown none nil see ask call if when the a an and or of for to in on at by with
    from this that these those is are was were be will may must should can do does not no yes all any each every who
    whom whose which what where how why please note your you your our we they he she it i his her their its as after before
    monday tuesday wednesday thursday friday saturday sunday january february march april june july august september
    october november december morning evening night day week month year today tomorrow daily
    ward wards unit units team teams department office officer desk room rooms floor building block house hall clinic
    hospital trust centre center care service services system systems committee board council group company limited ltd
    inc llc plc gmbh corporation corp bank court school college university institute society association foundation
    fund agency authority ministry government nurse nurses doctor doctors consultant physician surgeon registrar
    pharmacist pharmacy midwife porter sister matron staff manager director head chief chair clerk secretary assistant
    lead senior junior deputy duty charge control safety health medical medicine clinical surgical surgery infection
    emergency admission admissions discharge transfer referral report record records form sheet chart letter notes note
    number date time age sex gender address phone telephone email mobile fax contact details signature signed title role
    grade rank policy procedure protocol guide guideline rule rules handbook manual version edition section chapter
    appendix page part table figure list item items type kind status level stage step code test tests result results
    sample specimen blood drug drugs dose tablet tablets mg ml road street avenue lane drive close square park gardens
    bridge station north south east west upper lower new old great little city town county state states country river
    lake mount hill valley island bay sea act law bill regulation article clause contract agreement order notice license
    licence permit certificate insurance policyholder account accounts invoice payment balance annual general special
    national international royal public private central local main first second third other others adult child children
    infant baby babies parent parents mother father guardian family visitor visitors carer carers volunteer volunteers
    disease syndrome scale score index sign method law's day's street's memorial prize award building's so-and-so card ssn provider birth link ip account identifier
    partner partners education vendor supplier buyer seller party parties licensor licensee officer president member members""".split()
)
_PARTICLES = frozenset("van von der den de del della di da dos du la le ter ten bin ibn al el zu zur af av".split())
_WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
_MAX_WORDS = 4
_MANY_TIMES = 3  # a text with Mr Brown may also have a brown door, but not door after door
_MIN_REPEATED_CHARS = 4


class _Name(NamedTuple):
    """Where a name stands and its words, initials apart."""

    start: int
    end: int
    words: tuple[str, ...]


def _read_name(text: str, start: int, *, most: int = _MAX_WORDS) -> _Name | None:
    """Return the words from a place on that can be a name: capitals, initials, particles between them."""
    at, end = start, start
    words: list[str] = []
    while len(words) < most and (match := _WORD.match(text, at)) is not None:
        word, after = match[0], text[match.end() : match.end() + 1]
        at = match.end()
        if after.isdigit() or after == "_":
            break
        if len(word) == 1:
            if not word.isupper() or not (after == "." or word not in "IA"):
                break
            at += after == "."
            end = at if after == "." or words else end
        elif word not in _PARTICLES:
            if not _can_be_name(word):
                break
            own = word.removesuffix("'s").removesuffix("’s")
            words.append(own)
            end = at - len(word) + len(own)
            if own != word:
                break
        if text[at : at + 1] != " ":
            break
        at += 1
    return _Name(start, end, tuple(words)) if words else None


def _can_be_name(word: str) -> bool:
    return (
        word[0].isupper()
        and word.lower() not in _NOT_NAMES
        and (len(word) > 1)
        and (not word.isupper() or len(word) > 2)
    )


# ---------------------------------------------------------------- names

_TITLES = tuple(
    "Dr Mr Mrs Ms Mx Miss Prof Professor Sir Dame Rev Herr Herrn Frau Mme Madame Monsieur Señor Señora".split()
)
_AFTER_TITLE = re.compile(r"\.? (?:(?:Dr|Prof|med)\.? ){0,2}|\.(?=[^\W\d_])")


def titled_names(reading: Reading) -> Iterator[Finding]:
    """Names behind a title: "Dr A. Finch", "Mrs Okafor"; the title itself stays."""
    for title in _TITLES:
        for at in reading.places(title, any_case=False):
            gap = _AFTER_TITLE.match(reading.text, at)
            if gap is None:
                continue
            name = _read_name(reading.text, gap.end(), most=3)
            if name is not None and (len(name.words) > 1 or not reading.is_common(name.words[0], times=_MANY_TIMES)):
                yield Finding("name", name.start, name.end, "name_title")


_PERSON_LABEL = re.compile(
    r"(?:patient(?:'s|’s)?|patient name|name of patient|full name|client|employee|tenant|insured|claimant|applicant|defendant|plaintiff"
    r"|next of kin|nok|emergency contact|consultant|attending(?: physician)?|referring physician|physician|surgeon|gp"
    r"|doctor|nurse|midwife|carer|mother|father|guardian|spouse|wife|husband|son|daughter|witness|signed(?: by)?"
    r"|reported by|seen by|dictated by|reviewed by|written by|author|contact person|account holder|cardholder|beneficiary"
    r"|debtor|creditor|customer|borrower|(?:\w+ )?name|re|dear|patientin|versicherter|attn|from|to|cc)"
)
_NAME_PART_LABEL = re.compile(
    r"surname|last names?|family name|first names?|given names?|forenames?|maiden name|middle names?|nachname|vorname"
)
_THING_NAMES = ("file ", "user ", "host ", "trade ", "brand ", "drug ", "company ", "product ", "domain ", "test ")
_LABEL_START = re.compile(r"[\n|;,(>.]")
_AFTER_LABEL = re.compile(r"[*_]{0,2}[ \t]{0,4}(?:(?:Dr|Mr|Mrs|Ms|Mx|Miss|Prof)\.? )?")
_LABEL_CHARS = 40


def labelled_names(reading: Reading) -> Iterator[Finding]:
    """Names behind the label of a form: "Patient: Jane Finch", "Surname: OKAFOR"; and in table columns of such names."""
    text = reading.text
    at = text.find(":")
    while at >= 0:
        kind = _label_kind(reading.lower[max(0, at - _LABEL_CHARS) : at])
        if kind is not None:
            gap = _AFTER_LABEL.match(text, at + 1)
            assert gap is not None
            yield from _labelled(reading, gap.end(), kind)
        at = text.find(":", at + 1)
    for end in reading.places("Dear ", any_case=False):
        name = _read_name(text, end)
        if (
            name is not None
            and (len(name.words) > 1 or name.words[0] in FIRST_NAMES)
            and text[name.end : name.end + 1] in ",\n:"
        ):
            yield Finding("name", name.start, name.end, "name_letter")
    for cell in reading.cells:
        kinds = {k for label in cell.labels if (k := _kind_of(label.strip(" *:"))) is not None}
        for kind in sorted(kinds):
            yield from (f for f in _labelled(reading, cell.start, kind) if f.end == cell.end)


def _label_kind(before: str) -> str | None:
    """What the words before a colon name: a person, a part of a name, or neither."""
    return _kind_of(_LABEL_START.split(before)[-1].strip(" \t*-"))


def _kind_of(label: str) -> str | None:
    if _NAME_PART_LABEL.fullmatch(label):
        return "part"
    return "person" if _PERSON_LABEL.fullmatch(label) and not label.startswith(_THING_NAMES) else None


def _labelled(reading: Reading, start: int, kind: str) -> Iterator[Finding]:
    text = reading.text
    name = _read_name(text, start)
    if name is None:
        return
    if text[name.end : name.end + 2] == ", " and len(name.words) == 1:
        given = _read_name(text, name.end + 2, most=2)
        if given is not None:
            name = _Name(name.start, given.end, name.words + given.words)
    known = any(word.title() in FIRST_NAMES for word in name.words)
    common = [w for w in name.words if reading.is_common(w)]
    if known or (not common and (kind == "part" or len(name.words) > 1 or "." in text[name.start : name.end])):
        yield Finding("name", name.start, name.end, "name_label")


_CAPITALISED = re.compile(r"[A-Z][a-zà-ÿ]+(?=[ ,])")


def known_names(reading: Reading) -> Iterator[Finding]:
    """A common first name and the words of a name behind it: "Maria van der Berg"."""
    text = reading.text
    done = 0
    for match in _CAPITALISED.finditer(text):
        if match[0] not in FIRST_NAMES or match.start() < done or text[match.end()] != " ":
            continue
        if match.start() and (text[match.start() - 1].isalnum() or text[match.start() - 1] in "-'’@./"):
            continue
        name = _read_name(text, match.start())
        if name is None or len(name.words) < 2 or any(reading.is_common(w) for w in name.words[1:]):
            continue
        done = name.end
        yield Finding("name", name.start, name.end, "name_first")


_EPONYM = re.compile(r"(?:['’]s?)? (?:disease|syndrome|sign|test|score|scale|rule|law|method|procedure)")
_CAPITAL_WORD = re.compile(r"[^\W\d_a-z][^\W\d_]+(?:['’\-][^\W\d_]+)*")
_SIGNED = re.compile(r"\b(?:signed|witnessed|dictated|reviewed|approved|prepared|written)\b[^.\n:]{0,24}$")


def signing_names(reading: Reading) -> Iterator[Finding]:
    """Names of two or more words behind "signed by", "approved by" and the like."""
    for end in reading.places("by ", any_case=False):
        if _SIGNED.search(reading.before(end - 3)) is None:
            continue
        name = _read_name(reading.text, end)
        if name is not None and len(name.words) > 1 and not any(reading.is_common(w) for w in name.words):
            yield Finding("name", name.start, name.end, "name_signed")


_ROLES = tuple(
    f"{role} "
    for role in "patient client resident tenant employee claimant defendant consultant surgeon doctor nurse mother father".split()
)


def role_names(reading: Reading) -> Iterator[Finding]:
    """Names of two or more words behind a word for a person: "the patient Jane Finch"."""
    for role in _ROLES:
        for end in reading.places(role):
            name = _read_name(reading.text, end)
            if name is not None and len(name.words) > 1 and not any(reading.is_common(w) for w in name.words):
                yield Finding("name", name.start, name.end, "name_role")


def repeated_names(reading: Reading, found: list[Finding]) -> Iterator[Finding]:
    """Every other place of the words of a name that was found, where the text does not use them as common words."""
    words = {
        w
        for f in found
        if f.kind == "name" and f.rule not in ("name_signed", "name_role")  # the weakest evidence is not carried on
        for w in _WORD.findall(reading.text[f.start : f.end])
        if len(w) >= _MIN_REPEATED_CHARS and _can_be_name(w) and not reading.is_common(w)
    }
    done = 0
    for match in _CAPITAL_WORD.finditer(reading.text) if words else ():
        before = reading.text[match.start() - 1] if match.start() else " "
        word = match[0].removesuffix("'s").removesuffix("’s")
        if word not in words or match.start() < done or before.isalnum() or before == "[":
            continue
        if _EPONYM.match(reading.text, match.end()):
            continue
        name = _read_name(reading.text, match.start(), most=2)
        done = match.start() + len(word) if name is None else _name_end(reading, name, match.start() + len(word))
        yield Finding("name", match.start(), done, "name_repeated")


def _name_end(reading: Reading, name: _Name, end: int) -> int:
    """The end of the whole name, unless its second word is a common one."""
    return name.end if len(name.words) == 1 or not reading.is_common(name.words[-1]) else end


# ---------------------------------------------------------------- addresses

_STREET_KINDS = (
    r"Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Way|Court|Ct|Place|Pl|Terrace|Close|Square|Sq|Crescent"
    r"|Row|Gardens|Hill|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Trail|Grove|Mews|Quay|Alley|Walk|Green|Rise|Loop|Turnpike"
)
_UNIT = r"(?:, ?| )(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Room|#)\.? ?#?\w{1,5}"
_CITY = r"(?:St\. )?[A-ZÀ-Þ][\w'’\-]*(?: [A-ZÀ-Þ][\w'’\-]*){0,3}"
_POSTCODE = r"(?:[A-Z]{2},? \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|\d{5}(?:-\d{4})?)"
# a line below belongs to the address only if it ends in a postcode: else it may be the next heading
_TAIL = (
    rf"(?:{_UNIT})?(?:(?:,[ \n]?|\n){_CITY}(?:,[ \n]?{_CITY})?,?[ \n]{_POSTCODE}"
    rf"|, {_CITY}(?=[.,;)|\n]|\Z)(?:, {_CITY}(?=[.;)|\n]|\Z))?)?(?:,? {_POSTCODE})?"
)
_ADDRESS = re.compile(
    rf"\d{{1,5}}[A-Za-z]?(?:[\-/]\d{{1,4}})?,? (?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.? )?"
    rf"(?:(?:[A-ZÀ-Þ][\w'’.\-]*|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}(?:{_STREET_KINDS})\b\.?{_TAIL}"
)
_ADDRESS_GERMAN = re.compile(
    r"(?:[A-ZÄÖÜ][\wäöüß\-]*(?:straße|strasse|str\.|weg|platz|allee|gasse|damm|ufer)|[A-ZÄÖÜ][\wäöüß\-]* (?:Straße|Str\.|Weg|Platz|Allee)) \d{1,4} ?[a-z]?\b"
    r"(?:,? ?\n?\d{5} [A-ZÄÖÜ][\wäöüß\-]+)?"
)
_BOX = re.compile(rf"(?:P\.? ?O\.? Box|PO Box|Postfach) \d{{1,6}}(?:,[ \n]?{_CITY}(?:,? {_POSTCODE})?)?")
_HOUSE = re.compile(r"\d[A-Za-z]?(?:[\-/]\d{1,4})?,? (?=[A-ZÀ-Þ]|\d{1,3}(?:st|nd|rd|th) )")
_GERMAN_WORDS = ("straße", "strasse", "str.", "weg ", "platz ", "allee ", "gasse ", "damm ", "ufer ")
_ADDRESS_LABEL = re.compile(
    r"(?:home |postal |mailing |street |current |permanent )?address(?: line \d)?|anschrift|adresse|residence"
)
_MAX_HOUSE_DIGITS = 5


def addresses(reading: Reading) -> Iterator[Finding]:
    """Postal addresses by their shape: house number, name, kind of street; PO boxes; table columns named "Address"."""
    text = reading.text
    done = 0
    for house in _HOUSE.finditer(text):
        start = house.start()
        while start > done and text[start - 1].isdigit() and house.start() - start < _MAX_HOUSE_DIGITS:
            start -= 1
        if start < done or (start and (text[start - 1].isalnum() or text[start - 1] in ".-/:$£€")):
            continue
        match = _ADDRESS.match(text, start)
        if match is not None:
            yield Finding("address", match.start(), match.end(), "address_street")
            done = match.end()
    if any(word in reading.lower for word in _GERMAN_WORDS):
        yield from (Finding("address", m.start(), m.end(), "address_german") for m in _ADDRESS_GERMAN.finditer(text))
    if "box " in reading.lower or "postfach" in reading.lower:
        yield from (Finding("address", m.start(), m.end(), "address_box") for m in _BOX.finditer(text))
    for cell in reading.cells:
        value = text[cell.start : cell.end]
        if (
            any(_ADDRESS_LABEL.fullmatch(label) for label in cell.labels)
            and re.search(r"\d", value)
            and re.search(r"[^\W\d_]{3}", value)
            and "[" not in value
        ):
            yield Finding("address", cell.start, cell.end, "address_column")
