"""What a raster says of itself, where that is enough to place its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from apps._frame.stored import Stored
from apps.satellite.params import CELL
from apps.satellite.rasters import gdal, has_mask, tiles
from apps.satellite.records import Rejected
from apps.satellite.science.grid import Raster

EARTH_RADIUS = (6_300_000.0, 6_400_000.0)
"""Metres between which semi-major axes of ellipsoids of the earth lie."""
LARGEST_TILE = 64 << 20
"""Pixels of a tile or strip at most; one that claims more is there to fill a worker's memory."""
TIFF_HEADER = 8
"""Bytes at the begin of a TIFF in which no pixel can be (TIFF 6.0)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a raster says of itself.

    Attributes
    ----------
    count : int
        Of its bands, without one that says where the others are transparent.
    is_sparse : bool
        Whether tiles are left out.
    masked : bool
        Whether a mask within the file, or a band of transparency, says where there is no data.
    descriptions : tuple of str
        In small letters.
    palettes : tuple of bool
        Whether a band has a table of colours.
    """

    raster: Raster
    epsg: int
    dtype: str
    nodata: float | None
    count: int
    is_tiled: bool
    is_sparse: bool
    fast: bool
    masked: bool
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    descriptions: tuple[str, ...]
    palettes: tuple[bool, ...]


def header_of(name: str, source: Stored) -> Header:
    """Read a header, and refuse what no pixel can be placed by, as `Rejected`."""
    from rasterio.errors import RasterioError

    try:
        with gdal(source) as dataset:
            return placed(name, source, dataset)
    except RasterioError as error:
        raise Rejected(f"{name} cannot be read as a raster: {first_line(error)}") from None


def placed(name: str, source: Stored, dataset: Any) -> Header:
    """Return the header of an open raster, and refuse what no pixel can be placed by, as `Rejected`."""
    from rasterio.enums import ColorInterp

    transform, crs = dataset.transform, dataset.crs
    if crs is None:
        points = " but ground control points" if dataset.gcps[0] else ""
        raise Rejected(f"{name} has no reference system{points}")
    if transform.b or transform.d:
        raise Rejected(f"{name} is rotated")
    if transform.e >= 0 or transform.a <= 0:
        raise Rejected(f"{name} is not north up")
    epsg = _projected(name, crs)
    blocks = dataset.block_shapes[0]
    if blocks[0] * blocks[1] > LARGEST_TILE:
        raise Rejected(f"{name} has tiles of {blocks[0]:,} by {blocks[1]:,} pixels")
    found = tiles(source) if dataset.driver in ("GTiff", "COG") else None
    if found is not None and found.end > source.size:
        raise Rejected(f"{name} is truncated: {source.size:,} bytes of at least {found.end:,}")
    if found is not None and found.start < TIFF_HEADER:
        raise Rejected(f"{name} is damaged: a tile is said to be where its header is")
    raster = Raster(transform.c, transform.f, transform.a, -transform.e, dataset.width, dataset.height)
    _check_system(name, crs, epsg, raster)
    colours = dataset.colorinterp
    described = tuple((each or "").lower() for each in dataset.descriptions)
    return Header(
        raster, epsg, str(dataset.dtypes[0]), dataset.nodata, dataset.count - colours.count(ColorInterp.alpha),
        found is not None and found.is_tiled, found is not None and found.is_sparse, found is not None and found.fast,
        has_mask(dataset), dataset.scales, dataset.offsets, described,
        tuple(each == ColorInterp.palette for each in colours),
    )  # fmt: skip


def _projected(name: str, crs: Any) -> int:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        known = CRS.from_wkt(crs.to_wkt())
    except CRSError as error:
        raise Rejected(f"{name} has a reference system that PROJ does not know: {first_line(error)}") from None
    if known.ellipsoid is None or not EARTH_RADIUS[0] < known.ellipsoid.semi_major_metre < EARTH_RADIUS[1]:
        raise Rejected(f"{name} is not of the earth ({known.name})")
    if known.is_geographic:
        raise Rejected(f"{name} is in degrees ({known.name}); cells are squares of metres")
    epsg = crs.to_epsg() or known.to_epsg()
    if epsg is None or not known.is_projected or known.axis_info[0].unit_conversion_factor != 1:
        raise Rejected(f"{name} is in {known.name}, which is no system of EPSG in metres")
    return int(epsg)


def _check_system(name: str, crs: Any, epsg: int, raster: Raster) -> None:
    """Refuse what lies elsewhere in its own system than in that of EPSG it resembles most, and what is at a pole."""
    from rasterio.crs import CRS

    from apps.satellite.science.geodesy import degrees, from_degrees_at

    left, bottom, right, top = raster.bounds
    middle = (left + right) / 2, (bottom + top) / 2
    if crs != CRS.from_epsg(epsg):
        there = from_degrees_at(epsg, *_own_degrees(crs.to_wkt(), *middle))
        beside = float(np.hypot(there[0] - middle[0], there[1] - middle[1]))
        if not beside < min(raster.x_size, raster.y_size) / 2:
            raise Rejected(
                f"{name} is in a system that resembles EPSG:{epsg} and lies {beside:,.0f} m beside it; write its own "
                "system of EPSG into the file"
            )
    margin = CELL * max(raster.x_size, raster.y_size)
    for latitude in (-90.0, 90.0):
        x, y = from_degrees_at(epsg, degrees(epsg, *middle)[0], latitude)
        if left - margin < x < right + margin and bottom - margin < y < top + margin:
            raise Rejected(f"{name} is within a cell of a pole, around which outlines in degrees have no inside")


@lru_cache(maxsize=16)
def _own_degrees(wkt: str, x: float, y: float) -> tuple[float, float]:
    from pyproj import Transformer

    longitude, latitude = Transformer.from_crs(wkt, 4326, always_xy=True).transform(x, y)
    return longitude, latitude


def first_line(error: BaseException) -> str:
    """Return what an error says, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
