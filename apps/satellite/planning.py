"""Second stage, by the driver: editions and grids are settled, and cells dealt out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps.satellite.params import CELL, TILE_CELL, Params
from apps.satellite.records import REJECTED, SUPERSEDED, Cell, Row, Scene, row_of
from apps.satellite.science.geodesy import from_degrees, to_degrees
from apps.satellite.science.grid import Grid, Raster, anchored, cell_memory, fitting_cell, is_aligned
from core import ConfigError, InputError, open_storage
from core.storage import split_address

MB = 1_000_000
MARGIN = 0.01
"""Degrees around a cell within which zones of statistics are kept."""
LONGEST_SIDE = 0.01
"""Degrees of a zone's side; a straight line between its ends then lies within 2 cm of it, up to 60 degrees."""


@dataclass(frozen=True, slots=True)
class Zone:
    """An area for which statistics are made: its name, and its outline in longitude and latitude."""

    name: str
    outline: Any


@dataclass(frozen=True, slots=True)
class Layout:
    """What is to be computed.

    Attributes
    ----------
    cells : tuple of Cell
        Those that a scene has a part in.
    grids : dict
        By EPSG code.
    rows : tuple of Row
        Scenes that were put aside, and why.
    scenes : tuple of Scene
        Those that take part.
    later : str
        Day from which on a date counts as later.
    dates : int
        Datatakes of the cell that has most.
    """

    cells: tuple[Cell, ...]
    grids: Mapping[int, Grid]
    rows: tuple[Row, ...]
    scenes: tuple[Scene, ...]
    later: str
    dates: int

    @property
    def memory(self) -> int:
        """Bytes that a worker needs for the largest cell."""
        bands = max((len(scene.bands) for scene in self.scenes), default=1)
        return max((cell_memory(grid.cell, self.dates, bands) for grid in self.grids.values()), default=0)


def lay_out(scenes: Sequence[Scene], params: Params, zones: Sequence[Zone] = ()) -> Layout:
    """Return the cells of scenes that passed the gate.

    Raises
    ------
    ConfigError
        No cell fits into the memory that a worker may have.
    """
    newest, rows = _newest(scenes)
    grids, cells, kept, dates = {}, [], [], 0
    later = params.change or _middle_day(newest)
    for epsg in sorted({scene.epsg for scene in newest}):
        here = [scene for scene in newest if scene.epsg == epsg]
        grid, fitting, beside = _grid(epsg, here, params)
        rows += beside
        most = max((len(takes) for takes in _dealt(grid, fitting).values()), default=0)
        side = fitting_cell(grid.cell, most, len(params.bands), params.memory_mb * MB)
        if not side:
            raise ConfigError(
                f"no cell of {most} dates fits into {params.memory_mb} MB; raise --memory-mb, or take fewer dates or "
                "bands"
            )
        grids[epsg] = grid = replace(grid, cell=side)
        kept += fitting
        dates = max(dates, most)
        cells += _cells(grid, fitting, later, zones)
    return Layout(tuple(cells), grids, tuple(rows), tuple(kept), later, dates)


def _newest(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Row]]:
    """Return the newest edition of each part of a datatake, and rows of those that it supersedes."""
    editions: dict[tuple[str, str, int], list[Scene]] = {}
    for scene in scenes:
        editions.setdefault((scene.datatake, scene.tile, scene.epsg), []).append(scene)
    newest, rows = [], []
    for found in editions.values():
        *older, last = sorted(
            found, key=lambda each: ([re.sub(r"\D", "", part) for part in each.version], each.name, each.source)
        )
        newest.append(last)
        rows += [row_of(each, SUPERSEDED, f"{last.name} is a newer edition of it") for each in older]
    return sorted(newest, key=_order), rows


def _order(scene: Scene) -> tuple[str, ...]:
    return (scene.when, scene.datatake, scene.tile, scene.name)


def _middle_day(scenes: Sequence[Scene]) -> str:
    days = sorted({scene.when[:10] for scene in scenes})
    return days[len(days) // 2] if days else ""


def check_day(day: str) -> None:
    """Refuse what is no date, as ``ConfigError``."""
    try:
        date.fromisoformat(day)
    except ValueError:
        raise ConfigError(f"--change {day}: expected a date such as 2025-06-30") from None


def _grid(epsg: int, scenes: Sequence[Scene], params: Params) -> tuple[Grid, list[Scene], list[Row]]:
    """Return the grid of a zone, the scenes that are on it or may be resampled, and rows of the others."""
    size = None if params.resolution is None else (params.resolution, params.resolution)
    rasters = [scene.raster for scene in scenes]
    one_tile = len({(each.left, each.top) for each in rasters}) == 1
    grid = anchored(epsg, rasters, params.cell or (TILE_CELL if one_tile else CELL), size)
    fitting, rows = [], []
    pixels = grid.raster(0, 0)
    for scene in scenes:
        odd = [name for name, asset in scene.bands.items() if not is_aligned(asset.raster, pixels)]
        if odd and params.resample == "reject":
            rows.append(row_of(scene, REJECTED, _beside(scene.bands[odd[0]].raster, odd[0], grid)))
        else:
            fitting.append(scene)
    return grid, fitting, rows


def _beside(raster: Raster, name: str, grid: Grid) -> str:
    if (raster.x_size, raster.y_size) != (grid.x_size, grid.y_size):
        what = f"has pixels of {raster.x_size:g} m, and its zone's are of {grid.x_size:g} m"
    else:
        right = (raster.left - grid.anchor_x) / grid.x_size % 1
        up = (raster.top - grid.anchor_y) / grid.y_size % 1
        what = f"lies {right:.3g} pixels right of and {up:.3g} above the pixels of most scenes of EPSG:{grid.epsg}"
    return f"{name} {what}; name a rule by --resample"


def _dealt(grid: Grid, scenes: Sequence[Scene]) -> dict[tuple[int, int], dict[str, list[Scene]]]:
    """Return which scenes have a part in which cell, by datatake."""
    dealt: dict[tuple[int, int], dict[str, list[Scene]]] = {}
    for scene in scenes:
        for place in grid.cells(scene.bounds):
            dealt.setdefault(place, {}).setdefault(scene.datatake, []).append(scene)
    return dealt


def _cells(grid: Grid, scenes: Sequence[Scene], later: str, zones: Sequence[Zone]) -> list[Cell]:
    made = []
    for (x, y), takes in sorted(_dealt(grid, scenes).items()):
        ordered = tuple(tuple(take) for take in takes.values())
        first = sum(take[0].when[:10] < later for take in ordered)
        made.append(Cell(grid.epsg, x, y, grid.raster(x, y), (grid.anchor_x, grid.anchor_y), ordered, first))
    return _with_zones(made, grid.epsg, zones)


def footprint(cell: Cell) -> Any:
    """Return the outline of a cell in longitude and latitude, cut at 180 degrees."""
    return to_degrees(shapely.box(*cell.raster.bounds), cell.zone)


def _with_zones(cells: list[Cell], epsg: int, zones: Sequence[Zone]) -> list[Cell]:
    """Return cells with the zones of statistics that have a part in them, in their own coordinates."""
    if not zones:
        return cells
    outlines = np.array([zone.outline for zone in zones], object)
    tree = shapely.STRtree(outlines)
    made = []
    for cell in cells:
        place = footprint(cell)
        near = np.sort(tree.query(place, predicate="intersects"))
        here = _near(outlines[near], place, epsg) if near.size else []
        told = tuple((int(number), shapely.to_wkb(each)) for number, each in zip(near, here, strict=True))
        made.append(replace(cell, zones=told))
    return made


def _near(outlines: NDArray[np.object_], place: Any, epsg: int) -> list[Any]:
    """Return the parts of zones around a cell in its coordinates.

    What is far away has no coordinates there, and sides, which are straight in degrees (RFC 7946), are bent.
    """
    around = shapely.union_all([shapely.box(*part.bounds).buffer(MARGIN) for part in shapely.get_parts(place)])
    pieces = [shapely.get_parts(shapely.intersection(each, around)) for each in outlines]
    solid = [shapely.multipolygons([part for part in parts if part.geom_type == "Polygon"]) for parts in pieces]
    return list(from_degrees(shapely.segmentize(np.array(solid, object), LONGEST_SIDE), epsg))


def read_zones(address: str) -> list[Zone]:
    """Return the polygons of a GeoJSON file (RFC 7946), named by their id, or by property ``name`` or ``id``.

    Raises
    ------
    InputError
        It cannot be read, or has none.
    """
    if not address:
        return []
    root, key = split_address(address)
    try:
        found = json.loads(open_storage(root).get(key))
        features = found["features"] if found["type"] == "FeatureCollection" else [found]
        zones = [_zone(number, feature) for number, feature in enumerate(features)]
    except FileNotFoundError as error:
        raise InputError(f"--zones {address}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError) as error:
        raise InputError(f"{address} is no GeoJSON of polygons: {error!r}") from None
    if not zones:
        raise InputError(f"{address} has no polygon")
    return zones


def _zone(number: int, feature: Mapping[str, Any]) -> Zone:
    outline = shapely.geometry.shape(feature["geometry"])
    properties = feature.get("properties") or {}
    name = feature.get("id") or properties.get("name") or properties.get("id") or number
    if outline.geom_type not in ("Polygon", "MultiPolygon") or not outline.is_valid:
        raise ValueError(f"feature {name} is no valid polygon")
    return Zone(str(name), outline)
