"""Files of pixels: from bytes to RGB arrays and back, with a reason when that cannot be."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from apps.face_align.science.geometry import Image
from apps.face_align.science.headers import BadImage, Header, read_header

MAX_PIXELS = 50_000_000
"""Pixels beyond which an image is not decoded."""

_ENCODERS = {".jfif": ".jpg", ".jpe": ".jpg"}
"""What OpenCV calls a format, where it does not know the extension."""
_WRITTEN_AS = {".heic": ".jpg", ".heif": ".jpg", ".hif": ".jpg", ".pbm": ".png", ".pgm": ".png", ".pnm": ".png"}
"""What stands in for formats in which a crop in colour cannot be written."""
_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def decode(content: bytes, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode an image, turned upright as its EXIF orientation says.

    Parameters
    ----------
    content : bytes
        JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, PNM or, with pillow-heif, HEIC; gray, colour or CMYK, with
        alpha or not, 8 or 16 bits.
    max_side : int, optional
        Pixels a side; larger images are reduced, as early as their format allows.
    max_pixels : int
        Pixels that the result may have; none may be decoded to more than ``MAX_PIXELS``.

    Returns
    -------
    uint8, (height, width, 3)
        RGB, contiguous. 16-bit values are divided by 256, alpha is dropped.

    Raises
    ------
    BadImage
        It is empty, damaged, cut off, in no known format, or too large.
    """
    header = read_header(content)
    if header.format == "HEIF":
        rgb = _decode_heif(content, max_side, max_pixels)
    else:
        factor = next((each for each, _ in _REDUCED if max_side and _longest(header) >= each * max_side), 1)
        # Only JPEG is decoded to a smaller size at once.
        _check_size(header.width, header.height, factor if header.format == "JPEG" else 1, max_side, max_pixels)
        flag = next((flag for each, flag in _REDUCED if each == factor), cv2.IMREAD_COLOR)
        rgb = cv2.cvtColor(_decode_bgr(header.content, flag), cv2.COLOR_BGR2RGB)
    if max_side is not None and max(rgb.shape[:2]) > max_side:
        scale = max_side / max(rgb.shape[:2])
        new = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        rgb = cv2.resize(rgb, new, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(rgb, np.uint8)


def _longest(header: Header) -> int:
    return max(header.width, header.height)


def _check_size(width: int, height: int, factor: int, max_side: int | None, max_pixels: int) -> None:
    """Refuse an image that would be decoded, or end up, too large; a decoder reduces it by `factor` a side."""
    width, height = width // factor, height // factor
    kept = min(1.0, max_side / max(width, height, 1)) if max_side else 1.0
    for pixels, most in ((width * height, MAX_PIXELS), (width * height * kept**2, max_pixels)):
        if pixels > most:
            remedy = "try --max-side" + ("" if most == MAX_PIXELS else ", less --upsample or more --memory")
            raise BadImage("too_large", f"{width} x {height} pixels are more than {most / 1e6:.3g} million; {remedy}")


def _decode_bgr(content: bytes, flag: int) -> Any:
    try:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise BadImage("decode_error", f"OpenCV: {str(error.err or error).strip()}") from None
    if bgr is None:
        raise BadImage("decode_error", "damaged or cut off, or in a variant of its format that OpenCV cannot read")
    return bgr


def _decode_heif(content: bytes, max_side: int | None, max_pixels: int) -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise BadImage("unsupported", "HEIC needs pillow-heif; run pip install 'fanfold[heic]'") from None
    try:
        image = pillow_heif.open_heif(content, convert_hdr_to_8bit=True)[0]
        width, height = image.size
        _check_size(width, height, 1, max_side, max_pixels)
        return np.asarray(image.to_pillow().convert("RGB"))
    except (OSError, ValueError, RuntimeError, EOFError, SyntaxError) as error:
        raise BadImage("decode_error", f"HEIC: {error}") from None


def written_as(extension: str) -> str:
    """Return the extension of the crops of an image with this one: its own, where such a file can be written."""
    return _WRITTEN_AS.get(extension.lower(), extension)


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
