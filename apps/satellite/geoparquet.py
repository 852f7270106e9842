"""Layers of shapes as GeoParquet 1.1, with a box beside each shape so that readers skip what is elsewhere."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from apps._frame.stored import Stored
from apps.satellite.science.geodesy import hilbert_order

ROWS = 5000
"""Of a row group: as small a file as with 20,000, and half the time of a query by area."""
SIDES = ("xmin", "ymin", "xmax", "ymax")


def layer_table(shapes: NDArray[np.object_], columns: Mapping[str, Any]) -> Any:
    """Return shapes, what is beside them and their boxes as a table, in the order given."""
    boxes = shapely.bounds(shapes).reshape(-1, 4) if len(shapes) else np.empty((0, 4))
    box = pa.StructArray.from_arrays([pa.array(side) for side in boxes.T], names=list(SIDES))
    geometry = pa.array([shapely.to_wkb(each) for each in shapes], pa.binary())
    return pa.table({"geometry": geometry, **{name: _array(each) for name, each in columns.items()}, "bbox": box})


def layer_bytes(shapes: NDArray[np.object_], columns: Mapping[str, Any], epsg: int | None = None) -> bytes:
    """Return a layer as a file.

    Parameters
    ----------
    shapes : ndarray of shapely geometry
    columns : mapping
        Values beside them, by name.
    epsg : int, optional
        Of their coordinates; longitude and latitude (OGC:CRS84) without, and then sorted along a Hilbert curve.
    """
    table = layer_table(shapes, columns)
    if epsg is None and len(shapes):
        table = table.take(pa.array(hilbert_order(shapes)))
    types = sorted({each.geom_type for each in shapes})
    return b"".join(layer_stream([table], types, shapely.total_bounds(shapes).tolist() if len(shapes) else None, epsg))


def layer_stream(
    tables: Iterable[Any], types: Sequence[str], box: Sequence[float] | None, epsg: int | None = None
) -> Iterator[bytes]:
    """Yield a layer as a file, of which a few row groups are in memory at a time.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        Its rows, at least one table of them, as `layer_table` gives them.
    types : sequence of str
        Of the geometry, sorted.
    box : sequence of float, optional
        Around all shapes; none of a layer without any.
    """
    about: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": list(types),
        "covering": {"bbox": {side: ["bbox", side] for side in SIDES}},
    }
    if box is not None:
        about["bbox"] = list(box)
    if epsg is not None:
        from pyproj import CRS

        about["crs"] = CRS.from_epsg(epsg).to_json_dict()
    told = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": about}}
    remaining = iter(tables)
    waiting = next(remaining)
    schema = waiting.schema.with_metadata({"geo": json.dumps(told)})
    out = _Written()
    with pq.ParquetWriter(out, schema, compression="zstd", write_page_index=True) as writer:
        for table in remaining:
            whole = len(waiting) // ROWS * ROWS
            if whole:
                writer.write_table(waiting.slice(0, whole), ROWS)
            waiting = pa.concat_tables([waiting.slice(whole), table]).combine_chunks()
            yield out.taken()
        writer.write_table(waiting, ROWS)
    yield out.taken()


class _Written(io.RawIOBase):
    """A file that gives away what has been written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return how much has been written, of what was given away too."""
        return self._length

    def write(self, data: Any) -> int:
        """Take in bytes."""
        self._parts.append(bytes(data))
        self._length += len(self._parts[-1])
        return len(self._parts[-1])

    def taken(self) -> bytes:
        """Return what has been written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _array(values: Any) -> Any:
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pa.array(values)
    values = list(values)
    return pa.array(values, None if values else pa.string())


def layer_batches(source: Stored) -> Iterator[tuple[NDArray[np.object_], dict[str, list[Any]]]]:
    """Yield the shapes of a layer and what is beside them, a row group at a time."""
    file = pq.ParquetFile(pa.BufferReader(source.read()))
    for at in range(file.num_row_groups):
        yield _split(file.read_row_group(at))


def read_layer(data: Any) -> tuple[NDArray[np.object_], dict[str, list[Any]]]:
    """Return the shapes of a file and what is beside them, without their boxes."""
    return _split(pq.read_table(pa.BufferReader(data) if isinstance(data, bytes) else data))


def _split(table: Any) -> tuple[NDArray[np.object_], dict[str, list[Any]]]:
    shapes = np.array(shapely.from_wkb(table["geometry"].to_pylist()), object)
    names = [name for name in table.column_names if name not in ("geometry", "bbox")]
    return shapes, {name: table[name].to_pylist() for name in names}


def within(
    file: Any, boxes: Sequence[Sequence[float]], area: Any
) -> tuple[NDArray[np.object_], dict[str, list[Any]], int]:
    """Return the shapes of a layer that have a point in common with an area, what is beside them, and rows read.

    Row groups that lie elsewhere by their boxes' statistics are not read.

    Parameters
    ----------
    file : file
        Seekable.
    boxes : sequence of (west, south, east, north)
        That the area lies in.
    area : shapely geometry
    """
    found = pq.ParquetFile(file)
    groups = [
        at for at in range(found.num_row_groups) if any(_may_have(found.metadata.row_group(at), box) for box in boxes)
    ]
    table = found.read_row_groups(groups) if groups else found.schema_arrow.empty_table()
    rows = table.num_rows
    if rows:
        box = table["bbox"].combine_chunks()
        near = pa.array(np.zeros(rows, bool))
        for west, south, east, north in boxes:
            beside = [
                pc.less_equal(box.field("xmin"), east), pc.greater_equal(box.field("xmax"), west),
                pc.less_equal(box.field("ymin"), north), pc.greater_equal(box.field("ymax"), south),
            ]  # fmt: skip
            here = beside[0]
            for each in beside[1:]:
                here = pc.and_(here, each)
            near = pc.or_(near, here)
        table = table.filter(near)
    shapes, columns = _split(table)
    inside = np.flatnonzero(shapely.intersects(shapes, area)) if len(shapes) else np.empty(0, int)
    return shapes[inside], {name: [each[at] for at in inside] for name, each in columns.items()}, rows


def _may_have(group: Any, box: Sequence[float]) -> bool:
    """Whether a row group may have a shape in a box, by the least and greatest sides of its shapes' boxes."""
    sides = {}
    for at in range(group.num_columns):
        column = group.column(at)
        name = column.path_in_schema
        if name.startswith("bbox.") and column.statistics is not None and column.statistics.has_min_max:
            sides[name.removeprefix("bbox.")] = column.statistics
    if len(sides) < len(SIDES):
        return True
    west, south, east, north = box
    return bool(
        sides["xmin"].min <= east
        and sides["xmax"].max >= west
        and sides["ymin"].min <= north
        and sides["ymax"].max >= south
    )
