"""An imzML dataset that was checked: where each spectrum lies, on which pixel, and what is unusual."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.elements import Elements
from apps.metabolomics.imzml.pair import Blob
from apps.metabolomics.imzml.quirks import Quirk

TASK_BYTES = 128 << 20
"""Most bytes that the spectra of one task have, packed and unpacked."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectrumIndex:
    """Where spectra lie, in the order of the .ibd; 28 bytes a spectrum, 44 where arrays are compressed.

    Parameters
    ----------
    number : int32 array, shape (n,)
        Of each spectrum in its file, from 1.
    pixel : int32 array, shape (n,)
    length : int32 array, shape (n,)
        Peaks, before any is dropped.
    mz_offset, intensity_offset : int64 array, shape (n,)
        In bytes; 0 for an empty spectrum.
    elements : uint8 array, shape (n,)
        Index into the dataset's `elements`.
    encoded : int64 array, shape (n, 2), or None
        Bytes of both arrays, where any are compressed.
    """

    number: NDArray[np.int32]
    pixel: NDArray[np.int32]
    length: NDArray[np.int32]
    mz_offset: NDArray[np.int64]
    intensity_offset: NDArray[np.int64]
    elements: NDArray[np.uint8]
    encoded: NDArray[np.int64] | None = None

    def between(self, start: int, stop: int) -> SpectrumIndex:
        """Return the part from one spectrum to another."""
        part = slice(start, stop)
        return SpectrumIndex(
            self.number[part].copy(),
            self.pixel[part].copy(),
            self.length[part].copy(),
            self.mz_offset[part].copy(),
            self.intensity_offset[part].copy(),
            self.elements[part].copy(),
            None if self.encoded is None else self.encoded[part].copy(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A checked dataset; small enough for the memory of the driver, and with `between` for a task.

    Parameters
    ----------
    address : str
        Of the .imzML.
    xml, ibd : Blob
    width, height : int
        Of the picture, in pixels.
    x, y : int
        Position of its first pixel in the file.
    z : int or None
        Of the slice.
    pixel_size : (float, float) or None
        Width and height of a pixel in micrometres.
    polarity : str
        ``+``, ``-`` or empty where neither the file nor the user tells.
    mode : str
        ``centroid`` or ``profile``, as the data tell, or the file where they do not; empty if neither.
    picks : bool
        Whether peaks are picked from profile data when spectra are read.
    continuous : bool
        Whether all spectra share one m/z array.
    elements : tuple of Elements
    index : SpectrumIndex
    quirks : tuple of Quirk
    first : int
        Which spectrum of the whole dataset the index begins with.
    facts : dict
        What else the file says, JSON-ready, for people: spectra in the file, checksum, and so on.
    """

    address: str
    xml: Blob
    ibd: Blob
    width: int
    height: int
    x: int
    y: int
    z: int | None
    pixel_size: tuple[float, float] | None
    polarity: str
    mode: str
    picks: bool
    continuous: bool
    elements: tuple[Elements, ...]
    index: SpectrumIndex
    quirks: tuple[Quirk, ...]
    facts: dict[str, str | int]
    first: int = 0

    @property
    def n_spectra(self) -> int:
        """How many spectra there are, empty ones too."""
        return len(self.index.pixel)

    @property
    def n_peaks(self) -> int:
        """How many peaks all spectra have, before any is dropped."""
        return int(self.index.length.sum(dtype=np.int64))

    @property
    def mz_type(self) -> np.dtype[np.float32] | np.dtype[np.float64]:
        """Type of the m/z that are read: float32 where the file has no other, and no peaks are picked."""
        single = not self.picks and all(each.mz == "f4" for each in self.elements)
        return np.dtype(np.float32) if single else np.dtype(np.float64)

    @property
    def mask(self) -> NDArray[np.int32]:
        """Pixels that have a spectrum, each once, rising."""
        return np.unique(self.index.pixel)

    def between(self, start: int, stop: int) -> Dataset:
        """Return the dataset with the index of some spectra alone, which keep their numbers: what a task needs."""
        start, stop = start - self.first, stop - self.first
        return replace(self, index=self.index.between(start, stop), first=self.first + start)


def tasks(dataset: Dataset, most: int = TASK_BYTES) -> list[tuple[int, int]]:
    """Cut the spectra of a dataset into tasks.

    Parameters
    ----------
    dataset : Dataset
    most : int
        Bytes that the spectra of a task have at most, as they lie in the .ibd and as they are in memory; a spectrum
        of more is a task of its own.

    Returns
    -------
    list of (int, int)
        First spectrum of each task, and the one after its last.
    """
    return list(_cut(_bytes_each(dataset), most, dataset.first))


def _bytes_each(dataset: Dataset) -> NDArray[np.int64]:
    length = dataset.index.length.astype(np.int64)
    each = length * (dataset.mz_type.itemsize + 4)
    if dataset.index.encoded is not None:
        each = np.maximum(each, dataset.index.encoded.sum(axis=1))
    return each


def _cut(sizes: NDArray[np.int64], most: int, first: int) -> Iterator[tuple[int, int]]:
    ends = np.cumsum(sizes)
    start, done = 0, 0
    while start < len(sizes):
        stop = max(start + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield first + start, first + stop
        start, done = stop, int(ends[stop - 1])
