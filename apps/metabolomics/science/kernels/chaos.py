"""Connected components of an image at all levels, in one descending sweep, as compiled loops.

Images lie in a grid with a frame of one pixel: infinite where heights are taken, absent where objects grow, so that
what lies outside the image is ignored without a test.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from apps.metabolomics.science.kernels.compiling import compiled

ABSENT = -1


@compiled
def _dilate(pixels: Any, values: Any, width: int, dilated: Any, touched: Any) -> int:
    """Take the maximum over a 4-neighbour cross; returns how many pixels are above zero, which `touched` lists."""
    reached = 0
    stride = width + 2
    for i in range(pixels.size):
        value = values[i]
        if value <= 0.0:
            continue
        centre = pixels[i] + stride + 1 + 2 * (pixels[i] // width)
        for near in (centre - stride, centre - 1, centre, centre + 1, centre + stride):
            held = dilated[near]
            if held == 0.0:
                touched[reached] = near
                reached += 1
            # Stored unasked: which of two neighbours is higher is what no processor can predict.
            dilated[near] = max(held, value)
    return reached


@compiled
def _erode(dilated: Any, centre: Any, stride: int) -> float:
    """Take the minimum over a square of 3x3 around a pixel."""
    lowest = dilated[centre]
    for row in (centre - stride, centre, centre + stride):
        lowest = min(lowest, dilated[row - 1], dilated[row], dilated[row + 1])
    return float(lowest)


@compiled
def _level(value: float, highest: float, thresholds: Any) -> Any:
    """Find the highest level that a value exceeds, from a guess that rounding may have put one off; -1 for none."""
    level = min(thresholds.size - 1, int(value / highest * thresholds.size))
    while level + 1 < thresholds.size and value > thresholds[level + 1]:
        level += 1
    while level >= 0 and value <= thresholds[level]:
        level -= 1
    return level


@compiled
def _root(parent: Any, pixel: int) -> Any:
    while parent[pixel] != pixel:
        # Halving the path as it is walked keeps later walks short.
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel


@compiled
def _sweep(order: Any, ends: Any, stride: int, parent: Any) -> int:
    """Add pixels from the highest level down, joining objects that meet; returns the sum of objects over levels."""
    total = present = 0
    for level in range(ends.size - 1, -1, -1):
        for i in range(ends[level - 1] if level > 0 else 0, ends[level]):
            pixel = root = np.int64(order[i])
            parent[pixel] = pixel
            present += 1
            for near in (pixel - stride, pixel - 1, pixel + 1, pixel + stride):
                if parent[near] != ABSENT:
                    other = _root(parent, near)
                    if other != root:
                        parent[root] = other
                        root = other
                        present -= 1
        total += present
    return int(total)


@compiled
def _components(
    pixels: Any, values: Any, width: int, levels: int, dilated: Any, parent: Any, touched: Any, level_of: Any
) -> int:
    """Sum the numbers of objects of one image over all levels; `dilated` and `parent` are left as they were found."""
    stride = width + 2
    highest = 0.0  # numpy's reductions take longer to compile than these loops
    for i in range(values.size):
        highest = max(highest, values[i])
    # Dilation and erosion commute with thresholds, so the grey image is filtered once for all levels.
    reached = _dilate(pixels, values, width, dilated, touched)
    thresholds = np.empty(levels)
    for level in range(levels):
        thresholds[level] = highest * level / levels
    ends = np.zeros(levels, dtype=np.int64)
    for i in range(reached):
        value = _erode(dilated, np.int64(touched[i]), stride)
        level_of[i] = _level(value, highest, thresholds) if value > 0.0 else -1
        if level_of[i] >= 0:
            ends[level_of[i]] += 1
    for level in range(1, levels):
        ends[level] += ends[level - 1]
    place = ends.copy()
    order = np.empty(ends[levels - 1], dtype=np.int32)
    for i in range(reached):
        if level_of[i] >= 0:
            place[level_of[i]] -= 1
            order[place[level_of[i]]] = touched[i]
    total = _sweep(order, ends, stride, parent)
    for i in range(reached):
        dilated[touched[i]] = 0.0
        parent[touched[i]] = ABSENT
    return int(total)


@compiled
def component_sums(
    pixels: Any, values: Any, offsets: Any, width: int, height: int, levels: int, totals: Any, occupied: Any
) -> None:
    """Sum objects over all levels, and count the pixels above zero, of many images.

    Parameters
    ----------
    pixels : ndarray of int32, shape (m,)
        Row times `width` plus column; each at most once in an image.
    values : ndarray of float, shape (m,)
    offsets : ndarray of int64, shape (n + 1,)
        Image i is entries ``offsets[i]`` to ``offsets[i + 1]``.
    totals, occupied : ndarray of int64, shape (n,)
        Filled.
    """
    framed = (width + 2) * (height + 2)
    dilated = np.full(framed, math.inf, dtype=values.dtype)
    for row in range(1, height + 1):
        dilated[row * (width + 2) + 1 : row * (width + 2) + width + 1] = 0.0
    parent = np.full(framed, ABSENT, dtype=np.int32)
    largest = 0
    for i in range(totals.size):
        largest = max(largest, offsets[i + 1] - offsets[i])
    room = min(5 * largest, width * height)
    touched, level_of = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.int16)
    for i in range(totals.size):
        first, stop = offsets[i], offsets[i + 1]
        occupied[i] = totals[i] = 0
        for j in range(first, stop):
            occupied[i] += values[j] > 0.0
        if occupied[i]:
            totals[i] = _components(
                pixels[first:stop], values[first:stop], width, levels, dilated, parent, touched, level_of
            )
