"""What ions do in regions of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.science.images import ImageSet

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RegionStatistics:
    """Images in regions; pixels without the ion count as zero.

    Attributes
    ----------
    regions : ndarray of int64, shape (r,)
        Their numbers, ascending.
    n_pixels : ndarray of int64, shape (r,)
    mean, deviation : ndarray of float64, shape (n, r)
        Mean, and standard deviation with ``n_pixels - 1`` in its denominator; NaN for that of a single pixel.
    share : ndarray of float64, shape (n, r)
        Share of the region's pixels where the ion is.
    """

    regions: NDArray[np.int64]
    n_pixels: NDArray[np.int64]
    mean: FloatArray
    deviation: FloatArray
    share: FloatArray


def region_statistics(images: ImageSet, regions: NDArray[np.int64]) -> RegionStatistics:
    """Describe images in each region.

    Parameters
    ----------
    images : ImageSet
        n images.
    regions : ndarray of int64, shape (p,)
        The region of each pixel that has a spectrum; 0 for none.

    Returns
    -------
    RegionStatistics
    """
    numbers, members = _numbered(regions)
    n_pixels = np.bincount(members[members >= 0], minlength=numbers.size)
    mean, squares, occupied = (np.zeros((len(images), numbers.size)) for _ in range(3))
    for part, block in images.blocks():
        inside = _indicator(members[part], numbers.size)
        mean += block @ inside
        occupied += (block > 0.0) @ inside
    mean /= n_pixels
    # A second pass, around the means: sums of squares of bright images would lose the digits that matter.
    for part, block in images.blocks():
        held = members[part]
        within = held >= 0
        deviations = block[:, within] - mean[:, held[within]]
        squares += deviations**2 @ _indicator(held[within], numbers.size)
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(squares / (n_pixels - 1))
    return RegionStatistics(numbers, n_pixels, mean, deviation, occupied / n_pixels)


def separation(images: ImageSet, regions: NDArray[np.int64], one: int, other: int) -> FloatArray:
    """Tell how far two regions are apart in each image.

    Neighbouring pixels are no independent samples, so this is a size of effect and comes without a p-value.

    Parameters
    ----------
    images : ImageSet
        n images.
    regions : ndarray of int64, shape (p,)
        The region of each pixel that has a spectrum.
    one, other : int
        Their numbers.

    Returns
    -------
    ndarray of float64, shape (n,)
        How probably a pixel of `one` is brighter than one of `other`, equal ones counting half: 0.5 where the regions
        are alike (area under the ROC curve; U of Mann and Whitney over the product of the sizes).

    Raises
    ------
    ValueError
        A region has no pixel.
    """
    from scipy.stats import rankdata

    first, second = np.flatnonzero(regions == one), np.flatnonzero(regions == other)
    for number, members in ((one, first), (other, second)):
        if not members.size:
            raise ValueError(f"region {number} has no pixel that has a spectrum")
    found = np.empty(len(images))
    place = np.full(images.sampled.size, -1)
    place[first] = np.arange(first.size)
    place[second] = first.size + np.arange(second.size)
    for i in range(len(images)):
        held = slice(images.offsets[i], images.offsets[i + 1])
        where = place[images.places[held]]
        values = np.zeros(first.size + second.size)
        values[where[where >= 0]] = images.values[held][where >= 0]
        ranks = rankdata(values)[: first.size].sum()
        found[i] = (ranks - first.size * (first.size + 1) / 2) / (first.size * second.size)
    return found


def _numbered(regions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the regions' numbers and each pixel's place among them, -1 for none."""
    numbers = np.unique(regions[regions != 0])
    members = np.searchsorted(numbers, regions)
    members[regions == 0] = -1
    return numbers, members


def _indicator(members: NDArray[np.int64], regions: int) -> FloatArray:
    return np.asarray(members[:, None] == np.arange(regions), dtype=np.float64)
