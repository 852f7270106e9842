"""What a run leaves for others to find: a STAC catalogue of its cells, layers of shapes, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from apps._frame.tables import csv_bytes, json_text
from apps.satellite.cells import CELLS, COMPOSITE
from apps.satellite.geoparquet import layer_bytes
from apps.satellite.planning import Zone, footprint
from apps.satellite.records import Cell, CellDone, Row
from apps.satellite.science.reflectance import NODATA
from apps.satellite.science.zonal import Sums, added

VERSION = "1.1.0"
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
COMMON_NAMES = frozenset(
    "pan coastal blue green green05 yellow red rededge rededge071 rededge075 rededge078 nir nir08 nir09 cirrus swir16 "
    "swir22 lwir lwir11 lwir12".split()
)
"""That the eo extension has; other names of bands are no common names."""
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PARQUET = "application/vnd.apache.parquet"
CATALOG, ITEMS, INDEX = "catalog.json", "items/", "index/"

Shapes = NDArray[np.object_]


def catalogue(cells: Sequence[Cell], done: Sequence[CellDone]) -> dict[str, bytes | Iterable[bytes]]:
    """Return a catalogue and an item for each cell that has a value, by name; items are made as they are written."""
    files: dict[str, bytes | Iterable[bytes]] = {}
    links = [_link("root", "./catalog.json")]
    for cell, each in zip(cells, done, strict=True):
        if not each.valid:
            continue
        name = f"{ITEMS}{_item_name(cell)}.json"
        files[name] = (json_text(_item(*pair), indent=1).encode() for pair in [(cell, each)])
        links.append(_link("item", f"./{name}", "application/geo+json"))
    about = {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": "satellite",
        "title": "Cells of a batch of satellite scenes",
        "description": "One item for each cell of a zone's grid: composite, indices, number of valid dates, outlines.",
        "links": links,
    }
    files[CATALOG] = json_text(about, indent=1).encode()
    return files


def _item_name(cell: Cell) -> str:
    return cell.name.replace("/", "_")


def _link(rel: str, href: str, kind: str = "application/json") -> dict[str, str]:
    return {"rel": rel, "href": href, "type": kind}


def _item(cell: Cell, done: CellDone) -> dict[str, Any]:
    outline = footprint(cell)
    code = f"EPSG:{cell.zone}"
    bands = [
        {
            "name": name,
            **({"eo:common_name": name} if name in COMMON_NAMES else {}),
            **({"raster:scale": scale} if scale != 1 else {}),
        }
        for name, scale in zip(done.bands, done.scales, strict=True)
    ]
    assets = {
        name.partition(".")[0]: {
            "href": f"../{CELLS}{cell.name}/{name}",
            "type": COG if name == COMPOSITE else PARQUET,
            "roles": ["data"],
            "file:size": told["size"],
            "file:checksum": f"1220{told['sha256']}",
        }
        for name, told in done.files.items()
    }
    nodata: Any = "nan" if done.dtype == "float32" else NODATA
    assets[COMPOSITE.partition(".")[0]].update({"bands": bands, "data_type": done.dtype, "nodata": nodata})
    sources = sorted(
        {scene.source: scene.name for take in cell.datatakes for scene in take if scene.name in done.scenes}.items()
    )
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": _item_name(cell),
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(box_of(outline)),
        "properties": {
            "datetime": None,
            "start_datetime": min(done.dates),
            "end_datetime": max(done.dates),
            "proj:code": code,
            "proj:shape": [cell.raster.height, cell.raster.width],
            "proj:transform": list(cell.raster.transform),
        },
        "links": [
            _link("root", "../catalog.json"),
            _link("parent", "../catalog.json"),
            *({"rel": "derived_from", "href": source, "title": name} for source, name in sources),
        ],
        "assets": assets,
    }


def box_of(outline: Any) -> tuple[float, float, float, float]:
    """Return west, south, east, north; of a shape that is cut at 180 degrees west is greater than east (RFC 7946)."""
    parts = shapely.get_parts(outline)
    west, south, east, north = outline.bounds
    if len(parts) > 1 and west == -180 and east == 180:
        boxes = shapely.bounds(parts)
        west = float(boxes[boxes[:, 2] == 180, 0].min())
        east = float(boxes[boxes[:, 0] == -180, 2].max())
    return west, south, east, north


def cells_layer(cells: Sequence[Cell], done: Sequence[CellDone]) -> bytes:
    """Return the layer by which cells are found: where each is, and what its files are."""
    pairs = [(cell, each) for cell, each in zip(cells, done, strict=True) if each.valid]
    shapes = np.array([footprint(cell) for cell, _ in pairs], object) if pairs else np.empty(0, object)
    columns = {
        "zone": np.array([cell.zone for cell, _ in pairs], np.int32),
        "cell": [cell.name for cell, _ in pairs],
        "href": [f"{CELLS}{cell.name}/{COMPOSITE}" for cell, _ in pairs],
        "sha256": [each.files[COMPOSITE]["sha256"] for _, each in pairs],
        "size": np.array([each.files[COMPOSITE]["size"] for _, each in pairs], np.int64),
        "valid": np.array([each.valid for _, each in pairs], np.int64),
        "dates": [" ".join(each.dates) for _, each in pairs],
    }
    return layer_bytes(shapes, columns)


def zonal_table(zones: Sequence[Zone], cells: Sequence[Cell], done: Sequence[CellDone]) -> list[dict[str, Any]]:
    """Return the statistics of each zone of statistics, one row for each zone of the grid that it has a pixel in.

    One without any has a row too, of no zone of the grid. Sums are added as integers, so they do not depend on how
    cells are cut. Where zones of the grid overlap a pixel's place is in both: rows of two of them are not to be added.
    """
    sums: dict[tuple[int, int], Sums] = {}
    for cell, each in zip(cells, done, strict=True):
        for number, here in each.zonal.items():
            key = (int(number), cell.zone)
            sums[key] = added(sums[key], here) if key in sums else here
    scales = next((dict(zip(each.bands, each.scales, strict=True)) for each in done if each.bands), {})
    found = {at for at, _ in sums}
    none: Sums = {band: [0, 0, 0, 0] for band in scales}
    told = [*sums.items(), *(((at, None), none) for at in range(len(zones)) if at not in found)]
    rows = []
    for (at, epsg), here in sorted(told, key=lambda each: each[0]):
        row: dict[str, Any] = {"name": zones[at].name, "zone": epsg, "number": at}
        for band, (count, total, least, most) in here.items():
            scale = scales[band]
            row[f"{band}_pixels"] = count
            for what, value in (("mean", total / count if count else None), ("min", least), ("max", most)):
                row[f"{band}_{what}"] = value * scale if count and value is not None else None
        rows.append(row)
    return rows


def zonal_layer(rows: Sequence[Mapping[str, Any]], zones: Sequence[Zone]) -> bytes:
    """Return the statistics with the zones' outlines."""
    shapes = np.array([zones[int(row["number"])].outline for row in rows], object) if rows else np.empty(0, object)
    names = [name for name in (rows[0] if rows else {}) if name != "number"]
    return layer_bytes(shapes, {name: [row[name] for row in rows] for name in names})


def scenes_csv(rows: Iterable[Row]) -> bytes:
    """Return the table of scenes, what became of each and why."""
    return csv_bytes([each.name for each in fields(Row)], (astuple(row) for row in rows))


def zonal_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the statistics as a table."""
    names = [name for name in (rows[0] if rows else {"name": "", "zone": ""}) if name != "number"]
    return csv_bytes(names, ([row[name] for name in names] for row in rows))
