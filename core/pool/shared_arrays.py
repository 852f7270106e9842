"""How large arrays of many calls get to workers: once, and not with every call."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import operator
import os
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core import serialization
from core.task.arrays import HEAD, FileArray, carried_array, open_array, rebuild

Array = np.ndarray[Any, Any]

ARRAYS = (np.ndarray, np.memmap)
"""Types that `SharedArrays.reduce` pickles."""


class SharedArrays:
    """Decides how each large array travels.

    On this machine as a mapping of a copy in shared memory; elsewhere with the function from its second batch on.

    Parameters
    ----------
    local : bool
        The workers see the files and descriptors of this process.
    largest : int, optional
        Bytes from which an array is large; None means that none is.
    writable : bool
        Tasks may write to their own copies of arrays.
    """

    def __init__(self, local: bool, largest: int | None, writable: bool) -> None:
        self._local, self._largest, self._writable = local, largest, writable
        self._seen: dict[int, _Known] = {}
        self.carried: dict[str, Array] = {}

    def start_call(self) -> None:
        """Trust no copy any more: between two calls arrays may have been written to.

        Within one they cannot, to any effect that joblib promises: it reads calls ahead of sending them.
        """
        for known in list(self._seen.values()):
            known.is_current = False
        self.carried.clear()

    def clear(self) -> None:
        """Let go of every copy that no batch under way needs."""
        self._seen.clear()
        self.carried.clear()

    def reduce(self, carried: Mapping[str, Array], held: list[object], value: Array) -> Any:
        """Return what an array of a batch is pickled as.

        Parameters
        ----------
        carried : mapping
            What travels with the function of this batch.
        held : list
            Takes what must live until the batch has ended.
        """
        root = _mapped_file(value) if self._local and value.size else None
        if root is not None:
            return open_array, (_in_file(value, root),)
        is_large = self._largest is not None and value.nbytes >= self._largest and not value.dtype.hasobject
        if type(value) is np.memmap or not is_large:
            return value.__reduce_ex__(5)
        known = self._known(value)
        if known.copy is not None:
            held.append(known.copy)
            return open_array, (known.copy.where(self._writable),)
        if known.name in carried:
            return carried_array, (known.name, self._writable)
        if known.sent:
            self.carried[known.name] = value
        known.sent = True
        return rebuild, (self._writable, *value.__reduce_ex__(5)[:3])

    def _known(self, array: Array) -> _Known:
        ident = id(array)
        known = self._seen.get(ident)
        if known is None or known.reference() is not array:
            known = self._seen[ident] = _Known(weakref.ref(array, lambda _: self._seen.pop(ident, None)))
        if not known.is_current and self._local and not (known.copy is not None and known.copy.equals(array)):
            known.copy = _Copy(array)
        if not known.is_current and not self._local:
            known.name = serialization.content_hash(_in_order(array).data.cast("B"))
        known.is_current = True
        return known


@dataclass(slots=True, eq=False)
class _Known:
    """A large array that was seen: its copy here, or what it is called elsewhere, as of the current call."""

    reference: weakref.ref[Any]
    copy: _Copy | None = None
    name: str = ""
    is_current: bool = False
    sent: bool = False


class _Copy:
    """A copy of an array in shared memory, which lives as long as this object."""

    def __init__(self, array: Array) -> None:
        flat = _in_order(array)
        self._name = os.urandom(16)
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("fanfold-array", os.MFD_CLOEXEC)
            self._path = f"/proc/{os.getpid()}/fd/{descriptor}"
            weakref.finalize(self, os.close, descriptor)
        else:
            descriptor, self._path = tempfile.mkstemp(prefix="fanfold-array-")
            weakref.finalize(self, _remove, descriptor, self._path)
        self._descriptor = descriptor
        # Written, not mapped: a mapping's pages would be made one fault at a time.
        _write(descriptor, self._name.ljust(HEAD, b"\0"), 0)
        _write(descriptor, flat.reshape(-1).view(np.uint8).data, HEAD)
        self._dtype, self._nbytes = flat.dtype, flat.nbytes
        self._shape, self._strides = array.shape, _strides(array)

    def equals(self, array: Array) -> bool:
        """Whether an array has the same shape, and the same bytes."""
        flat = _in_order(array)
        if (array.shape, _strides(array), array.dtype) != (self._shape, self._strides, self._dtype):
            return False
        mapped = mmap.mmap(self._descriptor, HEAD + self._nbytes, prot=mmap.PROT_READ)
        kept: Array = np.frombuffer(mapped, np.uint8, offset=HEAD)
        return not _memcmp(flat.ctypes.data, kept.ctypes.data, self._nbytes)

    def where(self, writable: bool) -> FileArray:
        """Return what a worker opens."""
        writes = "copy" if writable else "no"
        return FileArray(self._path, HEAD, self._nbytes, 0, self._dtype, self._shape, self._strides, self._name, writes)


_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def _write(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _remove(descriptor: int, path: str) -> None:
    os.close(descriptor)
    os.unlink(path)


def _in_order(array: Array) -> Array:
    """Return an array's elements in the order of a copy, without copying where they are contiguous."""
    return array.T if array.flags.f_contiguous else np.ascontiguousarray(array)


def _strides(array: Array) -> tuple[int, ...]:
    """Return the strides of a contiguous copy: those of the array itself where it is contiguous."""
    if array.flags.forc:
        return array.strides
    steps = itertools.accumulate(reversed(array.shape[1:]), operator.mul, initial=array.itemsize)
    return tuple(steps)[::-1]


def _mapped_file(array: Array) -> np.memmap[Any, Any] | None:
    """Return the mapping of a file that an array is a view of, if another process sees the same bytes there."""
    root: Any = array
    while isinstance(root, np.ndarray):
        base: Any = root.base
        if isinstance(root, np.memmap) and isinstance(base, mmap.mmap):
            return root if root.filename is not None and root.mode in ("r", "r+", "w+") else None
        root = base
    return None


def _in_file(array: Array, root: np.memmap[Any, Any]) -> FileArray:
    reach = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    before = -sum(min(0, step) for step in reach)
    length = before + sum(max(0, step) for step in reach) + array.itemsize
    offset = root.offset + array.ctypes.data - root.ctypes.data - before
    path = os.path.abspath(str(root.filename))
    writes = "no" if root.mode == "r" else "file"
    return FileArray(path, offset, length, before, array.dtype, array.shape, array.strides, b"", writes)
