"""Results, written all together: on a local disk that fills up none of them, and the final one last."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from core import FanfoldError
from core.storage import Storage, StorageError

Content = bytes | Iterable[bytes]


def write_results(
    storage: Storage,
    folder: Path | None,
    files: Mapping[str, Content],
    results: Sequence[str],
    staging: str,
    check: Callable[[], object],
) -> None:
    """Write files, and remove the results that are not among them.

    Parameters
    ----------
    storage : Storage
        Where they go; `folder` is the same, if it is one of this machine.
    files : mapping
        Bytes, or an iterable of bytes to be streamed, by name.
    results : sequence of str
        The names that there may be, and with a trailing ``/`` folders of names; the last one is the final file.
    staging : str
        Prefix, of this process alone, below which files of a folder are written before they are put in their places.
    check : callable
        Raises if another process drives the run by now; asked when all is staged, before anything is replaced.

    Raises
    ------
    FanfoldError
        The disk is full or the storage failed.
    """
    final = results[-1]
    below = tuple(name for name in results if name.endswith("/"))
    if strange := [name for name in files if name not in results and not name.startswith(below)]:
        raise ValueError(f"{strange[0]} is not among the results that the run was opened with")
    order = [*(name for name in files if name != final), *([final] if final in files else [])]
    try:
        staged = _staged(storage, folder, order, files, staging)
        check()
        storage.delete([final])
        for put_in_place in staged:
            put_in_place()
        earlier = [info.key for name in below for info in storage.list(name)]
        storage.delete([name for name in (*results, *earlier) if name not in files and name not in below])
    except (StorageError, OSError) as error:
        raise FanfoldError(f"the results were not written: {error}; when that is mended, resume the run") from error
    finally:
        drop_staging(folder, staging)


def _staged(
    storage: Storage, folder: Path | None, order: Sequence[str], files: Mapping[str, Content], staging: str
) -> list[Callable[[], object]]:
    """Return what puts each file in its place; those of a folder are all written beside it before."""
    if folder is None:
        return [lambda name=name: storage.put(name, files[name]) for name in order]  # type: ignore[misc]
    for name in order:
        storage.put(f"{staging}{name}", files[name])
        _flush(folder / staging / name)
    for name in order:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    return [lambda name=name: os.replace(folder / staging / name, folder / name) for name in order]  # type: ignore[misc]


def drop_staging(folder: Path | None, staging: str) -> None:
    """Remove what was written beside its place, and not put there."""
    if folder is not None:
        shutil.rmtree(folder / staging, ignore_errors=True)
        with suppress(OSError):  # others may have theirs beside it
            (folder / staging).parent.rmdir()


def staged_before(folder: Path | None, staging: str) -> list[str]:
    """Return the prefixes, below one, of what processes have written beside its place up to now."""
    found = folder / staging if folder is not None else None
    return [f"{staging}{name}/" for name in os.listdir(found)] if found is not None and found.is_dir() else []


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
