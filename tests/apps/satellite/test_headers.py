"""What a file's own header says, against what is said of it elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps._frame.stored import Stored
from apps.satellite.rasters import read_window, tiles
from apps.satellite.records import Asset
from apps.satellite.science.grid import Raster
from core import open_storage
from tests.apps.satellite.conftest import Site, flat, pixels, rows_of

PLACE = Raster(500_000.0, 5_000_000.0, 10.0, 10.0, 128, 128)


def written(path: Path, image: Any, **options: Any) -> Path:
    import rasterio
    from affine import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", **options}
    with rasterio.open(
        path, "w", driver="GTiff", width=image.shape[-1], height=image.shape[-2], count=1, dtype=image.dtype,
        crs="EPSG:32632", **{"transform": Affine(*PLACE.transform), **given},
    ) as dataset:  # fmt: skip
        dataset.write(image, 1)
    return path


def asset(path: Path) -> Asset:
    storage = open_storage(str(path.parent))
    info = storage.head(path.name)
    source = Stored(storage.address, path.name, info.size, info.etag)
    return Asset(source, 1, PLACE, "uint16", fast=tiles(source).fast)


@pytest.mark.parametrize(
    "options",
    [{"NBITS": 12}, {"NBITS": 15, "compress": "zstd"}, {"nodata": 9999, "SPARSE_OK": True}, {"SPARSE_OK": True}],
    ids=lambda each: " ".join(map(str, each)),
)  # fmt: skip
def test_numbers_of_few_bits_and_tiles_that_are_left_out_are_read_as_gdal_does(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    import rasterio

    image = np.random.default_rng(3).integers(1, 4000, (128, 128)).astype(np.uint16)
    image[:64] = options.get("nodata", 0)
    path = written(tmp_path / "x.tif", image, **options)

    found = read_window(asset(path), (10, 120), (3, 128))

    with rasterio.open(path) as dataset:
        assert (found == dataset.read(1)[10:120, 3:128]).all()


def calibrated(item: Path, scale: float, offset: float) -> None:
    """Write scale and offset into the headers of a scene's bands."""
    import rasterio

    for band in ("blue", "green", "red", "nir"):
        with rasterio.open(item.parent / f"{band}.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            dataset.scales, dataset.offsets = (scale,), (offset,)


@pytest.mark.parametrize(("scale", "offset", "told"), [(2e-4, 0.0, "--scale"), (1e-4, -0.2, "--offset")])
def test_a_scale_that_is_not_that_of_the_header_is_rejected(
    site: Site, main: Any, tmp_path: Path, scale: float, offset: float, told: str
) -> None:
    calibrated(site.scene("one", flat()), scale, offset)

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    row = rows_of(tmp_path / "run")["one.json"]
    assert (status, row["status"]) == (1, "rejected")
    assert told in row["reason"]


def test_a_flag_decides_between_a_header_and_its_metadata(site: Site, main: Any, tmp_path: Path) -> None:
    calibrated(site.scene("one", flat()), 2e-4, 0.0)

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--scale", "2e-4")

    assert status == 0, err
    assert pixels(tmp_path / "run", "red")[0, 0] == 1400


def test_a_header_says_the_scale_that_an_item_leaves_out(site: Site, main: Any, tmp_path: Path) -> None:
    calibrated(site.scene("one", flat(), platform="planet"), 2e-4, -0.05)

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    assert status == 0, err
    assert pixels(tmp_path / "run", "red")[0, 0] == 900


def test_files_of_one_name_in_several_folders_are_several_scenes(tmp_path: Path, main: Any) -> None:
    for number in range(2):
        image = np.full((128, 128), 3000 + number, np.uint16)
        image[:, 64 * number : 64 * number + 64] = 0
        written(tmp_path / f"in/tile{number}/2024-06-01.tif", image, nodata=0)

    status, _, err = main(
        "run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", "--bands", "red", "--band-names", "red",
        "--scale", "1e-4", "--mask", "none",
    )  # fmt: skip

    assert status == 0, err
    red = pixels(tmp_path / "run", "red")
    assert (red[0, 0], red[0, 127]) == (3001, 3000)


def test_a_baseline_without_its_zero_is_not_newer_for_it(site: Site, main: Any, tmp_path: Path) -> None:
    strip = "S2A_OPER_MSI_L2A_DS_2APS_20240601T120000_S20240601T100001_N05.00"
    for name, baseline in (("old", "2.14"), ("new", "05.00")):
        told = {"s2:processing_baseline": baseline, "s2:mgrs_tile": "32TPS", "s2:datastrip_id": strip}
        site.scene(name, flat(red=3000), properties=told)

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    assert {name: row["status"] for name, row in rows_of(tmp_path / "run").items()} == {
        "old": "superseded",
        "new": "accepted",
    }


def test_a_zone_that_reaches_around_the_world_has_all_pixels(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", flat())
    ring = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    world = {"type": "Feature", "id": "world", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (tmp_path / "zones.geojson").write_text(json.dumps(world))

    main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--zones", tmp_path / "zones.geojson",
        "--cell", "64",
    )  # fmt: skip

    row = dict(zip(*(line.split(",") for line in (tmp_path / "run/zonal.csv").read_text().splitlines()), strict=True))
    assert (row["name"], row["red_pixels"], float(row["red_mean"])) == ("world", str(128 * 128), 0.07)


def test_a_side_of_a_zone_is_straight_in_degrees(site: Site, main: Any, tmp_path: Path) -> None:
    from apps.satellite.science.geodesy import degrees

    # 4 degrees long: straight in the grid's coordinates it would lie kilometres from where its parallel does.
    site.scene("one", flat())
    south = 45.147
    ring = [[7, south], [11, south], [11, 46], [7, 46], [7, south]]
    zone = {"type": "Feature", "id": "z", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (tmp_path / "zones.geojson").write_text(json.dumps(zone))

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--zones", tmp_path / "zones.geojson")

    x, y = np.meshgrid(500_005 + 10 * np.arange(128), 4_999_995 - 10 * np.arange(128))
    expected = (degrees(32632, x, y)[1] > south).sum()
    row = dict(zip(*(line.split(",") for line in (tmp_path / "run/zonal.csv").read_text().splitlines()), strict=True))
    assert row["red_pixels"] == str(expected)


FLAGS = ("--bands", "red", "--band-names", "red", "--scale", "1e-4", "--mask", "none")


def test_each_file_has_its_own_number_for_no_data(tmp_path: Path, main: Any) -> None:
    random = np.random.default_rng(5)
    values = []
    for day, (nodata, dtype) in enumerate([(0, "uint16"), (-9999, "int16"), (65535, "uint16"), (np.nan, "float32")], 1):
        image, missing = random.integers(1, 9000, (128, 128)).astype(dtype), random.random((128, 128)) < 0.3
        values.append(np.where(missing, np.nan, image))
        image[missing] = nodata
        written(tmp_path / f"in/2024-06-0{day}.tif", image, nodata=nodata)

    status, _, err = main("run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", *FLAGS)

    assert status == 0, err
    some = np.isfinite(values).any(0)
    red = pixels(tmp_path / "run", "red")[:128, :128]
    assert (red[some] == np.rint(np.nanmedian(np.array(values)[:, some], 0))).all()
    assert (red[~some] == -32768).all()


@pytest.mark.parametrize("size", [10.0, 10 / 3, 9.554628535647032])
def test_files_side_by_side_are_the_whole_without_a_seam(tmp_path: Path, main: Any, size: float) -> None:
    import rasterio
    from affine import Affine

    side = 101
    whole = np.random.default_rng(6).integers(1, 9000, (2 * side, 2 * side)).astype(np.uint16)
    for row in (0, side):
        for column in (0, side):
            place = Affine(size, 0, 500_000 + column * size, 0, -size, 5_000_000 - row * size)
            part = whole[row : row + side, column : column + side]
            written(tmp_path / f"in/{row}_{column}/2024-06-01.tif", part, nodata=0, transform=place)

    status, _, err = main("run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", *FLAGS)

    assert status == 0, err
    found = 0
    for path in (tmp_path / "run").glob("cells/*/*/composite.tif"):
        with rasterio.open(path) as dataset:
            image, (row, column) = dataset.read(1), dataset.index(500_000 + size / 2, 5_000_000 - size / 2)
        rows, columns = np.nonzero(image != -32768)
        found += rows.size
        assert (image[rows, columns] == whole[rows - row, columns - column]).all()
    assert found == whole.size
