"""What a map function over objects receives: a handle on one object, or on one chunk of it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, BinaryIO, cast

from core.data.encoded import LONGEST_MARK, check_cut, check_returns, check_width, encoding_of, is_wide, unpacked
from core.data.ranges import BLOCK, PROBE, LineSearch, RangeStream, Source, line_start
from core.data.records import Records, guard_of
from core.errors import InputError
from core.storage.address import bucket_of, join_address
from core.storage.base import Storage
from core.storage.clients import process_storage
from core.types import MiB, Partition

LONGEST_HEADER = 8 * MiB
"""Bytes that are repeated with each chunk at most; no table's header is as long, but a file without newlines is."""


class ObjectHandle:
    r"""One chunk of an object, read from its storage on demand.

    A chunk of lines holds the lines that start in ``[start, end)``, each with its newline; its last line may end
    after `end`. Every chunk begins with the object's header lines, if the job asked for them.

    Parameters
    ----------
    partition : Partition
        Which object and bytes.
    storage : Storage, optional
        Where they are; by default this process's own client for ``partition.address``.

    Attributes
    ----------
    bucket : str
        Bucket or storage name; for local files, the folder.
    key : str
        Name of the object in it.
    size : int
        Bytes of the whole object.
    etag : str
        Tag of the content the job was planned on.
    start, end : int
        The chunk's byte range; `data_byte_range` is both, None for a whole object.
    url : str
        Address of the object.
    part, parts : int
        Number of the chunk within its object, from 0, and how many there are.
    partition : Partition
        What the handle was made from.

    Notes
    -----
    Reading raises ``ObjectChanged`` if the object is not what it was when the job was planned, and ``NotFound`` if
    it is gone.
    """

    def __init__(self, partition: Partition, storage: Storage | None = None) -> None:
        self.partition = partition
        self.bucket = bucket_of(partition.address)
        self.key = partition.key
        self.size = partition.size
        self.etag = partition.etag
        self.start = partition.start
        self.end = partition.end
        self.part = partition.part
        self.parts = partition.parts
        self._storage = storage

    @property
    def url(self) -> str:
        """Address of the object."""
        return join_address(self.partition.address, self.key)

    @property
    def data_byte_range(self) -> tuple[int, int] | None:
        """The chunk's byte range, its end not included; None for a whole object."""
        return (self.start, self.end) if self.parts > 1 else None

    @cached_property
    def data_stream(self) -> BinaryIO:
        """The chunk as one seekable binary stream, read ahead by at most 8 MiB; the same at every access."""
        return self._new_stream()

    def read(self) -> bytes:
        """Return the whole chunk, wherever `data_stream` stands."""
        return self._new_stream().read()

    def lines(self) -> Iterator[bytes]:
        r"""Yield the chunk's lines from its first, each with its newline; of raw chunks, what lies between ``\n``.

        An object that is compressed (gzip, bzip2, xz, zstd) is unpacked on the way.
        """
        newline = self.partition.newline or b"\n"
        stream = self._unpacked()
        if is_wide(encoding_of(stream.peek(LONGEST_MARK))) and self.start == 0:
            raise InputError(f"{self.key!r} is text of wide characters, which lines() would cut; iterate over text()")
        return self._lines(stream) if newline == b"\n" else _split(stream, newline)

    def text(self, encoding: str | None = None) -> io.TextIOWrapper:
        """Return the chunk as a text stream that keeps line ends as they are, as the csv module wants it.

        An object that is compressed (gzip, bzip2, xz, zstd) is unpacked on the way.

        Parameters
        ----------
        encoding : str, optional
            By default what the mark at the object's beginning tells, which is left out, or else UTF-8.
        """
        stream = self._unpacked()
        if encoding is None:
            begins = self.start == 0 or self.partition.header_lines > 0
            encoding = (encoding_of(stream.peek(LONGEST_MARK)) if begins else "") or "utf-8"
        if self.partition.is_cut and len(self.partition.newline or b"") == 1:
            check_width(self.key, encoding)
        return io.TextIOWrapper(stream, encoding=encoding, newline="")

    def __repr__(self) -> str:
        chunk = f", part {self.part} of {self.parts}" if self.parts > 1 else ""
        return f"<ObjectHandle {self.key!r} in {self.partition.address}, {self.size} bytes{chunk}>"

    def __reduce__(self) -> tuple[object, ...]:
        return open_handle, (self.partition,)

    def _lines(self, stream: io.BufferedReader) -> Iterator[bytes]:
        first = stream.readline()
        if self.start == 0:
            check_returns(self.key, first)
        return itertools.chain((first,), stream) if first else iter(())

    def _unpacked(self) -> io.BufferedReader:
        if self.partition.is_cut:
            check_cut(self.key)
        stream = self._new_stream()
        stream.peek(1)  # with the first bytes come the headers
        if self.partition.data is None and (coding := self._source_storage.codings.get(self.key)):
            raise InputError(
                f"{self.key!r} is stored with the Content-Encoding {ascii(coding[:40])}, which lines() and text() do "
                "not unpack; use read() or data_stream, or store it as it is"
            )
        return stream if self.partition.is_cut else unpacked(self.key, stream)

    @property
    def _source_storage(self) -> Storage:
        return self._storage or process_storage(self.partition.address)

    def _new_stream(self) -> io.BufferedReader:
        partition = self.partition
        if partition.data is not None:
            return io.BufferedReader(cast(Any, io.BytesIO(partition.data)))
        source = Source(self._source_storage, partition.key, partition.size, partition.etag)
        return io.BufferedReader(_stream(source, partition))


def open_handle(partition: Partition, storage: Storage | None = None) -> ObjectHandle:
    """Return the handle on a partition, as given to map functions; nothing is read yet."""
    return ObjectHandle(partition, storage)


def _stream(source: Source, partition: Partition) -> RangeStream:
    """Return what a chunk holds: the object's header if asked for, then the lines or records that are its own."""
    start, end, newline = partition.start, min(partition.end, partition.size), partition.newline
    if source.size == 0:
        source.check_empty()
    if newline is None or not partition.is_cut:
        return RangeStream(source, b"", start, LineSearch(source, max(start, end), None))
    if partition.records == "csv":  # the driver has cut between records
        header = _header(source, partition, Records(source, partition.delimiter).start)
        start = max(start, len(header))
        return RangeStream(source, header, start, LineSearch(source, max(start, end), None))
    header = b""
    if partition.header_lines:
        check_cut(partition.key, bytes(source.view(0, PROBE, LONGEST_MARK)[:LONGEST_MARK]))
        header = _header(source, partition, partial(line_start, source, newline=newline))
    if end - start <= BLOCK and not source.is_near:
        source.prefetch(max(0, start - len(newline)), end + PROBE)
    if start == 0:
        check_cut(partition.key, bytes(source.view(0, PROBE, LONGEST_MARK)[:LONGEST_MARK]))
    start = line_start(source, max(start, len(header)), newline, end)
    stop = LineSearch(source, max(start, end), newline if start < end else None)
    return RangeStream(source, header, start, stop, guard_of(partition))


def _header(source: Source, partition: Partition, start_from: Callable[..., int]) -> bytes:
    end = 0
    for _ in range(partition.header_lines):
        end = start_from(end + 1, limit=LONGEST_HEADER + 1)
    if end > LONGEST_HEADER:
        raise InputError(
            f"the first {partition.header_lines} lines of {partition.key!r}, with which each chunk begins, have more "
            f"than {LONGEST_HEADER} bytes; check newline= and header_lines= of Chunks"
        )
    header = source.read(0, end) if end else b""
    if end == source.size and partition.newline == b"\n" and partition.records != "csv":
        check_returns(partition.key, header)
    return header


def _split(stream: BinaryIO, newline: bytes) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(BLOCK):
        offset, search = 0, max(0, len(rest) - len(newline) + 1)
        rest += block
        while (found := rest.find(newline, search)) >= 0:
            search = found + len(newline)
            yield rest[offset:search]
            offset = search
        rest = rest[offset:]
    if rest:
        yield rest
