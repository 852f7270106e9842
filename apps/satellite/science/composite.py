"""One value a pixel from several dates: the median or mean of those that are valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from apps.satellite.science.reflectance import LARGEST, NODATA

STATS = ("median", "mean")
CHUNK = 96 << 10
"""Numbers of all dates that are worked on at a time, so that they stay in a processor's cache of a megabyte."""
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
    step = max(1, CHUNK // max(1, len(stack) * width))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        good = valid[:, rows]
        count[rows] = number = good.sum(0, dtype=np.int16)
        made = out[:, rows]
        if stat == "median":
            _medians(stack[:, :, rows], good, number, wanted, made)
        else:
            _means(stack[:, :, rows], good, number, wanted, made)
    return out, count


def _medians(
    values: NDArray[np.int16], good: NDArray[np.bool_], number: NDArray[np.int16], bands: Sequence[int],
    out: NDArray[np.int16],
) -> None:  # fmt: skip
    """Fill in the median of what is valid, shape (bands, rows, width), by whole numbers of 16 bits alone."""
    dates = len(values)
    if not dates:
        out[:] = NODATA
        return
    kept = _bits(good)
    instead = _instead(kept)
    odd, some = -(number & 1), _bits(number > 0)
    nothing = ~some & NODATA
    # Of the values that are not valid the first counts as greatest, so of an odd number of them one more does.
    middle = (dates - 1) // 2
    beside = middle - 1 if dates % 2 else middle + 1
    for image, band in zip(out, bands, strict=True):
        ordered = values[:, band] & kept
        ordered |= instead
        _order(ordered, middle, max(beside, 0))
        alone, other = ordered[middle], ordered[max(beside, 0)]
        other ^= (other ^ alone) & odd  # of an odd number of valid ones the middle one stands alone
        half = _half(alone, other)
        half &= some
        np.bitwise_or(half, nothing, out=image)


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return all bits set where a flag is true, and none elsewhere."""
    bits = flags.astype(np.int16)
    return np.negative(bits, out=bits)


def _instead(kept: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return what stands for values that are not valid: greatest and least in turn, so that the middle stays it."""
    made = ~kept
    next_one = np.full(kept.shape[1:], LARGEST, np.int16)
    for here in made:
        turned = here & (LARGEST ^ -LARGEST)
        here &= next_one
        next_one ^= turned
    return made


def _order(values: NDArray[np.int16], *wanted: int) -> None:
    """Sort along the dates, at least so far that the wanted ones are what they are when all are sorted."""
    if len(values) > LONGEST_NETWORK:
        values.sort(axis=0)
        return
    least = np.empty_like(values[0])
    for low, high, is_low, is_high in selection(len(values), wanted):
        if is_low and is_high:
            np.minimum(values[low], values[high], out=least)
            np.maximum(values[low], values[high], out=values[high])
            values[low] = least
        elif is_low:
            np.minimum(values[low], values[high], out=values[low])
        else:
            np.maximum(values[low], values[high], out=values[high])


def _half(first: NDArray[np.int16], second: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the mean of two numbers, rounded half to even, without a sum that 16 bits could not hold."""
    unlike = first ^ second
    half = first & second
    half += unlike >> 1
    unlike &= half
    unlike &= 1
    half += unlike
    return half


def _means(
    values: NDArray[np.int16], good: NDArray[np.bool_], number: NDArray[np.int16], bands: Sequence[int],
    out: NDArray[np.int16],
) -> None:  # fmt: skip
    """Fill in the mean of what is valid."""
    for image, band in zip(out, bands, strict=True):
        total = np.where(good, values[:, band], 0).sum(0, dtype=np.int64)
        mean = np.rint(total / np.maximum(number, 1))
        image[:] = np.where(number > 0, mean, NODATA)


@cache
def network(length: int) -> tuple[tuple[int, int], ...]:
    """Return the comparisons that sort any `length` values.

    Source: D. E. Knuth, The Art of Computer Programming 3, algorithm 5.2.2M (K. E. Batcher's merge exchange).
    """
    return tuple(_merge_exchange(length))


@cache
def selection(length: int, wanted: tuple[int, ...]) -> tuple[tuple[int, int, bool, bool], ...]:
    """Return the comparisons of `network` that decide the wanted places, and whether least and greatest matter."""
    needed, kept = set(wanted), []
    for low, high in reversed(network(length)):
        if needed & {low, high}:
            kept.append((low, high, low in needed, high in needed))
            needed |= {low, high}
    return tuple(reversed(kept))


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
