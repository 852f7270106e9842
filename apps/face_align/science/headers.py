"""How large an image is, read from its bytes as the decoder reads it, so that a small file cannot fill the memory."""

from __future__ import annotations

import io
import re
import struct
import warnings
from dataclasses import dataclass

from apps.face_align.science import avif

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
"""What Pillow may take a file for. OpenCV knows more, and unpacks gigabytes from a small file of some."""
_UNKNOWN = "not an image of a known format, or damaged or cut off"

_BLANK = rb"(?:\s|#[^\r\n]*[\r\n])"
_PNM = re.compile(rb"P([1-6])\s" + _BLANK + rb"*(\d{1,9})" + _BLANK + rb"+(\d{1,9})")
_PNM_MOST = re.compile(_BLANK + rb"+(\d{1,5})")
# Source: ISO/IEC 15444-1, A.4.1 and A.5.1: start of codestream, then its size: width, height and their offsets.
_JPEG2000_SIZE = re.compile(rb"\xff\x4f\xff\x51....(.{16})", re.DOTALL)
# Source: ISO/IEC 23008-12, 6.5.3: the extent of an image item.
_EXTENT = re.compile(rb"ispe....(.{8})", re.DOTALL)
_HEIF = re.compile(rb"....ftyp(?:heic|heix|heim|heis|hevc|hevx|hevm|hevs|mif1|msf1)", re.DOTALL)
# Source: TIFF 6.0 and BigTIFF: width, length, width and length of tiles; bytes of the types that a size may have.
_TIFF_SIDES = {256: 0, 257: 1, 322: 2, 323: 3}
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


class BadImage(Exception):
    """An image cannot be used; `status` says why in a word."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Header:
    """An image's format and size, and the bytes to decode, which say no other size."""

    format: str
    width: int
    height: int
    content: bytes


def read_header(content: bytes) -> Header:
    """Read what an image says of itself.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    Header
        Where a file says its size in several places, it has the largest. The header of a PNM is written anew.

    Raises
    ------
    BadImage
        The file is empty, damaged, cut off or of no known format.
    """
    if not content:
        raise BadImage("decode_error", "the file is empty")
    if re.match(rb"P[1-6]\s", content):
        return _pnm(content)
    if _HEIF.match(content) and b"avif" not in content[:64] and b"avis" not in content[:64]:
        return Header("HEIF", 0, 0, content)
    format, sizes = _pillow(content)
    try:
        sizes += {"JPEG2000": _jpeg2000, "PNG": _png, "TIFF": _tiff, "AVIF": _avif}.get(format, lambda _: [])(content)
    except avif.UnknownVariant as error:
        raise BadImage("unsupported", f"AVIF with {error}; export it as a single image") from None
    except (struct.error, IndexError):
        raise BadImage("decode_error", _UNKNOWN) from None
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header(format, width, height, content)


def _pillow(content: bytes) -> tuple[str, list[tuple[int, int]]]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as header:
                return "JPEG" if header.format == "MPO" else str(header.format), [header.size]
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from None
    except Exception:  # of any kind, as its readers of formats are by many hands
        raise BadImage("decode_error", _UNKNOWN) from None


def _pnm(content: bytes) -> Header:
    found = _PNM.match(content)
    kind = int(found[1]) if found else 0
    most = _PNM_MOST.match(content, found.end()) if found and kind not in (1, 4) else found
    if found is None or most is None or not content[most.end() : most.end() + 1].isspace():
        raise BadImage("decode_error", "PNM with a damaged header")
    width, height = int(found[2]), int(found[3])
    raster = content[most.end() + 1 :]
    line = width * (3 if kind in (3, 6) else 1)
    if kind == 4:
        line = (width + 7) // 8
    elif kind > 4 and int(most[1]) > 255:
        line *= 2
    if len(raster) < line * height:
        raise BadImage("decode_error", f"cut off: a PNM of {width} x {height} pixels has more bytes")
    scale = b"" if most is found else b" " + most[1]
    # OpenCV wants something after the last number of a raster of digits, too.
    return Header("PNM", width, height, b"P%d %d %d%b\n" % (kind, width, height, scale) + raster + b"\n")


def _png(content: bytes) -> list[tuple[int, int]]:
    return [struct.unpack_from(">2I", content, 16)]


def _jpeg2000(content: bytes) -> list[tuple[int, int]]:
    sides = [struct.unpack(">4I", found[1]) for found in _JPEG2000_SIZE.finditer(content)]
    return [(width - left, height - top) for width, height, left, top in sides]


def _avif(content: bytes) -> list[tuple[int, int]]:
    extents = [struct.unpack(">2I", found[1]) for found in _EXTENT.finditer(content)]
    return [*extents, *avif.picture_sizes(content)]


def _tiff(content: bytes) -> list[tuple[int, int]]:
    """Return all sizes that the first directory gives, of tiles too: which of two equal tags counts, readers decide."""
    order = "<" if content[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, at)
    at += 8 if big else 2
    sides: tuple[list[int], ...] = ([], [], [0], [0])
    for entry in range(at, min(at + count * (20 if big else 12), len(content)), 20 if big else 12):
        tag, kind = struct.unpack_from(f"{order}2H", content, entry)
        if tag in _TIFF_SIDES and kind in _TIFF_TYPES:
            value = struct.unpack_from(f"{order}{_TIFF_TYPES[kind]}", content, entry + (12 if big else 8))
            sides[_TIFF_SIDES[tag]].extend(value)
    width, length, tile_width, tile_length = (max(side, default=0) for side in sides)
    return [(width, length), (tile_width, tile_length)]
