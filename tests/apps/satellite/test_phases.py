"""Scenes of two sensors in one zone, whose pixels lie beside each other, against what GDAL's warper makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from apps.satellite.cog import Band, cog_bytes
from apps.satellite.science.grid import Raster
from tests.apps.satellite.conftest import Site, noisy, rows_of

BANDS = ("green", "red", "nir")
FLAGS = ("--bands", ",".join(BANDS), "--stat", "mean")
SENTINEL, LANDSAT = (600_000.0, 5_000_040.0), (599_985.0, 5_000_055.0)
"""Corners: Sentinel-2's are multiples of 20 m, Landsat's lie 15 m beyond those of 30 m."""
CLEAR, CLOUD = 21824, 22280


@dataclass(frozen=True)
class Measured:
    """What a scene holds, for an oracle."""

    images: dict[str, NDArray[np.uint16]]
    place: Raster
    clear: NDArray[np.bool_]
    mask_place: Raster
    scale: float
    offset: float


def sentinel(site: Site, day: int) -> Measured:
    images = noisy(day, 96, BANDS)
    images["red"][np.random.default_rng(day).random((96, 96)) < 0.02] = 0
    scl = np.random.default_rng(day).choice(np.array([4, 5, 9], np.uint8), (48, 48))
    site.scene(f"s2 {day}", images, when=f"2024-06-0{day}T10:00:00Z", scl=scl, corner=SENTINEL)
    return Measured(
        images, Raster(*SENTINEL, 10, 10, 96, 96), scl != 9, Raster(*SENTINEL, 20, 20, 48, 48), 1e-4, 0.0
    )  # fmt: skip


def landsat(site: Site, day: int, corner: tuple[float, float] = LANDSAT, pixel: float = 30.0) -> Measured:
    images = {band: image + 7000 for band, image in noisy(day, 32, BANDS).items()}
    images["nir"][np.random.default_rng(day).random((32, 32)) < 0.02] = 0
    qa = np.random.default_rng(day).choice(np.array([CLEAR, CLEAR, CLOUD], np.uint16), (32, 32))
    name = f"LC08_L2SP_19502{day}_2024060{day}_20240611_02_T1"
    path = site.scene(name, images, when=f"2024-06-0{day}T10:00:00Z", corner=corner, pixel=pixel, platform="landsat-8")
    place = Raster(*corner, pixel, pixel, 32, 32)
    (path.parent / "qa.tif").write_bytes(cog_bytes([Band("qa", qa, mean=False)], place, 32632, 1))
    item = json.loads(path.read_text())
    del item["assets"]["scl"]
    item["assets"]["qa_pixel"] = {"href": "qa.tif", "type": "image/tiff"}
    path.write_text(json.dumps(item))
    return Measured(images, place, qa == CLEAR, place, 2.75e-5, -0.2)


def warped(image: NDArray[Any], source: Raster, target: Any, rule: str) -> NDArray[np.float64]:
    """What GDAL makes of an image on the pixels of a dataset; 0 outside."""
    from affine import Affine
    from rasterio.warp import Resampling, reproject

    out = np.zeros((target.height, target.width))
    reproject(
        image.astype(np.float64), out, src_transform=Affine(*source.transform), src_crs=target.crs,
        dst_transform=target.transform, dst_crs=target.crs, resampling=Resampling[rule], tolerance=0,
        XSCALE="1", YSCALE="1",
    )  # fmt: skip
    return out


def beside(place: Raster) -> Raster:
    """A raster with one more pixel on each side."""
    return Raster(
        place.left - place.x_size, place.top + place.y_size, place.x_size, place.y_size, place.width + 2,
        place.height + 2,
    )  # fmt: skip


def expected(scenes: list[Measured], target: Any, rule: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean reflectance in steps, and how many scenes are valid; a value is valid if all that it is made of are."""
    stack, valid = [], []
    for scene in scenes:
        good = warped(scene.clear, scene.mask_place, target, "nearest") == 1
        bands = []
        for image in scene.images.values():
            padded = np.pad(image, 1)
            bands.append(warped((padded * scene.scale + scene.offset) / 1e-4, beside(scene.place), target, rule))
            good &= warped(padded != 0, beside(scene.place), target, rule) > 1 - 1e-9
        stack.append(bands)
        valid.append(good)
    number = np.sum(valid, 0)
    total = np.where(np.array(valid)[:, None], np.array(stack), 0).sum(0)
    return np.where(number > 0, total / np.maximum(number, 1), -32768), number


@pytest.mark.parametrize("rule", ["nearest", "bilinear"])
@pytest.mark.parametrize("resolution", [10, 30])
def test_landsat_and_sentinel_2_in_one_cell_are_resampled_as_gdals_warper_does(
    site: Site, main: Any, tmp_path: Path, rule: str, resolution: int
) -> None:
    import rasterio

    scenes = [sentinel(site, 1), landsat(site, 2), sentinel(site, 3), landsat(site, 4)]

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", *FLAGS, "--resample", rule,
        "--resolution", resolution,
    )  # fmt: skip

    assert status == 0, err
    compared = 0
    for path in (tmp_path / "run").glob("cells/*/*/composite.tif"):
        with rasterio.open(path) as dataset:
            made = {name: dataset.read(at) for at, name in enumerate(dataset.descriptions, 1)}
            values, number = expected(scenes, dataset, rule)
        assert (made["count"] == number).all()
        compared += int((number > 1).sum())
        for band, value in zip(BANDS, values, strict=True):
            # Reflectance is rounded to a step when it is read, when it is interpolated, and as a mean; half a pixel
            # beside, these images differ by thousands.
            assert np.abs(made[band] - value).max() <= (1.0 if rule == "nearest" else 1.5) + 1e-6
    assert compared > (96 * 96 if resolution == 10 else 32 * 32) / 2


def test_without_a_rule_pixels_of_another_size_are_rejected_by_name(site: Site, main: Any, tmp_path: Path) -> None:
    for day in (1, 2):
        sentinel(site, day)
    landsat(site, 3)

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", *FLAGS)

    rows = {row["status"]: row["reason"] for row in rows_of(tmp_path / "run").values()}
    assert status == 1
    assert rows["rejected"] == "green has pixels of 30 m, and its zone's are of 10 m; name a rule by --resample"


def test_without_a_rule_half_a_pixel_between_sensors_of_one_size_is_rejected_by_name(
    site: Site, main: Any, tmp_path: Path
) -> None:
    harmonized = (600_000.0, 5_000_040.0)  # multiples of 30, as HLS has both sensors
    for day in (1, 2):
        landsat(site, day, harmonized)
    landsat(site, 3)

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", *FLAGS)

    rows = {row["status"]: row["reason"] for row in rows_of(tmp_path / "run").values()}
    assert status == 1
    assert rows["rejected"] == (
        "green lies 0.5 pixels right of and 0.5 above the pixels of most scenes of EPSG:32632; "
        "name a rule by --resample"
    )
