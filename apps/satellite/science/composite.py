"""One value a pixel from several dates: the median or mean of those that are valid."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.satellite.science.reflectance import NODATA

STATS = ("median", "mean")


def composite(
    stack: NDArray[np.int16], valid: NDArray[np.bool_], stat: str = "median"
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return one image of a stack of dates, and how many were valid at each pixel.

    Parameters
    ----------
    stack : ndarray of int16, shape (dates, bands, height, width)
    valid : ndarray of bool, shape (dates, height, width)
        Of all bands together, so that they come from the same dates.
    stat : str
        "median" (of an even number the mean of the middle two) or "mean".

    Returns
    -------
    ndarray of int16, shape (bands, height, width)
        Rounded half to even; `NODATA` where no date is valid.
    ndarray of int16, shape (height, width)
    """
    out = np.empty(stack.shape[1:], np.int16)
    count = np.empty(stack.shape[2:], np.int16)
    _kernel(stat)(stack, valid, out, count)
    return out, count


@cache
def _kernel(stat: str) -> Any:
    return _compiled(_median if stat == "median" else _mean)


def _compiled(function: Callable[..., None]) -> Any:
    """Compile on first use, kept on disk for later processes where that is possible."""
    import numba

    try:
        return numba.njit(function, cache=True)
    except RuntimeError:  # no folder for the cache can be written
        return numba.njit(function)


def _median(
    stack: NDArray[np.int16], valid: NDArray[np.bool_], out: NDArray[np.int16], count: NDArray[np.int16]
) -> None:
    dates, bands, height, width = stack.shape
    order = np.empty(dates, np.int64)
    values = np.empty(dates, np.int32)
    for row in range(height):
        for column in range(width):
            number = 0
            for date in range(dates):
                if valid[date, row, column]:
                    order[number] = date
                    number += 1
            count[row, column] = number
            for band in range(bands):
                if number == 0:
                    out[band, row, column] = NODATA
                    continue
                for place in range(number):
                    value = stack[order[place], band, row, column]
                    at = place
                    while at > 0 and values[at - 1] > value:
                        values[at] = values[at - 1]
                        at -= 1
                    values[at] = value
                half = number // 2
                if number % 2:
                    out[band, row, column] = values[half]
                else:
                    total = values[half - 1] + values[half]
                    lower = total >> 1
                    out[band, row, column] = lower + (total & 1) * (lower & 1)


def _mean(stack: NDArray[np.int16], valid: NDArray[np.bool_], out: NDArray[np.int16], count: NDArray[np.int16]) -> None:
    dates, bands, height, width = stack.shape
    for row in range(height):
        for column in range(width):
            number = 0
            for date in range(dates):
                number += valid[date, row, column]
            count[row, column] = number
            for band in range(bands):
                if number == 0:
                    out[band, row, column] = NODATA
                    continue
                total = 0
                for date in range(dates):
                    if valid[date, row, column]:
                        total += stack[date, band, row, column]
                lower = total // number
                twice = 2 * (total - lower * number)
                if twice > number or (twice == number and lower % 2):
                    lower += 1
                out[band, row, column] = lower
