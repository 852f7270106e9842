"""What is in a zip or a plain tar: each member by its range, without believing what the archive says of itself."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from apps.face_align.science.headers import BadImage

# Source of the layouts: PKWARE APPNOTE 6.3, 4.3.7 (a member), 4.3.12 (its entry in the directory), 4.3.14 to 4.3.16
# (the end of the directory); and IEEE 1003.1, pax, "ustar Interchange Format" and "pax Extended Header".
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

_BLOCK = 512
_LARGEST_HEADER = 1 << 20
"""Bytes of a pax header or long name beyond which it is none."""
_PADDING = 1 << 20
"""Bytes after the end mark of a tar that are looked at for a second archive."""
_BEYOND = "damaged in its archive: it would lie beyond the end of it"


class ArchiveError(Exception):
    """An archive cannot be read, or not from here on."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    `start` is where it begins, in a zip with its own header; `size` its bytes there, `unpacked` those it stands for;
    `packing` is ``""`` in a tar, ``stored`` or ``deflated`` in a zip, where `checksum` is the CRC-32 of its content.
    `fault` says why it cannot be read, `status` in a word.
    """

    name: str
    start: int
    size: int
    unpacked: int
    packing: str = ""
    checksum: int = 0
    fault: str = ""
    status: str = ""


def members(stream: BinaryIO, size: int, kind: str) -> Iterator[Member]:
    """Yield the files of an archive in the order in which they are listed there.

    Parameters
    ----------
    stream : seekable binary stream
        The archive.
    size : int
        Its bytes.
    kind : str
        ``zip`` or ``tar``.

    Raises
    ------
    ArchiveError
        It is none, or what follows the members yielded so far cannot be found.
    """
    yield from (_zip_members if kind == "zip" else _tar_members)(stream, size)


def read_member(member: Member, get: Callable[[int, int], Any], most: int) -> bytes:
    """Return the content of a member.

    Parameters
    ----------
    member : Member
        One that has no fault.
    get : callable
        Returns the archive's bytes from a start to an end.
    most : int
        Bytes beyond which nothing is unpacked.

    Raises
    ------
    BadImage
        It has more bytes than `most`.
    ArchiveError
        It is damaged.
    """
    if member.fault:
        raise ArchiveError(member.fault)
    if max(member.size, member.unpacked) > most:
        raise BadImage("too_large", f"{max(member.size, member.unpacked):,} bytes, unpacked, are more than {most:,}")
    if not member.packing:
        return bytes(get(member.start, member.start + member.size))
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


def _zip_members(stream: BinaryIO, size: int) -> Iterator[Member]:
    begin, end, moved, counted = _zip_directory(stream, size)
    position = found = 0
    stream.seek(begin)
    while begin + position < end:
        head = stream.read(_ENTRY.size)
        if len(head) < _ENTRY.size or head[:4] != b"PK\1\2":
            raise ArchiveError(f"entry {found + 1} of its directory is damaged; what follows it is not read")
        _, _, _, flags, method, _, _, checksum, packed, unpacked, *rest = _ENTRY.unpack(head)
        name_length, extra_length, comment_length, _, _, _, start = rest
        tail = stream.read(name_length + extra_length + comment_length)
        position += _ENTRY.size + name_length + extra_length + comment_length
        if begin + position > end or len(tail) < name_length + extra_length + comment_length:
            raise ArchiveError(f"entry {found + 1} of its directory is damaged; what follows it is not read")
        found += 1
        name = _zip_name(tail[:name_length], flags)
        unpacked, packed, start = _zip64(tail[name_length : name_length + extra_length], [unpacked, packed, start])
        start += moved
        if not name.endswith("/"):
            packing = _PACKINGS.get(method, "")
            fault, status = _zip_fault(flags, method, start, packed, unpacked, begin)
            yield Member(name, start, packed, unpacked, packing or "unknown", checksum, fault, status)
    if found & 0xFFFF != counted & 0xFFFF:
        raise ArchiveError(f"its directory says that it has {counted:,} members, and lists {found:,}")


def _zip_directory(stream: BinaryIO, size: int) -> tuple[int, int, int, int]:
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


def _zip_name(name: bytes, flags: int) -> str:
    try:
        return name.decode().partition("\0")[0]
    except UnicodeDecodeError:
        text = name.decode("utf-8", "surrogateescape") if flags & _UTF8 else name.decode("cp437")
        return text.partition("\0")[0]


def _zip64(extra: bytes, values: list[int]) -> list[int]:
    """Return size unpacked, size packed and offset, those that did not fit in 32 bits read from the extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            return [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + length
    return values


def _zip_fault(flags: int, method: int, start: int, packed: int, unpacked: int, end: int) -> tuple[str, str]:
    if flags & _ENCRYPTED:
        return "encrypted in its archive", "unsupported"
    if method not in _PACKINGS:
        return f"packed by method {method}, and only 0 (stored) and 8 (deflated) can be read", "unsupported"
    if start + _LOCAL.size + packed > end:
        return _BEYOND, "decode_error"
    if not method and packed != unpacked:
        return "damaged in its archive: it has two sizes", "decode_error"
    return "", ""


def _tar_members(stream: BinaryIO, size: int) -> Iterator[Member]:
    position, common, own = 0, dict[str, bytes](), dict[str, bytes]()
    while position < size:
        stream.seek(position)
        head = stream.read(_BLOCK)
        if head == bytes(_BLOCK):
            return _check_padding(stream, position)
        kind, length = _tar_header(head, position)
        data = position + _BLOCK
        if kind in b"xgLK":
            if data + length > size or length > _LARGEST_HEADER:
                raise ArchiveError(f"the header at byte {position:,} is damaged; what follows it is not read")
            content = stream.read(length)
            if kind == b"g":
                common |= _pax(content, position)
            elif kind == b"x":
                own |= _pax(content, position)
            elif kind == b"L":
                own["path"] = content.partition(b"\0")[0]
        else:
            extended, own = common | own, {}
            path = extended.get("GNU.sparse.name") or extended.get("path") or _tar_name(head)
            name = path.decode("utf-8", "surrogateescape").removeprefix("./")
            if kind in b"0\0007S":
                length = _pax_size(extended, length, position)
            elif kind in b"123456":
                length = 0  # links, devices and folders have no content, whatever they say
            if kind in b"0\0007S" and not name.endswith("/"):
                sparse = kind == b"S" or any(key.startswith("GNU.sparse.") for key in extended)
                fault, status = ("sparse in its archive", "unsupported") if sparse else ("", "")
                if data + length > size:
                    fault, status = _BEYOND, "decode_error"
                yield Member(name, data, length, length, fault=fault, status=status)
        if data + length > size:
            raise ArchiveError(f"it breaks off at byte {size:,}; what follows is not there")
        position = data + (length + _BLOCK - 1) // _BLOCK * _BLOCK


def _tar_header(head: bytes, position: int) -> tuple[bytes, int]:
    """Return the type and size of a member."""
    try:
        if len(head) < _BLOCK:
            raise ValueError
        summed = _tar_number(head[148:156])
        if summed not in (sum(head) - sum(head[148:156]) + 256, _signed_sum(head)):
            raise ValueError
        return head[156:157], _tar_number(head[124:136])
    except ValueError:
        what = "it is no tar" if not position else f"the header at byte {position:,} is damaged"
        raise ArchiveError(f"{what}; what follows it is not read") from None


def _signed_sum(head: bytes) -> int:
    signed = struct.unpack(f"{_BLOCK}b", head)
    return int(sum(signed) - sum(signed[148:156])) + 256


def _tar_number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.partition(b"\0")[0].strip()
    if text and not text.isdigit():
        raise ValueError
    return int(text.decode() or "0", 8)


def _tar_name(head: bytes) -> bytes:
    name, prefix = head[:100].partition(b"\0")[0], head[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix and head[257:263] == b"ustar\0" else name


def _pax(content: bytes, position: int) -> dict[str, bytes]:
    """Return the records of a pax header, each ``length key=value`` and a line end."""
    records, at = {}, 0
    while at < len(content) and content[at]:
        digits, space, _ = content[at : at + 21].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        key, equals, value = content[at + len(digits) + 1 : at + length - 1].partition(b"=")
        if length < len(digits) + 3 or at + length > len(content) or not equals:
            raise ArchiveError(f"the pax header at byte {position:,} is damaged; what follows it is not read")
        records[key.decode("utf-8", "surrogateescape")] = value
        at += length
    return records


def _pax_size(extended: dict[str, bytes], size: int, position: int) -> int:
    given = extended.get("size", b"")
    if given and not (given.isdigit() and len(given) < 20):
        raise ArchiveError(f"the pax header before byte {position:,} is damaged; what follows it is not read")
    return int(given) if given else size


def _check_padding(stream: BinaryIO, position: int) -> None:
    stream.seek(position)
    if stream.read(_PADDING).strip(b"\0"):
        raise ArchiveError(f"more follows its end mark at byte {position:,}, such as another archive; it is not read")
