"""Counting of observed paths into a summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from apps.montecarlo.exact import exponential, row_sums
from apps.montecarlo.models import FloatArray
from apps.montecarlo.observing import Observed
from apps.montecarlo.summary import BINS, Summary

if TYPE_CHECKING:
    from apps.montecarlo.simulation import SimulationSpec


def bin_numbers(values: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Find the histogram bin of each value, as whole floats; values outside the range belong to the first or last bin.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, n)
    lower, upper : ndarray of float64, shape (rows,)

    Returns
    -------
    ndarray of float64, shape (rows, n)
        0 to ``BINS - 1``.
    """
    bins = values - lower[:, None]
    np.multiply(bins, (BINS / (upper - lower))[:, None], out=bins)
    np.floor(bins, out=bins)
    return np.clip(bins, 0.0, BINS - 1.0, out=bins)


class Recorder:
    """Counts observed paths of one job; memory does not grow with their number.

    Moments take a price beyond 2**41 times the middle of its histogram as that large; no standard error survives one.
    """

    def __init__(self, spec: SimulationSpec) -> None:
        self._spec = spec
        rows = len(spec.horizons)
        bounds = np.asarray(spec.bounds, dtype=np.float64)
        self._lower, self._upper = bounds[:, 0], bounds[:, 1]
        self._centre = (self._lower + self._upper) / 2.0
        self._offsets = (np.arange(rows) * BINS)[:, None]
        self._counts = np.zeros((rows, BINS), dtype=np.int64)
        self._lowest, self._highest = np.full(rows, np.inf), np.full(rows, -np.inf)
        self._sums, self._squares, self._pair_squares = [0] * rows, [0] * rows, [0] * rows
        self._touches, self._touched_pairs = [0] * len(spec.levels), [0] * len(spec.levels)
        self._drawdown_counts = np.zeros(BINS if spec.drawdown else 0, dtype=np.int64)
        self._drawdown_sums, self._deepest = [0, 0], 0.0
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
        bins = bin_numbers(at, self._lower, self._upper).astype(np.int64)
        bins += self._offsets
        np.add.at(self._counts.reshape(-1), bins.reshape(-1), 1)
        np.minimum(self._lowest, at.min(axis=1), out=self._lowest)
        np.maximum(self._highest, at.max(axis=1), out=self._highest)
        self._add_moments(exponential(at - self._centre[:, None]))
        self._add_touches(observed)
        if observed.drawdown is not None:
            self._add_drawdown(observed.drawdown)

    def _add_moments(self, scaled: FloatArray) -> None:
        if self._spec.antithetic:
            middle = (scaled[:, ::2] + scaled[:, 1::2]) * 0.5
            self._pair_squares = _plus(self._pair_squares, row_sums(middle * middle))
        self._sums = _plus(self._sums, row_sums(scaled))
        self._squares = _plus(self._squares, row_sums(scaled * scaled))

    def _add_touches(self, observed: Observed) -> None:
        if observed.high is None or observed.low is None:
            return
        for i, level in enumerate(self._spec.levels):
            distance = np.log(level / self._spec.s0)
            touched = observed.high >= distance if distance > 0 else observed.low <= distance
            self._touches[i] += int(np.count_nonzero(touched))
            if self._spec.antithetic:
                self._touched_pairs[i] += int(np.count_nonzero(touched[::2] & touched[1::2]))

    def _add_drawdown(self, drawdown: FloatArray) -> None:
        bound = np.asarray([self._spec.drawdown_bound])
        bins = bin_numbers(drawdown[None, :], np.zeros(1), bound).astype(np.int64)
        np.add.at(self._drawdown_counts, bins[0], 1)
        self._deepest = max(self._deepest, float(drawdown.max()))
        fraction = 1.0 - exponential(-drawdown)
        self._drawdown_sums = _plus(self._drawdown_sums, row_sums(np.stack([fraction, fraction * fraction])))

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
            lowest=self._lowest,
            highest=self._highest,
            sums=tuple(self._sums),
            squares=tuple(self._squares),
            pair_squares=tuple(self._pair_squares),
            touches=tuple(self._touches),
            touched_pairs=tuple(self._touched_pairs),
            drawdown_counts=self._drawdown_counts,
            drawdown_sums=tuple(self._drawdown_sums),
            deepest=self._deepest,
        )


def _plus(left: list[int], right: list[int]) -> list[int]:
    return [a + b for a, b in zip(left, right, strict=True)]
