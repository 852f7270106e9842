"""From bytes of the .ibd to peaks: one request for each run of bytes that some spectra have."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.dataset import Dataset
from apps.metabolomics.imzml.profile import pick_peaks
from core import InputError

LONGEST_READ = 128 << 20
GAP = 64 << 10
"""Bytes that are read needlessly rather than asked around."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectra:
    """Peaks of some spectra, one spectrum after the other.

    Parameters
    ----------
    mz : float32 or float64 array, shape (n,)
        Finite and above zero.
    intensity : float32 array, shape (n,)
        Finite and above zero.
    pixel : int32 array, shape (n,)
    not_finite : int
        Peaks dropped for an m/z or intensity that is NaN or infinite.
    not_positive : int
        Peaks dropped for an m/z or intensity of zero or below.
    unsorted : int
        Spectra whose m/z do not rise.
    """

    mz: NDArray[np.float32] | NDArray[np.float64]
    intensity: NDArray[np.float32]
    pixel: NDArray[np.int32]
    not_finite: int
    not_positive: int
    unsorted: int


def read_spectra(dataset: Dataset, start: int, stop: int) -> Spectra:
    """Read the spectra from number `start` of a dataset to the one before `stop`.

    Parameters
    ----------
    dataset : Dataset
    start, stop : int
        As `tasks` returns them.

    Raises
    ------
    InputError
        The .ibd changed, a compressed array is damaged or has another length than it says, or an intensity is beyond
        the range of 32 bits.
    """
    mz_arrays, intensity_arrays = read_arrays(dataset, start, stop)
    index, first = dataset.index, dataset.first
    pixels = index.pixel[start - first : stop - first]
    damaged = fallen = 0
    if dataset.picks:
        mz_arrays, intensity_arrays, damaged, fallen = _picked(mz_arrays, intensity_arrays)
    lengths = np.fromiter(map(len, mz_arrays), np.int64, len(mz_arrays))
    if not lengths.sum():
        nothing = np.empty(0, np.float32)
        return Spectra(np.empty(0, dataset.mz_type), nothing, np.empty(0, np.int32), damaged, 0, fallen)
    mz = _joined(mz_arrays)
    joined = _joined(intensity_arrays)
    pixel = np.repeat(pixels, lengths)
    finite = np.isfinite(mz) & np.isfinite(joined)
    intensity = _single(dataset, joined, finite, pixel)
    positive = (mz > 0) & (intensity > 0)
    unsorted = fallen or _count_unsorted(mz, lengths)
    mz = mz.astype(dataset.mz_type, copy=False)
    kept = finite & positive
    count = int(np.count_nonzero(kept))
    dropped = len(mz) - int(np.count_nonzero(finite))
    if count < len(mz):
        not_positive = len(mz) - dropped - count
        return Spectra(mz[kept], intensity[kept], pixel[kept], damaged + dropped, not_positive, unsorted)
    return Spectra(mz, intensity, pixel, damaged, 0, unsorted)


def read_arrays(dataset: Dataset, start: int, stop: int) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Return the m/z and the intensity array of each spectrum as they are stored, unpacked.

    Parameters
    ----------
    dataset : Dataset
    start, stop : int

    Raises
    ------
    InputError
        As `read_spectra`.
    """
    index = dataset.index
    rows = np.arange(start - dataset.first, stop - dataset.first)
    if len(rows) and not 0 <= rows[0] <= rows[-1] < len(index.pixel):
        raise ValueError(f"spectra [{start}, {stop}) are not in this part of the dataset")
    offsets = np.stack([index.mz_offset[rows], index.intensity_offset[rows]], axis=1)
    sizes = array_bytes(dataset)[rows]
    lengths = index.length[rows].tolist()
    kinds = index.elements[rows].tolist()
    runs = _Runs(dataset, offsets[sizes > 0], sizes[sizes > 0])
    shared: dict[tuple[int, int], NDArray[Any]] = {}
    mz_arrays: list[NDArray[Any]] = []
    intensity_arrays: list[NDArray[Any]] = []
    places, byte_counts, numbers = offsets.tolist(), sizes.tolist(), index.number[rows].tolist()
    for row, length in enumerate(lengths):
        elements = dataset.elements[kinds[row]]
        if not length:
            mz_arrays.append(np.empty(0, elements.mz))
            intensity_arrays.append(np.empty(0, elements.intensity))
            continue
        (mz_at, intensity_at), (mz_bytes, intensity_bytes) = places[row], byte_counts[row]
        key = mz_at, kinds[row]
        mz = shared.get(key)
        if mz is None:
            data = runs.get(mz_at, mz_bytes)
            mz = _decoded(dataset, numbers[row], "m/z", data, elements.mz, length, elements.mz_zlib)
            shared[key] = mz
        data = runs.get(intensity_at, intensity_bytes)
        mz_arrays.append(mz)
        intensity_arrays.append(
            _decoded(dataset, numbers[row], "intensity", data, elements.intensity, length, elements.intensity_zlib)
        )
    return mz_arrays, intensity_arrays


def array_bytes(dataset: Dataset) -> NDArray[np.int64]:
    """Return how many bytes of the .ibd each m/z and intensity array has, shape (n, 2)."""
    if dataset.index.encoded is not None:
        return dataset.index.encoded
    widths = np.array([[int(each.mz[1]), int(each.intensity[1])] for each in dataset.elements], np.int64)
    return widths[dataset.index.elements] * dataset.index.length[:, None].astype(np.int64)


class _Runs:
    """The bytes of some arrays, read in as few requests as there are runs of them."""

    def __init__(self, dataset: Dataset, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        order = np.argsort(offsets, kind="stable")
        starts, ends = offsets[order], np.maximum.accumulate(offsets[order] + sizes[order])
        gaps = np.flatnonzero(starts[1:] > ends[:-1] + GAP) + 1
        self.starts: list[int] = []
        self.data: list[bytes] = []
        for first, last in zip([0, *gaps.tolist()], [*gaps.tolist(), len(starts)], strict=True):
            while first < last:
                begin = int(starts[first])
                stop = int(np.searchsorted(ends[first:last], begin + LONGEST_READ, side="right")) + first
                stop = max(stop, first + 1)
                self.starts.append(begin)
                self.data.append(dataset.ibd.get(begin, int(ends[stop - 1])))
                first = stop
        self._latest = 0

    def get(self, start: int, size: int) -> memoryview:
        """Return the bytes of one array."""
        run = self._latest
        if not self.starts[run] <= start < self.starts[run] + len(self.data[run]):
            run = self._latest = int(np.searchsorted(self.starts, start, side="right")) - 1
        at = start - self.starts[run]
        return memoryview(self.data[run])[at : at + size]


def _decoded(
    dataset: Dataset, number: int, what: str, data: memoryview, element: str, length: int, packed: bool
) -> NDArray[Any]:
    if packed:
        data = memoryview(
            unpack(data, length * int(element[1]), f"{dataset.ibd.name}: the {what} array of spectrum {number:,}")
        )
    return np.frombuffer(data, np.dtype(f"<{element}"), length)


def unpack(data: bytes | memoryview, size: int, where: str) -> bytes:
    """Return what was packed by zlib, of which no more than `size` bytes are ever in memory.

    Raises
    ------
    InputError
        It is damaged, or is not of `size` bytes.
    """
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise InputError(f"{where} cannot be unpacked ({error}); copy or export the file again") from None
    if len(unpacked) != size or not stream.eof:
        more = "more than " if len(unpacked) > size else ""
        found = "is cut off" if len(unpacked) == size else f"has {more}{min(len(unpacked), size):,} bytes, unpacked"
        raise InputError(f"{where} {found}, but {size:,} are meant; export the file again")
    return unpacked


def unpacked_size(data: bytes, most: int, where: str) -> int:
    """Return how many bytes a packed array has, unpacked; one more than `most` if there are more.

    Raises
    ------
    InputError
        It is damaged.
    """
    try:
        return len(zlib.decompressobj().decompress(data, most + 1))
    except zlib.error as error:
        raise InputError(f"{where} cannot be unpacked ({error}); copy or export the file again") from None


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    single = all(each.dtype == np.float32 for each in arrays)
    joined: NDArray[Any] = np.concatenate(arrays, dtype=np.float32 if single else np.float64, casting="unsafe")
    return joined


def _single(
    dataset: Dataset, intensity: NDArray[Any], finite: NDArray[np.bool_], pixel: NDArray[np.int32]
) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        single: NDArray[np.float32] = intensity.astype(np.float32, copy=False)
    beyond = finite & ~np.isfinite(single)
    if beyond.any():
        at = int(np.argmax(beyond))
        y, x = divmod(int(pixel[at]), dataset.width)
        raise InputError(
            f"{dataset.ibd.name}: an intensity of {float(intensity[at]):.3g} at position ({x + dataset.x}, "
            f"{y + dataset.y}) is beyond the range of 32-bit numbers; scale the intensities"
        )
    return single


def _count_unsorted(mz: NDArray[Any], lengths: NDArray[np.int64]) -> int:
    falls = np.flatnonzero(mz[1:] < mz[:-1])
    ends = np.cumsum(lengths)
    falls = falls[~np.isin(falls + 1, ends)]
    return len(np.unique(np.searchsorted(ends, falls, side="right")))


def _picked(
    mz_arrays: list[NDArray[Any]], intensity_arrays: list[NDArray[Any]]
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], int, int]:
    """Pick the peaks of each spectrum; returns also how many points and spectra were not finite, not sorted."""
    centres: list[NDArray[Any]] = []
    heights: list[NDArray[Any]] = []
    damaged = fallen = 0
    for mz, intensity in zip(mz_arrays, intensity_arrays, strict=True):
        finite = np.isfinite(mz) & np.isfinite(intensity)
        x, y = mz[finite].astype(np.float64), intensity[finite].astype(np.float64)
        damaged += len(mz) - len(x)
        if (np.diff(x) < 0).any():
            fallen += 1
            order = np.argsort(x, kind="stable")
            x, y = x[order], y[order]
        picked = pick_peaks(x, y)
        centres.append(picked[0])
        heights.append(picked[1])
    return centres, heights, damaged, fallen
