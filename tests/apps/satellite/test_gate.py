"""What the world sends: every scene passes or is rejected with its reason, and nothing stops the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.satellite.cog import Band, cog_bytes
from apps.satellite.science.grid import Raster
from tests.apps.satellite.conftest import Site, flat, noisy, pixels, rows_of

GOOD = "good"


def run_with_good(site: Site, main: Any, *flags: object) -> tuple[int, dict[str, dict[str, str]], str]:
    """Run all scenes of a site beside one that is good."""
    site.scene(GOOD, flat())
    output = site.folder.parent / "run"
    status, _, err = main("run", "--input", f"{site.folder}/", "--output", output, *flags)
    rows = rows_of(output)
    assert rows[GOOD]["status"] == "accepted", rows
    return status, rows, err


def rejected(site: Site, main: Any, *flags: object) -> str:
    """The reason why the one bad scene of a site was rejected."""
    status, rows, err = run_with_good(site, main, *flags)
    assert status == 1, err
    (row,) = (
        row
        for row in rows.values()
        if row["name"].removesuffix(".json") != GOOD and row["status"] != "passed over"  # files that the item lost
    )
    assert row["status"] == "rejected"
    return row["reason"]


def edited(path: Path, change: Any) -> None:
    item = json.loads(path.read_text())
    change(item)
    path.write_text(json.dumps(item))


def test_a_truncated_file_is_rejected(site: Site, main: Any) -> None:
    red = site.scene("bad", noisy(1)).parent / "red.tif"
    red.write_bytes(red.read_bytes()[:-2000])

    assert "red is truncated" in rejected(site, main)


def test_a_file_cut_within_its_header_is_rejected(site: Site, main: Any) -> None:
    red = site.scene("bad", flat()).parent / "red.tif"
    red.write_bytes(red.read_bytes()[:100])

    assert "red" in rejected(site, main)


def test_a_flipped_bit_is_found_by_the_checksum(site: Site, main: Any) -> None:
    red = site.scene("bad", noisy(1), checksums=True).parent / "red.tif"
    data = bytearray(red.read_bytes())
    data[-3000] ^= 4
    red.write_bytes(bytes(data))

    assert "red is damaged: its SHA-256" in rejected(site, main)


def test_a_file_that_is_no_raster_is_rejected(site: Site, main: Any) -> None:
    (site.scene("bad", flat()).parent / "red.tif").write_bytes(b"<html>not found</html>" * 50)

    assert "red cannot be read as a raster" in rejected(site, main)


def test_a_missing_file_is_rejected_with_its_address(site: Site, main: Any) -> None:
    (site.scene("bad", flat()).parent / "nir.tif").unlink()

    assert "nir is missing: there is no" in rejected(site, main)


def test_a_band_that_no_asset_has_is_rejected(site: Site, main: Any) -> None:
    edited(site.scene("bad", flat()), lambda item: item["assets"].pop("nir"))

    assert "common name, nir; it has blue, green, red, scl" in rejected(site, main)


def test_a_missing_mask_is_rejected_and_may_be_gone_without(site: Site, main: Any) -> None:
    edited(site.scene("bad", flat()), lambda item: item["assets"].pop("scl"))

    assert "--mask none" in rejected(site, main)
    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", site.folder.parent / "other", "--mask", "none")
    assert status == 0


def test_a_picture_of_the_scene_is_never_taken_for_a_band(site: Site, main: Any) -> None:
    def add_picture(item: dict[str, Any]) -> None:
        bands = [{"name": name, "eo:common_name": name} for name in ("red", "green", "blue")]
        item["assets"] = {"visual": {"href": "tci.tif", "roles": ["visual"], "bands": bands}, **item["assets"]}

    edited(site.scene("also", flat()), add_picture)

    status, rows, _ = run_with_good(site, main)

    assert (status, rows["also"]["status"]) == (0, "accepted")


def test_two_assets_of_one_band_are_not_guessed_between(site: Site, main: Any) -> None:
    def twice(item: dict[str, Any]) -> None:
        for key in ("B04", "B04b"):
            item["assets"][key] = dict(item["assets"]["red"])
        item["assets"].pop("red")

    edited(site.scene("bad", flat()), twice)

    assert "several assets have the band red: B04, B04b" in rejected(site, main)


def test_a_shape_that_is_not_that_of_the_header_is_rejected(site: Site, main: Any) -> None:
    site.scene("bad", flat(), assets={"red": {"proj:shape": [10980, 10980]}})

    assert "red has 128 by 128 pixels, and is said to have 10,980" in rejected(site, main)


def test_a_place_that_is_not_that_of_the_header_is_rejected(site: Site, main: Any) -> None:
    site.scene("bad", flat(), assets={"red": {"proj:transform": [10, 0, 500010, 0, -10, 5000000]}})

    assert "is said to lie at" in rejected(site, main)


def test_a_system_that_is_not_that_of_the_header_is_rejected(site: Site, main: Any) -> None:
    site.scene("bad", flat(), properties={"proj:code": "EPSG:32633"})

    assert "is in EPSG:32632, and said to be in EPSG:32633" in rejected(site, main)


def test_a_no_data_value_that_is_not_that_of_the_header_is_rejected(site: Site, main: Any) -> None:
    site.scene("bad", flat(), assets={"red": {"nodata": -9999}})

    assert "red has 0 for no data, and is said to have -9999" in rejected(site, main)


def test_a_time_without_a_zone_is_rejected(site: Site, main: Any) -> None:
    site.scene("bad", flat(), when="2024-06-01T10:00:00")

    assert "does not say its time zone" in rejected(site, main)


def test_times_of_any_zone_are_read_in_utc(site: Site, main: Any) -> None:
    site.scene("also", flat(), when="2024-06-02T01:30:00+03:00")

    _, rows, _ = run_with_good(site, main)

    assert rows["also"]["when"] == "2024-06-01T22:30:00.000Z"


@pytest.mark.parametrize("version", ["0.8.1", "0.9.0", "2.0.0"])
def test_other_versions_of_stac_are_rejected(site: Site, main: Any, version: str) -> None:
    site.scene("bad", flat(), version=version)

    assert f"a STAC item of version {version}" in rejected(site, main)


def test_bands_of_several_resolutions_are_rejected_unless_a_rule_is_named(site: Site, main: Any) -> None:
    site.scene("bad", {**flat(), "nir": flat(64)["nir"]})

    assert "several resolutions" in rejected(site, main)
    status, _, _ = main(
        "run", "--input", f"{site.folder}/", "--output", site.folder.parent / "other", "--resample", "nearest"
    )
    assert status == 0


def test_half_a_pixel_beside_the_grid_is_never_silent(site: Site, main: Any) -> None:
    site.scene("second", flat(), when="2024-06-02T10:00:00Z", corner=(500_010.0, 5_000_000.0))
    site.scene("bad", flat(), when="2024-06-03T10:00:00Z", corner=(500_005.0, 5_000_000.0))

    status, rows, _ = run_with_good(site, main)

    assert status == 1
    assert rows["bad"]["reason"].startswith("blue lies 0.5 pixels right of and 0 above")
    assert rows["second"]["status"] == "accepted"


def test_json_that_is_damaged_is_a_row_and_documents_that_are_no_items_are_none(site: Site, main: Any) -> None:
    site.folder.joinpath("bad.json").write_text('{"type": "Feature", ')
    site.folder.joinpath("tileInfo.json").write_text('{"path": "tiles/34"}')
    site.folder.joinpath("catalog.json").write_text('{"type": "Catalog", "stac_version": "1.0.0", "links": []}')

    assert "cannot be read" in rejected(site, main)


def test_a_baseline_that_is_not_known_is_rejected_and_not_guessed_from_the_date(site: Site, main: Any) -> None:
    site.scene("bad", flat(), properties={"s2:processing_baseline": None})

    assert "neither an offset nor a processing baseline" in rejected(site, main)


def test_an_offset_that_a_flag_says_needs_no_baseline(site: Site, main: Any, tmp_path: Path) -> None:
    site.scene("one", flat(), properties={"s2:processing_baseline": None})

    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--offset", "-0.01")

    assert status == 0, err
    assert pixels(tmp_path / "run", "red")[0, 0] == 600


@pytest.mark.parametrize(
    ("properties", "asset", "expected"),
    [
        ({"s2:processing_baseline": "04.00"}, {}, -0.1),
        ({"s2:processing_baseline": "02.12"}, {}, 0.0),
        ({"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True}, {}, 0.0),
        ({"s2:processing_baseline": "02.12"}, {"raster:offset": -0.1}, -0.1),
        ({"s2:processing_baseline": "05.10"}, {"raster:offset": 0}, 0.0),
        ({"s2:processing_baseline": "05.10"}, {"raster:bands": [{"offset": 0, "scale": 0.0001}]}, 0.0),
    ],
)
def test_the_offset_is_what_the_band_says_then_what_baseline_and_provider_do(
    site: Site, main: Any, properties: dict[str, Any], asset: dict[str, Any], expected: float
) -> None:
    images = noisy(3)
    site.scene("one", images, properties=properties, assets=dict.fromkeys(images, asset))
    output = site.folder.parent / "run"

    main("run", "--input", f"{site.folder}/", "--output", output)

    made = pixels(output, "red")[:128, :128]
    assert (made == images["red"].astype(int) + round(expected * 10_000)).all()


def test_an_offset_that_seems_to_be_applied_already_is_warned_of_and_strictly_rejected(site: Site, main: Any) -> None:
    site.scene("bad", noisy(2), properties={"s2:processing_baseline": "05.10"})

    status, rows, _ = run_with_good(site, main)

    assert status == 0
    assert "seems to be applied already" in rows["bad"]["warnings"]
    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", site.folder.parent / "strict", "--strict")
    assert "seems to be applied already" in rows_of(site.folder.parent / "strict")["bad.json"]["reason"]


def test_an_offset_that_seems_to_be_missing_is_warned_of(site: Site, main: Any) -> None:
    site.scene(
        "odd",
        {name: image + 1000 for name, image in noisy(2).items()},
        properties={"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True},
    )

    _, rows, _ = run_with_good(site, main)

    assert "seems to be missing" in rows["odd"]["warnings"]


def test_the_newest_edition_of_a_datatake_is_taken_and_the_others_are_named(site: Site, main: Any) -> None:
    ids = {"s2:datatake_id": "GS2A_20240601T100000_041826_N02.12", "s2:mgrs_tile": "32TPS"}
    ids["s2:datastrip_id"] = "S2A_OPER_MSI_L2A_DS_2APS_20240601T120000_S20240601T100003_N02.12"
    newer = {**ids, "s2:processing_baseline": "05.09", "s2:generation_time": "2024-06-05T00:00:00Z"}
    newest = {**newer, "s2:generation_time": "2024-06-05T00:00:01.5Z"}
    site.scene("old", flat(red=100), properties=ids)
    site.scene("newer", flat(red=1200), properties=newer)
    site.scene("newest", flat(red=1300), properties=newest)
    output = site.folder.parent / "run"

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", output)

    rows = rows_of(output)
    assert status == 0
    assert {name: row["status"] for name, row in rows.items()} == {
        "old": "superseded",
        "newer": "superseded",
        "newest": "accepted",
    }
    assert rows["old"]["reason"] == "newest is a newer edition of it"
    assert (pixels(output, "red")[:128, :128] == 300).all()
    assert (pixels(output, "count")[:128, :128] == 1).all()


def test_two_halves_of_a_tile_of_one_datatake_are_one_date(site: Site, main: Any) -> None:
    def half(rows: slice, number: int) -> dict[str, Any]:
        return {name: np.where(_rows(rows), number, 0).astype(np.uint16) for name in flat()}

    def _rows(rows: slice) -> Any:
        mask = np.zeros((128, 128), bool)
        mask[rows] = True
        return mask

    for name, rows, number, strip in (("upper", slice(0, 80), 500, "100001"), ("lower", slice(60, 128), 600, "100015")):
        ids = {"s2:datatake_id": "GS2A_20240601T100000_041826_N02.12", "s2:mgrs_tile": "32TPS"}
        ids["s2:datastrip_id"] = f"S2A_OPER_MSI_L2A_DS_2APS_20240601T120000_S20240601T{strip}_N02.12"
        site.scene(name, half(rows, number), properties=ids, when=f"2024-06-01T10:00:{strip[-2:]}Z")
    output = site.folder.parent / "run"

    main("run", "--input", f"{site.folder}/", "--output", output)

    red = pixels(output, "red")[:128, :128]
    assert (red[:80] == 500).all()
    assert (red[80:] == 600).all()
    assert (pixels(output, "count")[:128, :128] == 1).all()


def test_a_scene_that_is_all_cloud_is_no_error_and_its_cell_is_counted(site: Site, main: Any) -> None:
    site.scene("cloud", flat(), scl=np.full((64, 64), 9, np.uint8))
    output = site.folder.parent / "run"

    status, out, _ = main("run", "--input", f"{site.folder}/", "--output", output, "--json")

    figures = json.loads(out)
    assert status == 0
    assert (figures["cells"], figures["empty_cells"], figures["valid_pixels"]) == (1, 1, 0)
    assert not list(output.glob("cells/*/*/composite.tif"))


def test_nothing_that_can_be_used_is_a_report_and_exit_1(site: Site, main: Any) -> None:
    site.scene("bad", flat(), when="yesterday")
    output = site.folder.parent / "run"

    status, _, _ = main("run", "--input", f"{site.folder}/", "--output", output)

    assert status == 1
    assert "yesterday" in (output / "report.html").read_text()


def test_pixels_that_cannot_be_decoded_cost_their_scene_alone(site: Site, main: Any) -> None:
    site.scene("other", flat(red=1000), when="2024-06-03T10:00:00Z")
    red = site.scene("bad", noisy(4)).parent / "red.tif"
    data = bytearray(red.read_bytes())
    data[-4000:-100] = bytes(3900)
    red.write_bytes(bytes(data))

    status, rows, _ = run_with_good(site, main)

    assert status == 1
    assert rows["bad"]["status"] == "damaged"
    assert "in cell 32632/0_-1" in rows["bad"]["reason"]
    assert rows["other"]["status"] == "accepted"
    assert (pixels(site.folder.parent / "run", "red")[:128, :128] == 850).all()


def test_a_plain_geotiff_needs_what_it_does_not_say(tmp_path: Path, main: Any) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    raster = Raster(500_000, 5_000_000, 10, 10, 64, 64)
    images = [Band(name, image, mean=False) for name, image in noisy(1, 64).items()]
    (folder / "scene_20240601.tif").write_bytes(cog_bytes(images, raster, 32632, None))

    def reason(*flags: object) -> str:
        output = tmp_path / f"run{len(flags)}"
        status, _, _ = main("run", "--input", f"{folder}/", "--output", output, *flags)
        rows = rows_of(output)
        return "" if status == 0 else next(iter(rows.values()))["reason"]

    assert "--mask none" in reason()
    assert "--nodata" in reason("--mask", "none")
    assert "--scale" in reason("--mask", "none", "--nodata", 0)
    assert reason("--mask", "none", "--nodata", 0, "--scale", 0.0001) == ""
