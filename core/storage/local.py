"""Objects as files below a directory: ``file:///data``."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, TypeVar

from core.errors import AccessDenied, ConfigError, FanfoldError, InputError, StorageError, StorageUnavailable
from core.storage.base import (
    RESERVED_PREFIX,
    Chunk,
    Rest,
    check_key,
    check_range,
    count_left_out,
    exists_already,
    is_key,
    is_name,
    not_found,
    object_changed,
    pieces,
)
from core.types import ObjectInfo

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
# A directory can be removed by a racing delete between its creation and its first file; each loss needs another racer.
_ATTEMPTS = 100

T = TypeVar("T")


class LocalStorage:
    """Files below a directory, which is created by the first ``put``.

    Keys are paths below the directory with ``/`` between names. Writes are atomic: a file without name, or where a
    file system has none under a reserved one, then a hard link (of which only the first succeeds) or a rename. No
    descriptor stays open and no lock is held between calls, so an instance may be used by any thread and after fork.

    Parameters
    ----------
    address : str
        ``file:///absolute/path``, or a plain path, relative ones being resolved now.

    Raises
    ------
    ConfigError
        The address names a host or a relative path as URL.
    """

    shared = True

    def __init__(self, address: str) -> None:
        path = address.removeprefix("file://")
        if path != address and not path.startswith("/"):
            raise ConfigError(f"{address!r} is no file address; write file:///absolute/path or a plain path")
        if not is_name(path):
            raise ConfigError(f"{address!r} is no file address: no file can have such a name")
        self._root = os.path.abspath(path if path != address else os.path.expanduser(path))
        self.address = f"file://{self._root}"
        self.requests = self.bytes_in = self.bytes_out = 0
        self.left_out: dict[str, int] = {}
        self.codings: dict[str, str] = {}

    def get(self, key: str, start: int = 0, end: int | None = None, *, etag: str = "") -> bytes:
        """Return bytes ``[start, end)`` of an object."""
        check_range(start, end)
        with io.BufferedReader(self._open(key)) as file:
            try:
                size = os.fstat(file.fileno()).st_size
                file.seek(start)
                data = file.read(max(0, (size if end is None else min(end, size)) - start))
                # Tagged after reading: a write before or during the read shows in the modification time.
                changed = bool(etag) and etag != _etag(os.fstat(file.fileno()))
            except OSError as error:
                raise self._typed(error, key) from error
        if changed:
            raise object_changed(self.address, key)
        count = len(data)
        self.bytes_in += count
        return data

    def get_stream(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream over bytes ``[start, end)``; the file stays open until it is closed."""
        check_range(start, end)
        file = self._open(key)
        file.seek(start)
        left = None if end is None else max(0, end - start)
        return io.BufferedReader(Rest(self, file, left, lambda error: self._typed(error, key)))

    def put(self, key: str, data: Chunk | Iterable[Chunk], *, if_absent: bool = False) -> ObjectInfo:
        """Write an object whole or not at all."""
        path = self._path(key)
        self.requests += 1
        try:
            file, name = _create(os.path.dirname(path))
        except NotADirectoryError as error:
            raise _conflict(os.path.dirname(path)) from error
        except OSError as error:
            raise self._unwritten(error, key) from error
        try:
            with file:
                for piece in pieces(data):
                    self._write_piece(file, piece, key)
                status = os.fstat(file.fileno())
                self._publish(file, name, key, if_absent)
        finally:
            if name:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        self.bytes_out += status.st_size
        return ObjectInfo(key, status.st_size, _etag(status))

    def head(self, key: str) -> ObjectInfo:
        """Return an object's size and tag."""
        path = self._path(key)
        self.requests += 1
        try:
            status = os.stat(path)
        except OSError as error:
            raise self._typed(error, key) from error
        if not stat.S_ISREG(status.st_mode):
            raise not_found(self.address, key)
        return ObjectInfo(key, status.st_size, _etag(status))

    def list(self, prefix: str = "", start_after: str = "", *, recursive: bool = True) -> Iterator[ObjectInfo]:
        """Yield objects in key order, reading one directory at a time."""
        folder, _, name = prefix.rpartition("/")
        self.requests += 1
        if folder and not is_key(folder):
            return
        yield from self._walk(f"{folder}/" if folder else "", name, start_after, recursive, ())

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, and the directories below the root that this left empty."""
        self.requests += 1
        folders: set[str] = set()
        for key in keys:
            path = self._path(key)
            try:
                os.unlink(path)
            except OSError as error:
                if error.errno not in _MISSING and not os.path.isdir(path):
                    raise self._typed(error, key) from error
            folders.add(os.path.dirname(path))
        for folder in folders:
            self._prune(folder)

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: str) -> str:
        check_key(key)
        return self._path_of(key)

    def _path_of(self, name: str) -> str:
        return self._root.rstrip("/") + "/" + name

    def _open(self, key: str) -> io.FileIO:
        path = self._path(key)
        self.requests += 1
        try:
            # A named pipe in place of a file must not block the caller until somebody writes to it.
            file = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
        except OSError as error:
            raise self._typed(error, key) from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise not_found(self.address, key)
        return file

    def _publish(self, file: io.FileIO, name: str, key: str, if_absent: bool) -> None:
        """Give a written file, which has a temporary `name` or none, its object's name."""
        path = self._path(key)
        try:
            if name and not if_absent:
                _refuse_special(path)
                os.replace(name, path)
            else:
                _link(file, name, path, if_absent)
        except OSError as error:
            if os.path.isdir(path):
                raise _conflict(path) from error
            if isinstance(error, FileExistsError):
                raise exists_already(self.address, key) from None
            raise self._unwritten(error, key, linking=if_absent) from error

    def _write_piece(self, file: io.FileIO, piece: Chunk, key: str) -> None:
        # Apart from reading `data`: an error of the caller's iterable must not pass for one of this storage.
        view = memoryview(piece).cast("B")
        try:
            while view:
                view = view[file.write(view) :]
        except OSError as error:
            raise self._unwritten(error, key) from error

    def _walk(
        self, folder: str, name_prefix: str, start_after: str, recursive: bool, followed: tuple[str, ...]
    ) -> Iterator[ObjectInfo]:
        path = self._path_of(folder)
        try:
            with os.scandir(path) as found:
                # S3's order: a directory sorts by its name with the '/' that its keys have there.
                entries = sorted(
                    (f"{folder}{entry.name}/" if _is_folder(entry) else f"{folder}{entry.name}", entry)
                    for entry in found
                    if entry.name.startswith(name_prefix) and not self._is_half_written(entry.name)
                )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._typed(error, folder) from error
        for key, entry in entries:
            if key.endswith("/"):
                if recursive and (key > start_after or start_after.startswith(key)):
                    target = os.path.realpath(entry.path) if entry.is_symlink() else ""
                    if not target or not _is_loop(target, path, followed):
                        yield from self._walk(key, "", start_after, True, (*followed, target) if target else followed)
                    else:
                        count_left_out(self.left_out, "links to a folder that they are in")
            elif key > start_after:
                try:
                    status = entry.stat()
                except OSError as error:
                    if error.errno not in (*_MISSING, errno.ELOOP):
                        raise self._typed(error, key) from error
                    if entry.is_symlink():
                        count_left_out(self.left_out, "links to nothing")
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield ObjectInfo(key, status.st_size, _etag(status))
                else:
                    count_left_out(self.left_out, "pipes, sockets and devices")

    def _is_half_written(self, name: str) -> bool:
        if name.startswith(RESERVED_PREFIX):
            count_left_out(self.left_out, f"files half written, named {RESERVED_PREFIX}*")
        return name.startswith(RESERVED_PREFIX)

    def _prune(self, folder: str) -> None:
        while len(folder) > len(self._root):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError:
                if not _remove_orphans(folder):
                    return
                continue
            folder = os.path.dirname(folder)

    def _typed(self, error: OSError, key: str) -> FanfoldError:
        path = self._path_of(key)
        if error.errno in _MISSING:
            return not_found(self.address, key)
        if error.errno in _DENIED:
            return AccessDenied(f"cannot use {path}: {error.strerror}; check the permissions of its folder")
        if error.errno == errno.ENAMETOOLONG:
            return InputError(f"cannot use {path}: {error.strerror}; choose a shorter key")
        return StorageUnavailable(f"cannot use {path}: {error.strerror or error}; check the disk and try again")

    def _unwritten(self, error: OSError, key: str, linking: bool = False) -> FanfoldError:
        path = self._path_of(key)
        folder = os.path.dirname(path)
        if linking and error.errno in _NO_HARD_LINKS and os.access(folder, os.W_OK):
            return StorageUnavailable(
                f"cannot write {path} if absent: its file system has no hard links; use a folder on another one"
            )
        if error.errno in _FULL:
            return StorageUnavailable(f"cannot write {path}: {error.strerror}; free space or use another folder")
        if error.errno in _MISSING:
            return StorageUnavailable(f"cannot write {path}: its folder cannot be created; use another folder")
        return self._typed(error, key)


def _create(folder: str) -> tuple[io.FileIO, str]:
    """Return a new file in a folder, and its reserved name; the name is empty where a file system can do without."""

    def make() -> tuple[io.FileIO, str]:
        if hasattr(os, "O_TMPFILE"):
            try:
                # What was written is gone with its writer, whenever that is killed.
                return io.FileIO(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666), "w"), ""
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    raise
        name = _temporary(folder)
        return io.FileIO(name, "x"), name

    return _in_folder(folder, make)


def _link(file: io.FileIO, name: str, path: str, if_absent: bool) -> None:
    """Give a file a further name; one that is taken goes over to it unless it is to be absent."""
    number = file.fileno()
    source, folder = name or f"/proc/self/fd/{number}", os.path.dirname(path)

    def link(target: str) -> None:
        # Only with a descriptor of a folder, here of no meaning, does Python follow the link in /proc.
        _in_folder(folder, lambda: os.link(source, target, src_dir_fd=number, follow_symlinks=True))

    try:
        return link(path)
    except FileExistsError:
        if if_absent or os.path.isdir(path):
            raise
    _refuse_special(path)
    between = _temporary(folder)
    link(between)
    try:
        os.replace(between, path)
    except BaseException:
        os.unlink(between)
        raise


def _in_folder(folder: str, use: Callable[[], T]) -> T:
    """Do something in a folder, which is made when it is not there."""
    for _ in range(_ATTEMPTS):
        try:
            return use()
        except FileNotFoundError:
            pass
        except PermissionError as error:
            if error.errno != errno.EPERM:  # that is what ext4 says of a folder that is removed meanwhile
                raise
        with suppress(FileNotFoundError, FileExistsError):
            os.makedirs(folder, exist_ok=True)
    return use()


def _temporary(folder: str) -> str:
    return f"{folder}/{RESERVED_PREFIX}{os.uname().nodename}-{os.getpid()}-{os.urandom(6).hex()}"


def _etag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def _conflict(path: str) -> StorageError:
    return StorageError(f"cannot write {path}: a name cannot be a file and a folder at once; choose another key")


def _refuse_special(path: str) -> None:
    """Refuse to put a file in the place of what is no file, such as ``/dev/stdout``."""
    with suppress(OSError):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise StorageError(f"cannot write {path}: it is a device or a pipe, not a file; choose another place")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        return entry.is_dir()
    return False


def _is_loop(target: str, folder: str, followed: tuple[str, ...]) -> bool:
    return target in followed or f"{os.path.realpath(folder)}/".startswith(f"{target}/")


def _remove_orphans(folder: str) -> bool:
    """Remove what writers killed on this machine left half written, if nothing else is in the folder."""
    mine = f"{RESERVED_PREFIX}{os.uname().nodename}-"
    with suppress(OSError, ValueError):
        names = os.listdir(folder)
        if names and all(name.startswith(mine) and not _runs(int(name.split("-")[-2])) for name in names):
            for name in names:
                os.unlink(f"{folder}/{name}")
            return True
    return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
