"""Profile data: told from centroids by the spacing of their points, and brought to peaks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

LIKE = 0.25
"""Relative difference up to which two spacings in a row count as alike: within a profile they change slowly."""
SHARE = 0.5
"""Share of spacings alike from which points are those of a profile; of independent ones it is a ninth."""
FEW = 20
"""Points below which nothing is told."""
GAP = 3.0
"""Spacings of the points around it beyond which a spacing is a gap, where what was low has been cut away."""
WIDEST, WIDEST_SHARE = 0.5, 2e-4
"""Da, and share of m/z, beyond both of which a spacing is a gap whatever is around it. Ion traps and quadrupoles record
ten points a Da or more; in a flight time of 50 µs a step of 4 ns or less is 1.6e-4 of m/z (m grows as t**2)."""
ROW = 25
"""Spacings of points in even rows of which the median is the spacing of a profile there."""


def is_profile(mz: FloatArray, intensity: FloatArray) -> bool | None:
    """Tell whether a spectrum is in profile mode; None where it has too few points to tell.

    Parameters
    ----------
    mz, intensity : array, shape (n,)
        m/z rising.
    """
    there = intensity > 0
    # A profile has zeros beside its peaks, or has them cut away; either way its points stand in even rows.
    spacing = np.diff(np.asarray(mz, np.float64))
    both = there[:-1] | there[1:]
    spacing = spacing[both]
    spacing = spacing[spacing > 0]
    if len(spacing) < FEW:
        return None
    return bool(_alike(spacing[:-1], spacing[1:]).mean() >= SHARE)


def pick_peaks(mz: FloatArray, intensity: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the peaks of a spectrum in profile mode: each local maximum, with the apex of the Gaussian through it.

    A Gaussian is told by three points: a parabola in the logarithm of intensity. A maximum beside a zero or a gap, or
    between unlike spacings, keeps its own m/z and intensity.

    Parameters
    ----------
    mz, intensity : array, shape (n,)
        m/z rising; intensities finite.

    Returns
    -------
    mz, intensity : float64 array, shape (peaks,)
    """
    x, inner = np.asarray(mz, np.float64), np.maximum(np.asarray(intensity, np.float64), 0.0)
    gaps = _gaps(x)
    x, inner = np.insert(x, gaps + 1, (x[gaps] + x[gaps + 1]) / 2), np.insert(inner, gaps + 1, 0.0)
    y = np.concatenate([[0.0], inner, [0.0]])
    # The first point of a flat top is the maximum.
    after = _next_different(y)
    top = np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] > after[1:-1]))
    centre, height = x[top].copy(), y[top + 1].copy()
    smooth = (y[top] > 0) & (y[top + 2] > 0)
    at = top[smooth]
    left, right = x[at - 1] - x[at], x[at + 1] - x[at]
    spaced = (left < 0) & (right > 0) & _alike(-left, right)
    at, left, right = at[spaced], left[spaced], right[spaced]
    down_left, down_right = np.log(y[at] / y[at + 1]), np.log(y[at + 2] / y[at + 1])
    # log y = a d**2 + b d with d the distance from the maximum
    a = (down_right / right - down_left / left) / (right - left)
    b = down_left / left - a * left
    bent = a < 0
    shift = np.where(bent, -b / np.where(bent, 2 * a, 1.0), 0.0)
    which = np.flatnonzero(smooth)[spaced]
    centre[which] += shift
    height[which] *= np.exp(np.where(bent, -a * shift * shift, 0.0))
    return centre, height


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(other - one) <= LIKE * np.minimum(one, other))


def _gaps(x: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return behind which points of a profile others are missing."""
    spacing = np.diff(x)
    usual: NDArray[np.float64] | float = np.inf
    rows = np.flatnonzero(_alike(spacing[:-1], spacing[1:]) & (spacing[1:] > 0))
    if len(rows):
        parts = np.array_split(rows, max(1, len(rows) // ROW))
        usual = np.interp(x[:-1], [np.median(x[part]) for part in parts], [np.median(spacing[part]) for part in parts])
    return np.flatnonzero(spacing > np.minimum(GAP * usual, np.maximum(WIDEST, WIDEST_SHARE * x[:-1])))


def _next_different(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each point the next value that differs from its own; its own where none follows."""
    change = np.flatnonzero(np.diff(y) != 0) + 1
    following = np.searchsorted(change, np.arange(len(y)), side="right")
    padded = np.append(change, len(y) - 1)
    found: NDArray[np.float64] = y[padded[following]]
    return found
