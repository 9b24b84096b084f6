"""Which subjects are people: asked for with "who", and "him or her" in a follow-up."""

from __future__ import annotations

import re

_PERSON = re.compile(
    r"\b(?:nurse|doctor|officer|manager|pharmacist|coordinator|lead|registrar|consultant|porter|clerk|secretary|director|technician|team|midwife|sister|matron|physician|surgeon|staff|supervisor|assistant|head|chair|attorney|counsel|judge|employee|customer|tenant|landlord|supplier|client|auditor|trustee|committee|board|patient|visitor|relative|parent|volunteer|user|member|people|person|applicant|witness|contractor|driver|cashier|teller|trader|"
    r"\w+ologist|\w+iatrist|\w+etrician|\w*nutritionist|dieti[ct]ian|geneticist|counsell?or|worker|caretaker|travell?er|caregiver|carer|provider|professional|specialist|therapist|dentist|individual|woman|women|man|men|child|children|adult|student|interpreter|"
    r"famil(?:y|ie)|infant|bab(?:y|ie)|newborn|girl|boy|teen|teenager|male|female|scientist|researcher|expert|investor|shareholder|holder|lender|borrower|someone|anyone|everyone)s?$",
    re.I,
)
_BEHIND_A_NOUN = re.compile(
    r" (?:of|in|with|without|among|for|from|at|on|treated|diagnosed|born|aged|younger|older|taking|living|receiving|who) "
)


def is_person(subject: str) -> bool:
    """Whether a subject names people, by the noun that all else hangs on: asked for with "who".

    >>> is_person("The staff at the sleep centre"), is_person("The outlook for people with gout")
    (True, False)
    """
    name = _BEHIND_A_NOUN.split(subject, maxsplit=1)[0]
    if name.casefold() == "lead" or re.match(r"\w+ing ", name) or re.search(r"\w an? ", name):
        return False
    return _PERSON.search(name) is not None
