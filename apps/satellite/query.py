"""``query`` and ``verify``: what is in an area of a finished run, and whether the run is still what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps._frame import Session
from apps._frame.manifest import exists
from apps._frame.stored import Stored
from apps._frame.tables import counted, json_text
from apps.satellite.catalog import INDEX
from apps.satellite.checksums import check_files
from apps.satellite.cog import Band, cog_bytes
from apps.satellite.geoparquet import layer_bytes, within
from apps.satellite.params import QueryParams, VerifyParams
from apps.satellite.rasters import gdal, opened
from apps.satellite.science.geodesy import bounds_boxes, degrees, from_degrees
from apps.satellite.science.grid import Raster
from core import ConfigError, open_storage
from core.storage import NotFound, Storage

LAYERS = ("water", "features", "zonal")


def query(session: Session, params: QueryParams) -> None:
    """Command: write what a run has in an area, its pixels a zone at a time and its shapes, to a folder."""
    from apps.satellite.stages import check_run

    check_run(params.output)
    if f"{params.result.rstrip('/')}/".startswith(f"{params.output.rstrip('/')}/"):
        raise ConfigError(f"--result {params.result} is within the run itself; choose another folder")
    storage, target = open_storage(params.output), open_storage(params.result)
    west, south, east, north = params.bbox
    area = bounds_boxes(west, south, east, north)
    boxes = [part.bounds for part in shapely.get_parts(area)]
    names = sorted({info.key.removeprefix(INDEX) for info in storage.list(INDEX)})
    _, cells, _ = _layer(storage, "cells.parquet", boxes, area)
    found: dict[str, Any] = {"bbox": list(params.bbox), "rasters": {}, "features": {}}
    for zone in sorted(set(cells["zone"])):
        here = [cells["href"][at] for at, each in enumerate(cells["zone"]) if each == zone]
        hashes = [cells["sha256"][at] for at, each in enumerate(cells["zone"]) if each == zone]
        sizes = [cells["size"][at] for at, each in enumerate(cells["zone"]) if each == zone]
        sources = [
            Stored(storage.address, *each)
            for each in zip(here, sizes, (f"sha256:{one}" for one in hashes), strict=True)
        ]
        clipped = clip(sources, zone, boxes)
        if clipped is not None:
            data, pixels = clipped
            name = f"{zone}.tif"
            target.put(name, data)
            found["rasters"][name] = {"zone": zone, "pixels": pixels, "cells": len(here)}
    for layer in (each for each in LAYERS if f"{each}.parquet" in names):
        shapes, columns, _ = _layer(storage, f"{layer}.parquet", boxes, area)
        target.put(f"{layer}.parquet", layer_bytes(shapes, columns))
        found["features"][f"{layer}.parquet"] = len(shapes)
    target.put("query.json", json_text(found, indent=2).encode())
    session.show(found, lambda figures: _told(figures, params.result))


def _told(figures: Mapping[str, Any], place: str) -> str:
    rasters = [f"{name}: {counted(each['pixels'], 'pixel')}" for name, each in figures["rasters"].items()]
    layers = [f"{name}: {counted(number, 'feature')}" for name, number in figures["features"].items()]
    return "\n".join([*rasters, *layers] or ["nothing lies there"]) + f"\n\nIn {place}"


def _layer(
    storage: Storage, name: str, boxes: Sequence[Sequence[float]], area: Any
) -> tuple[NDArray[np.object_], dict[str, list[Any]], int]:
    key = f"{INDEX}{name}"
    try:
        info = storage.head(key)
    except NotFound:
        raise ConfigError(
            f"{storage.address} has no {key}; give the folder or prefix of a finished run of this application"
        ) from None
    with opened(Stored(storage.address, key, info.size, info.etag)) as file:
        return within(file, boxes, area)


def clip(sources: Sequence[Stored], zone: int, boxes: Sequence[Sequence[float]]) -> tuple[bytes, int] | None:
    """Return the pixels of some cells whose centre is within longitudes and latitudes, as one raster.

    Returns
    -------
    bytes, int
        A cloud-optimized GeoTIFF, no data outside, and how many pixels are inside; None if none is.
    """
    pieces = [piece for source in sources if (piece := _piece(source, zone, boxes)) is not None]
    if not pieces:
        return None
    first = pieces[0]
    left, right = min(each.left for each in pieces), max(each.left + each.width * each.x_size for each in pieces)
    top, bottom = max(each.top for each in pieces), min(each.top - each.height * each.y_size for each in pieces)
    width, height = round((right - left) / first.x_size), round((top - bottom) / first.y_size)
    raster = Raster(left, top, first.x_size, first.y_size, width, height)
    images = np.full((len(first.names), height, width), first.nodata, first.pixels.dtype)
    inside = 0
    for each in pieces:
        row, column = round((top - each.top) / each.y_size), round((each.left - left) / each.x_size)
        images[:, row : row + each.height, column : column + each.width] = each.pixels
        inside += each.inside
    described = zip(first.names, images, first.scales, strict=True)
    bands = [Band(name, image, mean=False, scale=scale) for name, image, scale in described]
    return cog_bytes(bands, raster, zone, first.nodata), inside


class _Piece:
    """The pixels of one cell that are within an area."""

    def __init__(self, dataset: Any, rows: slice, columns: slice, inside: NDArray[np.bool_]) -> None:
        from rasterio.windows import Window

        transform = dataset.transform
        self.x_size, self.y_size = transform.a, -transform.e
        self.left = transform.c + columns.start * transform.a
        self.top = transform.f + rows.start * transform.e
        self.height, self.width = inside.shape
        self.names = [name or str(at) for at, name in enumerate(dataset.descriptions)]
        self.scales, self.nodata = dataset.scales, dataset.nodata
        self.pixels = dataset.read(window=Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop)))
        self.pixels[:, ~inside] = self.nodata
        self.inside = int(inside.sum())


def _piece(source: Stored, zone: int, boxes: Sequence[Sequence[float]]) -> _Piece | None:
    with gdal(source) as dataset:
        transform = dataset.transform
        window = _window(boxes, zone, transform, dataset.width, dataset.height)
        if window is None:
            return None
        rows, columns = window
        x = transform.c + (np.arange(columns.start, columns.stop) + 0.5) * transform.a
        y = transform.f + (np.arange(rows.start, rows.stop) + 0.5) * transform.e
        longitude, latitude = degrees(zone, *(each.ravel() for each in np.meshgrid(x, y)))
        inside = np.zeros(longitude.shape, bool)
        for west, south, east, north in boxes:
            inside |= (longitude >= west) & (longitude <= east) & (latitude >= south) & (latitude <= north)
        inside = inside.reshape(len(y), len(x))
        if not inside.any():
            return None
        used_rows, used_columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        part = np.s_[used_rows[0] : used_rows[-1] + 1, used_columns[0] : used_columns[-1] + 1]
        rows = slice(rows.start + int(used_rows[0]), rows.start + int(used_rows[-1]) + 1)
        columns = slice(columns.start + int(used_columns[0]), columns.start + int(used_columns[-1]) + 1)
        return _Piece(dataset, rows, columns, inside[part])


def _window(
    boxes: Sequence[Sequence[float]], zone: int, transform: Any, width: int, height: int
) -> tuple[slice, slice] | None:
    """Return rows and columns that hold all pixels of a cell in the area, and few more."""
    cell = shapely.box(transform.c, transform.f + height * transform.e, transform.c + width * transform.a, transform.f)
    from apps.satellite.science.geodesy import to_degrees

    outline = to_degrees(cell, zone)
    parts = [shapely.intersection(outline, shapely.box(*box)) for box in boxes]
    parts = [part for part in parts if not part.is_empty and part.area > 0]
    if not parts:
        return None
    fine = shapely.segmentize(np.array(parts, object), 0.01)
    left, bottom, right, top = shapely.total_bounds(from_degrees(fine, zone))
    columns = np.clip([(left - transform.c) / transform.a - 2, (right - transform.c) / transform.a + 2], 0, width)
    rows = np.clip([(top - transform.f) / transform.e - 2, (bottom - transform.f) / transform.e + 2], 0, height)
    return slice(int(rows[0]), int(np.ceil(rows[1]))), slice(int(columns[0]), int(np.ceil(columns[1])))


def verify(session: Session, params: VerifyParams) -> int:
    """Command: compare every file of a run with its hash; exit 1 if one byte is another."""
    from apps.satellite.stages import check_run

    storage = open_storage(params.output)
    if not exists(storage, "result.json"):
        check_run(params.output)
    faults, number = check_files(storage)
    told = "\n".join(faults) if faults else f"All {number:,} files are what they were."
    session.show({"files": number, "faults": faults}, told)
    return 1 if faults else 0
