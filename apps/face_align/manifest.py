"""The manifest: one row a face, or one an image that gave none; as CSV, Parquet, and in the commits of batches."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any

OK, NO_FACE, MULTIPLE = "ok", "no_face", "multiple"
DECODE_ERROR, TOO_LARGE, READ_ERROR, WRITE_ERROR = "decode_error", "too_large", "read_error", "write_error"
STATUSES = (OK, NO_FACE, MULTIPLE, DECODE_ERROR, TOO_LARGE, READ_ERROR, WRITE_ERROR)
PASSING = (READ_ERROR, WRITE_ERROR)
"""Failures of the storage, which the next run tries again."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of an image, or of one face of it.

    Attributes
    ----------
    key, etag : str
        The image below the source, and its tag.
    status : str
        One of ``STATUSES``; `reason` explains it.
    faces, face : int
        Faces found in the image, and which this is, from 1; 0 without a crop.
    left, top, right, bottom : int or None
        Box of the face in pixels, inclusive.
    points : tuple of int
        x and y of each landmark in turn, in pixels.
    matrix : tuple of float
        Affine map from image to crop, (2, 3) row by row.
    ms : float
        Milliseconds from decoding to encoding.
    output : str
        Key of the crop below the destination.
    parameters : str
        Hash of what determines the crop.
    """

    key: str
    etag: str
    status: str
    faces: int = 0
    face: int = 0
    left: int | None = None
    top: int | None = None
    right: int | None = None
    bottom: int | None = None
    points: tuple[int, ...] = ()
    matrix: tuple[float, ...] = ()
    ms: float = 0.0
    output: str = ""
    reason: str = ""
    parameters: str = ""


_NAMES = [row.name for row in fields(Row)]
_INTEGERS = ("faces", "face", "left", "top", "right", "bottom")


def to_csv(rows: Iterable[Row]) -> bytes:
    """Return the manifest as CSV; points and matrix are numbers separated by spaces."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_NAMES)
    for row in rows:
        values = {name: getattr(row, name) for name in _NAMES}
        values |= {name: " ".join(map(repr, values[name])) for name in ("points", "matrix")}
        writer.writerow(values.values())
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def from_csv(content: bytes) -> list[Row]:
    """Read what ``to_csv`` wrote; a file that is no manifest has no rows."""
    reader = csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    if reader.fieldnames != _NAMES:
        return []
    rows = []
    for line in reader:
        values: dict[str, Any] = dict(line)
        values |= {name: int(line[name]) if line[name] else None for name in _INTEGERS}
        values["points"] = tuple(map(int, line["points"].split()))
        values["matrix"] = tuple(map(float, line["matrix"].split()))
        rows.append(Row(**values | {"ms": float(line["ms"])}))
    return rows


def to_json(rows: Sequence[Row]) -> bytes:
    """Return rows as a batch's commit."""
    return json.dumps([[getattr(row, name) for name in _NAMES] for row in rows]).encode()


def from_json(content: bytes) -> list[Row]:
    """Read what ``to_json`` wrote; anything else, such as an image that lies where commits are, has no rows."""
    try:
        rows = [Row(*values) for values in json.loads(content)]
        return [replace(row, points=tuple(row.points), matrix=tuple(row.matrix)) for row in rows]  # JSON has no tuples
    except (ValueError, TypeError, RecursionError):
        return []


def to_parquet(rows: Sequence[Row]) -> bytes | None:
    """Return the manifest as Parquet, or None without pyarrow."""
    if find_spec("pyarrow") is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = {name: pa.int32() for name in _INTEGERS}
    kinds |= {"points": pa.list_(pa.int32()), "matrix": pa.list_(pa.float64()), "ms": pa.float64()}
    columns = {
        name: pa.array([getattr(row, name) for row in rows], kinds.get(name, pa.string()), from_pandas=False)
        for name in _NAMES
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()
