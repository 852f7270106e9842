"""Segments: Parquet objects in the order of m/z, of which only the slices are read that are asked for."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apps._frame.stored import Stored, sha256
from apps.metabolomics.cache import damaged
from apps.metabolomics.parts import stored
from core.storage import NotFound, StorageError, process_storage

SLICE = 65_536
"""Rows of a slice, a row group: what is read at once, about 600 kB of peaks."""
FOOTER = 64 << 10
"""Bytes at the end of a segment that are read first, since pyarrow asks for as many: the footer of 100 slices."""
GAP = 256 << 10
"""Bytes between two slices that are rather read than asked for twice."""
READERS = 8
"""Ranges that are asked for at a time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment and the m/z in it.

    Attributes
    ----------
    object : Stored
    rows : int
    lowest, highest : float
        m/z of its first and last row.
    footer : int
        CRC-32 of what says where the slices are.
    """

    object: Stored
    rows: int
    lowest: float
    highest: float
    footer: int


def encode(table: pa.Table, slice_rows: int = SLICE) -> bytes:
    """Write a table, in the order of its m/z, as a segment.

    Numbers are split into their bytes before they are compressed, which is what packs m/z best (9.6 bytes a peak, 12.6
    by Parquet's defaults), and pages carry checksums.
    """
    split = {
        field.name: "BYTE_STREAM_SPLIT"
        for field in table.schema
        if pa.types.is_floating(field.type) or (pa.types.is_integer(field.type) and field.type.bit_width > 16)
    }
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    sink = io.BytesIO()
    pq.write_table(
        table, sink, row_group_size=slice_rows, compression="zstd", use_dictionary=texts, column_encoding=split,
        write_page_checksum=True, store_schema=False,
    )  # fmt: skip
    return sink.getvalue()


def put_segment(address: str, prefix: str, table: pa.Table, mz: str, slice_rows: int = SLICE) -> dict[str, Any]:
    """Write a table to a storage under a name made of its content; returns what `segment` makes a `Segment` of."""
    data = encode(table, slice_rows)
    tag = sha256(data)
    key = f"{prefix}{tag[7:39]}.parquet"
    process_storage(address).put(key, data)
    column = table.column(mz)
    ends = {"lowest": column[0].as_py(), "highest": column[-1].as_py()}
    footer = zlib.crc32(data[-_footer_size(data) :])
    return {"key": key, "size": len(data), "tag": tag, "rows": table.num_rows, **ends, "footer": footer}


def segment(address: str, found: Mapping[str, Any]) -> Segment:
    """Return what ``put_segment`` has written to a storage."""
    return Segment(stored(address, found), found["rows"], found["lowest"], found["highest"], found["footer"])


class _Fetched(io.RawIOBase):
    """The parts of an object that have been fetched, as a file for those who read nothing else of it."""

    def __init__(self, size: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        self._size, self._pieces, self._place = size, pieces, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + {0: 0, 1: self._place, 2: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._place)
        for start, data in self._pieces:
            if start <= self._place and self._place + count <= start + len(data):
                begin = self._place - start
                buffer[:count] = data[begin : begin + count]
                self._place += count
                return count
        raise OSError(f"bytes from {self._place} on were not fetched")


def _footer_size(end: bytes) -> int:
    return int.from_bytes(end[-8:-4], "little") + 8


@lru_cache(maxsize=256)
def _footer(address: str, key: str, size: int, checksum: int) -> pq.FileMetaData:
    storage = process_storage(address)
    wanted = min(size, FOOTER)
    end = storage.get(key, size - wanted, size)
    length = _footer_size(end)
    if wanted < length <= size:
        end = storage.get(key, size - length, size)
    # Pages carry checksums and footers none: of a damaged one pyarrow makes other slices, or ends the process.
    if zlib.crc32(end[-length:]) != checksum:
        raise damaged(address, key)
    return pq.read_metadata(_Fetched(size, [(size - len(end), end)]))


def read_windows(
    segments: Sequence[Segment], lows: NDArray[np.float64], highs: NDArray[np.float64], columns: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return the rows of segments that lie in some windows, in the order of m/z.

    Parameters
    ----------
    segments : sequence of Segment
        Those of a dataset in the order of m/z, all or some of them.
    lows, highs : float64[n]
        Windows, both ends inclusive, in any order; they may overlap.
    columns : sequence of str
        What is wanted of each row; the first one is what the rows are sorted by.

    Returns
    -------
    dict of arrays

    Raises
    ------
    InputError
        A segment is damaged.
    """
    starts, stops = merge_windows(lows, highs)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in columns}
    for each in segments:
        first = np.searchsorted(stops, each.lowest, side="left")
        last = np.searchsorted(starts, each.highest, side="right")
        if first >= last:
            continue
        for table in _slices(each, starts[first:last], stops[first:last], columns):
            _take(table, starts[first:last], stops[first:last], columns, found)
    return {name: _joined(arrays) for name, arrays in found.items()}


def merge_windows(
    lows: NDArray[np.float64], highs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ascending windows without overlap that cover the same m/z."""
    order = np.argsort(lows, kind="stable")
    lows, reach = lows[order], np.maximum.accumulate(highs[order])
    begins = np.ones(len(lows), bool)
    begins[1:] = lows[1:] > reach[:-1]
    ends = np.append(np.flatnonzero(begins)[1:] - 1, len(lows) - 1) if len(lows) else np.zeros(0, int)
    return lows[begins], reach[ends]


def _slices(
    one: Segment, starts: NDArray[np.float64], stops: NDArray[np.float64], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield the slices of a segment that some windows meet."""
    kept = one.object
    try:
        footer = _footer(kept.address, kept.key, kept.size, one.footer)
        names = footer.schema.names
        wanted, spans = [], []
        for group in range(footer.num_row_groups):
            row_group = footer.row_group(group)
            seen = row_group.column(names.index(columns[0])).statistics
            first = np.searchsorted(stops, seen.min, side="left")
            if first < len(starts) and starts[first] <= seen.max:
                wanted.append(group)
                chunks = [row_group.column(names.index(name)) for name in columns]
                spans.append(_span(chunks))
        if not wanted:
            return
        file = pq.ParquetFile(
            _Fetched(kept.size, _fetch(kept, spans)), metadata=footer, page_checksum_verification=True
        )
        for group in wanted:
            yield file.read_row_group(group, columns=list(columns))
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, StorageError) and not isinstance(error, NotFound):
            raise  # the storage does not answer, which says nothing of the segment
        raise damaged(kept.address, kept.key) from error


def _span(chunks: Sequence[Any]) -> tuple[int, int]:
    starts = [
        chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
        for chunk in chunks
    ]
    return min(starts), max(at + chunk.total_compressed_size for at, chunk in zip(starts, chunks, strict=True))


def _fetch(stored: Stored, spans: Sequence[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """Read spans of an object, those that nearly touch by one request."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and start - joined[-1][1] <= GAP:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    storage = process_storage(stored.address)

    def read(span: tuple[int, int]) -> tuple[int, bytes]:
        return span[0], storage.get(stored.key, *span)

    if len(joined) == 1:
        return [read(joined[0])]
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, joined))


def _take(
    table: pa.Table,
    starts: NDArray[np.float64],
    stops: NDArray[np.float64],
    columns: Sequence[str],
    found: dict[str, list[NDArray[Any]]],
) -> None:
    """Add the rows of a slice that lie in the windows."""
    arrays = [table.column(name).to_numpy() for name in columns]
    mz = arrays[0].astype(np.float64, copy=False)
    begins, ends = np.searchsorted(mz, starts, side="left"), np.searchsorted(mz, stops, side="right")
    inside = np.flatnonzero(ends > begins)
    if not len(inside):
        return
    lengths = ends[inside] - begins[inside]
    first = np.cumsum(lengths) - lengths
    rows = np.arange(int(lengths.sum())) + np.repeat(begins[inside] - first, lengths)
    for name, array in zip(columns, arrays, strict=True):
        found[name].append(array[rows])


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0)
