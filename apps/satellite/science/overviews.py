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
    height, width = image.shape
    fours = image.reshape(height // 2, 2, width // 2, 2)
    valid = np.isfinite(fours) if np.isnan(nodata) else fours != nodata
    number = valid.sum((1, 3))
    total = np.where(valid, fours, 0).astype(np.float64).sum((1, 3))
    mean = total / np.maximum(number, 1)
    rounded = np.rint(mean) if image.dtype.kind in "iu" else mean
    return np.where(number > 0, rounded, nodata).astype(image.dtype)
