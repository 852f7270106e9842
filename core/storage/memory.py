"""Objects in the memory of this process: ``memory://name``, for trials, tests and the serial backend."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from core.errors import ConfigError
from core.storage.base import Chunk, check_key, check_range, exists_already, not_found, object_changed, pieces
from core.types import ObjectInfo

_Stored = tuple[bytes, str]

# One name means one store everywhere in a process, as one bucket does everywhere in the world.
_stores: dict[str, dict[str, _Stored]] = {}
_versions = itertools.count(1)


class MemoryStorage:
    """Objects held in this process under a name; gone when the process ends, unseen by others.

    Each operation on the store is one atomic operation on a dictionary, so there is no lock that a fork could
    leave locked.

    Parameters
    ----------
    address : str
        ``memory://name`` or ``memory://name/prefix``.

    Raises
    ------
    ConfigError
        The address has no name.
    """

    shared = False

    def __init__(self, address: str) -> None:
        name, _, prefix = address.removeprefix("memory://").strip("/").partition("/")
        if not name:
            raise ConfigError(f"{address!r} names no memory storage; write memory://NAME")
        self._prefix = f"{prefix}/" if prefix else ""
        self.address = f"memory://{name}/{prefix}".rstrip("/")
        self._objects = _stores.setdefault(name, {})
        self.requests = self.bytes_in = self.bytes_out = 0
        self.left_out: dict[str, int] = {}
        self.codings: dict[str, str] = {}

    def get(self, key: str, start: int = 0, end: int | None = None, *, etag: str = "") -> bytes:
        """Return bytes ``[start, end)`` of an object."""
        check_range(start, end)
        content, tag = self._find(key)
        if etag and etag != tag:
            raise object_changed(self.address, key)
        data = content[start:end]
        size = len(data)
        self.bytes_in += size
        return data

    def get_stream(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over bytes ``[start, end)``."""
        return io.BytesIO(self.get(key, start, end))

    def put(self, key: str, data: Chunk | Iterable[Chunk], *, if_absent: bool = False) -> ObjectInfo:
        """Write an object whole or not at all."""
        check_key(key)
        stored = (b"".join(pieces(data)), f"{next(_versions):x}")
        self.requests += 1
        if not if_absent:
            self._objects[self._prefix + key] = stored
        elif self._objects.setdefault(self._prefix + key, stored) is not stored:
            raise exists_already(self.address, key)
        size = len(stored[0])
        self.bytes_out += size
        return ObjectInfo(key, size, stored[1])

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and tag."""
        content, etag = self._find(key)
        return ObjectInfo(key, len(content), etag)

    def list(self, prefix: str = "", start_after: str = "", *, recursive: bool = True) -> Iterator[ObjectInfo]:
        """Yield the objects there are when iteration starts, less those deleted before their turn."""
        self.requests += 1
        begin, after, skip = self._prefix + prefix, self._prefix + start_after, len(self._prefix)
        for full in sorted(key for key in tuple(self._objects) if key.startswith(begin) and key > after):
            if not recursive and "/" in full[len(begin) :]:
                continue
            stored = self._objects.get(full)
            if stored is not None:
                yield ObjectInfo(full[skip:], len(stored[0]), stored[1])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a missing one is not an error."""
        self.requests += 1
        for key in keys:
            self._objects.pop(self._prefix + key, None)

    def close(self) -> None:
        """Keep the objects: they belong to the name, not to this handle."""

    def _find(self, key: str) -> _Stored:
        self.requests += 1
        stored = self._objects.get(self._prefix + key)
        if stored is None:
            raise not_found(self.address, key)
        return stored
