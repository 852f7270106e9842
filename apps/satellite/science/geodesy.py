"""Shapes of a zone on the ellipsoid: longitude and latitude, areas, and the cut at 180 degrees."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

LONGEST_EDGE = 1000.0
"""Metres of an edge; a straight line of a zone then lies within 3 cm of the one between its ends in degrees."""

HILBERT_ORDER = 16
"""Halvings of the world along each axis: steps of 600 m by 300 m at the equator."""


@cache
def _to_degrees(epsg: int) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(epsg, 4326, always_xy=True)


@cache
def _from_degrees(epsg: int) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(4326, epsg, always_xy=True)


def degrees(epsg: int, x: Any, y: Any) -> tuple[Any, Any]:
    """Return longitude and latitude (WGS 84) of places in a zone."""
    longitude, latitude = _to_degrees(epsg).transform(x, y)
    return longitude, latitude


def from_degrees_at(epsg: int, longitude: Any, latitude: Any) -> tuple[Any, Any]:
    """Return places in a zone by longitude and latitude (WGS 84); infinite where it has none."""
    x, y = _from_degrees(epsg).transform(longitude, latitude)
    return x, y


def to_degrees(shapes: Any, epsg: int) -> Any:
    """Return shapes of a zone in longitude and latitude (WGS 84), cut where they cross 180 degrees.

    Parameters
    ----------
    shapes : shapely geometry, or ndarray of them
        Polygons in the coordinates of the zone.
    """
    fine = shapely.segmentize(shapes, LONGEST_EDGE)
    moved = shapely.transform(fine, lambda points: np.column_stack(degrees(epsg, *points.T)))
    if isinstance(moved, np.ndarray):
        return np.array([_cut(each) for each in moved], object) if len(moved) else moved
    return _cut(moved)


def _cut(shape: Any) -> Any:
    """Cut a shape at 180 degrees whose longitudes jump there."""
    left, _, right, _ = shape.bounds
    if right - left <= 180:
        return shape
    around = shapely.transform(shape, lambda points: np.column_stack([points[:, 0] % 360.0, points[:, 1]]))
    west = shapely.intersection(around, shapely.box(0, -90, 180, 90))
    east = shapely.intersection(around, shapely.box(180, -90, 360, 90))
    east = shapely.transform(east, lambda points: points - np.array([360.0, 0.0]))
    parts = [part for half in (west, east) for part in shapely.get_parts(half) if part.area > 0]
    return shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0]


def from_degrees(shapes: NDArray[np.object_], epsg: int) -> NDArray[np.object_]:
    """Return shapes in longitude and latitude in the coordinates of a zone."""
    moved: NDArray[np.object_] = shapely.transform(
        shapes, lambda points: np.column_stack(from_degrees_at(epsg, *points.T))
    )
    return moved


def areas(shapes: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return areas on the ellipsoid of WGS 84, m2, of shapes in longitude and latitude.

    Source: C. F. F. Karney, Algorithms for geodesics, J. Geod. 87 (2013), as PROJ has them.
    """
    from pyproj import Geod

    ellipsoid = Geod(ellps="WGS84")
    return np.array([abs(ellipsoid.geometry_area_perimeter(each)[0]) for each in shapes], np.float64)


def bounds_boxes(west: float, south: float, east: float, north: float) -> Any:
    """Return the area between longitudes and latitudes; with west greater than east it lies across 180 degrees."""
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])


def hilbert_distances(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how far along a Hilbert curve over the world places lie, in steps of `HILBERT_ORDER`.

    Without their last 2 n bits distances are those of a curve that is n orders coarser.

    Source: J. Skilling, Programming the Hilbert curve, AIP Conf. Proc. 707 (2004), in two dimensions.
    """
    side = 1 << HILBERT_ORDER
    x = np.clip((longitude + 180) / 360 * side, 0, side - 1).astype(np.int64)
    y = np.clip((latitude + 90) / 180 * side, 0, side - 1).astype(np.int64)
    distance = np.zeros(len(x), np.int64)
    step = side >> 1
    while step:
        right, up = (x & step) > 0, (y & step) > 0
        distance += step * step * ((3 * right) ^ up)
        flip = ~up
        turned = flip & right
        x, y = np.where(turned, step - 1 - (x & (step - 1)), x), np.where(turned, step - 1 - (y & (step - 1)), y)
        x, y = np.where(flip, y, x), np.where(flip, x, y)
        step >>= 1
    return distance


def middles(shapes: NDArray[np.object_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitude and latitude of the middles of shapes' boxes, by which they are sorted."""
    west, south, east, north = shapely.bounds(shapes).reshape(-1, 4).T
    return (west + east) / 2, (south + north) / 2


def hilbert_order(shapes: NDArray[np.object_]) -> NDArray[np.intp]:
    """Return the order of shapes along the curve, so that near ones stand together."""
    return np.argsort(hilbert_distances(*middles(shapes)), kind="stable")
