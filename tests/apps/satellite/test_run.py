"""Whole runs by the command line: the example's truth, an independent oracle, the catalogue, queries, resuming."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from apps.satellite import demo
from apps.satellite.geoparquet import read_layer
from apps.satellite.science.geodesy import areas, to_degrees
from apps.satellite.science.grid import Raster
from apps.satellite.science.shapes import lattice, outlines
from tests.apps.satellite.conftest import Main, Site, flat, noisy, pixels, rows_of

FILE = """
import numpy as np
import shapely


def brightest(cell):
    values = np.where(cell.valid[:, None], cell.values, -32768)
    left, top = cell.transform[2], cell.transform[5]
    square = shapely.box(left, top - 100, left + 100, top)
    return {"most": values.max(0)[0], "dates": cell.valid.sum(0)}, [(square, {"corner": [left, top]})]


def broken(cell):
    return cell.no_such_field
"""


def files(run: Path) -> dict[str, bytes]:
    """What a run has published, and its cells."""
    skipped = ("manifest.json", "manifest.sha256")
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and ".run" not in path.parts and path.name not in skipped
    }


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's run."""
    from apps.satellite.__main__ import main

    folder = tmp_path_factory.mktemp("example")
    scenes = demo.write_example(folder)
    zones = folder / demo.ZONES
    told = ["--zones", str(zones), "--cell", str(demo.CELL), "--change", demo.LATER, "--compute", "serial", "--quiet"]
    assert main(["run", "--input", scenes, "--output", str(folder / "run"), *told]) == 0
    return folder / "run"


def zone_pixels(run: Path, zone: int, band: str) -> Any:
    import rasterio

    whole = np.full((demo.SIDE, demo.SIDE), -32768, np.int16)
    left, top = demo.CORNERS[zone]
    for path in (run / "cells" / str(zone)).glob("*/composite.tif"):
        with rasterio.open(path) as dataset:
            row, column = round((top - dataset.transform.f) / 10), round((dataset.transform.c - left) / 10)
            part = np.s_[row : row + dataset.height, column : column + dataset.width]
            whole[part] = dataset.read(dataset.descriptions.index(band) + 1)
    return whole


@pytest.mark.parametrize("zone", list(demo.CORNERS))
def test_the_example_finds_its_truth(example: Path, zone: int) -> None:
    known = demo.truth(zone)
    land = ~known.water
    ndvi = zone_pixels(example, zone, "ndvi")

    three = (zone_pixels(example, zone, "count") == 3) & land
    expected = np.median([known.ndvi(date) for date in range(3)], 0)
    error = np.abs(ndvi[three] / 1e4 - expected[three])
    assert three.mean() > 0.2
    assert np.median(error) < 0.03

    change = zone_pixels(example, zone, "ndvi_change")[demo.CLEARED]
    assert np.median(change[change != -32768]) < -5000


def test_water_of_the_example_is_one_layer_with_its_area_on_the_ellipsoid(example: Path) -> None:
    shapes, columns = read_layer((example / "index/water.parquet").read_bytes())

    large = [at for at, area in enumerate(columns["area_m2"]) if area > 1e5]
    assert len(large) == 4  # a lake and a river in each of two zones
    for zone in demo.CORNERS:
        here = [at for at in large if columns["zone"][at] == zone]
        truth = outlines(demo.truth(zone).water, lattice(Raster(*demo.CORNERS[zone], 10, 10, demo.SIDE, demo.SIDE)))
        expected = areas(to_degrees(truth, zone)).sum()
        assert sum(columns["area_m2"][at] for at in here) == pytest.approx(expected, rel=0.02)
    assert all(shapely.is_valid(shapes))
    assert all(" " in columns["cell"][at] for at in large)


def test_statistics_of_zones_are_those_of_the_pixels_in_them(example: Path) -> None:
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO((example / "zonal.csv").read_text()))}

    for zone in demo.CORNERS:
        row = rows[f"cleared {demo.TILES[zone]}"]
        image = zone_pixels(example, zone, "ndvi_change")[demo.CLEARED]
        valid = image[image != -32768]
        assert int(row["ndvi_change_pixels"]) == pytest.approx(valid.size, abs=60)  # edges of a box in degrees
        assert float(row["ndvi_change_mean"]) == pytest.approx(valid.mean() / 1e4, abs=0.01)


def test_the_catalogue_is_valid_and_its_files_are_what_it_says(example: Path) -> None:
    import hashlib

    import pystac

    catalog = pystac.Catalog.from_file(str(example / "catalog.json"))
    items = list(catalog.get_items())

    catalog.validate()
    assert len(items) == 18
    for each in items:
        document = json.loads(Path(each.get_self_href()).read_text())
        assert document["stac_version"] == "1.1.0"
        # Schemas of extensions are on the network; that of the core comes with pystac.
        each.stac_extensions = []
        each.validate()
        for asset in each.assets.values():
            data = Path(asset.get_absolute_href()).read_bytes()
            assert asset.extra_fields["file:checksum"] == f"1220{hashlib.sha256(data).hexdigest()}"
            assert asset.extra_fields["file:size"] == len(data)


def test_composites_are_cloud_optimized_with_named_bands(example: Path) -> None:
    import rasterio

    path = next(example.glob("cells/*/*/composite.tif"))
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.descriptions == ("blue", "green", "red", "nir", "ndvi", "ndwi", "ndvi_change", "count")
        assert (dataset.nodata, dataset.dtypes[0], dataset.scales[0]) == (-32768, "int16", 1e-4)


def test_the_report_has_maps_and_every_scene(example: Path) -> None:
    text = (example / "report.html").read_text("utf-8")

    assert text.count("<img") == 10
    assert "superseded" in text
    assert "32632/0_-1" in text


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_a_composite_over_cells_is_what_an_oracle_makes_of_whole_scenes(
    site: Site, main: Any, version: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(5)
    dates, masks = [], []
    for date in range(5):
        images = noisy(date, 200)
        images["red"][random.random((200, 200)) < 0.05] = 0
        images["nir"][random.random((200, 200)) < 0.02] = 65535
        scl = random.choice(np.array([2, 4, 5, 6, 8, 9, 3], np.uint8), (100, 100))
        site.scene(f"s{date}", images, when=f"2024-06-0{date + 1}T10:00:00Z", scl=scl, version=version)
        dates.append(images)
        masks.append(np.isin(scl, (3, 8, 9)).repeat(2, 0).repeat(2, 1))

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--cell", 64)

    assert status == 0, err
    names = ("blue", "green", "red", "nir")
    stack = np.array([[images[name] for name in names] for images in dates], np.float64)
    valid = ~np.array(masks) & (stack != 0).all(1) & (stack != 65535).all(1)
    some = valid.any(0)
    masked = np.where(valid[:, None], stack, np.nan)
    assert (pixels(tmp_path / "run", "count")[:200, :200] == valid.sum(0)).all()
    for at, name in enumerate(names):
        made = pixels(tmp_path / "run", name)[:200, :200]
        assert (made[some] == np.rint(np.nanmedian(masked[:, at][:, some], 0))).all()
        assert (made[~some] == -32768).all()


def test_bands_on_other_pixels_are_resampled_by_the_rule_that_was_named(site: Site, main: Any, tmp_path: Path) -> None:
    ramp = np.tile(np.arange(100, 1380, 10, dtype=np.uint16), (128, 1))
    images = dict.fromkeys(("green", "red", "nir"), ramp)
    for number in range(2):
        site.scene(f"on{number}", images, when=f"2024-06-0{number + 1}T10:00:00Z")
    beside = site.scene("beside", images, when="2024-07-01T10:00:00Z", corner=(500_005.0, 5_000_000.0))
    flags = ("--bands", "green,red,nir", "--change", "2024-07-01")

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", *flags, "--resample", "bilinear")

    assert rows_of(tmp_path / "run")["beside"]["status"] == "accepted"
    assert beside.exists()
    # Where three dates are, two of them say x and the third x - 5: the median is x; the mean shows the third.
    main(
        "run",
        "--input",
        f"{site.folder}/",
        "--output",
        tmp_path / "mean",
        *flags,
        "--resample",
        "bilinear",
        "--stat",
        "mean",
    )
    red = pixels(tmp_path / "mean", "red")[4:100, 4:100].astype(float)
    assert np.abs(red - (ramp[4:100, 4:100] - 5 / 3)).max() <= 0.5


def test_a_query_is_exact_at_pixel_and_feature(example: Path, main: Any, tmp_path: Path) -> None:
    import rasterio
    from pyproj import Transformer

    box = (11.93, 46.445, 12.04, 46.475)

    status, out, err = main(
        "query", "--output", example, "--bbox", ",".join(map(str, box)), "--result", tmp_path / "found", "--json"
    )

    assert status == 0, err
    found = json.loads(out)
    assert sorted(found["rasters"]) == ["32632.tif", "32633.tif"]
    for zone in demo.CORNERS:
        left, top = demo.CORNERS[zone]
        to_degrees_ = Transformer.from_crs(zone, 4326, always_xy=True)
        x, y = np.meshgrid(left + 10 * np.arange(demo.SIDE) + 5, top - 10 * np.arange(demo.SIDE) - 5)
        longitude, latitude = to_degrees_.transform(x, y)
        inside = (longitude >= box[0]) & (longitude <= box[2]) & (latitude >= box[1]) & (latitude <= box[3])
        with rasterio.open(tmp_path / f"found/{zone}.tif") as dataset:
            assert dataset.descriptions[3] == "nir"
            row, column = round((top - dataset.transform.f) / 10), round((dataset.transform.c - left) / 10)
            made = np.full(inside.shape, -32768, np.int16)
            made[row : row + dataset.height, column : column + dataset.width] = dataset.read(4)
        assert (made == np.where(inside, zone_pixels(example, zone, "nir"), -32768)).all()
        assert found["rasters"][f"{zone}.tif"]["pixels"] == inside.sum()
    shapes, columns = read_layer((example / "index/water.parquet").read_bytes())
    expected = {shapely.normalize(each).wkb for each in shapes if each.intersects(shapely.box(*box))}
    here, _ = read_layer((tmp_path / "found/water.parquet").read_bytes())
    assert {shapely.normalize(each).wkb for each in here} == expected
    assert 0 < len(expected) < len(shapes)


def test_a_query_elsewhere_finds_nothing(example: Path, main: Any, tmp_path: Path) -> None:
    status, out, _ = main(
        "query", "--output", example, "--bbox", "-10,0,-9,1", "--result", tmp_path / "found", "--json"
    )

    assert (status, json.loads(out)["rasters"], json.loads(out)["features"]["water.parquet"]) == (0, {}, 0)


def test_a_run_is_verified_and_any_changed_byte_is_found(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", noisy(1))
    run = tmp_path / "run"
    main("run", "--input", f"{site.folder}/", "--output", run)

    assert main("verify", "--output", run)[0] == 0
    for name in [*files(run), "manifest.json", "manifest.sha256"]:
        path = run / name
        before = path.read_bytes()
        path.write_bytes(
            before[: len(before) // 2] + bytes([before[len(before) // 2] ^ 1]) + before[len(before) // 2 + 1 :]
        )
        status, out, _ = main("verify", "--output", run)
        assert status == 1, name
        path.unlink()
        assert main("verify", "--output", run)[0] == 1, name
        path.write_bytes(before)
    assert main("verify", "--output", run)[0] == 0


def test_a_function_of_the_user_replaces_composite_and_indices(site: Site, main: Any, tmp_path: Path) -> None:
    for date in range(2):
        site.scene(f"s{date}", noisy(date), when=f"2024-06-0{date + 1}T10:00:00Z")
    (tmp_path / "mine.py").write_text(FILE)

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--cell", 64,
        "--function", f"{tmp_path}/mine.py:brightest", "--compute", "process", "--workers", 2,
    )  # fmt: skip

    assert status == 0, err
    most = np.maximum(noisy(0)["blue"], noisy(1)["blue"])
    assert (pixels(tmp_path / "run", "most")[:128, :128] == most).all()
    assert (pixels(tmp_path / "run", "dates")[:128, :128] == 2).all()
    shapes, columns = read_layer((tmp_path / "run/index/features.parquet").read_bytes())
    assert len(shapes) == 4
    assert json.loads(columns["properties"][0])["corner"][0] in (500_000, 500_640)


def test_a_function_that_fails_ends_the_run_with_its_own_line(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", flat())
    (tmp_path / "mine.py").write_text(FILE)
    output = ("--output", tmp_path / "run")

    status, _, err = main("run", "--input", f"{site.folder}/", *output, "--function", f"{tmp_path}/mine.py:broken")
    missing, _, said = main("run", "--input", f"{site.folder}/", *output, "--function", f"{tmp_path}/mine.py:nothing")

    assert (status, missing) == (1, 2)
    assert "no_such_field" in err
    assert "no function nothing" in said


def test_a_dry_run_says_cells_and_memory_and_writes_nothing(site: Site, drawing_main: Any, tmp_path: Path) -> None:
    site.scene("one", flat())
    site.scene("two", flat(), when="2024-06-02T10:00:00Z")

    status, out, _ = drawing_main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--dry-run", "--json"
    )

    told = json.loads(out)
    assert (status, told["cells"], told["scenes"]) == (0, 1, 2)
    assert told["memory"] == 210_000_000 + 1024**2 * (2 * 9 + 34)
    assert not (tmp_path / "run").exists()


def test_cells_are_refused_before_any_work_where_memory_is_too_small_for_all(
    site: Site, drawing_main: Any, tmp_path: Path
) -> None:
    for date in range(9):
        site.scene(f"s{date}", flat(16), when=f"2024-06-{date + 1:02d}T10:00:00Z")

    status, _, _ = drawing_main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--memory-mb", 256)

    figures = json.loads((tmp_path / "run/result.json").read_text())
    assert status == 0
    assert figures["zones"][0]["cell"] == 512


def test_a_finished_run_is_shown_again_and_not_computed(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", noisy(1))
    arguments = ("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")
    main(*arguments)
    before = {
        name: path.stat().st_mtime_ns
        for name, path in ((path.name, path) for path in (tmp_path / "run").rglob("*.tif"))
    }

    status, _, err = main(*arguments)

    assert status == 0
    assert "was finished before" in err
    after = {
        name: path.stat().st_mtime_ns
        for name, path in ((path.name, path) for path in (tmp_path / "run").rglob("*.tif"))
    }
    assert before == after


def test_a_changed_scene_is_noticed_when_a_run_is_taken_up(site: Site, main: Any, tmp_path: Path) -> None:
    item = site.scene("one", noisy(1))
    arguments = ("run", "--input", f"{site.folder}/", "--output", tmp_path / "run")
    main(*arguments)
    item.write_text(item.read_text() + " ")

    status, _, err = main(*arguments)

    assert status == 2
    assert "has changed since run" in err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--bands", "red,red"), "different names"),
        (("--cell", "100"), "multiple of 16"),
        (("--change", "soon"), "--change soon"),
        (("--function", "mine.py"), "FILE.py:name"),
        (("--zones", "/nowhere.geojson"), "nowhere.geojson"),
        (("--resolucion", "10"), "--resolution"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(
    site: Site, main: Any, tmp_path: Path, flags: tuple[str, str], told: str
) -> None:
    site.scene("one", flat(16))

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", *flags)

    assert status == 2, err
    assert told in err
    assert not (tmp_path / "run").exists()


def test_nothing_at_an_address_is_exit_2(main: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    status, _, err = main("run", "--input", tmp_path / "empty", "--output", tmp_path / "run")

    assert status == 2
    assert "check the address" in err


def test_validate_agrees_with_itself(main: Any) -> None:
    status, out, _ = main("validate", "--json")

    assert (status, json.loads(out)["failed"]) == (0, 0)


def test_water_whose_outline_does_not_fit_into_a_worker_is_refused_with_a_way_out(main: Main, site: Site) -> None:
    nir = np.full((512, 512), 300, np.uint16)
    nir[1::2, 1::2] = 3000  # one area of water with 65,536 holes
    site.scene("one", flat(512) | {"nir": nir})

    status, _, error = main(
        "run", "--input", f"{site.folder}/", "--output", site.folder.parent / "run", "--cell", 512, "--memory-mb", 256
    )

    assert status != 0
    assert "32632/0_-1 is too speckled for workers of 256 MB: the outline of one area takes 99 MB" in error
    assert "raise --memory-mb or --water" in error
