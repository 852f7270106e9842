"""The pictures of a forecast: percentile fan and histograms, as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

import numpy as np
from matplotlib.axes import Axes

from apps.montecarlo.drawing import (
    BAND_ALPHA,
    BLUE,
    FONT,
    INK,
    RED,
    SIZE,
    SOFT_INK,
    TITLE,
    new_figure,
    png,
    short_loss,
    short_percent,
    short_price,
)
from apps.montecarlo.figures import as_date, forecast_dates
from apps.montecarlo.preparation import middle, portfolio_value
from apps.montecarlo.result import Result
from apps.montecarlo.science.models import FloatArray
from apps.montecarlo.science.summary import Summary

TAIL_CUT = 0.999
"""Share of the forecasts that the axis of a histogram reaches to; a few outliers would squeeze the rest."""
MOST_BINS = 250
"""More bars than these are thinner than a picture can show."""
LABEL_GAP = 0.058
"""Least distance of two labels at the fan's end, as a share of the axis height."""
ZERO_BASE = 0.5
"""The price axis begins at zero when the lowest price is below this share of the highest."""
MOST_HISTORY = 1.0
"""Past shown before a fan, as a multiple of the horizon."""


def fan_png(result: Result) -> bytes:
    """Draw the past prices and the percentiles of the forecasts over time."""
    summary, params, s0 = result.summary, result.prepared.params, result.summary.s0
    figure, (axes,) = new_figure(SIZE)
    days = (0, *summary.horizons)
    curves = {q: [s0, *(summary.quantile(day, q) for day in summary.horizons)] for q in params.levels}
    levels = list(params.levels)
    for low, high in zip(levels[: len(levels) // 2], reversed(levels[-(len(levels) // 2) :]), strict=False):
        axes.fill_between(days, curves[low], curves[high], color=BLUE, alpha=BAND_ALPHA, linewidth=0)
    if len(levels) % 2:
        axes.plot(days, curves[levels[len(levels) // 2]], color=BLUE, linewidth=1.8)
    past = _past_values(result)
    if len(past) > 1:
        axes.plot(np.arange(-len(past) + 1, 1), past, color=INK, linewidth=0.9)
    for name, price in result.prepared.touch.items():
        axes.axhline(price, color=RED, linewidth=0.9, linestyle=(0, (5, 3)))
        axes.annotate(f"touch {name}", (0, price), (4, 3), textcoords="offset points", color=RED,
                      fontsize=FONT - 1)  # fmt: skip
    axes.axvline(0, color=SOFT_INK, linewidth=0.7)
    axes.set_xlim(-len(past) + 1, summary.horizons[-1])
    lowest = min(min(curves[levels[0]]), float(past.min()))
    if 0.0 <= lowest < ZERO_BASE * max(curves[levels[-1]]):
        axes.set_ylim(bottom=0)
    _label_ends(axes, {q: curve[-1] for q, curve in curves.items()}, float(days[-1]))
    _date_axis(axes, result, len(past))
    left_of_today = len(past) > 1
    axes.annotate(
        f"today {short_price(s0)}", (0, 0.02), (-5 if left_of_today else 5, 0), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="right" if left_of_today else "left", color=INK, fontsize=FONT,
        bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
    )  # fmt: skip
    axes.set_title(f"{_unit(result)}: percentiles ahead", **TITLE)
    return png(figure, left=0.125, right=0.785, bottom=0.115 if axes.get_xlabel() else 0.075)


def histogram_png(result: Result) -> bytes:
    """Draw the distribution of the price at the middle and the end, with the value at risk marked."""
    summary, params = result.summary, result.prepared.params
    days = sorted({middle(params.days), params.days})
    figure, panels = new_figure((SIZE[0], (SIZE[1] - 0.35) / 2 * len(days) + 0.35), rows=len(days))
    right = max(summary.s0, *(summary.quantile(day, TAIL_CUT) for day in days))
    left = min(min(summary.min(day) for day in days), summary.s0)
    for axes, day in zip(panels, days, strict=True):
        _histogram(axes, result, day)
        if right > left:
            margin = 0.15 * (right - left)
            axes.set_xlim(max(0.0, left - margin) if left >= 0.0 else left - margin, right)
    panels[-1].set_xlabel(_unit(result), color=SOFT_INK, fontsize=FONT - 1, parse_math=False)
    return png(figure, left=0.09, right=0.97, bottom=0.5 / figure.get_figheight(), hspace=0.42)


def _histogram(axes: Axes, result: Result, day: int) -> None:
    summary, s0 = result.summary, result.summary.s0
    edges, counts = bins_shown(summary, day)
    centres, widths = (edges[:-1] + edges[1:]) / 2.0, np.diff(edges)
    worst = result.prepared.params.confidence[0]
    cut = s0 * (1.0 - summary.var_es(day, worst).var)
    for colour, part in ((RED, edges[1:] <= cut), (BLUE, edges[1:] > cut)):
        axes.stairs(np.where(part, counts, 0.0), edges, fill=True, color=colour, alpha=0.75, linewidth=0)
    top = max(1.0, float(counts.max()))
    axes.set_ylim(0, top * 1.42)
    peak = float(centres[int(counts.argmax())])
    axes.annotate(f"peak near {short_price(peak)}: {top:,.0f}\nforecasts in {short_price(widths[0])} wide bins",
                  (1.0, 0.9), xycoords="axes fraction", color=SOFT_INK, fontsize=FONT - 1.5, ha="right",
                  va="top")  # fmt: skip
    axes.plot([s0, s0], [0, top * 1.12], color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.annotate(f"today {short_price(s0)}", (s0, top * 1.12), (0, 3), textcoords="offset points", color=INK,
                  fontsize=FONT - 1.5, ha="center")  # fmt: skip
    for index, confidence in enumerate(reversed(result.prepared.params.confidence)):
        price = s0 * (1.0 - summary.var_es(day, confidence).var)
        height = top * (0.42 + 0.42 * index)
        axes.plot([price, price], [0, height], color=RED, linewidth=1.1)
        loss = f"VaR {short_percent(confidence)}\n{short_loss(s0 - price)}"
        axes.annotate(loss, (price, height), (-3, 2), textcoords="offset points", color=RED, fontsize=FONT - 1.5,
                      ha="right", va="top", linespacing=1.05)  # fmt: skip
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.grid(False)
    when = forecast_dates(result.prepared.history, (day,))[0]
    axes.set_title(f"After {day:,} {result.prepared.spacing.steps}{f' ({when})' if when else ''}", **TITLE)


def bins_shown(summary: Summary, day: int) -> tuple[FloatArray, FloatArray]:
    """Return edges and counts of the bins in the picture: numpy's automatic width, up to the cut of the far tail.

    Under a heavy-tailed model equal bins up to the highest price would be millions.
    """
    left, right = summary.min(day), summary.quantile(day, TAIL_CUT)
    spread = summary.quantile(day, 0.75) - summary.quantile(day, 0.25)
    # Freedman and Diaconis (1981), the rule numpy's bins="auto" follows for many values.
    width = 2.0 * spread * summary.forecasts ** (-1.0 / 3.0)
    bins = min(MOST_BINS, max(1, math.ceil((right - left) / width))) if width > 0.0 and right > left else 1
    edges = left + (right - left if right > left else 1.0) * np.arange(bins + 1) / bins
    return edges, np.diff(summary.shares_below(day, edges)) * summary.forecasts


def _past_values(result: Result) -> FloatArray:
    history = result.prepared.history
    if history is None:
        return np.array([result.summary.s0])
    if len(history.names) == 1:
        values = history.prices[:, 0]
    else:
        values = portfolio_value(history, result.prepared.model.weights)  # type: ignore[union-attr]
    return values[-max(2, round(MOST_HISTORY * result.prepared.params.days)) :]


def _label_ends(axes: Axes, ends: dict[float, float], day: float) -> None:
    """Name each percentile and its price at the end of its curve, moved apart where they would touch."""
    low, high = axes.get_ylim()
    gap = LABEL_GAP * (high - low)
    heights: list[float] = []
    for value in ends.values():
        heights.append(max(value, heights[-1] + gap) if heights else value)
    for (q, value), height in zip(ends.items(), heights, strict=True):
        middle_one = abs(q - 0.5) < 1e-12
        axes.annotate(
            f"{short_percent(q)}  {short_price(value)}", (day, height), (6, 0), textcoords="offset points", va="center",
            color=BLUE if middle_one else INK, fontsize=FONT - 0.5, fontweight="bold" if middle_one else "normal",
            annotation_clip=False,
        )  # fmt: skip


def _date_axis(axes: Axes, result: Result, past: int) -> None:
    """Mark the first step of years (or months), on an axis that counts steps."""
    label = f"{result.prepared.spacing.steps} from the last price"
    history, end = result.prepared.history, result.prepared.params.days
    if history is None or not history.dates:
        axes.set_xlabel(label, color=SOFT_INK, fontsize=FONT - 1)
        return
    ahead = [as_date(day) for day in forecast_dates(history, tuple(range(1, end + 1)))]
    calendar = [*history.dates[-past:], *(day for day in ahead if day is not None)]
    yearly = len(calendar) > 2.5 * result.prepared.spacing.per_year
    ticks = _starts(calendar, "%Y" if yearly else "%b %Y")
    if len(ticks) < 2:
        axes.set_xlabel(label, color=SOFT_INK, fontsize=FONT - 1)
        return
    every = -(-len(ticks) // (6 if yearly else 4))
    axes.set_xticks([index - past + 1 for index, _ in ticks[::every]], [label for _, label in ticks[::every]])


def _starts(calendar: Sequence[date], pattern: str) -> list[tuple[int, str]]:
    labels = [day.strftime(pattern) for day in calendar]
    return [(i, label) for i, label in enumerate(labels) if i and label != labels[i - 1]]


def _unit(result: Result) -> str:
    history = result.prepared.history
    if history is None:
        return "Price, USD (talk preset)"
    if len(history.names) > 1:
        return "Portfolio, 100 = day 0"
    return history.source.split(" (packaged")[0] if "(packaged" in history.source else history.names[0]
