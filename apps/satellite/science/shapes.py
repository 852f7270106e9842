"""Outlines of classes of pixels, and what lies on both sides of a cell's border made one again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps.satellite.science.grid import Bounds, Raster

Polygons = NDArray[np.object_]


def outlines(inside: NDArray[np.bool_], raster: Raster, anchor: tuple[float, float] | None = None) -> Polygons:
    """Return the outlines of the areas where a mask is true.

    Pixels are of one area if they share a side; with shared corners outlines would touch themselves, and not be valid.

    Parameters
    ----------
    anchor : tuple of float, optional
        A corner of pixels from which coordinates are computed: rasters that are cells of one grid then have the very
        same numbers at their common border, which they would not have from corners of their own.

    Returns
    -------
    ndarray of shapely.Polygon
        In the coordinates of the raster.
    """
    from rasterio.features import shapes

    found = shapes(inside.astype(np.uint8), mask=inside, connectivity=4)
    polygons = [_polygon(shape["coordinates"]) for shape, _ in found]
    if not polygons:
        return np.empty(0, object)
    corner, size = np.array([raster.left, raster.top]), np.array([raster.x_size, -raster.y_size])
    begin = corner if anchor is None else np.array(anchor)
    first = np.rint((corner - begin) / size)
    made: Polygons = shapely.transform(np.array(polygons, object), lambda pixels: begin + (first + pixels) * size)
    return made


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
    made = []
    for group in groups:
        whole = polygons[group[0]] if len(group) == 1 else shapely.union_all(polygons[group])
        made.append(_without_needless_points(whole))
    return np.array(made, object) if made else np.empty(0, object), groups


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


def _without_needless_points(polygon: Any) -> Any:
    """Leave out points amid straight lines, which a union keeps where borders were."""
    return shapely.Polygon(
        _corners(shapely.get_coordinates(polygon.exterior)),
        [_corners(shapely.get_coordinates(ring)) for ring in polygon.interiors],
    )


def _corners(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    points = ring[:-1]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept: NDArray[np.float64] = points[np.abs(turn) > 0]
    return kept
