"""Further questions that the rules teacher asks where a recipe wants them (generate.wide_questions).

What something includes, causes, is used or called for, why and how it is done, what it is compared with, and of figures
and dates: how much, by how much, since when, why it changed. As with the other rules every answer is a span of its
sentence, taken to the end of it, so that nothing is left out; a sentence with a second clause stays unasked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fieldwise.generate.doubts import is_vague
from fieldwise.generate.english import Clause, base_form, is_subject, is_verb, lower_first, parse, question
from fieldwise.generate.pairs import Pair

_MOST_WORDS = 28
_CLAUSE = re.compile(
    r"[;:]|\b(?:so that|which|who|whom|when|if|because|before|after|until|while|where|whether|although|though|but|whereas|in order|due to|respectively)\b"
)
_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DATE = rf"(?:(?:\d{{1,2}} )?{_MONTH}(?: \d{{1,2}})?(?:, | )?(?:(?:19|20)\d\d)?|(?:19|20)\d\d|(?:fiscal|fiscal year|FY) ?(?:19|20)?\d\d)"
_MONEY = r"(?:US|NT|C|A)?[$€£¥] ?\d[\d,.]*\d(?: (?:million|billion|thousand))?|(?:RMB|NT\$|USD|EUR) ?\d[\d,.]*\d(?: (?:million|billion))?|[$€£]\d(?: (?:million|billion))?"
_SHARE = r"\d[\d,.]*\d? ?(?:%|percent|per cent)|\d+(?:\.\d+)? basis points"
_AMOUNT = rf"(?:(?:approximately|about|nearly|over|almost) )?(?:{_MONEY}|{_SHARE})"
_WHEN = rf"(?:(?:in|during|for|at|as at|as of|on|from|to|compared (?:to|with)|ended|the|fiscal|financial|years?|months?|quarters?|first|second|third|fourth|three|six|nine|twelve|respectively|end|of|and|over|prior|same|period) |{_DATE},? ?)+"


def wide_pairs(text: str) -> Iterator[Pair]:
    """Yield the further pairs of one statement without its full stop."""
    if len(text.split()) > 45 or re.match(
        r"(?:If|When|Once|Unless|Before|After|Until|Where|Because|Although|While|However|Thus)\b", text
    ):
        return
    for make in (_contents, _effect, _use, _name, _purpose, _amount, _change, _why_changed):
        yield from make(text)
    clause = parse(text)
    if clause is not None and _is_clear(clause.subject):
        for ask in _OF_CLAUSES:
            yield from ask(text, clause)


def _is_clear(subject: str) -> bool:
    return (
        is_subject(subject)
        and not _VERB_INSIDE.search(subject)
        and not is_vague(lower_first(subject))
        and not re.match(
            r"(?:its|their|his|her|our|my|other|both|each|another|such|these|those|this|all|none|fiscal|the (?:results?|increase|decrease|change|final|total|following))\b",
            subject,
            re.I,
        )
        and not _POINTS_BACK.search(subject)
    )


_VERB_INSIDE = re.compile(r"\b(?:is|are|was|were|be|has|have|had|can|may|will|must|should|does|do|needs?|seems?)\b")
_POINTS_BACK = re.compile(r"\b(?:the|this|these|such) (?:condition|disease|disorder|test|tumou?r|cancer|drug|study|syndrome|treatment|procedure|infection|problem|period|year|plan|agreement|group)s?$|ly$", re.I)  # fmt: skip


def _is_whole(answer: str, most_words: int = _MOST_WORDS) -> bool:
    return (
        len(answer.split()) <= most_words
        and not _CLAUSE.search(answer)
        and not re.match(r"(?:it|them|this|that|these|those|such|both|all)\b", answer)
    )


# ---------------------------------------------------------------- shapes of whole sentences


def _contents(text: str) -> Iterator[Pair]:
    found = re.match(
        r"^(.+?) (?:(may|can|might|will|could|should|must) )?(?:(?:often|usually|typically|commonly|generally) )?(includes?|consists? of|contains?|comprises?) (.{6,220})$",
        text,
    )
    if found and _is_clear(found.group(1)) and _is_whole(found.group(4)):
        subject, modal, verb = found.group(1), found.group(2), found.group(3)
        yield Pair(_ask("What", subject, modal, verb), found.group(4), "contents", text)


def _effect(text: str) -> Iterator[Pair]:
    found = re.match(
        r"^(.+?) (?:(may|can|might|will|could) )?(causes?|leads? to|results? in|prevents?|reduces?|raises?|lowers?|affects?|increases?|destroys?|produces?) (.{6,160})$",
        text,
    )
    if not found or not _is_clear(found.group(1)) or not _is_whole(found.group(4), 20):
        return
    subject, modal, verb, effect = found.groups()
    agrees = modal or verb.split()[0].endswith("s") or re.search(r"(?:[^s]s|people|women|men|children)$", subject)
    if (
        not agrees
        or not _is_plain(effect)
        or _MORE_DEEDS.search(effect)
        or re.match(r"(?:by|in|to|from|and|or|of|as|with|was|were|is|are)\b|[$\d]", effect)
    ):
        return
    if (
        is_verb(effect.split()[0])
        or re.search(r"\b(?:risk|chance)$", subject)
        or re.search(r"\b(?:estimated|approximately|about|every)\b|\b\d", effect)
    ):
        return
    yield Pair(_ask("What", subject, modal, verb), effect, "effect", text)
    if (
        modal is None
        and verb.split()[0].endswith("s")
        and verb != "affects"
        and not re.search(r"\b(?:this|these|those|such|the \w+)$|^(?:the|its|their)\b", effect)
    ):
        yield Pair(f"What {verb} {effect}?", subject, "cause", text)


_MORE_DEEDS = re.compile(r"\b(?:and|or|but) (?:they|it|you|he|she)|\b(?:and|or) (?:clog|reduce|increase|cause|help|raise|lower|improve|prevent|protect|damage|affect|make|lead|result|block|slow|keep|relieve|allow|trigger|contribute|impair|interfere|spread|form|become|develop)s?\b")  # fmt: skip


def _ask(word: str, subject: str, modal: str | None, verb: str) -> str:
    """The base form of the verb behind a helper that agrees with it."""
    first, _, rest = verb.partition(" ")
    base = {"includes": "include", "comprises": "comprise", "causes": "cause", "reduces": "reduce", "raises": "raise", "increases": "increase", "produces": "produce"}.get(first, first.removesuffix("s"))  # fmt: skip
    helper = modal or ("does" if first.endswith("s") else "do")
    return f"{word} {helper} {lower_first(subject)} {' '.join(filter(None, (base, rest)))}?"


def _use(text: str) -> Iterator[Pair]:
    found = re.match(
        r"^(.+?) (is|are|can be|may be) (?:(?:also|often|usually|commonly|sometimes|mainly|primarily) )?used ((?:to|for) .{6,160})$",
        text,
    )
    if found and _is_clear(found.group(1)) and _is_whole(found.group(3)):
        helper, _, be = found.group(2).partition(" ")
        yield Pair(
            f"What {helper} {lower_first(found.group(1))} {be} used for?".replace("  ", " "),
            found.group(3),
            "use",
            text,
        )


def _name(text: str) -> Iterator[Pair]:
    found = re.match(
        r"^(.+?) (is|are) (?:also|sometimes|commonly|often) (?:called|known as|referred to as) (.{2,80})$", text
    )
    if found and _is_clear(found.group(1)) and _is_whole(found.group(3), 12):
        yield Pair(f"What else {found.group(2)} {lower_first(found.group(1))} called?", found.group(3), "name", text)


def _purpose(text: str) -> Iterator[Pair]:
    found = re.match(
        r"^The ((?:main |primary |overall )?(?:purpose|goal|aim|objective|role|task) of [\w' -]{3,60}) (is|are) (to .{8,160})$",
        text,
    )
    if found and _is_whole(found.group(3)) and not re.search(r"\b(?:this|these|treatment|the \w+)$", found.group(1)):
        yield Pair(f"What {found.group(2)} the {found.group(1)}?", found.group(3), "purpose", text)


# ---------------------------------------------------------------- figures


def _amount(text: str) -> Iterator[Pair]:
    lead = re.match(rf"^((?:In|For|During|As of|As at|At|On) {_WHEN}), (?=[a-z]\w+ |[A-Z])", text + " ")
    body = text[lead.end() :] if lead else text
    found = re.match(
        rf"^(.+?) (was|were|is|are|totaled|totalled|amounted to|represented) ({_AMOUNT})((?: {_WHEN})?)$", body
    )
    if not found or not _is_item(found.group(1)):
        return
    subject, verb, figure, when = found.groups()
    when = f" {lead.group(1)[:1].lower()}{lead.group(1)[1:]}" if lead and not when else when
    subject = _inside(subject)
    if verb in ("was", "were", "is", "are"):
        yield Pair(f"What {verb} {subject}{when.rstrip(', ')}?", figure, "amount", text)
    else:
        base = {"amounted to": "amount to", "represented": "represent"}.get(verb, "total")
        yield Pair(f"How much did {subject} {base}{when.rstrip(', ')}?", figure, "amount", text)


_MOVED = {"increased": "increase", "decreased": "decrease", "rose": "rise", "fell": "fall", "grew": "grow", "declined": "decline", "dropped": "drop"}  # fmt: skip
_MOVE = rf"^(.+?) ({'|'.join(_MOVED)})"


def _change(text: str) -> Iterator[Pair]:
    found = re.match(
        rf"{_MOVE} (?:by )?({_AMOUNT})((?:,? or {_AMOUNT},?)?)((?: (?:to|from) {_AMOUNT})*(?: {_WHEN})?)(?:,? (?:primarily|mainly|largely|principally|partly)?.*)?$",
        text,
    )
    if found and _is_item(found.group(1)):
        figure = found.group(3) + found.group(4).rstrip(",")
        when = re.sub(r",? (?:and|the|of|compared|respectively)$", "", found.group(5).rstrip(", "))
        yield Pair(f"By how much did {_inside(found.group(1))} {_MOVED[found.group(2)]}{when}?", figure, "change", text)


def _why_changed(text: str) -> Iterator[Pair]:
    found = re.match(
        rf"{_MOVE}((?: by)?(?: {_AMOUNT})?(?:,? or {_AMOUNT},?)?(?: (?:to|from) {_AMOUNT})*(?: {_WHEN})?),? "
        r"((?:(?:primarily|mainly|principally|largely|mostly) )?(?:due to|because of|as a result of|driven by|attributable to|reflecting) .{8,200})$",
        text,
    )
    if found and _is_item(found.group(1)) and len(found.group(4).split()) <= _MOST_WORDS:
        yield Pair(
            f"Why did {_inside(found.group(1))} {_MOVED[found.group(2)]}{found.group(3).rstrip(', ')}?",
            found.group(4),
            "reason",
            text,
        )


def _is_item(subject: str) -> bool:
    """An item of a report: no clause, and more than "the amount" or "this increase"."""
    return (
        len(subject.split()) <= 14
        and not re.search(
            r"[,;:()\"]|\b(?:this|these|those|that|which|such|it|they|who|and the related|there)\b", subject, re.I
        )
        and not re.match(
            r"(?:in|for|during|as|at|on|of|by|the (?:\w+ )?(?:increase|decrease|amount|change|balance|total|impact|remainder|effect)$|other|total|amounts?$)\b",
            subject,
            re.I,
        )
        and not re.search(r"\b(?:was|were|is|are|has|have|had|be|been)\b", subject)
    )


def _inside(subject: str) -> str:
    """The subject as it stands inside a question: "Revenue" is no name, "Nordic revenue" may be one."""
    return (
        subject
        if re.match(r"[A-Z][\w&.-]* [A-Z]|[A-Z]{2}|[A-Z]\w*['’]s", subject)
        else subject[:1].lower() + subject[1:]
        if _PLAIN_START.match(subject)
        else lower_first(subject)
    )


_PLAIN_START = re.compile(r"^(?:Revenues?|Sales|Net|Gross|Operating|Cash|Cost|Costs|Interest|Income|Research|Selling|General|Amortization|Depreciation|Total|Research|Capital|Average|Adjusted|Stock-based|Share-based|Advertising|Product|Service|Services|Subscription|Maintenance|Consulting|Rent|Rental|Earnings|Expenses?|Profit|Marketing|Provision|Compensation|Contributions|Our|Comparable|Organic|Underlying|Reported)\b")  # fmt: skip


# ---------------------------------------------------------------- shapes of clauses


def _reason(text: str, clause: Clause) -> Iterator[Pair]:
    found = re.match(r"^(.{4,120}?),? ((?:so that|in order to|because of) .{8,160})$", clause.rest)
    if (
        found
        and not _CLAUSE.search(found.group(1))
        and len(found.group(2).split()) <= _MOST_WORDS
        and _is_plain(found.group(1))
    ):
        yield Pair(question("Why", clause, found.group(1)), found.group(2), "reason", text)


def _way(text: str, clause: Clause) -> Iterator[Pair]:
    found = re.match(r"^(.{4,120}?) (by (?!being\b|operating\b|financing\b|the\b)\w+ing\b .{3,160})$", clause.rest)
    if (
        found
        and not re.match(r"(?:an?|the|one|not)\b", found.group(1))
        and _is_plain(found.group(1))
        and _is_whole(found.group(2))
        and not re.search(
            r"\b(?:caused|followed|characteri[sz]ed|affected|marked|determined|increased?|decreased?)$|\bby\b",
            found.group(1),
        )
    ):
        yield Pair(question("How", clause, found.group(1)), found.group(2), "way", text)


def _is_plain(rest: str) -> bool:
    """No second verb that the helper does not carry: "opens the door and rings"."""
    joined = re.findall(r"\b(?:and|or|then) (?:\w+ly )?(\w+)", rest)
    return (
        not _CLAUSE.search(rest)
        and not re.search(r"\bthat\b", rest)
        and not any(
            w in ("is", "are", "was", "were", "has", "can", "may", "must", "should", "will") or base_form(w) is not None
            for w in joined
        )
    )


def _comparison(text: str, clause: Clause) -> Iterator[Pair]:
    found = re.match(
        r"^(?:(?:much|slightly|far|usually|often|generally|significantly|about|typically|\w+ times) )?(?:(?:more|less) \w+|\w{2,}er)\b(?: [\w' -]+?)? than ([\w' -]{3,60})$",
        clause.rest,
    )
    if found and clause.helper in ("is", "are", "was", "were") and len(clause.rest.split()) <= 20:
        other = found.group(1)
        before = clause.rest.rpartition(" than ")[0]
        if re.search(r"\b(?:in|among|for|on|at|during|by)\b", before):
            return  # "more common in women than men" compares what stands behind the preposition
        if (
            not re.search(r"\b(?:it|them|this|these|those)\b", clause.rest)
            and not re.match(
                r"(?:that|those|expected|usual|normal|average|one|the other|others?|it|they|any|all|ever|in|on|at|for|by|when|previously|once|\d)\b",
                other,
            )
            and len(other.split()) <= 7
        ):
            helper = {"is": "does", "are": "do", "was": "did", "were": "did"}[clause.helper]
            yield Pair(
                f"How {helper} {lower_first(clause.subject)} compare with {other}?", clause.rest, "comparison", text
            )


def _deadline(text: str, clause: Clause) -> Iterator[Pair]:
    found = re.match(
        rf"^(.{{4,120}}?) ((?:by|before|until|no later than|not later than|on or before) (?:the )?(?:end of \w+(?: \w+)?|{_DATE}))$",
        clause.rest,
    )
    if found and _is_plain(found.group(1)) and not re.search(r",", found.group(1)):
        word = "Until when" if found.group(2).startswith("until") else "By when"
        yield Pair(question(word, clause, found.group(1)), found.group(2), "deadline", text)


def _when(text: str, clause: Clause) -> Iterator[Pair]:
    found = re.match(rf"^(.{{4,120}}?) ((?:on|in) {_DATE})$", clause.rest)
    if (
        found
        and _is_plain(found.group(1))
        and not re.search(r"[,]|\b(?:from|between|and|ended|ending|than|to|of)$|\d", found.group(1))
    ):
        yield Pair(question("When", clause, found.group(1)), found.group(2), "time", text)


_OF_CLAUSES: tuple[Callable[[str, Clause], Iterator[Pair]], ...] = (_reason, _way, _comparison, _deadline, _when)
