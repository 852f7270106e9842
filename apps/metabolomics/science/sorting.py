"""Peaks in order of m/z, and the bins of m/z in which segments of a dataset are cut and fetched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 4096
LOWEST_MZ, HIGHEST_MZ = 10.0, 20_000.0
"""Range of the bins; what lies beyond is in the outermost ones."""
INDEX_BITS = 24
KEY_BITS = 64 - INDEX_BITS


def sort_peaks(mz: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.int64]:
    """Find the stable order of peaks by m/z.

    Parameters
    ----------
    mz : ndarray of float64 or float32, shape (n,)
        Finite and not below zero.

    Returns
    -------
    ndarray of int64, shape (n,)
        Indices by rising (m/z, index): what a stable ``argsort`` gives.

    Raises
    ------
    ValueError
        An m/z is negative or not a number.
    """
    from apps.metabolomics.science.kernels.sorting import settle

    if mz.size == 0:
        return np.empty(0, dtype=np.int64)
    # The sign of minus zero too would make the largest number of its bits.
    if np.signbit(mz).any() or not np.isfinite(mz.max()):
        raise ValueError("an m/z is negative or not a number; drop such peaks before sorting")
    if mz.size > 1 << INDEX_BITS:
        return np.argsort(mz, kind="stable")
    # Floats above zero are ordered as the integers of their bits. The upper 40 bits of their range and the index fit
    # into one integer, and integers sort by SIMD; what the lower bits decide is left to the insertion pass.
    single = mz.dtype == np.float32
    bits = np.ascontiguousarray(mz).view(np.uint32 if single else np.uint64).astype(np.uint64)
    bits -= bits.min()
    shift = max(0, int(bits.max()).bit_length() - KEY_BITS)
    keys = ((bits >> np.uint64(shift)) << np.uint64(INDEX_BITS)) | np.arange(mz.size, dtype=np.uint64)
    keys.sort()
    order = (keys & np.uint64((1 << INDEX_BITS) - 1)).view(np.int64)
    if shift:
        settle(order, mz)
    return order


def bin_edges(bins: int = BINS, lowest: float = LOWEST_MZ, highest: float = HIGHEST_MZ) -> NDArray[np.float64]:
    """Return the edges of bins of equal width in log m/z.

    Returns
    -------
    ndarray of float64, shape (bins + 1,)
        The first is 0 and the last infinite, so that every peak is in a bin. Bin i holds ``edges[i] <= m/z <
        edges[i + 1]``.
    """
    edges = np.geomspace(lowest, highest, bins + 1)
    edges[0], edges[-1] = 0.0, np.inf
    return edges


def bin_offsets(mz: NDArray[np.float64] | NDArray[np.float32], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find where each bin begins among peaks sorted by m/z.

    Returns
    -------
    ndarray of int64, shape (bins + 1,)
        Bin i is peaks ``offsets[i]`` to ``offsets[i + 1]``.
    """
    return np.append(np.searchsorted(mz, edges[:-1], side="left"), mz.size)
