"""Products of Sentinel-2 and Landsat, items of public catalogues and odd rasters, real ones where they are there."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps._frame.stored import Stored
from apps.satellite.formats.landsat import read_mtl
from apps.satellite.formats.sentinel2 import identify, read_safe
from apps.satellite.formats.stac import read_item
from apps.satellite.records import Rejected
from apps.satellite.science.grid import Raster
from tests.apps.satellite.conftest import noisy, pixels, rows_of

BANDS = ("blue", "green", "red", "nir")
OWN = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"}

MTD = """<?xml version="1.0"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
<Product_Info><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
<GENERATION_TIME>2024-06-01T13:00:00.000Z</GENERATION_TIME>
<Datatake datatakeIdentifier="GS2A_20240601T101021_046700_N{baseline}">
<DATATAKE_SENSING_START>2024-06-01T10:10:21.024Z</DATATAKE_SENSING_START></Datatake>
<Granule datastripIdentifier="S2A_OPER_MSI_L2A_DS_2APS_20240601T130000_S20240601T101023_N{baseline}"
 granuleIdentifier="S2A_OPER_MSI_L2A_TL_2APS_20240601T130000_A046700_T32TPS_N{baseline}"/></Product_Info>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
<Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
<BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>
</n1:Level-2A_User_Product>"""
TL = """<?xml version="1.0"?><n1:Level-2A_Tile_ID xmlns:n1="x"><Tile_Geocoding>
<HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>
<Size resolution="10"><NROWS>128</NROWS><NCOLS>128</NCOLS></Size>
<Size resolution="20"><NROWS>64</NROWS><NCOLS>64</NCOLS></Size>
<Geoposition resolution="10"><ULX>500000</ULX><ULY>5000000</ULY></Geoposition>
<Geoposition resolution="20"><ULX>500000</ULX><ULY>5000000</ULY></Geoposition>
</Tile_Geocoding></n1:Level-2A_Tile_ID>"""
NAME = "S2A_MSIL2A_20240601T101021_N0510_R022_T32TPS_20240601T130000.SAFE"


def write_jp2(path: Path, image: np.ndarray[Any, Any], size: float) -> None:
    import rasterio
    from affine import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(size, 0, 500_000, 0, -size, 5_000_000)
    profile = {
        "driver": "JP2OpenJPEG",
        "height": image.shape[0],
        "width": image.shape[1],
        "count": 1,
        "crs": "EPSG:32632",
    }
    with rasterio.open(
        path, "w", **profile, dtype=image.dtype, transform=transform, REVERSIBLE="YES", QUALITY="100"
    ) as dataset:
        dataset.write(image, 1)


@pytest.fixture
def safe(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray[Any, Any]]]:
    """A small product of baseline 05.10 whose offset differs from band to band, and its images."""
    place = tmp_path / "products" / NAME
    images = noisy(7)
    granule = place / "GRANULE" / "L2A_T32TPS_A046700_20240601T101023"
    for band, image in images.items():
        write_jp2(granule / "IMG_DATA/R10m" / f"T32TPS_20240601T101021_{OWN[band]}_10m.jp2", image + 2000, 10)
        write_jp2(granule / "IMG_DATA/R20m" / f"T32TPS_20240601T101021_{OWN[band]}_20m.jp2", image[::2, ::2], 20)
    classes = np.full((64, 64), 4, np.uint8)
    classes[:8] = 9
    write_jp2(granule / "IMG_DATA/R20m" / "T32TPS_20240601T101021_SCL_20m.jp2", classes, 20)
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{at}">{-2000 + at}</BOA_ADD_OFFSET>' for at in range(13))
    (place / "MTD_MSIL2A.xml").write_text(MTD.format(baseline="05.10", offsets=offsets))
    (granule / "MTD_TL.xml").write_text(TL.format(epsg=32632))
    return place, images


def zipped_up(place: Path, folder: Path) -> Path:
    """Return a folder with the archive of a product."""
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{NAME}.zip", "w") as archive:
        for path in sorted(place.rglob("*")):
            archive.write(path, str(path.relative_to(place.parent)))
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_a_safe_product_is_read_with_the_offset_of_each_band(
    safe: Any, zipped: bool, tmp_path: Path, main: Any
) -> None:
    place, images = safe
    source = zipped_up(place, tmp_path / "zips") if zipped else place.parent

    status, _, err = main("run", "--input", f"{source}/", "--output", tmp_path / "run")

    assert status == 0, err
    for at, band in enumerate(("blue", "green", "red"), 1):
        made = pixels(tmp_path / "run", band)[:128, :128]
        assert (made[16:] == images[band].astype(int)[16:] + at).all()
        assert (made[:16] == -32768).all()
    (row,) = rows_of(tmp_path / "run").values()
    assert (row["name"], row["tile"]) == (NAME.removesuffix(".SAFE"), "32TPS 20240601T101023")
    assert row["version"] == "05.10 2024-06-01T13:00:00.000Z 20240601T130000"


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("05.10", ""), ("05.10", '<BOA_ADD_OFFSET band_id="3"></BOA_ADD_OFFSET>'), ("unknown", "")],
    ids=["no element", "an empty one", "no baseline either"],
)
def test_a_safe_product_that_does_not_say_the_offset_of_a_band_is_rejected(
    safe: Any, tmp_path: Path, main: Any, baseline: str, offset: str
) -> None:
    place, _ = safe
    others = "" if baseline == "unknown" else '<BOA_ADD_OFFSET band_id="0">-1000</BOA_ADD_OFFSET>'
    (place / "MTD_MSIL2A.xml").write_text(MTD.format(baseline=baseline, offsets=others + offset))

    main("run", "--input", f"{place.parent}/", "--output", tmp_path / "run", "--bands", "red")

    (row,) = rows_of(tmp_path / "run").values()
    assert (row["status"], "does not say which red has" in row["reason"]) == ("rejected", True), row


def write_manifest(place: Path, kind: str, name: str) -> None:
    """Write a product's manifest, with a checksum of each of its files."""
    streams = "".join(
        f'<dataObject><byteStream size="{path.stat().st_size}"><fileLocation href="./{path.relative_to(place)}"/>'
        f'<checksum checksumName="{name}">{hashlib.new(kind, path.read_bytes()).hexdigest()}</checksum>'
        "</byteStream></dataObject>"
        for path in sorted(place.rglob("*.jp2"))
    )
    xfdu = 'xmlns:xfdu="urn:ccsds:schema:xfdu:1"'
    text = f"<xfdu:XFDU {xfdu}><dataObjectSection>{streams}</dataObjectSection></xfdu:XFDU>"
    (place / "manifest.safe").write_text(text)


def cut_in_place(path: Path) -> None:
    """Set the second half of a file to zeros, as a download does that did not end."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


@pytest.mark.parametrize("zipped", [False, True])
def test_an_image_that_is_not_the_one_of_its_manifest_is_damaged_though_it_decodes(
    safe: Any, zipped: bool, tmp_path: Path, main: Any
) -> None:
    place, _ = safe
    write_manifest(place, "sha3_256", "SHA3-256")
    cut_in_place(next(place.rglob("*B04_10m.jp2")))
    source = zipped_up(place, tmp_path / "zips") if zipped else place.parent
    flags = ("--input", f"{source}/", "--bands", "red,nir")

    status, _, err = main("run", *flags, "--output", tmp_path / "run")
    unchecked, *_ = main("run", *flags, "--output", tmp_path / "unchecked", "--checksums", "false")

    assert status == 1, err
    (row,) = rows_of(tmp_path / "run").values()
    assert row["status"] == "rejected"
    assert row["reason"] == (
        "red is damaged: its SHA3-256 is not the one of its metadata; --checksums false takes it as it is"
    )
    assert unchecked == 0


@pytest.mark.parametrize(("kind", "name"), [("sha3_256", "SHA3-256"), ("sha256", "MD5")])
def test_a_manifest_that_agrees_and_sums_that_are_not_trusted_let_a_product_pass(
    safe: Any, kind: str, name: str, tmp_path: Path, main: Any
) -> None:
    place, images = safe
    write_manifest(place, kind, name)

    status, _, err = main("run", "--input", place, "--output", tmp_path / "run", "--bands", "red,nir")

    assert (status, err) == (0, "")
    (row,) = rows_of(tmp_path / "run").values()
    assert ("nothing says whether its images are whole" in row["warnings"]) == (name == "MD5")
    assert (pixels(tmp_path / "run", "red")[16:128, :128] == images["red"].astype(int)[16:] + 3).all()


def test_a_safe_product_is_addressed_by_its_own_folder_too(safe: Any, tmp_path: Path, main: Any) -> None:
    place, _ = safe

    status, _, err = main("run", "--input", place, "--output", tmp_path / "run", "--bands", "red,nir")

    assert status == 0, err


def test_a_product_whose_metadata_name_another_system_is_rejected(safe: Any, tmp_path: Path, main: Any) -> None:
    place, _ = safe
    next(place.rglob("MTD_TL.xml")).write_text(TL.format(epsg=32633))

    status, _, _ = main("run", "--input", f"{place.parent}/", "--output", tmp_path / "run")

    assert status == 1
    assert "said to be in EPSG:32633" in next(iter(rows_of(tmp_path / "run").values()))["reason"]


def test_a_damaged_archive_is_a_row(tmp_path: Path, main: Any) -> None:
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / f"{NAME}.zip").write_bytes(b"PK\x03\x04" + bytes(500))

    status, _, _ = main("run", "--input", tmp_path / "zips", "--output", tmp_path / "run")

    assert status == 1
    assert "damaged archive" in next(iter(rows_of(tmp_path / "run").values()))["reason"]


def test_ids_say_datatake_strip_tile_and_baseline() -> None:
    found = identify(
        [
            "GS2B_20190629T212529_012081_N02.12",
            "S2B_OPER_MSI_L2A_DS_ESRI_20201006T080533_S20190629T212530_N02.12",
            "S2B_MSIL2A_20190629T212529_N0212_R043_T06VVN_20201006T080531.SAFE",
        ]
    )

    assert found == {
        "start": "20190629T212529",
        "baseline": "02.12",
        "strip": "20190629T212530",
        "tile": "06VVN",
        "generated": "20201006T080531",
    }


def safe_files(place: Path) -> tuple[dict[str, Stored], dict[str, bytes]]:
    """The metadata of a real product, and images that its metadata name."""
    xml = {path.name: path.read_bytes() for path in place.rglob("MTD_*.xml")}
    names = [f"GRANULE/x/IMG_DATA/R10m/T_{own}_10m.jp2" for own in OWN.values()] + [
        "GRANULE/x/IMG_DATA/R20m/T_SCL_20m.jp2"
    ]
    return {name: Stored("file:///x", f"{place.name}/{name}", 1, "t") for name in names}, xml


def test_a_real_reprocessed_pair_is_one_measurement_and_its_generation_tells_the_newer(real: Path) -> None:
    drafts = []
    for end in ("57", "58"):
        place = real / f"sentinel2_safe/S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T0221{end}.SAFE"
        files, xml = safe_files(place)
        drafts.append(read_safe(place.name, "x", files, xml, BANDS))

    first, second = drafts
    assert (first.datatake, first.tile) == (second.datatake, second.tile)
    assert first.version < second.version
    assert first.bands["red"].offset == pytest.approx(-0.1)
    assert first.bands["red"].transform == (10, 0.0, 300_000.0, 0.0, -10, 7_400_040.0)
    assert first.bands["red"].epsg == 32601


def test_a_real_product_of_an_early_baseline_has_no_offset(real: Path) -> None:
    place = real / "sentinel2_safe/S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857.SAFE"
    files, xml = safe_files(place)

    draft = read_safe(place.name, "x", files, xml, BANDS)

    assert (draft.baseline, draft.bands["red"].offset, draft.when) == ("02.12", 0.0, "2019-02-12T19:26:51.024Z")


def test_a_real_item_of_planetary_computer_says_datatake_and_tile(real: Path) -> None:
    item = json.loads((real / "stac/odc/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json").read_text())

    draft = read_item(item, "https://host/items/x.json", ("B02", "B03", "B04", "B08"), True)
    by_common_name = read_item(item, "https://host/items/x.json", BANDS, True)

    assert draft.datatake == "sentinel-2b 20190629T212529"
    assert draft.tile == "06VVN 20190629T212530"
    assert by_common_name.bands["red"].href == draft.bands["B04"].href
    assert draft.bands["B04"].epsg == 32606


def test_a_real_item_with_raster_bands_says_scale_and_no_data(real: Path) -> None:
    item = json.loads((real / "stac/pystac/raster-sentinel2-example.json").read_text())

    draft = read_item(item, "https://host/items/x.json", ("red",), True)

    assert (draft.bands["red"].scale, draft.bands["red"].offset) == (0.0001, 0.0)
    assert draft.bands["red"].nodata == 0
    assert draft.bands["red"].shape == (10980, 10980)


@pytest.mark.parametrize("name", ["pystac/v081-landsat8-sample.json", "pystac/another-1.1.json"])
def test_real_items_of_old_versions_are_rejected(real: Path, name: str) -> None:
    item = json.loads((real / "stac" / name).read_text())

    with pytest.raises(Rejected, match="a STAC item of version 0"):
        read_item(item, "https://host/items/x.json", ("red",), False)


def test_a_real_item_of_landsat_has_scale_and_offset_of_its_collection(real: Path) -> None:
    item = json.loads((real / "stac/odc/LC08_L2SP_028030_20200114_20200824_02_T1_SR.json").read_text())

    draft = read_item(item, "https://host/items/x.json", ("green", "red", "nir"), True)

    assert (draft.datatake, draft.tile) == ("landsat-8 028 20200114", "030")
    assert draft.mask_kind == "qa_pixel"
    assert (draft.bands["nir"].scale, draft.bands["nir"].offset) == (2.75e-5, -0.2)


def test_real_products_of_landsat_are_processed_as_an_oracle_does(real: Path, tmp_path: Path, main: Any) -> None:
    import rasterio

    status, _, err = main(
        "run",
        "--input",
        f"{real}/landsat_c2/",
        "--output",
        tmp_path / "run",
        "--bands",
        "green,red,nir",
        "--cell",
        1024,
    )

    assert status == 0, err
    rows = rows_of(tmp_path / "run")
    assert sorted(rows) == ["LC08_L2SP_005009_20150710_20200908_02_T2", "LC08_L2SP_008059_20191201_20200825_02_T1"]
    for name, zone in zip(sorted(rows), ("32624", "32618"), strict=True):
        parts = {}
        for part in ("SR_B4", "SR_B5", "QA_PIXEL"):
            with rasterio.open(real / f"landsat_c2/{name}_{part}.TIF") as dataset:
                parts[part] = dataset.read(1)
        valid = ((parts["QA_PIXEL"] & 31) == 0) & (parts["SR_B4"] > 0) & (parts["SR_B5"] > 0)
        (path,) = (tmp_path / "run" / "cells" / zone).glob("*/composite.tif")
        with rasterio.open(path) as dataset:
            made = {band: dataset.read(at + 1)[:512, :512] for at, band in enumerate(dataset.descriptions)}
        seen = made["count"] == 1
        assert seen.sum() > 0.9 * valid.sum() > 0
        assert not (seen & ~valid).any()
        red, nir = ((parts[each] * 2.75e-5 - 0.2) * 1e4 for each in ("SR_B4", "SR_B5"))
        assert np.abs(made["red"][seen] - red[seen]).max() <= 0.5 + 1e-6
        lit = seen & (red + nir > 500)
        ndvi = ((nir - red) / np.where(lit, nir + red, 1))[lit] * 1e4
        assert np.abs(made["ndvi"][lit] - np.clip(ndvi, -32767, 32767)).max() < 30


@pytest.mark.parametrize("kind", ["txt", "xml"])
def test_metadata_of_landsat_say_the_same_in_their_other_kinds(real: Path, kind: str) -> None:
    name = "LC08_L2SP_005009_20150710_20200908_02_T2"
    groups = json.loads((real / f"landsat_c2/{name}_MTL.json").read_text())["LANDSAT_METADATA_FILE"]
    files = {path.name: Stored("file:///x", path.name, 1, "t") for path in (real / "landsat_c2").iterdir()}
    if kind == "txt":
        lines = [
            f"GROUP = {group}\n" + "".join(f'  {key} = "{value}"\n' for key, value in values.items())
            for group, values in groups.items()
        ]
        text = "GROUP = LANDSAT_METADATA_FILE\n" + "".join(lines) + "END\n"
    else:
        inner = "".join(
            f"<{g}>{''.join(f'<{k}>{v}</{k}>' for k, v in values.items())}</{g}>" for g, values in groups.items()
        )
        text = f"<LANDSAT_METADATA_FILE>{inner}</LANDSAT_METADATA_FILE>"
    wanted = ("green", "red", "nir")

    found = read_mtl(f"{name}_MTL.{kind}", "x", text.encode(), files, wanted)

    assert found == read_mtl(
        f"{name}_MTL.json", "x", (real / f"landsat_c2/{name}_MTL.json").read_bytes(), files, wanted
    )
    assert found.when == "2015-07-10T14:34:35.978Z"
    assert (found.datatake, found.tile) == ("landsat-8 005 20150710", "009")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rasterio/rotated.tif", "no reference system"),
        ("rasterio/float_nan.tif", "no reference system"),
        ("rio-tiler/cog_gcps.tif", "no reference system but ground control points"),
        ("rio-tiler/cog_nonearth.tif", "not of the earth"),
        ("rio-tiler/cog.tif", "which number of red stands for no data"),
    ],
)
def test_real_odd_rasters_are_rejected_with_their_reason(
    real: Path, name: str, reason: str, tmp_path: Path, main: Any
) -> None:
    flags = ("--mask", "none", "--band-names", "red", "--bands", "red", "--scale", 1e-4, "--date", "2024-06-01")

    status, _, _ = main("run", "--input", real / "tiff" / name, "--output", tmp_path / "run", *flags)

    assert status == 1
    assert reason in next(iter(rows_of(tmp_path / "run").values()))["reason"]


def test_a_real_raster_in_strips_is_read_and_strictly_rejected(real: Path, tmp_path: Path, main: Any) -> None:
    flags = ("--mask", "none", "--band-names", "red", "--bands", "red", "--scale", 1e-4, "--date", "2024-06-01")
    flags += ("--nodata", 0, "--cell", 1024)
    source = real / "tiff/rio-tiler/nocog.tif"

    status, _, err = main("run", "--input", source, "--output", tmp_path / "run", *flags)
    strict, _, _ = main("run", "--input", source, "--output", tmp_path / "strict", *flags, "--strict")

    assert (status, strict) == (0, 1), err
    assert "in strips" in next(iter(rows_of(tmp_path / "strict").values()))["reason"]


def test_geographic_and_south_up_rasters_are_rejected(tmp_path: Path, main: Any) -> None:
    import rasterio
    from affine import Affine

    (tmp_path / "in").mkdir()
    odd = {
        "degrees": ("EPSG:4326", Affine(1e-4, 0, 9, 0, -1e-4, 45)),
        "southup": ("EPSG:32632", Affine(10, 0, 5e5, 0, 10, 5e6)),
        "rotated": ("EPSG:32632", Affine(10, 1, 5e5, 1, -10, 5e6)),
        "feet": ("EPSG:2263", Affine(10, 0, 9e5, 0, -10, 2e5)),
    }
    for name, (crs, transform) in odd.items():
        profile = {"driver": "GTiff", "height": 32, "width": 32, "count": 1, "dtype": "uint16", "nodata": 0}
        with rasterio.open(
            tmp_path / f"in/{name}_20240601.tif", "w", **profile, crs=crs, transform=transform
        ) as dataset:
            dataset.write(np.ones((1, 32, 32), np.uint16))

    main(
        "run", "--input", tmp_path / "in", "--output", tmp_path / "run", "--mask", "none", "--band-names", "red",
        "--bands", "red", "--scale", 1e-4,
    )  # fmt: skip

    reasons = {name.partition("_")[0]: row["reason"] for name, row in rows_of(tmp_path / "run").items()}
    assert "is in degrees" in reasons["degrees"]
    assert "is not north up" in reasons["southup"]
    assert "is rotated" in reasons["rotated"]
    assert "no system of EPSG in metres" in reasons["feet"]


def test_a_raster_is_where_its_header_says() -> None:
    assert Raster(0, 100, 10, 10, 5, 10).bounds == (0, 0, 50, 100)
