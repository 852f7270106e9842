"""Rasters of every kind that people have: read as they are meant, or rejected with a reason, and never another way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.apps.satellite.conftest import Site, flat, pixels, rows_of

SIDE = 128
SHOWN = np.full((SIDE, SIDE), 255, np.uint8)
SHOWN[:40, :90] = 0
CORNER = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def numbers(count: int = 1, dtype: str = "uint16") -> NDArray[Any]:
    most = 100 if dtype in ("uint8", "int8") else 9000
    return np.random.default_rng(3).integers(1, most, (count, SIDE, SIDE)).astype(dtype)


def raster(path: Path, image: NDArray[Any], *, mask: NDArray[np.uint8] | None = None, **options: Any) -> Path:
    """Write a GeoTIFF; options of `rasterio.open`, and descriptions, tags, a table of colours."""
    import rasterio
    from affine import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    table, tags, descriptions = (options.pop(name, {}) for name in ("table", "tags", "descriptions"))
    given = {"tiled": True, "blockxsize": 64, "blockysize": 64, "crs": "EPSG:32632", "transform": Affine(*CORNER)}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=image.shape[2], height=image.shape[1], count=len(image),
            dtype=options.pop("dtype", image.dtype), **{**given, **options},
        ) as dataset,
    ):  # fmt: skip
        dataset.write(image)
        if descriptions:
            dataset.descriptions = descriptions
        if mask is not None:
            dataset.write_mask(mask)
        if table:
            dataset.write_colormap(1, table)
        dataset.update_tags(**tags)
    return path


@pytest.fixture
def plain(tmp_path: Path, main: Any) -> Any:
    """Run on one GeoTIFF with flags alone; gives the row of the scene, and the run."""

    def run(image: NDArray[Any], *flags: object, **options: Any) -> tuple[dict[str, str], Path]:
        raster(tmp_path / "in/2024-06-01.tif", image, **options)
        names = ["red", *(f"b{at}" for at in range(1, len(image)))]
        main(
            "run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", "--bands", "red", "--band-names",
            ",".join(names), "--mask", "none", *flags,
        )  # fmt: skip
        (row,) = rows_of(tmp_path / "run").values()
        return row, tmp_path / "run"

    return run


@pytest.fixture
def item(tmp_path: Path, main: Any) -> Any:
    """Run on an item whose bands are in one GeoTIFF; gives the row of the scene."""

    def run(image: NDArray[Any], asset: dict[str, Any], key: str = "analytic", **options: Any) -> dict[str, str]:
        raster(tmp_path / "in/a.tif", image, nodata=0, **options)
        found = {
            "type": "Feature", "stac_version": "1.1.0", "id": "x", "geometry": None, "links": [],
            "properties": {"datetime": "2024-06-01T10:00:00Z", "platform": "planet", "proj:code": "EPSG:32632"},
            "assets": {key: {"href": "a.tif", "type": "image/tiff", "raster:scale": 1e-4, **asset}},
        }  # fmt: skip
        (tmp_path / "in/x.json").write_text(json.dumps(found))
        main(
            "run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", "--bands", "red", "--mask", "none"
        )  # fmt: skip
        (row,) = rows_of(tmp_path / "run").values()
        return row

    return run


def named(*names: str) -> list[dict[str, str]]:
    return [{"name": f"b{at}", "eo:common_name": name} for at, name in enumerate(names)]


@pytest.mark.parametrize(
    ("dtype", "flags"),
    [
        ("uint16", ()),
        ("uint16", ("--nodata", "0")),
        ("float32", ("--scale", "1")),
        ("uint8", ()),
        ("int32", ("--nodata", "-1")),
    ],
)
def test_what_a_mask_within_the_file_hides_is_no_data(plain: Any, dtype: str, flags: tuple[str, ...]) -> None:
    image = numbers(dtype="uint8" if dtype == "uint8" else "uint16")
    written = (image / 1e4 if dtype == "float32" else image).astype(dtype)

    row, run = plain(written, "--scale", "1e-4", *flags, mask=SHOWN, compress="deflate")

    assert row["status"] == "accepted", row["reason"]
    assert (pixels(run, "red")[:SIDE, :SIDE] == np.where(SHOWN, image[0].astype(int), -32768)).all()


@pytest.mark.parametrize("nodata", [None, 7])
def test_what_a_band_of_transparency_hides_is_no_data(plain: Any, nodata: int | None) -> None:
    image = numbers(2)
    image[1] = SHOWN.astype(np.uint16) * 257
    image[0, 100] = 65535  # saturated

    row, run = plain(image, "--scale", "1e-4", nodata=nodata, photometric="MINISBLACK", ALPHA="YES")

    hidden = (SHOWN == 0) | (image[0] == 65535) | (image[0] == nodata)
    assert row["status"] == "accepted", row["reason"]
    assert (pixels(run, "red")[:SIDE, :SIDE] == np.where(hidden, -32768, image[0].astype(int))).all()


@pytest.mark.parametrize(
    "options",
    [
        {"ENDIANNESS": "BIG", "compress": "deflate", "predictor": 2},
        {"BIGTIFF": "YES", "compress": "zstd", "predictor": 2},
        {"compress": "lerc_zstd"},
        {"compress": "lzw", "predictor": 2},
        {"interleave": "band", "compress": "deflate", "predictor": 2},
        {"tags": {"AREA_OR_POINT": "Point"}},
        {"tiled": False},
    ],
    ids=lambda each: " ".join(map(str, each.values())),
)
def test_numbers_and_their_places_are_those_that_were_written(plain: Any, options: dict[str, Any]) -> None:
    image = numbers(2)
    image[0, 5] = 0

    row, run = plain(image, "--scale", "1e-4", nodata=0, **options)

    assert row["status"] == "accepted", row["reason"]
    assert (pixels(run, "red")[:SIDE, :SIDE] == np.where(image[0] == 0, -32768, image[0].astype(int))).all()


@pytest.mark.parametrize("nodata", [float("nan"), -9999.0, float("-inf")])
def test_floats_that_are_no_numbers_or_no_data_are_left_out(plain: Any, nodata: float) -> None:
    image = (numbers() / 1e4).astype(np.float32)
    image[0, 0], image[0, 1], image[0, 2] = nodata, np.nan, np.inf

    row, run = plain(image, "--scale", "1", nodata=nodata, compress="deflate", predictor=3)

    assert row["status"] == "accepted", row["reason"]
    red = pixels(run, "red")[:SIDE, :SIDE]
    assert (red[:3] == -32768).all()
    assert (red[3:] == numbers()[0, 3:]).all()


def test_one_pixel_is_a_scene(plain: Any) -> None:
    row, run = plain(numbers()[:, :1, :1], "--scale", "1e-4", nodata=0)

    assert row["status"] == "accepted", row["reason"]
    assert pixels(run, "red")[0, 0] == numbers()[0, 0, 0]


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (numbers(dtype="uint8"), {"table": {at: (at, 0, 0, 255) for at in range(256)}}, "table of colours"),
        (numbers().astype(np.complex64), {}, "complex"),
        (numbers().astype(np.complex64), {"dtype": "complex_int16"}, "complex"),
    ],
    ids=["classes", "complex", "complex integers"],
)
def test_numbers_that_are_no_reflectance_are_rejected(
    plain: Any, image: NDArray[Any], options: dict[str, Any], words: str
) -> None:
    row, _ = plain(image, "--scale", "1e-4", "--nodata", "0", **options)

    assert (row["status"], words in row["reason"]) == ("rejected", True), row


@pytest.mark.parametrize(
    ("dtype", "flags"),
    [("uint16", ("--scale", "1e-4", "--nodata", "9999")), ("float32", ("--scale", "1"))],
)
def test_tiles_that_are_left_out_are_not_taken_for_dark(plain: Any, dtype: str, flags: tuple[str, ...]) -> None:
    image = numbers()
    image[:, :64] = 0

    row, _ = plain(image.astype(dtype), *flags, SPARSE_OK=True, compress="deflate")

    assert (row["status"], "leaves tiles out" in row["reason"]) == ("rejected", True), row


def test_a_tile_that_would_be_the_header_is_damage(tmp_path: Path, main: Any) -> None:
    from tifffile import TiffFile

    path = raster(tmp_path / "in/2024-06-01.tif", numbers(), nodata=0)
    with TiffFile(path) as file:
        place = file.pages[0].tags[324].valueoffset
    data = bytearray(path.read_bytes())
    data[place : place + 4] = bytes(4)
    path.write_bytes(data)

    main(
        "run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", "--bands", "red", "--band-names", "red",
        "--mask", "none", "--scale", "1e-4",
    )  # fmt: skip

    assert "where its header is" in rows_of(tmp_path / "run")["2024-06-01.tif"]["reason"]


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("+proj=utm +zone=32 +ellps=WGS84 +towgs84=100,200,300,0,0,0,0 +units=m", "resembles EPSG:32632"),
        ("+proj=utm +zone=32 +ellps=intl +units=m", "resembles EPSG:23032"),
        ("+proj=utm +zone=32 +datum=WGS84 +units=km", "no system of EPSG in metres"),
    ],
)  # fmt: skip
def test_a_system_that_resembles_one_of_epsg_is_not_taken_for_it(plain: Any, system: str, words: str) -> None:
    row, _ = plain(numbers(), "--scale", "1e-4", nodata=0, crs=system)

    assert (row["status"], words in row["reason"]) == ("rejected", True), row


def test_a_system_written_in_other_words_is_the_one_that_it_is(plain: Any) -> None:
    row, _ = plain(numbers(), "--scale", "1e-4", nodata=0, crs="+proj=utm +zone=32 +datum=WGS84 +units=m")

    assert (row["status"], row["zone"]) == ("accepted", "32632")


@pytest.mark.parametrize("epsg", [3413, 3031])
def test_a_scene_at_a_pole_is_rejected_and_the_others_are_used(tmp_path: Path, main: Any, epsg: int) -> None:
    from affine import Affine

    for name, left in (("2024-06-01", -6400.0), ("2024-06-02", 300_000.0)):
        place = Affine(100, 0, left, 0, -100, 6400)
        raster(tmp_path / f"in/{name}.tif", numbers(), nodata=0, crs=f"EPSG:{epsg}", transform=place)

    status, _, _ = main(
        "run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", "--bands", "red", "--band-names", "red",
        "--mask", "none", "--scale", "1e-4",
    )  # fmt: skip

    rows = rows_of(tmp_path / "run")
    assert (status, rows["2024-06-02"]["status"]) == (1, "accepted")
    assert "a pole" in rows["2024-06-01.tif"]["reason"]


@pytest.mark.parametrize(
    ("epsg", "left", "top", "size"),
    [
        (3857, 1_000_000, 8_000_000, 10),
        (3857, 20_037_508 - 320, 8_000_000, 10),
        (3413, -300_000, -1_000_000, 100),
        (3413, 700_000, 703_200, 100),
        (32632, 500_000, 320, 10),
        (32732, 500_000, 10_000_320, 10),
    ],
    ids=["mercator", "mercator at 180 degrees", "polar", "polar at 90 degrees", "equator north", "equator south"],
)
def test_areas_are_those_of_the_ellipsoid_in_any_system(
    tmp_path: Path, main: Any, epsg: int, left: float, top: float, size: float
) -> None:
    from affine import Affine
    from pyproj import Geod, Transformer

    image = np.full((3, 64, 64), 900, np.uint16)
    image[2] = 3000
    image[2, 20:44, 20:44] = 100
    place = Affine(size, 0, left, 0, -size, top)
    raster(tmp_path / "in/2024-06-01.tif", image, nodata=0, crs=f"EPSG:{epsg}", transform=place)

    status, _, err = main(
        "run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", "--bands", "red,green,nir", "--band-names",
        "red,green,nir", "--mask", "none", "--scale", "1e-4",
    )  # fmt: skip

    to_degrees, ellipsoid = Transformer.from_crs(epsg, 4326, always_xy=True), Geod(ellps="WGS84")
    expected = 0.0
    for row, column in np.argwhere(image[2] == 100):
        x, y = left + size * column, top - size * row
        corners = to_degrees.transform([x, x + size, x + size, x], [y, y, y - size, y - size])
        expected += abs(ellipsoid.polygon_area_perimeter(*corners)[0])
    assert status == 0, err
    assert json.loads((tmp_path / "run/result.json").read_text())["area_km2"] == pytest.approx(expected / 1e6, rel=1e-8)


def test_a_band_that_the_file_calls_by_another_s_name_is_rejected(item: Any) -> None:
    row = item(numbers(2), {"bands": named("red", "green")}, descriptions=("green", "red"))

    assert (row["status"], "calls itself green" in row["reason"]) == ("rejected", True), row


@pytest.mark.parametrize(
    ("key", "asset"),
    [
        ("red", {}),
        ("analytic", {"bands": named("red")}),
        ("analytic", {"bands": named("red", "green", "blue", "nir")}),
        ("red", {"raster:bands": [{"scale": 0.1}, {"scale": 1e-4}]}),
    ],
    ids=["none listed", "one listed", "more listed", "two scales of one band"],
)
def test_a_file_of_other_bands_than_its_item_lists_is_rejected(item: Any, key: str, asset: dict[str, Any]) -> None:
    row = item(numbers(1 if "raster:bands" in asset else 3), asset, key)

    assert (row["status"], "is said to be of" in row["reason"]) == ("rejected", True), row


def test_a_band_that_an_item_lists_twice_is_not_guessed_between(item: Any) -> None:
    row = item(numbers(3), {"bands": named("red", "green", "red")})

    assert (row["status"], "several assets have the band red" in row["reason"]) == ("rejected", True), row


@pytest.mark.parametrize(
    "asset",
    [
        {"proj:shape": [64, 64]},
        {"proj:transform": [20, 0, 500_000, 0, -20, 5_000_000]},
        {"proj:transform": [10, 0, 500_005, 0, -10, 4_999_995]},
        {"proj:transform": [500_000, 10, 0, 5_000_000, 0, -10]},
    ],
    ids=["another shape", "another resolution", "half a pixel beside", "in the order of GDAL"],
)
def test_an_item_that_has_another_place_than_its_file_is_rejected(item: Any, asset: dict[str, Any]) -> None:
    row = item(numbers(), {"bands": named("red"), **asset})

    assert (row["status"], "is said to" in row["reason"]) == ("rejected", True), row


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_scale_of_a_mission_s_integers_is_not_taken_for_other_numbers(
    site: Site, main: Any, tmp_path: Path, dtype: str
) -> None:
    place = site.scene("one", flat()).parent
    for band in ("blue", "green", "red", "nir"):
        raster(place / f"{band}.tif", np.full((1, SIDE, SIDE), 70).astype(dtype), nodata=0)

    first, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")
    told, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "told", "--scale", "1e-3")

    assert (first, told) == (1, 0), err
    assert dtype in rows_of(tmp_path / "run")["one.json"]["reason"]
    assert pixels(tmp_path / "told", "red")[0, 0] == 700


@pytest.mark.parametrize(
    ("times", "status"),
    [
        ({"start_datetime": "2024-05-01T00:00:00Z", "end_datetime": "2024-06-01T00:00:00Z"}, "accepted"),
        ({"end_datetime": "2024-06-01T00:00:00Z"}, "rejected"),
    ],
)
def test_a_range_of_time_is_dated_by_its_begin(
    site: Site, main: Any, tmp_path: Path, times: dict[str, str], status: str
) -> None:
    site.scene("one", flat(), properties={"datetime": None, **times})

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    (row,) = rows_of(tmp_path / "run").values()
    assert (row["status"], row["when"][:10]) == (status, "2024-05-01" if status == "accepted" else "")


def test_harmonized_scenes_of_both_missions_have_the_scale_of_their_files_and_no_offset(
    tmp_path: Path, main: Any
) -> None:
    import rasterio

    for at, (name, platform) in enumerate((("S30", "sentinel-2b"), ("L30", "landsat-8"))):
        image = np.full((1, SIDE, SIDE), 1000 * (at + 1), np.int16)
        image[0, :, 64 * at : 64 * at + 40] = -9999
        path = raster(tmp_path / f"in/{name}/B04.tif", image, nodata=-9999)
        with rasterio.open(path, "r+") as dataset:
            dataset.scales = (1e-4,)
        found = {
            "type": "Feature", "stac_version": "1.0.0", "id": f"HLS.{name}.T32TQR.2024153T100031.v2.0", "links": [],
            "geometry": None,
            "properties": {"datetime": f"2024-06-0{at + 1}T10:00:00Z", "platform": platform, "proj:epsg": 32632},
            "assets": {"B04": {"href": "B04.tif", "eo:bands": [{"name": "B04", "common_name": "red"}]}},
        }  # fmt: skip
        (tmp_path / f"in/{name}/x.json").write_text(json.dumps(found))

    status, _, err = main(
        "run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", "--bands", "red", "--mask", "none"
    )

    assert status == 0, err
    assert pixels(tmp_path / "run", "red")[0, [0, 50, 70, 120]].tolist() == [2000, 1500, 1000, 1500]
