"""The two files of a dataset, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core import InputError
from core.storage import NotFound, join_address, process_storage, split_address

PIECE = 8 << 20
"""Bytes of XML that are read at once."""

_ENDINGS = (".ibd", ".IBD", ".Ibd")


@dataclass(frozen=True, slots=True)
class Blob:
    """One object, as it was when the dataset was opened."""

    storage: str
    key: str
    size: int
    etag: str

    @property
    def name(self) -> str:
        """Its name without folders."""
        return self.key.rpartition("/")[2]

    @property
    def address(self) -> str:
        """Its address."""
        return join_address(self.storage, self.key)

    def get(self, start: int, end: int) -> bytes:
        """Return its bytes from `start` to `end`.

        Raises
        ------
        ObjectChanged
            It is no longer the same.
        InputError
            It has become shorter.
        """
        data = process_storage(self.storage).get(self.key, start, end, etag=self.etag)
        if len(data) != end - start:
            raise InputError(f"{self.address}: ends before byte {end:,}, where it had {self.size:,}; copy it again")
        return data

    def reader(self, told: Callable[[int], object] | None = None) -> Callable[[], bytes]:
        """Return a function that returns the next piece each time, empty at the end; `told` gets its bytes."""
        at = 0

        def read() -> bytes:
            nonlocal at
            start, at = at, min(at + PIECE, self.size)
            if told is not None:
                told(at - start)
            return self.get(start, at) if at > start else b""

        return read


def find_pair(address: str) -> tuple[Blob, Blob]:
    """Return the .imzML and the .ibd of a dataset.

    Parameters
    ----------
    address : str
        Of the .imzML; a path, or an object's URL.

    Raises
    ------
    InputError
        One of the two is not there.
    """
    storage, key = split_address(address)
    stem, dot, ending = key.rpartition(".")
    if not key or key.endswith("/"):
        raise InputError(f"{address}: a folder; give the .imzML file of a dataset")
    if dot and ending.lower() == "ibd":
        raise InputError(f"{address}: the binary file of a pair; give the .imzML file beside it")
    xml = _head(storage, key)
    if xml is None:
        raise InputError(f"{address}: there is no such file; give the .imzML file of a dataset")
    stem = stem if dot and "/" not in ending else key
    for each in _ENDINGS:
        binary = _head(storage, stem + each)
        if binary is not None:
            return xml, binary
    raise InputError(f"{address}: there is no {stem.rpartition('/')[2]}.ibd beside it; put the two files side by side")


def _head(storage: str, key: str) -> Blob | None:
    try:
        info = process_storage(storage).head(key)
    except NotFound:
        return None
    return Blob(storage, key, info.size, info.etag)
