"""Files of pixels: from bytes to RGB arrays and back, with a reason when that cannot be."""

from __future__ import annotations

import io
import warnings
from typing import Literal

import cv2
import numpy as np

from apps.face_align.geometry import Image

MAX_PIXELS = 50_000_000
"""Pixels beyond which an image is not decoded: detection takes about 50 bytes a pixel at --upsample 1, 12 at 0."""

EXTENSIONS = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".avif",
        ".jp2",
        ".ppm",
        ".pgm",
    )
)
_ENCODERS = {".jfif": ".jpg", ".jpe": ".jpg"}
"""What OpenCV calls a format, where it does not know the extension."""
_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


class BadImage(Exception):
    """An image cannot be used; `status` says why in a word."""

    def __init__(self, status: Literal["decode_error", "too_large"], reason: str) -> None:
        super().__init__(reason)
        self.status = status


def decode(content: bytes, max_side: int | None = None) -> Image:
    """Decode an image, turned upright as its EXIF orientation says.

    Parameters
    ----------
    content : bytes
        JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000 or PNM; gray, colour or CMYK, with alpha or not, 8 or 16 bits.
    max_side : int, optional
        Pixels a side; larger images are reduced, as early as their format allows.

    Returns
    -------
    uint8, (height, width, 3)
        RGB, contiguous. 16-bit values are divided by 256, alpha is dropped.

    Raises
    ------
    BadImage
        It is empty, damaged, cut off, in no known format, or larger than ``MAX_PIXELS``.
    """
    if not content:
        raise BadImage("decode_error", "the file is empty")
    width, height = _size(content)
    flag = cv2.IMREAD_COLOR
    longest = max(width, height)
    for factor, reduced in _REDUCED:
        if max_side is not None and longest >= factor * max_side:
            flag, width, height = reduced, width // factor, height // factor
            break
    if width * height > MAX_PIXELS:
        raise BadImage(
            "too_large", f"{width} x {height} pixels are more than {MAX_PIXELS // 10**6} million; try --max-side"
        )
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise BadImage("decode_error", f"OpenCV: {str(error.err or error).strip()}") from None
    if bgr is None:
        raise BadImage("decode_error", "not an image of a known format, or damaged or cut off")
    if max_side is not None and max(bgr.shape[:2]) > max_side:
        scale = max_side / max(bgr.shape[:2])
        new = (max(1, round(bgr.shape[1] * scale)), max(1, round(bgr.shape[0] * scale)))
        bgr = cv2.resize(bgr, new, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _size(content: bytes) -> tuple[int, int]:
    """Return width and height from the header alone, so that a small file cannot fill the memory."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(io.BytesIO(content)) as header:
                return header.size
    except Pillow.DecompressionBombError as error:
        raise BadImage("too_large", str(error)) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        # OpenCV knows formats that nobody asked for, and would unpack gigabytes from a small file of some of them.
        raise BadImage("decode_error", "not an image of a known format, or damaged or cut off") from None


def encode(image: Image, extension: str, quality: int) -> bytes:
    """Encode RGB pixels.

    Parameters
    ----------
    image : uint8, (height, width, 3)
        RGB pixels.
    extension : str
        ``.jpg``, ``.png`` ... in any case.
    quality : int
        1 to 100, for JPEG and WebP.

    Raises
    ------
    BadImage
        There is no encoder for the extension.
    """
    name = _ENCODERS.get(extension.lower(), extension.lower())
    settings = {".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}.get(name, [])
    if name in (".jpg", ".jpeg"):
        settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    try:
        done, content = cv2.imencode(name, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    except cv2.error:
        done = False
    if not done:
        raise BadImage("decode_error", f"{extension or 'a file without extension'} cannot be written; use --format png")
    return content.tobytes()
