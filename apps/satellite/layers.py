"""Fifth stage: the layers of all cells become one, sorted along a Hilbert curve in parts, and written as a stream.

A part is a square of the curve, so parts that are sorted each by itself stand in order one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from apps._frame.stages import TaskOutput
from apps._frame.stored import Stored, sha256
from apps.satellite.geoparquet import layer_batches, layer_stream, layer_table
from apps.satellite.merging import Layer
from apps.satellite.science.geodesy import HILBERT_ORDER, hilbert_distances, middles, to_degrees

PART_BYTES = 512 << 10
"""Of layers as they are packed, from which the shapes of a part come; small ones take forty times that in memory."""
SORTED = "part.parquet"
"""What a task writes beside its record."""
MARGIN = 1e-6
"""Degrees around a layer: its shapes have their places there, whatever machine computes them again."""


@dataclass(frozen=True, slots=True)
class Part:
    """A task: a square of the curve, and the layers that may have a shape there.

    Attributes
    ----------
    order : int
        Halvings of the world along each axis.
    number : int
        How far along the curve of that order the square is.
    layers : tuple of (Stored, int)
        With their zones.
    """

    order: int
    number: int
    layers: tuple[tuple[Stored, int], ...]


def parts_of(layers: Sequence[Layer]) -> list[Part]:
    """Return parts of about `PART_BYTES` in the order of the curve, together the whole of some layers."""
    some = [each for each in layers if each.told["inner"]]
    boxes = np.array([each.told["box"] for each in some]).reshape(-1, 4) + np.array([-1, -1, 1, 1]) * MARGIN
    sizes = np.array([each.stored.size for each in some], float)
    return list(_cut(some, boxes, sizes, np.arange(len(some)), 0, (0, 0)))


def _cut(
    layers: Sequence[Layer], boxes: NDArray[np.float64], sizes: NDArray[np.float64], among: NDArray[np.intp],
    order: int, place: tuple[int, int],
) -> Iterator[Part]:  # fmt: skip
    """Yield a square, or the parts of its quarters if it would be too large."""
    width, height = 360 / 2**order, 180 / 2**order
    west, south = place[0] * width - 180, place[1] * height - 90
    left, low, right, high = boxes[among].T
    across = np.minimum(right, west + width) - np.maximum(left, west)
    along = np.minimum(high, south + height) - np.maximum(low, south)
    here = (across >= 0) & (along >= 0)
    inside = (across * along / ((right - left) * (high - low)))[here]
    among = among[here]
    if not len(among):
        return
    if (sizes[among] * inside).sum() <= PART_BYTES or order == HILBERT_ORDER:
        number = _number(order, place)
        yield Part(order, number, tuple((layers[at].stored, layers[at].zone) for at in among))
        return
    quarters = [(2 * place[0] + x, 2 * place[1] + y) for x in (0, 1) for y in (0, 1)]
    for quarter in sorted(quarters, key=lambda each: _number(order + 1, each)):
        yield from _cut(layers, boxes, sizes, among, order + 1, quarter)


def _number(order: int, place: tuple[int, int]) -> int:
    """Return how far along the curve of its order a square is."""
    x, y = (np.array([(each + 0.5) / 2**order]) for each in place)
    return int(hilbert_distances(x * 360 - 180, y * 180 - 90)[0] >> 2 * (HILBERT_ORDER - order))


def sort_part(part: Part, output: TaskOutput) -> dict[str, Any]:
    """Map function: sort the whole shapes of a part; writes them as a table, and returns its record."""
    shapes: list[Any] = []
    keys: list[NDArray[np.int64]] = []
    beside: dict[str, list[Any]] = {}
    for stored, zone in part.layers:
        for found, columns in layer_batches(stored):
            whole = np.flatnonzero(~np.array(columns.pop("border"), bool))
            moved = to_degrees(found[whole], zone)
            along = hilbert_distances(*middles(moved))
            here = along >> 2 * (HILBERT_ORDER - part.order) == part.number
            shapes += list(moved[here])
            keys.append(along[here])
            for name, values in columns.items():
                beside.setdefault(name, []).extend(values[at] for at in whole[here])
    order = np.argsort(np.concatenate(keys), kind="stable")
    told = np.array(shapes, object)
    table = layer_table(told, _typed(beside)).take(pa.array(order))
    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd")
    data = out.getvalue().to_pybytes()
    key = output.put(SORTED, data)
    return {
        "key": key,
        "size": len(data),
        "tag": sha256(data),
        "shapes": len(told),
        "area": math.fsum(beside.get("area_m2", [])),
        "types": sorted({each.geom_type for each in told}),
        "box": shapely.total_bounds(told).tolist() if len(told) else None,
    }


def _typed(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    kinds = {"zone": np.int32, "area_m2": np.float64}
    return {name: np.array(each, kinds[name]) if name in kinds else list(each) for name, each in columns.items()}


def assembled(address: str, records: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the file that parts make together, by their records, one of them in memory at a time."""
    some = [each for each in records if each["shapes"]]
    if not some:
        empty = layer_table(np.empty(0, object), _typed({"zone": [], "cell": [], "area_m2": []}))
        return layer_stream([empty], [], None)
    boxes = np.array([each["box"] for each in some])
    box = [*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist()]
    stored = (Stored(address, each["key"], each["size"], each["tag"]) for each in some)
    tables = (pq.read_table(pa.BufferReader(each.read())) for each in stored)
    return layer_stream(tables, sorted({kind for each in some for kind in each["types"]}), box)
