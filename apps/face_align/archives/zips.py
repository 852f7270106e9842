"""Zips: their directory, and a member by its range."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from apps.face_align.archives.member import BEYOND, ArchiveError, Member

# Source: PKWARE APPNOTE 6.3, 4.3.7 (a member), 4.3.12 (its entry in the directory), 4.3.14 to 4.3.16 (the end of the
# directory), 4.5.3 (sizes that do not fit in 32 bits).
_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_PLACE64 = struct.Struct("<4sIQI")
_LONGEST_COMMENT = 0xFFFF
_EXTRA = 1 << 10
"""Bytes that a member's own extra field may have before it takes a second request."""
_ENCRYPTED, _UTF8 = 1, 1 << 11
_PACKINGS = {0: "stored", 8: "deflated"}


def zip_members(stream: BinaryIO, size: int) -> Iterator[Member]:
    """Yield the members that the directory lists; see ``archives.members``."""
    at, end, moved, counted = _directory(stream, size)
    limit, found = at, 0
    stream.seek(at)
    while at < end:
        found += 1
        entry = stream.read(_ENTRY.size)
        is_entry = len(entry) == _ENTRY.size and entry[:4] == b"PK\1\2"
        name_length, extra_length, comment_length = _ENTRY.unpack(entry)[10:13] if is_entry else (0, 0, 0)
        rest = stream.read(name_length + extra_length + comment_length)
        at += _ENTRY.size + name_length + extra_length + comment_length
        if not is_entry or at > end:
            raise ArchiveError(f"entry {found} of its directory is damaged; what follows it is not read")
        member = _member(entry, rest[:name_length], rest[name_length : name_length + extra_length], moved, limit)
        if not member.name.endswith("/"):
            yield member
    if found & 0xFFFF != counted & 0xFFFF:
        raise ArchiveError(f"its directory says that it has {counted:,} members, and lists {found:,}")


def _member(entry: bytes, name: bytes, extra: bytes, moved: int, limit: int) -> Member:
    """Return what an entry of the directory describes; its content has to end before `limit`."""
    flags, method = _ENTRY.unpack(entry)[3:5]
    checksum, packed, unpacked = _ENTRY.unpack(entry)[7:10]
    unpacked, packed, start = _wide(extra, [unpacked, packed, _ENTRY.unpack(entry)[-1]])
    start += moved
    fault, status = _fault(flags, method, start, packed, unpacked, limit)
    packing = _PACKINGS.get(method, "unknown")
    return Member(_name(name, flags), start, packed, unpacked, packing, checksum, fault, status)


def _directory(stream: BinaryIO, size: int) -> tuple[int, int, int, int]:
    """Return where the directory begins and ends, how far all was moved by what was put before it, and its count."""
    tail_start = max(0, size - _END.size - _LONGEST_COMMENT)
    stream.seek(tail_start)
    tail = stream.read(size - tail_start)
    at = tail.rfind(b"PK\5\6", 0, max(0, len(tail) - _END.size + 4))
    if at < 0:
        raise ArchiveError("it has no directory at its end; it is no zip, or cut off")
    _, _, _, _, counted, length, offset, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    place = end - _PLACE64.size - _END64.size
    if place >= 0 and (counted == 0xFFFF or 0xFFFFFFFF in (length, offset)):
        stream.seek(place)
        record = stream.read(_END64.size + _PLACE64.size)
        if record[:4] == b"PK\6\6" and record[_END64.size : _END64.size + 4] == b"PK\6\7":
            *_, counted, length, offset = _END64.unpack_from(record)
            end = place
    begin = end - length
    if begin < 0 or begin < offset:
        raise ArchiveError("its directory does not lie where it says")
    return begin, end, begin - offset, counted


def _name(name: bytes, flags: int) -> str:
    try:
        return name.decode().partition("\0")[0]
    except UnicodeDecodeError:
        text = name.decode("utf-8", "surrogateescape") if flags & _UTF8 else name.decode("cp437")
        return text.partition("\0")[0]


def _wide(extra: bytes, values: list[int]) -> list[int]:
    """Return size unpacked, size packed and offset, those that did not fit in 32 bits read from the extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            return [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + length
    return values


def _fault(flags: int, method: int, start: int, packed: int, unpacked: int, end: int) -> tuple[str, str]:
    if flags & _ENCRYPTED:
        return "encrypted in its archive", "unsupported"
    if method not in _PACKINGS:
        return f"packed by method {method}, and only 0 (stored) and 8 (deflated) can be read", "unsupported"
    if start + _LOCAL.size + packed > end:
        return BEYOND, "decode_error"
    if not method and packed != unpacked:
        return "damaged in its archive: it has two sizes", "decode_error"
    return "", ""


def read_zip_member(member: Member, get: Callable[[int, int], Any]) -> bytes:
    """Return the content of a member; see ``archives.read_member``."""
    slack = _LOCAL.size + len(member.name.encode("utf-8", "surrogateescape")) + _EXTRA
    data = get(member.start, member.start + slack + member.size)
    if len(data) < _LOCAL.size or data[:4] != b"PK\3\4":
        raise ArchiveError("damaged in its archive: there is nothing where the directory says it is")
    name_length, extra_length = _LOCAL.unpack_from(data)[-2:]
    begin = _LOCAL.size + name_length + extra_length
    if begin + member.size > len(data):
        data, begin = get(member.start + begin, member.start + begin + member.size), 0
    content = bytes(data[begin : begin + member.size])
    if member.packing == "deflated":
        content = _inflated(content, member.unpacked)
    if len(content) != member.unpacked or zlib.crc32(content) != member.checksum:
        raise ArchiveError("damaged in its archive: size or checksum differs")
    return content


def _inflated(content: bytes, unpacked: int) -> bytes:
    """Return what was deflated, or a byte more than it should be, never all of what unpacks without end."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, unpacked + 1)
    except zlib.error as error:
        raise ArchiveError(f"damaged in its archive: {error}") from None
