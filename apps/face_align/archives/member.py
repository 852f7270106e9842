"""A file in an archive, and what is said of archives that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

BEYOND = "damaged in its archive: it would lie beyond the end of it"


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
