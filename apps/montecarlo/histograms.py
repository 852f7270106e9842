"""Figures read from fine histograms of log values."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from apps.montecarlo.models import FloatArray

BINS = 1 << 14
"""Bins of a histogram: fine enough that interpolation leaves less error than the simulation itself."""

Histogram = tuple[NDArray[np.int64], tuple[float, float], float, float]
"""Counts, range, and exact extremes of what was counted; the outermost bins also hold what lies beyond the range."""

Packed = tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger], tuple[int, ...]]


def centres(lower: float, upper: float) -> FloatArray:
    """Return the middle of each bin."""
    return np.asarray(lower + (np.arange(BINS) + 0.5) * ((upper - lower) / BINS), dtype=np.float64)


def occupied_edges(
    counts: NDArray[np.int64], bounds: tuple[float, float], lowest: float, highest: float
) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
    """Find the bins that hold anything: numbers, and lower and upper edges, cut or stretched to the extremes."""
    filled = np.flatnonzero(counts).astype(np.int64)
    width = (bounds[1] - bounds[0]) / BINS
    lower = np.asarray(bounds[0] + filled * width, dtype=np.float64)
    upper = lower + width
    lower[0], upper[-1] = lowest, highest
    return filled, lower, np.asarray(np.maximum(upper, lower), dtype=np.float64)


def quantile(counts: NDArray[np.int64], bounds: tuple[float, float], lowest: float, highest: float, q: float) -> float:
    """Return the value at probability `q` (numpy's ``method="linear"``), values being spread evenly over their bin."""
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a probability lies between 0 and 1, {q} does not")
    filled, lower, upper = occupied_edges(counts, bounds, lowest, highest)
    ends = np.cumsum(counts[filled])
    position = q * (float(ends[-1]) - 1.0)
    if position <= 0.0:
        return lowest
    if position >= float(ends[-1]) - 1.0:
        return highest
    i = int(np.searchsorted(ends, position, side="right"))
    share = (position - (float(ends[i]) - float(counts[filled[i]])) + 0.5) / float(counts[filled[i]])
    return float(lower[i] + min(share, 1.0) * (upper[i] - lower[i]))


def quantile_se(
    counts: NDArray[np.int64], bounds: tuple[float, float], lowest: float, highest: float, q: float
) -> float:
    """Return the standard error of `quantile` for independent values.

    Half the distance between the quantiles one standard error of the probability below and above, which needs no
    estimate of the density.
    """
    total = float(counts.sum())
    step = math.sqrt(q * (1.0 - q) / total)
    below = quantile(counts, bounds, lowest, highest, max(q - step, 0.0))
    above = quantile(counts, bounds, lowest, highest, min(q + step, 1.0))
    return (above - below) / 2.0


def share_below(
    counts: NDArray[np.int64], bounds: tuple[float, float], lowest: float, highest: float, value: float
) -> float:
    """Return the share of the counted values below `value`."""
    return float(_cumulative(counts, bounds, lowest, highest, np.asarray([value]))[0] / counts.sum())


def tail_shortfall(
    counts: NDArray[np.int64], bounds: tuple[float, float], lowest: float, highest: float, q: float
) -> tuple[float, float]:
    """Return mean and mean square over all values of ``max(exp(quantile q) - exp(value), 0)``."""
    cut = quantile(counts, bounds, lowest, highest, q)
    filled, lower, upper = occupied_edges(counts, bounds, lowest, highest)
    keep = lower < cut
    low, high = lower[keep], upper[keep]
    top = np.minimum(high, cut)
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = np.where(high > low, (top - low) / (high - low), 1.0)
    weight = counts[filled[keep]] * inside / float(counts.sum())
    gap = math.exp(cut) - np.exp((low + top) / 2.0)
    return float(weight @ gap), float(weight @ (gap * gap))


def rebin(
    counts: NDArray[np.int64], bounds: tuple[float, float], lowest: float, highest: float, edges: FloatArray
) -> NDArray[np.int64]:
    """Count between other edges that enclose all values; rounding never loses or doubles one."""
    cumulative = np.rint(_cumulative(counts, bounds, lowest, highest, edges)).astype(np.int64)
    cumulative[0], cumulative[-1] = 0, counts.sum()
    return np.diff(cumulative)


def auto_bins(lowest: float, highest: float, interquartile: float, count: int) -> int:
    """Choose a number of bins as numpy's ``bins="auto"``: the narrower Freedman-Diaconis or Sturges width."""
    spread = highest - lowest
    if spread <= 0.0:
        return 1
    sturges = spread / (math.log2(count) + 1.0)
    freedman_diaconis = 2.0 * interquartile * count ** (-1.0 / 3.0)
    width = min(freedman_diaconis, sturges) if freedman_diaconis > 0.0 else sturges
    return max(1, math.ceil(spread / width))


def packed(counts: NDArray[np.int64]) -> Packed:
    """Keep filled bins and their counts alone, in the smallest types, for sending."""
    filled = np.flatnonzero(counts)
    values = counts.reshape(-1)[filled]
    steps = np.diff(filled, prepend=0)
    return _small(steps), _small(values), counts.shape


def unpacked(packed_counts: Packed) -> NDArray[np.int64]:
    """Restore the counts that `packed` was given."""
    steps, values, shape = packed_counts
    counts = np.zeros(math.prod(shape), dtype=np.int64)
    counts[np.cumsum(steps, dtype=np.int64)] = values
    return counts.reshape(shape)


def _small(values: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _cumulative(
    counts: NDArray[np.int64], bounds: tuple[float, float], lowest: float, highest: float, values: FloatArray
) -> FloatArray:
    filled, lower, upper = occupied_edges(counts, bounds, lowest, highest)
    ends = np.cumsum(counts[filled]).astype(np.float64)
    points = np.stack([lower, upper], axis=1).reshape(-1)
    heights = np.stack([ends - counts[filled], ends], axis=1).reshape(-1)
    return np.asarray(np.interp(values, np.maximum.accumulate(points), heights), dtype=np.float64)
