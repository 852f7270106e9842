"""What is particular of Landsat Collection 2, Level 2: its names, scale, and MTL files (USGS LSDS-1619, LSDS-1337)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree

from apps._frame.stored import Stored
from apps.satellite.formats.draft import Claim, Draft, utc, written
from apps.satellite.records import QA_PIXEL, Rejected

OLI = {"coastal": 1, "blue": 2, "green": 3, "red": 4, "nir": 5, "nir08": 5, "swir16": 6, "swir22": 7}
TM = {"blue": 1, "green": 2, "red": 3, "nir": 4, "nir08": 4, "swir16": 5, "swir22": 7}
"""Number of a band by its common name, for Landsat 8 and 9, and for 4 to 7."""
SCALE, OFFSET, FILL = 2.75e-5, -0.2, 0
"""Of surface reflectance (Landsat 8-9 Collection 2 Level 2 Science Product Guide, LSDS-1619, table 6-1)."""
PRODUCT = re.compile(r"L([COTEM])(\d\d)_(L\w{3})_(\d{3})(\d{3})_(\d{8})_(\d{8})_(\d\d)_(\w\w)")
METADATA = re.compile(r"^(.*)_MTL\.(json|xml|txt)$")


def version_of(product: str) -> tuple[str, ...]:
    """Return the day of processing, by which one of several editions is the newest."""
    match = PRODUCT.search(product)
    return (match[7], match[9]) if match else ("", "")


def read_mtl(name: str, source: str, mtl: bytes, files: Mapping[str, Stored], wanted: Iterable[str]) -> Draft:
    """Return what a product's MTL file says.

    Parameters
    ----------
    name : str
        Of the file, which says its kind.
    files : mapping
        What is beside it, by name.
    """
    fields = _fields(name, mtl)

    def need(*names: str) -> str:
        found = next((fields[each] for each in names if each in fields), "")
        if not found:
            raise Rejected(f"{name} has no {names[0]}")
        return found

    product = need("PRODUCT_CONTENTS.LANDSAT_PRODUCT_ID")
    if not need("PRODUCT_CONTENTS.PROCESSING_LEVEL").startswith("L2S"):
        raise Rejected("a product below level 2, which is not surface reflectance")
    craft = need("IMAGE_ATTRIBUTES.SPACECRAFT_ID")
    numbers = OLI if craft in ("LANDSAT_8", "LANDSAT_9") else TM
    day, time = need("IMAGE_ATTRIBUTES.DATE_ACQUIRED"), need("IMAGE_ATTRIBUTES.SCENE_CENTER_TIME").strip('"')
    when = utc(f"{day}T{_six_digits(time)}", "SCENE_CENTER_TIME")
    path, row = need("IMAGE_ATTRIBUTES.WRS_PATH"), need("IMAGE_ATTRIBUTES.WRS_ROW")
    claims = {}
    for band in wanted:
        if band not in numbers:
            raise Rejected(f"{craft} has no band {band!r}; it has {', '.join(numbers)}")
        number = numbers[band]
        file = need(f"PRODUCT_CONTENTS.FILE_NAME_BAND_{number}")
        scale = float(need(f"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS.REFLECTANCE_MULT_BAND_{number}"))
        offset = float(need(f"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS.REFLECTANCE_ADD_BAND_{number}"))
        claims[band] = Claim(stored=_there(files, file), scale=scale, offset=offset, nodata=FILL)
    mask = Claim(stored=_there(files, need("PRODUCT_CONTENTS.FILE_NAME_QUALITY_L1_PIXEL")))
    platform = craft.lower().replace("_", "-")
    return Draft(
        product, source, written(when), platform, f"{platform} {path:0>3} {when:%Y%m%d}", f"{row:0>3}",
        version_of(product), claims, mask, QA_PIXEL,
    )  # fmt: skip


def _six_digits(time: str) -> str:
    """Cut the seventh digit of a second's fraction, which Python's times do not have."""
    return re.sub(r"(\.\d{6})\d+", r"\1", time)


def _there(files: Mapping[str, Stored], name: str) -> Stored:
    if name not in files:
        raise Rejected(f"{name} is missing beside the metadata")
    return files[name]


def _fields(name: str, mtl: bytes) -> dict[str, str]:
    """Return the values of an MTL file by group and name, whichever of its three kinds it is."""
    try:
        text = mtl.decode("utf-8-sig")
        if name.endswith(".json"):
            groups = json.loads(text)["LANDSAT_METADATA_FILE"]
        elif name.endswith(".xml"):
            groups = {each.tag: {one.tag: one.text or "" for one in each} for each in ElementTree.fromstring(text)}
        else:
            groups = _groups(text)
        return {f"{group}.{key}": str(value) for group, values in groups.items() for key, value in values.items()}
    except (ValueError, KeyError, AttributeError, ElementTree.ParseError) as error:
        raise Rejected(f"{name} is damaged: {error!r}") from None


def _groups(text: str) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    group = ""
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if equals and key == "GROUP":
            group = value
        elif equals and key != "END_GROUP":
            groups.setdefault(group, {})[key] = value.strip('"')
    return groups
