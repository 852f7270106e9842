"""What past prices did: return, risk and falls, as a fund's fact sheet tells them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apps.montecarlo.science.models import FloatArray

DEEPEST = 5
"""Falls that are listed."""


class Fall(NamedTuple):
    """One fall from a peak.

    Parameters
    ----------
    depth : float
        As a fraction of the peak.
    peak, trough : int
        Rows of the peak's and of the lowest price.
    recovery : int or None
        Row of the first price back at the peak; None while it is not reached.
    """

    depth: float
    peak: int
    trough: int
    recovery: int | None


ROUNDING = 1e-9
"""Part of a mean below which a spread is that of rounded prices, not of the returns."""


@dataclass(frozen=True)
class Performance:
    """Figures of a price history; those a year follow from the number of steps a year.

    Parameters
    ----------
    growth : float
        Compound growth of the price a year, as a fraction.
    volatility : float
        Standard deviation of log returns, a year.
    sharpe, sharpe_se : float
        Mean over standard deviation of simple returns, a year, without interest, and its standard error.
    sortino : float
        Mean over the root mean square of the falls, likewise; NaN where no price fell.
    skewness, kurtosis : float
        Of log returns; the kurtosis in excess of the normal law's.
    best, worst : tuple of (float, int)
        Largest and smallest simple return, and the row of the price it led to.
    rising : float
        Share of the steps with a higher price.
    falls : tuple of Fall
        The deepest, deepest first.

    Notes
    -----
    Sharpe, J. Portfolio Management 21 (1994); its error: Lo, Financial Analysts Journal 58 (2002); Sortino and van der
    Meer, J. Portfolio Management 17 (1991), with a target of zero.
    """

    growth: float
    volatility: float
    sharpe: float
    sharpe_se: float
    sortino: float
    skewness: float
    kurtosis: float
    best: tuple[float, int]
    worst: tuple[float, int]
    rising: float
    falls: tuple[Fall, ...]


def performance(prices: FloatArray, periods: float) -> Performance:
    """Measure a price history.

    Parameters
    ----------
    prices : ndarray of float64, shape (n,)
        Positive prices, oldest first.
    periods : float
        Steps a year.
    """
    logs = np.diff(np.log(prices))
    simple = np.expm1(logs)
    year = math.sqrt(periods)
    mean, spread = float(simple.mean()), float(simple.std(ddof=1))
    downside = math.sqrt(float(np.square(np.minimum(simple, 0.0)).mean()))
    centred = logs - logs.mean()
    variance = float(np.square(centred).mean())
    if spread <= ROUNDING * abs(mean):  # a price that grows by the same share at each step
        spread = variance = 0.0
    ratio = mean / spread if spread > 0.0 else math.nan
    return Performance(
        growth=math.expm1(float(logs.mean()) * periods),
        volatility=float(logs.std(ddof=1)) * year,
        sharpe=ratio * year,
        sharpe_se=math.sqrt((1.0 + ratio * ratio / 2.0) / simple.size) * year,
        sortino=mean / downside * year if downside > 0.0 else math.nan,
        skewness=float((centred**3).mean()) / variance**1.5 if variance > 0.0 else math.nan,
        kurtosis=float((centred**4).mean()) / variance**2 - 3.0 if variance > 0.0 else math.nan,
        best=(float(simple.max()), int(simple.argmax()) + 1),
        worst=(float(simple.min()), int(simple.argmin()) + 1),
        rising=float(np.count_nonzero(simple > 0.0)) / simple.size,
        falls=deepest_falls(prices),
    )


def underwater(prices: FloatArray) -> FloatArray:
    """Return how far each price lies below the highest one so far, as a fraction of it: shape (n,), not negative."""
    return np.asarray(1.0 - prices / np.maximum.accumulate(prices), dtype=np.float64)


def deepest_falls(prices: FloatArray, most: int = DEEPEST) -> tuple[Fall, ...]:
    """Find the deepest falls from a peak to the lowest price before that peak is reached again."""
    depth = underwater(prices)
    below = np.concatenate([[False], depth > 0.0, [False]])
    starts, ends = (
        np.flatnonzero(np.diff(below.astype(np.int8)) == 1),
        np.flatnonzero(np.diff(below.astype(np.int8)) == -1),
    )
    falls = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        trough = start + int(depth[start:end].argmax())
        falls.append(Fall(float(depth[trough]), start - 1, trough, end if end < prices.size else None))
    return tuple(sorted(falls, key=lambda fall: -fall.depth)[:most])


def rolling_volatility(prices: FloatArray, window: int, periods: float) -> FloatArray:
    """Return the standard deviation a year of the latest `window` log returns: shape (n - window,), none if too few."""
    logs = np.diff(np.log(prices))
    if logs.size < window or window < 2:
        return np.empty(0)
    views = np.lib.stride_tricks.sliding_window_view(logs, window)
    return np.asarray(views.std(axis=1, ddof=1) * math.sqrt(periods), dtype=np.float64)
