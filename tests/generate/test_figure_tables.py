import random

import pytest

from fieldwise.generate.rules import from_table


def asked(*rows: str) -> dict[str, str]:
    lines = [f"| {row} |" for row in rows]
    lines.insert(1, "|" + " --- |" * (rows[0].count("|") + 1))
    return {p.question: p.answer for p in from_table("\n".join(lines), "T", random.Random(0))}


def test_years_below_the_period_they_belong_to() -> None:
    found = asked(" | Year Ended December 31, | ", " | 2019 | 2018", "Gross profit | 315 | 365")
    assert found == {
        "What figure is given for Gross profit for the year ended December 31, 2019?": "315",
        "What figure is given for Gross profit for the year ended December 31, 2018?": "365",
    }


@pytest.mark.parametrize(
    ("rows", "question"),
    [
        ((" | 2019 | 2018", " | £m | £m", "Net debt | 295.2 | 235.8"), "What figure is given for Net debt in 2019 (£m)?"),
        (("(In thousands) | 2019 | 2018", "Revenue | 9 | 8"), "What figure is given for Revenue in 2019 (In thousands)?"),
        ((" | 2019 | 2018", "(In thousands) |  | ", "Revenue | 9 | 8"), "What figure is given for Revenue in 2019 (In thousands)?"),
        ((" | March 31, | ", " | 2019 | 2018", "Land | 9 | 8"), "What figure is given for Land as of March 31, 2019?"),
        ((" | Year Ended | ", " | December 31, | ", " | 2019 | 2018", "Operating cash | 9 | 8"), "What figure is given for Operating cash for the year ended December 31, 2019?"),
        ((" | Low | High", "First quarter | 5.99 | 8.40"), 'What figure is given for First quarter under "Low"?'),
        (("£m | 2019 | 2018", "Net debt to EBITDA | 0.9 | 0.8"), "What figure is given for Net debt to EBITDA in 2019?"),
    ],
)  # fmt: skip
def test_the_question_names_row_period_and_unit(rows: tuple[str, ...], question: str) -> None:
    assert question in asked(*rows)


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("two columns of one name", ("Score | 3 | 1 | 1 | 3", "Breaths | 7 | 8 | 21 | 28")),
        ("two rows of one name", (" | 2019 | 2018", "RSUs |  | ", "Shares held | 4 | 3", "PSUs |  | ", "Shares held | 2 | 1")),
        ("a heading over some columns", (" | Actual |  | Planned | ", " | Net | Share | Net | Share", "North | 1 | 2 | 3 | 4")),
        ("rows below a date", (" | First | Second", "2018 |  | ", "Net sales | 117 | 120")),
        ("a section and a name that needs it", (" | 2019 | 2018", "Current |  | ", "Federal | 5 | 4")),
        ("units that differ", (" | 2019 | 2018", " | £m | %", "Revenue | 5 | 4")),
        ("shares without their sign", (" | 2019 | 2018", "Sales | 100.0 % | 100.0 %", "Operating expenses | 27.0 | 26.0")),
        ("dashes", (" | 2019 | 2018", "Impairment | - | —")),
    ],
)  # fmt: skip
def test_what_row_and_column_do_not_name_is_not_asked(why: str, rows: tuple[str, ...]) -> None:
    found = asked(*rows)
    assert not any("27.0" in a for a in found.values()) and (why == "shares without their sign" or found == {}), why


def test_tables_of_words_are_asked_as_before() -> None:
    found = asked("Box | Colour", "Anaphylaxis | Yellow", "Eclampsia | Turquoise")
    assert set(found.values()) == {"Yellow", "Turquoise"}
    assert all("colour" in question for question in found)
