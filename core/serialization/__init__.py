"""Pickling with out-of-band buffers, content hashes and signatures."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import pickle
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import IntegrityError, is_interrupt
from core.serialization.definitions import REMEDY, Definitions, Loading, Pickler
from core.serialization.definitions import Buffer as Buffer
from core.serialization.definitions import loads as loads
from core.serialization.failures import Spared
from core.types import Partition

OUT_OF_BAND = 16 << 10
"""Buffers of at least this many bytes stay outside the pickle; below it the bookkeeping costs more than the copy."""

_SIGNATURE = hashlib.sha256().digest_size

MARKER = "taken apart"
"""Stands in the commit of a batch whose items are committed one by one."""

MARKER_SIZE = _SIGNATURE + len(pickle.dumps(MARKER, 5))
"""Bytes of a signed marker: no commit is that small."""
_SHORT = 4096


@dataclass(slots=True)
class Packed:
    """Several pickled values.

    Each value has its own pickle, so that one that cannot be read spoils no other and mutable objects are never
    shared between tasks; immutable scalars (`ends` is None) travel as one pickle of their list.
    """

    count: int
    data: Buffer
    ends: list[int] | None = None
    buffer_counts: list[int] | None = None
    buffers: list[Buffer] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of data and buffers."""
        return len(self.data) + sum(memoryview(buffer).nbytes for buffer in self.buffers)

    def meta(self) -> tuple[int, list[int] | None, list[int] | None]:
        """Return what `unpack` needs beside the data and the buffers."""
        return self.count, self.ends, self.buffer_counts


class Unpackable:
    """Stands in a `Packed` sequence for a value that could not be pickled."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


_IMMUTABLE = frozenset({int, float, bool, type(None), complex, str, bytes, Partition})


def _is_plain(values: Sequence[Any]) -> bool:
    for value in values:
        kind = type(value)
        if kind is int or kind is float or kind is bool or value is None:
            continue
        if (kind is str or kind is bytes) and len(value) < _SHORT:
            continue
        return False
    return True


class Packing:
    """Pickles values one behind another, with one pickler."""

    def __init__(self, definitions: Definitions | None = None) -> None:
        self._definitions = definitions
        self._stream = io.BytesIO()
        self._pickler: Pickler | None = None
        self._ends: list[int] = []
        self._counts: list[int] = []
        self._buffers: list[Buffer] = []
        self.size = 0

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND:
            return True
        self._buffers.append(view)
        return False

    def add(self, value: Any) -> None:
        """Pickle a value."""
        start, held = self._stream.tell(), len(self._buffers)
        if type(value) is Packed:  # a snapshot
            self._stream.write(value.data)
            self._buffers += value.buffers
        else:
            self._dump(value, start, held)
        self._ends.append(self._stream.tell())
        self._counts.append(len(self._buffers) - held)
        self.size += self._ends[-1] - start + sum(memoryview(buffer).nbytes for buffer in self._buffers[held:])

    def _dump(self, value: Any, start: int, held: int) -> None:
        is_fresh = self._pickler is None
        if self._pickler is None:
            self._pickler = Pickler(self._stream, self._keep, self._definitions)
        try:
            self._pickler.dump(value)
            self._pickler.clear_memo()
        except BaseException as error:  # a value's own methods may raise anything
            if is_interrupt(error):
                raise
            self._pickler = None
            self._stream.seek(start)
            self._stream.truncate()
            del self._buffers[held:]
            if not is_fresh:  # it may be that what it remembers is out of date
                self._dump(value, start, held)
            else:
                pickle.dump(Unpackable(f"{type(error).__name__}: {error}; {REMEDY}"), self._stream, protocol=5)

    def packed(self) -> Packed:
        """Return the values so far; no more can be added."""
        counts = self._counts if self._buffers else None
        return Packed(len(self._ends), self._stream.getvalue(), self._ends, counts, self._buffers)

    def snapshot(self, value: Any) -> Any:
        """Return a value for `pack` that stays as it is now: itself if it cannot change, else pickled and copied."""
        kind = type(value)
        if kind in _IMMUTABLE or (kind is tuple and all(type(part) in _IMMUTABLE for part in value)):
            return value
        self._ends, self._counts, self._buffers = [], [], []
        self._stream.seek(0)
        self._stream.truncate()
        self.add(value)
        buffers: list[Buffer] = [bytearray(buffer) for buffer in self._buffers]
        return Packed(1, self._stream.getvalue(), self._ends, self._counts if buffers else None, buffers)


def pack(values: Sequence[Any], limit: int | None = None, definitions: Definitions | None = None) -> Packed:
    """Pickle values one by one.

    Parameters
    ----------
    values : sequence
        A value that cannot be pickled becomes an `Unpackable`; a snapshot is taken as what it was made of.
    limit : int, optional
        Stop after the value that brings the total to this many bytes; `Packed.count` says how many are in.
    definitions : Definitions, optional
        Those of the call that the values belong to.
    """
    if _is_plain(values):
        return Packed(len(values), pickle.dumps(list(values), 5))
    packing = Packing(definitions)
    for value in values:
        packing.add(value)
        if limit is not None and packing.size >= limit:
            break
    return packing.packed()


def unpack(packed: Packed, definitions: Definitions | None = None) -> Iterator[Any]:
    """Yield the values of a `Packed`; one that cannot be read comes as an `Unpackable`."""
    if packed.ends is None:
        yield from pickle.loads(packed.data)
        return
    view = memoryview(packed.data)
    counts = packed.buffer_counts
    read = Loading(definitions).read
    start = used = 0
    for i, end in enumerate(packed.ends):
        held = counts[i] if counts else 0
        try:
            value = read(view[start:end], packed.buffers[used : used + held] if held else ())
        except BaseException as error:
            if is_interrupt(error):
                raise
            value = Unpackable(f"{type(error).__name__}: {error}")
        yield value
        start, used = end, used + held


def copied(packed: Packed) -> Packed:
    """Return values that share no memory with those that were packed."""
    buffers: list[Buffer] = [bytearray(buffer) for buffer in packed.buffers]
    return Packed(packed.count, packed.data, packed.ends, packed.buffer_counts, buffers)


def split(packed: Packed) -> Iterator[Packed]:
    """Yield every value of a `Packed` as a `Packed` of its own, without copying."""
    if packed.ends is None:
        for value in pickle.loads(packed.data):
            yield Packed(1, pickle.dumps([value], 5))
        return
    view = memoryview(packed.data)
    start = used = 0
    for i, end in enumerate(packed.ends):
        held = packed.buffer_counts[i] if packed.buffer_counts else 0
        counts = [held] if held else None
        yield Packed(1, view[start:end], [end - start], counts, packed.buffers[used : used + held])
        start, used = end, used + held


def join(parts: Sequence[Packed]) -> Packed:
    """Inverse of `split`, for parts that `split` made and storage returned."""
    data: list[Buffer] = []
    ends: list[int] = []
    counts: list[int] = []
    buffers: list[Buffer] = []
    end = 0
    for part in parts:
        piece = part.data if part.ends is not None else pickle.dumps(next(unpack(part)), 5)
        data.append(piece)
        end += len(piece)
        ends.append(end)
        counts.append(len(part.buffers))
        buffers += part.buffers
    return Packed(len(parts), b"".join(data), ends, counts, buffers)


def to_bytes(packed: Packed) -> bytes:
    """Return a `Packed` as one byte string, for storage."""
    views = [memoryview(packed.data).cast("B"), *(memoryview(buffer).cast("B") for buffer in packed.buffers)]
    head = pickle.dumps((packed.meta(), [view.nbytes for view in views]), 5)
    return b"".join([struct.pack("<Q", len(head)), head, *views])


def from_bytes(blob: Buffer) -> Packed:
    """Inverse of `to_bytes`; buffers are writable copies."""
    view = memoryview(blob)
    (length,) = struct.unpack_from("<Q", view)
    (count, ends, counts), sizes = pickle.loads(view[8 : 8 + length])
    offset = 8 + length
    parts: list[Buffer] = []
    for i, size in enumerate(sizes):
        part = view[offset : offset + size]
        parts.append(bytearray(part) if i else part)
        offset += size
    return Packed(count, parts[0], ends, counts, parts[1:])


EMPTY = pack([])
"""No values."""


def dumps(value: Any, definitions: Definitions | None = None) -> bytes:
    """Pickle one value in band; classes and functions that cannot be imported are defined in it, or by its call."""
    stream = io.BytesIO()
    Pickler(stream, definitions=definitions).dump(value)
    return stream.getvalue()


def content_hash(data: Buffer) -> str:
    """Return the hexadecimal SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def _digest(key: bytes, place: str, data: Buffer) -> bytes:
    digest = hmac.new(key, struct.pack("<Q", len(place)) + place.encode(), "sha256")
    digest.update(data)
    return digest.digest()


def sign(key: bytes, place: str, data: Buffer) -> bytes:
    """Return `data` behind its HMAC-SHA256 (RFC 2104) under `key`, good at one place only.

    Parameters
    ----------
    place : str
        Where it will be stored: bytes that somebody moved elsewhere do not verify there.
    """
    return _digest(key, place, data) + data


def verify(key: bytes, place: str, signed: Buffer) -> memoryview:
    """Return the data behind a signature that `sign` made for the same place.

    Raises
    ------
    IntegrityError
        The signature is not this key's, or not for this place.
    """
    view = memoryview(signed)
    data = view[_SIGNATURE:]
    if not hmac.compare_digest(bytes(view[:_SIGNATURE]), _digest(key, place, data)):
        raise IntegrityError(f"{place} was not written by this job (its signature does not match); it is not read")
    return data


def dump_exception(error: BaseException, definitions: Definitions | None = None) -> bytes | None:
    """Pickle an exception, if need be without what cannot be; None if it would not come back with type and message."""

    def reason(value: Any) -> str | None:
        try:
            dumps(value, definitions)
        except Exception as problem:
            return f"{type(problem).__name__}: {problem}"
        return None

    for form in (error, Spared(error, reason)):
        with contextlib.suppress(Exception):
            data = dumps(form, definitions)
            back = loads(data, definitions)
            if type(back) is type(error) and str(back) == str(error):
                return data
    return None
