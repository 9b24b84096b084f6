"""Check digits: what tells an identifier from any other run of digits."""

from __future__ import annotations

IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK MN",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "FR GR IT MC MR SM BI DJ",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
"""Characters of an IBAN by country, from the SWIFT IBAN registry."""


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1).

    From the right every second digit is doubled, its digits added; the sum of 79927398713 is 70, a multiple of 10.

    >>> luhn("79927398713"), luhn("79927398710")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_npi(digits: str) -> bool:
    """Whether ten digits are a US National Provider Identifier: Luhn over 80840 and the number, first digit 1 or 2.

    >>> is_npi("1234567893"), is_npi("1234567890")
    (True, False)
    """
    return len(digits) == 10 and digits[0] in "12" and luhn("80840" + digits)


def is_card(digits: str) -> bool:
    """Whether digits are a payment card number: a known issuer, its lengths, and Luhn.

    >>> is_card("4111111111111111"), is_card("4111111111111112"), is_card("9111111111111110")
    (True, False, False)
    """
    return len(set(digits)) > 1 and len(digits) in _card_lengths(digits) and luhn(digits)


def _card_lengths(digits: str) -> tuple[int, ...] | range:
    """Lengths that the issuer of a card uses, by the first digits of its numbers."""
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    issuers: tuple[tuple[bool, tuple[int, ...] | range], ...] = (
        (two // 10 == 4, (13, 16, 19)),  # Visa
        (51 <= two <= 55 or 2221 <= four <= 2720, (16,)),  # Mastercard
        (two in (34, 37), (15,)),  # American Express
        (300 <= three <= 305 or two in (36, 38, 39), range(14, 20)),  # Diners Club
        (3528 <= four <= 3589, range(16, 20)),  # JCB
        (four == 6011 or two == 65 or 644 <= three <= 649, range(16, 20)),  # Discover
        (two == 62, range(16, 20)),  # UnionPay
        (four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763), range(12, 20)),  # Maestro
    )
    return next((lengths for fits, lengths in issuers if fits), ())


def is_iban(text: str) -> bool:
    """Whether letters and digits without blanks are an IBAN: the country's length, and 1 modulo 97 (ISO 13616).

    >>> is_iban("GB82WEST12345698765432"), is_iban("GB82WEST12345698765433")
    (True, False)
    """
    text = text.upper()
    if len(text) != IBAN_LENGTHS.get(text[:2]) or not (text.isascii() and text.isalnum() and text[2:4].isdigit()):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def is_ssn(digits: str) -> bool:
    """Whether nine digits can be a US Social Security number: no area 000, 666 or 9xx, no group 00, no serial 0000.

    >>> is_ssn("536221234"), is_ssn("000221234"), is_ssn("536001234")
    (True, False, False)
    """
    return (
        len(digits) == 9
        and digits[:3] not in ("000", "666")
        and digits[0] != "9"
        and digits[3:5] != "00"
        and digits[5:] != "0000"
    )


def is_dea(text: str) -> bool:
    """Whether two letters and seven digits are a DEA registration: 1st + 3rd + 5th + 2 (2nd + 4th + 6th) ends in the 7th.

    >>> is_dea("AB1234563"), is_dea("AB1234567")
    (True, False)
    """
    digits = [int(c) for c in text[2:]]
    return (sum(digits[0:5:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


def is_nhs_number(digits: str) -> bool:
    """Whether ten digits are an NHS number: weights 10 to 2 over nine digits, 11 minus the remainder by 11.

    >>> is_nhs_number("9434765919"), is_nhs_number("9434765918")
    (True, False)
    """
    check = 11 - sum(int(d) * w for d, w in zip(digits[:9], range(10, 1, -1), strict=True)) % 11
    return check != 10 and check % 11 == int(digits[9])
