"""Smaller images of a raster, each of half the size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.generic]


def overviews(image: Image, nodata: float, smallest: int, mean: bool) -> list[Image]:
    """Return images of 1/2, 1/4 ... of the size, down to `smallest` pixels a side.

    Parameters
    ----------
    image : ndarray, shape (height, width)
    nodata : float
        Is left out of means.
    mean : bool
        Of the pixels that have a value; otherwise the first of four, as classes and counts need it.
    """
    made: list[Image] = []
    while min(image.shape) > smallest and not any(side % 2 for side in image.shape):
        image = _mean(image, nodata) if mean else image[::2, ::2]
        made.append(image)
    return made


def _mean(image: Image, nodata: float) -> Image:
    fours = [image[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    number = np.zeros(fours[0].shape, np.int8)
    total = np.zeros(fours[0].shape, np.int32 if image.dtype.kind in "iu" else np.float64)
    for part in fours:
        valid = part == part if np.isnan(nodata) else part != nodata  # NaN is not itself
        number += valid
        np.add(total, part, out=total, where=valid, casting="unsafe")
    mean = total / np.maximum(number, 1)
    rounded = np.rint(mean, out=mean) if image.dtype.kind in "iu" else mean
    return np.where(number > 0, rounded, nodata).astype(image.dtype)
