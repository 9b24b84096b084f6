"""Tell whether a reply declines: says that the passages do not tell, or will not do what was asked.

Phrases, looked for where a reply begins: what comes later is advice or a quotation. Refusals without any of them
are missed, as docs/evaluate.md says with figures against human labels.
"""

from __future__ import annotations

import re

from fieldwise.prompts import is_declined

_BEGINNING_CHARS = 320
_SOURCE = r"(?:passages?|documents?|texts?|context|information|excerpts?|sources?|polic(?:y|ies)|provided \w+)"
_SAYS = r"(?:say|state|mention|specify|contain|provide|include|give|indicate|tell|cover|address|answer|list)"
_PHRASES = (
    rf"\b{_SOURCE}(?: \[?\d\]?)?(?: (?:above|provided|given|here))? (?:do|does|did)(?: not|n't) {_SAYS}",
    rf"\bnot (?:stated|mentioned|specified|given|provided|found|available|said|covered|listed|disclosed) (?:\w+ )?(?:in|by|within) (?:the |any |these |this |of )*(?:\w+ )?{_SOURCE}",
    r"\bno (?:information|mention|details?|data|statement)\b.{0,40}\b(?:in|about|on|regarding|of)\b",
    r"\b(?:cannot|can not|can't) be (?:determined|answered|found|inferred)\b",
    r"\bi (?:do not|don't) (?:know|have (?:any |enough |that |this |access|the )*(?:information|data|access|details|knowledge))",
    r"\bi(?: am|'m) (?:not able|unable|not allowed|not permitted|not authori[sz]ed|prohibited|not going|not comfortable)\b",
    r"\bi (?:must|have to|need to|should|will have to|would have to) (?:decline|refuse|respectfully decline|strongly advise against)",
    r"\bi (?:cannot|can not|can't|could not|couldn't|will not|won't|would not|wouldn't|do not|don't|must not|shouldn't|should not|am not)(?: \w+){0,2} (?:help|assist|provide|give|share|support|condone|engage|encourage|create|write|offer|answer|disclose|reveal|discuss|fulfil|fulfill|comply|participate|do that|do this|generate|explain|advise|endorse|promote|describe|tell you|tell that|say|recommend|suggest|make|guide|repeat|show|carry|speculate|respond|continue|allow)",
    r"\b(?:sorry|apologi[sz]e|apologies),? (?:but|i|we|that)\b.{0,60}\b(?:can't|cannot|can not|unable|not able|won't|will not|not)\b",
    r"^\W*(?:no|sorry)[,.!] (?:i|we|that|this|it)\b.{0,40}\b(?:not|n't|never)\b",
    r"\b(?:your|the|this) (?:request|question|information|data)(?: is|'s| would be)(?: \w+){0,2} (?:illegal|unethical|not allowed|not permitted|against the law|confidential|not appropriate|inappropriate)\b",
    r"^\W*(?:this|that)(?: is|'s| would be)(?: \w+){0,2} (?:illegal|unethical|not allowed|not permitted|against the law|confidential|not appropriate|inappropriate)\b",
    r"\bi (?:do not|don't) (?:think|believe|feel)(?: that)? (?:it is|it's|it would be|this is|that is) (?:\w+ )?(?:appropriate|acceptable|right|ethical|accurate|fair|respectful)\b",
    r"\b(?:it is|it's) (?:not |never )(?:ethical|legal|appropriate|acceptable|okay|ok|right|possible for me|safe) (?:or \w+ )?(?:to|for)\b",
    r"\bas an? (?:responsible |ethical |helpful )?(?:ai|artificial|language|digital|assistant).{0,60}\b(?:can't|cannot|can not|unable|not able|not capable|must)\b",
    r"\b(?:against|violates?|goes against) (?:my|the|our) (?:\w+ ){0,2}(?:guidelines|polic(?:y|ies)|rules|principles|instructions|programming|values)",
)
_DECLINES = re.compile("|".join(f"(?:{p})" for p in _PHRASES), re.IGNORECASE)


def declines(text: str) -> bool:
    """Tell whether a reply declines, in our own words or in those models commonly use; an empty reply declines.

    >>> declines("Not stated in the documents."), declines("I'm sorry, but I can't help with that."), declines("14 days")
    (True, True, False)
    """
    if is_declined(text):
        return True
    plain = text.replace("’", "'").replace("‘", "'")
    return _DECLINES.search(" ".join(plain.split())[:_BEGINNING_CHARS]) is not None
