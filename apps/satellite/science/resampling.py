"""Pixels of a source at the places of another raster's: as they are, by nearest neighbour, or bilinear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.satellite.science.grid import Raster, centres

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Places:
    """Which pixels of a source are wanted, along one axis.

    Attributes
    ----------
    start, stop : int
        The part of the source that has to be read; empty if the two are equal.
    first, last : int
        The part of the target that the source covers.
    index : ndarray of int
        For each place of that part the source's pixel, from `start`.
    """

    start: int
    stop: int
    first: int
    last: int
    index: Index

    @property
    def is_plain(self) -> bool:
        """Whether each pixel is wanted once, in order."""
        return self.index.size == self.stop - self.start and bool(np.all(np.diff(self.index) == 1))


def nearest(target: Raster, source: Raster) -> tuple[Places, Places]:
    """Return the rows and the columns of a source that are nearest to a target's pixels."""
    rows, columns = centres(target, source)
    return _places(rows, source.height), _places(columns, source.width)


def _places(where: NDArray[np.float64], length: int) -> Places:
    found = np.floor(where + 1e-9).astype(np.intp)
    inside = np.flatnonzero((found >= 0) & (found < length))
    if inside.size == 0:
        return Places(0, 0, 0, 0, found[:0])
    first, last = int(inside[0]), int(inside[-1]) + 1
    index = found[first:last]
    start, stop = int(index[0]), int(index[-1]) + 1
    return Places(start, stop, first, last, index - start)


def taken(window: NDArray[np.generic], rows: Places, columns: Places) -> NDArray[np.generic]:
    """Return the wanted pixels of a window that was read for them."""
    if rows.is_plain and columns.is_plain:
        return window
    return window.take(columns.index, 1).take(rows.index, 0)  # whole rows are copied fast


def bilinear(
    values: NDArray[np.int16], valid: NDArray[np.bool_], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Interpolate between the four pixels around each place; where one of them is not valid, nothing is.

    Parameters
    ----------
    values, valid : ndarray, shape (h, w)
    rows, columns : ndarray, shapes (H,) and (W,)
        Places in pixels from the corner of `values`, so that the centre of its first pixel is at 0.5.

    Returns
    -------
    ndarray of int16, ndarray of bool, shape (H, W)
        Rounded half to even.
    """
    height, width = values.shape
    row, row_weight, row_in = _around(rows - 0.5, height)
    column, column_weight, column_in = _around(columns - 0.5, width)
    out = np.zeros((rows.size, columns.size))
    good = row_in[:, None] & column_in[None, :]
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - row_weight)[:, None] * np.abs(1 - right - column_weight)[None, :]
            at = np.ix_(np.minimum(row + down, height - 1), np.minimum(column + right, width - 1))
            out += weight * values[at]
            good &= valid[at] | (weight == 0)
    return np.where(good, np.rint(out), 0).astype(np.int16), good


def _around(where: NDArray[np.float64], length: int) -> tuple[Index, NDArray[np.float64], NDArray[np.bool_]]:
    inside = (where >= -1e-9) & (where <= length - 1 + 1e-9)
    bounded = np.clip(where, 0, length - 1)
    lower = np.floor(bounded).astype(np.intp)
    return lower, bounded - lower, inside
