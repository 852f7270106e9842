from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.montecarlo.prices.dates import parse_dates
from apps.montecarlo.prices.numerals import Located, Place
from core import InputError

PLACE = Place("p.csv", "line", "Date")
TODAY = date(2026, 6, 30)


def parse(*cells: object) -> list[datetime]:
    return parse_dates([Located(line, cell) for line, cell in enumerate(cells, 2)], PLACE, TODAY).moments  # type: ignore[arg-type]


def notes(*cells: object) -> tuple[str, ...]:
    return parse_dates([Located(line, cell) for line, cell in enumerate(cells, 2)], PLACE, TODAY).notes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cells",
    [
        ("2021-01-04", "2021-01-15"), ("2021/01/04", "2021/01/15"), ("2021.01.04", "2021.01.15"),
        ("20210104", "20210115"), (20210104.0, 20210115.0), ("2021-1-4", "2021-1-15"),
        ("01/04/2021", "01/15/2021"), ("1/4/2021", "1/15/2021"), ("1/4/21", "1/15/21"), ("1-4-2021", "1-15-2021"),
        ("04/01/2021", "15/01/2021"), ("04.01.2021", "15.01.2021"), ("4.1.21", "15.1.21"),
        ("04-Jan-21", "15-Jan-21"), ("04-JAN-2021", "15-JAN-2021"), ("4 Jan 2021", "15 January 2021"),
        ("Jan 04, 2021", "Jan 15, 2021"), ("January 4, 2021", "January 15, 2021"),
        ("Mon, 04 Jan 2021", "Fri, 15 Jan 2021"),
        ("Mon Jan 4 2021", "Fri Jan 15 2021"), ("2021-Jan-04", "2021-Jan-15"),
        ("44200", "44211"), (44200.0, 44211.0), ("1609718400", "1610668800"), ("1609718400000", "1610668800000"),
        (1609718400.0, 1610668800.0), ("2021-01-04 00:00:00", "2021-01-15 00:00:00"),
        ("2021-01-04T00:00:00Z", "2021-01-15T00:00:00Z"), ("2021-01-04 16:00:00 EST", "2021-01-15 16:00:00 EST"),
        ("2021-01-04 00:00:00-05:00", "2021-01-15 00:00:00-05:00"), ("1/4/2021 4:00 PM", "1/15/2021 4:00 PM"),
        ("1/4/2021 16:00:00", "1/15/2021 16:00:00"), ("2021-01-04 00:00:00+09:00", "2021-01-15 00:00:00+09:00"),
        (datetime(2021, 1, 4), datetime(2021, 1, 15)),
        (datetime(2021, 1, 4, tzinfo=timezone(timedelta(hours=9))), datetime(2021, 1, 15)),
    ],
    ids=lambda cells: str(cells[0]),
)  # fmt: skip
def test_a_date_is_read_in_every_way_that_exports_write_it(cells: tuple[object, object]) -> None:
    assert parse(*cells) == [datetime(2021, 1, 4), datetime(2021, 1, 15)]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("2020-01", "2020-02"), [datetime(2020, 1, 31), datetime(2020, 2, 29)]),
        (("2019M11", "2019M12"), [datetime(2019, 11, 30), datetime(2019, 12, 31)]),
        (("2019-Q4", "2020Q1"), [datetime(2019, 12, 31), datetime(2020, 3, 31)]),
        (("Q4 2019", "Q1-2020"), [datetime(2019, 12, 31), datetime(2020, 3, 31)]),
        (("Jan 2020", "2020 FEB"), [datetime(2020, 1, 31), datetime(2020, 2, 29)]),
    ],
)
def test_months_and_quarters_are_dated_by_their_last_day(cells: tuple[str, ...], expected: list[datetime]) -> None:
    assert parse(*cells) == expected


@pytest.mark.parametrize(
    ("text", "year"),
    [("04-Jan-21", 2021), ("04-Jan-26", 2026), ("04-Jan-27", 1927), ("04-Jan-99", 1999), ("04-Jan-00", 2000)],
)  # fmt: skip
def test_a_year_of_two_digits_is_the_latest_that_has_been(text: str, year: int) -> None:
    assert parse(text)[0].year == year
    assert notes(text) == (f"Years of two digits are read as {year} to {year}.",)


@pytest.mark.parametrize("text", ["0021-01-04", "1899-12-31", "01/04/0099"])
def test_a_date_before_1900_is_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"line 2, column 'Date': date .* is before 1900; write years with four digits"
    ):
        parse(text)


@pytest.mark.parametrize(
    "cell",
    ["yesterday", "", "2020-13-01", "2020-02-30", "1", "12", "32/13/2020", "31.02.2020", "04-Foo-21", "2020",
     "99999999", "1e5", None, -5.0, float("inf"), 3.0, "2020-01-04 25:00", "2020-01-04x", "2020-Q5"],
)  # fmt: skip
def test_what_is_no_date_is_named_with_its_line_and_column(cell: object) -> None:
    with pytest.raises(InputError, match=r"p\.csv: line 3, column 'Date': .* is not a date; write dates as YYYY-MM-DD"):
        parse("2020-01-01", cell)


MONTH_STARTS = [date(2020 + i // 12, i % 12 + 1, 1) for i in range(36)]
FIRST_DAYS = [date(2020, month, day) for month in (1, 2, 3) for day in range(1, 13)]


@pytest.mark.parametrize("order", ["%m/%d/%Y", "%d/%m/%Y"])
@pytest.mark.parametrize("days", [MONTH_STARTS, FIRST_DAYS], ids=["months", "days"])
def test_dates_that_two_orders_allow_are_read_in_the_one_that_spaces_them_evenly(order: str, days: list[date]) -> None:
    texts = [day.strftime(order) for day in days]

    assert [moment.date() for moment in parse(*texts)] == days
    assert ("month first" if order == "%m/%d/%Y" else "day first") in notes(*texts)[0]


@given(
    start=st.dates(date(1970, 1, 1), date(2020, 1, 1)),
    pattern=st.sampled_from(
        ["%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%b-%y", "%m/%d/%y", "%b %d, %Y", "%Y%m%d"]
    ),
    step=st.sampled_from([1, 7]),
    newest_first=st.booleans(),
)
def test_dates_of_any_pattern_are_read_right(start: date, pattern: str, step: int, newest_first: bool) -> None:
    days = [start + timedelta(days=step * i) for i in range(60)][:: -1 if newest_first else 1]

    assert [moment.date() for moment in parse(*(day.strftime(pattern) for day in days))] == days


def test_times_of_the_day_are_kept_where_a_day_has_several() -> None:
    moments = parse("2021-01-04 09:30", "2021-01-04 10:30", "2021-01-05 09:30", "2021-01-05 10:30")

    assert moments[1] == datetime(2021, 1, 4, 10, 30)


def test_noon_and_midnight_are_told_apart_on_a_clock_of_twelve_hours() -> None:
    moments = parse("1/15/2021 12:30 AM", "1/15/2021 11:30 AM", "1/15/2021 12:30 PM", "1/15/2021 4:00 PM")

    assert [moment.hour for moment in moments] == [0, 11, 12, 16]


def test_times_stay_those_of_the_place_where_no_hour_comes_twice() -> None:
    days = ["2021-11-05 09:30-04:00", "2021-11-05 10:30-04:00", "2021-11-08 09:30-05:00", "2021-11-08 10:30-05:00"]

    assert [(moment.day, moment.hour) for moment in parse(*days)] == [(5, 9), (5, 10), (8, 9), (8, 10)]


def test_offsets_keep_the_hour_that_a_clock_repeats_in_autumn() -> None:
    hours = ["2021-11-07 00:30-04:00", "2021-11-07 01:30-04:00", "2021-11-07 01:30-05:00", "2021-11-07 02:30-05:00"]

    moments = parse(*hours)

    assert moments == [datetime(2021, 11, 7, hour, 30) for hour in (4, 5, 6, 7)]
    assert notes(*hours) == ("Times are in UTC.",)
