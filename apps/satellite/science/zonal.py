"""Sums of pixels within zones, exact in integers, so that partial sums add up to the same whatever the cells are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps.satellite.science.grid import Raster

STEP = 2.0**-20
"""Pixels to which corners are rounded: those of two zones, and where these cross a row, then differ by no last bit."""

Sums = dict[str, list[int]]
"""By band: number of valid pixels, their sum, least and greatest, in steps as stored."""


def zonal_sums(
    bands: Mapping[str, NDArray[np.int16]], nodata: int, zones: Sequence[Any], raster: Raster
) -> dict[int, Sums]:
    """Return the sums of the pixels whose centre is within each zone, or on its left or upper sides.

    Parameters
    ----------
    bands : mapping of ndarray, shape (height, width)
    zones : sequence of shapely geometry
        In the coordinates of the raster; they may overlap.

    Returns
    -------
    dict
        Sums by the number of each zone that has a pixel here.
    """
    area = shapely.box(*raster.bounds)
    made: dict[int, Sums] = {}
    for number, zone in enumerate(zones):
        if not zone.intersects(area):
            continue
        rows, columns, inside = _pixels_within(zone, raster)
        if inside.any():
            made[number] = {name: _sums(image[rows, columns][inside], nodata) for name, image in bands.items()}
    return made


def _pixels_within(zone: Any, raster: Raster) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Return the rows and columns that a zone has pixels in, and which of these have their centre in it.

    Along a row, each side that is crossed changes from outside to inside or back. A side reaches from its upper end,
    which is of it, to its lower one, which is not, and a centre on it is right of it: so a centre on a side that two
    zones share is in one of them, that right of it or below.
    """
    begin, end = _sides(zone, raster)
    first, last = (np.clip(np.ceil(each[:, 1] - 0.5), 0, raster.height).astype(np.intp) for each in (begin, end))
    crossed = last - first
    if not crossed.any():
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), bool)
    side = np.repeat(np.arange(len(crossed)), crossed)
    row = np.arange(len(side)) - np.repeat(np.cumsum(crossed) - crossed - first, crossed)
    begin, end = begin[side], end[side]
    along = (row + 0.5 - begin[:, 1]) / (end[:, 1] - begin[:, 1])
    places = begin[:, 0] + along * (end[:, 0] - begin[:, 0])
    column = np.clip(np.ceil(np.rint(places / STEP) * STEP - 0.5), 0, raster.width).astype(np.intp)
    rows, columns = slice(row.min(), row.max() + 1), slice(column.min(), column.max())
    changes = np.zeros((rows.stop - rows.start, columns.stop - columns.start + 1), bool)
    np.logical_xor.at(changes, (row - rows.start, column - columns.start), True)
    return rows, columns, np.logical_xor.accumulate(changes, axis=1)[:, :-1]


def _sides(zone: Any, raster: Raster) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the upper and lower ends of the sides of a zone, as columns and rows from the raster's corner."""
    rings = shapely.get_rings(shapely.get_parts(zone))
    points, ring = shapely.get_coordinates(rings, return_index=True)
    places = (points - [raster.left, raster.top]) / [raster.x_size, -raster.y_size]
    places = np.rint(places / STEP) * STEP
    begin, end = places[:-1][np.diff(ring) == 0], places[1:][np.diff(ring) == 0]
    down = (begin[:, 1] <= end[:, 1])[:, None]
    return np.where(down, begin, end), np.where(down, end, begin)


def _sums(pixels: NDArray[np.int16], nodata: int) -> list[int]:
    valid = pixels[pixels != nodata]
    if not valid.size:
        return [0, 0, 0, 0]
    return [int(valid.size), int(valid.sum(dtype=np.int64)), int(valid.min()), int(valid.max())]


def added(first: Sums, second: Sums) -> Sums:
    """Return the sums over two areas that have no pixel in common."""
    whole = {}
    for name, (number, total, least, most) in first.items():
        other = second[name]
        if not (number and other[0]):
            whole[name] = list(other) if other[0] else [number, total, least, most]
            continue
        whole[name] = [number + other[0], total + other[1], min(least, other[2]), max(most, other[3])]
    return whole
