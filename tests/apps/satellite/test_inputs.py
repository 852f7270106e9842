"""Which objects are scenes, and that none is passed over without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from apps.satellite.formats.stac import read_item, resolve
from apps.satellite.geoparquet import read_layer
from apps.satellite.science.geodesy import degrees
from tests.apps.satellite.conftest import Site, flat, noisy, pixels, rows_of
from tests.apps.satellite.test_headers import written


def test_rasters_beside_json_that_is_no_item_are_not_passed_over_silently(tmp_path: Path, main: Any) -> None:
    written(tmp_path / "in/2024-06-01.tif", np.full((128, 128), 3000, np.uint16), nodata=0)
    (tmp_path / "in/notes.json").write_text("{}")
    flags = ("--bands", "red", "--band-names", "red", "--scale", "1e-4", "--mask", "none")

    status, _, err = main("run", "--input", f"{tmp_path}/in/", "--output", tmp_path / "run", *flags)

    assert status == 2
    assert "name GeoTIFFs by --input themselves" in err


def test_a_geotiff_among_items_that_none_of_them_names_is_a_row(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", flat(64), assets={"nir": {"href": f"file://{site.folder}/one/nir.tif"}})
    beside = written(site.folder / "one/2024-06-01.tif", np.full((128, 128), 3000, np.uint16), nodata=0)

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    rows = rows_of(tmp_path / "run")
    assert (status, {name: row["status"] for name, row in rows.items()}) == (
        0, {"one": "accepted", beside.name: "passed over"},
    )  # fmt: skip
    assert rows[beside.name]["source"].endswith("one/2024-06-01.tif")
    assert "name it by --input itself" in rows[beside.name]["reason"]


def test_a_run_in_the_folder_of_its_scenes_is_refused_and_one_below_it_is_taken_up(site: Site, main: Any) -> None:
    site.scene("one", flat(64))
    run = ("run", "--input", f"{site.folder}/", "--output")

    status, _, err = main(*run, site.folder)

    assert (status, "is where --input is" in err) == (2, True)
    assert [path.name for path in site.folder.iterdir()] == ["one"]
    assert main(*run, site.folder / "below")[0] == 0
    status, _, err = main(*run, site.folder / "below")
    assert (status, "was finished before" in err) == (0, True)
    assert len(rows_of(site.folder / "below")) == 1


def test_items_of_a_collection_are_relative_to_their_own_addresses(site: Site, main: Any, tmp_path: Path) -> None:
    features = []
    for date in (1, 2):
        path = site.scene(f"s{date}", flat(64, red=1000 * date), when=f"2024-06-0{date}T10:00:00Z")
        links = [{"rel": "self", "href": f"file://{path}"}]
        features.append({**json.loads(path.read_text()), "links": links})
    found = site.folder / "s1/found.json"  # beside files of the same names
    found.write_text(json.dumps({"type": "FeatureCollection", "features": features}))

    status, _, err = main("run", "--input", found, "--output", tmp_path / "run", "--stat", "mean")

    assert status == 0, err
    assert (pixels(tmp_path / "run", "red")[:64, :64] == 1500).all()


@pytest.mark.parametrize("form", ["{}", "file://{}", "file:{}"])
def test_an_asset_is_found_by_each_form_of_a_file_s_address(site: Site, main: Any, tmp_path: Path, form: str) -> None:
    nir = tmp_path / "elsewhere/nir #1 é.tif"
    item = site.scene("a b", flat(64), assets={"nir": {"href": form.format(nir)}})
    nir.parent.mkdir()
    (item.parent / "nir.tif").rename(nir)

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    assert status == 0, err


def test_pixels_of_a_zone_are_the_smallest_of_its_scenes_whatever_bands_are_called(
    site: Site, main: Any, tmp_path: Path
) -> None:
    images = {**noisy(1), "blue": noisy(2, 64)["blue"]}
    site.scene("one", images)

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--resample", "nearest")

    assert status == 0, err
    assert (pixels(tmp_path / "run", "red")[:128, :128] == images["red"]).all()
    assert (pixels(tmp_path / "run", "blue")[:128, :128] == images["blue"].repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize("claimed", [-9999, 0.5, 70_000, "nan"])
def test_a_number_that_no_pixel_can_be_does_not_stand_for_no_data(
    site: Site, main: Any, tmp_path: Path, claimed: Any
) -> None:
    item = site.scene("one", flat(128), assets={"red": {"nodata": claimed}})
    written(item.parent / "red.tif", np.full((128, 128), 700, np.uint16))

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    (row,) = rows_of(tmp_path / "run").values()
    assert (status, row["status"]) == (1, "rejected")
    assert "red has numbers of uint16, and none can be" in row["reason"]
    assert main("run", "--input", f"{site.folder}/", "--output", tmp_path / "other", "--nodata", "-1")[0] == 0


def test_a_collection_of_items_among_other_files_is_a_row(site: Site, main: Any, tmp_path: Path) -> None:
    item = site.scene("one", flat(64))
    collection = {"type": "FeatureCollection", "features": [json.loads(item.read_text())]}
    (site.folder / "found.json").write_text(json.dumps(collection))

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    rows = rows_of(tmp_path / "run")
    assert (status, rows["one"]["status"], rows["found.json"]["status"]) == (1, "accepted", "rejected")
    assert "--input itself" in rows["found.json"]["reason"]


def test_a_changed_band_of_a_product_is_noticed_when_a_run_is_taken_up(real: Path, main: Any, tmp_path: Path) -> None:
    import shutil

    product = tmp_path / "in"
    product.mkdir()
    for path in (real / "landsat_c2").glob("LC08_L2SP_005009*[!c].*"):
        shutil.copy(path, product)
    run = ("run", "--input", f"{product}/", "--output", tmp_path / "run", "--bands", "green,red,nir")
    assert main(*run)[0] == 0
    band = next(product.glob("*SR_B4.TIF"))
    band.write_bytes(band.read_bytes()[:-1] + b"\0")

    status, _, err = main(*run)

    assert status == 2
    assert "has changed since run" in err


def test_what_a_query_finds_is_not_written_into_the_run(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", noisy(1, 64))
    run = tmp_path / "run"
    main("run", "--input", f"{site.folder}/", "--output", run)

    status, _, err = main("query", "--output", run, "--bbox", "8,45,10,46", "--result", run / "index")

    assert status == 2
    assert "within the run itself" in err
    assert main("verify", "--output", run)[0] == 0


def test_a_changed_file_of_an_item_is_noticed_when_a_finished_run_is_taken_up(
    site: Site, main: Any, tmp_path: Path
) -> None:
    item = site.scene("one", noisy(1, 64))
    run = ("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")
    main(*run)
    Site(tmp_path / "other").scene("one", noisy(2, 64))
    (item.parent / "red.tif").write_bytes((tmp_path / "other/one/red.tif").read_bytes())

    status, _, err = main(*run)

    assert status == 2
    assert "red.tif has changed since run" in err


def test_a_finished_run_outlives_the_files_it_was_made_of(site: Site, main: Any, tmp_path: Path) -> None:
    item = site.scene("one", noisy(1, 64))
    run = ("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")
    main(*run)
    (item.parent / "red.tif").unlink()

    status, _, err = main(*run)

    assert (status, "was finished before" in err) == (0, True)


@pytest.mark.parametrize(
    ("version", "key", "band"),
    [
        ("1.0.0", "eo:bands", {"name": "B04", "common_name": "red"}),
        ("1.1.0", "bands", {"name": "B04", "eo:common_name": "red"}),
        ("1.1.0", "eo:bands", {"name": "B04", "common_name": "red"}),
    ],
)
def test_an_asset_is_known_by_the_common_name_of_its_band(version: str, key: str, band: dict[str, str]) -> None:
    red = {"href": "/scenes/R10m/B04.tif", "type": "image/tiff", key: [band]}
    other = {"href": "/scenes/R10m/B08.tif", "type": "image/tiff", key: [{"name": "B08"}]}
    item = {
        "type": "Feature", "stac_version": version, "id": "one", "assets": {"x": other, "y": red},
        "properties": {"datetime": "2024-06-01T10:00:00Z", "platform": "planet"},
    }  # fmt: skip

    assert read_item(item, "/scenes/one.json", ["red"], masked=False).bands["red"].href == "/scenes/R10m/B04.tif"


def test_an_item_of_landsat_has_the_scale_of_its_collection_where_it_says_none() -> None:
    name = "LC08_L2SP_195028_20240601_20240611_02_T1"
    assets = {"red": {"href": "/scenes/B4.tif"}, "qa_pixel": {"href": "/scenes/QA.tif"}}
    properties = {"datetime": "2024-06-01T10:00:00Z", "platform": "landsat-8"}
    item = {"type": "Feature", "stac_version": "1.1.0", "id": name, "assets": assets, "properties": properties}

    red = read_item(item, "/scenes/one.json", ["red"], masked=True).bands["red"]

    assert (red.scale, red.offset, red.nodata) == (2.75e-5, -0.2, 0)  # Landsat 8-9 C2 L2 Science Product Guide


@pytest.mark.parametrize(
    ("name", "told", "datatake", "tile"),
    [
        ("LC08_L2SP_195028_20240601_20240611_02_T1", {}, "landsat-8 195 20240601", "028"),
        ("x", {"landsat:wrs_path": "5", "landsat:wrs_row": 9}, "landsat-8 005 20240601", "009"),
        ("x", {}, "landsat-8 2024-06-01T10:00:00.000Z", "x"),
        ("x", {"landsat:wrs_row": "9"}, "landsat-8 2024-06-01T10:00:00.000Z", "009"),
    ],
)
def test_scenes_of_landsat_are_one_date_by_their_path_or_not_at_all(
    name: str, told: dict[str, Any], datatake: str, tile: str
) -> None:
    item = {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "assets": {"red": {"href": "/scenes/B4.tif"}},
        "properties": {"datetime": "2024-06-01T10:00:00Z", "platform": "landsat-8", **told},
    }  # fmt: skip

    draft = read_item(item, "/scenes/one.json", ["red"], masked=False)

    assert (draft.datatake, draft.tile) == (datatake, tile)


def test_an_index_that_is_the_threshold_is_not_water(site: Site, main: Any, tmp_path: Path) -> None:
    images = flat(64, green=1500, nir=500)  # NDWI is 0.5
    images["green"][:32] = 1600
    site.scene("one", images)

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--water", "0.5")

    (shape,), _ = read_layer((tmp_path / "run/index/water.parquet").read_bytes())
    assert shape.bounds[1] == pytest.approx(degrees(32632, 500_000, 5_000_000 - 320)[1], abs=1e-5)


NAMES = ["my red.tif", "red+1.tif", "red#1.tif", "red?1.tif", "r\u00f6t.tif", "100%.tif", "red%20raw.tif"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spelling", ["as it is", "percent-encoded"])
@pytest.mark.parametrize("kind", ["relative", "path", "file://"])
def test_an_image_of_any_name_is_found_however_its_item_spells_it(
    name: str, spelling: str, kind: str, site: Site, main: Any, tmp_path: Path
) -> None:
    begin = {"relative": "./", "path": f"{site.folder}/one/", "file://": f"file://{site.folder}/one/"}[kind]
    site.scene("one", flat(64), assets={"red": {"href": begin + (name if spelling == "as it is" else quote(name))}})
    (site.folder / "one/red.tif").rename(site.folder / "one" / name)

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    assert (status, [row["reason"] for row in rows_of(tmp_path / "run").values()]) == (0, [""]), err


@pytest.mark.parametrize("begin", ["s3://scenes/", "/vsis3/scenes/", ""])
def test_addresses_of_buckets_in_items_are_of_the_service_that_the_item_is_in(begin: str) -> None:
    base = "s3://scenes/one/item.json?endpoint=http://127.0.0.1:9000"

    found = resolve(f"{begin}one/red.tif" if begin else "red.tif", base)

    assert found == "s3://scenes/one/red.tif?endpoint=http://127.0.0.1:9000"
    assert resolve("/vsicurl/https://host/a.tif?sig=1", base) == "https://host/a.tif?sig=1"
    assert resolve("s3://other/a.tif", "/folder/item.json") == "s3://other/a.tif"


def test_an_address_that_gdal_alone_knows_is_refused_with_what_to_write(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", flat(64), assets={"red": {"href": "/vsigs/bucket/red.tif"}})

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")

    assert "write s3://, https:// or a path" in rows_of(tmp_path / "run")["one.json"]["reason"]
