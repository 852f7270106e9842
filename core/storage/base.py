"""The storage protocol, and the registry that opens a storage by its address."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, BinaryIO, Protocol, runtime_checkable

from core.errors import ConfigError, InputError, NotFound, ObjectChanged, PreconditionFailed
from core.types import ObjectInfo

Chunk = bytes | bytearray | memoryview

RESERVED_PREFIX = ".fanfold-tmp-"
"""File names with this beginning are objects half written; no key may contain such a segment."""


CODINGS = (
    "aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip", "x-compress", "x-gzip",
    "zstd",
)  # fmt: skip
"""Content encodings. Source: IANA's HTTP Content Coding Registry."""


@runtime_checkable
class Storage(Protocol):
    """Objects by key below one address. Every method may be called from several threads.

    Failures are typed: ``NotFound``, ``AccessDenied``, ``PreconditionFailed``, ``StorageUnavailable``; a key that no
    storage could hold is an ``InputError``.

    Attributes
    ----------
    address : str
        Canonical address; ``open_storage(address)`` in another process reaches the same objects if `shared`.
    shared : bool
        Whether other processes see the same objects.
    requests, bytes_in, bytes_out : int
        What this object has asked of the storage so far, for statistics and the bill.
    left_out : dict
        How many things were not listed so far, by what they are.
    codings : dict
        Content encodings of objects read so far that their first bytes do not tell, by key; see `sealed_coding`.
    """

    address: str
    shared: bool
    requests: int
    bytes_in: int
    bytes_out: int
    left_out: dict[str, int]
    codings: dict[str, str]

    def get(self, key: str, start: int = 0, end: int | None = None, *, etag: str = "") -> bytes:
        """Return bytes ``[start, end)``, cut at the object's end; ``ObjectChanged`` if it no longer has tag `etag`."""

    def get_stream(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a readable binary stream over bytes ``[start, end)``; the caller closes it."""

    def put(self, key: str, data: Chunk | Iterable[Chunk], *, if_absent: bool = False) -> ObjectInfo:
        """Write an object whole or not at all; with `if_absent`, raise ``PreconditionFailed`` if it exists."""

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and tag."""

    def list(self, prefix: str = "", start_after: str = "", *, recursive: bool = True) -> Iterator[ObjectInfo]:
        """Yield objects whose key begins with `prefix` and sorts after `start_after`, in key order, lazily.

        Without `recursive`, only those with no further ``/`` after `prefix`.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a missing one is not an error."""

    def close(self) -> None:
        """Release connections."""


_FSSPEC = "core.storage.fsspec:FsspecStorage"
_DRIVERS = {
    **dict.fromkeys(("abfs", "az", "ftp", "gcs", "gs", "hdfs", "sftp", "smb", "webdav", "zip"), _FSSPEC),
    "cos": "core.storage.s3:S3Storage",
    "file": "core.storage.local:LocalStorage",
    "http": "core.storage.http:HttpStorage",
    "https": "core.storage.http:HttpStorage",
    "memory": "core.storage.memory:MemoryStorage",
    "s3": "core.storage.s3:S3Storage",
}


def storage_names() -> list[str]:
    """Return the schemes of all known storages."""
    return sorted(_DRIVERS)


def open_storage(address: str) -> Storage:
    """Open the storage at an address such as ``file:///data`` or ``memory://name``.

    A plain path means ``file://``. The driver is imported on first use.

    Raises
    ------
    ConfigError
        The scheme is unknown or the address malformed.
    """
    scheme, separator, _ = address.partition("://")
    if not separator:
        scheme = "file"
    driver = _FSSPEC if scheme.startswith("fsspec+") else _DRIVERS.get(scheme)
    if driver is None:
        known = ", ".join(f"{name}://" for name in [*sorted(_DRIVERS), "fsspec+PROTOCOL"])
        raise ConfigError(f"no storage driver for {scheme}:// (in {address!r}); known: {known}")
    module, _, name = driver.partition(":")
    storage: Storage = getattr(import_module(module), name)(address)
    return storage


def is_key(key: str) -> bool:
    """Whether `key` is a plain path below a storage's address."""
    names = key.split("/")
    plain = not any(name in ("", ".", "..") or name.startswith(RESERVED_PREFIX) for name in names)
    return plain and is_name(key)


def is_name(text: str) -> bool:
    """Whether a file's path can be this text."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def check_key(key: str) -> None:
    """Refuse, as ``InputError``, a new key that is not a plain path below the storage's address."""
    if not is_key(key):
        raise InputError(
            f"{key!r} cannot be an object's key: use names separated by single '/', without '.', '..', a leading or "
            f"trailing '/', and not beginning with {RESERVED_PREFIX!r}"
        )


def check_given(key: str) -> None:
    """Refuse a key that no object store has given to anything, as ``InputError``."""
    try:
        if key.encode():
            return
    except UnicodeEncodeError:
        pass
    raise InputError(f"{key!r} cannot be an object's key, which is a text of at least one character; correct it")


def count_left_out(counts: dict[str, int], what: str) -> None:
    """Count something that is not listed, for whoever listed to be told."""
    counts[what] = counts.get(what, 0) + 1


def sealed_coding(told: str) -> str:
    """Return a Content-Encoding as its header tells it, empty if objects so encoded are as they seem.

    Those of one layer of gzip or zstd are: the first bytes tell it. What is no coding at all, such as ``utf-8`` or
    ``aws-chunked``, which writers leave there by mistake, says nothing of the content.
    """
    layers = [name for each in told.split(",") if (name := each.strip().lower()) in CODINGS]
    return told.strip() if layers and layers not in ([each] for each in ("gzip", "x-gzip", "zstd")) else ""


def check_range(start: int, end: int | None) -> None:
    """Refuse a negative byte position, which some services would count from the object's end."""
    if start < 0 or (end is not None and end < 0):
        raise ValueError(f"byte range [{start}, {end}) has a negative position")


def check_content_range(header: str, start: int, end: int | None) -> int:
    """Return the length of an answer to a request for bytes ``[start, end)``.

    Raises
    ------
    ValueError
        It is the answer to another request; says so for people.
    """
    found = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", header.strip(), re.ASCII)
    if found is not None:
        first, last = int(found[1]), int(found[2])
        total = -1 if found[3] == "*" else int(found[3])
        stop = total if end is None or 0 <= total < end else end
        if first == start and (last + 1 == stop or (total < 0 and end is not None and start <= last < end)):
            return last + 1 - start
    asked = f"bytes {start}-{'' if end is None else end - 1}"
    raise ValueError(f"asked for {asked}, it answers with {header or 'bytes it does not name'!r}")


class Rest(io.RawIOBase):
    """What is left of an open file, or at most `left` bytes of it; they are counted, and failures typed."""

    def __init__(self, storage: Storage, file: Any, left: int | None, typed: Callable[[Any], Exception]) -> None:
        self._storage, self._file, self._left, self._typed = storage, file, left, typed

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read up to ``len(buffer)`` bytes."""
        view = memoryview(buffer)[: self._left]
        try:
            count: int = self._file.readinto(view) if view else 0
        except Exception as error:  # those of fsspec's packages are of many kinds
            raise self._typed(error) from error
        if self._left is not None:
            self._left -= count
        self._storage.bytes_in += count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def not_found(address: str, key: str) -> NotFound:
    """Return the error for an object that is not there."""
    return NotFound(f"there is no object {key!r} in {address}")


def exists_already(address: str, key: str) -> PreconditionFailed:
    """Return the error of a put-if-absent that came second."""
    return PreconditionFailed(f"object {key!r} in {address} exists already")


def object_changed(address: str, key: str) -> ObjectChanged:
    """Return the error for an object whose content is no longer what the job was planned on."""
    return ObjectChanged(f"object {key!r} in {address} changed while the job was reading it; run the job again")


def pieces(data: Chunk | Iterable[Chunk]) -> Iterable[Chunk]:
    """Return what ``put`` was given as an iterable of bytes-likes."""
    return (data,) if isinstance(data, bytes | bytearray | memoryview) else data
