"""Pixels of rasters in any storage: read by ranges of an object that must not change meanwhile."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame.stored import Stored
from apps.satellite.records import Asset
from apps.satellite.science.reflectance import SATURATED
from core.storage import process_storage

HEADER = 64 << 10
"""Bytes that are read at a time of a header; that of a cloud-optimized GeoTIFF fits."""
GAP = 32 << 10
"""Bytes between two tiles that are read along rather than in a request of their own."""
GDAL_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": 64 << 20, "GDAL_NUM_THREADS": "1"}
"""Bytes, not megabytes, through this interface; a smaller cache has every tile decoded again for each row."""
DEFLATE, ADOBE_DEFLATE, ZSTD, UNCOMPRESSED = 32946, 8, 50000, 1
"""Compressions of tiles that are decoded without GDAL (TIFF 6.0, its technical notes, and GDAL's for zstd)."""
HEADERS_KEPT = 64
"""Headers that a worker remembers; a cell has a few dozen sources, and its neighbour the same."""


class PinnedFile(io.RawIOBase):
    """An object of a storage as a seekable file; reading fails once the object is another.

    Parameters
    ----------
    source : Stored
    faults : list of Exception, optional
        Where errors go instead of being raised; the file ends there. For readers that would lose them.
    """

    def __init__(self, source: Stored, faults: list[Exception] | None = None) -> None:
        self._source, self._at, self._faults = source, 0, faults

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read up to ``len(buffer)`` bytes."""
        try:
            data = read_range(self._source, self._at, min(self._at + len(buffer), self._source.size))
        except Exception as error:
            if self._faults is None:
                raise
            self._faults.append(error)
            return 0
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def read_range(source: Stored, start: int, end: int) -> bytes:
    """Return a range of bytes of an object, which must still have its tag."""
    if end <= start:
        return b""
    if source.data is not None:
        return source.data[start:end]
    tag = "" if source.is_output else source.tag
    return process_storage(source.address).get(source.key, start, end, etag=tag)


def opened(source: Stored, buffer: int = HEADER, faults: list[Exception] | None = None) -> io.BufferedReader:
    """Return an object as a file of which so many bytes are read at a time; see `PinnedFile`."""
    return io.BufferedReader(PinnedFile(source, faults), buffer)


@contextmanager
def gdal(source: Stored, buffer: int = HEADER) -> Iterator[Any]:
    """Open a raster with GDAL, through the storage's own client; so many bytes are read at a time.

    Raises
    ------
    rasterio.errors.RasterioIOError
        It is no raster that GDAL reads.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.session import DummySession

    name = f"/{source.key.rpartition('/')[2]}"
    faults: list[Exception] = []

    def open_file(path: str, mode: str = "rb") -> io.BufferedReader:
        if path.rpartition("/")[2] != name[1:]:
            raise FileNotFoundError(path)  # files beside it, which GDAL would ask for
        return opened(source, buffer, faults)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            # A file given to `open` itself would be read as a whole; an opener is asked for ranges.
            # Storage has the credentials: a session for GDAL's own takes ten times as long to make as a file to open.
            environment = rasterio.Env(session=DummySession(), **GDAL_OPTIONS)
            with environment, rasterio.open(name, opener=open_file) as dataset:
                yield dataset
    finally:
        if faults:
            raise faults[0]  # GDAL passes on none of its own accord, and goes without what it need not have


def read_window(asset: Asset, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.generic]:
    """Return the pixels of a part of a band.

    Parameters
    ----------
    rows, columns : tuple of int
        First, and one after the last; within the raster.

    Raises
    ------
    Exception
        The object has changed, is damaged, or cannot be reached.
    """
    if asset.fast:
        return tiles(asset.source).read(asset.index, rows, columns)
    from rasterio.windows import Window

    with gdal(asset.source) as dataset:
        window = Window.from_slices(rows, columns)
        found: NDArray[np.generic] = dataset.read(asset.index, window=window)
        return found if not asset.masked else _masked(found, dataset, asset.index, window)


def has_mask(dataset: Any) -> bool:
    """Whether a mask within a file, or a band of transparency, says where it has no data."""
    from rasterio.enums import ColorInterp, MaskFlags

    return ColorInterp.alpha in dataset.colorinterp or MaskFlags.per_dataset in dataset.mask_flag_enums[0]


def _masked(found: NDArray[np.generic], dataset: Any, index: int, window: Any) -> NDArray[np.generic]:
    """Return numbers as floats that have them exactly, NaN where the file's mask is 0, or they mean saturation."""
    from rasterio.enums import ColorInterp

    colours = dataset.colorinterp
    if ColorInterp.alpha in colours:
        shown = dataset.read(colours.index(ColorInterp.alpha) + 1, window=window)
    else:
        shown = dataset.read_masks(index, window=window)
    hidden = (shown == 0) | (found == SATURATED if found.dtype == np.uint16 else False)
    numbers = found.astype(np.float32 if found.dtype.itemsize <= 2 else np.float64)
    numbers[hidden] = np.nan
    return numbers


def read_parts(
    asset: Asset, rows: tuple[int, int], columns: tuple[int, int], wanted: NDArray[np.bool_] | None = None
) -> Iterator[tuple[int, int, NDArray[np.generic]]]:
    """Yield a part of a band in pieces as they are decoded, so that little is held beside what is made of them.

    Parameters
    ----------
    rows, columns : tuple of int
        First, and one after the last; within the raster.
    wanted : ndarray of bool, shape (rows, columns), optional
        Pieces in which none is true are left out.

    Yields
    ------
    int, int
        Row and column of the piece's corner, from that of the part.
    ndarray, shape (h, w)
        Its pixels, until the next piece is asked for.
    """
    if asset.fast:
        yield from tiles(asset.source).parts(asset.index, rows, columns, wanted)
    else:
        yield 0, 0, read_window(asset, rows, columns)


@lru_cache(maxsize=HEADERS_KEPT)
def tiles(source: Stored) -> Tiles:
    """Return the tiles of a TIFF, from its header."""
    return Tiles(source)


class Tiles:
    """The tiles of the full image of a TIFF: where they are, and how they are decoded.

    Parameters
    ----------
    source : Stored

    Attributes
    ----------
    fast : bool
        Whether `read` can read them: tiles of integers, deflated, packed by zstd or plain, by predictor 1 or 2.
    start, end : int
        Where its first tile begins, and bytes that the file must have at least.
    is_sparse : bool
        Whether tiles are left out.
    is_tiled : bool
    rows : int
        Of pixels in a tile.
    packed : int
        Bytes of all tiles of one band.
    """

    def __init__(self, source: Stored) -> None:
        from tifffile import TiffFile

        self._source = source
        with opened(source) as file, TiffFile(file) as found:
            page: Any = found.pages[0]
            self._offsets, self._counts = tuple(page.dataoffsets), tuple(page.databytecounts)
            self._height, self._width = page.imagelength, page.imagewidth
            self.is_tiled = bool(page.is_tiled)
            self._compression, self._predictor = int(page.compression), int(page.predictor)
            self._planar, self._samples = int(page.planarconfig) == 2, page.samplesperpixel
            self._dtype = np.dtype(page.dtype or "V1").newbyteorder(found.byteorder)
            bits, missing = page.bitspersample, page.nodata
            self.rows: int = page.tilelength if self.is_tiled else 0
            self._columns: int = page.tilewidth if self.is_tiled else 0
        self._shape = (self.rows, self._columns, 1 if self._planar else self._samples)
        self._size = math.prod(self._shape) * self._dtype.itemsize
        pairs = [(start, length) for start, length in zip(self._offsets, self._counts, strict=True) if length]
        self.packed = sum(self._counts) // self._samples
        self.is_sparse = not all(self._counts)
        self.start = min((start for start, _ in pairs), default=self._source.size)
        self.end = max((start + length for start, length in pairs), default=0)
        self.fast = (
            self.is_tiled
            and self._compression in (UNCOMPRESSED, ADOBE_DEFLATE, DEFLATE, ZSTD)
            and self._predictor in (1, 2)
            and self._dtype.kind in "iu"
            and self._dtype.byteorder != ">"
            and bits == 8 * self._dtype.itemsize
            and bits <= 32
            and (not self.is_sparse or not missing)  # tiles that are left out are no data, which is 0 unless named
        )

    def read(self, index: int, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.generic]:
        """Return a part of a band; tiles that the file leaves out, as sparse ones do, are zeros."""
        out = np.empty((rows[1] - rows[0], columns[1] - columns[0]), self._dtype.newbyteorder("="))
        for down, right, numbers in self._unpacked(index, rows, columns, None):
            self._restore(numbers, down, right, out[down.of_window, right.of_window])
        return out

    def parts(
        self, index: int, rows: tuple[int, int], columns: tuple[int, int], wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, int, NDArray[np.generic]]]:
        """Yield what is in each tile of a part of a band; see `read_parts`."""
        for down, right, numbers in self._unpacked(index, rows, columns, wanted):
            part = numbers[down.of_tile, right.of_tile]
            self._restore(numbers, down, right, part)
            yield down.of_window.start, right.of_window.start, part

    def _restore(self, numbers: NDArray[np.generic], down: _Shared, right: _Shared, out: NDArray[np.generic]) -> None:
        """Write the wanted pixels of a tile whose predictor is not undone yet; `out` may be these pixels themselves."""
        import imagecodecs

        rows = numbers[down.of_tile]
        if self._predictor == 2:
            whole = right.of_tile == slice(0, self._columns)
            imagecodecs.delta_decode(rows, axis=1, out=out if whole else rows)
            if whole:
                return
        np.copyto(out, rows[:, right.of_tile])

    def _unpacked(
        self, index: int, rows: tuple[int, int], columns: tuple[int, int], wanted: NDArray[np.bool_] | None
    ) -> Iterator[tuple[_Shared, _Shared, NDArray[np.generic]]]:
        """Yield the tiles of a part of a band: what they have in common with it, and their numbers until the next."""
        across = -(-self._width // self._columns)
        plane = across * -(-self._height // self.rows) * (index - 1) if self._planar else 0
        band = 0 if self._planar else index - 1
        places = []
        for at in range(rows[0] // self.rows, -(-rows[1] // self.rows)):
            down = _shared(at * self.rows, self.rows, rows)
            for beside in range(columns[0] // self._columns, -(-columns[1] // self._columns)):
                right = _shared(beside * self._columns, self._columns, columns)
                if wanted is None or wanted[down.of_window, right.of_window].any():
                    places.append((plane + at * across + beside, down, right))
        memory = np.empty(self._size, np.uint8)  # one for all: new pages for each tile cost a third of decoding it
        packed = self._packed([number for number, _, _ in places])
        for (_, down, right), data in zip(places, packed, strict=True):
            self._unpack(data, memory)
            yield down, right, memory.view(self._dtype).reshape(self._shape)[:, :, band]

    def _packed(self, numbers: list[int]) -> list[memoryview]:
        """Return tiles as they stand in the file; those close together come by one request."""
        found = dict.fromkeys(numbers, memoryview(b""))
        places = sorted((self._offsets[each], self._counts[each], each) for each in numbers if self._counts[each])
        groups: list[list[tuple[int, int, int]]] = []
        for place in places:
            if groups and place[0] <= groups[-1][-1][0] + groups[-1][-1][1] + GAP:
                groups[-1].append(place)
            else:
                groups.append([place])
        for group in groups:
            start, end = group[0][0], max(offset + length for offset, length, _ in group)
            data = memoryview(read_range(self._source, start, end))
            for offset, length, each in group:
                found[each] = data[offset - start : offset - start + length]
        return [found[each] for each in numbers]

    def _unpack(self, data: Any, memory: Any) -> None:
        """Unpack the bytes of a tile into an array of bytes that has just the room."""
        import imagecodecs

        unpacked = data
        if not data:
            unpacked = memory
            memory.fill(0)
        elif self._compression == ZSTD:
            unpacked = imagecodecs.zstd_decode(data, out=memory)
        elif self._compression != UNCOMPRESSED:
            unpacked = imagecodecs.deflate_decode(data, out=memory)  # libdeflate
        if len(unpacked) != self._size:
            raise ValueError(f"a tile has {len(unpacked):,} bytes where {self._size:,} belong")
        if unpacked is data:
            memory[:] = np.frombuffer(data, np.uint8)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What a tile and a window have in common along an axis, from the begin of each."""

    of_tile: slice
    of_window: slice


def _shared(start: int, length: int, window: tuple[int, int]) -> _Shared:
    first, last = max(start, window[0]), min(start + length, window[1])
    return _Shared(slice(first - start, last - start), slice(first - window[0], last - window[0]))
