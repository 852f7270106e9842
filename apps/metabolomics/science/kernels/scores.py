"""Ion images and what is measured on them, as compiled loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from apps.metabolomics.science.kernels.compiling import compiled

NONE = -1


@compiled
def _lower(mz: Any, value: float) -> int:
    """First peak at or above `value`."""
    low, high = 0, mz.size
    while low < high:
        middle = (low + high) >> 1
        if mz[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _upper(mz: Any, value: float) -> int:
    """First peak above `value`."""
    low, high = 0, mz.size
    while low < high:
        middle = (low + high) >> 1
        if mz[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _gather(pixel: Any, intensity: Any, first: int, stop: int, slot: Any, pixels: Any, values: Any) -> int:
    """Collect the image of peaks `first` to `stop`: each pixel once, peaks of one pixel summed.

    `slot` is `NONE` everywhere and becomes the place of each pixel; returns the number of pixels.
    """
    size = 0
    for j in range(first, stop):
        place = slot[pixel[j]]
        if place == NONE:
            slot[pixel[j]] = size
            pixels[size] = pixel[j]
            values[size] = intensity[j]
            size += 1
        else:
            values[place] += intensity[j]
    return size


@compiled
def _squares(values: Any, size: int, mean: float, sampled: int) -> float:
    """Sum of squared deviations of an image from its mean, over all sampled pixels."""
    total = mean * mean * (sampled - size)
    for i in range(size):
        total += (values[i] - mean) * (values[i] - mean)
    return total


@compiled
def score_rows(
    mz: Any,
    pixel: Any,
    intensity: Any,
    low: Any,
    high: Any,
    theory: Any,
    grid: int,
    sampled: int,
    min_px: int,
    spatial: Any,
    spectral: Any,
    usable: Any,
    n_pixels: Any,
    total: Any,
    minimum: Any,
    maximum: Any,
    mean_mz: Any,
) -> None:
    """Score ions; see `scores.score_ions`. The last eight arrays are filled."""
    ions, peaks = low.shape
    slot0, slot = np.full(grid, NONE, dtype=np.int32), np.full(grid, NONE, dtype=np.int32)
    pixels0, pixels = np.empty(grid, dtype=np.int32), np.empty(grid, dtype=np.int32)
    values0, values = np.empty(grid), np.empty(grid)
    common = np.empty(peaks)
    correlation = np.empty(peaks)
    for ion in range(ions):
        size0 = 0
        mean0 = squares0 = 0.0
        for k in range(peaks):
            common[k] = correlation[k] = 0.0
            first = _lower(mz, low[ion, k])
            stop = _upper(mz, high[ion, k]) if first < mz.size else first
            if stop <= first:
                continue
            weighted = 0.0
            for j in range(first, stop):
                weighted += mz[j] * float(intensity[j])
            if k == 0:
                size0 = size = _gather(pixel, intensity, first, stop, slot0, pixels0, values0)
                held = values0
            else:
                size = _gather(pixel, intensity, first, stop, slot, pixels, values)
                held = values
            summed = 0.0
            least, most = math.inf, 0.0
            for i in range(size):
                value = held[i]
                summed += value
                least, most = min(least, value), max(most, value)
            n_pixels[ion, k], total[ion, k] = size, summed
            minimum[ion, k], maximum[ion, k] = least, most
            mean_mz[ion, k] = weighted / summed
            if k == 0:
                common[0] = summed
                mean0 = summed / sampled
                squares0 = _squares(values0, size0, mean0, sampled)
                continue
            mean = summed / sampled
            # Deviations are multiplied, not subtracted after summing: smooth images would lose their digits.
            product = within = both = 0.0
            shared = 0
            for i in range(size):
                place = slot0[pixels[i]]
                slot[pixels[i]] = NONE
                deviation = values[i] - mean
                if place == NONE:
                    product -= mean0 * deviation
                else:
                    common[k] += values[i]
                    product += (values0[place] - mean0) * deviation
                    both += values0[place] - mean0
                    shared += 1
            for i in range(size0):
                within += values0[i] - mean0
            product -= mean * (within - both)
            product += mean * mean0 * (sampled - (size + size0 - shared))
            spread = squares0 * _squares(values, size, mean, sampled)
            if spread > 0.0 and size >= min_px:
                correlation[k] = product / math.sqrt(spread)
            if size < min_px:
                common[k] = 0.0
        for i in range(size0):
            slot0[pixels0[i]] = NONE
        others = False
        for k in range(1, peaks):
            others = others or n_pixels[ion, k] >= max(min_px, 1)
        usable[ion] = size0 >= max(min_px, 1) and others
        if usable[ion]:
            spectral[ion] = _spectral(common, theory[ion])
            if size0 >= 2:
                spatial[ion] = _spatial(correlation, theory[ion])


@compiled
def _spectral(common: Any, theory: Any) -> float:
    measured = expected = 0.0
    for k in range(theory.size):
        measured += common[k] * common[k]
        expected += theory[k] * theory[k]
    if measured == 0.0 or expected == 0.0:
        return 0.0
    measured, expected = math.sqrt(measured), math.sqrt(expected)
    difference = 0.0
    for k in range(theory.size):
        difference += abs(theory[k] / expected - common[k] / measured)
    match = 1.0 - difference / theory.size
    return 0.0 if match == 1.0 else match


@compiled
def _spatial(correlation: Any, theory: Any) -> float:
    weighted = weight = 0.0
    for k in range(1, theory.size):
        weighted += theory[k] * correlation[k]
        weight += theory[k]
    if weight == 0.0:
        return 0.0
    return min(1.0, max(0.0, weighted / weight))
