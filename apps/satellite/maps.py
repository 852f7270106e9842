"""Maps of a run for its report: composite, indices and number of dates of each zone, from the cells' overviews."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps._frame.report import Picture
from apps._frame.stored import Stored
from apps.satellite.cells import CELLS, COMPOSITE, COUNT
from apps.satellite.rasters import gdal
from apps.satellite.records import Cell, CellDone
from apps.satellite.science.reflectance import NODATA, SCALE
from core.storage import Storage

Extent = tuple[float, float, float, float]

SIDE = 700
"""Pixels a side of a map at most."""
MOST_CELLS = 2000
"""Of a zone, for which a map is drawn: each costs a read of its overview."""
NOTHING = "#d5d9df"
"""Colour of what has no valid pixel: none of those that values have, of which white is the most usual."""
MAPS = {
    "ndvi": ("RdYlGn", -1.0, 1.0),
    "ndwi": ("BrBG", -1.0, 1.0),
    "ndvi_change": ("PiYG", -0.8, 0.8),
    COUNT: ("viridis", 0.0, None),
}
CAPTIONS = {
    "ndvi": "Vegetation index (NDVI) of the composite.",
    "ndwi": "Water index (NDWI) of the composite.",
    "ndvi_change": "NDVI of the later dates minus that of the earlier ones.",
    COUNT: "How many dates were valid at each pixel.",
}


def pictures(storage: Storage, cells: Sequence[Cell], done: Sequence[CellDone]) -> tuple[list[Picture], list[int]]:
    """Return the maps of all zones, and the zones that have too many cells for one."""
    made, without = [], []
    for zone in sorted({cell.zone for cell in cells}):
        here = [(cell, each) for cell, each in zip(cells, done, strict=True) if cell.zone == zone and each.valid]
        if len(here) > MOST_CELLS:
            without.append(zone)
        if not here or len(here) > MOST_CELLS:
            continue
        images = _mosaic(storage, here)
        extent = _extent([cell for cell, _ in here])
        if {"red", "green", "blue"} <= set(images):
            colours = np.dstack([images[name] for name in ("red", "green", "blue")])
            made.append(
                Picture(
                    _colour(colours, extent),
                    f"EPSG:{zone} in natural colours",
                    f"Composite of EPSG:{zone}. Grey: no valid pixel.",
                )
            )
        for name in [each for each in MAPS if each in images] or list(images)[:4]:
            caption = f"{CAPTIONS.get(name, name)} EPSG:{zone}."
            drawn = _map(images[name], extent, name == COUNT, *MAPS.get(name, ("viridis", None, None)))
            made.append(Picture(drawn, f"{name} of EPSG:{zone}", caption))
    return made, without


def _mosaic(storage: Storage, here: Sequence[tuple[Cell, CellDone]]) -> dict[str, NDArray[np.float64]]:
    """Return each band of a zone's cells side by side, small, NaN where there is nothing."""
    left, right = min(cell.x for cell, _ in here), max(cell.x for cell, _ in here)
    low, high = min(cell.y for cell, _ in here), max(cell.y for cell, _ in here)
    across = max(right - left, high - low) + 1
    side = max(1, min(SIDE // across, here[0][0].raster.width))
    names = here[0][1].bands
    whole = np.full((len(names), (high - low + 1) * side, (right - left + 1) * side), np.nan)
    for cell, each in here:
        told = each.files[COMPOSITE]
        source = Stored(storage.address, f"{CELLS}{cell.name}/{COMPOSITE}", told["size"], f"sha256:{told['sha256']}")
        with gdal(source) as dataset:
            small = dataset.read(out_shape=(len(names), side, side)).astype(np.float64)
        small[small == NODATA] = np.nan
        top, begin = (high - cell.y) * side, (cell.x - left) * side
        whole[:, top : top + side, begin : begin + side] = small
    is_built_in = COUNT in names
    return {name: whole[at] * (SCALE if is_built_in and name != COUNT else 1) for at, name in enumerate(names)}


def _extent(cells: Sequence[Cell]) -> Extent:
    """Return west, east, south and north of all cells, in km."""
    sides = np.array([cell.raster.bounds for cell in cells]) / 1000
    (west, south), (east, north) = sides[:, :2].min(0), sides[:, 2:].max(0)
    return float(west), float(east), float(south), float(north)


def _colour(image: NDArray[np.float64], extent: Extent) -> bytes:
    some = np.isfinite(image)
    top = float(np.percentile(image[some], 98)) if some.any() else 1.0
    colours = np.clip(np.nan_to_num(image) / max(top, 1e-6), 0, 1)
    return _drawn(np.dstack([colours, some.all(2)]), extent)


def _map(
    image: NDArray[np.float64],
    extent: Extent,
    is_whole: bool,
    colours: str,
    least: float | None,
    most: float | None,
) -> bytes:
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(6, integer=True) if is_whole else None
    return _drawn(image, extent, ticks, cmap=colours, vmin=least, vmax=most)


def _drawn(image: NDArray[np.float64], extent: Extent, ticks: Any = None, **options: Any) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure((5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(image, interpolation="nearest", extent=extent, **options)
    axes.set_facecolor(NOTHING)
    axes.set_xlabel("easting, km")
    axes.set_ylabel("northing, km")
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.locator_params(nbins=5)
    if options:
        figure.colorbar(shown, ax=axes, shrink=0.8, ticks=ticks)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
