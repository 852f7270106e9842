"""Digital numbers as reflectance, and which pixels are to be trusted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE = 1e-4
"""Reflectance of one step of what is stored, as Sentinel-2's quantification value of 10,000 has it."""
NODATA = -32768
LARGEST = 32767
"""Valid values lie within plus and minus this, so that none can be taken for `NODATA`."""
ROWS = 64
"""Rows that are worked on at a time where numbers are wide, so that they take little memory beside the image."""
CHUNK = 1 << 16
"""Pixels that are worked on at a time, so that they stay in a processor's cache."""
SATURATED = 65535
"""Digital number of a saturated pixel (Sentinel-2: SPECIAL_VALUE; Landsat: QUANTIZE_CAL_MAX)."""
SCL_INVALID = (0, 1, 3, 8, 9, 10)
"""Classes of the Scene Classification that are left out: no data, defective, cloud shadow, clouds, thin cirrus."""
SCL_CLASSES = 12
QA_INVALID = 0b11111
"""Bits of QA_PIXEL that are left out: fill, dilated cloud, cirrus, cloud, cloud shadow (Landsat C2 Level 2 guide)."""


def to_reflectance(
    numbers: NDArray[np.generic], scale: float, offset: float, nodata: float | None
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return reflectance in steps of `SCALE`, and where there is any.

    What is not valid is told by the digital numbers, before scale and offset: a dark pixel that the offset brings to
    zero is one.

    Parameters
    ----------
    numbers : ndarray, shape (h, w)
        Integers or floats as they stand in the file.
    scale, offset : float
        Reflectance is ``scale * number + offset``.
    nodata : float or None
        The number that stands for none; NaN does in any case, and so does `SATURATED` of 16 bits.

    Returns
    -------
    ndarray of int16, ndarray of bool, shape (h, w)
        Values above 1 are kept; they are clipped at 3.2767. Where nothing is valid they are anything.
    """
    values, valid = np.empty(numbers.shape, np.int16), np.ones(numbers.shape, bool)
    fill_reflectance(numbers, scale, offset, nodata, values, valid)
    return values, valid


def fill_reflectance(
    numbers: NDArray[np.generic], scale: float, offset: float, nodata: float | None,
    values: NDArray[np.int16], valid: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Fill in reflectance as `to_reflectance` returns it, and set `valid` to false where there is none."""
    factor, addend = scale / SCALE, offset / SCALE
    narrow = numbers.dtype.kind in "iu" and numbers.dtype.itemsize <= 2
    added = round(addend) if narrow and abs(factor - 1) < 1e-9 and _is_whole(addend) else None
    rows = max(1, CHUNK // numbers.shape[1])
    for top in range(0, len(numbers), rows):
        place = slice(top, top + rows)
        good = _has_value(numbers[place], nodata)
        valid[place] &= good
        if added is not None and abs(added) <= LARGEST:
            _add(numbers[place], added, values[place])
        else:
            steps = np.rint(np.where(good, numbers[place], 0).astype(np.float64) * factor + addend)
            values[place] = np.clip(steps, -LARGEST, LARGEST, out=steps)


def _has_value(numbers: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_]:
    """Return where digital numbers are neither no data nor saturated."""
    good = np.isfinite(numbers) if numbers.dtype.kind == "f" else np.ones(numbers.shape, bool)
    if nodata is not None and numbers.dtype.kind == "f":
        good &= numbers != nodata
    elif nodata is not None and _is_of(numbers.dtype, nodata):
        np.not_equal(numbers, int(nodata), out=good)  # of one type with the numbers, which compares several at a time
    if numbers.dtype == np.uint16:
        good &= numbers != SATURATED
    return good


def _is_of(dtype: np.dtype[Any], number: float) -> bool:
    """Whether an integer type has a number."""
    info: Any = np.iinfo(dtype.name)
    return bool(float(number).is_integer() and info.min <= number <= info.max)


def _add(numbers: NDArray[np.generic], added: int, out: NDArray[np.int16]) -> None:
    """Add to integers of at most 16 bits what keeps the sum within `LARGEST` by clipping them before, in 16 bits."""
    if numbers.dtype.itemsize == 1:
        numbers = numbers.astype(np.int16)
    info: Any = np.iinfo(numbers.dtype.name)
    least, most = info.min, info.max
    sums = out.view(numbers.dtype)
    # A row of bounds, not one number: numpy compares two arrays ten times as fast.
    bound = np.full(numbers.shape[-1], min(most, LARGEST - added), numbers.dtype)
    np.minimum(numbers, bound, out=sums)
    if least < -LARGEST - added:
        bound.fill(-LARGEST - added)
        np.maximum(sums, bound, out=sums)
    if added:
        sums += np.array(added & 0xFFFF, np.uint16).view(numbers.dtype)


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6


def scl_valid(classes: NDArray[np.generic], invalid: Collection[int] = SCL_INVALID) -> NDArray[np.bool_]:
    """Return where the Scene Classification lets a pixel be used; a class that it does not know is none."""
    table = np.zeros(256, bool)
    table[:SCL_CLASSES] = True
    table[list(invalid)] = False
    return np.asarray(table[np.minimum(classes.astype(np.int64), 255)])


def qa_valid(flags: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return where QA_PIXEL lets a pixel be used."""
    return np.asarray(flags.astype(np.int64) & QA_INVALID == 0)


def normalized_difference(
    first: NDArray[np.int16], second: NDArray[np.int16], valid: NDArray[np.bool_]
) -> NDArray[np.int16]:
    """Return (first - second) / (first + second) in steps of `SCALE`, `NODATA` where the sum is not positive.

    Negative reflectance, which atmospheric correction leaves of dark pixels, gives values beyond 1; they are kept.
    """
    out = np.full(first.shape, NODATA, np.int16)
    for top in range(0, len(first), ROWS):
        rows = slice(top, top + ROWS)
        total = first[rows].astype(np.int32) + second[rows]
        defined = valid[rows] & (total > 0)
        ratio = (first[rows].astype(np.int32) - second[rows]) / np.where(defined, total, 1)
        steps = np.clip(np.rint(ratio / SCALE), -LARGEST, LARGEST).astype(np.int16)
        np.copyto(out[rows], steps, where=defined)
    return out


def difference(later: NDArray[np.int16], earlier: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return later minus earlier, `NODATA` where one of them is."""
    valid = (later != NODATA) & (earlier != NODATA)
    change = np.clip(later.astype(np.int32) - earlier, -LARGEST, LARGEST)
    return np.where(valid, change, NODATA).astype(np.int16)
