"""Ion images as PNG: 16-bit ones that keep the numbers, and small coloured ones to look at.

PNG (ISO/IEC 15948) is written here: the usual libraries write no 16-bit grey with alpha.
"""

from __future__ import annotations

import functools
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.result import IonImage

Array = NDArray[np.float64]

FAST, SMALL = 1, 6
"""Of 9: for files, since 16-bit noise gets no smaller by more than the first; and for pictures within a page."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE, _GREY_ALPHA, _RGB_ALPHA = 3, 4, 6
HOTSPOT_QUANTILE, HOTSPOT_FLOOR = 0.99, 256
"""Of display: brighter than this quantile, of the pixels above the maximum / 256, is shown as the quantile."""
COLOURS = 255
"""Colours of the scale; one more entry of the palette is for places without a spectrum."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Where a dataset has spectra.

    Attributes
    ----------
    width, height : int
        Of its images, in pixels.
    pixels : int32[n]
        Those that have a spectrum, ascending; row times width and column.
    """

    width: int
    height: int
    pixels: NDArray[np.int32]

    def mask(self, factor: int = 1) -> NDArray[np.bool_]:
        """Return bool[height, width], or that of an image made smaller."""
        return self.summed(self.pixels, np.ones(self.pixels.size), factor) > 0

    def summed(self, pixels: NDArray[np.int32], values: Array, factor: int = 1) -> Array:
        """Return a sparse image as float64[height, width]; `factor` by `factor` pixels are added up."""
        rows, columns = self.shape(factor)
        row, column = np.divmod(pixels.astype(np.int64), self.width)
        places = (row // factor) * columns + column // factor
        return np.bincount(places, values, rows * columns).astype(np.float64).reshape(rows, columns)

    def shape(self, factor: int = 1) -> tuple[int, int]:
        """Return height and width of an image made smaller by a factor."""
        return -(-self.height // factor), -(-self.width // factor)

    def factor(self, side: int) -> int:
        """Return by how much an image is to be made smaller to have at most `side` pixels a side."""
        return max(1, -(-max(self.width, self.height) // side))


def grey_png(image: IonImage, field: Field) -> bytes:
    """Return an image as 16-bit grey with alpha: 65535 is its maximum, places without a spectrum are transparent.

    The text chunk ``maximum`` holds the intensity that 65535 stands for. Nothing is clipped.
    """
    top = float(image.values.max(initial=0.0))
    picture = np.zeros((field.height * field.width, 2), ">u2")
    if top > 0.0:
        picture[image.pixels, 0] = np.rint(image.values / top * 65535.0)
    picture[field.pixels, 1] = 65535
    rows = picture.reshape(field.height, -1).view(np.uint8)
    text = _chunk(b"tEXt", b"maximum\0" + repr(top).encode())
    return _png(rows, field.width, 16, _GREY_ALPHA, text)


def hotspot_limit(values: Array) -> float:
    """Return the intensity from which on a display shows one colour, 0 for an image without any."""
    top = float(values.max(initial=0.0))
    bright = values[values > top / HOTSPOT_FLOOR]
    return float(np.quantile(bright, HOTSPOT_QUANTILE)) if bright.size else 0.0


def levels(image: IonImage, field: Field, side: int) -> NDArray[np.uint8]:
    """Return an image to look at, uint8[h, w]: 0 without a spectrum, else 1 to 255 up to the hotspot limit.

    It is at most `side` pixels a side: larger ones show the mean over the spectra of each place.
    """
    factor = field.factor(side)
    limit = hotspot_limit(image.values)
    shown = field.summed(image.pixels, np.minimum(image.values, limit), factor)
    spectra = field.summed(field.pixels, np.ones(field.pixels.size), factor)
    share = np.divide(shown, spectra * limit, out=np.zeros_like(shown), where=spectra * limit > 0)
    scaled = 1 + np.rint(np.clip(share, 0.0, 1.0) * (COLOURS - 1)).astype(np.uint8)
    return np.where(spectra > 0, scaled, 0).astype(np.uint8)


def side_by_side(images: Sequence[NDArray[np.uint8]], least: int) -> NDArray[np.uint8]:
    """Return images of one size in a row, a tenth of their width apart; small ones magnified to `least` pixels."""
    times = max(1, least // max(images[0].shape))
    large = [image.repeat(times, 0).repeat(times, 1) for image in images]
    gap = np.zeros((large[0].shape[0], max(2, large[0].shape[1] // 10)), np.uint8)
    parts = [part for image in large for part in (gap, image)][1:]
    return np.hstack(parts)


def coloured_png(shown: NDArray[np.uint8]) -> bytes:
    """Return what `levels` gave in colours (viridis), transparent where there is no spectrum."""
    palette = _chunk(b"PLTE", _viridis()) + _chunk(b"tRNS", b"\0")
    return _png(shown, shown.shape[1], 8, _PALETTE, palette)


def rgb_png(images: Sequence[IonImage], field: Field, side: int) -> bytes:
    """Return three images as red, green and blue, each up to its own hotspot limit."""
    channels = [levels(image, field, side) for image in images]
    picture = np.stack([*(np.maximum(channel, 1) - 1 for channel in channels), channels[0]], axis=-1)
    picture[..., :3] = picture[..., :3].astype(np.uint16) * 255 // (COLOURS - 1)
    picture[..., 3] = np.where(channels[0] > 0, 255, 0)
    return _png(np.ascontiguousarray(picture).reshape(picture.shape[0], -1), picture.shape[1], 8, _RGB_ALPHA)


@functools.cache
def _viridis() -> bytes:
    from matplotlib import colormaps

    scale = colormaps["viridis"](np.linspace(0.0, 1.0, COLOURS), bytes=True)[:, :3]
    return bytes([0, 0, 0]) + scale.tobytes()


def _png(rows: NDArray[np.uint8], width: int, depth: int, kind: int, further: bytes = b"") -> bytes:
    """Return a PNG of bytes uint8[height, bytes of a row]."""
    height = rows.shape[0]
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    # Filter 0 before every row.
    lines = np.zeros((height, rows.shape[1] + 1), np.uint8)
    lines[:, 1:] = rows
    data = _chunk(b"IDAT", zlib.compress(lines.tobytes(), FAST if depth == 16 else SMALL))
    return _SIGNATURE + _chunk(b"IHDR", head) + further + data + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def normalised(image: IonImage, tic: Array) -> IonImage:
    """Return an image whose values are divided by the total ion current of their pixels; where that is 0, they are 0.

    Parameters
    ----------
    tic : float64[width * height]
        By pixel.
    """
    current = tic[image.pixels]
    values = np.divide(image.values, current, out=np.zeros_like(image.values), where=current > 0.0)
    return IonImage(image.pixels, values)


def significant(value: float) -> str:
    """Write an intensity in three digits."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
