"""First stage: every candidate is opened, and becomes a scene or a row that says why not."""

from __future__ import annotations

import json
import posixpath
from dataclasses import asdict, replace
from typing import Any
from zipfile import BadZipFile, ZipFile

from apps._frame.stages import TaskOutput
from apps.satellite.dataset import LANDSAT, PLAIN, SAFE, STAC, ZIP, Candidate
from apps.satellite.formats import landsat, sentinel2
from apps.satellite.formats.draft import Claim, Draft
from apps.satellite.formats.plain import read_plain
from apps.satellite.formats.stac import addresses, base_of, read_item
from apps.satellite.gate import admit, is_jpeg
from apps.satellite.params import Params
from apps.satellite.rasters import gdal, opened, tiles
from apps.satellite.records import REJECTED, Rejected, Row, Scene, scene_json

LARGEST_DOCUMENT = 64 << 20
_METADATA = ("MTD_MSIL2A.xml", "MTD_TL.xml", sentinel2.MANIFEST)


def ingest(candidate: Candidate, params: Params, output: TaskOutput | None) -> dict[str, Any]:
    """Map function: open a candidate; returns its scene or its row, or neither if it is no scene's document.

    Beside them, of an item that was found among files, where its assets are. Without an output only headers are read,
    and beside a scene stands what opening it takes.
    """
    assets: list[str] = []
    try:
        draft = _draft(candidate, params, assets)
        if draft is None:
            return {}
        scene = admit(draft, params, None if output is None else output.put)
        told = {"scene": scene_json(scene), "assets": assets}
        return told if output is not None else {**told, "effort": _effort(draft, scene, params)}
    except ConnectionError:
        raise
    except Rejected as error:
        reason = str(error)
    except Exception as error:  # whatever a file may hold stops its own scene alone
        reason = f"it cannot be read: {(str(error).splitlines() or [''])[0] or type(error).__name__}"
    return {"row": asdict(Row(candidate.name, candidate.source, REJECTED, reason)), "assets": assets}


def _effort(draft: Draft, scene: Scene, params: Params) -> dict[str, Any]:
    """Return what it takes to open a scene: bytes that are read whole, pixels that are decoded, in all and at a time.

    Beside them, of each asset, how many bytes its full image is packed in; 0 where that is not known.
    """
    claims: list[tuple[str, Claim | None]] = [*draft.bands.items(), ("", draft.mask)]
    whole = decoded = largest = 0
    packed: dict[str, int] = {}
    for name, claim in claims:
        asset = scene.bands.get(name, scene.mask)
        if claim is None or asset is None:
            continue
        pixels = asset.raster.width * asset.raster.height
        if is_jpeg(asset.source):
            whole, decoded, largest = whole + asset.source.size, decoded + pixels, max(largest, pixels)
        elif claim.checksum and params.checksums:
            whole += asset.source.size
        packed[name] = tiles(asset.source).packed if asset.fast else 0
    return {"whole": whole, "decoded": decoded, "largest": largest, "packed": packed}


def _draft(candidate: Candidate, params: Params, assets: list[str]) -> Draft | None:
    first = candidate.files[0]
    if candidate.kind == STAC:
        item = json.loads(candidate.feature or first.read())
        if isinstance(item, dict) and not candidate.feature and not candidate.named:
            if item.get("type") == "FeatureCollection" and any(map(_is_item, item.get("features") or ())):
                raise Rejected("a collection of items among other files; name it by --input itself")
            if item.get("type") in ("Catalog", "Collection") or "stac_version" not in item:
                return None  # what lies among items and is none
        if not isinstance(item, dict) or item.get("type") != "Feature":
            raise Rejected("it is no STAC item")
        if not candidate.feature:
            assets += addresses(item, first.url)
        base = base_of(item, first.url) if candidate.feature else first.url
        return read_item(item, base, params.bands, params.mask != "none")
    if candidate.kind == SAFE:
        files = {_below(each.key, candidate.name): each for each in candidate.files}
        xml = {posixpath.basename(path): file for path, file in files.items() if posixpath.basename(path) in _METADATA}
        content = {name: file.read() for name, file in xml.items() if file.size <= LARGEST_DOCUMENT}
        return sentinel2.read_safe(candidate.name, candidate.source, files, content, params.bands)
    if candidate.kind == ZIP:
        return _zipped(candidate, params)
    if candidate.kind == LANDSAT:
        files = {posixpath.basename(each.key): each for each in candidate.files[1:]}
        return landsat.read_mtl(candidate.name, candidate.source, first.read(), files, params.bands)
    if candidate.kind == PLAIN:
        with gdal(first) as header:
            return read_plain(first, params.band_names, params.bands, params.date, header)
    raise ValueError(candidate.kind)


def _is_item(feature: Any) -> bool:
    return isinstance(feature, dict) and "stac_version" in feature


def _below(key: str, folder: str) -> str:
    return key.rpartition(f"{folder}/")[2] if key.count(f"{folder}/") == 1 else key.partition(f"{folder}/")[2]


def _zipped(candidate: Candidate, params: Params) -> Draft:
    """Return what a zipped SAFE product says of itself."""
    (source,) = candidate.files
    try:
        with opened(source) as file, ZipFile(file) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            small = [each for each in members if each.file_size <= LARGEST_DOCUMENT]
            xml = {
                posixpath.basename(each.filename): archive.read(each)
                for each in small
                if posixpath.basename(each.filename) in _METADATA
            }
    except (BadZipFile, EOFError) as error:
        raise Rejected(f"a damaged archive: {error}") from None
    folders = {each.filename.split("/")[0] for each in members if ".SAFE/" in each.filename}
    if len(folders) != 1:
        raise Rejected("an archive that is not of one SAFE product")
    files = {each.filename: replace(source) for each in members}
    return sentinel2.read_safe(folders.pop(), candidate.source, files, xml, params.bands)
