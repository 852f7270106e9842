"""The storage that functions get: keys below its own address, and any bucket beside it by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

from core.storage.address import beside
from core.storage.base import Chunk, Storage
from core.storage.clients import process_storage


class StorageHandle:
    """A `Storage` that can also be asked by bucket and key, under the names of Lithops.

    ``storage.get(key)`` and the like mean keys below the storage's own address; the methods here mean any bucket of the
    same service, reached with the same credentials. For files a bucket is a folder, absolute or below the storage's.
    """

    def __init__(self, storage: Storage) -> None:
        self._own = storage

    def __getattr__(self, name: str) -> Any:
        if name == "_own":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self._own, name)

    def get_object(self, bucket: str, key: str, stream: bool = False) -> bytes | BinaryIO:
        """Return an object's bytes, or with `stream` a binary stream over them, which the caller closes."""
        storage = self._at(bucket)
        return storage.get_stream(key) if stream else storage.get(key)

    def put_object(self, bucket: str, key: str, body: str | Chunk | Iterable[Chunk]) -> None:
        """Write an object, whole or not at all."""
        self._at(bucket).put(key, body.encode() if isinstance(body, str) else body)

    def head_object(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's size in bytes as ``content-length``, and its tag as ``etag``."""
        found = self._at(bucket).head(key)
        return {"content-length": str(found.size), "etag": found.etag}

    def list_keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys that begin with `prefix`, in order."""
        return [found.key for found in self._at(bucket).list(prefix)]

    def delete_object(self, bucket: str, key: str) -> None:
        """Delete an object; a missing one is not an error."""
        self._at(bucket).delete([key])

    def _at(self, bucket: str) -> Storage:
        return process_storage(beside(self._own.address, bucket))

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self._own.address,)


def _reopen(address: str) -> StorageHandle:
    return StorageHandle(process_storage(address))
