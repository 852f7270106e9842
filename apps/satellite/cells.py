"""Third stage: one cell, from its sources to its composite, indices, outlines and sums."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps._frame.stored import Codec, sha256
from apps.satellite.cog import Band, cog_bytes
from apps.satellite.function import CellStack, UserFunction, call
from apps.satellite.geoparquet import layer_stream, layer_table
from apps.satellite.merging import contents, together
from apps.satellite.rasters import read_parts, read_window
from apps.satellite.records import SCL, Asset, Cell, CellDone, Scene, done_bytes
from apps.satellite.science.composite import composite
from apps.satellite.science.geodesy import areas, to_degrees
from apps.satellite.science.grid import WORKER_BYTES, Raster, centres, is_aligned
from apps.satellite.science.reflectance import (
    NODATA,
    SCALE,
    difference,
    fill_reflectance,
    normalized_difference,
    qa_valid,
    scl_valid,
    to_reflectance,
)
from apps.satellite.science.resampling import Places, bilinear, nearest, taken
from apps.satellite.science.shapes import TooSpeckled, at_border, extent, lattice, outlines_in_parts
from apps.satellite.science.zonal import zonal_sums
from core import InputError
from core.storage import process_storage

CELLS = "cells/"
COMPOSITE, DONE = "composite.tif", "done.json"
WATER, FEATURES = "water", "features"
"""Layers: of the built-in computation, and of the user's own function."""
AROUND = 2
"""Pixels around a window that interpolation at its edge needs."""
NDVI, NDWI = "ndvi", "ndwi"
COUNT = "count"
"""Band of a composite: how many dates were valid."""

Values = NDArray[np.int16]
Valid = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CellParams:
    """What decides what becomes of a cell; `address` is where its files go, if its worker reaches that.

    `memory` are bytes that a worker may take.
    """

    bands: tuple[str, ...]
    stat: str
    resample: str
    scl_invalid: tuple[int, ...]
    water: float
    function: UserFunction | None
    memory: int
    address: str | None = field(default=None, compare=False)


def compute_cell(cell: Cell, params: CellParams) -> dict[str, Any]:
    """Map function: compute a cell and write its files; returns its record, and the files that could not be written."""
    stack, valid, dates, lost = read_stack(cell, params)
    read = tuple(scene.name for take in cell.datatakes for scene in take if scene.name not in lost)
    names: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    files: dict[str, bytes] = {}
    sums: dict[int, Any] = {}
    shapes: dict[str, Any] = {}
    dtype = "int16"
    if valid.any():
        wet = layer = None
        if params.function is None:
            images = _built_in(cell, params, stack, valid)
            wet = _wet(params.water, images)
            del stack  # before what is written takes its place
        else:
            given = CellStack(stack, valid, params.bands, dates, cell.raster.transform, cell.zone)
            arrays, features = call(params.function, given)
            del stack, given
            images, layer = _described(arrays), _features_layer(cell, features)
        names, dtype = tuple(band.name for band in images), str(images[0].image.dtype)
        nodata = float("nan") if dtype == "float32" else NODATA
        scales = tuple(band.scale for band in images)
        if cell.zones:
            sums = _sums(cell, images)
        files[COMPOSITE] = cog_bytes(images, cell.raster, cell.zone, nodata)
        del images
        if wet is not None:
            layer = _water_layer(cell, params.memory, wet)
        if layer is not None:
            files[layer.file], shapes = layer.data, layer.told
    seen = tuple(date for date, each in zip(dates, valid, strict=True) if each.any())
    told = {name: {"size": len(data), "sha256": sha256(data).partition(":")[2]} for name, data in files.items()}
    count = int(valid.any(0).sum())
    done = CellDone(
        cell.name, told, names, scales, dtype, count, seen, read, lost, {str(at): each for at, each in sums.items()},
        shapes,
    )  # fmt: skip
    files[DONE] = done_bytes(done)
    if params.address is None:
        return {"done": asdict(done), "files": files}
    write_files(params.address, cell.name, files)
    return {"done": asdict(done), "files": {}}


def _sums(cell: Cell, images: Sequence[Band]) -> dict[int, Any]:
    """Return the sums of each zone of statistics, by its number.

    Raises
    ------
    InputError
        The images are floats, whose sums would depend on how cells are cut.
    """
    if images[0].image.dtype.kind == "f":
        raise InputError("--zones: statistics are exact sums of integers, and --function returned floats; round them")
    zones = [shapely.from_wkb(outline) for _, outline in cell.zones]
    here = zonal_sums({band.name: np.asarray(band.image, np.int16) for band in images}, NODATA, zones, cell.raster)
    return {cell.zones[at][0]: each for at, each in here.items()}


def write_files(address: str, name: str, files: Mapping[str, bytes]) -> None:
    """Write the files of a cell to a run, its record last."""
    storage = process_storage(address)
    for file in sorted(files, key=lambda each: each == DONE):
        storage.put(f"{CELLS}{name}/{file}", files[file])


def _packed(value: Mapping[str, Any]) -> bytes:
    """Encode a record, and after it the files that could not be written yet."""
    files = dict(sorted(value["files"].items()))
    head = json.dumps(
        {"done": value["done"], "files": {name: len(data) for name, data in files.items()}}, sort_keys=True
    )
    return struct.pack("<Q", len(head.encode())) + head.encode() + b"".join(files.values())


def _unpacked(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8 : 8 + length])
    files, place = {}, 8 + length
    for name, size in head["files"].items():
        files[name] = data[place : place + size]
        place += size
    return {"done": head["done"], "files": files}


CODEC = Codec(_packed, _unpacked)


def read_stack(cell: Cell, params: CellParams) -> tuple[Values, Valid, tuple[str, ...], dict[str, str]]:
    """Return all dates of a cell.

    Returns
    -------
    ndarray of int16, shape (datatakes, bands, height, width)
        Anything where it is not valid.
    ndarray of bool, shape (datatakes, height, width)
    tuple of str
        Times of the datatakes.
    dict
        Why scenes could not be read, by name.
    """
    side = (cell.raster.height, cell.raster.width)
    stack = np.zeros((len(cell.datatakes), len(params.bands), *side), np.int16)
    valid = np.zeros((len(cell.datatakes), *side), bool)
    lost: dict[str, str] = {}
    for at, take in enumerate(cell.datatakes):
        for scene in take:
            first = not valid[at].any()
            values = stack[at] if first else np.empty_like(stack[at])
            try:
                good = _read_scene(scene, cell.raster, params, values)
            except ConnectionError:
                raise
            except Exception as error:  # its pixels are damaged, or are no longer what they were
                lost[scene.name] = (str(error).splitlines() or [type(error).__name__])[0]
                continue
            if not first:
                good &= ~valid[at]  # of two parts of one datatake that overlap the first is taken
                np.copyto(stack[at], values, where=good)
            valid[at] |= good
    return stack, valid, tuple(take[0].when for take in cell.datatakes), lost


def _read_scene(scene: Scene, target: Raster, params: CellParams, values: Values) -> Valid:
    """Fill in the bands of a scene on the pixels of a cell; returns where all of them are valid."""
    valid = np.ones((target.height, target.width), bool)
    if scene.mask is not None:
        valid = _mask(scene.mask, scene.mask_kind, target, params)
    for at, name in enumerate(params.bands):
        if not valid.any():
            break
        _read_band(scene.bands[name], target, params.resample, values[at], valid)
    return valid


def _mask(asset: Asset, kind: str, target: Raster, params: CellParams) -> Valid:
    rows, columns = nearest(target, asset.raster)
    valid = np.zeros((target.height, target.width), bool)
    if rows.start < rows.stop and columns.start < columns.stop:
        window = read_window(asset, (rows.start, rows.stop), (columns.start, columns.stop))
        good = scl_valid(window, params.scl_invalid) if kind == SCL else qa_valid(window)
        valid[rows.first : rows.last, columns.first : columns.last] = taken(good, rows, columns)
    return valid


def _read_band(asset: Asset, target: Raster, rule: str, values: Values, valid: Valid) -> None:
    """Fill in a band on the pixels of a cell: as it is where aligned, else by the rule.

    Of `valid` what this band has no value for becomes false; what no other band and no mask leaves valid is not read.
    """
    rows, columns = nearest(target, asset.raster)
    here = np.s_[rows.first : rows.last, columns.first : columns.last]
    _limit(valid, *here)
    if not valid[here].any():
        return
    if rule == "bilinear" and not is_aligned(asset.raster, target):
        values[:], good = _interpolated(asset, target, rows, columns)
        valid &= good
    elif rows.is_plain and columns.is_plain:
        values, valid = values[here], valid[here]
        parts = read_parts(asset, (rows.start, rows.stop), (columns.start, columns.stop), valid)
        for top, left, part in parts:
            place = np.s_[top : top + part.shape[0], left : left + part.shape[1]]
            fill_reflectance(part, asset.scale, asset.offset, asset.nodata, values[place], valid[place])
    else:
        window = read_window(asset, (rows.start, rows.stop), (columns.start, columns.stop))
        read, good = to_reflectance(window, asset.scale, asset.offset, asset.nodata)
        values[here] = taken(read, rows, columns)
        np.logical_and(valid[here], taken(good, rows, columns), out=valid[here])


def _limit(valid: Valid, rows: slice, columns: slice) -> None:
    """Leave nothing valid outside some rows and columns."""
    valid[: rows.start], valid[rows.stop :] = False, False
    valid[:, : columns.start], valid[:, columns.stop :] = False, False


def _interpolated(asset: Asset, target: Raster, rows: Places, columns: Places) -> tuple[Values, Valid]:
    top, left = max(0, rows.start - AROUND), max(0, columns.start - AROUND)
    bottom, right = min(rows.stop + AROUND, asset.raster.height), min(columns.stop + AROUND, asset.raster.width)
    window = read_window(asset, (top, bottom), (left, right))
    read, good = to_reflectance(window, asset.scale, asset.offset, asset.nodata)
    where_rows, where_columns = centres(target, asset.raster)
    return bilinear(read, good, where_rows - top, where_columns - left)


def _built_in(cell: Cell, params: CellParams, stack: Values, valid: Valid) -> list[Band]:
    """Return composite, indices and count."""
    image, count = composite(stack, valid, params.stat)
    some = count > 0
    made = [Band(name, image[at], scale=SCALE) for at, name in enumerate(params.bands)]
    by_name = dict(zip(params.bands, image, strict=True))
    if {"red", "nir"} <= set(params.bands):
        made.append(Band(NDVI, normalized_difference(by_name["nir"], by_name["red"], some), scale=SCALE))
    if {"green", "nir"} <= set(params.bands):
        made.append(Band(NDWI, normalized_difference(by_name["green"], by_name["nir"], some), scale=SCALE))
    if {"red", "nir"} <= set(params.bands):
        made.append(Band("ndvi_change", _change(cell.later, params, stack, valid), scale=SCALE))
    return [*made, Band(COUNT, count, mean=False)]


def _change(later: int, params: CellParams, stack: Values, valid: Valid) -> Values:
    """Return NDVI of the later dates minus that of the earlier ones."""
    pair = [params.bands.index("nir"), params.bands.index("red")]

    def ndvi(dates: slice) -> Values:
        image, count = composite(stack[dates], valid[dates], params.stat, pair)
        return normalized_difference(image[0], image[1], count > 0)

    return difference(ndvi(slice(later, None)), ndvi(slice(0, later)))


def _described(arrays: Mapping[str, NDArray[Any]]) -> list[Band]:
    return [Band(name, image) for name, image in arrays.items()]


@dataclass(frozen=True, slots=True)
class CellLayer:
    """The shapes of a cell as a file, and what `contents` says of them."""

    file: str
    data: bytes
    told: dict[str, Any]


def _wet(least: float, images: Sequence[Band]) -> Valid | None:
    """Return where water is; None if there is no index that says so."""
    found = next((np.asarray(band.image, np.int16) for band in images if band.name == NDWI), None)
    return None if found is None else (found != NODATA) & (found > least / SCALE)


def _water_layer(cell: Cell, memory: int, wet: Valid) -> CellLayer:
    """Return the outlines of water.

    Raises
    ------
    InputError
        Those of one area would not fit into the memory that a worker may have.
    """
    corners = lattice(cell.raster, cell.anchor)
    drawn = outlines_in_parts(wet, corners, memory - WORKER_BYTES)
    parts: Iterable[Part] = ((shapes, at_border(shapes, cell.raster.bounds), {}) for shapes in drawn)
    try:
        return _layer(cell, WATER, parts, ["Polygon"] if wet.any() else [], extent(wet, corners))
    except TooSpeckled as error:
        raise InputError(
            f"water of cell {cell.name} is too speckled for workers of {memory / 1e6:,.0f} MB: {error}; raise "
            "--memory-mb or --water, take smaller cells by --cell, or leave out green, without which nothing is drawn"
        ) from None


def _features_layer(cell: Cell, features: list[tuple[Any, str]]) -> CellLayer | None:
    if not features:
        return None
    shapes = np.array([shape for shape, _ in features], object)
    part = (shapes, np.zeros(len(shapes), bool), {"properties": [properties for _, properties in features]})
    kinds = sorted({shape.geom_type for shape in shapes})
    return _layer(cell, FEATURES, [part], kinds, shapely.total_bounds(shapes).tolist())


Part = tuple[NDArray[np.object_], Valid, dict[str, Any]]
"""Shapes, which of them reach the cell's border, and what else is beside them."""


def _layer(cell: Cell, name: str, parts: Iterable[Part], kinds: list[str], box: list[float] | None) -> CellLayer:
    """Return shapes as a layer; each part is packed before the next one is asked for."""
    told: list[dict[str, Any]] = []

    def tables() -> Iterator[Any]:
        for shapes, border, more in parts:
            moved = to_degrees(shapes, cell.zone)
            told.append(contents(moved[~border], border))
            columns = {
                "zone": np.full(len(shapes), cell.zone, np.int32),
                "cell": [cell.name] * len(shapes),
                "area_m2": areas(moved),
                "border": border,
            }
            del moved
            yield layer_table(shapes, {**columns, **more})

    data = b"".join(layer_stream(tables(), kinds, box, cell.zone))
    return CellLayer(f"{name}.parquet", data, together(told))
