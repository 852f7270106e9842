"""What the dates of a series tell: how far apart its prices are, how many there are in a year, and what days follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

TRADING_DAYS_PER_YEAR = 252.0
"""Customary number, for annualised figures."""
CALENDAR_DAYS_PER_YEAR = 365.0
DAYS_PER_YEAR = 365.25
"""Mean length of a year, for prices at uneven distances."""
RARE_WEEKDAY = 0.04
"""Share of the rows below which a weekday is none on which prices are made; a fifth is usual."""
WEEKEND = (5, 6)
"""Saturday and Sunday, counted from Monday."""
LAST_YEAR = 9999
"""The last year that a date can be written for."""
MONTH_END = 28
"""Day of the month from which on monthly prices are those of a month's end."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """How far apart the prices of a series are.

    Parameters
    ----------
    adjective : str
        As in "weekly prices".
    one, step, steps : str
        What one forecast step is: with its article, as in "a month" and "per month", and several.
    per_year : float
        Steps in a year, for annualised figures.
    days : float
        Days of a step that is a number of days, on average where they are uneven; 0 for others.
    months : int
        Months of a step that is a number of months; 0 for others.
    weekmask : str
        Weekdays with prices, from Monday, as numpy's business days have them; for steps of a trading day.
    times : tuple of datetime.time
        Times of the day with prices; for prices of times of the day.
    """

    adjective: str
    one: str
    step: str
    steps: str
    per_year: float
    days: float = 0
    months: int = 0
    weekmask: str = "1111100"
    times: tuple[time, ...] = ()


DAILY = Spacing("daily", "a trading day", "day", "trading days", TRADING_DAYS_PER_YEAR, days=1)
SEVEN_DAYS = Spacing("daily (seven days a week)", "a day", "day", "days", CALENDAR_DAYS_PER_YEAR, days=1)
_REGULAR: tuple[tuple[Spacing, float, float], ...] = (
    (Spacing("weekly", "a week", "week", "weeks", 52.0, days=7), 6.5, 9),
    (Spacing("two-weekly", "two weeks", "two weeks", "steps of two weeks", 26.0, days=14), 12, 16),
    (Spacing("monthly", "a month", "month", "months", 12.0, months=1), 29, 35),
    (Spacing("quarterly", "a quarter", "quarter", "quarters", 4.0, months=3), 86, 97),
    (Spacing("half-yearly", "half a year", "half-year", "half-years", 2.0, months=6), 176, 190),
    (Spacing("yearly", "a year", "year", "years", 1.0, months=12), 358, 373),
)
"""Spacings with the fewest and most days between two prices, weekends and holidays allowed for, but neither two
prices a week, whose median may be six days, nor one in four weeks."""


def spacing_of(dates: Sequence[date]) -> Spacing:
    """Tell the spacing of prices from the median distance of their dates.

    Parameters
    ----------
    dates : sequence of date
        Strictly increasing; datetimes for prices of times of the day; trading days are supposed when empty.
    """
    if len(dates) < 2:
        return DAILY
    if isinstance(dates[0], datetime):
        return _intraday(dates)
    gap = float(np.median(gaps(dates)))
    weekmask = _weekmask(dates)
    if gap < 2.0 and weekmask.count("1") >= 5:
        if weekmask.count("1") == 7:
            return replace(SEVEN_DAYS, weekmask=weekmask)
        return replace(DAILY, weekmask=weekmask, per_year=_days_per_year(weekmask))
    for spacing, least, most in _REGULAR:
        if least <= gap <= most and not (spacing.days == 14 and _twice_a_month(dates)):
            return spacing
    mean = float(gaps(dates).mean())
    adjective = f"uneven (every {mean:.3g} days on average)"
    return Spacing(adjective, "one such distance", "step", "steps", DAYS_PER_YEAR / mean, days=mean)


def _twice_a_month(dates: Sequence[date]) -> bool:
    """Whether two steps are rather half of two months than four weeks, as from the 1st to the 15th to the 1st."""
    return len(dates) > 2 and float(np.median(gaps(dates[::2]))) > 29.0


def _days_per_year(weekmask: str) -> float:
    open_days = weekmask.count("1")
    return CALENDAR_DAYS_PER_YEAR if open_days == 7 else TRADING_DAYS_PER_YEAR / 5 * open_days


def gaps(dates: Sequence[date]) -> NDArray[np.int64]:
    """Return the days between consecutive dates, shape (n - 1,)."""
    ordinals = np.array([day.toordinal() for day in dates], dtype=np.int64)
    return ordinals[1:] - ordinals[:-1]


def weekdays(dates: Sequence[date]) -> NDArray[np.int64]:
    """Return the weekday of each date, 0 for Monday."""
    # Day 1 of the calendar, 0001-01-01, is a Monday.
    return (np.array([day.toordinal() for day in dates], dtype=np.int64) - 1) % 7


def _weekmask(dates: Sequence[date]) -> str:
    shares = np.bincount(weekdays(dates), minlength=7) / len(dates)
    return "".join("1" if share >= RARE_WEEKDAY else "0" for share in shares)


def _intraday(dates: Sequence[date]) -> Spacing:
    """Describe prices of times of the day: those that most days have, on the weekdays that have them."""
    moments = [moment for moment in dates if isinstance(moment, datetime)]
    by_day = Counter(moment.date() for moment in moments)
    seen = Counter(moment.time() for moment in moments)
    times = tuple(sorted(at for at, count in seen.items() if 2 * count >= len(by_day)))
    weekmask = _session_weekmask(by_day)
    rows = float(np.median(list(by_day.values())))
    seconds = float(np.median([(b - a).total_seconds() for a, b in pairwise(moments)]))
    length = _duration(seconds)
    return Spacing(
        adjective=f"intraday ({length})",
        one=f"one {length}" if length[0].isalpha() else length,
        step=length,
        steps=f"{length}s" if length[0].isalpha() else f"steps of {length}",
        per_year=rows * _days_per_year(weekmask),
        weekmask=weekmask,
        times=times,
    )


def _session_weekmask(rows: Mapping[date, int]) -> str:
    """Return the weekdays with sessions: a Sunday evening is the beginning of Monday's, as for currencies."""
    usual = float(np.median(list(rows.values())))
    marks = list(_weekmask(sorted(rows)))
    for weekday in WEEKEND:
        counts = [count for day, count in rows.items() if day.weekday() == weekday]
        if counts and float(np.median(counts)) < usual / 2.0:
            marks[weekday] = "0"
    return "".join(marks)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            return unit if seconds == size else f"{seconds / size:.0f} {unit}s"
    return f"{seconds:.3g} seconds"


def dates_ahead(dates: Sequence[date], spacing: Spacing, steps: Sequence[int]) -> list[str]:
    """Date forecast steps by the series' own calendar, holidays apart.

    Parameters
    ----------
    dates : sequence of date
        Of the prices; empty where there are none.
    spacing : Spacing
    steps : sequence of int
        From 1 on.

    Returns
    -------
    list of str
        ISO dates; empty text without dates, and beyond the year 9999.
    """
    if not dates:
        return [""] * len(steps)
    last = dates[-1]
    if isinstance(last, datetime):
        return _sessions_ahead(last, spacing, steps)
    if spacing.months:
        month_end = float(np.median([day.day for day in dates])) >= MONTH_END
        return [_month_ahead(last, spacing, step, month_end) for step in steps]
    if spacing.days == 1:
        return [
            _written(np.busday_offset(np.datetime64(last, "D"), step, roll="backward", weekmask=spacing.weekmask))
            for step in steps
        ]
    return [_written(np.datetime64(last, "D") + round(spacing.days * step)) for step in steps]


def _written(day: np.datetime64) -> str:
    return str(day) if int(str(day).split("-")[0]) <= LAST_YEAR else ""


def _month_ahead(last: date, spacing: Spacing, step: int, month_end: bool) -> str:
    months = last.year * 12 + last.month - 1 + spacing.months * step
    if months // 12 >= LAST_YEAR:
        return ""
    end = date(months // 12 + (months % 12 == 11), (months + 1) % 12 + 1, 1) - timedelta(days=1)
    return str(end if month_end else end.replace(day=min(last.day, end.day)))


def _sessions_ahead(last: datetime, spacing: Spacing, steps: Sequence[int]) -> list[str]:
    """Return the day of each step: so many times of the day a session, sessions on the weekdays that have them."""
    a_day = max(1, len(spacing.times))
    done = sum(at <= last.time() for at in spacing.times)
    today = np.datetime64(last.date(), "D")
    if not np.is_busday(today, weekmask=spacing.weekmask):
        done = 0  # it belongs to the session to come
    ahead = [max(0, -(-(done + step) // a_day) - 1) for step in steps]
    return [_written(np.busday_offset(today, days, roll="forward", weekmask=spacing.weekmask)) for days in ahead]
