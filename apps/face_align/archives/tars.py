"""Plain tars: one member after the other, each with a header of its own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from apps.face_align.archives.member import BEYOND, ArchiveError, Member

# Source: IEEE 1003.1, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's manual, "Basic Tar Format".
_BLOCK = 512
_FILES, _LINKS, _EMPTY = b"0\0007S", b"12", b"123456"
"""Types of members: files, of which an S is sparse; links to others; what has no content, whatever it says."""
_LARGEST_HEADER = 1 << 20
"""Bytes of a pax header or long name beyond which it is none."""
_PADDING = 1 << 20
"""Bytes after the end mark of a tar that are looked at for a second archive."""


def tar_members(stream: BinaryIO, size: int) -> Iterator[Member]:
    """Yield the files of a tar; see ``archives.members``."""
    position, common, own = 0, dict[str, bytes](), dict[str, bytes]()
    while position < size:
        stream.seek(position)
        head = stream.read(_BLOCK)
        if head == bytes(_BLOCK):
            return _check_padding(stream, position)
        kind, length = _header(head, position)
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
            path = extended.get("GNU.sparse.name") or extended.get("path") or _name(head)
            name = path.decode("utf-8", "surrogateescape").removeprefix("./")
            if kind in _FILES:
                length = _pax_size(extended, length, position)
            elif kind in _EMPTY:
                length = 0
            fault, status = _fault(kind, head, extended, data + length > size)
            if kind in _FILES + _LINKS and not name.endswith("/"):
                yield Member(name, data, length, length, fault=fault, status=status)
        if data + length > size:
            raise ArchiveError(f"it breaks off at byte {size:,}; what follows is not there")
        position = data + (length + _BLOCK - 1) // _BLOCK * _BLOCK


def _fault(kind: bytes, head: bytes, extended: dict[str, bytes], is_beyond: bool) -> tuple[str, str]:
    """Return why a member cannot be read, and its status."""
    if kind in _LINKS:
        target = extended.get("linkpath") or head[157:257].partition(b"\0")[0]
        return f"a link in its archive, to {target.decode('utf-8', 'surrogateescape')}", "unsupported"
    if is_beyond:
        return BEYOND, "decode_error"
    if kind == b"S" or any(key.startswith("GNU.sparse.") for key in extended):
        return "sparse in its archive", "unsupported"
    return "", ""


def _header(head: bytes, position: int) -> tuple[bytes, int]:
    """Return the type and size of a member."""
    try:
        if len(head) < _BLOCK:
            raise ValueError
        summed = _number(head[148:156])
        if summed not in (sum(head) - sum(head[148:156]) + 256, _signed_sum(head)):
            raise ValueError
        return head[156:157], _number(head[124:136])
    except ValueError:
        what = "it is no tar" if not position else f"the header at byte {position:,} is damaged"
        raise ArchiveError(f"{what}; what follows it is not read") from None


def _signed_sum(head: bytes) -> int:
    signed = struct.unpack(f"{_BLOCK}b", head)
    return int(sum(signed) - sum(signed[148:156])) + 256


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.partition(b"\0")[0].strip()
    if text and not text.isdigit():
        raise ValueError
    return int(text.decode() or "0", 8)


def _name(head: bytes) -> bytes:
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
