"""Whether an answer stands on its evidence: words, figures with their units, dates, names and negation."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLAIN = str.maketrans({"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "‑": "-", "\u00a0": " "})  # fmt: skip
_SPELT = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90"}
_FIGURE = re.compile(r"\d+(?:[.,:/]\d+)*")
_MONTH = re.compile(r"January|February|March|April|May|June|July|August|September|October|November|December|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday")  # fmt: skip
_UNIT = re.compile(r"%|°[CF]?|[^\W\d_]+")
_NAME = re.compile(r"(?<![\w'-])[A-Z][\w'-]*[^\W\d_][\w'-]*")
_NEGATION = re.compile(r"\b(?:not|no|never|none|nor|neither|without|cannot|unless|except)\b|n't\b", re.I)
_CLAUSE_END = re.compile(r"[.,;:()]|\b(?:but|and|or|if|when|who|which|that|because)\b", re.I)
_SMALL = frozenset(
    "a an and any are as at be been before after between by can did do does for from had has have how if in into is it its "
    "many may me much must of on or our own shall should soon than that the their them then there these they this those to "
    "under up was we were what when where which who whom whose why will with within would you your long often name called "
    "about happens happen done applies apply mean meant means".split()
)
_ALL_WORDS = re.compile(r"[^\W_]+(?:'s)?")
_CONTENT_WORDS = re.compile(r"[^\W_]{2,}(?:'s)?|\d")
_ENDING = re.compile(r"(?<=\w{3})(?:ing|ed|es|s|e)$")
_STEM_CHARS = 5


def words_in(words: str, text: str) -> str | None:
    """Return the words as they stand in a text, whatever the blanks, the case and the shape of quotes and dashes.

    >>> words_in("the Log's  copy", "Keep the log’s copy here.")
    'the log’s copy'
    """
    plain, shown = text.translate(_PLAIN), words.translate(_PLAIN).strip()
    for wanted in dict.fromkeys((shown, shown.rstrip(".,;: "))):  # the end of a sentence is no word
        if not (parts := wanted.split()):
            return None
        before = r"(?<!\w)" if parts[0][0].isalnum() else ""
        after = r"(?!\w)" if parts[-1][-1].isalnum() else ""
        pattern = before + r"\s+".join(re.escape(part) for part in parts) + after
        if found := re.search(pattern, plain, re.IGNORECASE):
            return text[slice(*found.span())]  # each sign was replaced by one sign: places stay
    return None


def unsupported(answer: str, evidence: str) -> str | None:
    """Return which rule an answer breaks against its evidence, or None.

    >>> unsupported("within 3 hours", "Sign the log within 2 hours."), unsupported("two hours", "Within 2 hours.")
    ('number_not_in_evidence', None)
    """
    told = dict.fromkeys(_figures(evidence))
    for figure, unit in _figures(answer):
        units = [u for f, u in told if f == figure]
        if not units:
            return "date_not_in_evidence" if _MONTH.search(answer) else "number_not_in_evidence"
        if unit and unit not in units:
            return "date_not_in_evidence" if _MONTH.fullmatch(unit.title()) else "unit_not_in_evidence"
    known = _stems(evidence, _ALL_WORDS)
    for name in _NAME.findall(answer):
        if name.casefold() not in _SPELT and not _stems(name, _ALL_WORDS) <= known:
            return "date_not_in_evidence" if _MONTH.fullmatch(name) else "name_not_in_evidence"
    if _NEGATION.search(answer) and not _NEGATION.search(evidence):
        return "negation_differs"
    return None


def is_negated(text: str) -> bool:
    """Tell whether a text holds a word such as "not", "never" or "unless"."""
    return _NEGATION.search(text.translate(_PLAIN)) is not None


def loses_negation(question: str, answer: str, evidence: str) -> bool:
    """Tell whether an answer was cut out behind a "not" of its own clause that the question does not repeat.

    >>> loses_negation("What must staff do?", "open the door", "Staff must not open the door.")
    True
    """
    start = evidence.find(answer)
    if start < 0 or _NEGATION.search(question) or _NEGATION.search(answer):
        return False
    before = _CLAUSE_END.split(evidence[:start])[-1] if evidence[:start].strip() else ""
    return _NEGATION.search(before) is not None


def content_stems(text: str) -> set[str]:
    """Return the beginnings of the words that carry meaning."""
    return _stems(text, _CONTENT_WORDS)


def may_answer(question: str, texts: Sequence[str], share: float = 0.8) -> bool:
    """Tell whether a sentence or line holds so many words of a question that it may answer it."""
    wanted = content_stems(question)
    if not wanted:
        return True
    sentences = (s for text in texts for s in re.split(r"(?<=[.!?;])\s+|\n+", text))
    return any(len(wanted & content_stems(s)) >= share * len(wanted) for s in sentences)


def _figures(text: str) -> list[tuple[str, str]]:
    """Every figure with the beginning of the word behind it, as a unit may be singular or plural."""
    plain = re.sub(r"\b[A-Za-z]+\b", lambda m: _SPELT.get(m.group(0).casefold(), m.group(0)), text.translate(_PLAIN))
    found = []
    for match in _FIGURE.finditer(plain):
        figure = re.sub(r",(?=\d{3}\b)", "", match.group(0))
        unit = _UNIT.match(plain[match.end() :].lstrip(" -"))
        found.append((figure, unit.group(0).casefold().rstrip("s") if unit else ""))
    return found


def _stems(text: str, words: re.Pattern[str]) -> set[str]:
    plain = text.translate(_PLAIN).casefold()
    return {_ENDING.sub("", w.removesuffix("'s"))[:_STEM_CHARS] for w in words.findall(plain) if w not in _SMALL}
