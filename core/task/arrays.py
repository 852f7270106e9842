"""Large arrays that many calls share: where a worker finds them, so that they travel once and not with every call."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core import serialization

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
    writes: Literal["no", "file", "copy"] = "no"

    def open(self) -> np.ndarray[Any, Any]:
        """Return the array, mapped: pages that another task has touched are there already."""
        access = {"no": mmap.ACCESS_READ, "file": mmap.ACCESS_WRITE, "copy": mmap.ACCESS_COPY}[self.writes]
        page = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
        with open(self.path, "r+b" if self.writes == "file" else "rb") as file:
            if self.name and os.pread(file.fileno(), len(self.name), 0) != self.name:
                raise FileNotFoundError(f"the array in {self.path} is gone")
            mapped = mmap.mmap(file.fileno(), self.offset - page + self.length, access=access, offset=page)
        return np.ndarray(self.shape, self.dtype, mapped, self.offset - page + self.start, self.strides)


@dataclass(frozen=True, slots=True)
class CarriedArray:
    """An array that travels with the function, which a worker gets once."""

    index: int


class BatchRunner:
    """Runs a batch of calls whose large arrays are elsewhere.

    Parameters
    ----------
    carried : sequence of arrays
        What `CarriedArray` means.
    """

    def __init__(self, carried: Sequence[np.ndarray[Any, Any]] = ()) -> None:
        self._carried = carried
        self.__qualname__ = "joblib's calls"

    def __call__(self, batch: bytes, arrays: Sequence[Any], writable: bool) -> tuple[Any, float]:
        """Put the arrays into the batch and call it; returns what it returns, and the seconds that took."""
        found = [self._find(array, writable) for array in arrays]
        run: Callable[[], Any] = serialization.loads_apart(batch, found)
        began = time.perf_counter()
        return run(), time.perf_counter() - began

    def _find(self, array: Any, writable: bool) -> np.ndarray[Any, Any]:
        if isinstance(array, FileArray):
            return array.open()
        found: np.ndarray[Any, Any] = self._carried[array.index] if isinstance(array, CarriedArray) else array
        if writable:
            return found if found is array else found.copy()
        found.flags.writeable = False  # the same whether an array is shared already or not
        return found

    def __reduce__(self) -> tuple[object, ...]:
        return BatchRunner, (self._carried,)
