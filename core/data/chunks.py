"""How a user wants objects cut."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConfigError, InputError
from core.types import Partition

_Bytes = bytes


@dataclass(frozen=True, slots=True)
class Chunks:
    r"""How objects are cut into partitions, each the input of one task; by default each object is one.

    Parameters
    ----------
    bytes : int, optional
        Bytes of a chunk's range. A chunk has the lines, or records, that start in its range, and all of the last.
    count : int, optional
        Number of chunks of each object of at least so many bytes; smaller objects have one chunk a byte.
    newline : bytes or None
        What ends a line, such as ``b"\n"`` or ``b"\r\n"``; None cuts at the exact byte.
    header_lines : int
        Lines, or records, at an object's start that each of its chunks begins with.
    partitioner : callable, optional
        Makes the ranges instead: takes an iterator of handles on whole objects, returns partitions such as
        ``replace(handle.partition, start=..., end=...)``.
    records : "csv" or "lines", optional
        With "csv", chunks hold whole records as the ``csv`` module reads them, newlines between quotes included. Where
        a record begins cannot be told from the middle, so the driver reads each object that is cut once, front to
        back, ahead of the workers; objects of one chunk it does not read. By default chunks hold lines, and a chunk
        of a ``.csv`` or ``.tsv`` object that cuts a quoted field is an error; "lines" says that quotes mean nothing.
    delimiter : str, optional
        What separates the fields of CSV; by default a tab in ``.tsv`` objects, elsewhere a comma.

    Raises
    ------
    ConfigError
        Parameters exclude each other.
    InputError
        The value of one cannot be used.
    """

    bytes: int | None = None
    count: int | None = None
    newline: _Bytes | None = b"\n"
    header_lines: int = 0
    partitioner: Callable[..., Iterable[Partition]] | None = None
    records: Literal["csv", "lines"] | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        if sum(option is not None for option in (self.bytes, self.count, self.partitioner)) > 1:
            raise ConfigError("bytes, count and partitioner of Chunks exclude each other; give one of them")
        for name, least in (("bytes", 1), ("count", 1), ("header_lines", 0)):
            value = getattr(self, name)
            if not _is_whole(value, least) and (value is not None or name == "header_lines"):
                raise InputError(f"{name} of Chunks must be a whole number of at least {least}, not {value!r}")
        self._check_lines()

    @property
    def asked(self) -> bool:
        """Whether objects may be cut."""
        return not (self.bytes is None and self.count is None and self.partitioner is None)

    def _check_lines(self) -> None:
        newline: Any = self.newline
        delimiter: Any = self.delimiter
        if newline is not None and not (isinstance(newline, _Bytes) and newline):
            raise InputError(f"newline of Chunks must be bytes such as b'\\n', or None for raw bytes, not {newline!r}")
        if self.records not in (None, "csv", "lines"):
            raise InputError(f"records of Chunks must be 'csv', 'lines' or None, not {self.records!r}")
        if newline is None and (self.header_lines or self.records):
            raise ConfigError(
                "header_lines and records need lines, but newline=None cuts at bytes; give newline=b'\\n' or the like"
            )
        if self.records == "csv" and newline not in (b"\n", b"\r\n", b"\r"):
            raise ConfigError(r"records='csv' knows the newlines \n, \r\n and \r, all at once; leave newline out")
        if delimiter is not None and not (
            isinstance(delimiter, str) and re.fullmatch(r'[^"\r\n\x80-\U0010ffff]', delimiter)
        ):
            raise InputError(f"delimiter of Chunks must be one ASCII character other than a quote, not {delimiter!r}")


def chunks_of(chunks: Chunks | None, chunk_bytes: int | None) -> Chunks:
    """Return what a call's arguments `chunks` and `chunk_bytes`, the short form of ``Chunks(bytes=...)``, mean."""
    if chunks is None:
        return Chunks(bytes=chunk_bytes)
    if chunk_bytes is not None:
        raise ConfigError("chunk_bytes is the short form of chunks=Chunks(bytes=...); give one of them")
    if not isinstance(chunks, Chunks):
        raise ConfigError(f"chunks must be Chunks(bytes=...) or the like, not {type(chunks).__name__}")
    return chunks


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
