"""Blocks of ions of equal work, from the counts of the dataset's peaks and of the ions by m/z, before any is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics import runs
from apps.metabolomics.join import Block

STEP = 1.00335
"""Da between isotope peaks: 13C less 12C (AME 2020)."""
ION_TOUCHES = 3_000
"""Peaks that could be touched in the time that an ion costs beyond them, measured."""
BLOCK_TOUCHES = (2_000_000, 3_000_000_000)
"""Window peaks of a block, at least and at most: some ten milliseconds to half a minute."""
BLOCK_PEAKS = 24_000_000
"""Peaks of the dataset that the strips of a block have: 400 MB."""
BLOCK_IONS = 500_000
TASKS = 64


def expected_touches(
    peaks: runs.Counts, ppm: float, n_peaks: int, charge: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what an ion of each bin meets.

    Parameters
    ----------
    peaks : int64[BINS]
        Of the dataset.
    ppm : float
    n_peaks : int
    charge : int
        Least number of charges that an ion has.

    Returns
    -------
    touches, strips : float64[BINS]
        Peaks in the windows of an ion whose first peak is in the bin, and in the bins that they lie in.
    """
    lower = np.maximum(runs.EDGES[:-1], 1.0)
    upper = np.minimum(runs.EDGES[1:], 1e9)
    share = np.minimum(2e-6 * ppm * upper / (upper - lower), 1.0)
    touches, strips = np.zeros(runs.BINS), np.zeros(runs.BINS)
    middle = (lower + upper) / 2
    for step in range(n_peaks):
        met = runs.bin_of(middle + step * STEP / charge)
        touches += (peaks * share)[met]
        strips += peaks[met]
    return touches, strips


def blocks_of(peaks: runs.Counts, ions: runs.Counts, ppm: float, n_peaks: int, charge: int) -> list[Block]:
    """Cut the ions into blocks; parameters as of ``expected_touches``, and the ions by the bin of their first peak."""
    touches, strips = expected_touches(peaks, ppm, n_peaks, charge)
    work = ions * (touches + ION_TOUCHES)
    each = min(max(float(work.sum()) / TASKS, BLOCK_TOUCHES[0]), BLOCK_TOUCHES[1])
    weights = np.where(ions > 0, work / each + strips / BLOCK_PEAKS + ions / BLOCK_IONS, 0)
    return [Block(float(runs.EDGES[low]), float(runs.EDGES[high])) for low, high in runs.cut(weights, 1.0)]
