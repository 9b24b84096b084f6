import random
from collections.abc import Callable, Iterator

import pytest

from fieldwise.generate.alterations import (
    is_opposite,
    is_other_date,
    is_other_number,
    is_other_unit,
    opposites,
    other_dates,
    other_numbers,
    other_units,
)

RNG = random.Random(0)


def every(alter: Callable[[str, str, random.Random], Iterator[str]], answer: str, avoid: str = "") -> set[str]:
    return set(alter(answer, f"{answer}\n{avoid}", random.Random(0)))


# ---------------------------------------------------------------- numbers


def test_another_number_is_near_written_alike_and_stands_nowhere_else() -> None:
    assert every(other_numbers, "14 days") == {f"{n} days" for n in (4, 12, 13, 15, 16, 17, 19, 24, 28, 7)}
    assert every(other_numbers, "14 days", "15 men, sixteen and twelve boxes, on 17.03., 19, 24, 28, 7, 4") == {
        "13 days"
    }


@pytest.mark.parametrize(
    ("answer", "one"),
    [
        ("2.5 mg", "2.6 mg"),
        ("1,000 beds", "1,001 beds"),
        ("two tablets", "three tablets"),
        ("Two tablets", "Three tablets"),
        ("extension 0412", "extension 0413"),
        ("500mg", "502mg"),
        ("12% of them", "13% of them"),
    ],
)
def test_a_number_keeps_its_form(answer: str, one: str) -> None:
    found = every(other_numbers, answer)
    assert one in found
    assert all(is_other_number(answer, text) for text in found)


@pytest.mark.parametrize(
    "answer",
    [
        "1 day",  # another number needs another noun
        "0 beds",
        "on 12 March 2024",
        "at 08:30",
        "2024-03-12",
        "Monday",
        "2-3 hours",
        "form PH-22",
        "H2O",
        "the 2nd floor",
        "120/80",
        "section 4.2.1",
        "the nurse in charge",
    ],
)
def test_dates_ranges_and_names_are_no_numbers_to_change(answer: str) -> None:
    assert every(other_numbers, answer) == set()


def test_zero_and_one_are_never_put_in() -> None:
    assert {"1 days", "0 days", "-1 days"}.isdisjoint(every(other_numbers, "2 days"))


# ---------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("answer", "one"),
    [
        ("12 March 2024", "13 March 2024"),
        ("12 March 2024", "12 April 2024"),
        ("12 March 2024", "12 March 2025"),
        ("March 5", "March 7"),
        ("2024-03-12", "2024-03-14"),
        ("on Monday", "on Friday"),
        ("at 08:30", "at 09:30"),
        ("from 23:15", "from 00:15"),
        ("in 2019", "in 2020"),
        ("1st of May", "1st of June"),
    ],
)
def test_another_date_is_one_of_the_calendar(answer: str, one: str) -> None:
    found = every(other_dates, answer)
    assert one in found
    assert all(is_other_date(answer, text) and not is_other_number(answer, text) for text in found)


def test_no_day_is_made_that_does_not_exist() -> None:
    found = every(other_dates, "31 January 2024")
    assert "31 March 2024" in found
    assert {"31 February 2024", "31 April 2024", "32 January 2024"}.isdisjoint(found)
    assert "29 February 2025" not in every(other_dates, "29 February 2024")


def test_a_date_that_stands_elsewhere_is_not_put_in() -> None:
    assert "13 March 2024" not in every(other_dates, "12 March 2024", "The second visit is on 13 March 2024.")


def test_a_quantity_of_four_digits_is_no_year() -> None:
    assert every(other_dates, "in 2000 patients") == set()
    assert every(other_dates, "14 days") == set()


# ---------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("answer", "others"),
    [
        ("500 mg twice a day", {"500 mcg twice a day", "500 µg twice a day", "500 g twice a day", "500 kg twice a day"}),
        ("14 days", {"14 minutes", "14 hours", "14 weeks", "14 months"}),
        ("two weeks", {"two hours", "two days", "two months", "two years"}),
        ("5 million", {"5 thousand", "5 billion", "5 trillion"}),
        ("10 working days", {"10 working minutes", "10 working hours", "10 working weeks", "10 working months"}),
        ("2 °C", {"2 °F"}),
        ("a 14-day rule", {"a 14-minute rule", "a 14-hour rule", "a 14-week rule", "a 14-month rule"}),
    ],
)  # fmt: skip
def test_another_unit_is_of_the_same_kind(answer: str, others: set[str]) -> None:
    assert every(other_units, answer) == others
    assert all(is_other_unit(answer, text) for text in others)


def test_a_unit_that_stands_behind_the_same_figure_elsewhere_is_not_put_in() -> None:
    assert every(other_units, "14 days", "After 14 weeks it ends.") == {"14 minutes", "14 hours", "14 months"}


def test_a_word_without_a_figure_is_no_unit() -> None:
    assert every(other_units, "for days, m and g") == set()


# ---------------------------------------------------------------- negation


@pytest.mark.parametrize(
    ("answer", "opposite"),
    [
        ("Staff must not open the door", "Staff must open the door"),
        ("it cannot be changed", "it can be changed"),
        ("Never leave the key", "Always leave the key"),
        ("Do not open the box", "Open the box"),
        ("it isn't sterile", "it is sterile"),
        ("given without food", "given with food"),
        ("The log is kept", "The log is not kept"),
        ("they may leave", "they may not leave"),
        ("visitors can park here", "visitors cannot park here"),
        ("always with food", "never with food"),
    ],
)
def test_the_opposite_has_one_negation_more_or_less(answer: str, opposite: str) -> None:
    assert every(opposites, answer) == {opposite}
    assert is_opposite(answer, opposite)


@pytest.mark.parametrize(
    "answer",
    [
        "14 days",
        "only the nurse can open it",
        "the adult dose, always",
        "not only nurses",
        "it is not never done",
        "whether it is so",
        "it is not unusual",
        "no more than 5",
    ],
)
def test_what_has_no_clear_opposite_is_left_alone(answer: str) -> None:
    assert every(opposites, answer) == set()


def test_an_opposite_that_the_passages_state_is_not_made() -> None:
    assert every(opposites, "they may leave", "At night they may not leave.") == set()


# ---------------------------------------------------------------- proofs


@pytest.mark.parametrize("proof", [is_other_number, is_other_date, is_other_unit, is_opposite])
def test_no_proof_holds_for_equal_texts_or_two_changes(proof: Callable[[str, str], bool]) -> None:
    assert not proof("12 March, 14 days, it is so", "12 March, 14 days, it is so")
    assert not proof("12 March, 14 days, it is so", "13 March, 15 weeks, it is not so")


def test_a_proof_looks_at_what_changed() -> None:
    assert not is_other_number("14 days", "14 weeks") and not is_other_unit("14 days", "15 days")
    assert not is_other_date("14 days", "15 days") and not is_other_number("12 March", "13 March")
    assert not is_other_unit("14 days", "14 people") and not is_opposite("14 days", "15 days")
