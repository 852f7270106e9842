"""Shapes of many cells: joined block by block, sorted part by part, and one layer in the end."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from numpy.typing import NDArray

from apps._frame.stages import Outputs, TaskOutput
from apps._frame.stored import JSON, Stored, sha256
from apps.satellite import geoparquet, merging
from apps.satellite import layers as layers_module
from apps.satellite.geoparquet import layer_bytes, read_layer
from apps.satellite.layers import assembled, parts_of, sort_part
from apps.satellite.merging import Layer, contents, merge, merge_all
from apps.satellite.science.geodesy import areas, hilbert_distances, middles, to_degrees
from apps.satellite.science.grid import Grid, Raster
from apps.satellite.science.shapes import at_border, lattice, outlines
from core import open_storage

ZONE, SIDE = 32632, 16
ANCHOR = (500_000.0, 5_000_000.0)


class Place:
    """A storage in which tasks run that write there."""

    def __init__(self, folder: Path) -> None:
        self.storage = open_storage(str(folder))
        self.tasks: list[Any] = []

    def run(self, fn: Any, tasks: Sequence[Any]) -> Outputs:
        stored = []
        for task in tasks:
            output = TaskOutput(self.storage.address, f"tasks/{len(self.tasks)}", 0)
            self.tasks.append(task)
            data = JSON.encode(fn(task, output))
            stored.append(Stored("", "", len(data), sha256(data), data))
        return Outputs(JSON, list(stored), {})

    def layer(self, x: int, y: int, raster: Raster, inside: NDArray[np.bool_]) -> Layer:
        """Write the layer of a cell, as its task does."""
        shapes = outlines(inside, lattice(raster, ANCHOR))
        border, moved = at_border(shapes, raster.bounds), to_degrees(shapes, ZONE)
        columns = {
            "zone": np.full(len(shapes), ZONE, np.int32), "cell": [f"{x}_{y}"] * len(shapes),
            "area_m2": areas(moved), "border": border,
        }  # fmt: skip
        data = layer_bytes(shapes, columns, ZONE)
        self.storage.put(f"cells/{x}_{y}", data)
        stored = Stored(self.storage.address, f"cells/{x}_{y}", len(data), sha256(data))
        return Layer(stored, ZONE, x, y, raster.bounds, contents(moved[~border], border))


def cut(place: Place, inside: NDArray[np.bool_], pixel: float, first: int = -3) -> list[Layer]:
    """Cut a mask into cells, the first of which has this number; returns their layers."""
    grid = Grid(ZONE, *ANCHOR, pixel, pixel, SIDE)
    down, across = (each // SIDE for each in inside.shape)
    made = []
    for x in range(across):
        for y in range(down):
            part = inside[(down - 1 - y) * SIDE : (down - y) * SIDE, x * SIDE : (x + 1) * SIDE]
            made.append(place.layer(x + first, y + first, grid.raster(x + first, y + first), part))
    return made


def rows(data: bytes) -> list[tuple[bytes, str]]:
    shapes, columns = read_layer(data)
    return [(shapely.normalize(shape).wkb, cell) for shape, cell in zip(shapes, columns["cell"], strict=True)]


def whole_layer(place: Place, made: Sequence[Layer]) -> bytes:
    records = list(place.run(sort_part, parts_of(made)).values())
    return b"".join(assembled(place.storage.address, records))


@pytest.mark.parametrize(("pixel", "share"), [(10.0, 0.6), (0.6, 0.45), (1 / 3, 0.6)])
def test_shapes_joined_block_by_block_are_those_of_the_whole(tmp_path: Path, pixel: float, share: float) -> None:
    place, inside = Place(tmp_path), np.random.default_rng(1).random((6 * SIDE, 9 * SIDE)) < share

    made = merge_all(cut(place, inside, pixel), place.storage.address, lambda tasks: place.run(merge, tasks))

    grid = Grid(ZONE, *ANCHOR, pixel, pixel, SIDE)
    corner = grid.raster(-3, 2)
    expected = outlines(inside, lattice(Raster(corner.left, corner.top, pixel, pixel, 9 * SIDE, 6 * SIDE)))
    found = np.concatenate([shapes_of(each) for each in made])
    assert len(found) == len(expected)
    assert all(shapely.is_valid(found))
    both = [shapely.normalize(shapely.set_precision(each, pixel / 100)) for each in (found, expected)]
    assert {each.wkb for each in both[0]} == {each.wkb for each in both[1]}


def shapes_of(layer: Layer) -> NDArray[np.object_]:
    shapes, columns = read_layer(layer.stored.read())
    return shapes[~np.array(columns["border"], bool)]


def test_only_shapes_at_the_border_of_a_block_go_on_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "BLOCK", 2)
    place = Place(tmp_path)
    cells = cut(place, np.random.default_rng(2).random((8 * SIDE, 8 * SIDE)) < 0.2, 10.0)

    made = merge_all(cells, place.storage.address, lambda tasks: place.run(merge, tasks))

    sizes = {each.stored: each.told["border"] for each in made}
    taken = [sum(sizes[layer] for layer in task.layers) for task in place.tasks]
    assert len(taken) == 16 + 4 + 1
    assert max(taken) < sum(each.told["border"] for each in cells) / 3


def test_a_layer_is_in_one_order_whatever_its_parts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, inside = Place(tmp_path), np.random.default_rng(3).random((6 * SIDE, 6 * SIDE)) < 0.45
    made = merge_all(cut(place, inside, 300.0), place.storage.address, lambda tasks: place.run(merge, tasks))
    one = whole_layer(place, made)
    monkeypatch.setattr(layers_module, "PART_BYTES", 8_000)

    many = whole_layer(place, made)

    assert len(parts_of(made)) > 8
    assert rows(many) == rows(one)
    shapes, columns = read_layer(many)
    along = hilbert_distances(*middles(shapes))
    assert (np.diff(along) >= 0).all()
    assert len(shapes) == sum(each.told["inner"] for each in made)
    assert columns["area_m2"] == areas(shapes).tolist()


def test_row_groups_are_full_over_parts_and_the_box_is_around_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers_module, "PART_BYTES", 20_000)
    monkeypatch.setattr(geoparquet, "ROWS", 200)
    place = Place(tmp_path)
    made = cut(place, np.random.default_rng(4).random((8 * SIDE, 8 * SIDE)) < 0.2, 10.0)

    file = pq.ParquetFile(io.BytesIO(whole_layer(place, made)))

    groups = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    assert len(groups) > 2
    assert set(groups[:-1]) == {200}
    told = json.loads(file.schema_arrow.metadata[b"geo"])["columns"]["geometry"]
    assert told["geometry_types"] == ["Polygon"]
    shapes = shapely.from_wkb(file.read()["geometry"].to_pylist())
    assert told["bbox"] == shapely.total_bounds(shapes).tolist()


def test_a_layer_without_a_shape_has_its_columns(tmp_path: Path) -> None:
    place = Place(tmp_path)

    data = whole_layer(place, cut(place, np.zeros((SIDE, SIDE), bool), 10.0))

    assert pq.read_table(io.BytesIO(data)).column_names == ["geometry", "zone", "cell", "area_m2", "bbox"]
