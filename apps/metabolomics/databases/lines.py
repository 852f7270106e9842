"""The lines of a text that may be compressed, in any of the encodings that spreadsheets write."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from core import InputError
from core.storage import NotFound, process_storage, split_address

BUFFER = 1 << 20
"""Bytes read at once."""
_LOOK = 4096
GZIP = b"\x1f\x8b"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BINARY = {
    b"PK\x03\x04": "a spreadsheet or zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"SQLite format 3": "an SQLite database",
    b"PAR1": "a Parquet file",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
}


def tag_of(address: str) -> str:
    """Return the tag of an object, which changes with its content.

    Raises
    ------
    InputError
        There is no such object.
    """
    root, key = split_address(address)
    try:
        return process_storage(root).head(key).etag
    except NotFound:
        raise InputError(f"there is no database at {address}; check the address") from None


def read_lines(address: str, start: int = 0, stop: int | None = None) -> Iterator[str]:
    """Yield the lines of a text, or of the part between two bytes, without their ends, a few in memory at a time.

    gzip is known by its content; UTF-8, UTF-16 with a byte order mark; LF, CRLF and CR. Bytes that are not UTF-8 are
    kept as lone surrogates.

    Raises
    ------
    InputError
        There is no such object, it is no text, or its compression is damaged.
    """
    tag_of(address)
    root, key = split_address(address)
    with process_storage(root).get_stream(key, start, stop) as stream:
        # The drivers' streams have readinto, which is all that a buffer asks of a raw stream.
        packed = io.BufferedReader(cast(io.RawIOBase, stream), BUFFER)
        try:
            if not start and packed.peek(2)[:2] == GZIP:
                unpacked = gzip.GzipFile(fileobj=cast(BinaryIO, packed))
                packed = io.BufferedReader(cast(io.RawIOBase, unpacked), BUFFER)
            encoding, errors = ("utf-8", "surrogateescape") if start else _encoding(address, packed.peek(_LOOK)[:_LOOK])
            for line in io.TextIOWrapper(packed, encoding, errors):
                yield line.rstrip("\n")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{address} is a damaged gzip file ({error}); fetch it again") from None


def _encoding(address: str, begin: bytes) -> tuple[str, str]:
    for mark, what in _BINARY.items():
        if begin.startswith(mark):
            raise InputError(f"{address} is {what}; save it as tab-separated text, or compress that by gzip")
    if begin.startswith(UTF_16):
        return "utf-16", "replace"
    if b"\0" in begin:
        raise InputError(f"{address} is no text in UTF-8; save it as tab-separated text in UTF-8")
    return "utf-8-sig", "surrogateescape"
