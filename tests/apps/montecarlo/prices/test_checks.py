from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from apps.montecarlo.prices.checks import find_jumps, history_notes, near_split, split_adjusted
from apps.montecarlo.prices.history import FloatArray, PriceHistory

START = date(2020, 1, 1)


def days(count: int, step: int = 1) -> list[date]:
    return [START + timedelta(days=step * i) for i in range(count)]


def weekdays(count: int) -> list[date]:
    return [day for day in days(2 * count) if day.weekday() < 5][:count]


def walk(count: int = 300, volatility: float = 0.01, seed: int = 1) -> FloatArray:
    steps = np.random.default_rng(seed).normal(0.0, volatility, count)
    return np.asarray(100.0 * np.exp(np.cumsum(steps)), dtype=np.float64)


def history(prices: FloatArray, dates: list[date] | None = None) -> PriceHistory:
    dates = weekdays(len(prices)) if dates is None else dates
    return PriceHistory(("Close",), tuple(dates), np.asarray(prices)[:, None], "p", tuple(range(2, len(prices) + 2)))


def said(prices: FloatArray, dates: list[date] | None = None) -> str:
    return "\n".join(history_notes(history(prices, dates)))


def test_ordinary_prices_of_trading_days_have_nothing_to_say() -> None:
    assert said(walk()) == ""


def test_a_slip_of_the_decimal_point_is_named_with_line_date_and_remedy() -> None:
    prices = walk()
    prices[100] *= 10

    text = said(prices)

    assert f"line 102, {weekdays(300)[100]}: " in text
    assert "near a 10-for-1 reverse split; line 103, " in text
    assert "taken as they are" in text
    assert "Correct the file if it is a mistake; --split-adjust rescales the prices before a split." in text


@pytest.mark.parametrize("ratio", [2, 3, 4, 10, 20, 100])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_split_is_found_and_taken_out_on_request(ratio: int, reverse: bool) -> None:
    true = walk()
    prices = true.copy()
    prices[:150] *= 1 / ratio if reverse else ratio

    adjusted = split_adjusted(history(prices))

    kind = "reverse split" if reverse else "split"
    assert f"near a {ratio}-for-1 {kind}" in said(prices)
    np.testing.assert_allclose(adjusted.prices[:, 0], true, rtol=1e-12)
    assert adjusted.notes == (f"Split-adjusted: earlier prices of Close by {ratio} before {adjusted.place(150)}.",)
    assert "Suspicious" not in "\n".join(history_notes(replace(adjusted, notes=())))


def test_a_price_in_the_wrong_unit_for_a_while_is_taken_out_too() -> None:
    true = walk()
    prices = true.copy()
    prices[50:60] *= 100

    np.testing.assert_allclose(split_adjusted(history(prices)).prices[:, 0], true, rtol=1e-12)


def test_without_a_split_adjusting_changes_nothing_and_says_so() -> None:
    prices = walk()

    adjusted = split_adjusted(history(prices))

    assert (adjusted.prices[:, 0] == prices).all()
    assert adjusted.notes == ("No return is near a split's ratio, so --split-adjust changed nothing.",)


def test_a_large_return_in_wild_times_is_none_to_name() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(0.0, 0.005, 1000)
    returns[400:480] = rng.normal(0.0, 0.02, 80)
    returns[440] = 0.07

    assert find_jumps(returns) == []
    assert [jump.row for jump in find_jumps(np.where(np.arange(1000) == 700, 0.07, returns))] == [701]


@pytest.mark.parametrize(
    ("factor", "ratio"), [(0.5, 2), (0.49, 2), (2.05, 2), (0.3333, 3), (0.01, 100), (0.7, 0), (1.0, 0)]
)
def test_a_split_ratio_may_be_off_by_the_return_of_its_day(factor: float, ratio: int) -> None:
    assert near_split(float(np.log(factor))) == ratio


def test_many_jumps_are_counted_and_five_named() -> None:
    prices = walk(2000)
    for row in range(100, 1900, 200):
        prices[row] *= 5

    text = said(prices)

    assert text.count("; line ") == 4
    assert "and 13 more" in text


def test_prices_that_never_change_give_no_jumps() -> None:
    assert "Suspicious" not in said(np.full(60, 5.0))
    assert "100% of the prices of Close equal the one before" in said(np.full(60, 5.0))


def test_thin_trading_is_said_and_its_moves_are_not_suspicious() -> None:
    returns = np.random.default_rng(3).normal(0.0, 0.01, 400) * (np.arange(400) % 3 > 0)

    text = said(np.asarray(100 * np.exp(np.cumsum(returns))))

    assert "33.3% of the prices of Close equal the one before" in text
    assert "Suspicious" not in text


@pytest.mark.parametrize(
    ("dates", "note"),
    [
        (days(300), "Daily (seven days a week) prices: one step is a day, with 365 steps a year (--periods-per-year"),
        (days(300, 7), "Weekly prices: one step is a week, with 52 steps a year"),
        ([date(2000 + i // 12, i % 12 + 1, 28) for i in range(300)], "Monthly prices: one step is a month, with 12"),
        ([date(1950 + i // 4, i % 4 * 3 + 1, 1) for i in range(300)], "Quarterly prices: one step is a quarter, with"),
        (
            [datetime(2020, 1, 1, 9) + timedelta(days=i // 6, hours=i % 6) for i in range(300)],
            "Intraday (hour) prices: one step is one hour, with 2,190 steps a year",
        ),
        ([day for day in days(500) if day.weekday() not in (4, 5)][:300], "These prices are of Monday, Tuesday, Wed"),
        ([], "The prices have no dates: one step is taken for one trading day, 252 a year (--periods-per-year)."),
    ],
    ids=["seven days", "weekly", "monthly", "quarterly", "hourly", "Sunday to Thursday", "undated"],
)  # fmt: skip
def test_the_spacing_is_said_where_it_is_not_trading_days(dates: list[date], note: str) -> None:
    assert note in said(walk(), dates)


def test_a_hole_in_the_dates_is_named() -> None:
    dates = weekdays(320)
    del dates[100:120]

    assert f"A hole in the dates from {dates[99]} to line 102, {dates[100]}: the return over a hole counts as" in said(
        walk(), dates
    )


def test_missing_weeks_and_days_are_holes_and_holidays_are_not() -> None:
    weeks = [week for i, week in enumerate(days(310, 7)) if i not in range(50, 60)]
    crypto = [day for i, day in enumerate(days(310)) if i not in (5, 6, 100)]
    holidays = [day for i, day in enumerate(weekdays(310)) if i % 31 != 3]

    assert "A hole in the dates" in said(walk(), weeks)
    assert "2 holes in the dates" in said(walk(307), crypto)
    assert "hole" not in said(walk(len(holidays)), holidays)


def test_a_week_that_is_not_over_is_named() -> None:
    weeks = days(299, 7)

    text = said(walk(), [*weeks, weeks[-1] + timedelta(days=2)])

    assert (
        f"The last price, of {weeks[-1] + timedelta(days=2)}, comes before its step is over; its return counts" in text
    )
    assert "The last price" not in said(walk(), days(300, 7))


def test_a_daily_part_after_a_weekly_one_is_named() -> None:
    weeks = days(200, 7)
    daily = [weeks[-1] + timedelta(days=i) for i in range(1, 101)]

    text = said(walk(), weeks + daily)

    assert f"100 prices of 300 come sooner than a week after the one before, the first at line 202, {daily[0]}" in text


def test_a_close_on_a_weekend_is_named() -> None:
    dates = sorted([*weekdays(299), date(2020, 2, 1)])

    assert "1 price on weekdays that usually have none, the first at line 25, 2020-02-01: each counts" in said(
        walk(), dates
    )


def test_weekend_closes_that_repeat_friday_are_said() -> None:
    dates = days(300)
    prices = walk()
    for i, day in enumerate(dates):
        if day.weekday() >= 5 and i:
            prices[i] = prices[i - 1]

    assert "Closes of Saturday and Sunday repeat Friday's: they are filled in" in said(prices, dates)
    assert "Friday" not in said(walk(), dates)


def test_prices_below_zero_are_judged_by_their_changes() -> None:
    prices = walk() - 100.0
    prices[200] = 900.0

    assert "Suspicious returns of Close, taken as they are: line 202, " in said(prices)
    assert "split" not in said(prices)
