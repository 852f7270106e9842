"""Fourth stage: what lies on both sides of cells' borders becomes one again, zone by zone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from apps._frame.stored import Stored
from apps.satellite.geoparquet import layer_bytes, read_layer
from apps.satellite.science.geodesy import areas, to_degrees
from apps.satellite.science.shapes import joined


@dataclass(frozen=True, slots=True)
class Borders:
    """A task: the layers of a zone's cells."""

    zone: int
    layers: tuple[Stored, ...]


def merge(task: Borders) -> bytes:
    """Map function: join the shapes at the borders of a zone's cells; returns them as a layer of their own."""
    shapes: list[shapely.Geometry] = []
    cells: list[str] = []
    for layer in task.layers:
        found, columns = read_layer(layer.read())
        near = [at for at, border in enumerate(columns["border"]) if border]
        shapes += list(found[near])
        cells += [columns["cell"][at] for at in near]
    made, groups = joined(np.array(shapes, object) if shapes else np.empty(0, object))
    number = len(made)
    told = {
        "zone": np.full(number, task.zone, np.int32),
        "cell": [" ".join(sorted({cells[at] for at in group})) for group in groups],
        "area_m2": areas(to_degrees(made, task.zone)) if number else np.empty(0),
    }
    return layer_bytes(made, told, task.zone)
