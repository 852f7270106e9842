"""What a run would take: tasks, requests, bytes, processor time and memory, from the headers of its scenes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from apps._frame.plan import Plan, StagePlan
from apps.satellite.cog import TILE
from apps.satellite.gate import HASHED
from apps.satellite.merging import BLOCK
from apps.satellite.params import Params
from apps.satellite.planning import MB, Layout
from apps.satellite.records import Asset, Cell, Scene
from apps.satellite.science.grid import WORKER_BYTES

SECONDS_PER_PIXEL, SECONDS_PER_CELL_PIXEL, SECONDS_PER_SCENE = 1.2e-8, 8e-8, 0.05
"""CPU of a band of a date, of a pixel of what is made of them, and of opening a scene; measured on one core of a server
of the 2020s."""
SECONDS_PER_JPEG_PIXEL, SECONDS_PER_HASHED = 1.3e-7, 5e-10
"""CPU of a pixel of JPEG 2000 that becomes a GeoTIFF, and of a byte whose SHA-256 is compared; measured there."""
SECONDS_PER_JOIN, SECONDS_PER_SHAPE_DRAWN, SECONDS_PER_SHAPE_SORTED = 0.1, 3e-5, 3.5e-5
"""CPU of joining the shapes at the borders of a block, and of a shape; measured there."""
SHAPES_PER_PIXEL, SHAPES_PER_PART = 5e-4, 4000
"""Shapes, which nobody knows before (five on a square kilometre of pixels of 10 m), and those sorted together."""
BYTES_PER_PIXEL = 1.6
"""Of a band of 16 bits as it is packed, in what is written."""
JPEG_MEMORY = 8
"""Bytes of a pixel of an image that is decoded whole: itself, its tiles as they are packed, and those joined."""
GETS_PER_ASSET = 3
"""Requests by which an asset is opened: its tag, its header, and pixels by which it is judged."""


def plan_of(params: Params, layout: Layout, found: Sequence[Mapping[str, Any]]) -> Plan:
    """Return what is to be said before a run.

    Parameters
    ----------
    found : sequence of dict
        What `ingest` returned of every candidate without an output.
    """
    efforts = {(each["scene"]["name"], each["scene"]["source"]): each["effort"] for each in found if "scene" in each}
    refused = sum("row" in each for each in found)
    stages = [_ingest(params, found, list(efforts.values())), _cells(params, layout, efforts)]
    if _draws(params):
        joins = _joins(layout.cells)
        stages.append(StagePlan("merge", joins, SECONDS_PER_JOIN, WORKER_BYTES, gets=len(layout.cells), puts=joins))
    shapes = _area(layout) * SHAPES_PER_PIXEL if _draws(params) or params.function else 0
    parts = math.ceil(shapes / SHAPES_PER_PART)
    sorting = shapes * SECONDS_PER_SHAPE_SORTED / max(parts, 1)
    stages.append(StagePlan("publish", parts, sorting, WORKER_BYTES, gets=2 * len(layout.cells), puts=parts))
    grids = [f"EPSG:{epsg}: cells of {grid.cell} pixels of {grid.x_size:g} m" for epsg, grid in layout.grids.items()]
    memory = max(stage.memory for stage in stages)
    unused = refused + len(layout.rows)
    facts = [
        ("Scenes", f"{len(layout.scenes):,} to be used, {unused:,} not"),
        *(("Grid", each) for each in grids),
        ("Memory", f"{memory / MB:,.0f} MB a worker"),
    ]
    figures = {"scenes": len(layout.scenes), "refused": unused, "cells": len(layout.cells), "memory": memory}
    return Plan(stages, facts, figures)


def _area(layout: Layout) -> int:
    """Return the pixels of all cells."""
    return sum(cell.raster.width * cell.raster.height for cell in layout.cells)


def _draws(params: Params) -> bool:
    """Whether water will be outlined."""
    return {"green", "nir"} <= set(params.bands) and not params.function


def _joins(cells: Sequence[Cell]) -> int:
    """Return how many blocks of cells, and blocks of blocks, have their shapes joined, if every cell has some."""
    joins, places = 0, {(cell.zone, cell.x, cell.y) for cell in cells}
    while places:
        corners = {zone: (min(x for at, x, _ in places if at == zone), min(y for at, _, y in places if at == zone))
                   for zone in {place[0] for place in places}}  # fmt: skip
        blocks = {(zone, (x - corners[zone][0]) // BLOCK, (y - corners[zone][1]) // BLOCK) for zone, x, y in places}
        joins += len(blocks)
        number = Counter(zone for zone, _, _ in blocks)
        places = {block for block in blocks if number[block[0]] > 1}
    return joins


def _ingest(params: Params, found: Sequence[Mapping[str, Any]], efforts: Sequence[Mapping[str, Any]]) -> StagePlan:
    whole, decoded = (sum(each[name] for each in efforts) for name in ("whole", "decoded"))
    largest = max((each["largest"] for each in efforts), default=0)
    seconds = whole * SECONDS_PER_HASHED + decoded * SECONDS_PER_JPEG_PIXEL
    assets = sum(len(each["packed"]) for each in efforts)
    tasks = len(found)
    return StagePlan(
        "ingest", tasks, SECONDS_PER_SCENE + seconds / max(tasks, 1), WORKER_BYTES + JPEG_MEMORY * largest,
        gets=tasks + GETS_PER_ASSET * assets + math.ceil(whole / HASHED), puts=assets if decoded else 0,
        bytes_in=whole, bytes_out=round(decoded * BYTES_PER_PIXEL),
    )  # fmt: skip


def _cells(params: Params, layout: Layout, efforts: Mapping[tuple[str, str], Mapping[str, Any]]) -> StagePlan:
    gets, read, pixels = 0, 0.0, 0
    for cell in layout.cells:
        for scene in (scene for take in cell.datatakes for scene in take):
            for name, asset in _assets(scene):
                rows, columns = _common(cell, asset)
                gets += 1 + math.ceil(rows / TILE)
                part = rows * columns / (asset.raster.width * asset.raster.height)
                read += part * (efforts[scene.name, scene.source]["packed"][name] or _packed(asset))
                pixels += rows * columns if name else 0
    area = _area(layout)
    tasks = len(layout.cells)
    seconds = pixels * SECONDS_PER_PIXEL + area * SECONDS_PER_CELL_PIXEL
    if _draws(params):
        seconds += area * SHAPES_PER_PIXEL * SECONDS_PER_SHAPE_DRAWN
    return StagePlan(
        "cell", tasks, seconds / max(tasks, 1), layout.memory, gets=gets, puts=3 * tasks,
        bytes_in=round(read), bytes_out=round(area * (len(params.bands) + 4) * BYTES_PER_PIXEL),
    )  # fmt: skip


def _assets(scene: Scene) -> list[tuple[str, Asset]]:
    return [*scene.bands.items(), *([("", scene.mask)] if scene.mask is not None else [])]


def _common(cell: Cell, asset: Asset) -> tuple[int, int]:
    """Return how many rows and columns of an asset lie in a cell."""
    left, bottom, right, top = cell.raster.bounds
    west, south, east, north = asset.raster.bounds
    rows = (min(top, north) - max(bottom, south)) / asset.raster.y_size
    columns = (min(right, east) - max(left, west)) / asset.raster.x_size
    return max(0, math.ceil(rows)), max(0, math.ceil(columns))


def _packed(asset: Asset) -> float:
    """Return the bytes of an image whose tiles are not known, as they are packed or will be."""
    return min(asset.source.size, asset.raster.width * asset.raster.height * BYTES_PER_PIXEL)
