"""Counts and sums that do not depend on grouping or on the processor, and the figures read from fine histograms.

Sums are kept as integers in units of 2**-40, so adding them is associative; the exponential uses only IEEE additions
and multiplications, where numpy's own picks one of several routines by processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.montecarlo.science.models import FloatArray

BINS = 1 << 14
"""Bins of a histogram: fine enough that interpolation leaves less error than the simulation itself."""

UNIT_BITS = 40
"""Sums are integers in units of 2**-40 (1e-12): far below one standard error of any forecast."""
UNIT = 2.0**-UNIT_BITS
ROWS_PER_SUM = 4096
"""Longest row added in one go: its integer parts stay below 2**53 while values stay below `LARGEST`."""
LARGEST = 2.0**41

ATOM_SHARE = 0.005
"""Share of all values in one bin from which it may hold a value that many share; a smooth law has less in a bin."""
ATOM_CONTRAST = 10.0
"""And how many times as many as in a bin nearby."""
ATOM_NEIGHBOURS = 4
"""Bins on either side that are nearby; the first of them may hold part of the shared value."""

Counts = NDArray[np.int64]
Packed = tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger], tuple[int, ...]]

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693145751953125
"""ln 2 to 20 bits, so that its product with an exponent is exact."""
_LN2_LOW = 1.42860682030941723212e-6
_TAYLOR = tuple(1.0 / f for f in (6227020800.0, 479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0))
_TAYLOR_LOW = (1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0)
"""1/13! ... 1/0!: on |r| <= ln(2)/2 the remainder is below 1e-17."""


def exponential(values: FloatArray) -> FloatArray:
    """Compute ``exp(values)`` to about one unit in the last place, with the same bits on every processor.

    Parameters
    ----------
    values : ndarray of float64, any shape

    Returns
    -------
    ndarray of float64, same shape
    """
    power = np.rint(values * _LOG2_E)
    rest = values - power * _LN2_HIGH
    rest -= power * _LN2_LOW
    result = np.full_like(rest, _TAYLOR[0])
    for coefficient in _TAYLOR[1:] + _TAYLOR_LOW:
        np.multiply(result, rest, out=result)
        np.add(result, coefficient, out=result)
    return np.ldexp(result, power.astype(np.int32))


def row_sums(values: FloatArray) -> list[int]:
    """Add each row of `values`, exactly, as integers in units of 2**-40.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, n)
        Those beyond plus or minus `LARGEST` count as that.

    Returns
    -------
    list of int
        Each value is rounded to the unit once; the sums themselves are exact, so they may be added in any order.
    """
    totals = [0] * values.shape[0]
    for start in range(0, values.shape[1], ROWS_PER_SUM):
        part = np.clip(values[:, start : start + ROWS_PER_SUM], -LARGEST, LARGEST)
        whole = np.floor(part)
        part -= whole
        np.multiply(part, 2.0**UNIT_BITS, out=part)
        np.rint(part, out=part)
        # Both are sums of integers below 2**53: exact in float64 whatever the order numpy adds in.
        high, low = whole.sum(axis=1).tolist(), part.sum(axis=1).tolist()
        for row, (units, fraction) in enumerate(zip(high, low, strict=True)):
            totals[row] += (int(units) << UNIT_BITS) + int(fraction)
    return totals


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts in `BINS` equal bins, values being spread evenly over their bin.

    Parameters
    ----------
    counts : ndarray of int64, shape (BINS,)
        The outermost bins also hold what lies beyond the range.
    bounds : tuple of (float, float)
        The range.
    lowest, highest : float
        Exact extremes of what was counted.
    higher : ndarray of int64, shape (BINS,), optional
        Where values come in antithetic pairs, the counts of the higher one of each.
    additive : bool
        Whether values are prices themselves, up to a constant, instead of their logarithms.
    """

    counts: Counts
    bounds: tuple[float, float]
    lowest: float
    highest: float
    higher: Counts | None = None
    additive: bool = False

    @property
    def total(self) -> int:
        """Number of counted values."""
        return int(self.counts.sum())

    def quantile(self, q: float) -> float:
        """Return the value at probability `q`, as numpy's ``method="linear"`` defines it."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a probability lies between 0 and 1, {q} does not")
        filled, lower, upper = self._occupied(self.counts)
        ends = np.cumsum(self.counts[filled])
        last = float(ends[-1]) - 1.0
        position = q * last
        if position <= 0.0 or position >= last:
            return self.lowest if position <= 0.0 else self.highest
        i = int(np.searchsorted(ends, position, side="right"))
        inside = float(self.counts[filled[i]])
        share = (position - (float(ends[i]) - inside) + 0.5) / inside
        return float(lower[i] + min(share, 1.0) * (upper[i] - lower[i]))

    def quantile_se(self, q: float) -> float:
        """Return the standard error of `quantile`.

        That of the probability, times the slope between the quantiles as far below and above: this needs no estimate of
        the density.
        """
        step = self._share_se(q, self.quantile(q))
        below, above = max(q - step, 0.0), min(q + step, 1.0)
        return (self.quantile(above) - self.quantile(below)) * step / (above - below)

    def atom(self, q: float) -> float:
        """Return the share of the values that are one and the same at probability `q`; 0 for a smooth distribution.

        Where there is one, as with returns that are drawn again or prices that stand still, a quantile jumps where
        others shift, and `quantile_se` does not mean what it does elsewhere.
        """
        ends = np.cumsum(self.counts)
        i = min(int(np.searchsorted(ends, q * (float(ends[-1]) - 1.0), side="right")), BINS - 1)
        share = float(self.counts[i]) / float(ends[-1])
        left = self.counts[max(0, i - ATOM_NEIGHBOURS) : max(0, i - 1)]
        near = np.concatenate([left, self.counts[i + 2 : i + 1 + ATOM_NEIGHBOURS]])
        return share if share >= ATOM_SHARE and self.counts[i] > ATOM_CONTRAST * near.mean() else 0.0

    def share_below(self, value: float) -> tuple[float, float]:
        """Return the share of the counted values below `value`, and its standard error."""
        share = float(self._cumulative(self.counts, np.asarray([value]))[0]) / self.total
        return share, self._share_se(share, value)

    def shares_below(self, values: FloatArray) -> FloatArray:
        """Return the share of the counted values below each of ascending `values`."""
        return self._cumulative(self.counts, values) / self.total

    def shortfall(self, q: float) -> tuple[float, float]:
        """Return the mean of ``max(exp(quantile(q)) - exp(value), 0)`` over all values, and its standard error.

        Without the exponentials where values are additive.

        For antithetic pairs the standard error is the largest that the distributions of the lower and the higher values
        allow, by the inequality of Cauchy and Schwarz: close where both rarely fall short, as under a GBM.
        """
        cut = self.quantile(q)
        mean, square = self._shortfall_moments(self.counts, cut)
        if self.higher is None:
            return mean, math.sqrt(max(square - mean * mean, 0.0) / self.total)
        _, higher = self._shortfall_moments(self.higher, cut)
        lower = max(2.0 * square - higher, 0.0)
        variance = (square + math.sqrt(higher * lower)) / 2.0 - mean * mean
        return mean, math.sqrt(max(variance, 0.0) / (self.total / 2.0))

    def rebin(self, edges: FloatArray) -> Counts:
        """Count between other edges that enclose all values; rounding never loses or doubles one."""
        cumulative = np.rint(self._cumulative(self.counts, edges)).astype(np.int64)
        cumulative[0], cumulative[-1] = 0, self.total
        return np.diff(cumulative)

    def _share_se(self, share: float, value: float) -> float:
        if self.higher is None:
            return share_se(share, self.total)
        both = float(self._cumulative(self.higher, np.asarray([value]))[0]) / float(self.higher.sum())
        return share_se(share, self.total, both)

    def _occupied(self, counts: Counts) -> tuple[Counts, FloatArray, FloatArray]:
        """Find the bins that hold anything: numbers, and lower and upper edges, cut or stretched to the extremes."""
        filled = np.flatnonzero(counts).astype(np.int64)
        width = (self.bounds[1] - self.bounds[0]) / BINS
        lower = np.asarray(self.bounds[0] + filled * width, dtype=np.float64)
        upper = lower + width
        lower[0] = self.lowest if filled[0] == 0 else max(lower[0], self.lowest)
        upper[-1] = self.highest if filled[-1] == BINS - 1 else min(upper[-1], self.highest)
        return filled, lower, np.asarray(np.maximum(upper, lower), dtype=np.float64)

    def _cumulative(self, counts: Counts, values: FloatArray) -> FloatArray:
        filled, lower, upper = self._occupied(counts)
        ends = np.cumsum(counts[filled]).astype(np.float64)
        points = np.stack([lower, upper], axis=1).reshape(-1)
        heights = np.stack([ends - counts[filled], ends], axis=1).reshape(-1)
        return np.asarray(np.interp(values, np.maximum.accumulate(points), heights), dtype=np.float64)

    def _shortfall_moments(self, counts: Counts, cut: float) -> tuple[float, float]:
        filled, lower, upper = self._occupied(counts)
        keep = lower < cut
        low, high = lower[keep], upper[keep]
        top = np.minimum(high, cut)
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = np.where(high > low, (top - low) / (high - low), 1.0)
        weight = counts[filled[keep]] * inside / float(counts.sum())
        gap = cut - (low + top) / 2.0 if self.additive else math.exp(cut) - np.exp((low + top) / 2.0)
        return float(weight @ gap), float(weight @ (gap * gap))


def share_se(share: float, count: int, both: float | None = None) -> float:
    """Return the standard error of a share of `count` forecasts.

    Parameters
    ----------
    share : float
        The share of the forecasts to which something happened.
    count : int
        Forecasts, antithetic ones counted singly.
    both : float, optional
        For antithetic forecasts the share of the pairs to both of which it happened; without it all are independent.

    Returns
    -------
    float
        At least ``1 / count``: what never happened in so many forecasts is not known to be impossible.
    """
    if both is None:
        variance = share * (1.0 - share) / count
    else:
        variance = ((share + both) / 2.0 - share * share) / (count / 2.0)
    return max(math.sqrt(max(variance, 0.0)), 1.0 / count)


def bin_numbers(values: FloatArray, lower: FloatArray, upper: FloatArray) -> Counts:
    """Find the histogram bin of each value; values outside the range belong to the first or last bin.

    Parameters
    ----------
    values : ndarray of float64, shape (rows, n)
    lower, upper : ndarray of float64, shape (rows,)

    Returns
    -------
    ndarray of int64, shape (rows, n)
        0 to ``BINS - 1``.
    """
    bins = values - lower[:, None]
    np.multiply(bins, (BINS / (upper - lower))[:, None], out=bins)
    np.floor(bins, out=bins)
    return np.clip(bins, 0.0, BINS - 1.0, out=bins).astype(np.int64)


def auto_bins(lowest: float, highest: float, interquartile: float, count: int) -> int:
    """Choose a number of bins as numpy's ``bins="auto"``: the narrower Freedman-Diaconis or Sturges width."""
    spread = highest - lowest
    if spread <= 0.0:
        return 1
    sturges = spread / (math.log2(count) + 1.0)
    freedman_diaconis = 2.0 * interquartile * count ** (-1.0 / 3.0)
    width = min(freedman_diaconis, sturges) if freedman_diaconis > 0.0 else sturges
    return max(1, math.ceil(spread / width))


def packed(counts: Counts) -> Packed:
    """Keep filled bins and their counts alone, in the smallest types, for sending."""
    filled = np.flatnonzero(counts)
    steps = np.diff(filled, prepend=0)
    return _small(steps), _small(counts.reshape(-1)[filled]), counts.shape


def unpacked(packed_counts: Packed) -> Counts:
    """Restore the counts that `packed` was given."""
    steps, values, shape = packed_counts
    counts = np.zeros(math.prod(shape), dtype=np.int64)
    counts[np.cumsum(steps, dtype=np.int64)] = values
    return counts.reshape(shape)


def _small(values: Counts) -> NDArray[np.unsignedinteger]:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
