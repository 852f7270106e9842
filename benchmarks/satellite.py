"""Satellite batches beside decoding alone, GDAL and odc-stac: ``python -m benchmarks.satellite``.

Prints a Markdown table of ratios, all measured in one run on the same textured files (deflate, predictor 2, tiles of
512), since smooth ones decode twice as fast and say nothing. CPU seconds are the least of several turns, in which what
is compared takes part one after the other in this process; of whole runs, those of the command with all its workers.
Nothing is asserted.

- decode: every tile of every band and date that a cell needs, decoded and thrown away.
- overviews apart: a cell whose file has none.
- odc-stac + bottleneck: ``odc.stac.load`` of the same scenes on the same grid, masked, ``bottleneck.nanmedian``.
- /vsis3: GDAL's own client, as rasterio uses it, from the S3 server that the fast reader reads from.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from apps.satellite.__main__ import main as satellite
from apps.satellite.cells import CellParams, compute_cell, read_stack
from apps.satellite.cog import Band, cog_bytes
from apps.satellite.dataset import STAC, find
from apps.satellite.ingest import ingest
from apps.satellite.params import Params
from apps.satellite.planning import Layout, lay_out
from apps.satellite.rasters import Tiles, read_window, tiles
from apps.satellite.records import Scene, scene_from
from apps.satellite.science.composite import composite
from apps.satellite.science.grid import Raster, cell_memory
from benchmarks._measure import ROOT, machine, table
from benchmarks._server import s3_server
from core.storage import open_storage, process_storage

BANDS = ("blue", "green", "red", "nir")
LEFT, TOP, PIXEL = 500_000.0, 5_000_000.0, 10.0
CHILD = "rss"
ACROSS = 3
"""Places in a row where whole runs have their scenes."""


def write_scenes(folder: Path, side: int, dates: int) -> None:
    """Write textured scenes with clouds, and their items of STAC 1.0, which odc-stac reads."""
    from scipy.ndimage import gaussian_filter

    fine, coarse = Raster(LEFT, TOP, PIXEL, PIXEL, side, side), Raster(LEFT, TOP, 20, 20, side // 2, side // 2)
    for date in range(dates):
        random = np.random.default_rng(date)
        place = folder / f"s{date}"
        place.mkdir(parents=True)
        ground = gaussian_filter(random.normal(size=(side, side)), 3) * 3000 + 1500
        for number, band in enumerate(BANDS, 1):
            image = np.clip(ground * number / 3 + random.normal(0, 60, ground.shape), 1, 15_000).astype(np.uint16)
            (place / f"{band}.tif").write_bytes(cog_bytes([Band(band, image)], fine, 32632, 0, deflate=True))
        cloud = gaussian_filter(random.normal(size=(side // 2, side // 2)), 20) > 0.01
        scl = Band("scl", np.where(cloud, 9, 4).astype(np.uint8), mean=False)
        (place / "scl.tif").write_bytes(cog_bytes([scl], coarse, 32632, 0, deflate=True))
        (place / f"s{date}.json").write_text(json.dumps(item(date, side, LEFT, TOP)))


def item(date: int, side: int, left: float, top: float) -> dict[str, Any]:
    """Return the item of a scene."""
    import shapely

    from apps.satellite.science.geodesy import to_degrees

    outline = to_degrees(shapely.box(left, top - side * PIXEL, left + side * PIXEL, top), 32632)
    assets: dict[str, Any] = {}
    for name in (*BANDS, "scl"):
        pixel, pixels = (20, side // 2) if name == "scl" else (PIXEL, side)
        assets[name] = {"href": f"{name}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
        assets[name] |= {"proj:shape": [pixels, pixels], "proj:transform": [pixel, 0, left, 0, -pixel, top]}
    told = {"datetime": f"2024-06-{date + 1:02d}T10:00:00Z", "platform": "sentinel-2a", "proj:epsg": 32632}
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"s{date}", "assets": assets, "links": [],
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "geometry": shapely.geometry.mapping(outline), "bbox": list(outline.bounds),
        "properties": {**told, "s2:processing_baseline": "02.12"},
    }  # fmt: skip


def repeat_scenes(scenes: Path, folder: Path, side: int, places: int) -> None:
    """Write the same scenes again at several places beside each other, which takes no new packing."""
    for place in range(places):
        left, top = LEFT + place % ACROSS * side * PIXEL, TOP - place // ACROSS * side * PIXEL
        for path in scenes.rglob("*.*"):
            target = folder / f"p{place}{path.parent.name}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".json":
                told = item(int(path.parent.name[1:]), side, left, top) | {"id": target.parent.name}
                target.write_text(json.dumps(told))
            else:
                corners = struct.pack("<2d", LEFT, TOP), struct.pack("<2d", left, top)
                target.write_bytes(path.read_bytes().replace(*corners, 1))


def laid_out(address: str, cell: int) -> Layout:
    """Return the cells of scenes."""
    params, output = Params(input=(address,), cell=cell), SimpleNamespace(put=None)
    found = [ingest(each, params, output) for each in find(params.input) if each.kind == STAC]  # type: ignore[arg-type]
    scenes: list[Scene] = [scene_from(each["scene"]) for each in found]
    return lay_out(scenes, params)


CHOSEN = CellParams(BANDS, "median", "reject", (0, 1, 3, 8, 9, 10), 0.0, None, 2 << 30)


def cpu(works: Sequence[Callable[[], Any]], turns: int) -> list[float]:
    """Return the least CPU seconds that each of several pieces of work took of this process, by turns."""
    least = [math.inf] * len(works)
    for _ in range(turns):
        for at, work in enumerate(works):
            started = time.process_time()
            work()
            least[at] = min(least[at], time.process_time() - started)
    return least


def of_one_cell(scenes: str, side: int, turns: int) -> list[list[str]]:
    """Compare the work on one cell with decoding alone, and with odc-stac."""
    (cell,) = laid_out(scenes, side).cells
    assets = [
        asset for take in cell.datatakes for asset in (*take[0].bands.values(), take[0].mask) if asset is not None
    ]

    def decode() -> None:
        for asset in assets:
            read_window(asset, (0, asset.raster.height), (0, asset.raster.width))

    def combine() -> None:
        stack, valid, _, _ = read_stack(cell, CHOSEN)
        composite(stack, valid)

    def without_overviews() -> None:
        with patch("apps.satellite.cog.overviews", lambda *_: []):
            compute_cell(cell, CHOSEN)

    works = [decode, combine, without_overviews, lambda: compute_cell(cell, CHOSEN)]
    load = odc(scenes, side)
    decoded, combined, bare, whole, *theirs = cpu([*works, load] if load else works, turns)
    rows = [
        ["composite / decode, CPU", f"{combined:.2f} s / {decoded:.2f} s", f"{combined / decoded:.2f}", "<= 2.5"],
        [
            "whole cell (indices, change, outlines, GeoTIFF), overviews apart / decode, CPU",
            f"{bare:.2f} s",
            f"{bare / decoded:.2f}",
            "<= 2.5",
        ],
        ["whole cell / decode, CPU", f"{whole:.2f} s", f"{whole / decoded:.2f}", ""],
    ]
    if theirs:
        told = f"{combined:.2f} s / {theirs[0]:.2f} s"
        rows.append(["composite / odc-stac + bottleneck, CPU", told, f"{combined / theirs[0]:.2f}", "<= 0.33"])
    return rows


def odc(scenes: str, side: int) -> Callable[[], None] | None:
    """Return the composite by odc-stac and bottleneck; None where they are not installed."""
    try:
        import bottleneck
        import odc.stac
        import pystac
        from odc.geo.geobox import GeoBox
    except ImportError:
        return None
    items = [pystac.Item.from_file(str(path)) for path in sorted(Path(scenes).rglob("*.json"))]
    box = GeoBox.from_bbox((LEFT, TOP - side * PIXEL, LEFT + side * PIXEL, TOP), "EPSG:32632", resolution=PIXEL)

    def load() -> None:
        loaded = odc.stac.load(items, bands=[*BANDS, "scl"], geobox=box, resampling="nearest", nodata=0)
        clear = np.isin(loaded["scl"].values, (2, 4, 5, 6, 7, 11))
        for band in BANDS:
            bottleneck.nanmedian(np.where(clear, loaded[band].values, np.float32(np.nan)), axis=0)

    return load


def of_reading(scenes: str, side: int, turns: int) -> list[list[str]]:
    """Compare the fast reader with GDAL's own client of S3, and count bytes."""
    import rasterio

    with s3_server("bench"):
        bucket = open_storage("s3://bench")
        for path in sorted(Path(scenes).rglob("*.*")):
            bucket.put(f"scenes/{path.relative_to(scenes)}", path.read_bytes())
        host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        options = {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
        layout = laid_out("s3://bench/scenes/", side)
        assets = [asset for take in layout.cells[0].datatakes for asset in take[0].bands.values()]

        def fast() -> Iterator[Any]:
            return (read_window(asset, (0, side), (0, side)) for asset in assets)

        def gdal() -> Iterator[Any]:
            settings = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": 64 << 20, "VSI_CACHE": False}
            with rasterio.Env(**settings, **options, CPL_VSIL_CURL_NON_CACHED="/vsis3/bench"):
                for asset in assets:
                    with rasterio.open(f"/vsis3/bench/{asset.source.key}") as dataset:
                        yield dataset.read(1)

        same = all((ours == theirs).all() for ours, theirs in zip(fast(), gdal(), strict=True))
        # One image after the other: memory that is new costs both the same, and would hide what they differ in.
        theirs, ours = cpu([lambda: deque(gdal(), maxlen=1), lambda: deque(fast(), maxlen=1)], turns)
        needed = sum(sum(Tiles(asset.source)._counts) for asset in assets)
        storage = process_storage(assets[0].source.address)
        tiles.cache_clear()
        before = storage.bytes_in
        deque(fast(), maxlen=1)
        read = storage.bytes_in - before
    compared = f"{theirs:.2f} s / {ours:.2f} s, pixels {'equal' if same else 'DIFFER'}"
    return [
        ["/vsis3 / fast reader, CPU", compared, f"{theirs / ours:.2f}", ">= 1.5"],
        ["bytes read, headers too / tiles needed", f"{read:,} / {needed:,}", f"{read / needed:.3f}", "<= 1.1"],
    ]  # fmt: skip


def of_memory(scenes: str, sides: list[int], dates: int) -> list[list[str]]:
    """Compare what a worker takes at most with the model."""
    rows = []
    for side in sides:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "benchmarks.satellite", CHILD, scenes, str(side)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peak, model = int(done.stdout.split()[-1]), cell_memory(side, dates, len(BANDS))
        told = f"{peak / 1e6:,.0f} MB / {model / 1e6:,.0f} MB"
        rows.append([f"memory at most / model, cell of {side}", told, f"{peak / model:.2f}", "<= 1.15"])
    return rows


def child(scenes: str, side: int) -> None:
    """Compute one cell, and print the memory that this process took at most.

    ``ru_maxrss`` would be that of the process which this one was forked from, if that was larger.
    """
    compute_cell(laid_out(scenes, side).cells[0], CHOSEN)
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(found[1]) * 1024 if found else 0)


def of_runs(scenes: str, folder: Path, turns: int) -> list[list[str]]:
    """Compare whole runs: two workers with one, taking up a finished one, and a query with a scan."""

    def run(name: str, workers: int) -> tuple[float, float]:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        words = ["run", "--input", scenes, "--output", f"{folder}/{name}", "--workers", str(workers), "--quiet"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "apps.satellite", *words], env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.perf_counter() - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def query(name: str, box: str) -> Callable[[], None]:
        words = ["query", "--output", f"{folder}/two", "--bbox", box, "--result", f"{folder}/{name}", "--quiet"]
        return lambda: satellite(words)

    one, two = run("one", 1), run("two", 2)
    again = min(run("two", 2)[1] for _ in range(turns))
    start = min(run_nothing() for _ in range(turns))
    part, whole = cpu([query("part", "9.02,45.12,9.025,45.125"), query("all", "8,44,10,46")], turns)
    taken_up = f"{again - start:.2f} s (and {start:.2f} s to start) / {two[1]:.1f} s"
    return [
        ["1 worker / 2 workers, wall", f"{one[0]:.1f} s / {two[0]:.1f} s", f"{one[0] / two[0]:.2f}", ">= 1.8"],
        ["taken up when finished / run, CPU, starting apart", taken_up, f"{(again - start) / two[1]:.3f}", "<= 0.02"],
        ["query of a small area / of all, CPU", f"{part:.3f} s / {whole:.2f} s", f"{part / whole:.3f}", "<= 0.1"],
    ]


def run_nothing() -> float:
    """Return CPU seconds of a process that imports what a run needs, and ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = "import apps.satellite.__main__, apps.satellite.stages"
    subprocess.run([sys.executable, "-c", words], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2048, help="pixels a side of the scenes [2048]")
    parser.add_argument("--dates", type=int, default=6, help="of them [6]")
    parser.add_argument("--places", type=int, default=9, help="of whole runs, each with these scenes [9]")
    parser.add_argument("--turns", type=int, default=5, help="of each measurement [5]")
    given = parser.parse_args()
    print(f"{machine()}; {given.dates} dates of {given.side} x {given.side} pixels, {len(BANDS)} bands\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder / "scenes", given.side, given.dates)
        scenes = f"{folder}/scenes/"
        rows = [
            *of_one_cell(scenes, given.side, given.turns),
            *of_reading(scenes, given.side, given.turns),
            *of_memory(scenes, [given.side // 2, given.side], given.dates),
        ]
        repeat_scenes(folder / "scenes", folder / "many", given.side, given.places)
        rows += of_runs(f"{folder}/many/", folder, given.turns)
    print(table(["", "measured", "ratio", "goal"], rows))


if __name__ == "__main__":
    main()
