"""The little English grammar that rules need: sentences, subjects, verbs, and turning a statement into a question."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9\"'(])|\n+")
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|No|vs|e\.g|i\.e|etc|approx|ext|Fig|Sect)\.$")
MODALS = ("must", "should", "shall", "may", "can", "will", "is", "are", "was", "were")
PRONOUNS = frozenset(
    [
        "it",
        "they",
        "he",
        "she",
        "this",
        "that",
        "these",
        "those",
        "there",
        "we",
        "you",
        "i",
        "one",
        "who",
        "which",
        "what",
        "both",
        "neither",
        "either",
        "everyone",
        "nobody",
        "anyone",
        "somebody",
    ]
)
_ADVERBS = frozenset(
    [
        "then",
        "later",
        "now",
        "here",
        "usually",
        "often",
        "always",
        "never",
        "sometimes",
        "also",
        "however",
        "therefore",
        "otherwise",
        "instead",
        "meanwhile",
        "outside",
        "inside",
        "again",
        "still",
        "soon",
        "everything",
        "something",
        "nothing",
        "anything",
    ]
)
_DETERMINERS = frozenset(
    "the a an some many most all several few each every more other any no our your its their".split()
)
_NOT_INSIDE = frozenset(
    "it they he she we you there what how why whether hope hopes believe believes think thinks know knows say says suggest suggests "
    "expect expects learn learned found saw show shows".split()
)
_ALSO_NOUNS = frozenset(
    "signs tests uses changes checks reports returns stores places records lists cuts ends calls reviews costs counts ranges results shows stays stops turns visits works".split()
)
_OF_NOUNS = frozenset(
    "become change decline decrease depend differ drop exceed fall fluctuate grow increase remain rise vary".split()
)
"""Verbs that nobody needs or uses, so that what stands before one is a noun: protein needs increase."""
_CLAUSE_WORDS = frozenset(
    ["who", "which", "that", "when", "where", "if", "because", "while", "although", "whose", "whom", "and", "or", "but"]
)
_PREPOSITIONS = frozenset(
    [
        "in",
        "on",
        "at",
        "by",
        "for",
        "from",
        "to",
        "with",
        "within",
        "without",
        "after",
        "before",
        "under",
        "over",
        "between",
        "until",
        "during",
        "of",
        "into",
        "through",
        "about",
        "as",
        "per",
        "via",
    ]
)

# Verbs whose third person gives a safe question with "do"; nouns of the same spelling are avoided where common.
_VERBS = frozenset(
    [
        "accept",
        "allow",
        "answer",
        "apply",
        "approve",
        "arrive",
        "ask",
        "assign",
        "begin",
        "belong",
        "bring",
        "call",
        "carry",
        "change",
        "check",
        "choose",
        "clean",
        "close",
        "collect",
        "come",
        "complete",
        "confirm",
        "contain",
        "cost",
        "count",
        "cover",
        "cut",
        "decide",
        "deliver",
        "depend",
        "dispose",
        "display",
        "earn",
        "empty",
        "end",
        "enter",
        "expect",
        "expire",
        "fill",
        "find",
        "finish",
        "follow",
        "get",
        "give",
        "go",
        "handle",
        "happen",
        "have",
        "hear",
        "hold",
        "include",
        "inform",
        "issue",
        "join",
        "keep",
        "know",
        "last",
        "lead",
        "leave",
        "lend",
        "let",
        "lie",
        "list",
        "lock",
        "look",
        "make",
        "manage",
        "mean",
        "meet",
        "move",
        "need",
        "notify",
        "offer",
        "open",
        "own",
        "pay",
        "perform",
        "phone",
        "place",
        "prepare",
        "press",
        "print",
        "provide",
        "pull",
        "push",
        "put",
        "reach",
        "read",
        "receive",
        "record",
        "refer",
        "release",
        "remain",
        "remove",
        "replace",
        "reply",
        "report",
        "require",
        "return",
        "review",
        "ring",
        "run",
        "say",
        "see",
        "sell",
        "send",
        "serve",
        "set",
        "share",
        "show",
        "sign",
        "sit",
        "sleep",
        "speak",
        "stand",
        "start",
        "stay",
        "stop",
        "store",
        "supply",
        "take",
        "teach",
        "tell",
        "test",
        "throw",
        "train",
        "treat",
        "turn",
        "use",
        "visit",
        "wait",
        "wake",
        "walk",
        "wash",
        "wear",
        "weigh",
        "work",
        "write",
    ]
)
_IRREGULAR_THIRD = {
    "has": "have",
    "does": "do",
    "goes": "go",
    "carries": "carry",
    "replies": "reply",
    "applies": "apply",
    "supplies": "supply",
    "notifies": "notify",
    "empties": "empty",
}


class Sentence(NamedTuple):
    """A sentence with its place in the text it was taken from."""

    text: str
    start: int
    end: int


def sentences(text: str) -> list[Sentence]:
    """Split text into sentences and lines; abbreviations do not end a sentence."""
    found: list[Sentence] = []
    begin = 0
    for match in [*_SENTENCE.finditer(text), None]:
        stop = match.start() if match else len(text)
        piece = text[begin:stop]
        if match and "\n" not in match.group(0) and _ABBREVIATION.search(piece):
            continue
        stripped = piece.strip()
        if stripped:
            offset = begin + piece.index(stripped)
            found.append(Sentence(stripped, offset, offset + len(stripped)))
        begin = match.end() if match else len(text)
    return found


def lower_first(text: str) -> str:
    """Lower the first letter of a subject in the middle of a question, unless it is a name, a code or "I".

    >>> lower_first("The ward")
    'the ward'
    >>> lower_first("PHA-06")
    'PHA-06'
    """
    first = text.split(" ", 1)[0]
    if first.casefold() in (
        "the",
        "a",
        "an",
        "each",
        "every",
        "all",
        "any",
        "no",
        "your",
        "our",
        "its",
        "their",
        "some",
        "most",
        "only",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "patients",
        "staff",
        "visitors",
        "people",
        "nurses",
        "doctors",
    ):
        return text[:1].lower() + text[1:]
    return text


def upper_first(text: str) -> str:
    """Capitalise the first letter only."""
    return text[:1].upper() + text[1:]


def base_form(verb: str) -> str | None:
    """Return the base form of a third-person verb that is safe to use, or None.

    >>> base_form("opens"), base_form("carries"), base_form("bus")
    ('open', 'carry', None)
    """
    if verb in _IRREGULAR_THIRD:
        return _IRREGULAR_THIRD[verb]
    for ending in ("es", "s"):
        stem = verb.removesuffix(ending)
        if stem != verb and stem in _VERBS:
            return stem
    return None


class Clause(NamedTuple):
    """A statement taken apart: subject, helping verb as a question needs it, and the rest of the predicate."""

    subject: str
    helper: str  # must, is, does ...
    rest: str  # with the base form of the verb first, unless the helper is a form of "be"


def parse(sentence: str) -> Clause | None:
    """Take a plain statement apart, or return None where the shape is not safe.

    >>> parse("The pharmacy opens at 08:00")
    Clause(subject='The pharmacy', helper='does', rest='open at 08:00')
    """
    words = sentence.split()
    for n, word in enumerate(words[1:9], 1):
        subject = " ".join(words[:n])
        rest = words[n + 1 :]
        if not rest:
            return None
        if word in MODALS:
            return Clause(subject, word, " ".join(rest)) if is_subject(subject) else None
        if word in ("has", "have") and re.match(r"(?:been|had|become|shown|\w+ed)\b", rest[0]):
            return None  # the perfect tense needs another helper
        if word in ("does", "do") and rest[0] == "not":
            return Clause(subject, word, " ".join(rest)) if is_subject(subject) else None
        if word in _ALSO_NOUNS and re.match(r"(?:and|or|of|may|can|is|are|was|were|that|which|\()", rest[0]):
            return None
        if rest[0] in _OF_NOUNS and (word in _ALSO_NOUNS or word == "needs"):
            return None
        base = base_form(word)
        if base is not None and is_subject(subject) and not subject.endswith("s"):
            return Clause(subject, "does", " ".join([base, *rest]))
        if word in _VERBS and is_subject(subject) and re.search(r"[a-z]s$", subject) and not subject.endswith("ss"):
            return Clause(subject, "do", " ".join([word, *rest]))
    return None


def is_subject(text: str) -> bool:
    """Tell whether words can stand as a subject that is clear without the sentence before: no pronoun, no clause, no comma."""
    words = text.split()
    if not words or len(words) > 8 or words[0].casefold() in PRONOUNS or re.search(r"[,;:()\"]", text):
        return False
    lowered = [w.casefold() for w in words]
    if not _NOT_INSIDE.isdisjoint(lowered):
        return False
    if any(
        w in ("your", "our", "their", "his", "her") and before not in _PREPOSITIONS for before, w in pairwise(lowered)
    ):
        return False  # "the imaging your doctor" holds a clause
    if lowered[0] in ("not", "nor", "if", "currently", "almost"):
        return False
    if (len(words) == 1 and lowered[0] in _DETERMINERS) or lowered[-1] in ("helps", "makes", "lets"):
        return False
    if (
        lowered[0] in _PREPOSITIONS
        or lowered[-1] in _PREPOSITIONS
        or lowered[0] in ("below", "above", "near", "against", "among")
        or any(w in _CLAUSE_WORDS or w in _ADVERBS for w in lowered)
    ):
        return False
    return bool(re.match(r"[A-Z0-9]", words[0]))


def question(word: str, clause: Clause, rest: str) -> str:
    """Put a question together: word, helper, subject, rest.

    >>> question("When", Clause("The pharmacy", "does", "open at 08:00"), "open")
    'When does the pharmacy open?'
    """
    return re.sub(r"\s+", " ", f"{word} {clause.helper} {lower_first(clause.subject)} {rest}").strip(" ,;") + "?"


_FINITE = frozenset(
    "am is are was were be has have had do does did can cannot could may might must shall should will would telephone try order orders".split()
)


def is_verb(word: str) -> bool:
    """Tell whether a word is one of the known verbs in its base form or third person, or a helping verb."""
    return word in _FINITE or word in _VERBS or base_form(word) is not None


def has_verb(text: str) -> bool:
    """Tell whether words seem to hold a verb, as a clause must: generous, since few verbs are known here.

    >>> has_verb("ring the helpdesk"), has_verb("even through gloves")
    (True, False)
    """
    words = re.findall(r"[a-z']+", text.casefold())
    if len(words) <= 1 or words[0] in PRONOUNS:
        return True
    return any(is_verb(w) or re.search(r"(?:[^aeiou]ed|[iuatr]ed|n't|ise|ize|ify)$", w) for w in words)
