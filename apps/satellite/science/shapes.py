"""Outlines of classes of pixels, and what lies on both sides of a cell's border made one again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps.satellite.science.grid import Bounds, Raster

Polygons = NDArray[np.object_]

RUNS = 10_000
"""Runs of pixels along a row whose areas are drawn at a time, unless one area has more."""
RUN_BYTES = 1_500
"""At most, of an outline until it is packed, by runs of its area: a run may end a hole, and its ring; measured."""


class TooSpeckled(Exception):
    """The outline of an area is longer than there is memory for."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Where the corners of pixels are.

    Rasters that are cells of one grid have the very same numbers at their common border, computed from the grid's
    anchor, which they would not have from corners of their own.
    """

    begin: NDArray[np.float64]
    first: NDArray[np.float64]
    size: NDArray[np.float64]

    def place(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return coordinates of corners, shape (n, 2), that are given as columns and rows."""
        return self.begin + (self.first + pixels) * self.size


def lattice(raster: Raster, anchor: tuple[float, float] | None = None) -> Lattice:
    """Return where the corners of a raster's pixels are, from an anchor that is a corner of some pixel."""
    corner, size = np.array([raster.left, raster.top]), np.array([raster.x_size, -raster.y_size])
    begin = corner if anchor is None else np.array(anchor)
    return Lattice(begin, np.rint((corner - begin) / size), size)


def outlines(inside: NDArray[np.bool_], corners: Lattice, row: int = 0) -> Polygons:
    """Return the outlines of the areas where a mask is true.

    Pixels are of one area if they share a side; with shared corners outlines would touch themselves, and not be valid.

    Parameters
    ----------
    row : int
        Of the lattice, at which the mask begins.
    """
    from rasterio.features import shapes

    found = shapes(inside.astype(np.uint8), mask=inside, connectivity=4)
    polygons = [_polygon(shape["coordinates"]) for shape, _ in found]
    if not polygons:
        return np.empty(0, object)
    made: Polygons = shapely.transform(np.array(polygons, object), lambda points: corners.place(points + [0, row]))
    return made


def outlines_in_parts(inside: NDArray[np.bool_], corners: Lattice, largest: int) -> Iterator[Polygons]:
    """Yield the same outlines, a few thousand at a time; one array at least, which may be empty.

    Parameters
    ----------
    largest : int
        Bytes that the outline of one area may take.

    Raises
    ------
    TooSpeckled
        One would take more; says how much.
    """
    turn, rows = _turns(inside, largest)
    if not rows:
        yield np.empty(0, object)
    for number, (top, bottom) in enumerate(rows):
        part = inside[top:bottom] & (turn[top:bottom] == number)
        yield outlines(part, corners, top)


def _turns(inside: NDArray[np.bool_], largest: int) -> tuple[NDArray[np.int32], list[tuple[int, int]]]:
    """Return which pixels inside are drawn together, by numbers, and first and after the last row of each number."""
    starts = inside.copy()
    starts[:, 1:] &= ~inside[:, :-1]
    row = (np.flatnonzero(starts) // inside.shape[1]).astype(np.int32)
    run = (np.cumsum(starts, dtype=np.int32) - 1).reshape(inside.shape)
    if not len(row):
        return run, []
    area = _areas(run, inside, len(row))
    number = np.bincount(area)
    if (most := int(number.max()) * RUN_BYTES) > largest:
        raise TooSpeckled(f"the outline of one area takes {most / 1e6:,.0f} MB")
    # Areas are numbered by their first runs, so those that are drawn together lie near each other.
    turn = np.cumsum(np.where(number > RUNS, 0, number)) // RUNS
    turn[number > RUNS] = turn[-1] + 1 + np.arange((number > RUNS).sum())
    _, turn = np.unique(turn[area], return_inverse=True)
    first, after = np.full(turn.max() + 1, len(inside)), np.zeros(turn.max() + 1, int)
    np.minimum.at(first, turn, row)
    np.maximum.at(after, turn, row + 1)
    np.take(turn.astype(np.int32), run, out=run, mode="clip")  # outside there may be no run before
    return run, list(zip(first.tolist(), after.tolist(), strict=True))


def _areas(run: NDArray[np.int32], inside: NDArray[np.bool_], number: int) -> NDArray[np.int32]:
    """Return the area of each run, as the number of its first run; runs that share a side of a pixel are of one."""
    both = inside[1:] & inside[:-1]
    both[:, 1:] &= ~both[:, :-1]  # two runs that go on beside each other are told once
    first, second = run[:-1][both], run[1:][both]
    area = np.arange(number, dtype=np.int32)
    while (unlike := area[first] != area[second]).any():
        first, second = first[unlike], second[unlike]
        low, high = np.minimum(area[first], area[second]), np.maximum(area[first], area[second])
        np.minimum.at(area, high, low)
        while (further := area[area] != area).any():
            area[further] = area[area[further]]
    return area


def extent(inside: NDArray[np.bool_], corners: Lattice) -> list[float] | None:
    """Return left, bottom, right, top of the area where a mask is true; None where it is nowhere."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if not rows.size:
        return None
    (left, top), (right, bottom) = corners.place(np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]))
    return [float(left), float(bottom), float(right), float(top)]


def _polygon(rings: Sequence[Any]) -> shapely.Polygon:
    return shapely.Polygon(rings[0], rings[1:])


def at_border(polygons: Polygons, bounds: Bounds) -> NDArray[np.bool_]:
    """Return which polygons reach the border of their cell."""
    if not len(polygons):
        return np.zeros(0, bool)
    left, bottom, right, top = shapely.bounds(polygons).T
    slack = 1e-6 * (bounds[2] - bounds[0])
    low = (left <= bounds[0] + slack) | (bottom <= bounds[1] + slack)
    return np.asarray(low | (right >= bounds[2] - slack) | (top >= bounds[3] - slack))


def joined(polygons: Polygons) -> tuple[Polygons, list[list[int]]]:
    """Join polygons that have a piece of border in common, and leave apart those that only share corners.

    Returns
    -------
    ndarray of shapely.Polygon
    list of list of int
        Which of the given ones each is made of.
    """
    groups = _groups(len(polygons), _neighbours(polygons))
    made = [polygons[group[0]] if len(group) == 1 else shapely.union_all(polygons[group]) for group in groups]
    return _straight(made), groups


def _neighbours(polygons: Polygons) -> Iterable[tuple[int, int]]:
    """Yield pairs that share a piece of border."""
    if not len(polygons):
        return
    tree = shapely.STRtree(polygons)
    first, second = tree.query(polygons, predicate="intersects")
    once = first < second
    first, second = first[once], second[once]
    shared = shapely.length(shapely.intersection(polygons[first], polygons[second]))
    yield from ((int(a), int(b)) for a, b in zip(first[shared > 0], second[shared > 0], strict=True))


def _groups(number: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the connected components of a graph, each in order, and in the order of their first members."""
    parent = list(range(number))

    def root(each: int) -> int:
        while parent[each] != each:
            parent[each] = parent[parent[each]]
            each = parent[each]
        return each

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    members: dict[int, list[int]] = {}
    for each in range(number):
        members.setdefault(root(each), []).append(each)
    return list(members.values())


def _straight(polygons: Sequence[Any]) -> Polygons:
    """Leave out points amid straight lines, which a union keeps where borders were."""
    made = np.empty(len(polygons), object)
    for at, polygon in enumerate(polygons):
        points, ring = shapely.get_coordinates(shapely.get_rings(polygon), return_index=True)
        begins = np.append(True, ring[1:] != ring[:-1])
        points, ring, begins = points[~begins], ring[~begins], np.roll(begins, 1)[~begins]  # the first is the last too
        starts = np.flatnonzero(begins)
        ends = np.append(starts[1:], len(ring)) - 1
        before, after = np.arange(len(ring)) - 1, np.arange(len(ring)) + 1
        before[starts], after[ends] = ends, starts
        first, second = points - points[before], points[after] - points
        turns = first[:, 0] * second[:, 1] != first[:, 1] * second[:, 0]
        rings = shapely.linearrings(points[turns], indices=ring[turns])
        made[at] = shapely.polygons(rings[0], rings[1:])
    return made
