"""Parquet, in memory, and handed on while it is written, so that a large table is never in memory whole."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class _Pieces(io.RawIOBase):
    """A file of which what was written can be taken away."""

    def __init__(self) -> None:
        self._written, self._waiting = 0, list[bytes]()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        self._waiting.append(bytes(data))
        self._written += len(self._waiting[-1])
        return len(self._waiting[-1])

    def take(self) -> bytes:
        taken, self._waiting = b"".join(self._waiting), []
        return taken


def encode_table(table: pa.Table) -> bytes:
    """Return a small table as Parquet."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a table, or some of its columns; ``pyarrow.parquet.read_table`` loads pyarrow.dataset in every process."""
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    return file.read(columns if columns is None else list(columns))


def parquet_pieces(tables: Iterable[pa.Table], schema: pa.Schema, group_rows: int, **encoding: Any) -> Iterator[bytes]:
    """Yield tables, one after the other, as one Parquet file.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        Taken as the file is written.
    schema : pyarrow.Schema
        Of them all.
    group_rows : int
        Tables are gathered into row groups of at least so many rows.
    **encoding
        What `pyarrow.parquet.ParquetWriter` is told of columns.
    """
    sink, waiting, rows = _Pieces(), list[pa.Table](), 0
    with pq.ParquetWriter(sink, schema, compression="zstd", **encoding) as writer:
        for table in tables:
            waiting.append(table)
            rows += table.num_rows
            if rows >= group_rows:
                writer.write_table(pa.concat_tables(waiting))
                waiting, rows = [], 0
                yield sink.take()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    yield sink.take()
