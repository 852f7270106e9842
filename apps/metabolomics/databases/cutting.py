"""Where a large table can be cut, so that its parts are read at once and give what the whole would."""

from __future__ import annotations

from itertools import pairwise

from apps.metabolomics.databases.columns import CELL_LINES, cells_of, read_layout
from apps.metabolomics.databases.lines import GZIP, UTF_16, read_lines
from core.storage import process_storage, split_address

PART = 64 << 20
"""Bytes of a part: five seconds."""
LOOK = 256 << 10
"""Bytes that are looked at for a place to cut; where there is none, two parts stay one."""


def cuts(address: str, size: int, part: int = PART) -> list[tuple[int, int | None]]:
    """Cut a table of `size` bytes into parts, each from one byte to another, None for the end.

    A cut is never within a quoted cell: such a one takes `CELL_LINES` lines more at most, and none of so many lines
    before a cut leaves a quote open. Compressed tables, and those in UTF-16, stay whole.
    """
    if size <= part:
        return [(0, None)]
    root, key = split_address(address)
    storage = process_storage(root)
    begin = storage.get(key, 0, 4096)
    if begin.startswith((GZIP, *UTF_16)) or b"\0" in begin:
        return [(0, None)]
    separator = read_layout(enumerate(read_lines(address), 1), address).separator
    places = [0]
    for place in range(part, size - LOOK, part):
        found = _cut(storage.get(key, place, place + LOOK), separator)
        if found:
            places.append(place + found)
    return [*pairwise(places), (places[-1], None)]


def _cut(data: bytes, separator: str) -> int:
    """Return behind which byte to cut, 0 for none."""
    at = data.find(b"\n") + 1
    safe = 0
    while at and (end := data.find(b"\n", at)) >= 0:
        line = data[at:end].removesuffix(b"\r")
        closed = b'"' not in line or cells_of(line.decode("utf-8", "surrogateescape"), separator) is not None
        safe = safe + 1 if closed and b"\r" not in line else 0
        at = end + 1
        if safe > CELL_LINES:
            return at
    return 0
