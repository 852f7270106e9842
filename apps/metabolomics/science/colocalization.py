"""How alike the images of two ions are, and how the ions of a sample fall into segments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2

Array = NDArray[np.float64]

COMPONENTS = 20
"""Principal components that segments are made of, at most; noise is in those beyond."""
ROUNDS = 100
"""Of k-means at most; it has usually settled after a tenth of them."""
STARTS = 5


def denoised(image: Array, mask: NDArray[np.bool_]) -> Array:
    """Return an image without its weaker half and without lone pixels, float64[pixels within the mask].

    Parameters
    ----------
    image : float64[height, width]
    mask : bool[height, width]
        Pixels that have a spectrum; the median is over these.

    Notes
    -----
    What is below the median becomes 0, then each pixel the median of its 3 x 3 neighbours: the "median-thresholded"
    images of K. Ovchinnikova et al., ColocML, Bioinformatics 36, 3215 (2020), whose cosine agrees best with experts.
    """
    kept = np.where(image >= np.median(image[mask]), image, 0.0) if mask.any() else image
    smooth: Array = ndimage.median_filter(kept, size=3, mode="constant")[mask]
    return smooth


def cosines(images: Array) -> Array:
    """Return the cosine of every two images, float64[n, n]; 0 with one that is empty.

    Parameters
    ----------
    images : float64[n, pixels]
    """
    length = np.linalg.norm(images, axis=1, keepdims=True)
    unit = np.divide(images, length, out=np.zeros_like(images), where=length > 0.0)
    found: Array = np.clip(unit @ unit.T, 0.0, 1.0)
    return found


def segments(intensities: Array, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Divide pixels into segments of alike composition, by k-means on principal components.

    Parameters
    ----------
    intensities : float64[pixels, ions]
    count : int
        Segments; fewer come out where there are fewer kinds of pixels.
    seed : int
        Of the random starts.

    Returns
    -------
    int64[pixels]
        From 1, the largest segment first.
    """
    # Square roots, since the noise of counted ions grows with their square root; each ion then counts alike.
    rooted = np.sqrt(np.maximum(intensities, 0.0))
    spread = rooted.std(axis=0)
    scaled = np.divide(rooted - rooted.mean(axis=0), spread, out=np.zeros_like(rooted), where=spread > 0.0)
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    points = scaled @ vectors[:, np.argsort(values)[::-1][:COMPONENTS]]
    kinds = np.unique(points, axis=0)
    wanted = min(count, len(kinds))
    rng = np.random.default_rng(seed)
    best, least = np.zeros(len(points), np.int64), np.inf
    for _ in range(STARTS):
        centres = kinds[rng.choice(len(kinds), wanted, replace=False)]
        centres, labels = kmeans2(points, centres, iter=ROUNDS, minit="matrix", missing="warn")
        error = float(((points - centres[labels]) ** 2).sum())
        if error < least:
            best, least = labels.astype(np.int64), error
    found, sizes = np.unique(best, return_counts=True)
    rank = np.zeros(int(found.max()) + 1, np.int64)
    rank[found[np.lexsort((found, -sizes))]] = np.arange(1, len(found) + 1)
    return rank[best]
