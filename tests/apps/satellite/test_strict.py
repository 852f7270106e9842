"""Flags that decide which pixels and which scenes are used: classes of the mask, and ``--strict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apps.satellite.conftest import Site, noisy, pixels, rows_of
from tests.apps.satellite.test_formats import write_jp2

BANDS = ("green", "red", "nir")


@pytest.mark.parametrize(
    ("flags", "left_out"),
    [
        ((), (0, 1, 3, 8, 9, 10)),
        (("--scl-invalid", "0,1,2,3,8,9,10,11"), (0, 1, 2, 3, 8, 9, 10, 11)),
        (("--scl-invalid", "11"), (11,)),
    ],
)
def test_classes_of_dark_areas_and_snow_are_left_out_by_a_flag_alone(
    site: Site, main: Any, tmp_path: Path, flags: tuple[str, ...], left_out: tuple[int, ...]
) -> None:
    dates, masks = [], []
    for date in range(3):
        images = noisy(date, bands=BANDS)
        scl = np.random.default_rng(date).integers(0, 12, (64, 64)).astype(np.uint8)
        site.scene(f"s{date}", images, when=f"2024-06-0{date + 1}T10:00:00Z", scl=scl)
        dates.append([images[band] for band in BANDS])
        masks.append(~np.isin(scl, left_out).repeat(2, 0).repeat(2, 1))

    status, _, err = main(
        "run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--bands", "green,red,nir", *flags
    )

    assert status == 0, err
    valid, stack = np.array(masks), np.array(dates, float)
    some = valid.any(0)
    assert (pixels(tmp_path / "run", "count")[:128, :128] == valid.sum(0)).all()
    for at, band in enumerate(BANDS):
        made = pixels(tmp_path / "run", band)[:128, :128]
        expected = np.nanmedian(np.where(valid, stack[:, at], np.nan)[:, some], 0)
        assert (made[some] == np.rint(expected)).all()
        assert (made[~some] == -32768).all()


@pytest.fixture
def mixed(site: Site) -> Site:
    """Scenes that are good, warned of, in strips, in JPEG 2000, and damaged."""
    import rasterio

    for date, name in enumerate(("good", "odd", "strips", "coarse", "jpeg", "cut"), 1):
        properties = {"s2:processing_baseline": "05.10"} if name == "odd" else {}
        item = site.scene(
            name, noisy(date, bands=BANDS), when=f"2024-06-0{date}T10:00:00Z", properties=properties,
            assets={"nir": {"href": "nir.jp2", "type": "image/jp2"}} if name == "jpeg" else {},
        )  # fmt: skip
        for path in {"strips": ("red",), "coarse": ("scl",)}.get(name, ()):
            file = item.parent / f"{path}.tif"
            with rasterio.open(file) as dataset:
                image, place = dataset.read(1), {"crs": dataset.crs, "transform": dataset.transform, "nodata": 0}
            with rasterio.open(
                file, "w", driver="GTiff", count=1, height=image.shape[0], width=image.shape[1], dtype=image.dtype,
                tiled=False, **place,
            ) as dataset:  # fmt: skip
                dataset.write(image, 1)
        if name == "jpeg":
            write_jp2(item.parent / "nir.jp2", noisy(date, bands=BANDS)["nir"], 10)
            (item.parent / "nir.tif").unlink()
        if name == "cut":
            (item.parent / "red.tif").write_bytes((item.parent / "red.tif").read_bytes()[:-3000])
    return site


def test_strictly_each_scene_that_is_odd_or_not_cloud_optimized_is_a_row_with_its_reason(
    mixed: Site, main: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    status, _, err = main("run", "--input", f"{mixed.folder}/", "--output", run, "--bands", "green,red,nir", "--strict")

    rows = {name.removesuffix(".json"): row for name, row in rows_of(run).items()}
    assert status == 1
    assert "5 scenes could not be used" in err
    assert {name: row["status"] for name, row in rows.items()} == {
        "good": "accepted", "odd": "rejected", "strips": "rejected", "coarse": "rejected", "jpeg": "rejected",
        "cut": "rejected",
    }  # fmt: skip
    assert "applied already" in rows["odd"]["reason"]
    assert rows["strips"]["reason"] == "red is in strips, and --strict wants cloud-optimized GeoTIFF"
    assert rows["coarse"]["reason"] == "scl is in strips, and --strict wants cloud-optimized GeoTIFF"
    assert rows["jpeg"]["reason"] == "nir is JPEG 2000, and --strict wants cloud-optimized GeoTIFF"
    assert "truncated" in rows["cut"]["reason"]
    assert (pixels(run, "red")[:128, :128] == noisy(1, bands=BANDS)["red"]).all()


def test_without_strictness_warned_scenes_strips_and_jpeg_2000_are_used_as_they_are(
    mixed: Site, main: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    status, _, _ = main("run", "--input", f"{mixed.folder}/", "--output", run, "--bands", "green,red,nir")

    rows = rows_of(run)
    used = {1: 0, 2: -1000, 3: 0, 4: 0, 5: 0}
    assert status == 1
    assert {name for name, row in rows.items() if row["status"] == "accepted"} == {
        "good", "odd", "strips", "coarse", "jpeg",
    }  # fmt: skip
    for band in BANDS:
        stack = [noisy(date, bands=BANDS)[band].astype(int) + added for date, added in used.items()]
        assert (pixels(run, band)[:128, :128] == np.median(stack, 0)).all()


@pytest.mark.parametrize("strange", BANDS)
def test_dark_pixels_of_every_band_are_compared_with_the_offset(
    site: Site, main: Any, tmp_path: Path, strange: str
) -> None:
    images = {band: image if band == strange else image + 1000 for band, image in noisy(2, bands=BANDS).items()}
    site.scene("one", images, properties={"s2:processing_baseline": "05.10"})

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--bands", ",".join(BANDS))

    (row,) = rows_of(tmp_path / "run").values()
    assert status == 0
    assert row["warnings"].startswith(f"{strange}: darkest pixels")


def test_an_offset_that_no_band_has_is_missed_where_all_of_them_are_bright(
    site: Site, main: Any, tmp_path: Path
) -> None:
    images = {band: np.maximum(image, 1200) for band, image in noisy(2, bands=BANDS).items()}
    site.scene("one", images, properties={"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True})

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--bands", ",".join(BANDS))

    (row,) = rows_of(tmp_path / "run").values()
    assert "green, red, nir: darkest pixels have 0.120" in row["warnings"]
    assert "seems to be missing" in row["warnings"]


def test_a_band_that_is_bright_by_nature_does_not_lack_an_offset(site: Site, main: Any, tmp_path: Path) -> None:
    images = noisy(2, bands=BANDS)
    images["green"] = np.maximum(images["green"], 1500)
    site.scene("one", images, properties={"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True})

    main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--bands", ",".join(BANDS))

    (row,) = rows_of(tmp_path / "run").values()
    assert row["warnings"] == ""
