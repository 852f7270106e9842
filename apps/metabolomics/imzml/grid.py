"""From positions to pixels of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core import InputError

MAX_AREA = 2**31 - 1
"""Pixels of a picture, which are numbered in 32 bits."""
SMALL_AREA = 1_000_000
SPARSE = 1_000
"""Pixels for each spectrum, beyond which a picture that is not small is taken for a mistake in a position."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The picture that spectra fill.

    Parameters
    ----------
    width, height : int
    x, y : int
        Position of its first pixel in the file.
    pixel : int32 array, shape (n,)
        ``(y - ymin) * width + (x - xmin)`` of each spectrum.
    """

    width: int
    height: int
    x: int
    y: int
    pixel: NDArray[np.int32]


def make_grid(source: str, positions: NDArray[np.int32], numbers: NDArray[np.int32]) -> Grid:
    """Lay spectra on the smallest picture that holds them.

    Parameters
    ----------
    source : str
    positions : int32 array, shape (n, 2 or more)
        x and y; the least int32 where there is none.
    numbers : int32 array, shape (n,)
        Of each spectrum in its file.

    Raises
    ------
    InputError
        A spectrum has no position, or the picture would be far larger than what is in it.
    """
    x, y = positions[:, 0].astype(np.int64), positions[:, 1].astype(np.int64)
    absent = (positions[:, :2] == np.iinfo(np.int32).min).any(axis=1)
    if absent.any():
        number = int(numbers[np.argmax(absent)])
        raise InputError(
            f"{source}: {int(absent.sum()):,} spectra have no position x (IMS:1000050) or y (IMS:1000051), the first "
            f"is spectrum {number:,}; export the file again"
        )
    left, top = int(x.min()), int(y.min())
    width, height = int(x.max()) - left + 1, int(y.max()) - top + 1
    area = width * height
    if area > MAX_AREA or (area > SMALL_AREA and area > SPARSE * len(x)):
        far = np.maximum(abs(x - np.median(x)), abs(y - np.median(y)))
        row = int(np.argmax(far))
        raise InputError(
            f"{source}: the positions span {width:,} x {height:,} pixels for {len(x):,} spectra; the farthest off is "
            f"spectrum {int(numbers[row]):,} at ({int(x[row]):,}, {int(y[row]):,}): correct or remove it"
        )
    return Grid(width, height, left, top, ((y - top) * width + (x - left)).astype(np.int32))
