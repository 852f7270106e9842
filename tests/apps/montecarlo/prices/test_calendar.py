from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from apps.montecarlo.prices.calendar import Spacing, dates_ahead, spacing_of

START = date(2015, 1, 5)


def every(days: int, count: int = 120) -> list[date]:
    return [START + timedelta(days=days * i) for i in range(count)]


def on_weekdays(open_days: str, count: int = 300) -> list[date]:
    return [day for day in every(1, 2 * count) if open_days[day.weekday()] == "1"][:count]


def months(step: int, day: int | None, count: int = 60) -> list[date]:
    """Return every so-many months a day, or the last day of the month."""
    firsts = [date(2010 + i // 12, i % 12 + 1, 1) for i in range(0, step * count, step)]
    if day is not None:
        return [first.replace(day=day) for first in firsts]
    return [(first + timedelta(days=32)).replace(day=1) - timedelta(days=1) for first in firsts]


def business_month_ends(count: int = 60) -> list[date]:
    return [end - timedelta(days=max(0, end.weekday() - 4)) for end in months(1, None, count)]


def sessions(minutes: int, per_day: int, days: list[date]) -> list[datetime]:
    opening = timedelta(hours=9, minutes=30)
    return [
        datetime(day.year, day.month, day.day) + opening + timedelta(minutes=minutes * i)
        for day in days
        for i in range(per_day)
    ]


def twice_a_month() -> list[date]:
    return [date(2015 + month // 12, month % 12 + 1, day) for month in range(36) for day in (1, 15)]


def hours_around_the_clock(count: int = 24 * 30) -> list[datetime]:
    return [datetime(2021, 1, 4) + timedelta(hours=i) for i in range(count)]


def hours_of_currencies(last: datetime = datetime(2021, 2, 26, 21)) -> list[datetime]:
    """Return every hour from Sunday at 22:00 to Friday at 21:00."""
    hours = [datetime(2021, 1, 3, 22) + timedelta(hours=i) for i in range(24 * 60)]
    return [hour for hour in hours if hour <= last and (hour.weekday() * 24 + hour.hour + 2) % 168 < 120]


@pytest.mark.parametrize(
    ("dates", "adjective", "per_year"),
    [
        (on_weekdays("1111100"), "daily", 252),
        (on_weekdays("1111111"), "daily (seven days a week)", 365),
        (on_weekdays("1111001"), "daily", 252),
        (every(7), "weekly", 52),
        (every(14), "two-weekly", 26),
        (months(1, 1), "monthly", 12),
        (months(1, None), "monthly", 12),
        (business_month_ends(), "monthly", 12),
        (months(3, None), "quarterly", 4),
        (months(6, 15), "half-yearly", 2),
        (months(12, 31), "yearly", 1),
        (sessions(60, 7, on_weekdays("1111100", 60)), "intraday (hour)", 7 * 252),
        (sessions(1, 390, on_weekdays("1111100", 20)), "intraday (minute)", 390 * 252),
        (hours_around_the_clock(), "intraday (hour)", 24 * 365),
        (hours_of_currencies(), "intraday (hour)", 24 * 252),
        (every(50), "uneven (every 50 days on average)", 365.25 / 50),
        (every(28), "uneven (every 28 days on average)", 365.25 / 28),
        (on_weekdays("1100000", 80)[1:-1], "uneven (every 3.56 days on average)", 365.25 / (153 / 43)),
        (on_weekdays("0101000", 80)[1:-1], "uneven (every 3.53 days on average)", 365.25 / (152 / 43)),
        (twice_a_month(), "uneven (every 15.2 days on average)", 24.04),
        ([], "daily", 252),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_spacing_is_recognised_and_counted_by_the_year(dates: list[date], adjective: str, per_year: float) -> None:
    spacing = spacing_of(dates)

    assert spacing.adjective == adjective
    assert spacing.per_year == pytest.approx(per_year, rel=1e-3)


def test_holidays_do_not_change_the_spacing() -> None:
    days = [day for i, day in enumerate(on_weekdays("1111100")) if i % 25 != 3]
    weeks = [day - timedelta(days=1) if i % 9 == 4 else day for i, day in enumerate(every(7))]

    assert spacing_of(days).adjective == "daily"
    assert spacing_of(weeks).adjective == "weekly"


@pytest.mark.parametrize(
    ("dates", "steps", "expected"),
    [
        (on_weekdays("1111100", 5), (1, 5, 6), ["2015-01-12", "2015-01-16", "2015-01-19"]),
        (on_weekdays("1111111", 35), (1, 365), ["2015-02-09", "2016-02-08"]),
        (on_weekdays("1111001", 50), (1, 2), ["2015-03-16", "2015-03-17"]),
        (every(7), (1, 52), ["2017-04-24", "2018-04-16"]),
        (months(1, 15), (1, 12), ["2015-01-15", "2015-12-15"]),
        (months(1, None), (1, 2), ["2015-01-31", "2015-02-28"]),
        (business_month_ends(), (1, 2), ["2015-01-31", "2015-02-28"]),
        (months(3, None, 8), (1, 4), ["2012-01-31", "2012-10-31"]),
        (months(12, 31, 5), (1, 9000), ["2015-01-31", ""]),
        (on_weekdays("1010100", 301), (1, 156), ["2016-08-28", "2017-08-25"]),
        (sessions(60, 7, on_weekdays("1111100", 10)), (1, 7, 8), ["2015-01-19", "2015-01-19", "2015-01-20"]),
        ([], (1,), [""]),
    ],
    ids=["weekdays", "seven days", "Sunday to Thursday", "weeks", "mid-month", "month end", "business month end",
         "quarters", "beyond 9999", "three days a week", "hours", "undated"],
)  # fmt: skip
def test_forecasts_are_dated_by_the_calendar_of_the_series(
    dates: list[date], steps: tuple[int, ...], expected: list[str]
) -> None:
    assert dates_ahead(dates, spacing_of(dates), steps) == expected


def test_the_rest_of_an_unfinished_session_is_dated_today() -> None:
    moments = sessions(60, 7, on_weekdays("1111100", 10))[:-3]

    assert dates_ahead(moments, spacing_of(moments), (1, 3, 4)) == ["2015-01-16", "2015-01-16", "2015-01-19"]


def test_a_spacing_of_one_date_is_that_of_trading_days() -> None:
    assert spacing_of([START]) == Spacing("daily", "a trading day", "day", "trading days", 252.0, days=1)


@pytest.mark.parametrize(
    ("last", "steps", "expected"),
    [
        (datetime(2021, 2, 26, 21), (3, 120, 1200), ["2021-03-01", "2021-03-05", "2021-05-07"]),
        (datetime(2021, 2, 21, 22), (1, 24, 25), ["2021-02-22", "2021-02-22", "2021-02-23"]),
        (datetime(2021, 2, 24, 12), (11, 12), ["2021-02-24", "2021-02-25"]),
    ],
    ids=["Friday", "Sunday evening", "Wednesday"],
)
def test_hours_of_a_sunday_evening_belong_to_mondays_session(
    last: datetime, steps: tuple[int, ...], expected: list[str]
) -> None:
    moments = hours_of_currencies(last)

    assert dates_ahead(moments, spacing_of(moments), steps) == expected
