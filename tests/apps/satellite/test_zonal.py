"""Statistics of zones against every pixel looked at by itself, and against exact coverage."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from apps.satellite.geoparquet import read_layer
from apps.satellite.science.geodesy import degrees
from apps.satellite.science.grid import Raster
from apps.satellite.science.zonal import zonal_sums
from tests.apps.satellite.conftest import Site, flat, noisy, pixels

SIDE, ZONE = 192, 32632
LEFT, TOP = 500_000.0, 5_000_000.0
BANDS = ("green", "red", "nir")


def star(seed: int, row: float, column: float, size: float) -> shapely.Polygon:
    """An outline of random corners around a pixel, in longitude and latitude."""
    random = np.random.default_rng(seed)
    angle = np.sort(random.random(15)) * 2 * np.pi
    reach = size * (0.3 + 0.7 * random.random(15)) * 10
    x, y = LEFT + 10 * column + reach * np.cos(angle), TOP - 10 * row + reach * np.sin(angle)
    return shapely.Polygon(np.column_stack(degrees(ZONE, x, y)))


def outlines() -> dict[str, Any]:
    """Fields of every kind: over borders of cells, with a hole, of parts, partly outside, small, and elsewhere."""
    large = star(1, 90, 100, 85)
    return {
        "large": large,
        "corner": star(2, 64, 64, 20),
        "hole": shapely.difference(star(3, 120, 60, 50), star(4, 120, 60, 10)),
        "parts": shapely.union(star(5, 30, 150, 15), star(6, 160, 150, 15)),
        "outside": star(7, 5, 100, 40),
        "tiny": star(9, 20.2, 20.2, 0.2),
        "elsewhere": star(8, 5000, 5000, 40),
        "same": large,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of noise with holes, over four cells."""
    from apps.satellite.__main__ import main

    folder = tmp_path_factory.mktemp("zones")
    site = Site(folder / "scenes")
    images = noisy(1, SIDE, BANDS)
    images["red"][np.random.default_rng(9).random((SIDE, SIDE)) < 0.1] = 0
    site.scene("one", images)
    write_zones(folder / "zones.geojson", outlines())
    arguments = ["--input", f"{site.folder}/", "--output", str(folder / "run"), "--zones", f"{folder}/zones.geojson"]
    assert main(["run", *arguments, "--bands", ",".join(BANDS), "--cell", "96", "--compute", "serial", "--quiet"]) == 0
    return folder / "run"


def write_zones(path: Path, shapes: dict[str, Any]) -> None:
    features = [
        {"type": "Feature", "id": name, "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        for name, shape in shapes.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def table(run: Path) -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in csv.DictReader(io.StringIO((run / "zonal.csv").read_text()))}


def centres() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    middle = 10 * (np.arange(SIDE) + 0.5)
    longitude, latitude = degrees(ZONE, *np.meshgrid(LEFT + middle, TOP - middle))
    return longitude, latitude


def test_statistics_are_of_the_pixels_whose_centre_lies_in_a_zone_each_looked_at_by_itself(run: Path) -> None:
    rows, (longitude, latitude) = table(run), centres()

    for name, shape in outlines().items():
        inside = shapely.contains_xy(shape, longitude, latitude)
        for band in (*BANDS, "ndvi", "ndwi", "count"):
            image = pixels(run, band)[:SIDE, :SIDE]
            values = image[inside & (image != -32768)].astype(int)
            scale = 1 if band == "count" else 1e-4
            found = [rows[name][f"{band}_{what}"] for what in ("pixels", "mean", "min", "max")]
            if not values.size:
                assert found == ["0", "", "", ""]
                continue
            expected = [values.mean() * scale, values.min() * scale, values.max() * scale]
            assert int(found[0]) == values.size
            assert [float(each) for each in found[1:]] == pytest.approx(expected, rel=1e-12)
    assert rows["same"] == {**rows["large"], "name": "same"}


def test_a_zone_without_a_pixel_is_a_row_that_says_so(run: Path) -> None:
    rows = table(run)

    assert list(rows) == list(outlines())
    assert (rows["elsewhere"]["red_pixels"], rows["elsewhere"]["zone"], rows["elsewhere"]["red_mean"]) == ("0", "", "")
    assert rows["tiny"]["red_pixels"] == "0"
    shapes, columns = read_layer((run / "index/zonal.parquet").read_bytes())
    by_name = dict(zip(columns["name"], zip(columns["red_pixels"], columns["zone"], shapes, strict=True), strict=True))
    assert by_name["elsewhere"][:2] == (0, None)
    assert by_name["elsewhere"][2].equals(outlines()["elsewhere"])


def test_statistics_are_those_of_exact_coverage_but_for_pixels_on_an_outline(run: Path) -> None:
    """A pixel on an outline counts wholly or not at all: it errs by half at most, evenly, by 1/12 in the square."""
    exactextract = pytest.importorskip("exactextract", reason="needs exactextract: pip install '.[oracles]'")
    from exactextract.raster import NumPyRasterSource
    from pyproj import Transformer

    to_zone = Transformer.from_crs(4326, ZONE, always_xy=True)
    rows = table(run)
    for name in ("large", "hole", "parts"):
        shape = shapely.transform(outlines()[name], lambda points: np.column_stack(to_zone.transform(*points.T)))
        feature = {"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": {}}
        for band in BANDS:
            image = pixels(run, band)[:SIDE, :SIDE].astype(np.float64)
            raster = NumPyRasterSource(
                np.where(image == -32768, np.nan, image), LEFT, TOP - 10 * SIDE, LEFT + 10 * SIDE, TOP, nodata=np.nan,
                srs_wkt=None,
            )  # fmt: skip
            (found,) = exactextract.exact_extract(raster, [feature], ["count", "mean", "stdev", "coverage"])
            exact = found["properties"]
            on_outline = ((exact["coverage"] > 0) & (exact["coverage"] < 1)).sum()
            error = 4 * np.sqrt(on_outline / 12)  # four standard deviations

            assert abs(int(rows[name][f"{band}_pixels"]) - exact["count"]) < error
            mean = float(rows[name][f"{band}_mean"]) / 1e-4
            assert abs(mean - exact["mean"]) < error * exact["stdev"] / exact["count"]
            assert error < 0.04 * exact["count"]


def test_zones_that_share_sides_count_each_pixel_once() -> None:
    raster = Raster(LEFT, TOP, 10, 10, 64, 64)
    corners = [(0, 0), (0, 640), (640, 0), (640, 640)]
    points = np.concatenate([corners, np.random.default_rng(2).random((40, 2)) * 640]) + [LEFT, TOP - 640]
    zones = list(shapely.get_parts(shapely.delaunay_triangles(shapely.multipoints(points))))

    sums = zonal_sums({"a": np.ones((64, 64), np.int16)}, -32768, zones, raster)

    assert len(zones) > 60
    assert sum(each["a"][0] for each in sums.values()) == 64 * 64


@pytest.mark.parametrize("turned", [False, True], ids=["one way", "other way"])
@pytest.mark.parametrize("slope", [0.0, 1.0, -1.0, 0.5], ids=lambda each: f"slope {each}")
def test_centres_on_a_side_that_two_zones_share_are_in_one_of_them(slope: float, turned: bool) -> None:
    """Sides through centres of pixels, level, upright and oblique; corners of a zone may stand either way round."""
    raster = Raster(LEFT, TOP, 10, 10, 64, 64)
    places = [-100.0, 85.0, 245.0, 405.0, 740.0]
    zones = [
        shapely.transform(shapely.box(left, low, right, high, ccw=turned == bool((left + low) % 20)), lambda points: (
            np.column_stack([LEFT + points[:, 0] + slope * points[:, 1], TOP - 640 + points[:, 1]])))
        for left, right in zip([-900.0, *places[1:-1]], [*places[1:-1], 1600.0], strict=True)
        for low, high in zip(places, places[1:], strict=False)
    ]  # fmt: skip
    weights = np.random.default_rng(5).integers(1, 9000, (64, 64)).astype(np.int16)

    sums = zonal_sums({"a": weights}, -32768, zones, raster)

    assert sum(each["a"][0] for each in sums.values()) == 64 * 64
    assert sum(each["a"][1] for each in sums.values()) == weights.sum()


def test_a_centre_on_a_side_is_in_the_zone_right_of_it_or_below() -> None:
    raster = Raster(0, 40, 10, 10, 4, 4)
    numbers = np.arange(16, dtype=np.int16).reshape(4, 4)
    zone = shapely.box(5, 5, 25, 25)  # through centres of columns 0 and 2, rows 1 and 3

    sums = zonal_sums({"a": numbers}, -32768, [zone], raster)

    assert sums[0]["a"] == [4, int(numbers[1:3, :2].sum()), 4, 9]


def test_fields_along_centres_of_pixels_add_up_to_the_whole_over_all_cells(
    site: Site, main: Any, tmp_path: Path
) -> None:
    """Their corners are in degrees, so in the coordinates of a cell they differ by rounding from where centres are."""
    site.scene("one", noisy(1))
    middles = [LEFT + 10 * each + 5 for each in (-1, 20, 64, 90, 128)]
    lower = [TOP - 10 * each - 5 for each in (-1, 31, 63, 64, 128)]
    fields = {}
    for x in range(4):
        for y in range(4):
            corners = shapely.box(middles[x], lower[y + 1], middles[x + 1], lower[y], ccw=(x + y) % 2 == 0)
            fields[f"{x} {y}"] = shapely.transform(corners, lambda points: np.column_stack(degrees(ZONE, *points.T)))
    write_zones(tmp_path / "zones.geojson", fields)

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--zones", tmp_path / "zones.geojson",
        "--cell", 64,
    )  # fmt: skip

    assert status == 0, err
    assert sum(int(row["red_pixels"]) for row in table(tmp_path / "run").values()) == 128 * 128


FUNCTION = """
import numpy as np


def whole(stack):
    return {"dates": stack.valid.sum(0), "count": np.full(stack.valid.shape[1:], 7)}


def floats(stack):
    return {"share": stack.valid.mean(0)}
"""


def test_statistics_of_a_function_s_images_are_in_their_own_numbers(site: Site, main: Any, tmp_path: Path) -> None:
    import pystac
    import rasterio

    site.scene("one", flat(64))
    (tmp_path / "mine.py").write_text(FUNCTION)
    write_zones(tmp_path / "zones.geojson", {"all": star(1, 32, 32, 20)})

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--zones", tmp_path / "zones.geojson",
        "--function", f"{tmp_path}/mine.py:whole",
    )  # fmt: skip

    assert status == 0, err
    row = table(tmp_path / "run")["all"]
    assert (float(row["dates_mean"]), float(row["count_max"])) == (1.0, 7.0)
    (item,) = pystac.Catalog.from_file(str(tmp_path / "run/catalog.json")).get_items()
    assert item.assets["composite"].to_dict()["bands"] == [{"name": "dates"}, {"name": "count"}]
    with rasterio.open(item.assets["composite"].get_absolute_href()) as dataset:
        assert dataset.scales == (1.0, 1.0)


def test_statistics_of_floats_are_refused_and_not_left_out(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", flat(64))
    (tmp_path / "mine.py").write_text(FUNCTION)
    write_zones(tmp_path / "zones.geojson", {"all": star(1, 32, 32, 20)})

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--zones", tmp_path / "zones.geojson",
        "--function", f"{tmp_path}/mine.py:floats",
    )  # fmt: skip

    assert status == 2
    assert "--zones: statistics are exact sums of integers" in err
