"""Formulas dealt out by their hash: of each object of formulas a task can take one share, the same of all.

An object is one block after the other, a shard each, and of every block its length and checksum come first: what a
task takes is a range of bytes, whose hash nobody has.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from apps._frame.stored import Stored
from core import InputError
from core.storage import process_storage

SHARDS = 4_096
"""Of databases too large for one task; a shard of ten billion formulas still fits a worker."""
_HEAD = struct.Struct("<II")
"""Bytes of a block, and their CRC-32."""


def shard_of(formulas: Any, shards: int) -> NDArray[np.int64]:
    """Return in which of so many shards each formula is, by its CRC-32: equal formulas are always in one."""
    hashes = (zlib.crc32(each.encode()) for each in formulas.to_pylist())
    return np.fromiter(hashes, np.int64, len(formulas)) * shards >> 32


def pack_shards(formulas: Any, shards: int) -> tuple[bytes, NDArray[np.int64]]:
    """Write formulas as an object.

    Parameters
    ----------
    formulas : pyarrow.LargeStringArray
        Their order is kept within each shard.
    shards : int

    Returns
    -------
    data : bytes
    sizes : int64[shards]
        Bytes of each shard, 0 where there is nothing.
    """
    places = shard_of(formulas, shards) if shards > 1 else np.zeros(len(formulas), np.int64)
    nothing, end = (pa.scalar(each, pa.large_string()) for each in ("", "\n"))
    ordered = formulas.take(pa.array(np.argsort(places, kind="stable")))
    lines = pc.binary_join_element_wise(ordered, nothing, end)  # a copy, whose buffers begin with its first line
    offsets = np.frombuffer(lines.buffers()[1], np.int64)[: len(lines) + 1]
    rows = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=shards))])
    text = memoryview(lines.buffers()[2] or b"")
    blocks, sizes = list[bytes | memoryview](), np.zeros(shards, np.int64)
    for shard in np.flatnonzero(np.diff(rows)).tolist():
        block = text[int(offsets[rows[shard]]) : int(offsets[rows[shard + 1]])]
        blocks += [_HEAD.pack(len(block), zlib.crc32(block)), block]
        sizes[shard] = _HEAD.size + len(block)
    return b"".join(blocks), sizes


def read_shards(found: Stored, start: int, stop: int) -> Any:
    """Return the formulas of some shards of an object, a pyarrow.LargeStringArray.

    Parameters
    ----------
    found : Stored
    start, stop : int
        From which byte to which.

    Raises
    ------
    InputError
        It is not what was written.
    """
    data = process_storage(found.address).get(found.key, start, stop)
    if len(data) != stop - start:
        raise _damaged(found)
    text = b"".join(_blocks(memoryview(data), found))[:-1].decode()
    return pc.split_pattern(pa.array([text], pa.large_string()), "\n").values


def _blocks(data: memoryview, found: Stored) -> Iterator[memoryview]:
    while data:
        if len(data) < _HEAD.size:
            raise _damaged(found)
        length, checksum = _HEAD.unpack_from(data)
        block, data = data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length :]
        if not length or len(block) != length or zlib.crc32(block) != checksum:
            raise _damaged(found)
        yield block


def _damaged(found: Stored) -> InputError:
    return InputError(f"{found.url} is damaged: its content has changed; delete it, and resume the run")
