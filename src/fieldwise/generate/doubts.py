"""What speaks against a pair that a rule has made: where its sentence is not what the rule took it for.

Apart from the rules, so that each doubt has a name and is counted: `doubt` returns the first, or None. All were found
by reading pairs one by one (docs/decisions.md); each leaves out some right ones as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fieldwise.generate.english import base_form, has_verb, is_verb
from fieldwise.generate.pairs import Pair
from fieldwise.support import content_stems, loses_negation

_INLINE_LIST = re.compile(r"(?:[:.;]|\w\)) [-*•–] |: [-*•–]|\w [-*•] [A-Z]|(?: - \w[^-]*){2}")
_OPEN_END = re.compile(r"\b(?:including|includes?|such as|following|like|the|an?|and|or)$", re.I)
_CUT = re.compile(
    r"\b(?:including|includes?|such as|like|as|the|an?|of|to|with|and|or|by|for|than|until|that|which|who|should|must|may|can|will|(?:can|may|will|could) cause)$",
    re.I,
)
_REPEATED = re.compile(r"\b((?:[\w-]+ ){0,4}[\w-]{4,}),? \1\b", re.I)
_ELSEWHERE = re.compile(
    r"\b(?:(?:the|this|see|in) (?:\w+ )?(?:table|list|figure|chart|note|section|page|chapter)s? (?:below|above)|as follows|the following\b(?! (?:day|week|month|year|morning|working|shift|night|\d))|"
    r"(?:described|listed|shown|discussed|mentioned|given|noted|set out|reported) (?:above|below|earlier|later|here)|see (?:note|section|page)|(?-i:Figure [A-Z0-9]))\b",
    re.I,
)
_ANAPHOR = re.compile(
    r"\b(?:these|those|him|them|such(?! as)|the (?:disease|disorder|condition|syndrome)(?! (?:of|called|that|in which))|the (?:procedure|exam|biopsy|surgery|operation|problem)(?! (?:of|for|called|that|in which))|both (?:conditions|types|forms|tests|cases)|the (?:same|latter|former|above|other|second|third|latest)|the others?|affected (?:individual|person|people|famil|child|patient|male|female|infant|men|women)\w*|in the (?:picture|image|photo)s?|the (?:diagnosis|prognosis|outlook)(?! (?:of|for|in)\b))\b",
    re.I,
)
_GAP_ANAPHOR = re.compile(
    r"\b(?:this|these|those(?! (?:who|with|of|in|aged|over|under))|such(?! as)|remaining|the rest|the other|affected (?:individuals|people|children|patients|infants)|the (?:disease|disorder|condition|syndrome)(?! of\b)|the (?:[\w-]+ )?forms?\b(?! of)|the first (?:\w+ )?(?:usually|often|typically)\b|(?:after|before|during|in|for|to) the (?:test|procedure|exam|surgery|operation|treatment|scan|study|trial|biopsy))\b|"
    r"\b(?:of|in|all|most) (?:all |the |most )?(?:cases|patients|people|individuals|children|infants|women|men|babies)(?! (?:\d|of|with|who|whose|affected|in|from|at|on|under|over|aged|younger|older|born|from|living|diagnosed|caused)\b)",
    re.I,
)
_SUCH = re.compile(r"\bsuch (?!as\b|an?\b)[a-z]+s\b")
_POSSESSIVE_FIRST = re.compile(r"^(?:its|their|his|her|our|these|those|this|such|other|both|another)\b", re.I)
_VAGUE = re.compile(
    r"^(?:(?:some|many|most|several|one|all) of the |(?:the|a|an|some|many|most|several|certain|various|other|all|your|our|any|each) )?(?:health ?care |\w+ health ?care )?(?:(?:most|least|more|less|very) )?(?:\w+(?:al|ed|ing|ive|ry|care|able|ible|ic|ous|er) |(?:major|main|mild|moderate|severe|early|common|typical|initial|first|worst|best|key|characteristic|additional|other|similar) ){0,2}"
    r"(?:patient|person|people|individual|other|fourth|third|doctor|physician|provider|clinician|scientist|researcher|expert|man|men|woman|women|"
    r"child|children|adult|parent|member|holder|treatment|therapy|therapie|injurie|medicine|medication|drug|test|result|symptom|sign|complication|effect|problem|"
    r"factor|thing|condition|disorder|disease|cause|change|study|case|approach|step|method|amount|company|group|board|management|business|actual|"
    r"others|syndrome|type|form|goal|aim|procedure|exam|examination|surgery|risk|outlook|program|report|information|number|rate|value|gene|protein|cell|cost|asset|liability|amount|estimate|side effect|example|feature|finding|option|benefit|abnormalitie|difficultie|control|management|use|loss|growth|damage|improper control)s?$",
    re.I,
)
_VAGUE_MANY = re.compile(
    r"^(?:some|many|several|certain|various|other|a number of|a variety of|different) (?:\w+ )?(?:factors|things|conditions|reasons|ways|types|people|causes|changes|problems|drugs|medicines|tests)$",
    re.I,
)
_NO_DEED = frozenset(
    "include be depend vary differ occur happen appear remain become have range exist result consist seem represent persist "
    "recur present develop arise begin last need mean involve also only either still continue exhibit experience want wish "
    "therefore thus then however naturally often usually sometimes generally".split()
)
ENDS_OPEN = re.compile(
    r"\b(?:find out|see|know|knows|check|ask|asks|determine|decide|tell|tells|say|says|show|shows|learn|test|assess|evaluate|wonder|sure|clear|unknown|known|"
    r"only|even|or|and|but|than|on|of|to|more|except|especially|particularly|as|that|just|often|usually|most|least|for|with|both|where|about|at|by|from|"
    r"so|also|increases?|worsen|because|is|are|not)$",
    re.I,
)
_NO_SUBJECT = re.compile(
    r"^(?:not |still |already |first |properly |inside |outside |under |upon |near |after |before |well |complete |possible|necessary|needed|appropriate|available|applicable|required|untreated|left |given |taken |used |done |"
    r"seen |found |made |held |kept |present|in |on |at |for |to |of |and |or |than |so |as |by |with |any$|\w+ed (?:\w+ly )?(?:early|in|on|at|by|with|to|for|as|from|enough|before|after)\b|\w+ed$|\w+ed (?:or|and) \w+ed\b)",
    re.I,
)
_NO_CLAUSE = re.compile(r"^(?:an?|per) (?:day|week|month|quarter|year|hour)\b|^(?:you|we|one) (?:can|cannot|could|do|did|must|have|are)$|\btoo (?:much|many)$|\bto$|\w: ", re.I)  # fmt: skip
_BROKEN_MAIN = re.compile(
    r"^(?:though|however|therefore|nevertheless|otherwise|for example|for instance),|^(?:even|also|than|because|although|but|with|from|of|such|including|especially|rather|not|not only)\b|^[\w' -]{1,40}, (?:and|or)\b|^[\w' -]{1,30}, [\w' -]{1,30}, (?:and|or)\b"
)
_EMPTY_MEANING = re.compile(
    r"^one of the (?:most|many|best) (?:common|important|frequent|useful|serious|effective)\b|^an? (?:\w+ly |very |more |less )?(?:rare|common|serious|chronic|complex|important|frequent|uncommon|severe|good|normal|major|key|leading|significant|new|possible|medical|first|important first|life-?long|long-term|common and effective|safe and effective)"
    r"(?:,? (?:rare|common|serious|chronic|complex|genetic|inherited))? (?:condition|disorder|disease|problem|cause|syndrome|complication|factor|part|matter|issue|feature|symptom|finding|concern|type|step|area|sign|effect|emergency|treatment|illness|event)s?\b"
    r"(?! (?:that|in which|characteri[sz]ed|caused|marked|where|of|affecting|causing))",
    re.I,
)
_SECOND_PREDICATE = re.compile(
    r"\b(?:and|but) (?:(?:usually|often|also|then) )?(?:may|can|will|is|are|was|has|have|becomes?|usually|often)\b|^the (?:most|least) \w+ (?:feature|symptom|sign|cause|type|form|finding|one)s?(?: and\b|$)"
)
_TIME_ALONE = re.compile(
    r"(?:(?:an?|the|about|to|few|several|some|first|next|many|\d+|\w+teen|\w+ty|one|two|three|four|five|six|ten) )*(?:minute|hour|day|week|month|year)s?"
)
_FORM = re.compile(r"^What (?:happens|applies|should be done|do you do) (\w+) (.+)\?$")
_ANSWERED = re.compile(r"^(?:only )?(if|when|once) (.+)$")
_SECOND_STATEMENT = re.compile(
    r", (?:and|or|but) (?:(?!what|who|which|that)[\w'-]+ ){1,5}?(?:may|can|will|is|are|was|were|must|should|has|have)\b|, (?:and|but) (?:an?|the|your|it|they|he|she) [\w-]+ (?:\w+ )?\w+s\b|^(?:themselves|itself|even|possibly)\b"
)
_AND_IS = re.compile(
    r"\b(?:and|or) (?:[\w'-]+ ){1,3}?(?:is|are|was|were|has|have)\b|, and (?:[\w'-]+ ){1,6}?may\b|\bor \w+ may\b"
)
_GARBLED = re.compile(
    r"(?:\b(?:but|and|or|that|which|so|because|than|if|when|where|while|who)|,)\?$|^What (?:\w+ )?[Ee]ven\b|"
    r"^\w+ (?:else )?(?:is|are|was|were|does|do|may|can|will|should|must) (?:Very )?(?:[Nn]o one\b|[Nn]obody\b|Rarely|Usually|Occasionally|Typically|Generally|Commonly|Frequently|Sometimes|Often|Additionally|Currently|Recently|Finally|Initially|Normally)\b|"
    r"(?i:\b(\w{4,})\w*\b.*) (?:An?|The) (?i:\1)|(?i:\b(\w{4,6})\w*\b.*)(?<=[a-z]) (?=[A-Z])(?i:\2)"
)
"""A dangling word, an adverb taken for a name, or a heading that the source has joined to its sentence."""
_ENDS_BACK = re.compile(
    r"^Having (?:certain|some) \w+$|\bthe (?:underlying )?(?:infection|problem|disease|condition|disorder|cause|test|procedure|medicine|drug)s?$"
)
_AN_ORDER = re.compile(
    r"(?:Make|Be|Ask|Talk|Call|See|Keep|Try|Take|Visit|Check|Schedule|Go|Get|Let|Use|Do|Dont|Don't|Never|Always|So|Nor|Neither|Thus)\b(?! of\b)"
)
_DANGLING = re.compile(
    r"\b(?:for|to|of|in|at|with|from|on|and|or|least|most|until|by|before|after|within|as|take|itself)\?$"
)
_SUBJECT_ASKED = re.compile(r"^What (?:must|should|shall|may|can|will|is|are|does|do) (.+?)(?: do)?\?$")
_MODAL_ASKED = re.compile(r"^(?:Who|What) (?:must|should|shall|may|can|will) (\w+)")


def doubt(pair: Pair) -> str | None:
    """Return what speaks against a pair, or None."""
    quote = pair.quote.rstrip(".!;, ")
    if pair.kind not in LINES:
        if _INLINE_LIST.search(quote) or _OPEN_END.search(quote) or _REPEATED.search(quote):
            return "sentence_broken"
        if (pair.kind != "gap" and _ELSEWHERE.search(pair.question)) or _ELSEWHERE.search(pair.answer):
            return "points_elsewhere"
        if _CUT.search(pair.answer):
            return "answer_cut"
        if _SUCH.search(pair.answer):
            return "answer_unclear"
    if pair.kind == "gap" and _GAP_ANAPHOR.search(pair.question):
        return "question_unclear"
    if pair.kind not in LINES and pair.kind != "gap":
        if _ANAPHOR.search(pair.question):
            return "question_unclear"
        if loses_negation(pair.question, pair.answer, pair.quote):
            return "negation_lost"
    if _two_verbs(pair.question) or _GARBLED.search(pair.question):
        return "question_garbled"
    judge = _JUDGES.get(pair.kind)
    found = judge(pair) if judge else None
    is_two = pair.kind not in LINES and pair.kind != "gap" and re.search(r"[:;] ", pair.question)
    return found or ("question_garbled" if is_two else None)


_POINTS_OUT = re.compile(r"^(?:you|your \w+|someone|anyone|one) (?:[\w']+ ){1,4}(?:it|them)$|\b(?:makes?|made|keeps?|gives?|takes?|causes?) (?:it|them)\b|^(?:its|theirs?|his|her) |^(?:the )?(?:treatment|therapy|symptom|problem|complication|sign|side effect)s? (?!of\b|for\b|to\b|with\b|from\b|in\b)(?:\w+)|^(?:the|this|receiving the|receiving this) (?:\w+ )?(?:tests?|exams?|procedure|surgery|operation|appointment|treatment|biopsy|scan|study|vaccine)$|^the (?:test|exam|scan|biopsy|result)s? (?:is|are|was|were|shows?|comes?)\b", re.I)  # fmt: skip
"""A clause that points to what stands before its sentence."""
_NOT_SO = re.compile(r"In which case (?:do|does|is|are|will|may|can|should) .+ not (?:seem|appear|be|matter|mean)\b")
"""It may hold even if the clause does."""


def _of_condition(pair: Pair) -> str | None:
    asked = _FORM.match(pair.question) or _ANSWERED.match(pair.answer)
    if asked is None:
        return None
    word, clause = asked.group(1), asked.group(2)
    if re.search(r"\bthis\b", clause, re.I) or (word in ("before", "after", "until") and _TIME_ALONE.fullmatch(clause)):
        return "question_unclear"
    if _POINTS_OUT.search(clause):
        return "question_unclear"
    if asked.re is _FORM and pair.answer.startswith(('"', "most often ", "usually ", "who ", "which ")):
        return "condition_broken"
    if (
        re.match(r"(?:an?|the) (?:(?!\w+(?:s|ed) )[\w-]+ ){0,3}[\w-]+$", clause)
        and word in ("if", "when", "once")
        and not has_verb(clause)
    ):
        return "condition_without_clause"
    if asked.re is _ANSWERED and _NOT_SO.match(pair.question):
        return "condition_broken"
    if _NO_CLAUSE.search(clause) or (
        word in ("if", "when", "once", "unless", "where") and (_NO_SUBJECT.match(clause) or len(clause.split()) < 3)
    ):
        return "condition_without_clause"
    if asked.re is _ANSWERED:
        return None
    first, comma, rest = pair.answer.partition(", ")
    if comma and not has_verb(first) and re.match(r"(?:you|your|it|they|he|she|the|an?)\b", rest):
        return "condition_broken"
    if re.search(
        r"^(?:this|such)\b|\bthis (?!is\b)[a-z]+\b|\b(?:these|those)\b(?! (?:who|already|that|which|with|of|in|on)\b)",
        pair.answer,
    ):
        return "answer_unclear"
    if _BROKEN_MAIN.match(pair.answer) or not has_verb(pair.answer):
        return "condition_broken"
    if ENDS_OPEN.search(pair.answer):
        return "condition_broken"
    is_open = word in ("before", "after", "until") and pair.question.startswith(("What happens", "What applies"))
    return "question_open" if is_open and not has_verb(clause) else None


def _of_deed(pair: Pair) -> str | None:
    """What someone may do, and who may do it."""
    subject = _SUBJECT_ASKED.match(pair.question) if pair.kind == "duty" else None
    name = subject.group(1) if subject else pair.answer
    told = pair.answer if subject else pair.question
    if (
        _SECOND_STATEMENT.search(told)
        or _AND_IS.search(told)
        or re.search(r", (?:so|but)\b|\band (?:is|are|was|were)\b", told)
    ):
        return "two_statements"
    if subject and (
        pair.question.startswith("What will ")
        or (
            pair.question.startswith(("What may ", "What can "))
            and re.fullmatch(rf"(?:the|an?|your|your [\w ]+['’]s) (?:doctor|physician|provider|{_ROLES.pattern})", name)
        )
    ):
        return "question_open"
    if subject is None and re.search(
        r"^\w+ (?:\w+ )?then\b|\b(?:with|by|from|of|as|on|upon|for|to|at|after|before)\?$", pair.question
    ):
        return "question_garbled"
    verb = pair.answer.split()[0].strip(",;:") if pair.kind == "duty" else _verb_asked(pair.question)
    if verb in _NO_DEED:
        return "no_deed"
    if pair.kind == "duty" and is_vague(name):
        return "subject_vague"
    if _AN_ORDER.match(name[:1].upper() + name[1:]):
        return "question_garbled"
    if pair.kind == "subject" and (
        _ENDS_BACK.search(pair.answer) or re.search(r"\b(?:this|these|those)\b", pair.answer)
    ):
        return "answer_unclear"
    if pair.kind == "subject" and (
        _ANYONE.match(name) or is_vague(name, person_counts=False) or _POSSESSIVE_FIRST.match(name)
    ):
        return "subject_vague"
    if subject and re.search(r"\b(?:this|these|those)\b", pair.answer):
        return "answer_unclear"
    return "question_unclear" if _ANAPHOR.search(name) or _POSSESSIVE_FIRST.match(name) else None


def _two_verbs(question: str) -> bool:
    """Tell whether behind "do" a second verb was left as it stood: "How long do they come and are trained?"."""
    asked = re.match(
        r"^(?:Why|How|When|Where|At what|From when|Within what|For how|During)\b.*? (?:do|does) (.+)\?$", question
    )
    joined = re.findall(r"\b(?:and|or|but) (?:\w+ly |then |also )?(\w+)", asked.group(1)) if asked else ()
    return any(word in ("is", "are", "was", "were", "has") or base_form(word) is not None for word in joined)


def _verb_asked(question: str) -> str:
    found = _MODAL_ASKED.match(question)
    return found.group(1) if found else ""


def is_vague(name: str, *, person_counts: bool = True) -> bool:
    """A name that tells nothing without the sentences before: "the test", "patients", "some factors"."""
    if _VAGUE_MANY.match(name):
        return True
    if _VAGUE.match(name):
        return (
            person_counts
            or not _PEOPLE.search(name)
            or bool(
                re.match(
                    r"(?:(?:the|an?) (?:person|individual|man|woman|child)|others?|(?:the )?holder|a? ?(?:fourth|third))$",
                    name,
                    re.I,
                )
            )
        )
    if _POINTS_BACK.match(name):
        return True
    return bool(re.fullmatch(r"the [a-z]+", name, re.I)) and not _ROLES.search(name)


_POINTS_BACK = re.compile(r"the (?:[\w-]+ ){1,2}(?:test|exam|scan|procedure|surgery|treatment|therapy|operation|biopsy|study|trial|mutation|gene|defect|infection|tumou?r|drug|medicine)s?$", re.I)  # fmt: skip


_ANYONE = re.compile(r"(?:(?:some|many|most|other|all) )?(?:people|persons|individuals)(?:'s \w+)?$", re.I)
_PEOPLE = re.compile(r"\b(?:patient|people|person|individual|doctor|physician|provider|clinician|scientist|researcher|expert|man|men|woman|women|child|children|adult|parent|member)s?$", re.I)  # fmt: skip
_ROLES = re.compile(r"(?:\w*ologist|\w*iatrist|nurse|manager|porter|pharmacist|midwife|coordinator|registrar|consultant|clerk|officer|surgeon|director|team|board|committee|court|employer|tenant|landlord|supplier|trustee|leader|operator|staff|head|driver|user|customer|judge|applicant|employee|seller|buyer|witness|auditor|chair)s?$", re.I)  # fmt: skip


def _of_object(pair: Pair) -> str | None:
    if re.match(
        r"(?:the|an?|this|these) (?:surgery|operation|procedure|test|tests|exam|treatment|following)\b", pair.answer
    ):
        return "answer_unclear"
    if re.search(r"\b(?:make|let|help|have)\?$", pair.question):
        return "question_garbled"
    found = re.match(r"the ([a-z]+)(?: (?:at|in|on|by) .*)?$", pair.answer)
    if found and not _ROLES.fullmatch(found.group(1)):
        return "answer_unclear"
    return _of_definition(pair)


def _of_definition(pair: Pair) -> str | None:
    subject = _SUBJECT_ASKED.match(pair.question)
    name = subject.group(1) if subject else ""
    if pair.kind == "object":
        name = name.rpartition(" ")[0]
    if subject and (is_vague(name) or _POSSESSIVE_FIRST.match(name)):
        return "subject_vague"
    if re.match(r"you(?:'re| are)\b", pair.answer) or re.search(
        r" [a-z] (?:stand|mean)|^What is [a-z]\?", pair.question
    ):
        return "says_nothing"
    if pair.question.startswith(("What is ", "What are ")) and _SECOND_PREDICATE.search(pair.answer):
        return "two_statements"
    if re.search(
        r"\band \w+ (?:means|refers|stands)\b|\band (?:represents?|occurs?|means|produces?|accounts?|begins?|usually|often|can|may)\b|,? while (?!\w+ing\b)|, and the \w+ (?:is|are)\b",
        pair.answer,
    ):
        return "two_statements"
    if _EMPTY_MEANING.match(pair.answer) or content_stems(pair.answer) <= content_stems(pair.question):
        return "says_nothing"
    if re.search(r"\b(?:rather than|because)\b", pair.answer) and pair.question.endswith(" called?"):
        return "question_garbled"
    if (
        pair.question.endswith(" stand for?")
        and len(pair.answer) > 30
        and has_verb(pair.answer)
        and "," not in pair.answer[:40]
    ):
        return "question_garbled"
    return "answer_unclear" if re.search(r"\b(?:this|these|those)\b", pair.answer) else None


def _of_part(pair: Pair) -> str | None:
    """An adjunct that a comma ends may be the first of several."""
    behind = pair.quote[pair.quote.find(pair.answer) + len(pair.answer) :]
    if re.match(r"[\w'-]", behind):
        return "answer_cut"
    if re.search(r"\b(?:this|these|those)\b", pair.answer):
        return "answer_unclear"
    if pair.kind == "place" and re.match(
        r"to (?!the\b|an?\b|your\b|our\b|their\b|its\b|each\b|every\b|[A-Z\d])[a-z]+|in place$", pair.answer
    ):
        return "answer_cut"
    if pair.kind == "place" and re.search(
        r"\band (?!the\b|an?\b|in\b|on\b|at\b|near\b|under\b|behind\b|to\b)[a-z]+ [a-z]+", pair.answer
    ):
        return "two_statements"
    if re.match(r",.*\b(?:and|or)\b", behind):
        return "answer_incomplete"
    if any(is_verb(word) for word in re.findall(r"\b(?:and|or) (\w+)", pair.answer)):
        return "two_statements"
    asked = _PART_ASKED.match(pair.question)
    return "subject_vague" if asked and is_vague(asked.group(1)) else None


_PART_ASKED = re.compile(
    r"^(?:Where|By whom|What) (?:is|are|was|were|must|should|may|can) (.+?)(?: be)? \w+(?: by)?\?$"
)


def _of_gap(pair: Pair) -> str | None:
    """A line that is no sentence tells too little around its gap."""
    if re.search(r"\w\.\d+ [A-Z]", pair.quote):
        return "sentence_broken"
    if re.match(r"(?:19|20)\d\d ", pair.answer):
        return "gap_broken"  # "fiscal 2019 second quarter" is no span of seconds
    return (
        "sentence_broken"
        if re.match(r"Fill the gap: (?:Usually|Often|Sometimes|Generally|Typically|Mostly) \w+s\b", pair.question)
        else None
    )


def _of_adjunct(pair: Pair) -> str | None:
    return "question_garbled" if _DANGLING.search(pair.question) or _AND_IS.search(pair.question) else None


def _of_effect(pair: Pair) -> str | None:
    """A second verb that the helper carries answers another question."""
    if re.search(r"\b(?:this|these|those)\b", pair.answer) or " resulting " in pair.question:
        return "answer_unclear"
    if re.match(
        r"(?:the|this) (?:disease|disorder|condition|syndrome|problem|infection|symptoms?|signs?)\b(?! (?:of|in|that)\b)",
        pair.answer,
    ):
        return "answer_unclear"
    if _MORE_IS.search(pair.answer) or _AND_IS.search(pair.answer):
        return "two_statements"
    second = re.search(r"\b(?:and|or) (\w+) (?:the|an?|its|their|your|his|her)\b", pair.answer)
    return "two_statements" if second and (is_verb(second.group(1)) or second.group(1) in _LESSENS) else None


def _of_contents(pair: Pair) -> str | None:
    return (
        "subject_vague"
        if re.match(r"What (?:may|can|does|do|should|will|must) the \w+ \w+(?: of)?\?$", pair.question)
        else _of_effect(pair)
    )


_MORE_IS = re.compile(r"\b(?:and|but) (?:is|are|was|were|has|have|does|do|can|may|will)\b")
_LESSENS = frozenset("lessen eliminate ease weaken narrow widen shorten delay slow trigger worsen relieve".split())


def _of_superlative(pair: Pair) -> str | None:
    if _JOINED.search(pair.answer):
        return "sentence_broken"
    return "subject_vague" if re.search(r"\b(?:this|these|those|such|others?)\b", pair.quote) else None


_JOINED = re.compile(r"(?i:\b(\w+(?: \w+)*) \1\b)| (?:An?|The) |[a-z][A-Z]|\*")
"""A heading that the source has joined to its sentence."""


LINES = ("table", "step", "list", "contact", "person", "role")
_JUDGES: dict[str, Callable[[Pair], str | None]] = {
    "condition": _of_condition,
    "duty": _of_deed,
    "subject": _of_deed,
    "definition": _of_definition,
    "place": _of_part,
    "agent": _of_part,
    "cause": _of_part,
    "object": _of_object,
    "effect": _of_effect,
    "contents": _of_contents,
    "superlative": _of_superlative,
    "gap": _of_gap,
    "time": _of_adjunct,
    "deadline": _of_adjunct,
    "reason": _of_adjunct,
    "duration": _of_adjunct,
    "frequency": _of_adjunct,
}
