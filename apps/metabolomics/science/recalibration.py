"""The error of a dataset's m/z scale, learnt from ions that are certain, and where it makes ions appear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_IONS = 40
"""Confident ions without which nothing is learnt."""
IONS_PER_KNOT = 20
MOST_KNOTS = 10

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Recalibration:
    """The error of the m/z scale.

    Attributes
    ----------
    mz : ndarray of float64, shape (k,)
        Where it is known, ascending.
    ppm : ndarray of float64, shape (k,)
        Measured less true m/z there, in parts per million. Between two points it is on their line, beyond the
        outermost ones it stays what it is there.
    n_ions : int
        Ions that it was learnt from.
    """

    mz: FloatArray
    ppm: FloatArray
    n_ions: int

    def error(self, mz: FloatArray) -> FloatArray:
        """Return the error at some m/z in ppm; NaN where m/z is."""
        return np.asarray(np.interp(mz, self.mz, self.ppm), dtype=np.float64)

    def measured(self, mz: FloatArray) -> FloatArray:
        """Return where peaks of a true m/z are to be looked for."""
        return np.asarray(mz * (1.0 + self.error(mz) * 1e-6), dtype=np.float64)


def fit_recalibration(mz: FloatArray, ppm: FloatArray) -> Recalibration | None:
    """Learn the error of the m/z scale: its median among neighbouring ions, at up to ten points.

    A median bears that nearly half of the ions be wrong. Windows cut errors off at their width, so one that is close to
    it is found too small; learning again from what the corrected windows find mends that.

    Parameters
    ----------
    mz, ppm : ndarray of float64, shape (n,)
        m/z of ions that are certain, and measured less true m/z in parts per million of them; NaN counts as no ion.

    Returns
    -------
    Recalibration or None
        None with fewer than 40 ions, or where it would not help: half of the ions, corrected by what the other half
        teaches, must come closer to their true m/z.
    """
    known = np.isfinite(mz) & np.isfinite(ppm)
    order = np.lexsort((ppm[known], mz[known]))
    mz, ppm = mz[known][order], ppm[known][order]
    if mz.size < FEWEST_IONS:
        return None
    halves = [_medians(mz[half::2], ppm[half::2]) for half in (1, 0)]
    left = [ppm[half::2] - halves[half].error(mz[half::2]) for half in (0, 1)]
    if np.median(np.abs(np.concatenate(left))) >= np.median(np.abs(ppm)):
        return None
    return _medians(mz, ppm)


def _medians(mz: FloatArray, ppm: FloatArray) -> Recalibration:
    """Take medians of groups of neighbours; m/z ascending."""
    groups = max(1, min(MOST_KNOTS, mz.size // IONS_PER_KNOT))
    parts = list(zip(np.array_split(mz, groups), np.array_split(ppm, groups), strict=True))
    knots = np.array([[np.median(x), np.median(error)] for x, error in parts])
    # Many ions of one m/z may be the median of two groups.
    _, first = np.unique(knots[:, 0], return_index=True)
    return Recalibration(knots[first, 0], knots[first, 1], mz.size)
