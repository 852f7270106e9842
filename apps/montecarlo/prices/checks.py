"""What in a price history is likely a mistake, or must be known to judge a forecast; nothing is changed unasked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apps.montecarlo.prices.calendar import Spacing, gaps, weekdays
from apps.montecarlo.prices.history import FloatArray, PriceHistory

SUSPICIOUS_DEVIATIONS = 10.0
"""Robust standard deviations beyond which a return is likelier a mistake than a return."""
SPLIT_DEVIATIONS = 5.0
"""The same for returns near a split's ratio."""
SPLIT_RATIOS = (2, 3, 4, 10, 20, 100)
"""Usual ratios of share splits; 100 is also pence for pounds."""
SPLIT_TOLERANCE = 0.05
"""Distance in log price from a split's ratio that the return of the day itself may account for."""
NORMAL_MAD = 1.4826
"""Standard deviation of a normal law over its median absolute deviation."""
NEIGHBOURS = 30
"""Returns before and after one that tell how calm the times are."""
NAMED = 5
"""Places that are named; the others are counted."""
UNCHANGED_SHARE = 0.1
"""Share of unchanged prices from which they are said: trading is thin, or holidays are filled."""
FILLED_SHARE = 0.9
"""Share of unchanged weekend prices from which they are taken for repeats of Friday's."""
LONGEST_CLOSURE = 7
"""Days between two trading days that holidays and closures of an exchange account for."""
GAP_FACTOR = 1.5
"""Multiple of the usual distance beyond which prices at other spacings are missing."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A suspicious return.

    Parameters
    ----------
    row : int
        Row of the price after it.
    ratio : int
        Ratio of a split that it is near; 0 when near none.
    """

    row: int
    ratio: int


def find_jumps(returns: FloatArray, *, splits: bool = True) -> list[Jump]:
    """Find returns that stand out from all others and from their neighbours, and those near a split's ratio.

    Parameters
    ----------
    returns : float64 array, shape (n,)
        Log returns (changes of the price with `splits` unset).
    splits : bool
        Whether to look for splits.
    """
    distance = np.abs(returns - np.median(returns))
    overall = _robust_deviation(distance)
    if overall == 0.0:
        return []
    candidates = np.flatnonzero(distance > SPLIT_DEVIATIONS * overall)
    jumps = []
    for i in candidates.tolist():
        local = _robust_deviation(np.delete(distance[max(0, i - NEIGHBOURS) : i + NEIGHBOURS + 1], min(i, NEIGHBOURS)))
        deviations = distance[i] / max(overall, local)
        ratio = near_split(float(returns[i])) if splits else 0
        if deviations > SUSPICIOUS_DEVIATIONS or (ratio and deviations > SPLIT_DEVIATIONS):
            jumps.append(Jump(i + 1, ratio))
    return jumps


def near_split(log_return: float) -> int:
    """Return the split ratio that a log return is near, 0 when it is near none."""
    return next((k for k in SPLIT_RATIOS if abs(abs(log_return) - math.log(k)) <= SPLIT_TOLERANCE), 0)


def _robust_deviation(distance: FloatArray) -> float:
    """Estimate a standard deviation from absolute distances; of the moving ones alone where most prices stand still."""
    middle = float(np.median(distance)) if distance.size else 0.0
    if middle == 0.0:
        moving = distance[distance > 0.0]
        middle = float(np.median(moving)) if moving.size else 0.0
    return NORMAL_MAD * middle


def split_adjusted(history: PriceHistory) -> PriceHistory:
    """Rescale the prices before each return near a split's ratio, so that the latest stay as they are."""
    prices = history.prices.copy()
    said = []
    for column, name in enumerate(history.names):
        for jump in find_jumps(history.log_returns[:, column]):
            if jump.ratio:
                up = history.prices[jump.row, column] > history.prices[jump.row - 1, column]
                prices[: jump.row, column] *= float(jump.ratio) if up else 1.0 / jump.ratio
                said.append(f"{name} by {jump.ratio} before {history.place(jump.row)}")
    if said:
        note = f"Split-adjusted: earlier prices of {_listed(said)}."
    else:
        note = "No return is near a split's ratio, so --split-adjust changed nothing."
    return replace(history, prices=prices, notes=(*history.notes, note))


def history_notes(history: PriceHistory) -> tuple[str, ...]:
    """Return what the dates and returns of a history tell that a reader must know, one sentence or two each."""
    spacing = history.spacing
    notes = [*spacing_notes(history, spacing), *gap_notes(history, spacing)]
    for column, name in enumerate(history.names):
        notes += return_notes(history, column, name, spacing)
    return tuple(notes)


def spacing_notes(history: PriceHistory, spacing: Spacing) -> list[str]:
    """Say what one step of the forecast is, where it is no ordinary trading day."""
    if not history.dates:
        return ["The prices have no dates: one step is taken for one trading day, 252 a year (--periods-per-year)."]
    if spacing.adjective != "daily":
        return [
            f"{spacing.adjective.capitalize()} prices: one step is {spacing.one}, with {_steps(spacing.per_year)} a "
            "year (--periods-per-year sets another number)."
        ]
    if spacing.weekmask != "1111100":
        days = [name for name, is_open in zip(WEEKDAYS, spacing.weekmask, strict=True) if is_open == "1"]
        return [
            f"These prices are of {', '.join(days)}: the forecast counts those days, {spacing.per_year:.4g} a year."
        ]
    return []


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def gap_notes(history: PriceHistory, spacing: Spacing) -> list[str]:
    """Name holes in the dates, closes on days without trade, and weekend closes that repeat Friday's."""
    if len(history.dates) < 2:
        return []
    notes = []
    between = gaps(history.dates)
    trading = bool(spacing.times) or (spacing.days == 1 and spacing.weekmask.count("1") < len(WEEKDAYS))
    usual = float(np.median(between[between > 0])) if (between > 0).any() else 1.0
    holes = np.flatnonzero(between > (max(LONGEST_CLOSURE, GAP_FACTOR * usual) if trading else GAP_FACTOR * usual))
    if holes.size:
        longest = int(holes[np.argmax(between[holes])])
        many = "A hole in the dates" if holes.size == 1 else f"{holes.size:,} holes in the dates, the longest"
        notes.append(
            f"{many} from {history.dates[longest]} to {history.place(longest + 1)}: the return over a hole counts as "
            "that of one step."
        )
    notes += _early(history, spacing, between < usual / GAP_FACTOR)
    open_days = np.array([mark == "1" for mark in spacing.weekmask])
    week = weekdays(history.dates)
    if spacing.days == 1 and not open_days.all():
        odd = np.flatnonzero(~open_days[week])
        if odd.size:
            notes.append(
                f"{_rows(odd.size)} on weekdays that usually have none, the first at {history.place(int(odd[0]))}: "
                "each counts as a step."
            )
    elif spacing.days == 1 and _weekends_repeat(history, week):
        notes.append(
            "Closes of Saturday and Sunday repeat Friday's: they are filled in, so a day's volatility and value at "
            "risk are too small for a trading day. Remove those rows to forecast trading days."
        )
    return notes


def _early(history: PriceHistory, spacing: Spacing, early: NDArray[np.bool_]) -> list[str]:
    """Name prices that come before a step is over: the last of an unfinished week, or daily ones after weekly ones."""
    rows = np.flatnonzero(early) + 1
    if not rows.size or spacing.days == 1 or spacing.times or spacing.adjective.startswith("uneven"):
        return []
    if rows.tolist() == [len(history.dates) - 1]:
        return [
            f"The last price, of {history.dates[-1]}, comes before its step is over; its return counts as that of "
            f"{spacing.one} all the same. Remove the row, or wait."
        ]
    return [
        f"{_rows(rows.size)} of {len(history.dates):,} come sooner than {spacing.one} after the one before, the first "
        f"at {history.place(int(rows[0]))}: each return counts as that of {spacing.one}. Keep prices of one "
        "spacing, by --window or in the file."
    ]


def _weekends_repeat(history: PriceHistory, week: np.ndarray) -> bool:
    still = (history.changes == 0.0).all(axis=1)
    weekend = week[1:] >= 5
    return bool(still[weekend].mean() >= FILLED_SHARE and still[~weekend].mean() < 0.5)


def return_notes(history: PriceHistory, column: int, name: str, spacing: Spacing) -> list[str]:
    """Name suspicious returns of one series, and say when many prices are those of the step before."""
    prices = history.prices[:, column]
    positive = bool((prices > 0.0).all())
    returns = history.log_returns[:, column] if positive else history.changes[:, column]
    notes = []
    jumps = find_jumps(returns, splits=positive)
    if jumps:
        said = []
        for jump in jumps:
            before, after = prices[jump.row - 1], prices[jump.row]
            near = f", near a {jump.ratio}-for-1 {'split' if after < before else 'reverse split'}" if jump.ratio else ""
            said.append(f"{history.place(jump.row)}: {before:,.6g} to {after:,.6g}{near}")
        remedy = "Correct the file if it is a mistake"
        if any(jump.ratio for jump in jumps):
            remedy += "; --split-adjust rescales the prices before a split"
        notes.append(f"Suspicious returns of {name}, taken as they are: {_listed(said, '; ')}. {remedy}.")
    unchanged = float(np.mean(returns == 0.0))
    if unchanged >= UNCHANGED_SHARE and len(jumps) < len(returns):
        notes.append(
            f"{100 * unchanged:.3g}% of the prices of {name} equal the one before: thin trading, or filled holidays."
        )
    return notes


def _steps(number: float) -> str:
    return f"{number:,.6g} step{'s' * (number != 1.0)}"


def _rows(count: int) -> str:
    return f"{count:,} prices" if count > 1 else "1 price"


def _listed(said: Sequence[str], separator: str = ", ") -> str:
    rest = f" and {len(said) - NAMED:,} more" if len(said) > NAMED else ""
    return separator.join(said[:NAMED]) + rest
