"""What becomes of images: one row a face, or one an image that gave none; in the manifest and in commits of batches."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any

from apps._frame.tables import csv_bytes, visible
from apps.face_align.dataset import natural
from apps.face_align.params import Params

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
        Hash of what determines the crop; of what was too large, the bytes of the worker too.
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


@dataclass(frozen=True, slots=True)
class Done:
    """What a batch returns: its rows, and CPU seconds by stage (``storage`` holds what is left)."""

    rows: tuple[Row, ...]
    seconds: dict[str, float]


def to_json(done: Done) -> bytes:
    """Return a batch's rows as they are committed: names as they are, numbers to the bit."""
    rows = [[getattr(row, name) for name in _NAMES] for row in done.rows]
    return json.dumps({"rows": rows, "seconds": done.seconds}).encode()


def from_json(content: bytes) -> Done:
    """Read what ``to_json`` wrote; anything else has no rows."""
    try:
        found = json.loads(content)
        rows = [Row(*values) for values in found["rows"]]
        # JSON has no tuples.
        plain = [replace(row, points=tuple(row.points), matrix=tuple(row.matrix)) for row in rows]
        return Done(tuple(plain), {str(name): float(each) for name, each in found["seconds"].items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Done((), {})


def to_csv(rows: Iterable[Row]) -> bytes:
    """Return the manifest as CSV; points and matrix are numbers separated by spaces."""
    return csv_bytes(_NAMES, ([_cell(getattr(row, name)) for name in _NAMES] for row in rows))


def _cell(value: Any) -> Any:
    return " ".join(map(repr, value)) if isinstance(value, tuple) else value


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


@dataclass(frozen=True, slots=True)
class Result:
    """A finished alignment: all rows in the natural order of their keys, and what it took.

    Attributes
    ----------
    batches : tuple of int
        Images of each batch that there was left to do; `pending` are all of them.
    kept : int
        Images that an earlier run had aligned.
    left_out : mapping
        What of the source is no image, and how much.
    seconds : dict
        CPU seconds by stage.
    """

    params: Params
    destination: str
    model: str
    rows: tuple[Row, ...]
    batches: tuple[int, ...]
    kept: int
    left_out: Mapping[str, int]
    seconds: dict[str, float]
    wall_seconds: float
    workers: int

    @property
    def pending(self) -> int:
        """Images that no earlier run had aligned."""
        return sum(self.batches)

    @property
    def counts(self) -> dict[str, int]:
        """Images by status; one with several crops counts once, and as unwritten if one of them is."""
        unwritten_last = sorted(reversed(self.rows), key=lambda row: row.status == WRITE_ERROR)
        status = {(row.key, row.etag): row.status for row in unwritten_last}
        counted = Counter(status.values())
        return {name: counted[name] for name in STATUSES}


def order(rows: Iterable[Row]) -> list[Row]:
    """Return rows as people sort them: by the name of the image, then by face."""
    return sorted(rows, key=lambda row: (natural(row.key), row.face))
