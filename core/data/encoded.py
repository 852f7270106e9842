"""Objects that are not plain lines of bytes: compressed ones, and text in UTF-16 or UTF-32."""

from __future__ import annotations

import bz2
import codecs
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from core.errors import FanfoldError, InputError, MissingExtra

_READ = 1 << 16
"""Compressed bytes taken, and bytes unpacked, at a time: little may become much."""

_MAGIC = {
    "gzip": (b"\x1f\x8b\x08",),
    "bzip2": tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    "xz": (b"\xfd7zXZ\0",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
}
"""How compressed data begins. Sources: RFC 1952, RFC 8878; the formats of bzip2 and xz."""

_SUFFIXES = {".gz": "gzip", ".bgz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}
_SEALED = (".zip", ".7z", ".rar", ".lz4", ".lzma", ".br", ".snappy")
"""Names of objects that are compressed in ways that are not unpacked here."""

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
LONGEST_MARK = 16
"""Bytes that tell all this."""


def compression_of(key: str) -> str:
    """Return how an object is compressed, going by its name; empty if it is not.

    Raises
    ------
    InputError
        In a way that is not unpacked here.
    """
    if key.lower().endswith(_SEALED):
        raise InputError(
            f"{key!r} is compressed in a way that lines() and text() do not unpack; use read() or data_stream, or "
            f"store it as one of {', '.join(_SUFFIXES)}"
        )
    return next((kind for suffix, kind in _SUFFIXES.items() if key.lower().endswith(suffix)), "")


def encoding_of(head: bytes) -> str:
    """Return the encoding that the mark at the beginning of a text tells, empty if there is none."""
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")


def check_cut(key: str, head: bytes | None = None) -> None:
    """Refuse, as ``InputError``, lines of an object that is to be cut though it is none of plain lines.

    Parameters
    ----------
    head : bytes, optional
        How the object begins; without it the name alone is judged.
    """
    kind = compression_of(key) if head is None else packing_of(head)
    if kind:
        raise InputError(
            f"{key!r} is compressed ({kind}), so lines cannot be found from its middle; give no chunks for it and read "
            "lines() or text(), or unpack it first"
        )
    if head is not None:
        check_width(key, encoding_of(head))


def is_wide(encoding: str) -> bool:
    """Whether a character of this encoding has several bytes, any of which may look like a newline."""
    return bool(encoding) and codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def check_width(key: str, encoding: str) -> None:
    """Refuse, as ``InputError``, lines of wide characters of an object that is to be cut."""
    if is_wide(encoding):
        raise InputError(
            f"{key!r} is text in {encoding.upper()}, whose lines cannot be found by bytes; give no chunks for it and "
            "read text(), or store it as UTF-8"
        )


def check_returns(key: str, line: bytes) -> None:
    """Refuse, as ``InputError``, a first line that is all of its object but for carriage returns."""
    if b"\n" not in line and b"\r" in line[:-1]:
        raise InputError(
            f"{key!r} has carriage returns and no newline, so all of it would be one line; "
            r"give chunks=Chunks(newline=b'\r')"
        )


def unpacked(key: str, stream: io.BufferedReader) -> io.BufferedReader:
    """Return an object's stream, unpacked if it is compressed.

    Raises
    ------
    InputError
        It has the name of a compressed object but does not begin like one.
    MissingExtra
        It is compressed in a way that Python needs a package for.
    """
    head = stream.peek(LONGEST_MARK)
    kind = packing_of(head)
    named = compression_of(key)
    if head and named and kind != named:
        raise InputError(
            f"{key!r} is no {named} data, though its name says so; give it another name, or use read() or data_stream"
        )
    return io.BufferedReader(cast(Any, _Unpacked(key, kind, stream))) if kind else stream


def packing_of(head: bytes) -> str:
    """Return how data is compressed that begins like this, empty if it is not."""
    return next((kind for kind, magic in _MAGIC.items() if head.startswith(magic)), "")


class _Gzip:
    """A decompressor of one gzip member with the methods of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    eof = property(lambda self: self._inner.eof)
    unused_data = property(lambda self: self._inner.unused_data)
    needs_input = property(lambda self: not self._inner.unconsumed_tail)

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, most)


def _zstd() -> Any:
    try:
        from compression import zstd
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise MissingExtra("zstd data needs a package: pip install 'fanfold[zstd]'") from None
    return zstd.ZstdDecompressor()


_MAKE: dict[str, Callable[[], Any]] = {
    "gzip": _Gzip,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    "zstd": _zstd,
}
_PADDED = ("gzip", "xz")
"""Zeros may stand between and behind the parts of these."""


class _Unpacked(io.RawIOBase):
    """Unpacked data, of all parts that stand behind one another; unlike Python's own readers, of all or an error."""

    def __init__(self, key: str, kind: str, stream: BinaryIO) -> None:
        self._key, self._kind, self._stream = key, kind, stream
        self._part = _MAKE[kind]()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._next(len(buffer))
        except FanfoldError:
            raise
        except EOFError:
            raise InputError(f"{self._key!r} ends before its {self._kind} data does; fetch or write it again") from None
        except Exception as error:  # each format has an error of its own
            raise InputError(f"{self._key!r} is damaged {self._kind} data ({error}); fetch or write it again") from None
        buffer[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        while True:
            if self._part.eof and not self._begin():
                return b""
            block = self._stream.read(_READ) if self._part.needs_input and not self._rest else self._rest
            self._rest = b""
            if not block and self._part.needs_input:
                raise EOFError
            data: bytes = self._part.decompress(block, most)
            if data:
                return data

    def _begin(self) -> bool:
        """Go on with the next part, if there is one."""
        rest: bytes = self._part.unused_data
        while True:
            rest = rest.lstrip(b"\0") if self._kind in _PADDED else rest
            if rest:
                self._part, self._rest = _MAKE[self._kind](), rest
                return True
            rest = self._stream.read(_READ)
            if not rest:
                return False

    _rest = b""
