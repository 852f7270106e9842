"""What the prices did that a forecast is calibrated on: figures, tables and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np

from apps._frame.tables import TextTable
from apps.montecarlo.preparation import portfolio_value
from apps.montecarlo.result import Result
from apps.montecarlo.science.models import FloatArray
from apps.montecarlo.science.performance import Fall, performance, rolling_volatility, underwater
from apps.montecarlo.tables import percent

ROLLING_SHARE = 0.25
"""Years that the rolling volatility looks back."""
PICTURE = (5.6, 3.1)
"""Width and height in inches."""
NO_INTEREST = (
    "Sharpe and Sortino ratios are of simple returns a year, without interest; ± is the standard error. Calmar ratio: "
    "growth a year over the deepest fall."
)


def past_values(result: Result) -> FloatArray:
    """Return the past prices, or values of the portfolio: shape (n,), none for a preset."""
    history = result.prepared.history
    if history is None:
        return np.empty(0)
    if len(history.names) == 1:
        return history.prices[:, 0]
    return portfolio_value(history, result.prepared.model.weights)  # type: ignore[union-attr]


def past_figures(result: Result) -> dict[str, Any] | None:
    """Return return, risk and falls of the past, JSON-ready; None where prices are missing or pass zero."""
    values, history = past_values(result), result.prepared.history
    if history is None or values.min() <= 0.0:
        return None
    found = performance(values, result.prepared.spacing.per_year)
    dates = [str(day) for day in history.dates] or [f"row {row + 1}" for row in range(len(values))]
    return {
        "years": (len(values) - 1) / result.prepared.spacing.per_year,
        "growth": found.growth,
        "volatility": found.volatility,
        "sharpe": _finite(found.sharpe),
        "sharpe_se": _finite(found.sharpe_se),
        "sortino": _finite(found.sortino),
        "skewness": _finite(found.skewness),
        "excess_kurtosis": _finite(found.kurtosis),
        "best": {"return": found.best[0], "date": dates[found.best[1]]},
        "worst": {"return": found.worst[0], "date": dates[found.worst[1]]},
        "rising_share": found.rising,
        "drawdown_now": float(underwater(values)[-1]),
        "falls": [_fall(fall, dates) for fall in found.falls],
        "by_year": _by_year(values, history.dates, result.prepared.spacing.per_year),
    }


def _by_year(values: FloatArray, dates: Sequence[date], per_year: float) -> list[dict[str, Any]]:
    """Return the return of each calendar year, from the last price of the year before, and its volatility."""
    years = np.array([day.year for day in dates], dtype=np.int64)
    ends = np.flatnonzero(np.diff(years, append=0) != 0).tolist()
    found = []
    for start, end in pairwise([0, *ends]):
        logs = np.diff(np.log(values[start : end + 1]))
        if logs.size > 1:
            spread = float(logs.std(ddof=1)) * math.sqrt(per_year)
            found.append({"year": str(years[end]), "return": math.expm1(float(logs.sum())), "volatility": spread})
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _fall(fall: Fall, dates: Sequence[str]) -> dict[str, Any]:
    back = None if fall.recovery is None else dates[fall.recovery]
    end = len(dates) - 1 if fall.recovery is None else fall.recovery
    return {
        "depth": fall.depth,
        "peak": dates[fall.peak],
        "trough": dates[fall.trough],
        "recovery": back,
        "steps": end - fall.peak,
    }


def past_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate return and risk of the past."""
    past = figures["past"]

    def ratio(name: str, error: str = "") -> str:
        if past[name] is None:
            return "–"
        return f"{past[name]:.2f}" + (f" ± {past[error]:.2f}" if error else "")

    deepest = past["falls"][0] if past["falls"] else None
    rows = [
        ["growth a year", percent(past["growth"], 2), ""],
        ["volatility a year", percent(past["volatility"], 2), ""],
        ["Sharpe ratio", ratio("sharpe", "sharpe_se"), ""],
        ["Sortino ratio", ratio("sortino"), ""],
        ["Calmar ratio", f"{past['growth'] / deepest['depth']:.2f}" if deepest else "–", ""],
        ["deepest fall", percent(deepest["depth"], 1) if deepest else "–", deepest["trough"] if deepest else ""],
        ["below its peak now", percent(past["drawdown_now"], 1), ""],
        ["best step", percent(past["best"]["return"], 2), past["best"]["date"]],
        ["worst step", percent(past["worst"]["return"], 2), past["worst"]["date"]],
        ["steps that rose", percent(past["rising_share"], 1), ""],
        ["skewness", ratio("skewness"), ""],
        ["excess kurtosis", ratio("excess_kurtosis"), ""],
    ]
    return TextTable(f"The past, {past['years']:.1f} years", ["measure", "value", "when"], rows)


def years_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate the return of each calendar year."""
    by_year = figures["past"]["by_year"]
    rows = [[each["year"], percent(each["return"], 1), percent(each["volatility"], 1)] for each in by_year]
    return TextTable("Calendar years", ["year", "return", "volatility a year"], rows)


def falls_table(figures: dict[str, Any]) -> TextTable:
    """Tabulate the deepest falls of the past."""
    rows = [
        [percent(fall["depth"]), fall["peak"], fall["trough"], fall["recovery"] or "not yet", f"{fall['steps']:,}"]
        for fall in figures["past"]["falls"]
    ]
    return TextTable("Deepest falls of the past", ["fall", "peak", "lowest", "back at the peak", "steps"], rows)


def falls_png(result: Result) -> bytes:
    """Draw how far past prices lay below the highest so far."""
    from apps.montecarlo.drawing import BAND_ALPHA, RED, TITLE, new_figure, png

    values = past_values(result)
    figure, (axes,) = new_figure(PICTURE)
    rows, fall = np.arange(len(values)), -100.0 * underwater(values)
    axes.fill_between(rows, fall, 0, color=RED, alpha=2 * BAND_ALPHA, linewidth=0)
    axes.plot(rows, fall, color=RED, linewidth=0.8)
    axes.set_title("Past: % below the highest price so far", **TITLE)
    _date_axis(axes, result, len(values))
    return png(figure, left=0.1, right=0.97, bottom=0.1)


def volatility_png(result: Result, figures: dict[str, Any]) -> bytes:
    """Draw the rolling volatility of past prices beside the model's."""
    from apps.montecarlo.drawing import BLUE, FONT, INK, TITLE, new_figure, png

    values, history = past_values(result), result.prepared.history
    assert history is not None
    window = max(2, round(ROLLING_SHARE * result.prepared.spacing.per_year))
    rolling = 100.0 * rolling_volatility(values, window, result.prepared.spacing.per_year)
    figure, (axes,) = new_figure(PICTURE)
    axes.plot(np.arange(len(values) - len(rolling), len(values)), rolling, color=INK, linewidth=0.9)
    model = figures["model_volatility"]
    levels = [("long run", model["annual_long_run"]), ("first step", model["annual_first"])]
    shown = [(name, 100.0 * level) for name, level in levels if level is not None]
    if len(shown) == 2 and math.isclose(shown[0][1], shown[1][1]):
        shown = [("", shown[0][1])]
    for name, level in shown:
        above = level >= max(each for _, each in shown)
        axes.axhline(level, color=BLUE, linewidth=1.1, linestyle=(0, (5, 3)) if name == "first step" else "-")
        axes.annotate(f"model{f', {name}' if name else ''}", (0, level), (4, 4 if above else -4), color=BLUE,
                      bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
                      textcoords="offset points", fontsize=FONT - 1.5, va="bottom" if above else "top")  # fmt: skip
    axes.set_title(f"Volatility in % a year, over {window} steps", **TITLE)
    axes.set_ylim(bottom=0)
    _date_axis(axes, result, len(values))
    return png(figure, left=0.1, right=0.97, bottom=0.1)


def _date_axis(axes: Any, result: Result, count: int) -> None:
    history = result.prepared.history
    axes.set_xlim(0, count - 1)
    if history is not None and history.dates:
        ticks = np.linspace(0.06, 0.94, 4) * (count - 1)
        axes.set_xticks(ticks, [str(history.dates[round(place)])[:7] for place in ticks])
