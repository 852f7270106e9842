"""Measure of chaos: how far an ion image is from being made of a few connected objects.

Definition: one less the mean number of objects over levels ``max * k / 30`` (strictly above), over the number of pixels
that are not zero. At each level the image is dilated with a 4-neighbour cross and eroded with a 3x3 square, what lies
outside being ignored; objects are 4-connected. After T. Alexandrov and A. Bartels, Testing for presence of known and
unknown molecules in imaging mass spectrometry, Bioinformatics 29, 2335 (2013), in the form that METASPACE's engine
computes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 30


def measure_of_chaos(
    pixels: NDArray[np.int32],
    values: NDArray[np.float64],
    width: int,
    height: int,
    levels: int = LEVELS,
    *,
    engine_compat: bool = False,
) -> float:
    """Compute the measure of one image.

    Parameters
    ----------
    pixels : ndarray of int, shape (m,)
        ``row * width + column`` of the pixels that are not zero, each once, in any order.
    values : ndarray of float, shape (m,)
    width, height : int
        Of the whole image.
    levels : int
    engine_compat : bool
        See `measures_of_chaos`.

    Returns
    -------
    float
        In [0, 1); 0 where no object is left at any level.
    """
    offsets = np.array([0, len(pixels)], dtype=np.int64)
    measures = measures_of_chaos(pixels, values, offsets, width, height, levels, engine_compat=engine_compat)
    return float(measures[0])


def measures_of_chaos(
    pixels: NDArray[np.int32],
    values: NDArray[np.float64],
    offsets: NDArray[np.int64],
    width: int,
    height: int,
    levels: int = LEVELS,
    *,
    engine_compat: bool = False,
) -> NDArray[np.float64]:
    """Compute the measures of many images of one size; the cost is that of their non-zero pixels.

    Parameters
    ----------
    pixels : ndarray of int, shape (m,)
    values : ndarray of float, shape (m,)
    offsets : ndarray of int64, shape (n + 1,)
        Image i is entries ``offsets[i]`` to ``offsets[i + 1]`` of both.
    width, height : int
        Of the whole image.
    levels : int
    engine_compat : bool
        Take a measure within 1e-5 of 1 for 0, as the engine does, which so drops smooth images of one object above
        some 100,000 pixels.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError
        A pixel lies beyond the grid, a value is not finite, or offsets do not fit.
    """
    from apps.metabolomics.science.kernels.chaos import component_sums

    images = len(offsets) - 1
    if pixels.shape != values.shape or offsets[0] < 0 or offsets[-1] > pixels.size or np.any(np.diff(offsets) < 0):
        raise ValueError("pixels and values have one length, and offsets rise within it")
    if pixels.size and not (0 <= pixels.min() <= pixels.max() < width * height and np.isfinite(values).all()):
        raise ValueError(f"a pixel lies beyond the {width} x {height} of the image, or its value is not finite")
    totals, occupied = np.zeros(images, dtype=np.int64), np.zeros(images, dtype=np.int64)
    component_sums(
        np.ascontiguousarray(pixels), np.ascontiguousarray(values), np.ascontiguousarray(offsets), width, height,
        levels, totals, occupied,
    )  # fmt: skip
    measures = 1.0 - totals / levels / np.maximum(occupied, 1)
    measures[totals == 0] = 0.0
    if engine_compat:
        measures[np.isclose(measures, 1.0)] = 0.0
    return measures
