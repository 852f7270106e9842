from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from apps.face_align.science import images
from apps.face_align.science.headers import BadImage
from apps.face_align.science.images import decode, encode


def packed(image: Any, format: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


EXACT = {
    "png": ("PNG", "RGB", {}),
    "png with alpha": ("PNG", "RGBA", {}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff, packed": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "tiff, cmyk": ("TIFF", "CMYK", {}),
    "bmp": ("BMP", "RGB", {}),
    "webp": ("WEBP", "RGB", {"lossless": True}),
}
LOSSY = {
    "jpeg": ("JPEG", "RGB", {"quality": 95}),
    "progressive jpeg": ("JPEG", "RGB", {"quality": 95, "progressive": True}),
    "jpeg, cmyk": ("JPEG", "CMYK", {"quality": 95}),
    "webp, lossy": ("WEBP", "RGB", {"quality": 95}),
    "webp with alpha": ("WEBP", "RGBA", {"quality": 95}),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_format_without_loss_gives_the_pixels(name: str, head: Any) -> None:
    format, mode, options = EXACT[name]

    assert np.array_equal(decode(packed(head, format, mode, **options)), head)


@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_format_gives_nearly_the_pixels(name: str, head: Any) -> None:
    format, mode, options = LOSSY[name]

    found = decode(packed(head, format, mode, **options))

    assert found.shape == head.shape
    assert np.abs(found.astype(int) - head).mean() < 4


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_sixteen_bits_become_eight(extension: str, head: Any) -> None:
    content = cv2.imencode(extension, cv2.cvtColor(head, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)[1].tobytes()

    assert np.array_equal(decode(content), head)


@pytest.mark.parametrize(("format", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "1"), ("PNG", "P"), ("GIF", "P")])
def test_gray_and_palettes_become_colour(format: str, mode: str, head: Any) -> None:
    found = decode(packed(head, format, mode))

    assert found.shape == head.shape
    assert found.flags.c_contiguous


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_is_turned_upright(format: str, head: Any) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise

    found = decode(packed(np.ascontiguousarray(np.rot90(head)), format, exif=exif))

    assert np.abs(found.astype(int) - head).mean() < 6


FORMATS = {"JPEG": {}, "PNG": {}, "WEBP": {}, "TIFF": {}, "BMP": {}, "GIF": {}}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_file_cut_off_is_an_error(format: str, part: float, head: Any) -> None:
    content = packed(head, format)

    with pytest.raises(BadImage) as caught:
        decode(content[: int(len(content) * part)])

    assert caught.value.status == "decode_error"


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0" + bytes(50), b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_an_error(content: bytes) -> None:
    with pytest.raises(BadImage) as caught:
        decode(content)

    assert caught.value.status == "decode_error"
    assert str(caught.value)


def small_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9000, 15_000, 100_000])
def test_a_small_file_with_a_huge_image_is_not_decoded(side: int) -> None:
    with pytest.raises(BadImage, match="pixels") as caught:
        decode(small_png(side, side))

    assert caught.value.status == "too_large"


@pytest.mark.parametrize(("side", "limit"), [(300, 100), (300, 299), (300, 64)])
def test_a_longest_side_is_kept(side: int, limit: int, head: Any) -> None:
    found = decode(packed(head, "JPEG"), max_side=limit)

    assert max(found.shape) == limit
    assert found.shape[0] == found.shape[1]


def test_a_small_image_is_not_enlarged(head: Any) -> None:
    assert np.array_equal(decode(packed(head, "PNG"), max_side=1000), head)


def test_a_large_image_fits_when_reduced(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 200 * 200)

    assert decode(packed(head, "JPEG"), max_side=150).shape == (150, 150, 3)
    with pytest.raises(BadImage, match="try --max-side"):
        decode(packed(head, "JPEG"))


@pytest.mark.parametrize("extension", [".png", ".PNG", ".tif", ".bmp"])
def test_a_format_without_loss_keeps_the_pixels(extension: str, head: Any) -> None:
    assert np.array_equal(decode(encode(head, extension, 95)), head)


def test_quality_makes_a_smaller_file(head: Any) -> None:
    for extension in (".jpg", ".JPEG", ".jfif", ".webp"):
        assert len(encode(head, extension, 30)) < len(encode(head, extension, 95))


@pytest.mark.parametrize("extension", ["", ".xyz"])
def test_an_unknown_format_cannot_be_written(extension: str, head: Any) -> None:
    with pytest.raises(BadImage, match="use --format png"):
        encode(head, extension, 95)
