"""Fourth stage: what lies on both sides of cells' borders becomes one again, block by block.

Blocks of cells are joined, then blocks of blocks. Only shapes at a block's own border go on, so that no task has more
of them than lie along the lines within its block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps._frame.stages import Outputs, TaskOutput
from apps._frame.stored import Stored, sha256
from apps.satellite.geoparquet import layer_batches, layer_bytes
from apps.satellite.science.geodesy import areas, middles, to_degrees
from apps.satellite.science.grid import Bounds
from apps.satellite.science.shapes import at_border, joined

SHAPES = "shapes.parquet"
"""What a task writes beside its record."""
BLOCK = 4
"""Cells, or blocks of them, along each side of a block."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The shapes of a cell, or those that became whole in a block of cells.

    Attributes
    ----------
    stored : Stored
        A file with a column ``border``.
    zone : int
    x, y : int
        Number of the cell or block among those of its size.
    bounds : tuple of float
        Of the cell, or of the block's cells that have a shape at their border.
    told : dict
        What `contents` says of it.
    """

    stored: Stored
    zone: int
    x: int
    y: int
    bounds: Bounds
    told: Mapping[str, Any]


def contents(moved: NDArray[np.object_], border: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how many shapes of a layer are whole and how many at its border, and a box of the middles of the former.

    Parameters
    ----------
    moved : ndarray of shapely geometry
        Those that are whole, in longitude and latitude.
    border : ndarray of bool
        Of all.
    """
    east, north = middles(moved)
    box = [east.min(), north.min(), east.max(), north.max()] if len(moved) else []
    return {"inner": len(moved), "border": int(border.sum()), "box": [float(side) for side in box]}


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `contents` would say of several parts of a layer."""
    boxes = np.array([part["box"] for part in parts if part["box"]])
    box = [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()] if len(boxes) else []
    return {**{kind: sum(part[kind] for part in parts) for kind in ("inner", "border")}, "box": box}


@dataclass(frozen=True, slots=True)
class Borders:
    """A task: the layers of a block.

    Attributes
    ----------
    bounds : tuple of float or None
        Of the block; None if it is all of its zone.
    """

    zone: int
    bounds: Bounds | None
    layers: tuple[Stored, ...]


def merge(task: Borders, output: TaskOutput) -> dict[str, Any]:
    """Map function: join the shapes at the borders within a block; writes them as a layer, and returns its record."""
    shapes: list[shapely.Geometry] = []
    cells: list[str] = []
    for layer in task.layers:
        for found, columns in layer_batches(layer):
            near = [at for at, border in enumerate(columns["border"]) if border]
            shapes += list(found[near])
            cells += [columns["cell"][at] for at in near]
    made, groups = joined(np.array(shapes, object))
    border = np.zeros(len(made), bool) if task.bounds is None else at_border(made, task.bounds)
    area = np.full(len(made), np.nan)  # of what is not whole yet
    moved = to_degrees(made[~border], task.zone)
    area[~border] = areas(moved)
    told = {
        "zone": np.full(len(made), task.zone, np.int32),
        "cell": [" ".join(sorted({name for at in group for name in cells[at].split()})) for group in groups],
        "area_m2": area,
        "border": border,
    }
    data = layer_bytes(made, told, task.zone)
    key = output.put(SHAPES, data)
    return {"key": key, "size": len(data), "tag": sha256(data), "told": contents(moved, border)}


def merge_all(layers: Sequence[Layer], address: str, run: Callable[[Sequence[Borders]], Outputs]) -> list[Layer]:
    """Join the shapes at the borders of cells; returns layers that together have each shape once, as a whole.

    Parameters
    ----------
    layers : sequence of Layer
        Those of cells.
    address : str
        Of the storage in which tasks write.
    run : callable
        Runs tasks; returns their outputs.

    Returns
    -------
    list of Layer
        Those of cells too; their shapes at borders do not count.
    """
    found = list(layers)
    open_layers = [each for each in layers if each.told["border"]]
    while open_layers:
        blocks: dict[tuple[int, int, int], list[Layer]] = {}
        corners = {zone: _corner(open_layers, zone) for zone in sorted({each.zone for each in open_layers})}
        for each in open_layers:
            left, low = corners[each.zone]
            blocks.setdefault((each.zone, (each.x - left) // BLOCK, (each.y - low) // BLOCK), []).append(each)
        alone = {zone: sum(place[0] == zone for place in blocks) == 1 for zone in corners}
        bounds = {place: _around(here) for place, here in blocks.items()}
        tasks = [
            Borders(place[0], None if alone[place[0]] else bounds[place], tuple(each.stored for each in here))
            for place, here in blocks.items()
        ]
        outputs = run(tasks)
        open_layers = []
        for place, told in zip(blocks, outputs.values(), strict=True):
            stored = Stored(address, told["key"], told["size"], told["tag"])
            made = Layer(stored, *place, bounds[place], told["told"])
            found.append(made)
            if made.told["border"]:
                open_layers.append(made)
    return found


def _corner(layers: Sequence[Layer], zone: int) -> tuple[int, int]:
    here = [each for each in layers if each.zone == zone]
    return min(each.x for each in here), min(each.y for each in here)


def _around(layers: Sequence[Layer]) -> Bounds:
    boxes = np.array([each.bounds for each in layers])
    left, bottom = boxes[:, :2].min(0).tolist()
    right, top = boxes[:, 2:].max(0).tolist()
    return left, bottom, right, top
