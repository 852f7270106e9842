"""Images whose headers lie about their size: refused before their decoder has asked for memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from apps.face_align.science import avif, images
from apps.face_align.science.headers import BadImage, read_header
from apps.face_align.science.images import decode

SIDE = 64
HUGE = 30_000


def made(format: str, side: int = SIDE, **options: Any) -> bytearray:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 255, (side, side, 3), np.uint8)
    Pillow.fromarray(pixels).save(buffer, format, **options)
    return bytearray(buffer.getvalue())


def patched(content: bytearray, at: int, value: bytes) -> bytes:
    content[at : at + len(value)] = value
    return bytes(content)


def avif_with_a_small_extent() -> bytes:
    """What is coded has 9 million pixels; the box that says the size of the item has 64."""
    content = made("AVIF", 3000, speed=10, quality=10)
    return patched(content, content.index(b"ispe") + 8, struct.pack(">2I", 8, 8))


def jpeg2000_with_a_small_box() -> bytes:
    """The codestream says 30,000 pixels a side, the box before it 64."""
    content = made("JPEG2000")
    return patched(content, content.index(b"\xff\x4f\xff\x51") + 8, struct.pack(">2I", HUGE, HUGE))


def tiff_with_two_widths(second: int = HUGE) -> bytes:
    content = made("TIFF")
    at = struct.unpack_from("<I", content, 4)[0]
    entries = [bytes(content[at + 2 + 12 * k : at + 14 + 12 * k]) for k in range(2)]  # width and length come first
    count = struct.unpack_from("<H", content, at)[0]
    rest = bytes(content[at + 26 : at + 2 + 12 * count])
    again = b"".join(entry[:8] + struct.pack("<I", second) for entry in entries)
    moved = struct.pack("<H", count + 2) + b"".join(entries) + again + rest + bytes(4)
    return patched(content, 4, struct.pack("<I", len(content))) + moved


def tiff_of_one_tile(side: int) -> bytes:
    """A picture of 64 pixels a side in a tile of gigabytes."""
    entries = [(256, SIDE), (257, SIDE), (258, 8), (259, 1), (262, 1), (277, 1), (322, side), (323, side), (324, 8)]
    body = b"".join(struct.pack("<2H2I", tag, 4, 1, value) for tag, value in [*entries, (325, 100)])
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries) + 1) + body + bytes(200)


LIARS: dict[str, Callable[[], bytes]] = {
    "pnm, after a comment that one reader takes for a number": lambda: b"P6\n#8 8\n30000 30000\n255\n" + bytes(200),
    "pnm, without its pixels": lambda: b"P5 7000 7000 255\n" + bytes(200),
    "pnm, of digits": lambda: b"P2 7000 7000 255\n" + b"1 " * 100,
    "pnm, of bits": lambda: b"P4 20000 20000\n" + bytes(200),
    "pnm, with a number after a line end alone": lambda: b"P5#8 8 255\r30000 30000 255\n" + bytes(200),
    "avif": avif_with_a_small_extent,
    "jpeg 2000": jpeg2000_with_a_small_box,
    "tiff, with two widths": tiff_with_two_widths,
    "tiff, in a tile": lambda: tiff_of_one_tile(HUGE),
    "png": lambda: patched(made("PNG"), 16, struct.pack(">2I", HUGE, HUGE)),
    "bmp": lambda: patched(made("BMP"), 18, struct.pack("<2i", HUGE, HUGE)),
    "bmp, upside down": lambda: patched(made("BMP"), 18, struct.pack("<2i", HUGE, -HUGE)),
    "gif": lambda: patched(made("GIF"), 6, struct.pack("<2H", HUGE, HUGE)),
    "jpeg": lambda: (lambda c: patched(c, c.index(b"\xff\xc0") + 5, struct.pack(">2H", HUGE, HUGE)))(made("JPEG")),
}


@pytest.mark.parametrize("liar", LIARS)
def test_a_size_that_a_header_hides_is_refused_before_anything_is_decoded(
    liar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = LIARS[liar]()
    monkeypatch.setattr(images, "MAX_PIXELS", 5_000_000)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))

    with pytest.raises(BadImage) as caught:
        decode(content)

    assert caught.value.status in ("too_large", "decode_error")


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"P6 64 48 255\n", (48, 64)),
        (b"P6\n# by a program\n64\n# and\n# again\n48 255\n", (48, 64)),
        (b"P6\t64 48\r\n255 ", (48, 64)),
    ],
)
def test_a_pnm_has_the_pixels_that_its_own_header_gives(header: bytes, size: tuple[int, int]) -> None:
    raster = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)

    assert np.array_equal(decode(header + raster.tobytes()), raster)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("most", [1, 100, 255, 65535])
def test_every_pnm_is_decoded_as_it_was_before_its_header_was_written_anew(kind: int, most: int) -> None:
    drawn = np.random.default_rng(kind)
    values = drawn.integers(0, (1 if kind in (1, 4) else most) + 1, (16, 16, 3 if kind in (3, 6) else 1))
    raster = " ".join(map(str, values.reshape(-1))).encode()
    if kind == 4:
        raster = np.packbits(values.reshape(16, 16).astype(bool), axis=1).tobytes()
    elif kind > 4:
        raster = values.astype(">u2" if most > 255 else "u1").tobytes()
    head = b"P%d 16 16 " % kind if kind in (1, 4) else b"P%d 16 16 %d\n" % (kind, most)

    found = decode(head + raster)

    expected = cv2.imdecode(np.frombuffer(head + raster + b"\n", np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(found, cv2.cvtColor(expected, cv2.COLOR_BGR2RGB))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("size", [(97, 33), (640, 480)])
def test_the_size_of_what_is_coded_is_found_in_an_avif(mode: str, size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Pillow.new(mode, size, 100 if mode == "L" else (1, 2, 3, 100)[: len(mode)]).save(buffer, "AVIF", speed=10)

    assert set(avif.picture_sizes(buffer.getvalue())) == {size}
    assert decode(buffer.getvalue()).shape == (size[1], size[0], 3)


def test_an_avif_of_several_pictures_is_said_not_decoded() -> None:
    buffer = io.BytesIO()
    frames = [Pillow.new("RGB", (64, 64), shade) for shade in (0, 100, 200)]
    frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:], speed=10)

    with pytest.raises(BadImage, match="image sequence") as caught:
        decode(buffer.getvalue())

    assert caught.value.status == "unsupported"


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_tiff_of_either_kind_keeps_its_size(big: bool, tiled: bool) -> None:
    options = {"tile": (32, 32)} if tiled else {}
    content = bytes(made("TIFF", big_tiff=big, compression="tiff_lzw", **options))

    header = read_header(content)

    assert (header.format, header.width, header.height) == ("TIFF", SIDE, SIDE)


FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
SAMPLES = {name: bytes(made(name, 24)) for name in FORMATS}


def spoil(name: str, changes: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(SAMPLES[name])
    for place, value in changes:
        content[place % min(len(content), 400)] = value  # where headers are
    try:
        found = decode(bytes(content[: len(content) - cut % len(content)]), max_pixels=1_000_000)
    except BadImage as error:
        assert error.status in ("decode_error", "too_large", "unsupported")  # noqa: PT017
    else:
        assert found.shape[0] * found.shape[1] <= 1_000_000
        assert found.dtype == np.uint8


spoiled = given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4),
    cut=st.one_of(st.just(0), st.integers(0, 1 << 16)),
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@spoiled
def test_whatever_bytes_an_image_has_they_are_decoded_or_refused(
    name: str, changes: list[tuple[int, int]], cut: int
) -> None:
    spoil(name, changes, cut)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=3_000, deadline=None)
@spoiled
def test_whatever_bytes_an_image_has_they_are_decoded_or_refused_at_length(
    name: str, changes: list[tuple[int, int]], cut: int
) -> None:
    spoil(name, changes, cut)


def test_a_photograph_of_a_telephone_is_read_where_its_decoder_is_installed(head: Any) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif: pip install '.[heic]'")
    buffer = io.BytesIO()
    heif.from_pillow(Pillow.fromarray(head)).save(buffer, quality=90)

    found = decode(buffer.getvalue())

    assert found.shape == head.shape
    assert np.abs(found.astype(int) - head).mean() < 4


def test_a_photograph_of_a_telephone_that_is_too_large_is_refused(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif: pip install '.[heic]'")
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    buffer = io.BytesIO()
    heif.from_pillow(Pillow.fromarray(head)).save(buffer, quality=90)

    with pytest.raises(BadImage, match="try --max-side") as caught:
        decode(buffer.getvalue())

    assert caught.value.status == "too_large"


def test_without_its_decoder_a_photograph_of_a_telephone_says_what_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)

    with pytest.raises(BadImage, match=r"pip install 'fanfold\[heic\]'") as caught:
        decode(b"\0\0\0\x18ftypheic" + bytes(200))

    assert caught.value.status == "unsupported"
