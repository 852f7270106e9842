"""``validate``: what the application computes, checked where it runs against other ways to compute it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely

from apps._frame import Session
from apps._frame.checks import Check, show_checks
from apps._frame.stored import Stored
from apps.satellite import demo
from apps.satellite.cog import Band, cog_bytes
from apps.satellite.params import ValidateParams
from apps.satellite.rasters import Tiles, gdal
from apps.satellite.science.composite import composite
from apps.satellite.science.geodesy import areas, to_degrees
from apps.satellite.science.grid import Raster
from apps.satellite.science.reflectance import NODATA, SCALE, normalized_difference, to_reflectance
from apps.satellite.science.shapes import joined, lattice, outlines
from core import TaskError

SPHERE_AREA = 510_065_621_724_088.0
"""m2 of the ellipsoid of WGS 84 (C. F. F. Karney 2013, eq. 58 with its constants)."""
SIDE = 240


def _composite() -> Check:
    random = np.random.default_rng(1)
    stack = random.integers(-2000, 12000, (6, 3, 60, 70)).astype(np.int16)
    valid = random.random((6, 60, 70)) < 0.6
    made, count = composite(stack, valid)
    masked = np.where(valid[:, None], stack.astype(float), np.nan)
    wanted = np.full(masked.shape[1:], float(NODATA))
    some = valid.any(0)
    wanted[:, some] = np.rint(np.nanmedian(masked[:, :, some], 0))
    odd = int((made != wanted).sum() + (count != valid.sum(0)).sum())
    return Check("median of 6 dates", "numpy's nanmedian", "0 pixels differ", f"{odd} pixels differ", odd == 0)


def _offset() -> Check:
    known = demo.truth(32632)
    numbers = np.rint(known.reflectance("red", 0) / SCALE)
    old, _ = to_reflectance(numbers.astype(np.uint16), SCALE, 0.0, 0)
    new, _ = to_reflectance((numbers + 1000).astype(np.uint16), SCALE, -0.1, 0)
    odd = int((old != new).sum())
    return Check("baselines 02.12 and 05.09", "each other", "0 pixels differ", f"{odd} pixels differ", odd == 0)


def _index() -> Check:
    known = demo.truth(32633)
    nir, red = (np.rint(known.reflectance(band, 1) / SCALE).astype(np.int16) for band in ("nir", "red"))
    made = normalized_difference(nir, red, np.ones(nir.shape, bool)) * SCALE
    error = float(np.abs(made - known.ndvi(1)).max())
    return Check("NDVI", "the example's truth", "within 0.002", f"{error:.1e}", error < 0.002)


def _shapes() -> Check:
    inside = np.random.default_rng(3).random((SIDE, SIDE)) < 0.55
    raster = Raster(500_000, 5_000_000, 10, 10, SIDE, SIDE)
    whole = outlines(inside, lattice(raster))
    half = SIDE // 2
    parts = []
    for row in (0, half):
        for column in (0, half):
            part = Raster(raster.left + 10 * column, raster.top - 10 * row, 10, 10, half, half)
            parts.append(outlines(inside[row : row + half, column : column + half], lattice(part)))
    made, _ = joined(np.concatenate(parts))
    same = {shapely.normalize(each).wkb for each in whole} == {shapely.normalize(each).wkb for each in made}
    found = f"{len(made)} shapes, {'the same' if same else 'others'}"
    return Check(
        "outlines joined over borders of 4 cells", "those of the whole", f"{len(whole)} shapes, the same", found, same
    )


def _area() -> Check:
    whole = sum(areas(np.array([shapely.box(west, -90, west + 90, 90) for west in (-180, -90, 0, 90)], object)))
    error = abs(whole / SPHERE_AREA - 1)
    return Check("area on the ellipsoid", "the whole earth", f"{SPHERE_AREA:.9e} m2", f"{whole:.9e} m2", error < 1e-9)


def _antimeridian() -> Check:
    cell = shapely.box(300_000, 7_300_000, 500_000, 7_400_000)
    cut = to_degrees(cell, 32601)
    parts = shapely.get_parts(cut)
    west, east = float(shapely.total_bounds(parts)[0]), float(shapely.total_bounds(parts)[2])
    good = len(parts) == 2 and (west, east) == (-180.0, 180.0) and cut.is_valid
    return Check("a cell across 180 degrees", "RFC 7946", "2 valid parts", f"{len(parts)} parts", good)


def _reader() -> Check:
    image = np.random.default_rng(5).integers(0, 60_000, (700, 900)).astype(np.uint16)
    data = cog_bytes([Band("red", image)], Raster(500_000, 5_000_000, 10, 10, 900, 700), 32632, 0)
    source = Stored("memory://", "red.tif", len(data), "", data)
    fast = Tiles(source).read(1, (33, 650), (100, 888))
    with gdal(source) as dataset:
        slow = dataset.read(1)[33:650, 100:888]
    odd = int((fast != slow).sum()) + int((fast != image[33:650, 100:888]).sum())
    return Check(
        "tiles read without GDAL", "GDAL, and what was written", "0 pixels differ", f"{odd} pixels differ", odd == 0
    )


CHECKS: dict[str, Callable[[], Check]] = {
    "composite": _composite, "offset": _offset, "index": _index, "shapes": _shapes, "area": _area,
    "antimeridian": _antimeridian, "reader": _reader,
}  # fmt: skip


def check(name: str) -> Check:
    """Map function: make one check."""
    return CHECKS[name]()


def run(session: Session, params: ValidateParams) -> int:
    """Command: check on the selected backend, and say so in one table."""
    futures = session.executor.map(check, list(CHECKS), label="validate")
    checks = []
    for name, future in zip(CHECKS, futures, strict=True):
        try:
            checks.append(future.result())
        except TaskError as error:
            checks.append(Check(name, "", "", str(error).splitlines()[0], False))
    return show_checks(session, "Satellite batches", checks)
