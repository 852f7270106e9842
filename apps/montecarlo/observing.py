"""What is kept of simulated paths: values at the horizons, extremes, and the deepest drawdown of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apps.montecarlo.models import FloatArray


@dataclass(frozen=True, eq=False)
class Observed:
    """Figures of `n` paths, all in log of price over initial price.

    Parameters
    ----------
    at : ndarray of float64, shape (horizons, n)
        Value at each recorded day.
    drawdown : ndarray of float64, shape (n,), or None
        Largest fall from an earlier high, the price on day 0 included; not negative.
    high, low : ndarray of float64, shape (n,), or None
        Extremes over days 1 to the last.
    """

    at: FloatArray
    drawdown: FloatArray | None = None
    high: FloatArray | None = None
    low: FloatArray | None = None

    def first(self, n: int) -> Observed:
        """Keep the figures of the first `n` paths."""
        if n == self.at.shape[1]:
            return self
        return Observed(
            self.at[:, :n],
            None if self.drawdown is None else self.drawdown[:n],
            None if self.high is None else self.high[:n],
            None if self.low is None else self.low[:n],
        )


def observe(path: FloatArray, horizons: tuple[int, ...], *, drawdown: bool, extremes: bool) -> Observed:
    """Reduce full daily paths to the figures that are kept.

    Parameters
    ----------
    path : ndarray of float64, shape (days, n)
        Log of price over initial price; row ``t`` is day ``t + 1``.
    horizons : tuple of int
        Days to keep, counted from 1.
    drawdown, extremes : bool
        Whether to follow drawdowns, and highs and lows.

    Returns
    -------
    Observed
    """
    at = path[np.asarray(horizons) - 1]
    return Observed(
        at,
        max_drawdown(path) if drawdown else None,
        path.max(axis=0) if extremes else None,
        path.min(axis=0) if extremes else None,
    )


def max_drawdown(path: FloatArray) -> FloatArray:
    """Find the largest fall of each path from an earlier high, day 0 included: (days, n) to (n,), in log price."""
    peak = np.zeros(path.shape[1])
    deepest = np.zeros(path.shape[1])
    fall = np.empty(path.shape[1])
    for row in path:
        np.maximum(peak, row, out=peak)
        np.subtract(peak, row, out=fall)
        np.maximum(deepest, fall, out=deepest)
    return deepest
