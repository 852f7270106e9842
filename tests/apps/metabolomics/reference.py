"""Scalar forms of the science: plain loops over numbers, written for reading, one definition after the other.

Tests hold the compiled loops to these; nothing else uses them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from apps.metabolomics.science.centroids import BASE_MZ, POWERS, Instrument
from apps.metabolomics.science.elements import ELECTRON_MASS, isotope_table

FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


def isotopologues_reference(composition: Mapping[str, int]) -> list[tuple[float, float]]:
    """List (mass, share of the commonest) of all isotopologues with a share of at least 1e-4, atom by atom."""
    combined = {(): (0.0, 1.0)}
    for name, atoms in composition.items():
        isotopes = list(zip(isotope_table()[name].masses, isotope_table()[name].abundances, strict=True))
        counts = {(0,) * len(isotopes): 1.0}
        for _ in range(atoms):
            grown: dict[tuple[int, ...], float] = {}
            for held, chance in counts.items():
                for i, (_, abundance) in enumerate(isotopes):
                    more = (*held[:i], held[i] + 1, *held[i + 1 :])
                    grown[more] = grown.get(more, 0.0) + chance * abundance
            top = max(grown.values())
            counts = {held: chance for held, chance in grown.items() if chance > 1e-9 * top}
        top = max(counts.values())
        element = {
            held: (sum(n * mass for n, (mass, _) in zip(held, isotopes, strict=True)), chance / top)
            for held, chance in counts.items()
        }
        combined = {
            before + held: (mass + added, share * factor)
            for before, (mass, share) in combined.items()
            for held, (added, factor) in element.items()
            if share * factor >= 1e-4
        }
    return sorted(combined.values())


def pattern_reference(
    composition: Mapping[str, int], charge: int, instrument: Instrument, n_peaks: int
) -> list[tuple[float, float]]:
    """Walk the whole grid and return (m/z, percent of the strongest) of the strongest centroids, by m/z."""
    peaks = [
        ((mass - charge * ELECTRON_MASS) / abs(charge), share) for mass, share in isotopologues_reference(composition)
    ]
    if len(peaks) == 1:
        return [(peaks[0][0], 100.0)]

    def sigma_at(mz: float) -> float:
        return float(instrument.sigma * (mz / BASE_MZ) ** POWERS[instrument.kind])

    masses = [mz for mz, _ in peaks]
    at, sigma = 0, sigma_at(peaks[0][0])
    x = peaks[0][0] - 6.0 * sigma
    grid, heights = [], []
    while x <= peaks[-1][0] + 6.0 * sigma:
        beyond = x > peaks[at][0] + 6.0 * sigma
        if beyond and at + 1 < len(peaks) and x >= peaks[at + 1][0] - 6.0 * sigma:
            at += 1
            sigma = sigma_at(peaks[at][0])
        grid.append(x)
        near = peaks[bisect_left(masses, x - 9.0 * sigma) : bisect_right(masses, x + 9.0 * sigma)]
        heights.append(sum(share * math.exp(-0.5 * ((mz - x) / sigma) ** 2) for mz, share in near))
        x += sigma * FWHM / 25.0
    found = []
    for i in range(1, len(grid) - 1):
        if heights[i - 1] < heights[i] >= heights[i + 1] and heights[i] >= 1e-4:
            left = right = i
            while left > max(0, i - 7) and heights[left - 1] < heights[left]:
                left -= 1
            last = min(len(grid) - 1, i + 7)
            # The lowest point of a valley is no part of the peak before it, but of the one behind it, as in ims-cpp.
            while right < last and (right + 1 == last or heights[right + 2] <= heights[right + 1]):
                right += 1
            window = range(left, right + 1)
            found.append((sum(grid[j] * heights[j] for j in window) / sum(heights[j] for j in window), heights[i]))
    top = max(height for _, height in found)
    strongest = sorted(found, key=lambda peak: -peak[1])[:n_peaks]
    return sorted((mz, 100.0 * height / top) for mz, height in strongest if height >= 1e-4 * top)


def chaos_reference(image: NDArray[np.float64], levels: int = 30) -> float:
    """Threshold, dilate, erode and label the image once for each level."""
    cross, square = ndimage.generate_binary_structure(2, 1), np.ones((3, 3), dtype=bool)
    objects = []
    for k in range(levels):
        mask = ndimage.binary_dilation(image > image.max() * k / levels, cross)
        objects.append(ndimage.label(ndimage.binary_erosion(mask, square, border_value=1))[1])
    return float(1.0 - np.mean(objects) / np.count_nonzero(image)) if any(objects) else 0.0


def images_reference(
    mz: NDArray[Any],
    pixel: NDArray[np.int32],
    intensity: NDArray[np.float32],
    low: float,
    high: float,
    grid: int,
) -> NDArray[np.float64]:
    """Collect the dense image of one window."""
    image = np.zeros(grid)
    for value, where, height in zip(mz.tolist(), pixel.tolist(), intensity.tolist(), strict=True):
        if low <= value <= high:
            image[where] += height
    return image


def spectral_reference(images: NDArray[np.float64], theory: NDArray[np.float64]) -> float:
    """Compare the sums over the first image's pixels with the pattern."""
    sums = images[:, images[0] > 0].sum(axis=1)
    with np.errstate(invalid="ignore"):
        match = 1.0 - np.mean(np.abs(theory / np.linalg.norm(theory) - sums / np.linalg.norm(sums)))
    return 0.0 if np.isnan(match) or match == 1.0 else float(match)


def spatial_reference(images: NDArray[np.float64], theory: NDArray[np.float64], sampled: NDArray[np.bool_]) -> float:
    """Correlate the first image with the others over the sampled pixels."""
    if np.count_nonzero(images[0]) < 2 or theory[1:].sum() == 0:
        return 0.0
    with np.errstate(invalid="ignore"):
        correlation = np.nan_to_num(np.corrcoef(images[:, sampled])[0, 1:])
    return float(np.clip(np.average(correlation, weights=theory[1:]), 0.0, 1.0))


def fdr_reference(targets: list[float], decoys: list[float], decoys_per_target: int) -> list[float]:
    """Count for each target, then take the least rate of it and all below."""

    def raw(score: float) -> float:
        above = sum(decoy >= score for decoy in decoys) + 1
        return above / decoys_per_target / (sum(target >= score for target in targets) + 1)

    return [min(1.0, min(raw(other) for other in targets if other <= score)) for score in targets]
