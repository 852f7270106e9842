"""Ions that cannot be told apart by their peaks: isobars share some of them, isomers all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAME = 1e-7
"""Relative difference of m/z, a tenth of a ppm, below which no imaging instrument tells two patterns apart."""


def isobars(mz: NDArray[np.float64], ppm: float) -> list[tuple[int, int]]:
    """Return the pairs of ions of which a window of one overlaps a window of the other.

    Parameters
    ----------
    mz : float64[n, k]
        m/z of the isotope peaks of each ion; NaN where it has no more.
    ppm : float
        Half width of a window.

    Returns
    -------
    list of (int, int)
        Each pair once, the smaller number first, sorted. Isomers are among them.
    """
    ions = np.repeat(np.arange(mz.shape[0]), mz.shape[1])
    flat = mz.ravel()
    held = ~np.isnan(flat)
    flat, ions = flat[held], ions[held]
    order = np.argsort(flat, kind="stable")
    flat, ions = flat[order], ions[order]
    # The upper edge of a window, and the peak whose lower edge just reaches it.
    reach = flat * (1.0 + ppm * 1e-6) / (1.0 - ppm * 1e-6)
    ends = np.searchsorted(flat, reach, side="right")
    pairs: set[tuple[int, int]] = set()
    for at in np.flatnonzero(ends - np.arange(flat.size) > 1):
        one = int(ions[at])
        pairs.update((min(one, int(two)), max(one, int(two))) for two in ions[at + 1 : ends[at]] if two != one)
    return sorted(pairs)


def isomers(mz: NDArray[np.float64], pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those pairs of isobars whose patterns are the same peak by peak, as those of one composition are."""
    with np.errstate(invalid="ignore"):
        return [
            (one, two)
            for one, two in pairs
            if np.array_equal(np.isnan(mz[one]), np.isnan(mz[two]))
            and bool(np.nanmax(np.abs(mz[one] / mz[two] - 1.0)) <= SAME)
        ]
