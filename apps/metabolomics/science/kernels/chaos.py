"""Connected components of an image at all levels, in one descending sweep, as a compiled loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from apps.metabolomics.science.kernels.compiling import compiled

ABSENT = -1


@compiled
def _root(parent: Any, pixel: int) -> int:
    while parent[pixel] != pixel:
        # Halving the path as it is walked keeps later walks short.
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel


@compiled
def _components(
    pixels: Any, values: Any, width: int, height: int, levels: int, dilated: Any, parent: Any, touched: Any
) -> int:
    """Sum the numbers of components over all levels; the scratch arrays are left as they were found.

    `dilated` is all zero and `parent` all `ABSENT`, one entry a pixel; `touched` has room for five times the pixels.
    """
    highest = values.max()
    # Dilation and erosion commute with thresholds, so the grey image is filtered once for all levels: the maximum over
    # a cross, then the minimum over a square.
    reached = 0
    for i in range(pixels.size):
        pixel, value = pixels[i], values[i]
        if value <= 0.0:
            continue
        row, column = pixel // width, pixel % width
        for side in range(5):
            if side == 0:
                near = pixel
            elif side == 1:
                if column == 0:
                    continue
                near = pixel - 1
            elif side == 2:
                if column == width - 1:
                    continue
                near = pixel + 1
            elif side == 3:
                if row == 0:
                    continue
                near = pixel - width
            else:
                if row == height - 1:
                    continue
                near = pixel + width
            if dilated[near] == 0.0:
                touched[reached] = near
                reached += 1
            if value > dilated[near]:
                dilated[near] = value
    thresholds = np.empty(levels)
    for k in range(levels):
        thresholds[k] = highest * k / levels
    # Pixels by the highest level that they exceed: sorting by counting.
    level_of = np.empty(reached, dtype=np.int16)
    ends = np.zeros(levels + 1, dtype=np.int64)
    for i in range(reached):
        pixel = touched[i]
        row, column = pixel // width, pixel % width
        lowest = dilated[pixel]
        for y in range(max(row - 1, 0), min(row + 2, height)):
            for x in range(max(column - 1, 0), min(column + 2, width)):
                lowest = min(lowest, dilated[y * width + x])
        level = -1
        if lowest > 0.0:
            level = min(levels - 1, int(lowest / highest * levels))
            while level + 1 < levels and lowest > thresholds[level + 1]:
                level += 1
            while level >= 0 and lowest <= thresholds[level]:
                level -= 1
        level_of[i] = level
        if level >= 0:
            ends[level] += 1
    for k in range(1, levels):
        ends[k] += ends[k - 1]
    kept = ends[levels - 1]
    order = np.empty(kept, dtype=np.int32)
    place = ends.copy()
    for i in range(reached):
        level = level_of[i]
        if level >= 0:
            place[level] -= 1
            order[place[level]] = touched[i]
    total = 0
    present = 0
    for k in range(levels - 1, -1, -1):
        for i in range(ends[k - 1] if k > 0 else 0, ends[k]):
            pixel = order[i]
            row, column = pixel // width, pixel % width
            parent[pixel] = pixel
            present += 1
            root = pixel
            for side in range(4):
                if side == 0:
                    if column == 0:
                        continue
                    near = pixel - 1
                elif side == 1:
                    if column == width - 1:
                        continue
                    near = pixel + 1
                elif side == 2:
                    if row == 0:
                        continue
                    near = pixel - width
                else:
                    if row == height - 1:
                        continue
                    near = pixel + width
                if parent[near] != ABSENT:
                    other = _root(parent, near)
                    if other != root:
                        parent[root] = other
                        root = other
                        present -= 1
        total += present
    for i in range(reached):
        dilated[touched[i]] = 0.0
        parent[touched[i]] = ABSENT
    return total


@compiled
def component_sums(
    pixels: Any, values: Any, offsets: Any, width: int, height: int, levels: int, totals: Any, occupied: Any
) -> None:
    """Sum components over all levels, and count the pixels above zero, of many images.

    Parameters
    ----------
    pixels : ndarray of int, shape (m,)
        Row times `width` plus column; each at most once in an image.
    values : ndarray of float, shape (m,)
    offsets : ndarray of int64, shape (n + 1,)
        Image i is entries ``offsets[i]`` to ``offsets[i + 1]``.
    totals, occupied : ndarray of int64, shape (n,)
        Filled.
    """
    dilated = np.zeros(width * height, dtype=values.dtype)
    parent = np.full(width * height, ABSENT, dtype=np.int32)
    largest = 0
    for i in range(totals.size):
        largest = max(largest, offsets[i + 1] - offsets[i])
    touched = np.empty(min(5 * largest, width * height), dtype=np.int32)
    for i in range(totals.size):
        first, stop = offsets[i], offsets[i + 1]
        count = 0
        for j in range(first, stop):
            count += values[j] > 0.0
        occupied[i] = count
        totals[i] = 0
        if count:
            totals[i] = _components(
                pixels[first:stop], values[first:stop], width, height, levels, dilated, parent, touched
            )
