"""Objects of any store that fsspec knows: ``gs://``, ``az://``, ``hdfs://``, ``sftp://``, ``zip://`` ..."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

from core.errors import (
    AccessDenied,
    ConfigError,
    FanfoldError,
    InputError,
    MissingExtra,
    NotFound,
    StorageError,
    StorageUnavailable,
)
from core.storage.address import split_archive
from core.storage.base import (
    Chunk,
    Rest,
    check_key,
    check_range,
    exists_already,
    not_found,
    object_changed,
    pieces,
)
from core.storage.s3_listing import Page, walked
from core.types import MiB, ObjectInfo

IN_MEMORY = 64 * MiB
"""Streams longer than this wait in a temporary file until they are written."""

_PACKAGES = {
    "abfs": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "hdfs": "pyarrow",
    "sftp": "paramiko",
    "smb": "smbprotocol",
    "webdav": "webdav4",
}

T = TypeVar("T")


class FsspecStorage:
    """Objects of a store that fsspec opens, with the credentials that its package finds.

    How safe a put-if-absent is depends on the store: it is exact where its package creates objects exclusively, as
    those of Google and Azure do.

    Parameters
    ----------
    address : str
        ``PROTOCOL://PLACE``, or ``fsspec+PROTOCOL://PLACE`` for protocols that fanfold has a driver of its own for.
        ``zip:///PATH/NAME.zip`` is an archive on this machine, to be read only.

    Raises
    ------
    MissingExtra
        fsspec, or its package for the protocol, is not installed.
    ConfigError
        fsspec does not know the protocol, or cannot open the place.
    """

    def __init__(self, address: str) -> None:
        scheme, _, place = address.partition("://")
        if "@" in place.partition("/")[0]:
            raise ConfigError(f"a {scheme}:// address has no user name or password; see its fsspec package for others")
        self.address = address.rstrip("/")
        self._protocol = scheme.removeprefix("fsspec+")
        self.shared = self._protocol != "memory"
        self._archive = ""
        if self._protocol == "zip":
            self._archive, root = split_archive(place)
        else:
            root = self._fs._strip_protocol(f"{self._protocol}://{place}")
        self._root = f"{root.rstrip('/')}/".removeprefix("/" if self._archive else "")
        self.requests = self.bytes_in = self.bytes_out = 0
        self.left_out: dict[str, int] = {}
        self.codings: dict[str, str] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return FsspecStorage, (self.address,)

    def get(self, key: str, start: int = 0, end: int | None = None, *, etag: str = "") -> bytes:
        """Return bytes ``[start, end)`` of an object."""
        check_range(start, end)
        path = self._path(key)
        info = self._try(key, lambda: self._file(path))
        if etag and _tag(info) != etag:
            raise object_changed(self.address, key)
        stop = info["size"] if end is None else min(end, info["size"])
        data = self._try(key, lambda: self._fs.cat_file(path, start, stop)) if stop > start else b""
        # Tagged after reading: a write before or during the read shows.
        if etag and _tag(self._try(key, lambda: self._file(path))) != etag:
            raise object_changed(self.address, key)
        if len(data) != max(0, stop - start):
            raise StorageError(f"{self.address} answers with {len(data)} of {stop - start} bytes asked of {key!r}")
        self.bytes_in += len(data)
        self.requests += 1
        return bytes(data)

    def get_stream(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over bytes ``[start, end)``."""
        check_range(start, end)
        path = self._path(key)
        size = self._try(key, lambda: self._file(path))["size"]
        file = self._try(key, lambda: self._fs.open(path, "rb"))
        self.requests += 1
        file.seek(min(start, size))
        left = max(0, (size if end is None else min(end, size)) - start)
        return io.BufferedReader(Rest(self, file, left, lambda error: self._typed(error, key)))

    def put(self, key: str, data: Chunk | Iterable[Chunk], *, if_absent: bool = False) -> ObjectInfo:
        """Write an object; nothing is written before all of a stream has been read."""
        path = self._path(key)
        self._check_writable()
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as waiting:
            for piece in pieces(data):
                waiting.write(piece)
            size = waiting.tell()
            waiting.seek(0)
            self._try(key, lambda: self._write(path, waiting, if_absent))
        self.requests += 1
        self.bytes_out += size
        return ObjectInfo(key, size, _tag(self._try(key, lambda: self._file(path))))

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and tag."""
        path = self._path(key)
        self.requests += 1
        info = self._try(key, lambda: self._file(path))
        return ObjectInfo(key, info["size"], _tag(info))

    def list(self, prefix: str = "", start_after: str = "", *, recursive: bool = True) -> Iterator[ObjectInfo]:
        """Yield objects in key order, reading one folder at a time."""
        self.requests += 1
        if any(name in (".", "..") for name in prefix.split("/")[:-1]):
            return iter(())
        return walked(self._page, prefix, start_after, recursive)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, one by one."""
        self._check_writable()
        self.requests += 1
        for key in keys:
            path = self._path(key)
            with suppress(FileNotFoundError):
                self._try(key, lambda path=path: self._file(path) and self._fs.rm_file(path))  # type: ignore[misc]

    def close(self) -> None:
        """Keep the connection, which fsspec shares."""

    @property
    def _fs(self) -> Any:
        if self._archive:
            return self._open_archive()
        return _filesystem(self._protocol, os.getpid())

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}{key}"

    def _open_archive(self) -> Any:
        from zipfile import BadZipFile

        try:
            return _opened(self._archive, os.stat(self._archive).st_mtime_ns, os.getpid())
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no archive {self._archive}") from None
        except BadZipFile as error:
            raise InputError(f"{self._archive} cannot be read: {error}; pack the archive again") from None

    def _check_writable(self) -> None:
        if self._archive:
            raise AccessDenied(f"cannot write to {self.address}: archives are read only; write to another storage")

    def _file(self, path: str) -> dict[str, Any]:
        info: dict[str, Any] = self._fresh().info(path)
        if info["type"] != "file":
            raise FileNotFoundError(path)
        return info

    def _fresh(self) -> Any:
        """Return the client without what it remembers of listings; not every package takes ``refresh=True``."""
        client = self._fs
        if not self._archive:
            client.invalidate_cache()
        return client

    def _write(self, path: str, source: Any, if_absent: bool) -> None:
        with suppress(NotImplementedError):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        with self._fs.open(path, "xb" if if_absent else "wb") as file:
            while block := source.read(MiB):
                file.write(block)

    def _page(self, prefix: str, start_after: str, folders: bool, token: str | None) -> Page:
        folder = prefix.rpartition("/")[0]
        try:
            entries = self._try("", lambda: self._fresh().ls(f"{self._root}{folder}".rstrip("/"), detail=True))
        except FileNotFoundError:
            entries = []
        objects, below = [], []
        for entry in entries:
            key = entry["name"].rstrip("/")[len(self._root) :]
            if key.startswith(prefix) and key != folder:
                if entry["type"] == "directory":
                    below.append(f"{key}/")
                else:
                    objects.append(ObjectInfo(key, entry["size"], _tag(entry)))
        return Page(objects, below, None)

    def _try(self, key: str, request: Callable[[], T]) -> T:
        try:
            return request()
        except Exception as error:
            raise self._typed(error, key) from error

    def _typed(self, error: Exception, key: str) -> FanfoldError:
        if isinstance(error, FanfoldError):
            return error
        if isinstance(error, FileExistsError):
            return exists_already(self.address, key)
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            return not_found(self.address, key)
        if isinstance(error, PermissionError):
            return AccessDenied(
                f"access to {key!r} in {self.address} is denied: {error}; check the credentials of its fsspec package"
            )
        return StorageUnavailable(  # each package has exceptions of its own
            f"cannot use {key!r} in {self.address}: {type(error).__name__}: {error}; check the address or try again"
        )


@functools.lru_cache(maxsize=16)
def _filesystem(protocol: str, process: int) -> Any:
    """Return a process's client of a protocol; one inherited through fork is never used."""
    try:
        import fsspec

        return fsspec.filesystem(protocol, skip_instance_cache=True)
    except ImportError as error:
        package = _PACKAGES.get(protocol, "")
        needed = f"needs {package}" if package else f"needs a package ({error})"
        raise MissingExtra(
            f"{protocol}:// {needed}: pip install 'fanfold[fsspec]' {package or 'and that package'}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"fsspec cannot open {protocol}://: {error}") from None


@functools.lru_cache(maxsize=16)
def _opened(archive: str, written: int, process: int) -> Any:
    """Return an archive as it was when written at that time."""
    from fsspec.implementations.zip import ZipFileSystem

    return ZipFileSystem(archive, skip_instance_cache=True)


def _tag(info: dict[str, Any]) -> str:
    """Return what changes with an object's content, as far as its store tells."""
    if "CRC" in info:  # of an archive's member
        return f"{info['CRC']:08x}-{info['size']}"
    for name in ("etag", "ETag", "md5Hash", "content_md5"):
        if info.get(name):
            return str(info[name]).strip('"')
    told = [info.get(name) for name in ("mtime", "modified", "last_modified", "created", "ino", "size")]
    return "-".join(str(value) for value in told if value is not None)
