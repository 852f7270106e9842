"""Reading an object by byte ranges, and finding where its lines begin without reading what comes before."""

from __future__ import annotations

import io
from dataclasses import dataclass

from core.storage.base import Storage, object_changed
from core.types import MiB

BLOCK = 8 * MiB
"""Most bytes read ahead; one request each."""

PROBE = MiB // 16
"""Bytes first read past the end of a range to find the newline there; doubled up to `BLOCK` until it is found."""


@dataclass(slots=True)
class Source:
    """One object of known size and tag, read through a single remembered block.

    Raises ``ObjectChanged`` on any read of an object that no longer has the tag or is shorter than the size.
    """

    storage: Storage
    key: str
    size: int
    etag: str
    _at: int = 0
    _block: bytes = b""

    def fetch(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, which must lie within the object, without remembering them."""
        data = self.storage.get(self.key, start, end, etag=self.etag)
        if len(data) != end - start:
            raise object_changed(self.storage.address, self.key)
        return data

    def prefetch(self, start: int, end: int) -> None:
        """Remember bytes ``[start, end)``, cut at the object's end."""
        end = min(end, self.size)
        if not self._at <= start <= end <= self._at + len(self._block):
            self._at, self._block = start, self.fetch(start, end)

    def view(self, start: int, length: int, least: int = 1) -> memoryview:
        """Return up to `length` bytes from `start`, and no fewer than `least` unless the object ends first."""
        end = min(start + length, self.size)
        if not self._at <= start < min(start + least, end) <= self._at + len(self._block):
            self.prefetch(start, end)
        return memoryview(self._block)[start - self._at : end - self._at]

    def read(self, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``, by at most one request."""
        held = min(end, self._at + len(self._block))
        if not self._at <= start < held:
            return self.fetch(start, end)
        front = memoryview(self._block)[start - self._at : held - self._at]
        return b"".join((front, self.fetch(held, end))) if held < end else bytes(front)

    def check_empty(self) -> None:
        """Raise ``ObjectChanged`` if an object planned as empty has content by now."""
        if self.storage.get(self.key, 0, 1, etag=self.etag):
            raise object_changed(self.storage.address, self.key)


def line_start(source: Source, position: int, newline: bytes) -> int:
    """Return where the first line begins that begins at `position` or later; the object's size if none does.

    Newlines are matched from the left without overlap, as ``bytes.split`` does, whatever `position` is asked for.
    """
    if position <= 0 or position >= source.size:
        return max(0, min(position, source.size))
    width = len(newline)
    at = _resynchronise(source, position, newline)
    step = max(PROBE, 2 * width)
    while at + width <= source.size:
        window = bytes(source.view(at, step, width))
        offset = 0
        while (found := window.find(newline, offset)) >= 0:
            offset = found + width
            if at + offset >= position:
                return at + offset
        at += max(offset, len(window) - width + 1)
        step = min(2 * step, max(BLOCK, 2 * width))
    return source.size


def _resynchronise(source: Source, position: int, newline: bytes) -> int:
    """Return a place before `position` from which matching finds the same newlines as from the object's start.

    Any place that no occurrence straddles will do. Occurrences of most newlines cannot overlap; for those that can,
    such as ``||`` in ``|||``, the place is searched for backwards.
    """
    width = len(newline)
    place = max(0, position - width)
    if not any(newline[:size] == newline[-size:] for size in range(1, width)):
        return place
    back = 2 * width
    while place > 0:
        low = max(0, place - back)
        origin = max(0, low - width)
        data = source.fetch(origin, min(source.size, position + width))
        while place > low:
            if newline not in data[max(0, place - width + 1 - origin) : place + width - 1 - origin]:
                return place
            place -= 1
        back = min(2 * back, BLOCK)
    return 0


class RangeStream(io.RawIOBase):
    """A seekable stream over `header`, then bytes ``[start, stop)`` of an object, read block by block."""

    def __init__(self, source: Source, header: bytes, start: int, stop: int) -> None:
        self._source = source
        self._header = header
        self._offset = start - len(header)
        self._size = len(header) + stop - start
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move within the chunk; its first byte has position 0."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"cannot seek to {origin + offset}, before the start of the data")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read up to ``len(buffer)`` bytes."""
        piece = self._piece(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        """Read what is left, by at most one request."""
        header = self._header[self._position :]
        start = max(self._position, len(self._header))
        if start >= self._size:
            self._position = max(self._position, self._size)
            return header
        body = self._source.read(start + self._offset, self._size + self._offset)
        self._position = self._size
        return header + body if header else body

    def _piece(self, most: int) -> memoryview:
        if self._position < len(self._header):
            piece = memoryview(self._header)[self._position :][:most]
        else:
            left = max(0, self._size - self._position)
            piece = (
                self._source.view(self._position + self._offset, min(BLOCK, left))[:most] if left else memoryview(b"")
            )
        self._position += len(piece)
        return piece
