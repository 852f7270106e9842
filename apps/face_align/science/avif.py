"""How large the pictures inside an AVIF file are, which its boxes may deny while its decoder makes room for them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Source: AV1 Bitstream & Decoding Process Specification 1.0.0, 5.3.2, 6.2.1 and 5.5.1.
_SEQUENCE_HEADER = 1
_HAS_EXTENSION, _HAS_SIZE = 4, 2
_LONGEST_HEADER = 128
"""Bytes that a sequence header takes up to the size, at most: 32 operating points of 23 bits."""


class UnknownVariant(ValueError):
    """The file is not built as still images are."""


def picture_sizes(content: bytes) -> list[tuple[int, int]]:
    """Return the width and height, in pixels, of every picture that is coded in an AVIF file.

    Parameters
    ----------
    content : bytes
        The file, ISO/IEC 14496-12 boxes with items as in ISO/IEC 23008-12.

    Raises
    ------
    UnknownVariant
        Pictures are not where those of a still image are.
    struct.error, IndexError
        The file is damaged.
    """
    if content[8:12] == b"avis":
        raise UnknownVariant("an image sequence")
    meta = next((body for kind, body in _boxes(content) if kind == b"meta"), b"")
    items = next((body for kind, body in _boxes(meta[4:]) if kind == b"iloc"), b"")
    found = [size for places in _extents(items) for size in _sizes(b"".join(content[a:b] for a, b in places))]
    if not found:
        raise UnknownVariant("no AV1 picture where its directory says")
    return found


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length, kind, head = *struct.unpack_from(">I4s", data, at), 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        stop = len(data) if length == 0 else at + length
        if length and length < head:
            return
        yield kind, data[at + head : stop]
        at = stop


def _extents(box: bytes) -> Iterator[list[tuple[int, int]]]:
    """Yield where the bytes of each item are, as an iloc box says."""
    version, sizes = box[0], struct.unpack_from(">H", box, 4)[0]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    read = _Reader(box, 6)
    for _ in range(read.number(4 if version == 2 else 2)):
        read.number(4 if version == 2 else 2)
        if version and read.number(2) & 15:
            raise UnknownVariant("pictures inside its directory")
        read.number(2)
        base = read.number(base_size)
        places = []
        for _ in range(read.number(2)):
            read.number(index_size)
            start = base + read.number(offset_size)
            length = read.number(length_size)
            places.append((start, start + length if length else len(box) << 32))
        yield places


class _Reader:
    """Big-endian numbers one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def number(self, size: int) -> int:
        self._at += size
        if self._at > len(self._data):
            raise IndexError
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def _sizes(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size that each sequence header of an AV1 stream gives."""
    at = 0
    while at < len(stream):
        head = stream[at]
        at += 2 if head & _HAS_EXTENSION else 1
        length = len(stream) - at
        if head & _HAS_SIZE:
            length, shift = 0, 0
            while shift < 56:
                length |= (stream[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if not stream[at - 1] & 128:
                    break
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _sequence_size(stream[at : at + length])
        at += length


def _sequence_size(header: bytes) -> tuple[int, int]:
    bits = "".join(f"{byte:08b}" for byte in header[:_LONGEST_HEADER])
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise IndexError
        return int(bits[at - count : at], 2)

    take(4)
    if take(1):  # the short header of a still picture
        take(5)
    else:
        if take(1):
            raise UnknownVariant("a picture with the timing of a film")
        delays = take(1)
        for _ in range(take(5) + 1):
            take(12)
            if take(5) > 7:
                take(1)
            if delays and take(1):
                take(4)
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1
