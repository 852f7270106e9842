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
DECODE_ERROR, TOO_LARGE, UNSUPPORTED = "decode_error", "too_large", "unsupported"
READ_ERROR, WRITE_ERROR = "read_error", "write_error"
STATUSES = (OK, NO_FACE, MULTIPLE, DECODE_ERROR, TOO_LARGE, UNSUPPORTED, READ_ERROR, WRITE_ERROR)
PASSING = (UNSUPPORTED, READ_ERROR, WRITE_ERROR)
"""What the next run tries again: it depends on the storage, or on what is installed."""


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
    width, height, turn : int
        Pixels of the image in which box and points are: upright, reduced by --max-side, and turned by so many degrees
        clockwise; 0 if it was not decoded.
    left, top, right, bottom : int or None
        Box of the face in pixels, inclusive.
    cut : bool
        Whether the face is cut by the border of the image: its box or a landmark lies beyond it.
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
    width: int = 0
    height: int = 0
    turn: int = 0
    left: int | None = None
    top: int | None = None
    right: int | None = None
    bottom: int | None = None
    cut: bool = False
    points: tuple[int, ...] = ()
    matrix: tuple[float, ...] = ()
    ms: float = 0.0
    output: str = ""
    reason: str = ""
    parameters: str = ""


_NAMES = [row.name for row in fields(Row)]
_INTEGERS = ("faces", "face", "width", "height", "turn", "left", "top", "right", "bottom")


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
        values["cut"] = line["cut"] == "True"
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


def visible(text: str) -> str:
    r"""Return text with what was no UTF-8 in a name shown as bytes, ``\xe9``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def to_parquet(rows: Sequence[Row]) -> bytes | None:
    """Return the manifest as Parquet, or None without pyarrow."""
    if find_spec("pyarrow") is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, Any] = {name: pa.int32() for name in _INTEGERS}
    kinds |= {"points": pa.list_(pa.int32()), "matrix": pa.list_(pa.float64()), "ms": pa.float64(), "cut": pa.bool_()}
    columns = {}
    for name in _NAMES:
        values = [getattr(row, name) for row in rows]
        if name not in kinds:
            values = [visible(value) for value in values]
        columns[name] = pa.array(values, kinds.get(name, pa.string()), from_pandas=False)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()
