"""How well the images of an ion's isotopes fit its pattern (spectral) and one another (spatial).

Definitions of METASPACE's engine, after A. Palmer et al., Nature Methods 14, 57 (2017). The score of an ion is MSM, the
product of both and of the measure of chaos of its first image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of n ions with k isotope peaks.

    Attributes
    ----------
    spatial : ndarray of float64, shape (n,)
        Mean correlation of the first image with the others, weighted by theory; from 0 to 1.
    spectral : ndarray of float64, shape (n,)
        One less the mean difference of measured and theoretical pattern, each of length one.
    usable : ndarray of bool, shape (n,)
        The first image and one more have `min_px` pixels; both scores are 0 elsewhere.
    n_pixels : ndarray of int32, shape (n, k)
        Pixels of each image.
    total, minimum, maximum : ndarray of float64, shape (n, k)
        Sum, least and largest of an image's pixels; 0 for an empty one.
    mean_mz : ndarray of float64, shape (n, k)
        Of an image's peaks, weighted by intensity; NaN for an empty one.
    """

    spatial: NDArray[np.float64]
    spectral: NDArray[np.float64]
    usable: NDArray[np.bool_]
    n_pixels: NDArray[np.int32]
    total: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean_mz: NDArray[np.float64]


def score_ions(
    mz: FloatArray,
    pixel: NDArray[np.int32],
    intensity: NDArray[np.float32],
    windows_low: NDArray[np.float64],
    windows_high: NDArray[np.float64],
    theory: NDArray[np.float64],
    n_grid: int,
    n_sampled: int,
    min_px: int = 1,
) -> Scores:
    """Score ions on peaks that are sorted by m/z.

    Parameters
    ----------
    mz : ndarray of float64 or float32, shape (m,)
        By rising m/z. All peaks that lie in a window must be there, others need not.
    pixel : ndarray of int32, shape (m,)
        ``row * width + column`` of each peak.
    intensity : ndarray of float32, shape (m,)
        Above zero.
    windows_low, windows_high : ndarray of float64, shape (n, k)
        m/z windows of the pattern's peaks, both ends included; NaN where it has none (`centroids.windows`).
    theory : ndarray of float64, shape (n, k)
        The pattern's intensities on any scale, 0 where it has no peak.
    n_grid : int
        Pixels of the grid; all of `pixel` are below it.
    n_sampled : int
        Pixels that have a spectrum, an empty one too: what correlations are taken over.
    min_px : int
        Pixels that an image needs to count.

    Returns
    -------
    Scores

    Raises
    ------
    ValueError
        Peaks are not sorted by m/z or lie beyond the grid, or arrays do not fit one another.
    """
    from apps.metabolomics.science.kernels.scores import score_rows

    if not (mz.shape == pixel.shape == intensity.shape and windows_low.shape == windows_high.shape == theory.shape):
        raise ValueError("m/z, pixels and intensities have one length each, windows and theory one shape")
    if np.any(mz[1:] < mz[:-1]):
        raise ValueError("peaks are not sorted by m/z")
    if pixel.size and not 0 <= pixel.min() <= pixel.max() < n_grid:
        raise ValueError(f"a peak lies on pixel {pixel.max()} (lowest {pixel.min()}) of a grid of {n_grid}")
    ions, peaks = windows_low.shape
    shape = (ions, peaks)
    found = Scores(
        np.zeros(ions), np.zeros(ions), np.zeros(ions, dtype=np.bool_), np.zeros(shape, dtype=np.int32),
        np.zeros(shape), np.zeros(shape), np.zeros(shape), np.full(shape, np.nan),
    )  # fmt: skip
    score_rows(
        mz, pixel, intensity, windows_low, windows_high, theory, n_grid, n_sampled, min_px,
        found.spatial, found.spectral, found.usable, found.n_pixels, found.total, found.minimum, found.maximum,
        found.mean_mz,
    )  # fmt: skip
    return found


def image(
    mz: FloatArray,
    pixel: NDArray[np.int32],
    intensity: NDArray[np.float32],
    low: float,
    high: float,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Collect the image of one m/z window, both ends included, from peaks sorted by m/z.

    Returns
    -------
    pixels : ndarray of int32, shape (p,)
        Those with a peak, ascending, each once.
    values : ndarray of float64, shape (p,)
        Their intensities; peaks of one pixel are summed.
    """
    wanted = slice(int(np.searchsorted(mz, low, side="left")), int(np.searchsorted(mz, high, side="right")))
    pixels, place = np.unique(pixel[wanted], return_inverse=True)
    return pixels, np.bincount(place, weights=intensity[wanted], minlength=pixels.size).astype(np.float64)
