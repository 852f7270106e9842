"""What is in a zip or a plain tar: each member by its range, without believing what the archive says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from apps.face_align.archives.member import ArchiveError, Member
from apps.face_align.archives.tars import tar_members
from apps.face_align.archives.zips import read_zip_member, zip_members
from apps.face_align.science.headers import BadImage

__all__ = ["ArchiveError", "Member", "members", "read_member"]


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
    yield from (zip_members if kind == "zip" else tar_members)(stream, size)


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
    if member.packing:
        return read_zip_member(member, get)
    return bytes(get(member.start, member.start + member.size))
