from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from apps.metabolomics.pictures import (
    COLOURS,
    Field,
    coloured_png,
    grey_png,
    hotspot_limit,
    levels,
    normalised,
    rgb_png,
    side_by_side,
    significant,
)
from apps.metabolomics.result import IonImage


def field(width: int, height: int, without: tuple[int, ...] = ()) -> Field:
    pixels = np.setdiff1d(np.arange(width * height), without).astype(np.int32)
    return Field(width, height, pixels)


def image(pixels: list[int], values: list[float]) -> IonImage:
    return IonImage(np.array(pixels, np.int32), np.array(values, np.float64))


def opened(data: bytes) -> Image.Image:
    found = Image.open(io.BytesIO(data))
    found.load()
    return found


def sixteen_bits(data: bytes) -> np.ndarray:
    """Grey and alpha of a PNG without filters, uint16[height, width, 2]; Pillow would cut the 16 bits to 8."""
    import struct
    import zlib

    width, height = struct.unpack(">II", data[16:24])
    assert data[24:29] == bytes([16, 4, 0, 0, 0])
    at = data.index(b"IDAT")
    packed = data[at + 4 : at + 4 + struct.unpack(">I", data[at - 4 : at])[0]]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return np.ascontiguousarray(rows[:, 1:]).view(">u2").reshape(height, width, 2)


def test_a_grey_image_keeps_intensities_to_a_65535th_and_says_its_maximum() -> None:
    png = grey_png(image([0, 1, 5], [0.25, 700.5, 350.25]), field(3, 2, without=(4,)))

    pixels = sixteen_bits(png)
    assert pixels[..., 0].tolist() == [[23, 65535, 0], [0, 0, 32768]]
    assert pixels[..., 1].tolist() == [[65535, 65535, 65535], [65535, 0, 65535]]
    assert opened(png).info["maximum"] == "700.5"
    assert opened(png).size == (3, 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (300, 1)])
def test_an_image_without_a_pixel_is_black(size: tuple[int, int]) -> None:
    png = grey_png(image([], []), field(*size))

    assert opened(png).size == size
    assert not sixteen_bits(png)[..., 0].any()


def test_the_brightest_hundredth_of_the_bright_pixels_is_shown_alike() -> None:
    values = np.concatenate([np.full(50, 1e-3), np.linspace(10.0, 109.0, 100), [2000.0]])

    limit = hotspot_limit(values)

    assert limit == pytest.approx(np.quantile(values[values > 2000.0 / 256], 0.99))
    assert 100.0 < limit < 2000.0


def test_shown_levels_end_at_the_hotspot_limit_and_are_zero_without_a_spectrum() -> None:
    shown = levels(image([0, 1, 2], [0.0, 50.0, 100.0]), field(2, 2, without=(3,)), 10)

    assert shown[1, 1] == 0
    assert shown[0, 0] == 1
    assert shown[1, 0] == COLOURS
    assert 1 < shown[0, 1] < COLOURS


def test_a_large_image_is_made_smaller_by_the_mean_over_the_spectra_of_each_place() -> None:
    shown = levels(image([0, 1, 4, 5, 2], [8.0, 8.0, 8.0, 8.0, 8.0]), field(4, 2, without=(6, 7)), 2)

    assert shown.shape == (1, 2)
    assert shown[0, 0] == COLOURS
    assert shown[0, 1] == 1 + round(0.5 * (COLOURS - 1))


def test_a_sparse_and_its_dense_image_are_the_same() -> None:
    where = field(4, 3)
    sparse = image([1, 11], [2.0, 3.0])

    assert np.array_equal(where.summed(sparse.pixels, sparse.values), sparse.dense(4, 3))


def test_a_coloured_image_is_transparent_where_there_is_no_spectrum() -> None:
    shown = side_by_side([levels(image([0], [1.0]), field(2, 1, without=(1,)), 10)] * 2, 4)

    png = opened(coloured_png(shown)).convert("RGBA")

    alpha = np.asarray(png)[..., 3]
    assert (alpha[:, :2] == 255).all()
    assert (alpha[:, 2:4] == 0).all()
    assert np.asarray(png)[0, 0, :3].tolist() == [253, 231, 36]


def test_three_ions_are_red_green_and_blue() -> None:
    ions = [image([at], [5.0]) for at in range(3)]

    pixels = np.asarray(opened(rgb_png(ions, field(4, 1, without=(3,)), 10)))

    assert pixels[0].tolist() == [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [0, 0, 0, 0]]


def test_normalised_values_are_shares_of_the_current_and_none_of_no_current() -> None:
    found = normalised(image([0, 2], [4.0, 6.0]), np.array([8.0, 1.0, 0.0]))

    assert found.values.tolist() == [0.5, 0.0]


@pytest.mark.parametrize(("value", "said"), [(0.0, "0"), (0.01234, "0.0123"), (12345.6, "12,346"), (float("nan"), "–")])
def test_intensities_are_said_in_few_digits(value: float, said: str) -> None:
    assert significant(value) == said
