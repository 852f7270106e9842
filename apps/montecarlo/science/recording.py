"""What is kept of simulated paths, and its counting into a summary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.montecarlo.science.histograms import BINS, bin_numbers, exponential, row_sums
from apps.montecarlo.science.models import FloatArray
from apps.montecarlo.science.spec import SimulationSpec
from apps.montecarlo.science.summary import ADDITIVE_OFFSET, Summary

TIE = 1e-10
"""Log prices this close are one price: sums of returns that cancel leave rounding errors a thousand times smaller.
Of prices themselves it is the share of the histogram's range."""


@dataclass(frozen=True, eq=False)
class Observed:
    """Figures of `n` paths, all in log of price over initial price (price less initial price for an additive model).

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


class Recorder:
    """Counts observed paths of one job; memory does not grow with their number.

    Moments take a price beyond 2**41 times the middle of its histogram as that large; no standard error survives one.
    """

    def __init__(self, spec: SimulationSpec) -> None:
        if not spec.bounds:
            raise ValueError("the histogram ranges of this job are not planned; pass it through `planned` first")
        self._spec = spec
        rows = len(spec.horizons)
        bounds = np.asarray(spec.bounds, dtype=np.float64)
        self._lower, self._upper = bounds[:, 0], bounds[:, 1]
        self._centre = (self._lower + self._upper) / 2.0
        self._tie = TIE * (self._upper - self._lower) if spec.additive else np.full(rows, TIE)
        self._counts = np.zeros((rows, BINS), dtype=np.int64)
        self._pair_counts = np.zeros((rows if spec.antithetic else 0, BINS), dtype=np.int64)
        self._lowest, self._highest = np.full(rows, np.inf), np.full(rows, -np.inf)
        self._moments = [[0] * rows for _ in range(3)]
        self._touches, self._touched_pairs = [0] * len(spec.levels), [0] * len(spec.levels)
        self._below, self._pairs_below = [0] * rows, [0] * rows
        self._drawdown_counts = np.zeros((1 if spec.drawdown else 0, BINS), dtype=np.int64)
        self._drawdown_moments, self._deepest = [[0], [0], [0]], 0.0
        self._forecasts = 0

    def add(self, observed: Observed) -> None:
        """Count some paths.

        Raises
        ------
        ValueError
            A price has left the range of floating point.
        """
        at = observed.at
        if not np.isfinite(at).all():
            raise ValueError(f"prices of the {self._spec.model.name} model leave the range of numbers")
        self._forecasts += at.shape[1]
        bins = bin_numbers(at, self._lower, self._upper)
        _count(self._counts, bins)
        if self._spec.antithetic:
            _count(self._pair_counts, np.maximum(bins[:, ::2], bins[:, 1::2]))
        np.minimum(self._lowest, at.min(axis=1), out=self._lowest)
        np.maximum(self._highest, at.max(axis=1), out=self._highest)
        self._moments = self._plus(self._moments, self._moment_values(at - self._centre[:, None]))
        self._add_below(at < -self._tie[:, None])
        self._add_touches(observed)
        if observed.drawdown is not None:
            self._add_drawdown(observed.drawdown)

    def _moment_values(self, distance: FloatArray) -> FloatArray:
        """Turn distances from the middle of the histogram into values that are not negative, for exact sums."""
        if self._spec.additive:
            return distance / (self._upper - self._centre)[:, None] + ADDITIVE_OFFSET
        return exponential(distance)

    def _add_below(self, below: NDArray[np.bool_]) -> None:
        self._below = [a + b for a, b in zip(self._below, below.sum(axis=1).tolist(), strict=True)]
        if self._spec.antithetic:
            both = (below[:, ::2] & below[:, 1::2]).sum(axis=1).tolist()
            self._pairs_below = [a + b for a, b in zip(self._pairs_below, both, strict=True)]

    def _add_touches(self, observed: Observed) -> None:
        if observed.high is None or observed.low is None:
            return
        for i, level in enumerate(self._spec.levels):
            distance = level - self._spec.s0 if self._spec.additive else np.log(level / self._spec.s0)
            tie = self._tie[-1]
            touched = observed.high >= distance - tie if distance > 0 else observed.low <= distance + tie
            self._touches[i] += int(np.count_nonzero(touched))
            if self._spec.antithetic:
                self._touched_pairs[i] += int(np.count_nonzero(touched[::2] & touched[1::2]))

    def _add_drawdown(self, drawdown: FloatArray) -> None:
        bound = np.asarray([self._spec.drawdown_bound])
        _count(self._drawdown_counts, bin_numbers(drawdown[None, :], np.zeros(1), bound))
        self._deepest = max(self._deepest, float(drawdown.max()))
        self._drawdown_moments = self._plus(self._drawdown_moments, 1.0 - exponential(-drawdown[None, :]))

    def _plus(self, moments: list[list[int]], values: FloatArray) -> list[list[int]]:
        """Add to sums, sums of squares, and sums of the squares of pair means, of each row of `values`."""
        parts = [row_sums(values), row_sums(values * values), [0] * values.shape[0]]
        if self._spec.antithetic:
            middle = (values[:, ::2] + values[:, 1::2]) * 0.5
            parts[2] = row_sums(middle * middle)
        return [[a + b for a, b in zip(old, new, strict=True)] for old, new in zip(moments, parts, strict=True)]

    def finish(self) -> Summary:
        """Return the summary of all that was counted."""
        spec = self._spec
        return Summary(
            s0=spec.s0,
            horizons=spec.horizons,
            bounds=spec.bounds,
            levels=spec.levels,
            drawdown_bound=spec.drawdown_bound,
            antithetic=spec.antithetic,
            forecasts=self._forecasts,
            path_steps=self._forecasts * spec.steps,
            counts=self._counts,
            pair_counts=self._pair_counts,
            lowest=self._lowest,
            highest=self._highest,
            sums=tuple(self._moments[0]),
            squares=tuple(self._moments[1]),
            pair_squares=tuple(self._moments[2]),
            touches=tuple(self._touches),
            touched_pairs=tuple(self._touched_pairs),
            additive=spec.additive,
            below=tuple(self._below),
            pairs_below=tuple(self._pairs_below),
            drawdown_counts=self._drawdown_counts.reshape(-1),
            drawdown_sums=tuple(moment[0] for moment in self._drawdown_moments),
            deepest=self._deepest,
        )


def _count(counts: NDArray[np.int64], bins: NDArray[np.int64]) -> None:
    flat = bins + (np.arange(counts.shape[0]) * BINS)[:, None]
    np.add.at(counts.reshape(-1), flat.reshape(-1), 1)
