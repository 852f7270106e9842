"""STAC items of version 1.0 and 1.1 (stacspec.org), by whichever extensions say it: eo, raster, projection, file."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from apps.satellite.formats import landsat, sentinel2
from apps.satellite.formats.draft import Claim, Draft, utc, written
from apps.satellite.records import QA_PIXEL, SCL, Rejected
from apps.satellite.science.reflectance import SCALE
from core.storage import join_address, split_address

MASKS = {SCL: ("scl", "SCL"), QA_PIXEL: ("qa_pixel", "qa", "QA_PIXEL", "pixel_qa")}
"""Keys that masks have in public catalogues, by their kind."""
ALIASES = {"nir": ("nir", "nir08"), "nir08": ("nir08", "nir")}
"""Of Landsat, whose one near infrared band is called either."""
NOT_DATA = {"visual", "overview", "thumbnail", "metadata", "preview"}
"""Roles, and keys, of assets that show a picture and do not hold what was measured."""
APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
"""What providers say who have added the offset of Sentinel-2 to the numbers."""

GDAL_PLACES = {"/vsis3/": "s3://", "/vsicurl/": ""}
"""How addresses in GDAL's file systems begin, and how they do elsewhere."""

HARMONIZED = re.compile(r"HLS\.[LS]30\.")
"""How names begin of what is made of the products of a mission on another grid, with scale and no data in its files and
no offset (Harmonized Landsat and Sentinel-2 user guide, version 2)."""

Item = Mapping[str, Any]


def read_item(item: Item, base: str, wanted: Iterable[str], masked: bool) -> Draft:
    """Return what an item says of a scene.

    Parameters
    ----------
    item : mapping
    base : str
        Address of the item, by which relative ones are resolved.
    wanted : iterable of str
        Names of bands: common names, or keys of assets.
    masked : bool
        Whether a mask is needed.

    Raises
    ------
    Rejected
        It is no item that can be used; says why.
    """
    version = str(item.get("stac_version", ""))
    if not re.fullmatch(r"1\.\d+\.\d+", version):
        raise Rejected(f"a STAC item of version {version or 'unknown'}; 1.0 and 1.1 are read")
    properties, assets = item.get("properties"), item.get("assets")
    if not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
        raise Rejected("an item without properties or assets")
    name = str(item.get("id", "")) or posixpath.basename(base)
    told = properties.get("datetime") or properties.get("start_datetime")
    when = utc(told, "datetime")
    platform = _platform(name, properties)
    common = _Common(item, base, properties, assets, platform)
    bands = {band: common.band(band) for band in wanted}
    mask, kind = common.mask() if masked else (None, "")
    draft = Draft(
        name, base, written(when), platform, f"{platform} {written(when)}", name, (str(properties.get("updated", "")),),
        bands, mask, kind,
    )  # fmt: skip
    if HARMONIZED.match(name):
        return draft
    if platform.startswith("sentinel-2"):
        return _sentinel2(draft, properties)
    if platform.startswith("landsat"):
        return _landsat(draft, properties)
    return draft


def _platform(name: str, properties: Item) -> str:
    told = f"{properties.get('platform', '')} {properties.get('constellation', '')}".lower().replace("_", "-")
    if "sentinel-2" in told or "sentinel 2" in told or re.match(r"S2[A-D]_", name):
        letter = re.search(r"sentinel-?\s?2([a-d])", told) or re.match(r"s2([a-d])_", name.lower())
        return f"sentinel-2{letter[1] if letter else ''}"
    return str(properties.get("platform", "")).lower().replace("_", "-")


def _sentinel2(draft: Draft, properties: Item) -> Draft:
    ids = (properties.get(f"{prefix}{key}") for prefix in ("s2:", "sentinel:") for key in (
        "product_uri", "product_id", "datatake_id", "datastrip_id", "granule_id"))  # fmt: skip
    known = sentinel2.identify([str(each) for each in ids if each] + [draft.name])
    baseline = sentinel2.two_digits(
        str(
            properties.get("s2:processing_baseline")
            or properties.get("sentinel:processing_baseline")
            or known.get("baseline", "")
        )
    )
    applied = any(properties.get(each) is True for each in APPLIED)
    warnings = []
    made = {}
    for band, claim in draft.bands.items():
        scale = SCALE if claim.scale is None else claim.scale
        offset = claim.offset
        if offset is None:
            offset = sentinel2.offset_of(baseline, applied)
        elif offset and applied:
            warnings.append(
                f"{band}: an offset of {offset:g} is given, and said to be applied already; --offset decides"
            )
        nodata = sentinel2.NODATA if claim.nodata is None else claim.nodata
        made[band] = replace(
            claim, scale=scale, offset=offset, nodata=nodata, is_usual=claim.scale is None, needs_offset=True
        )
    tile = str(properties.get("s2:mgrs_tile") or _grid_code(properties) or known.get("tile", draft.name))
    start = known.get("start") or re.sub(r"\D", "", draft.when[:10]) + "T" + re.sub(r"\D", "", draft.when[11:19])
    strip = known.get("strip") or draft.when
    generated = str(properties.get("s2:generation_time") or known.get("generated") or properties.get("created", ""))
    return replace(
        draft, datatake=f"{draft.platform} {start}", tile=f"{tile} {strip}", version=(baseline, generated), bands=made,
        is_sentinel2=True, baseline=baseline, warnings=tuple(warnings[:1]),
    )  # fmt: skip


def _grid_code(properties: Item) -> str:
    return str(properties.get("grid:code", "")).removeprefix("MGRS-").zfill(5).removeprefix("00000")


def _landsat(draft: Draft, properties: Item) -> Draft:
    match = landsat.PRODUCT.search(str(properties.get("landsat:product_id", ""))) or landsat.PRODUCT.search(draft.name)
    made = draft.bands
    if match and match[3].startswith("L2S") and match[8] == "02":
        made = {
            band: replace(
                claim,
                scale=landsat.SCALE if claim.scale is None else claim.scale,
                offset=landsat.OFFSET if claim.offset is None else claim.offset,
                nodata=landsat.FILL if claim.nodata is None else claim.nodata,
                is_usual=claim.scale is None,
            )
            for band, claim in draft.bands.items()
        }
    path = str(properties.get("landsat:wrs_path") or (match[4] if match else ""))
    row = str(properties.get("landsat:wrs_row") or (match[5] if match else ""))
    day = re.sub(r"\D", "", draft.when[:10])
    datatake = f"{draft.platform} {path:0>3} {day}" if path else draft.datatake
    return replace(
        draft, datatake=datatake, tile=f"{row:0>3}" if row else draft.name,
        version=landsat.version_of(match[0]) if match else ("",), bands=made,
    )  # fmt: skip


class _Common:
    """An item's assets, whichever version of the extensions they are written in."""

    def __init__(self, item: Item, base: str, properties: Item, assets: Item, platform: str) -> None:
        self._item, self._base, self._properties = item, base, properties
        self._assets = {str(key): each for key, each in assets.items() if isinstance(each, Mapping)}
        self._platform = platform

    def band(self, name: str) -> Claim:
        """Return what is said of a band: an asset of that key, or the one whose band has that common name."""
        names = ALIASES.get(name, (name,)) if self._platform.startswith("landsat") else (name,)
        for each in names:
            found = list(self._holding(each))
            own = [(key, at) for key, at in found if key == each]
            if own or found:
                return self._claim(*self._one(name, own or found))
        raise Rejected(f"no asset is, or has a band of the common name, {name}; it has {', '.join(self._assets)}")

    def mask(self) -> tuple[Claim, str]:
        """Return what is said of the mask, and its kind."""
        for kind, keys in MASKS.items():
            for key in keys:
                if key in self._assets:
                    return self._claim(key, 0), kind
        raise Rejected("no mask is among its assets (scl or qa_pixel); --mask none goes without")

    def _holding(self, name: str) -> Iterator[tuple[str, int]]:
        """Yield the assets that hold a band, and its number among their bands."""
        for key, asset in self._assets.items():
            if not self._is_data(key, asset):
                continue
            bands = _bands(asset)
            if key == name and len(bands) <= 1:
                yield key, 0
                continue
            for at, band in enumerate(bands):
                if name in (band.get("eo:common_name"), band.get("common_name"), band.get("name")):
                    yield key, at

    def _one(self, name: str, found: Sequence[tuple[str, int]]) -> tuple[str, int]:
        tiffs = [each for each in found if "tiff" in str(self._assets[each[0]].get("type", "image/tiff")).lower()]
        left = tiffs or list(found)
        if len(left) > 1:
            raise Rejected(f"several assets have the band {name}: {', '.join(key for key, _ in left)}")
        return left[0]

    def _is_data(self, key: str, asset: Item) -> bool:
        roles = asset.get("roles")
        return not NOT_DATA & {key.partition("-")[0], *(map(str, roles) if isinstance(roles, list) else ())}

    def _claim(self, key: str, at: int) -> Claim:
        asset = self._assets[key]
        bands, rasters = _bands(asset), asset.get("raster:bands")
        raster = rasters[at] if isinstance(rasters, list) and at < len(rasters) else {}
        band = bands[at] if at < len(bands) else {}

        def said(*names: str) -> Any:
            places = ((raster, names[0]), *((place, each) for place in (band, asset) for each in names[1:]))
            return next((place[each] for place, each in places if place.get(each) is not None), None)

        shape, transform = self._projected(asset, "shape"), self._projected(asset, "transform")
        return Claim(
            href=self._resolved(asset.get("href"), key),
            index=at + 1,
            bands=max(1, len(bands), len(rasters) if isinstance(rasters, list) else 0),
            scale=_number(said("scale", "raster:scale"), f"{key}: scale"),
            offset=_number(said("offset", "raster:offset"), f"{key}: offset"),
            nodata=_number(said("nodata", "nodata"), f"{key}: nodata"),
            epsg=self._epsg(asset),
            shape=(int(shape[0]), int(shape[1])) if _is_list(shape, 2) else None,
            transform=tuple(float(each) for each in transform[:6]) if _is_list(transform, 6) else None,
            checksum=str(asset.get("file:checksum", "")),
        )

    def _projected(self, asset: Item, name: str) -> Any:
        return asset.get(f"proj:{name}", self._properties.get(f"proj:{name}"))

    def _epsg(self, asset: Item) -> int | None:
        code = self._projected(asset, "code")
        if isinstance(code, str) and code.upper().startswith("EPSG:") and code[5:].isdigit():
            return int(code[5:])
        number = self._projected(asset, "epsg")
        return number if isinstance(number, int) else None

    def _resolved(self, href: object, key: str) -> str:
        """Return the address of an asset; a relative one is beside the item, in the item's own storage."""
        if not isinstance(href, str) or not href:
            raise Rejected(f"asset {key} has no href")
        place = resolve(href, self._base)
        if place.startswith("/vsi"):
            raise Rejected(f"{href} is an address that GDAL alone knows; write s3://, https:// or a path")
        return place


def base_of(item: Item, place: str) -> str:
    """Return the address that an item of a collection is relative to: its own, if it says so, or the collection's."""
    links = item.get("links")
    found = (each for each in (links if isinstance(links, list) else ()) if isinstance(each, Mapping))
    own = (each.get("href") for each in found if each.get("rel") == "self")
    return next((href for href in own if isinstance(href, str) and ("://" in href or href.startswith("/"))), place)


def addresses(item: Item, base: str) -> list[str]:
    """Return where the assets of an item may be, whatever it may be."""
    assets = item.get("assets")
    found = assets.values() if isinstance(assets, Mapping) else ()
    hrefs = (each.get("href") for each in found if isinstance(each, Mapping))
    return [place for href in hrefs if isinstance(href, str) for place in spellings(resolve(href, base))]


def spellings(address: str) -> list[str]:
    """Return an address as it is written and, if that differs, with its percent signs decoded (RFC 3986)."""
    return list(dict.fromkeys((address, unquote(address))))


def resolve(href: str, base: str) -> str:
    """Return an address that may be relative to another, or one of GDAL's.

    One of a bucket is in the same service as an item that is in one whose address says which.
    """
    if href.startswith("file:/") and not href.startswith("file://"):
        return href.removeprefix("file:")  # RFC 8089 has this form too
    if href.startswith("file://localhost/"):
        return href.replace("localhost", "", 1)
    for own, place in GDAL_PLACES.items():
        if href.startswith(own):
            href = place + href.removeprefix(own)
    if "://" in href or href.startswith("/"):
        scheme, _, rest = href.partition("://")
        told = split_address(base)[0].partition("?")
        if base.startswith(f"{scheme}://") and told[1] and scheme in ("s3", "cos") and "?" not in rest:
            return f"{href}?{told[2]}"
        return href
    root, key = split_address(base)
    return join_address(root, posixpath.normpath(posixpath.join(posixpath.dirname(key), href)))


def _bands(asset: Item) -> list[Mapping[str, Any]]:
    found = asset.get("bands", asset.get("eo:bands", []))
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _number(value: object, where: str) -> float | None:
    if value is None:
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise Rejected(f"{where} is no number: {value!r}") from None


def _is_list(value: object, least: int) -> bool:
    return isinstance(value, list) and len(value) >= least and all(isinstance(each, int | float) for each in value)
