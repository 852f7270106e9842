"""Sums of pixels within zones, exact in integers, so that partial sums add up to the same whatever the cells are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps.satellite.science.grid import Raster

Sums = dict[str, list[int]]
"""By band: number of valid pixels, their sum, least and greatest, in steps as stored."""


def zonal_sums(
    bands: Mapping[str, NDArray[np.int16]], nodata: int, zones: Sequence[Any], raster: Raster
) -> dict[int, Sums]:
    """Return the sums of the pixels whose centre is within each zone.

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
    from affine import Affine
    from rasterio.features import rasterize

    area = shapely.box(*raster.bounds)
    here = [number for number, zone in enumerate(zones) if zone.intersects(area)]
    made: dict[int, Sums] = {}
    for number in here:
        rows, columns = _window(zones[number].bounds, raster)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        left, top = raster.left + columns.start * raster.x_size, raster.top - rows.start * raster.y_size
        shift = Affine(raster.x_size, 0.0, left, 0.0, -raster.y_size, top)
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        inside = rasterize([zones[number]], shape, transform=shift, dtype="uint8").astype(bool)
        if inside.any():
            made[number] = {name: _sums(image[rows, columns][inside], nodata) for name, image in bands.items()}
    return made


def _window(bounds: Sequence[float], raster: Raster) -> tuple[slice, slice]:
    left, bottom, right, top = bounds
    columns = np.array([left - raster.left, right - raster.left]) / raster.x_size
    rows = np.array([raster.top - top, raster.top - bottom]) / raster.y_size
    first = np.clip(np.floor([rows[0], columns[0]]), 0, None).astype(int)
    return slice(first[0], min(int(np.ceil(rows[1])), raster.height)), slice(
        first[1], min(int(np.ceil(columns[1])), raster.width)
    )


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
