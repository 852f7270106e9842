from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.montecarlo.prices.numerals import Located, Place, parse_numbers
from core import InputError

PLACE = Place("p.csv", "line", "Close")


def parse(*texts: object, delimiter: str = ",", others: list[str] | None = None) -> list[float]:
    cells = [Located(line, text) for line, text in enumerate(texts, 2)]  # type: ignore[arg-type]
    return parse_numbers(cells, PLACE, delimiter, others or []).values


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1234.5", "987"], [1234.5, 987]),
        (["1,234.56", "987.10"], [1234.56, 987.1]),
        (["1,234,567", "987,654"], [1234567, 987654]),
        (["12,34,567.50", "99,999.00"], [1234567.5, 99999]),
        (["1.234,56", "987,10"], [1234.56, 987.1]),
        (["1.234.567", "987.654"], [1234567, 987654]),
        (["0,123", "1,234"], [0.123, 1.234]),
        (["0.123", "1.234"], [0.123, 1.234]),
        (["1 234,5", "987,25"], [1234.5, 987.25]),
        (["1\u202f234,567", "2\u00a0345"], [1234.567, 2345]),
        (["1'234.50", "12’345.00"], [1234.5, 12345]),
        (["$1,234.50", "$ 99.00"], [1234.5, 99]),
        (["1.234,50 €", "99,00 €"], [1234.5, 99]),
        (["USD 12.5", "USD 13.5"], [12.5, 13.5]),
        (["−12.5", "+13.25"], [-12.5, 13.25]),
        (["1.5e3", "2E+2"], [1500, 200]),
        ([1.234, 5.0], [1.234, 5.0]),
        (["1.234", "1.5"], [1.234, 1.5]),
        (["1.234", "1,5"], [1234, 1.5]),
    ],
    ids=str,
)
def test_the_decimal_sign_is_that_of_the_whole_column(texts: list[object], expected: list[float]) -> None:
    assert parse(*texts, delimiter=";") == expected


def test_three_decimals_after_a_point_are_decimals_where_commas_part_the_cells_and_this_is_said() -> None:
    read = parse_numbers([Located(2, "1.234"), Located(3, "1.235")], PLACE, ",")

    assert read.values == [1.234, 1.235]
    assert read.notes == ("Prices such as 1.234 are read with a decimal point, not as thousands.",)
    assert parse_numbers([Located(2, "1.234"), Located(3, "1.25")], PLACE, ",").notes == ()


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [("1.234", ","), ("1,234", ","), ("1,234", ";"), ("1.234", ";"), ("1.234", "\t"), ("999,999", "")],
)
def test_a_number_that_may_be_a_thousand_or_about_one_is_refused(text: str, delimiter: str) -> None:
    with pytest.raises(InputError, match=r"p\.csv: line 3, column 'Close': .* may be .* or "):
        parse("987", text, delimiter=delimiter)


@pytest.mark.parametrize(("others", "expected"), [(["2,345.5"], 1234), (["2.345,5"], 1.234), (["0,5", "7"], 1.234)])
def test_other_columns_decide_what_a_column_leaves_open(others: list[str], expected: float) -> None:
    assert parse("1,234", others=others) == [expected]


def test_two_decimal_signs_in_one_column_are_refused_with_both_lines() -> None:
    with pytest.raises(InputError, match=r"line 4, column 'Close': '3,5' has a decimal comma, but '1\.5' in line 2"):
        parse("1.5", "2", "3,5")


@pytest.mark.parametrize(
    "text",
    ["abc", "1,23.4", "1.2.3", "12 34", "1 2345", "1_000", "inf", "1e999", "0x10", "5%", "(3.5)", "1..2", "١٢", "--5",
     "1,2345.6", "12,34,5.0", "1.234,567,8"],
)  # fmt: skip
def test_what_is_no_number_is_named_with_its_line_and_column(text: str) -> None:
    with pytest.raises(InputError, match=r"p\.csv: line 3, column 'Close': "):
        parse("100.5", text)


def test_two_currencies_in_one_column_are_refused() -> None:
    with pytest.raises(InputError, match=r"line 3, column 'Close': '€101\.5', after prices in \$"):
        parse("$100.5", "€101.5")


STYLES = {
    "us": (",", ".", ","), "german": (".", ",", ";"), "french": (" ", ",", ";"), "narrow": ("\u202f", ",", ";"),
    "swiss": ("'", ".", ";"), "plain": ("", ".", ","), "comma": ("", ",", ";"),
}  # fmt: skip


@given(
    cents=st.lists(st.integers(1, 10**9), min_size=1, max_size=20),
    decimals=st.integers(0, 4),
    style=st.sampled_from(sorted(STYLES)),
)
def test_a_column_in_any_style_is_read_right_or_refused(cents: list[int], decimals: int, style: str) -> None:
    group, point, delimiter = STYLES[style]
    values = [cent / 10**decimals for cent in cents]
    texts = [f"{value:,.{decimals}f}".replace(",", "G").replace(".", point).replace("G", group) for value in values]

    try:
        read = parse(*texts, delimiter=delimiter)
    except InputError:
        return

    assert read == values
