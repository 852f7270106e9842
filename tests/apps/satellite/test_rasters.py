"""Tiles decoded without GDAL are what GDAL reads, of every kind; what is of another kind is left to GDAL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps._frame.stored import Stored
from apps.satellite.rasters import HEADER, Tiles, gdal, read_parts, read_window, tiles
from apps.satellite.records import Asset
from apps.satellite.science.grid import Raster
from core import open_storage

WINDOWS = [((0, 300), (0, 420)), ((17, 18), (5, 6)), ((100, 299), (127, 129)), ((256, 300), (384, 420))]


def written(path: Path, image: np.ndarray[Any, Any], **options: Any) -> Stored:
    import rasterio
    from affine import Affine

    count, height, width = image.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": image.dtype}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", **profile, **place, **options) as dataset:
        dataset.write(image)
    info = open_storage(str(path.parent)).head(path.name)
    return Stored(f"file://{path.parent}", path.name, info.size, info.etag)


def image_of(dtype: str, count: int = 1) -> np.ndarray[Any, Any]:
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    random = np.random.default_rng(3)
    if info is None:
        return random.normal(size=(count, 300, 420)).astype(dtype)
    return random.integers(info.min, info.max, (count, 300, 420), endpoint=True).astype(dtype)


@pytest.mark.parametrize("compress", ["none", "deflate", "zstd"])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_tiles_are_what_gdal_reads(tmp_path: Path, compress: str, predictor: int, dtype: str, interleave: str) -> None:
    options = {"predictor": predictor} if compress != "none" else {}
    blocks = {"tiled": True, "blockxsize": 128, "blockysize": 128}
    source = written(
        tmp_path / "a.tif", image_of(dtype, 3), compress=compress, interleave=interleave, **blocks, **options
    )
    found = Tiles(source)

    assert found.fast
    with gdal(source) as dataset:
        for band in (1, 3):
            whole = dataset.read(band)
            for rows, columns in WINDOWS:
                assert (found.read(band, rows, columns) == whole[slice(*rows), slice(*columns)]).all()


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint16", {"tiled": True, "compress": "lzw", "predictor": 2}),
        ("float32", {"tiled": True, "compress": "deflate", "predictor": 3}),
        ("uint16", {"compress": "deflate"}),
        ("uint16", {"tiled": True, "ENDIANNESS": "BIG"}),
        ("uint8", {"tiled": True, "compress": "jpeg"}),
    ],
)
def test_what_is_of_another_kind_is_read_by_gdal(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    source = written(tmp_path / "a.tif", image_of(dtype), blockxsize=128, blockysize=128, **options)
    asset = Asset(source, 1, Raster(5e5, 5e6, 10, 10, 420, 300), dtype, fast=Tiles(source).fast)

    made = read_window(asset, (17, 290), (3, 411))

    assert not asset.fast
    with gdal(source) as dataset:
        assert (made == dataset.read(1)[17:290, 3:411]).all()


def test_tiles_that_a_sparse_file_leaves_out_are_zeros(tmp_path: Path) -> None:
    image = image_of("uint16")
    image[:, :128, :256] = 0
    source = written(tmp_path / "a.tif", image, tiled=True, blockxsize=128, blockysize=128, SPARSE_OK=True)

    assert (Tiles(source).read(1, (0, 300), (0, 420)) == image[0]).all()


def test_a_tile_that_is_cut_is_an_error_and_no_pixels(tmp_path: Path) -> None:
    from dataclasses import replace

    source = written(
        tmp_path / "a.tif", image_of("uint16"), tiled=True, blockxsize=128, blockysize=128, compress="zstd"
    )
    data = source.read()
    broken = replace(source, tag="sha256:", data=data[: len(data) - 9000] + bytes(9000))

    with pytest.raises(Exception, match=r"."):
        Tiles(broken).read(1, (0, 300), (0, 420))


@pytest.mark.parametrize("compress", ["none", "deflate", "lzw"])
def test_the_pieces_of_a_part_are_together_what_the_part_is(tmp_path: Path, compress: str) -> None:
    source = written(
        tmp_path / "a.tif", image_of("uint16"), tiled=True, blockxsize=128, blockysize=128, compress=compress
    )
    asset = Asset(source, 1, Raster(5e5, 5e6, 10, 10, 420, 300), "uint16", fast=Tiles(source).fast)
    made = np.zeros((200, 310), np.uint16)

    for top, left, part in read_parts(asset, (90, 290), (17, 327)):
        made[top : top + part.shape[0], left : left + part.shape[1]] = part

    assert (made == read_window(asset, (90, 290), (17, 327))).all()


def test_pieces_of_which_no_pixel_is_wanted_are_neither_fetched_nor_decoded(tmp_path: Path) -> None:
    from core.storage import process_storage

    source = written(tmp_path / "a.tif", image_of("uint16"), tiled=True, blockxsize=128, blockysize=128)
    asset = Asset(source, 1, Raster(5e5, 5e6, 10, 10, 420, 300), "uint16", fast=True)
    wanted = np.zeros((300, 420), bool)
    wanted[299, 0], wanted[127, 129] = True, True
    tiles(source)
    storage = process_storage(source.address)
    before = storage.bytes_in

    found = [(top, left, part.shape) for top, left, part in read_parts(asset, (0, 300), (0, 420), wanted)]

    assert found == [(0, 128, (128, 128)), (256, 0, (44, 128))]
    assert storage.bytes_in - before == 2 * 128 * 128 * 2


def test_only_the_tiles_that_are_needed_are_read(tmp_path: Path) -> None:
    from core.storage import process_storage

    source = written(tmp_path / "a.tif", image_of("uint16"), tiled=True, blockxsize=128, blockysize=128)
    found = tiles(source)
    storage = process_storage(source.address)
    before = storage.bytes_in

    found.read(1, (128, 256), (128, 256))

    assert storage.bytes_in - before == 128 * 128 * 2


def test_reading_an_object_that_has_changed_is_an_error(tmp_path: Path) -> None:
    source = written(tmp_path / "a.tif", image_of("uint16"), tiled=True, blockxsize=128, blockysize=128)
    found = tiles(source)
    written(tmp_path / "a.tif", image_of("uint16") + 1, tiled=True, blockxsize=128, blockysize=128)

    with pytest.raises(Exception, match="changed while"):
        found.read(1, (0, 10), (0, 10))


def large(path: Path, **options: Any) -> Stored:
    image = np.random.default_rng(5).integers(0, 65536, (1, 1024, 1024), np.uint16)
    return written(path, image, **options)


def bytes_read_by_gdal(source: Stored, rows: tuple[int, int] | None) -> int:
    from rasterio.windows import Window

    from core.storage import process_storage

    storage = process_storage(source.address)
    before = storage.bytes_in
    with gdal(source) as dataset:
        if rows is not None:
            dataset.read(1, window=Window.from_slices(rows, (0, 1024)))
    return storage.bytes_in - before


@pytest.mark.parametrize("options", [{"compress": "lzw"}, {"tiled": True, "compress": "deflate"}])
def test_opening_a_raster_reads_its_header_and_not_the_file(tmp_path: Path, options: dict[str, Any]) -> None:
    source = large(tmp_path / "a.tif", **options)

    assert source.size > 20 * HEADER
    assert bytes_read_by_gdal(source, None) <= 2 * HEADER


def test_gdal_reads_what_a_window_needs_and_not_the_file(tmp_path: Path) -> None:
    source = large(tmp_path / "a.tif", compress="lzw")

    assert bytes_read_by_gdal(source, (512, 540)) < source.size / 8


@pytest.mark.parametrize("options", [{"compress": "lzw"}, {"tiled": True, "compress": "deflate"}])
def test_an_object_that_changes_while_gdal_has_it_open_is_an_error_that_says_so(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    source = large(tmp_path / "a.tif", **options)

    with pytest.raises(Exception, match="changed while"), gdal(source) as dataset:  # noqa: PT012
        written(tmp_path / "a.tif", image_of("uint16"))
        dataset.read(1)


def test_a_connection_that_fails_beneath_gdal_is_a_failed_connection_which_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = large(tmp_path / "a.tif", compress="lzw")

    def away(*_: Any) -> bytes:
        raise ConnectionError("the storage is away")

    with pytest.raises(ConnectionError, match="away"), gdal(source) as dataset:  # noqa: PT012
        monkeypatch.setattr("apps.satellite.rasters.read_range", away)
        dataset.read(1)
