"""One value a pixel from several dates: the median or mean of those that are valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from apps.satellite.science.reflectance import LARGEST, NODATA

STATS = ("median", "mean")
ROWS = 32
"""Rows that are worked on at a time, so that all their dates stay in a processor's cache."""
LONGEST_NETWORK = 16
"""Dates up to which comparing whole rows with each other is faster than sorting the dates of each pixel."""


def composite(
    stack: NDArray[np.int16], valid: NDArray[np.bool_], stat: str = "median", bands: Sequence[int] | None = None
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return one image of a stack of dates, and how many were valid at each pixel.

    Parameters
    ----------
    stack : ndarray of int16, shape (dates, bands, height, width)
    valid : ndarray of bool, shape (dates, height, width)
        Of all bands together, so that they come from the same dates.
    stat : str
        "median" (of an even number the mean of the middle two) or "mean".
    bands : sequence of int, optional
        Which ones are wanted; all unless given.

    Returns
    -------
    ndarray of int16, shape (bands, height, width)
        Rounded half to even; `NODATA` where no date is valid.
    ndarray of int16, shape (height, width)
    """
    height, width = stack.shape[2:]
    wanted = range(stack.shape[1]) if bands is None else bands
    out = np.empty((len(wanted), height, width), np.int16)
    count = np.empty((height, width), np.int16)
    for top in range(0, height, ROWS):
        rows = slice(top, top + ROWS)
        good = valid[:, rows]
        number = good.sum(0, dtype=np.int16)
        count[rows] = number
        instead = _instead(good) if stat == "median" else None
        for at, band in enumerate(wanted):
            values = stack[:, band, rows]
            made = _mean(values, good, number) if instead is None else _median(values, good, instead, number)
            out[at, rows] = np.where(number > 0, made, NODATA)
    return out, count


def _instead(good: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return what stands for values that are not valid: greatest and least in turn, so that the middle stays it."""
    made = np.empty(good.shape, np.int16)
    low = np.zeros(good.shape[1:], bool)
    for date, here in enumerate(good):
        made[date] = np.where(low, np.int16(-LARGEST), np.int16(LARGEST))
        low ^= ~here
    return made


def _median(
    values: NDArray[np.int16], good: NDArray[np.bool_], instead: NDArray[np.int16], number: NDArray[np.int16]
) -> NDArray[np.int32]:
    """Return the median of what is valid; where nothing is, anything."""
    dates = len(values)
    if not dates:
        return np.zeros(number.shape, np.int32)
    ordered = np.where(good, values, instead)
    if dates <= LONGEST_NETWORK:
        for low, high in network(dates):
            least = np.minimum(ordered[low], ordered[high])
            np.maximum(ordered[low], ordered[high], out=ordered[high])
            ordered[low] = least
    else:
        ordered.sort(axis=0)
    # Of the values that are not valid the first counts as greatest, so of an odd number of them one more does.
    middle = (dates - 1) // 2
    if dates % 2:
        alone, lower, upper = ordered[middle], ordered[max(middle - 1, 0)], ordered[middle]
    else:
        alone, lower, upper = ordered[middle], ordered[middle], ordered[middle + 1]
    total = lower.astype(np.int32) + upper
    half: NDArray[np.int32] = total >> 1
    half += total & half & 1
    np.copyto(half, alone, where=(number & 1).astype(bool))
    return half


def _mean(values: NDArray[np.int16], good: NDArray[np.bool_], number: NDArray[np.int16]) -> NDArray[np.float64]:
    total = np.where(good, values, 0).sum(0, dtype=np.int64)
    mean: NDArray[np.float64] = total / np.maximum(number, 1)
    return np.rint(mean, out=mean)


@cache
def network(length: int) -> tuple[tuple[int, int], ...]:
    """Return the comparisons that sort any `length` values.

    Source: D. E. Knuth, The Art of Computer Programming 3, algorithm 5.2.2M (K. E. Batcher's merge exchange).
    """
    return tuple(_merge_exchange(length))


def _merge_exchange(length: int) -> Iterator[tuple[int, int]]:
    first = 1 << max(0, (length - 1).bit_length() - 1)
    step = first
    while step and length > 1:
        later, remainder, distance = first, 0, step
        while True:
            yield from ((at, at + distance) for at in range(length - distance) if at & step == remainder)
            if later == step:
                break
            distance, later, remainder = later - step, later >> 1, step
        step >>= 1
