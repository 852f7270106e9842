"""A synthetic example of known truth: two zones, three dates, clouds with shadows, water, fields that are cleared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps.satellite.cog import Band, cog_bytes
from apps.satellite.science.geodesy import to_degrees
from apps.satellite.science.grid import Raster
from apps.satellite.science.reflectance import SCALE

SIDE, CELL = 768, 256
"""Pixels a side of a scene, and of the example's cells, so that water crosses their borders."""
PIXEL, PARCEL = 10.0, 48
CORNERS = {32632: (721_200.0, 5_150_000.0), 32633: (272_000.0, 5_150_000.0)}
"""Left and top of the scenes of each zone, on both sides of 12 degrees east."""
TILES = {32632: "32TQS", 32633: "33TTM"}
DATES = (("20240405T101601", "02.12", 0), ("20240615T101601", "02.12", 0), ("20240903T101601", "05.09", 1000))
"""Beginning of each datatake, its processing baseline, and what that adds to its numbers."""
LATER = "2024-09-03"
"""Day of the last date, from which on fields are cleared."""
CLEARED = np.s_[480:624, 96:288]
"""Rows and columns of the fields that have no vegetation on the last date."""
BANDS = ("blue", "green", "red", "nir")
ZONES = "zones.geojson"
SCL_PIXELS = 2
"""Pixels of a band on one of the scene classification, along each side."""
WATER = {"blue": 0.06, "green": 0.05, "red": 0.03, "nir": 0.015}
BARE = {"blue": 0.08, "green": 0.11, "red": 0.16, "nir": 0.22}
GREEN = {"blue": 0.03, "green": 0.07, "red": 0.03, "nir": 0.45}
CLOUD, SHADOW_FACTOR, SHADOW_SHIFT = 0.55, 0.45, (14, 10)
NOISE, ERRORS = 0.004, 0.002
"""Standard deviation of reflectance, and part of the classification's pixels that are wrong."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What there is in a zone.

    Attributes
    ----------
    water : ndarray of bool, shape (SIDE, SIDE)
    green : ndarray, shape (dates, SIDE, SIDE)
        Part of each pixel that is covered by vegetation.
    """

    water: NDArray[np.bool_]
    green: NDArray[np.float64]

    def reflectance(self, band: str, date: int) -> NDArray[np.float64]:
        """Return what a band would measure without clouds and noise."""
        land = BARE[band] + self.green[date] * (GREEN[band] - BARE[band])
        return np.where(self.water, WATER[band], land)

    def ndvi(self, date: int) -> NDArray[np.float64]:
        """Return the vegetation index of a date."""
        nir, red = self.reflectance("nir", date), self.reflectance("red", date)
        return (nir - red) / (nir + red)


def truth(epsg: int) -> Truth:
    """Return what there is in a zone of the example."""
    random = np.random.default_rng(epsg)
    row, column = np.mgrid[:SIDE, :SIDE]
    lake = ((row - 250) / 130) ** 2 + ((column - 500) / 170) ** 2 < 1
    river = np.abs(column - 200 - 60 * np.sin(row / 90)) < 9
    island = ((row - 250) / 25) ** 2 + ((column - 520) / 30) ** 2 < 1
    crops = random.integers(0, 4, (SIDE // PARCEL, SIDE // PARCEL)).repeat(PARCEL, 0).repeat(PARCEL, 1)
    seasons = np.array([[0.2, 0.9, 0.3], [0.7, 0.8, 0.7], [0.1, 0.4, 0.9], [0.05, 0.1, 0.05]])
    green = seasons[crops].transpose(2, 0, 1).copy()
    for date in range(2):  # what is cleared was green before
        green[date][CLEARED] = 0.85
    green[2][CLEARED] = 0.0
    return Truth((lake & ~island) | river, green)


def write_example(folder: Path) -> str:
    """Write scenes with their items, and beside them `ZONES`; returns the folder of the scenes."""
    scenes = folder / "scenes"
    for epsg in CORNERS:
        for date in range(len(DATES)):
            _write_scene(scenes, epsg, date)
    _write_superseded(scenes)
    (folder / ZONES).write_text(json.dumps(_zones()))
    return f"{scenes.absolute()}/"


def _write_scene(folder: Path, epsg: int, date: int) -> None:
    start, baseline, added = DATES[date]
    name = f"S2A_MSIL2A_{start}_N{baseline.replace('.', '')}_R065_T{TILES[epsg]}_{start}"
    place = folder / TILES[epsg] / start
    place.mkdir(parents=True, exist_ok=True)
    known, raster = truth(epsg), Raster(*CORNERS[epsg], PIXEL, PIXEL, SIDE, SIDE)
    random = np.random.default_rng([epsg, date])
    cloud = _clouds(random)
    shadow = np.roll(cloud, SHADOW_SHIFT, (0, 1)) & ~cloud
    row, column = np.mgrid[:SIDE, :SIDE]
    outside = (column + row / 4 > 700) if (epsg, date) == (32633, 1) else np.zeros_like(cloud)
    files = {}
    for band in BANDS:
        image = known.reflectance(band, date) + random.normal(0, NOISE, cloud.shape)
        image = np.where(shadow, image * SHADOW_FACTOR, np.where(cloud, CLOUD, image))
        numbers = np.clip(np.rint(image / SCALE) + added, 1, 65534)
        written = Band(band, np.where(outside, 0, numbers).astype(np.uint16), scale=SCALE, offset=-added * SCALE)
        files[band] = cog_bytes([written], raster, epsg, 0, deflate=True)
    classes = _classes(known, date, cloud, shadow, outside, random)
    coarse = Raster(*CORNERS[epsg], PIXEL * SCL_PIXELS, PIXEL * SCL_PIXELS, SIDE // SCL_PIXELS, SIDE // SCL_PIXELS)
    files["scl"] = cog_bytes([Band("scl", classes, mean=False)], coarse, epsg, 0, deflate=True)
    for file, data in files.items():
        (place / f"{file}.tif").write_bytes(data)
    item = _item(name, epsg, date, raster, {file: hashlib.sha256(data).hexdigest() for file, data in files.items()})
    (place / f"{name}.json").write_text(json.dumps(item, indent=1))


def _clouds(random: np.random.Generator) -> NDArray[np.bool_]:
    """Return where a smooth field of chance exceeds a threshold."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(random.normal(size=(SIDE, SIDE)), 28)
    return np.asarray(field > np.quantile(field, 0.82))


def _classes(
    known: Truth, date: int, cloud: NDArray[np.bool_], shadow: NDArray[np.bool_], outside: NDArray[np.bool_],
    random: np.random.Generator,
) -> NDArray[np.uint8]:  # fmt: skip
    """Return the scene classification: clouds and shadows wherever a pixel has any, and some errors."""

    def any_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        side = SIDE // SCL_PIXELS
        return np.asarray(mask.reshape(side, SCL_PIXELS, side, SCL_PIXELS).any((1, 3)))

    green = known.green[date][::SCL_PIXELS, ::SCL_PIXELS] > 0.4
    classes = np.where(any_of(known.water), 6, np.where(green, 4, 5))
    classes = np.where(any_of(shadow), 3, np.where(any_of(cloud), 9, classes))
    wrong = random.random(classes.shape) < ERRORS
    classes = np.where(wrong, np.where(classes == 9, 4, 9), classes)
    return np.where(any_of(outside), 0, classes).astype(np.uint8)


def _item(name: str, epsg: int, date: int, raster: Raster, hashes: dict[str, str]) -> dict[str, Any]:
    start, baseline, added = DATES[date]
    when = f"{start[:4]}-{start[4:6]}-{start[6:8]}T{start[9:11]}:{start[11:13]}:{start[13:]}Z"
    outline = to_degrees(shapely.box(*raster.bounds), epsg)
    assets: dict[str, Any] = {}
    for file, digest in hashes.items():
        assets[file] = {
            "href": f"./{file}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
        }
        assets[file] |= {"file:checksum": f"1220{digest}", "nodata": 0}
        if file != "scl":
            assets[file]["bands"] = [
                {"name": file, "eo:common_name": file, "raster:scale": SCALE, "raster:offset": -added * SCALE}
            ]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {
            "datetime": when,
            "platform": "sentinel-2a",
            "proj:code": f"EPSG:{epsg}",
            "grid:code": f"MGRS-{TILES[epsg]}",
            "s2:processing_baseline": baseline,
            "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_EXAM_{start}_S{start}_N{baseline}",
        },
        "links": [],
        "assets": assets,
    }


def _write_superseded(folder: Path) -> None:
    """Write an older edition of the first scene, as catalogues keep them beside the newer one."""
    place = folder / TILES[32632] / DATES[0][0]
    (path,) = place.glob("*.json")
    item = json.loads(path.read_text())
    item["id"] = item["id"].replace("N0212", "N0208")
    item["properties"]["s2:processing_baseline"] = "02.08"
    (place / f"{item['id']}.json").write_text(json.dumps(item, indent=1))


def _zones() -> dict[str, Any]:
    features = []
    for epsg, (left, top) in CORNERS.items():
        rows, columns = CLEARED
        places = {"cleared": (columns.start, rows.start, columns.stop, rows.stop), "lake": (300, 100, 700, 400)}
        for name, (west, north, east, south) in places.items():
            box = shapely.box(left + west * PIXEL, top - south * PIXEL, left + east * PIXEL, top - north * PIXEL)
            outline = shapely.geometry.mapping(to_degrees(box, epsg))
            features.append({"type": "Feature", "id": f"{name} {TILES[epsg]}", "properties": {}, "geometry": outline})
    return {"type": "FeatureCollection", "features": features}
