"""Large arrays that many calls share: where a worker finds them, so that they travel once and not with every call."""

from __future__ import annotations

import mmap
import os
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

HEAD = 64
"""Bytes before the data of a shared array, for its name: an aligned cache line."""


@dataclass(frozen=True, slots=True)
class FileArray:
    """An array in a file: of a ``numpy.memmap``, or the copy that a driver on this machine shares.

    Parameters
    ----------
    path : str
    offset : int
        Where its first byte in memory is in the file.
    length : int
        Bytes from there to its last.
    start : int
        Where its first element is in them, which differs where a stride is negative.
    name : bytes
        What the file must begin with; none for files of the user.
    writes : "no", "file" or "copy"
        What becomes of what a task writes: it is refused, or reaches the file, or only this task's own copy.
    """

    path: str
    offset: int
    length: int
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    name: bytes = b""
    writes: str = "no"

    def open(self) -> np.ndarray[Any, Any]:
        """Return the array, mapped: pages that another task has touched are there already."""
        access = {"no": mmap.ACCESS_READ, "file": mmap.ACCESS_WRITE, "copy": mmap.ACCESS_COPY}[self.writes]
        page = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
        with open(self.path, "r+b" if self.writes == "file" else "rb") as file:
            if self.name and os.pread(file.fileno(), len(self.name), 0) != self.name:
                raise FileNotFoundError(f"the array in {self.path} is gone")
            mapped = mmap.mmap(file.fileno(), self.offset - page + self.length, access=access, offset=page)
        return np.ndarray(self.shape, self.dtype, mapped, self.offset - page + self.start, self.strides)


def open_array(where: FileArray) -> np.ndarray[Any, Any]:
    """Return the array that is there."""
    return where.open()


def rebuild(writable: bool, make: Callable[..., Any], args: tuple[Any, ...], state: Any = None) -> Any:
    """Return an array that came with its batch; it may be written to only where one that is shared may."""
    array = make(*args)
    if state is not None:
        array.__setstate__(state)
    array.flags.writeable = writable
    return array


class BatchRunner:
    """Runs a batch of calls, and carries arrays that many batches share to workers that have them nowhere else.

    Parameters
    ----------
    carried : dict
        Arrays by their content's hash.
    """

    def __init__(self, carried: Mapping[str, np.ndarray[Any, Any]] = MappingProxyType({})) -> None:
        self._carried = carried
        self.__qualname__ = "joblib's calls"

    def __call__(self, batch: Callable[[], Any]) -> tuple[Any, float]:
        """Run the calls; returns what they return, and the seconds that took."""
        began = time.perf_counter()
        return batch(), time.perf_counter() - began

    def __reduce__(self) -> tuple[object, ...]:
        return _runner, (dict(self._carried),)


_carried: weakref.WeakValueDictionary[str, np.ndarray[Any, Any]] = weakref.WeakValueDictionary()


def _runner(carried: dict[str, np.ndarray[Any, Any]]) -> BatchRunner:
    for array in carried.values():
        array.flags.writeable = False
    _carried.update(carried)
    return BatchRunner(carried)


def carried_array(name: str, writable: bool) -> np.ndarray[Any, Any]:
    """Return an array that came with the function: itself, or a copy to write to."""
    return _carried[name].copy() if writable else _carried[name]
