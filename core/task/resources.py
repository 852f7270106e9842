"""What is expensive to make and cheap to keep: models, mapped arrays and clients, made once in each warm worker."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, ParamSpec, TypeVar, overload

from core.errors import ConfigError
from core.trust import distrust, make_private

P = ParamSpec("P")
T = TypeVar("T")

CACHE_VARIABLE = "FANFOLD_CACHE_DIR"
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
"""Why a folder is passed over for the next."""


@dataclass(slots=True)
class _Shelf:
    """What one process holds of one resource, the latest used last."""

    held: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    lock: Any = field(default_factory=threading.RLock)


# By process, so that what a parent made (open files, connections, a locked lock) is never used or closed after a fork.
_shelves: dict[tuple[int, str], _Shelf] = {}


class WorkerResource(Generic[P, T]):
    """A function whose results are kept by the process that calls it; see `worker_resource`."""

    def __init__(self, build: Callable[P, T], keep: int, ident: str) -> None:
        self._build, self._keep, self._ident = build, keep, ident
        self.__doc__ = build.__doc__
        self.__name__ = getattr(build, "__name__", type(build).__name__)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the resource for these arguments, making it unless this process has it."""
        key = (args, tuple(sorted(kwargs.items())))
        shelf = self._shelf()
        with shelf.lock:
            if key not in shelf.held:
                shelf.held[key] = self._build(*args, **kwargs)
            shelf.held.move_to_end(key)
            dropped = [shelf.held.popitem(last=False)[1] for _ in range(len(shelf.held) - self._keep)]
            made: T = shelf.held[key]
        _close(dropped)
        return made

    def clear(self) -> None:
        """Drop and close what this process holds."""
        shelf = self._shelf()
        with shelf.lock:
            dropped = list(shelf.held.values())
            shelf.held.clear()
        _close(dropped)

    def _shelf(self) -> _Shelf:
        return _shelves.setdefault((os.getpid(), self._ident), _Shelf())

    def __reduce__(self) -> tuple[object, ...]:
        return WorkerResource, (self._build, self._keep, self._ident)


def _close(dropped: list[Any]) -> None:
    for value in dropped:
        close = getattr(value, "close", None)
        if callable(close):
            close()


@overload
def worker_resource(build: Callable[P, T]) -> WorkerResource[P, T]: ...
@overload
def worker_resource(*, keep: int = ...) -> Callable[[Callable[P, T]], WorkerResource[P, T]]: ...
def worker_resource(build: Callable[..., Any] | None = None, *, keep: int = 2) -> Any:
    """Declare an expensive resource of map functions: made on first use in each warm worker, then kept.

    ::

        @worker_resource
        def model(path):
            return load(path)

        def predict(item):
            return model("weights.bin")(item)

    Parameters
    ----------
    build : callable
        Makes the resource; its arguments must be hashable, as they tell one from another.
    keep : int
        How many a process keeps. The one unused for longest is dropped first, and closed if it has a ``close``
        method. What a process inherits by a fork is left alone and made anew.
    """
    if keep < 1 or keep != int(keep) or isinstance(keep, bool):
        raise ConfigError(f"keep must be a whole number of at least 1, not {keep!r}")

    def declare(function: Callable[..., Any]) -> WorkerResource[..., Any]:
        return WorkerResource(function, keep, os.urandom(8).hex())

    return declare if build is None else declare(build)


def shared_file(name: str, write: Callable[[BinaryIO], object]) -> Path:
    """Return a file of the user's cache, written first if it is missing.

    Processes that map it share its pages. It appears whole or not at all; if several write it, the last one wins. One
    that others could have written, or a link of theirs, is not used.

    Parameters
    ----------
    name : str
        Path below the cache folder (``FANFOLD_CACHE_DIR``, else the platform's own). It should contain a hash of
        whatever determines the content, for a file that exists is never written again.
    write : callable
        Writes the content to the open binary file it gets.

    Raises
    ------
    ConfigError
        Neither the cache folder nor the temporary folder can be written, or others can write there too.
    """
    folders = _cache_folders()
    for folder in folders:
        if os.path.isfile(folder / name) and distrust(folder / name) is None:
            return folder / name
    refused = ""
    for folder in folders:
        path = folder / name
        try:
            make_private(path.parent)
            reason = distrust(path.parent)
            if reason is None:
                return _written(path, write)
            refused = f" ({reason})"
        except OSError as error:
            if error.errno not in _UNUSABLE:
                raise
    places = " or ".join(map(str, folders))
    raise ConfigError(f"cannot write to {places}{refused}; set {CACHE_VARIABLE} to a folder that can be written")


def _cache_folders() -> list[Path]:
    from platformdirs import user_cache_path

    chosen = os.environ.get(CACHE_VARIABLE)
    return [
        Path(chosen) if chosen else user_cache_path("fanfold"),
        Path(tempfile.gettempdir()) / f"fanfold-{os.getuid()}",
    ]


def _written(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return path
