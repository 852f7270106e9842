"""Reading an object by byte ranges, and finding where its lines begin without reading what comes before."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from core.storage.base import Storage, object_changed
from core.types import MiB

BLOCK = 8 * MiB
"""Most bytes read ahead; one request each."""

PROBE = MiB // 16
"""Bytes first read past the end of a range to find the newline there; doubled up to `BLOCK` until it is found."""

FEW = 64
"""What part of a range is rather read again with the rest of it than joined to it, which copies all."""

Check = Callable[[bytes | memoryview, bool], None]


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

    @property
    def is_near(self) -> bool:
        """Whether requests cost less than copies of what they bring."""
        return self.storage.address.startswith("file://")

    @property
    def held(self) -> int:
        """Where the remembered block ends."""
        return self._at + len(self._block)

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
        if not self._at <= start < held or (held < end and FEW * (held - start) < end - start):
            return self.fetch(start, end)
        front = memoryview(self._block)[start - self._at : held - self._at]
        return b"".join((front, self.fetch(held, end))) if held < end else bytes(front)

    def check_empty(self) -> None:
        """Raise ``ObjectChanged`` if an object planned as empty has content by now."""
        if self.storage.get(self.key, 0, 1, etag=self.etag):
            raise object_changed(self.storage.address, self.key)


class LineSearch:
    """Searches for the first line that begins at `position` or later, window by window; bytes are lines of their own.

    Newlines are matched from the left without overlap, as ``bytes.split`` does, whatever `position` is asked for.

    Attributes
    ----------
    found : int or None
        Where the line begins, the object's size if none does; None until that is known.
    clear : int
        No line begins from `position` up to here.
    """

    def __init__(self, source: Source, position: int, newline: bytes | None) -> None:
        self.found: int | None = None
        self.clear = position
        if position <= 0 or position >= source.size or newline is None:
            self.found = self.clear = max(0, min(position, source.size))
            return
        self._source, self._position, self._newline = source, position, newline
        self._at = _resynchronise(source, position, newline)
        self._step = max(PROBE, 2 * len(newline))

    def finish(self, limit: int) -> None:
        """Search at least one window, and on while the next one ends before `limit`."""
        self.advance(limit)
        while self.found is None and self._at + 2 * len(self._newline) < limit:
            self.advance(limit)

    def advance(self, limit: int) -> None:
        """Search one window more, which does not reach over `limit` for its first half."""
        width = len(self._newline)
        length = max(2 * width, min(self._step, limit - self._at))
        window = bytes(self._source.view(self._at, length, width))
        offset = 0
        while (found := window.find(self._newline, offset)) >= 0:
            offset = found + width
            if self._at + offset >= self._position:
                self.found = self._at + offset
                return
        self._at += max(offset, len(window) - width + 1)
        self._step = min(2 * self._step, max(BLOCK, 2 * width))
        self.clear = max(self.clear, self._at)
        if self._at + width > self._source.size:
            self.found = self.clear = self._source.size


def line_start(source: Source, position: int, newline: bytes, limit: int | None = None) -> int:
    """Return where the first line begins that begins at `position` or later; the object's size if none does.

    With a `limit` the search ends there, and the answer for none before it is `limit`, or the object's size if less.
    """
    search, limit = LineSearch(source, position, newline), source.size if limit is None else limit
    while search.found is None and search.clear < limit:
        search.advance(limit)
    return min(limit, source.size) if search.found is None else min(search.found, limit)


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
    """A seekable stream over `header`, then an object's bytes from `start` to where a line ends, read block by block.

    Parameters
    ----------
    end : LineSearch
        For the first line that does not belong to the stream. It is searched for where it is needed, on the way.
    check : callable, optional
        Gets each piece, and whether it is the last, where the stream is read from its beginning without a gap.
    """

    def __init__(self, source: Source, header: bytes, start: int, end: LineSearch, check: Check | None = None) -> None:
        self._source, self._header, self._end, self._check = source, header, end, check
        self._offset = start - len(header)
        self._position = 0
        self._checked = start

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move within the chunk; its first byte has position 0."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        if origin is None:
            origin = self._stop() - self._offset
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
        """Read what is left: across a network by at most one request, if the last line ends soon after the range."""
        pieces = [self._header[self._position :]] if self._position < len(self._header) else []
        self._position = max(self._position, len(self._header))
        while True:
            at, end = self._position + self._offset, self._end
            if end.found is None:
                if self._source.is_near:
                    end.advance(self._source.size)
                else:
                    self._source.prefetch(at, end.clear + (PROBE if at < end.clear else BLOCK))
                    end.finish(self._source.held)
            stop = end.clear if end.found is None else end.found
            if at < stop:
                pieces.append(self._source.read(at, stop))
                self._position += len(pieces[-1])
                self._note(at, pieces[-1])
            if end.found is not None:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)  # one is not copied

    def _piece(self, most: int) -> memoryview:
        if self._position < len(self._header):
            piece = memoryview(self._header)[self._position :][:most]
            self._position += len(piece)
            return piece
        at, end = self._position + self._offset, self._end
        while end.found is None and at >= end.clear:
            end.advance(self._source.size)
        left = (end.clear if end.found is None else end.found) - at
        if left <= 0:
            return memoryview(b"")
        piece = self._source.view(at, min(BLOCK, left))[:most]
        self._position += len(piece)
        self._note(at, piece)
        return piece

    def _note(self, at: int, piece: bytes | memoryview) -> None:
        if self._check is not None and at <= self._checked < at + len(piece):
            fresh = piece[self._checked - at :]  # no copy from the piece's beginning
            self._checked += len(fresh)
            self._check(fresh, self._checked == self._end.found)

    def _stop(self) -> int:
        while self._end.found is None:
            self._end.advance(self._source.size)
        return self._end.found
