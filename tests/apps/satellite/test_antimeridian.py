"""Tile 01KAB of Sentinel-2, through which 180 degrees run, from scene to catalogue, layers and queries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from apps.satellite.geoparquet import read_layer
from tests.apps.satellite.conftest import Site, flat

ZONE, CORNER, EXTENT = 32701, (99_960.0, 8_200_020.0), 109_800.0
"""The tile's upper left corner and sides, metres, as Sentinel-2's tiling grid (ESA) has them."""
PIXEL, SIDE = 300.0, 366


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tile's whole footprint, all of it water, by cells of which some lie on both sides."""
    from apps.satellite.__main__ import main

    folder = tmp_path_factory.mktemp("tile")
    site = Site(folder / "scenes")
    site.scene(
        "S2A_01KAB", flat(SIDE, red=100, nir=50, green=900), epsg=ZONE, corner=CORNER, pixel=PIXEL,
        properties={"grid:code": "MGRS-1KAB"},
    )  # fmt: skip
    world = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    half = [[-180, -90], [0, -90], [0, 90], [-180, 90], [-180, -90]]
    zones = [
        {"type": "Feature", "id": name, "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for name, ring in (("world", world), ("half", half))
    ]
    (folder / "zones.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": zones}))
    arguments = ["--input", f"{site.folder}/", "--output", str(folder / "run"), "--zones", f"{folder}/zones.geojson"]
    assert main(["run", *arguments, "--cell", "128", "--compute", "serial", "--quiet"]) == 0
    return folder / "run"


def centres() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of the middles of the tile's pixels."""
    from pyproj import Transformer

    middle = PIXEL * (np.arange(SIDE) + 0.5)
    x, y = np.meshgrid(CORNER[0] + middle, CORNER[1] - middle)
    return Transformer.from_crs(ZONE, 4326, always_xy=True).transform(x, y)


def area_of_tile() -> float:
    """Area on the ellipsoid of the tile's outline, never cut, whose longitudes go on beyond 180 degrees."""
    from pyproj import Geod, Transformer

    left, top = CORNER
    outline = shapely.segmentize(shapely.box(left, top - EXTENT, left + EXTENT, top), 100.0)
    x, y = shapely.get_coordinates(outline).T
    longitude, latitude = Transformer.from_crs(ZONE, 4326, always_xy=True).transform(x, y)
    return abs(float(Geod(ellps="WGS84").polygon_area_perimeter(longitude % 360, latitude)[0]))


def is_split(shape: Any) -> bool:
    """Whether a shape lies within -180 and 180 degrees, and each part of it on one side."""
    west, _, east, _ = shapely.bounds(shapely.get_parts(shape)).T
    return bool((west >= -180).all() and (east <= 180).all() and (east - west < 2).all() and shape.is_valid)


def test_180_degrees_run_through_the_tile() -> None:
    longitude, latitude = centres()

    assert (longitude > 179).any()
    assert (longitude < -179).any()
    assert (np.abs(longitude) > 178.5).all()
    assert -18 < latitude.min() < latitude.max() < -16


def test_cells_are_split_and_together_are_the_tile(run: Path) -> None:
    from pyproj import Geod

    shapes, _ = read_layer((run / "index/cells.parquet").read_bytes())

    ellipsoid = Geod(ellps="WGS84")
    assert len(shapes) == 9
    assert all(is_split(each) for each in shapes)
    assert any(each.geom_type == "MultiPolygon" for each in shapes)
    cells = (384 * PIXEL) ** 2 / EXTENT**2  # cells reach beyond the tile
    together = sum(abs(ellipsoid.geometry_area_perimeter(each)[0]) for each in shapes)
    assert together == pytest.approx(area_of_tile() * cells, rel=1e-3)
    assert shapely.union_all(shapes).area == pytest.approx(sum(each.area for each in shapes), rel=1e-9)


def test_cells_are_what_the_package_antimeridian_makes_of_their_outlines(run: Path) -> None:
    antimeridian = pytest.importorskip("antimeridian", reason="needs antimeridian: pip install '.[oracles]'")
    from pyproj import Transformer

    for path in (run / "items").glob("*.json"):
        item = json.loads(path.read_text())
        size, _, left, _, _, top = item["properties"]["proj:transform"]
        height, width = item["properties"]["proj:shape"]
        box = shapely.box(left, top - size * height, left + size * width, top)
        x, y = shapely.get_coordinates(shapely.segmentize(box, 1000.0)).T
        points = Transformer.from_crs(ZONE, 4326, always_xy=True).transform(x, y)
        theirs = shapely.geometry.shape(
            antimeridian.fix_shape(shapely.Polygon(np.column_stack(points)).__geo_interface__)
        )

        ours = shapely.geometry.shape(item["geometry"])

        assert shapely.symmetric_difference(ours, theirs).area < 1e-5 * theirs.area


def test_the_tile_s_water_is_one_shape_of_two_parts_with_its_area_on_the_ellipsoid(run: Path) -> None:
    (shape,), columns = read_layer((run / "index/water.parquet").read_bytes())

    assert is_split(shape)
    assert len(shapely.get_parts(shape)) == 2
    assert columns["area_m2"] == [pytest.approx(area_of_tile(), rel=1e-6)]


def test_statistics_of_zones_are_of_the_side_that_a_zone_lies_on(run: Path) -> None:
    longitude, _ = centres()

    lines = [line.split(",") for line in (run / "zonal.csv").read_text().splitlines()]
    pixels = {line[0]: int(line[lines[0].index("red_pixels")]) for line in lines[1:]}

    assert pixels == {"world": SIDE * SIDE, "half": (longitude < 0).sum()}


def test_items_are_valid_and_those_across_have_boxes_from_east_to_west(run: Path) -> None:
    import pystac

    catalog = pystac.Catalog.from_file(str(run / "catalog.json"))
    items = list(catalog.get_items())

    catalog.validate()
    assert len(items) == 9
    for each in items:
        each.stac_extensions = []  # their schemas are on the network
        each.validate()
        shape = shapely.geometry.shape(each.geometry)
        west, south, east, north = each.bbox
        assert is_split(shape)
        assert (west > east) == (shape.geom_type == "MultiPolygon")
        parts = shapely.bounds(shapely.get_parts(shape))
        assert (west, east) == (parts[:, 0].max(), parts[:, 2].min())
        assert (south, north) == (parts[:, 1].min(), parts[:, 3].max())
    assert sum(each.bbox[0] > each.bbox[2] for each in items) in (3, 6)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((179.6, -17, -179.8, -16.5), lambda longitude: (longitude >= 179.6) | (longitude <= -179.8)),
        ((179.6, -17, 180, -16.5), lambda longitude: longitude >= 179.6),
        ((-180, -17, -179.8, -16.5), lambda longitude: longitude <= -179.8),
    ],
)
def test_a_query_finds_the_pixels_and_shapes_of_the_sides_that_it_names(
    run: Path, main: Any, tmp_path: Path, box: tuple[float, ...], inside: Callable[[Any], NDArray[np.bool_]]
) -> None:
    import rasterio

    status, out, err = main(
        "query", "--output", run, "--bbox", ",".join(map(str, box)), "--result", tmp_path / "found", "--json"
    )

    assert status == 0, err
    longitude, latitude = centres()
    expected = inside(longitude) & (latitude >= box[1]) & (latitude <= box[3]) & (np.abs(longitude) <= 180)
    with rasterio.open(tmp_path / f"found/{ZONE}.tif") as dataset:
        green = dataset.read(dataset.descriptions.index("green") + 1)
        row = round((CORNER[1] - dataset.transform.f) / PIXEL)
        column = round((dataset.transform.c - CORNER[0]) / PIXEL)
    found = np.zeros((SIDE, SIDE), bool)
    found[row : row + green.shape[0], column : column + green.shape[1]] = green == 900
    assert expected.any()
    assert (found == expected).all()
    assert json.loads(out)["features"]["water.parquet"] == 1


def test_a_query_on_the_far_side_of_the_world_finds_nothing(run: Path, main: Any, tmp_path: Path) -> None:
    _, out, _ = main("query", "--output", run, "--bbox", "-170,-17,170,-16", "--result", tmp_path / "found", "--json")

    assert (json.loads(out)["rasters"], json.loads(out)["features"]["water.parquet"]) == ({}, 0)
