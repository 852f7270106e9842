"""What is particular of Sentinel-2: its names, its processing baselines, and the SAFE format (PSD 14.9, ESA)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

from apps._frame.stored import Stored
from apps.satellite.formats.draft import Claim, Draft, utc, written
from apps.satellite.records import SCL, Rejected
from apps.satellite.science.reflectance import SCALE

BANDS = {
    "coastal": ("B01", 0), "blue": ("B02", 1), "green": ("B03", 2), "red": ("B04", 3), "rededge1": ("B05", 4),
    "rededge2": ("B06", 5), "rededge3": ("B07", 6), "nir": ("B08", 7), "nir08": ("B8A", 8), "nir09": ("B09", 9),
    "swir16": ("B11", 11), "swir22": ("B12", 12),
}  # fmt: skip
"""Name in a product and its ``band_id``, by common name."""
NODATA = 0
"""Special value of all products."""
OFFSET = -1000 * SCALE
"""Of reflectance since processing baseline 04.00 (25 January 2022; reprocessed older scenes have it too)."""
FIRST_WITH_OFFSET = 4.0
LARGEST_XML = 16 << 20
MANIFEST = "manifest.safe"
SHA3_256 = "1620"
"""How a multihash of SHA3-256 begins; source: the multicodec table."""

UNCHECKED = "its manifest has no SHA3-256, so nothing says whether its images are whole"

_DATATAKE = re.compile(r"GS2[A-D]_(\d{8}T\d{6})_\d+_N(\d\d\.\d\d)")
_PRODUCT = re.compile(r"S2[A-D]_MSIL\d[AC]_(\d{8}T\d{6})_N(\d\d)(\d\d)_R\d{3}_T(\w{5})_(\d{8}T\d{6})")
_STRIP = re.compile(r"_S(\d{8}T\d{6})")
_TILE = re.compile(r"(?:^|_)T?(\d{2}[C-X][A-Z]{2})(?=_|$)")


def offset_of(baseline: str, applied: bool) -> float | None:
    """Return the offset of reflectance by processing baseline, where metadata do not say it themselves.

    Parameters
    ----------
    baseline : str
        Such as ``05.09``; without it the offset is not known, and None.
    applied : bool
        Whether the provider says that it has been added to the numbers already.
    """
    try:
        number = float(baseline)
    except ValueError:
        return None
    return 0.0 if number < FIRST_WITH_OFFSET or applied else OFFSET


def two_digits(baseline: str) -> str:
    """Return a processing baseline as products write it, 02.14, so that the newer one is the greater text."""
    try:
        return f"{float(baseline):05.2f}"
    except ValueError:
        return baseline


def identify(texts: Iterable[str]) -> dict[str, str]:
    """Return what ids of product, datatake, datastrip and granule say: start, baseline, tile, strip, generated."""
    found: dict[str, str] = {}
    for text in texts:
        if match := _PRODUCT.search(text):
            start, major, minor, tile, generated = match.groups()
            told = {"start": start, "baseline": f"{major}.{minor}", "tile": tile, "generated": generated}
            found = {**told, **found}
        if match := _DATATAKE.search(text):
            found = {"start": match[1], "baseline": match[2], **found}
        if "_DS_" in text and (match := _STRIP.search(text)):
            found.setdefault("strip", match[1])
        if match := _TILE.search(text):
            found.setdefault("tile", match[1])
    return found


def read_safe(
    name: str, source: str, files: Mapping[str, Stored], xml: Mapping[str, bytes], wanted: Iterable[str]
) -> Draft:
    """Return what a SAFE product says of itself.

    Parameters
    ----------
    name : str
        Of its folder.
    files : mapping
        What is in the folder, by path; where that is an archive, each stands for the archive.
    xml : mapping
        Content of the metadata, ``MTD_MSIL2A.xml``, ``MTD_TL.xml`` and ``manifest.safe``, by file name.
    wanted : iterable of str
        Names of bands.
    """
    if "MTD_MSIL2A.xml" not in xml:
        level = " of level 1C, which is not surface reflectance" if any("MTD_MSIL1C" in each for each in files) else ""
        raise Rejected(f"a product{level or ' without MTD_MSIL2A.xml'}")
    product = _parsed(xml["MTD_MSIL2A.xml"], "MTD_MSIL2A.xml")
    tile = _parsed(xml["MTD_TL.xml"], "MTD_TL.xml") if "MTD_TL.xml" in xml else None
    baseline = _text(product, "PROCESSING_BASELINE")
    start = utc(_text(product, "DATATAKE_SENSING_START"), "DATATAKE_SENSING_START")
    granule = next(product.iter("Granule"), None)
    ids = [] if granule is None else [granule.get("datastripIdentifier", ""), granule.get("granuleIdentifier", "")]
    known = identify([*ids, name])
    scale = 1 / float(_text(product, "BOA_QUANTIFICATION_VALUE"))
    told = {each.get("band_id"): (each.text or "").strip() for each in product.iter("BOA_ADD_OFFSET")}
    offsets = {each: float(text) for each, text in told.items() if text}
    unsaid = None if told else offset_of(baseline, False)
    special = {
        _text(each, "SPECIAL_VALUE_TEXT"): float(_text(each, "SPECIAL_VALUE_INDEX"))
        for each in product.iter("Special_Values")
    }
    nodata = special.get("NODATA", NODATA)
    sums = _checksums(xml)
    claims = {}
    for band in wanted:
        if band not in BANDS:
            raise Rejected(f"Sentinel-2 has no band {band!r}; it has {', '.join(BANDS)}")
        own, number = BANDS[band]
        offset = offsets.get(str(number), 0.0 if unsaid == 0 else None)
        if offset is None:
            raise Rejected(f"baseline {baseline} may have an offset, and MTD_MSIL2A.xml does not say which {band} has")
        claims[band] = _claim(files, own, tile, sums, scale=scale, offset=offset * scale, nodata=nodata)
    mask = _claim(files, "SCL", tile, sums, scale=None, offset=None, nodata=None)
    platform = f"sentinel-2{name[2:3].lower()}"
    unchecked = () if sums else (UNCHECKED,)
    # Two editions may be of one second; the names of their products then differ alone.
    version = (baseline, _text(product, "GENERATION_TIME"), known.get("generated", ""))
    place = f"{known.get('tile', name)} {known.get('strip', '')}".strip()
    return Draft(
        name.removesuffix(".SAFE"), source, written(start), platform, f"{platform} {start:%Y%m%dT%H%M%S}", place,
        version, claims, mask, SCL, True, baseline, unchecked,
    )  # fmt: skip


def _claim(
    files: Mapping[str, Stored], own: str, tile: ElementTree.Element | None, sums: Mapping[str, str], *,
    scale: float | None, offset: float | None, nodata: float | None,
) -> Claim:  # fmt: skip
    pattern = re.compile(rf"_{own}(?:_(10|20|60)m)?\.(jp2|tiff?)$", re.IGNORECASE)
    found = [(int(match[1] or 10), path) for path in files if (match := pattern.search(path))]
    if not found:
        raise Rejected(f"the product has no file of {own}")
    size, path = min(found)
    shape, transform, epsg = _geometry(tile, size)
    stored = files[path]
    member = "" if stored.key.endswith(path) else path
    return Claim(
        stored=stored, member=member, scale=scale, offset=offset, nodata=nodata, epsg=epsg, shape=shape,
        transform=transform, checksum=sums.get(path.rpartition("/")[2], ""),
    )  # fmt: skip


def _checksums(xml: Mapping[str, bytes]) -> dict[str, str]:
    """Return the multihashes that a manifest has, by file name, which is a product's own for each image.

    Of its kinds of checksums SHA3-256 is taken alone: MD5 in products of earlier baselines is not always that of the
    file that was delivered.
    """
    if MANIFEST not in xml:
        return {}
    found = {}
    for stream in _parsed(xml[MANIFEST], MANIFEST).iter("byteStream"):
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        if location is not None and checksum is not None and checksum.get("checksumName") == "SHA3-256":
            found[location.get("href", "").rpartition("/")[2]] = f"{SHA3_256}{(checksum.text or '').strip()}"
    return found


def _geometry(
    tile: ElementTree.Element | None, size: int
) -> tuple[tuple[int, int] | None, tuple[float, ...] | None, int | None]:
    """Return shape, transform and EPSG code that the metadata of a tile claim for a size of pixels."""
    if tile is None:
        return None, None, None
    code = _text(tile, "HORIZONTAL_CS_CODE").upper().removeprefix("EPSG:")
    sizes = {each.get("resolution"): each for each in tile.iter("Size")}
    places = {each.get("resolution"): each for each in tile.iter("Geoposition")}
    if str(size) not in sizes or str(size) not in places or not code.isdigit():
        return None, None, None
    shape = (int(_text(sizes[str(size)], "NROWS")), int(_text(sizes[str(size)], "NCOLS")))
    left, top = (float(_text(places[str(size)], each)) for each in ("ULX", "ULY"))
    return shape, (size, 0.0, left, 0.0, -size, top), int(code)


def _parsed(data: bytes, name: str) -> ElementTree.Element:
    if len(data) > LARGEST_XML:
        raise Rejected(f"{name} has {len(data):,} bytes, more than metadata have")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise Rejected(f"{name} is damaged: {error}") from None


def _text(element: ElementTree.Element, name: str) -> str:
    found = next(element.iter(name), None)
    if found is None or not (found.text or "").strip():
        raise Rejected(f"the metadata have no {name}")
    return (found.text or "").strip()
