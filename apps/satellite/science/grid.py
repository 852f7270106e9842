"""The grid of cells that a zone is cut into, and how pixels of a source fall on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top in the units of a zone."""

ALIGNED = 0.01
"""Pixels by which a source may lie beside the grid and still counts as on it: what coordinates in text lose."""
WORKER_BYTES = 210_000_000
"""Of a worker without any cell: the interpreter, GDAL with 64 MB of its cache, numba, shapely; measured."""
OUTPUT_BYTES = 34
"""A pixel of what is made of a stack: composite, indices, masks, labels, and what is being written; measured."""
SMALLEST_CELL = 64
"""Pixels a side; smaller cells are all border."""


@dataclass(frozen=True, slots=True)
class Raster:
    """Where the pixels of a raster are: north up, of one size.

    Attributes
    ----------
    left, top : float
        The outer corner of the first pixel.
    x_size, y_size : float
        Of a pixel, both positive.
    width, height : int
        Pixels.
    """

    left: float
    top: float
    x_size: float
    y_size: float
    width: int
    height: int

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top."""
        return (self.left, self.top - self.y_size * self.height, self.left + self.x_size * self.width, self.top)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The six numbers of an affine transform from column and row, as rasterio has them."""
        return (self.x_size, 0.0, self.left, 0.0, -self.y_size, self.top)


@dataclass(frozen=True, slots=True)
class Grid:
    """Square cells of a zone, numbered eastward and northward from an anchor."""

    epsg: int
    anchor_x: float
    anchor_y: float
    x_size: float
    y_size: float
    cell: int

    def raster(self, x: int, y: int) -> Raster:
        """Return where the pixels of a cell are."""
        left = self.anchor_x + x * self.cell * self.x_size
        top = self.anchor_y + (y + 1) * self.cell * self.y_size
        return Raster(left, top, self.x_size, self.y_size, self.cell, self.cell)

    def cells(self, bounds: Bounds) -> Iterator[tuple[int, int]]:
        """Yield the cells that have a part of some bounds, by their numbers."""
        left, bottom, right, top = bounds
        width, height = self.cell * self.x_size, self.cell * self.y_size
        slack = ALIGNED / self.cell
        columns = range(
            math.floor((left - self.anchor_x) / width + slack), math.ceil((right - self.anchor_x) / width - slack)
        )
        rows = range(
            math.floor((bottom - self.anchor_y) / height + slack), math.ceil((top - self.anchor_y) / height - slack)
        )
        yield from ((x, y) for y in rows for x in columns)


def anchored(epsg: int, rasters: Iterable[Raster], cell: int, size: tuple[float, float] | None = None) -> Grid:
    """Return the grid on which most sources of a zone lie, whatever their phase is.

    Sources that all begin at one corner, as scenes of one tile do, give a grid that begins there too.

    Parameters
    ----------
    rasters : iterable of Raster
        One a scene.
    size : tuple of float, optional
        Of a pixel, if not that of most sources.
    """
    sources = list(rasters)
    if size is None:
        common = Counter((each.x_size, each.y_size) for each in sources)
        size = min(common, key=lambda each: (-common[each], each))
    x_size, y_size = size
    corners = {(each.left, each.top) for each in sources}
    if len(corners) == 1:
        return Grid(epsg, *corners.pop(), x_size, y_size, cell)
    fitting = [each for each in sources if (each.x_size, each.y_size) == size] or sources
    phases = Counter((_phase(each.left, x_size), _phase(each.top, y_size)) for each in fitting)
    phase = min(phases, key=lambda each: (-phases[each], each))
    return Grid(epsg, *phase, x_size, y_size, cell)


def _phase(place: float, size: float) -> float:
    rest = place % size
    return 0.0 if min(rest, size - rest) < ALIGNED * size else round(rest, 6)


def is_aligned(source: Raster, target: Raster) -> bool:
    """Whether the pixels of a source are pixels of another raster, or would be if that went on."""
    if not (
        math.isclose(source.x_size, target.x_size, rel_tol=1e-9)
        and math.isclose(source.y_size, target.y_size, rel_tol=1e-9)
    ):
        return False
    columns, rows = (source.left - target.left) / source.x_size, (source.top - target.top) / source.y_size
    return abs(columns - round(columns)) < ALIGNED and abs(rows - round(rows)) < ALIGNED


def centres(target: Raster, source: Raster) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the centres of a raster's rows and columns lie in another, in pixels from its corner."""
    rows: NDArray[np.float64] = (source.top - target.top + _middles(target.height) * target.y_size) / source.y_size
    columns: NDArray[np.float64] = (target.left - source.left + _middles(target.width) * target.x_size) / source.x_size
    return rows, columns


def _middles(number: int) -> NDArray[np.float64]:
    return np.arange(number, dtype=np.float64) + 0.5


def cell_memory(cell: int, dates: int, bands: int) -> int:
    """Return the bytes that a worker takes for a cell: all dates of all bands, their masks, what is made of them."""
    return WORKER_BYTES + cell * cell * (dates * (2 * bands + 1) + OUTPUT_BYTES)


def fitting_cell(cell: int, dates: int, bands: int, memory: int) -> int:
    """Return the cell halved until it fits into `memory` bytes; 0 if none does."""
    while cell_memory(cell, dates, bands) > memory:
        cell //= 2
        if cell < SMALLEST_CELL or cell % 16:
            return 0
    return cell
