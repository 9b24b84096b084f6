"""Open pools of values: names, noun phrases, acts, numbers in every format.

Whatever comes from a closed list is memorised instead of copied, so every kind draws from thousands of
values: phrases and names taken from real text, invented syllables, and numbers in many formats.
A value belongs either to training or to testing by the hash of its text (`in_test`), so that no
value asked for in a test was ever an answer in training.
"""

from __future__ import annotations

import collections
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

TEST_SHARE = 8  # one value in eight is kept for testing


def in_test(value: str) -> bool:
    """Tell on which side a value lies."""
    return hashlib.md5(value.lower().encode()).digest()[0] % TEST_SHARE == 0


# ---------------------------------------------------------------- phrases harvested from real text

_NP = re.compile(
    r"\b(?:the|a|an|each|any|no|this) ((?:[a-z]{3,14} ){0,2}[a-z]{4,14}) (?:of|in|for|to|is|are|was|were|must|shall|may|that|which|and|on|by|from|with)\b"
)
_ACT = re.compile(
    r"\b(?:must|shall|should|may|will|can|to|would|could|cannot|not) ((?:[a-z]{3,12}) (?:the|all|any|each|its|their|every) (?:[a-z]{3,13} ){0,2}[a-z]{4,13})(?=[,.;:]| (?:in|for|to|and|by|from|with|on|at|within|before|after|or|as|if|when|that|which)\b)"
)
_CAPITALISED = re.compile(r"(?<=[a-z,] )([A-Z][a-z]{2,11})(?= [a-z])")
_STOP = set(
    [
        "that",
        "which",
        "this",
        "these",
        "those",
        "such",
        "other",
        "same",
        "many",
        "more",
        "most",
        "some",
        "only",
        "also",
        "very",
        "much",
        "then",
        "than",
        "when",
        "where",
        "while",
        "there",
        "their",
        "them",
        "they",
        "have",
        "been",
        "being",
        "would",
        "could",
        "should",
        "shall",
        "will",
        "about",
        "into",
        "over",
        "under",
        "after",
        "before",
        "first",
        "last",
        "following",
        "next",
        "each",
        "both",
        "either",
        "neither",
        "whole",
        "above",
        "below",
        "certain",
        "following",
        "following",
        "said",
        "fact",
        "way",
        "case",
        "kind",
        "sort",
        "result",
    ]
)
_NOT_VERBS = set(
    [
        "not",
        "only",
        "also",
        "have",
        "been",
        "being",
        "the",
        "and",
        "but",
        "all",
        "any",
        "his",
        "her",
        "its",
        "our",
        "your",
        "their",
        "such",
        "more",
        "most",
        "own",
        "both",
        "one",
        "two",
        "per",
        "for",
        "from",
        "with",
        "will",
        "can",
        "may",
        "shall",
        "had",
        "has",
        "was",
        "were",
        "are",
    ]
)


def harvest(texts: Iterable[str], most: int = 14000) -> dict[str, list[str]]:
    """Return the pools `np`, `act`, `name` and `word` found in real text, each sorted and without repeats."""
    nps: collections.Counter[str] = collections.Counter()
    acts: collections.Counter[str] = collections.Counter()
    names: collections.Counter[str] = collections.Counter()
    words: collections.Counter[str] = collections.Counter()
    for text in texts:
        nps.update(m for m in _NP.findall(text) if _is_phrase(m))
        acts.update(m for m in _ACT.findall(text) if _is_act(m))
        names.update(_CAPITALISED.findall(text))
        words.update(re.findall(r"\b[a-z]{4,11}\b", text))
    common = [w for w, n in words.items() if 4 <= n <= 900]
    return {
        "np": _keep(nps, 2, most),
        "act": _keep(acts, 1, most),
        "name": sorted(n for n, c in names.items() if c >= 2 and words[n.lower()] <= 3)[:most],
        "word": sorted(common)[:most],
    }


def _is_phrase(phrase: str) -> bool:
    parts = phrase.split()
    return len(parts) >= 2 and not any(p in _STOP or p.endswith("ly") for p in parts) and not parts[-1].endswith("ing")


def _is_act(act: str) -> bool:
    verb = act.split()[0]
    return (
        verb not in _NOT_VERBS
        and verb not in _STOP
        and not verb.endswith(("ed", "ing", "ly", "s"))
        and not any(p in _STOP for p in act.split()[2:])
    )


def _keep(counts: collections.Counter[str], at_least: int, most: int) -> list[str]:
    kept = [item for item, n in counts.most_common() if n >= at_least]
    return sorted(random.Random(0).sample(kept, min(most, len(kept))))


# ---------------------------------------------------------------- word forms

_DOUBLES = set(
    [
        "get",
        "put",
        "set",
        "cut",
        "let",
        "stop",
        "plan",
        "drop",
        "run",
        "begin",
        "submit",
        "permit",
        "admit",
        "commit",
        "refer",
        "occur",
        "transfer",
        "win",
        "sit",
        "hit",
        "ship",
        "swap",
        "tag",
        "log",
        "stop",
        "strip",
        "trim",
        "wrap",
        "scan",
        "pin",
        "tap",
        "rub",
        "grab",
        "chat",
        "cap",
        "map",
        "ban",
    ]
)


def gerund(act: str) -> str:
    """`return the badge` -> `returning the badge`."""
    verb, _, rest = act.partition(" ")
    if verb.endswith("ie"):
        form = verb[:-2] + "ying"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        form = verb[:-1] + "ing"
    elif verb in _DOUBLES:
        form = verb + verb[-1] + "ing"
    else:
        form = verb + "ing"
    return f"{form} {rest}".strip()


def plural(noun: str) -> str:
    """`sample bag` -> `sample bags`."""
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


# ---------------------------------------------------------------- lists we wrote ourselves

_GIVEN = [
    "Aaliyah",
    "Abdul",
    "Ada",
    "Adele",
    "Adrian",
    "Agnes",
    "Ahmed",
    "Aiko",
    "Alan",
    "Alejandro",
    "Alice",
    "Amara",
    "Amina",
    "Ana",
    "Anders",
    "Andrea",
    "Angela",
    "Anita",
    "Anton",
    "Arjun",
    "Arthur",
    "Asha",
    "Astrid",
    "Ayesha",
    "Beatriz",
    "Benjamin",
    "Bianca",
    "Bruno",
    "Camille",
    "Carlos",
    "Carmen",
    "Cecilia",
    "Chen",
    "Chidi",
    "Clara",
    "Claudia",
    "Connor",
    "Daniel",
    "Darius",
    "Deepa",
    "Diego",
    "Dmitri",
    "Dorothy",
    "Edith",
    "Eduardo",
    "Elena",
    "Elias",
    "Elif",
    "Emeka",
    "Emma",
    "Enrique",
    "Erik",
    "Esther",
    "Ethan",
    "Eva",
    "Fatima",
    "Felix",
    "Fiona",
    "Francesca",
    "Freya",
    "Gabriel",
    "Gareth",
    "George",
    "Giulia",
    "Grace",
    "Greta",
    "Gustav",
    "Hana",
    "Hannah",
    "Hassan",
    "Helen",
    "Henrik",
    "Hiroshi",
    "Hugo",
    "Ibrahim",
    "Ines",
    "Ingrid",
    "Irina",
    "Isaac",
    "Ivan",
    "Jamal",
    "Jana",
    "Jasmine",
    "Javier",
    "Jean",
    "Joanna",
    "Joao",
    "Johan",
    "Jonas",
    "Joseph",
    "Jun",
    "Kamal",
    "Karen",
    "Karin",
    "Kenji",
    "Kofi",
    "Kwame",
    "Lars",
    "Laura",
    "Layla",
    "Leah",
    "Leila",
    "Lena",
    "Leo",
    "Liam",
    "Linda",
    "Lucia",
    "Luca",
    "Lukas",
    "Magda",
    "Mai",
    "Malik",
    "Marcus",
    "Maria",
    "Marek",
    "Marta",
    "Martin",
    "Mateo",
    "Maya",
    "Mei",
    "Mina",
    "Miriam",
    "Mohammed",
    "Monica",
    "Nadia",
    "Naomi",
    "Natalia",
    "Nathan",
    "Nia",
    "Nicole",
    "Nikhil",
    "Nina",
    "Noah",
    "Noor",
    "Olga",
    "Oliver",
    "Omar",
    "Oscar",
    "Otto",
    "Owen",
    "Pablo",
    "Patricia",
    "Paul",
    "Pavel",
    "Pedro",
    "Petra",
    "Philip",
    "Pilar",
    "Piotr",
    "Priya",
    "Rachel",
    "Rafael",
    "Rania",
    "Ravi",
    "Rebecca",
    "Renata",
    "Ricardo",
    "Rita",
    "Robert",
    "Rosa",
    "Ruben",
    "Ruth",
    "Samir",
    "Samuel",
    "Sanjay",
    "Sara",
    "Sasha",
    "Satoshi",
    "Sean",
    "Selma",
    "Sergei",
    "Shreya",
    "Sigrid",
    "Simon",
    "Sofia",
    "Sonia",
    "Stefan",
    "Sunita",
    "Susan",
    "Sven",
    "Tamara",
    "Tariq",
    "Teresa",
    "Thandiwe",
    "Theo",
    "Thomas",
    "Tobias",
    "Tomas",
    "Uma",
    "Valeria",
    "Vera",
    "Victor",
    "Viktor",
    "Vikram",
    "Walter",
    "Wei",
    "Wendy",
    "Xavier",
    "Yara",
    "Yasmin",
    "Yuki",
    "Yusuf",
    "Zainab",
    "Zara",
    "Zofia",
]
_FAMILY = [
    "Abbott",
    "Abdi",
    "Acheampong",
    "Adeyemi",
    "Ahmad",
    "Akintola",
    "Almeida",
    "Andersen",
    "Andrade",
    "Antonov",
    "Arnold",
    "Bakker",
    "Banerjee",
    "Barbosa",
    "Barlow",
    "Becker",
    "Bell",
    "Bennett",
    "Berg",
    "Bianchi",
    "Blake",
    "Boateng",
    "Borges",
    "Brandt",
    "Brennan",
    "Brooks",
    "Calder",
    "Carlsen",
    "Castillo",
    "Chan",
    "Chaudhry",
    "Clarke",
    "Cohen",
    "Costa",
    "Cruz",
    "Dahl",
    "Dalton",
    "Das",
    "Davies",
    "Delgado",
    "Desai",
    "Diallo",
    "Dixon",
    "Donovan",
    "Dubois",
    "Duncan",
    "Eriksen",
    "Espinoza",
    "Evans",
    "Farah",
    "Ferrari",
    "Fischer",
    "Fitzgerald",
    "Fleming",
    "Flores",
    "Fontaine",
    "Foster",
    "Fraser",
    "Fujita",
    "Gallagher",
    "Garcia",
    "Gibson",
    "Gomez",
    "Grant",
    "Greene",
    "Gupta",
    "Haddad",
    "Hale",
    "Hansen",
    "Hart",
    "Hassan",
    "Hayashi",
    "Hernandez",
    "Hoffman",
    "Holm",
    "Horvat",
    "Hughes",
    "Hussain",
    "Ibrahim",
    "Ivanova",
    "Iyer",
    "Jackson",
    "Jansen",
    "Jensen",
    "Jovanovic",
    "Kamara",
    "Kang",
    "Kapoor",
    "Kaur",
    "Keller",
    "Kelly",
    "Khan",
    "Kim",
    "Kimura",
    "Klein",
    "Kovacs",
    "Kowalski",
    "Kruger",
    "Kumar",
    "Lambert",
    "Larsen",
    "Laurent",
    "Leclerc",
    "Lee",
    "Lindqvist",
    "Lopez",
    "Lund",
    "MacDonald",
    "Maier",
    "Malik",
    "Marchetti",
    "Marsh",
    "Martinez",
    "Mbeki",
    "Mehta",
    "Mendes",
    "Meyer",
    "Mishra",
    "Mitchell",
    "Mohamed",
    "Moreau",
    "Morgan",
    "Moreno",
    "Mueller",
    "Murphy",
    "Nakamura",
    "Navarro",
    "Ndiaye",
    "Nelson",
    "Nguyen",
    "Nielsen",
    "Novak",
    "Nowak",
    "Okafor",
    "Okonkwo",
    "Olsen",
    "Ortega",
    "Osei",
    "Otieno",
    "Owusu",
    "Pacheco",
    "Palmer",
    "Papadopoulos",
    "Park",
    "Patel",
    "Pereira",
    "Petrov",
    "Pham",
    "Pinto",
    "Popescu",
    "Price",
    "Quinn",
    "Rahman",
    "Ramirez",
    "Rao",
    "Reid",
    "Reyes",
    "Ribeiro",
    "Richter",
    "Rivera",
    "Romano",
    "Rossi",
    "Roy",
    "Russo",
    "Said",
    "Salazar",
    "Sandoval",
    "Santos",
    "Sato",
    "Schmidt",
    "Schneider",
    "Sharma",
    "Shaw",
    "Silva",
    "Singh",
    "Smith",
    "Sokolov",
    "Sorensen",
    "Stewart",
    "Stone",
    "Suzuki",
    "Svensson",
    "Takahashi",
    "Tanaka",
    "Tan",
    "Taylor",
    "Thapa",
    "Tran",
    "Turner",
    "Vargas",
    "Vasquez",
    "Vega",
    "Vogel",
    "Volkov",
    "Wagner",
    "Walsh",
    "Wang",
    "Ward",
    "Weber",
    "Weiss",
    "Werner",
    "Williams",
    "Wong",
    "Wright",
    "Yamamoto",
    "Yang",
    "Yilmaz",
    "Young",
    "Zhang",
    "Zimmerman",
]
_ROLE_HEADS = [
    "officer",
    "manager",
    "nurse",
    "clerk",
    "coordinator",
    "supervisor",
    "lead",
    "technician",
    "analyst",
    "physician",
    "pharmacist",
    "director",
    "assistant",
    "engineer",
    "auditor",
    "inspector",
    "counsel",
    "adviser",
    "controller",
    "registrar",
    "secretary",
    "administrator",
    "specialist",
    "consultant",
    "steward",
    "planner",
    "reviewer",
    "operator",
    "porter",
    "trainer",
    "advocate",
    "liaison",
    "handler",
    "custodian",
    "examiner",
    "underwriter",
]
_ROLE_MODIFIERS = [
    "charge",
    "duty",
    "senior",
    "deputy",
    "night",
    "shift",
    "ward",
    "site",
    "records",
    "safety",
    "privacy",
    "claims",
    "credit",
    "compliance",
    "finance",
    "quality",
    "risk",
    "intake",
    "discharge",
    "theatre",
    "stores",
    "payroll",
    "release",
    "facilities",
    "infection",
    "data",
    "case",
    "branch",
    "treasury",
    "procurement",
    "contracts",
    "library",
    "security",
    "transport",
    "radiology",
    "dialysis",
    "triage",
    "loan",
    "archive",
    "network",
    "product",
    "training",
    "bed",
    "clinic",
    "laboratory",
    "admissions",
    "medical",
    "chief",
    "regional",
    "lead",
    "on-call",
    "housekeeping",
    "front-desk",
    "collections",
    "internal",
    "external",
    "associate",
    "principal",
]
_DEPT_HEADS = [
    "Ward",
    "Unit",
    "Department",
    "Office",
    "Desk",
    "Clinic",
    "Team",
    "Section",
    "Bureau",
    "Division",
    "Suite",
    "Centre",
    "Laboratory",
    "Registry",
    "Service",
    "Group",
    "Wing",
    "Hub",
]
_COMPANY_ENDS = [
    "Inc",
    "LLC",
    "Corp",
    "Ltd",
    "Group",
    "Holdings",
    "Partners",
    "Associates",
    "plc",
    "GmbH",
    "Company",
    "Trust",
    "Bank",
    "Systems",
    "Supplies",
    "Services",
    "Logistics",
    "Capital",
    "Foods",
    "Labs",
    "Brothers",
    "Industries",
    "Insurance",
    "Medical",
    "Energy",
    "Works",
]
_UNITS = [
    "kg",
    "g",
    "mg",
    "km",
    "m",
    "cm",
    "mm",
    "litres",
    "ml",
    "C",
    "F",
    "kPa",
    "kWh",
    "hours",
    "metres",
    "feet",
    "inches",
    "miles",
    "tonnes",
    "pounds",
    "degrees",
    "percent",
    "watts",
    "volts",
    "points",
    "pages",
    "boxes",
    "bags",
    "units",
    "sheets",
    "copies",
    "pallets",
    "lux",
    "decibels",
    "mmol/L",
    "mg/dL",
    "bpm",
    "rpm",
]
_DOSE_UNITS = [
    "mg",
    "mcg",
    "ml",
    "units",
    "g",
    "drops",
    "puffs",
    "tablets",
    "capsules",
    "patches",
    "mmol",
    "sachets",
    "mg/kg",
    "IU",
]
_CURRENCIES = [
    "$",
    "$",
    "$",
    "$",
    "EUR",
    "USD",
    "GBP",
    "CHF",
    "£",
    "€",
    "SEK",
    "CAD",
    "AUD",
    "INR",
    "JPY",
    "NOK",
    "ZAR",
]
_SCALES = ["", "", "", " million", " billion", " thousand", "k", "m"]
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_NUMBER_WORDS = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "fifteen",
    "twenty",
    "thirty",
    "forty",
    "sixty",
    "ninety",
]
_COLOURS = [
    "red",
    "blue",
    "green",
    "yellow",
    "orange",
    "purple",
    "brown",
    "grey",
    "white",
    "black",
    "pink",
    "teal",
    "amber",
    "violet",
    "silver",
    "gold",
    "navy",
    "crimson",
    "turquoise",
    "beige",
    "maroon",
    "olive",
]
_SHADES = ["", "", "", "dark ", "light ", "pale ", "bright ", "striped ", "deep "]
_STREETS = [
    "Street",
    "Road",
    "Avenue",
    "Lane",
    "Square",
    "Drive",
    "Court",
    "Way",
    "Quay",
    "Terrace",
    "Row",
    "Place",
    "Boulevard",
]
_PLACE_STARTS = [
    "North",
    "South",
    "East",
    "West",
    "Port",
    "Lake",
    "New",
    "Fort",
    "Upper",
    "Lower",
    "Mount",
    "Saint",
    "Old",
    "Great",
]
_PLACE_ENDS = [
    "ford",
    "ton",
    "ville",
    "ham",
    "burg",
    "mouth",
    "dale",
    "field",
    "bridge",
    "port",
    "wick",
    "stad",
    "by",
    "berg",
    "haven",
    "minster",
    "combe",
    "holm",
]
_DRUG_ENDS = [
    "pril",
    "statin",
    "olol",
    "mab",
    "zole",
    "cillin",
    "mide",
    "tan",
    "fen",
    "pam",
    "vir",
    "nib",
    "xaban",
    "gliptin",
    "cort",
    "dine",
    "parin",
    "mycin",
    "azole",
    "tidine",
]
_STUDY_WORDS = ["study", "trial", "survey", "register", "pilot", "programme"]
_ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "br",
    "ch",
    "cl",
    "cr",
    "dr",
    "fl",
    "fr",
    "gl",
    "gr",
    "kl",
    "kr",
    "pl",
    "pr",
    "qu",
    "sh",
    "sl",
    "sp",
    "st",
    "th",
    "tr",
    "vl",
    "zh",
]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "au", "ea", "ee", "ia", "io", "oa", "ou", "y"]
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "k", "t", "nd", "rk", "lt", "sk", "x", "th", "v", "b", "g"]


class Pools:
    """Draws values of every kind; `split` decides on which side of the hash they lie."""

    def __init__(self, harvested: dict[str, list[str]], split: str, rng: random.Random) -> None:
        self.rng = rng
        self.test = split == "test"
        self.lists = {name: [v for v in values if in_test(v) == self.test] for name, values in harvested.items()}
        self.given = [g for g in _GIVEN if in_test(g) == self.test]
        self.family = [f for f in _FAMILY if in_test(f) == self.test]
        self.makers: dict[str, Callable[[], str]] = {
            "person": self.person,
            "patient": self.patient,
            "company": self.company,
            "vendor": self.company,
            "place": self.place,
            "drug": self.drug,
            "role": self.role,
            "dept": self.dept,
            "system": self.system,
            "form": self.form,
            "item": self.item,
            "np": self.np,
            "event": self.np,
            "act": self.act,
            "acting": lambda: gerund(self.act()),
            "rule": self.rule,
            "contract": self.contract,
            "account": self.account,
            "case": self.case,
            "product": self.product,
            "asset": self.asset,
            "device": self.asset,
            "fund": self.fund,
            "course": self.course,
            "study": self.study,
            "policy": self.policy,
            "vehicle": self.asset,
            "room": self.room,
            "shift": self.shift,
            "duration": self.duration,
            "time": self.time,
            "count": self.count,
            "measure": self.measure,
            "dose": self.dose,
            "freq": self.freq,
            "percent": self.percent,
            "money": self.money,
            "id": self.identifier,
            "phone": self.phone,
            "email": self.email,
            "date": self.date,
            "colour": self.colour,
            "age": self.age,
            "bp": self.bp,
            "temp": self.temp,
            "word": self.word,
            "name": self.name,
        }

    def draw(self, kind: str) -> str:
        """Return a value of the kind that lies on this side of the split (as far as the kind is open)."""
        make = self.makers[kind]
        if kind in CLOSED:
            return make()
        for _ in range(60):
            value = make()
            if in_test(value) == self.test:
                return value
        return value

    # -- names
    def _syllables(self, count: int | None = None) -> str:
        r = self.rng
        count = count or r.choice((2, 2, 3))
        return "".join(
            r.choice(_ONSETS) + r.choice(_VOWELS) + (r.choice(_CODAS) if i == count - 1 or r.random() < 0.3 else "")
            for i in range(count)
        )

    def name(self) -> str:
        r = self.rng
        return r.choice(self.lists["name"]) if r.random() < 0.5 else self._syllables().capitalize()

    def word(self) -> str:
        return self.rng.choice(self.lists["word"])

    def person(self) -> str:
        r = self.rng
        first = r.choice(self.given) if r.random() < 0.55 else self.name()
        last = r.choice(self.family) if r.random() < 0.55 else self.name()
        middle = r.choice("ABCDEFGHJKLMNPRSTVW") + ". " if r.random() < 0.06 else ""
        title = r.choice(("Dr. ", "Mr. ", "Ms. ", "Mrs. ", "Prof. ", "Judge ")) if r.random() < 0.12 else ""
        return f"{title}{last}" if title and r.random() < 0.4 else f"{title}{first} {middle}{last}"

    def patient(self) -> str:
        r = self.rng
        return (
            self.person()
            if r.random() < 0.8
            else r.choice(("Mr. ", "Mrs. ", "Ms. ")) + (r.choice(self.family) if r.random() < 0.5 else self.name())
        )

    def company(self) -> str:
        r = self.rng
        middle = r.choice((self.word().capitalize() + " ", "& " + self.name() + " ", self.name() + " ", "", ""))
        return f"{self.name()} {middle}{r.choice(_COMPANY_ENDS)}"

    def place(self) -> str:
        r = self.rng
        kind = r.random()
        if kind < 0.45:
            return self.name()
        if kind < 0.65:
            return f"{r.choice(_PLACE_STARTS)} {self.name()}"
        if kind < 0.8:
            return self._syllables(1).capitalize() + r.choice(_PLACE_ENDS)
        return f"{r.randint(1, 240)} {self.name()} {r.choice(_STREETS)}"

    def drug(self) -> str:
        return self._syllables(2) + self.rng.choice(_DRUG_ENDS)

    def dept(self) -> str:
        r = self.rng
        first = r.choice((self.name, lambda: self.word().capitalize(), self.name))()
        return f"{first} {r.choice(_DEPT_HEADS)}" + (
            f" {r.randint(1, 12)}{r.choice(('', '', 'A', 'B'))}" if r.random() < 0.15 else ""
        )

    def system(self) -> str:
        r = self.rng
        return r.choice(
            (
                self.name(),
                self.name() + r.choice(("Link", "Track", "Flow", "Desk", "Point", "Net", "Base")),
                f"{self.name()} {self.word().capitalize()}",
                self.word().capitalize() + str(r.randint(2, 9)),
            )
        )

    def product(self) -> str:
        r = self.rng
        return r.choice(
            (f"{self.name()} {r.randint(2, 900)}", f"{self.name()} {self.word().capitalize()}", self.name())
        )

    def asset(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"{self.word()} {r.choice(('pump', 'scanner', 'van', 'printer', 'monitor', 'freezer', 'generator', 'lift', 'trolley'))} {self.identifier()}",
                f"{self.name()} {r.choice(('pump', 'scanner', 'monitor', 'van', 'press'))}",
                self.identifier(),
            )
        )

    def fund(self) -> str:
        return f"{self.name()} {self.word().capitalize()} Fund"

    def course(self) -> str:
        return (
            f"{self.word().capitalize()} {self.rng.choice(('Basics', 'Level 2', 'Refresher', 'Certificate', 'Training', 'Module'))}"
            if self.rng.random() < 0.6
            else f"{self.np()} course"
        )

    def study(self) -> str:
        return (
            f"the {self.name()} {self.rng.choice(_STUDY_WORDS)}"
            if self.rng.random() < 0.5
            else f"{self._syllables(2).upper()}-{self.rng.randint(1, 90)}"
        )

    def role(self) -> str:
        r = self.rng
        modifier = r.choice(_ROLE_MODIFIERS) if r.random() < 0.6 else self.word()
        return f"{modifier} {r.choice(_ROLE_HEADS)}"

    # -- phrases
    def np(self) -> str:
        r = self.rng
        return r.choice(self.lists["np"]) if r.random() < 0.75 else f"{self.word()} {self.word()}"

    def item(self) -> str:
        return plural(self.np())

    def act(self) -> str:
        r = self.rng
        act = r.choice(self.lists["act"])
        return act if r.random() < 0.75 else f"{act.split()[0]} the {self.np()}"

    # -- codes
    def identifier(self) -> str:
        r = self.rng
        letters = "".join(r.choice("ABCDEFGHJKLMNPQRSTVWXYZ") for _ in range(r.choice((1, 2, 2, 3))))
        shape = r.random()
        number = r.randint(10, 99999)
        if shape < 0.5:
            return f"{letters}-{number}"
        if shape < 0.7:
            return f"{letters}{number}"
        if shape < 0.85:
            return str(r.randint(1000, 9999999))
        return f"{r.randint(1, 99)}/{r.randint(100, 9999)}"

    def form(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"Form {self.identifier()}",
                f"form {self.identifier()}",
                f"the {self.word()} form",
                f"Form {r.randint(1, 400)}",
                f"the {self.np()} form",
            )
        )

    def rule(self) -> str:
        r = self.rng
        return (
            f"{r.choice(('Policy', 'Section', 'Rule', 'Article', 'Clause', 'Standard', 'Procedure', 'Directive'))} "
            + r.choice(
                (
                    f"{r.randint(1, 60)}.{r.randint(1, 19)}",
                    str(r.randint(1, 400)),
                    self.identifier(),
                    f"{r.randint(1, 30)}({r.choice('abcdefg')})",
                )
            )
        )

    def contract(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"the {self.name()} {r.choice(('lease', 'agreement', 'licence', 'contract', 'settlement'))}",
                f"Contract {self.identifier()}",
                f"the {self.word()} agreement",
                f"Agreement {self.identifier()}",
                f"the {self.name()} {self.word()} agreement",
            )
        )

    def account(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"account {r.randint(1000, 99999999)}",
                f"Account {self.identifier()}",
                f"the {self.name()} account",
                f"the {self.word()} account",
            )
        )

    def case(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"{self.name()} v. {self.name()}",
                f"Case {self.identifier()}",
                f"No. {r.randint(10, 29)}-{r.randint(100, 9999)}",
                f"the {self.name()} matter",
                f"{self.name()} v. {self.company()}",
            )
        )

    def policy(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"policy {self.identifier()}",
                f"the {self.np()} policy",
                f"the {self.word()} policy",
                f"{self.name()} Cover",
                f"Policy {r.randint(1000, 999999)}",
            )
        )

    def room(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"Room {r.randint(1, 900)}{r.choice(('', '', 'A', 'B'))}",
                f"the {self.name()} Room",
                f"Theatre {r.randint(1, 20)}",
                f"the {self.word()} room",
                f"Bay {r.randint(1, 40)}",
                f"Hall {r.choice('ABCDEFG')}",
            )
        )

    def shift(self) -> str:
        r = self.rng
        return (
            f"the {r.choice(('early', 'late', 'night', 'weekend', 'morning', 'relief', 'holiday', self.word()))} shift"
        )

    def phone(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"extension {r.randint(100, 9999)}",
                f"ext. {r.randint(100, 9999)}",
                f"555-{r.randint(0, 9999):04d}",
                f"{r.randint(200, 989)}-555-{r.randint(0, 9999):04d}",
                f"bleep {r.randint(10, 999)}",
                f"+{r.randint(1, 99)} {r.randint(10, 999)} {r.randint(1000, 9999)} {r.randint(100, 999)}",
            )
        )

    def email(self) -> str:
        r = self.rng
        return f"{self.word()}{r.choice(('', '.', '-'))}{r.choice(('desk', 'office', 'team', self.word()))}@{self._syllables(2)}.{r.choice(('example', 'org', 'example.org', 'test', 'net'))}"

    # -- quantities
    def _number(self, low: int, high: int) -> str:
        r = self.rng
        n = r.randint(low, high)
        if n >= 1000:
            return f"{n:,}" if r.random() < 0.7 else str(n)
        return str(n)

    def count(self) -> str:
        r = self.rng
        return r.choice((self._number(2, 60), self._number(2, 999), self._number(100, 99999), r.choice(_NUMBER_WORDS)))

    def duration(self) -> str:
        r = self.rng
        unit = r.choice(
            (
                "days",
                "days",
                "hours",
                "weeks",
                "months",
                "years",
                "minutes",
                "working days",
                "business days",
                "calendar days",
            )
        )
        amount = r.choice((str(r.randint(2, 30)), str(r.randint(2, 180)), r.choice(_NUMBER_WORDS)))
        return r.choice((f"{amount} {unit}", f"{amount} {unit}", f"{amount} {unit}", f"one {unit.removesuffix('s')}"))

    def measure(self) -> str:
        r = self.rng
        unit = r.choice(_UNITS) if r.random() < 0.85 else plural(self.word())
        amount = r.choice(
            (
                str(r.randint(1, 99)),
                self._number(1, 4000),
                f"{r.randint(0, 99)}.{r.randint(1, 9)}",
                f"{r.randint(1, 20)} to {r.randint(21, 90)}",
                f"-{r.randint(1, 80)}",
            )
        )
        return f"{amount} {unit}"

    def dose(self) -> str:
        r = self.rng
        amount = r.choice(
            (
                str(r.randint(1, 99)),
                str(r.randint(1, 99) * 10),
                f"{r.randint(1, 9)}.{r.randint(1, 9)}",
                str(r.randint(1, 9) * 100 + r.randint(0, 9) * 5),
                self._number(1000, 9000),
            )
        )
        return f"{amount} {r.choice(_DOSE_UNITS)}"

    def freq(self) -> str:
        r = self.rng
        number = r.choice((str(r.randint(2, 24)), r.choice(_NUMBER_WORDS)))
        unit = r.choice(("hours", "days", "weeks", "months", "minutes", "years"))
        return r.choice(
            (
                f"every {number} {unit}",
                f"every {number} {unit}",
                f"{r.choice(('once', 'twice', 'three times', 'four times', f'{r.randint(3, 9)} times'))} {r.choice(('daily', 'a week', 'a day', 'a month', 'a year', 'per shift', 'an hour', 'a quarter'))}",
                f"every {r.choice(_DAYS)}",
                f"on the {r.choice(('first', 'second', 'third', 'last'))} {r.choice(_DAYS)} of the month",
                f"after every {self.np()}",
            )
        )

    def percent(self) -> str:
        r = self.rng
        amount = r.choice(
            (str(r.randint(1, 99)), f"{r.randint(0, 60)}.{r.randint(1, 9)}", f"{r.randint(0, 30)}.{r.randint(10, 99)}")
        )
        return amount + r.choice(("%", "%", "%", " percent", " per cent"))

    def money(self) -> str:
        r = self.rng
        scale = r.choice(_SCALES)
        amount = (
            f"{r.randint(1, 999)}.{r.randint(1, 99)}"
            if scale and r.random() < 0.7
            else r.choice(
                (
                    self._number(1, 999),
                    self._number(1000, 999999),
                    f"{r.randint(1, 999)}.{r.randint(0, 99):02d}",
                    self._number(1000, 99999),
                )
            )
        )
        currency = r.choice(_CURRENCIES)
        if len(currency) == 1:
            return f"{currency}{amount}{scale}"
        return f"{currency} {amount}{scale}" if r.random() < 0.7 else f"{amount}{scale} {currency}"

    def date(self) -> str:
        r = self.rng
        day, month, year = r.randint(1, 28), r.choice(_MONTHS), r.randint(1985, 2034)
        return r.choice(
            (
                f"{month} {day}, {year}",
                f"{day} {month} {year}",
                f"{year}-{r.randint(1, 12):02d}-{day:02d}",
                f"{month} {year}",
                f"{r.randint(1, 12)}/{day}/{year}",
                f"{day} {month}",
                f"{r.choice(_DAYS)}, {month} {day}",
            )
        )

    def time(self) -> str:
        r = self.rng
        hour, minute = r.randint(0, 23), r.choice((0, 15, 30, 45, r.randint(0, 59)))
        return r.choice(
            (
                f"{hour:02d}:{minute:02d}",
                f"{r.randint(1, 12)} {r.choice(('a.m.', 'p.m.', 'am', 'pm'))}",
                f"{r.randint(1, 12)}:{minute:02d} {r.choice(('a.m.', 'p.m.', 'am', 'pm'))}",
                f"{hour:02d}:{minute:02d} on {r.choice(_DAYS)}s",
                f"{hour}.{minute:02d}",
            )
        )

    def colour(self) -> str:
        r = self.rng
        return r.choice(
            (
                r.choice(_SHADES) + r.choice(_COLOURS),
                f"{r.choice(_COLOURS)} and {r.choice(_COLOURS)}",
                f"{self.word()} {r.choice(_COLOURS)}",
            )
        )

    def age(self) -> str:
        return str(self.rng.randint(1, 99))

    def bp(self) -> str:
        return f"{self.rng.randint(85, 199)}/{self.rng.randint(45, 119)}"

    def temp(self) -> str:
        r = self.rng
        return r.choice(
            (
                f"{r.randint(34, 41)}.{r.randint(0, 9)} C",
                f"{r.randint(96, 104)}.{r.randint(0, 9)} F",
                f"{r.randint(34, 41)}.{r.randint(0, 9)}",
                f"{r.randint(-80, 60)} C",
                f"{r.randint(2, 20)} to {r.randint(21, 40)} C",
            )
        )


CLOSED = frozenset(("age", "bp", "temp"))  # too few values to be split: reported apart from the open kinds
NUMERIC = frozenset(
    [
        "duration",
        "time",
        "count",
        "measure",
        "dose",
        "freq",
        "percent",
        "money",
        "id",
        "phone",
        "date",
        "age",
        "bp",
        "temp",
        "rule",
        "form",
    ]
)


def save_harvest(pools: dict[str, list[str]], path: Path) -> None:
    """Write the harvested pools where `load_harvest` finds them."""
    path.write_text(json.dumps(pools, ensure_ascii=False))


def load_harvest(path: Path) -> dict[str, list[str]]:
    """Read the pools that `prepare` has written."""
    pools: dict[str, list[str]] = json.loads(path.read_text())
    return pools
