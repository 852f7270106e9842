"""What a dry run says, beside what a run then does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.satellite.cells import CellParams, compute_cell
from apps.satellite.dataset import find
from apps.satellite.ingest import ingest
from apps.satellite.merging import merge_all
from apps.satellite.params import Params
from apps.satellite.planning import lay_out
from apps.satellite.rasters import tiles
from apps.satellite.records import scene_from
from apps.satellite.science.resampling import nearest
from core.storage.clients import spent
from tests.apps.satellite.conftest import Site, flat, noisy
from tests.apps.satellite.test_formats import safe

__all__ = ["safe"]


def planned(main: Any, *words: object) -> dict[str, Any]:
    status, out, err = main("run", *words, "--dry-run", "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return {**found, **{stage["name"]: stage for stage in found["stages"]}}


@pytest.mark.parametrize("zipped", [False, True])
def test_a_dry_run_decodes_no_image(safe: Any, main: Any, tmp_path: Path, zipped: bool) -> None:
    place, _ = safe
    whole = planned(main, "--input", f"{place.parent}/")
    for path in place.rglob("*_10m.jp2"):
        data = path.read_bytes()
        header = data[: data.index(b"\xff\x93", data.index(b"\xff\x4f\xff\x51"))]  # up to where pixels begin
        path.write_bytes(header + bytes(len(data) - len(header)))
    if zipped:
        shutil.make_archive(str(place), "zip", place.parent, place.name)
        shutil.rmtree(place)

    damaged = planned(main, "--input", f"{place.parent}/")

    assert (damaged["scenes"], damaged["refused"], damaged["cells"]) == (1, 0, 1)
    assert damaged["ingest"]["cpu_seconds"] == whole["ingest"]["cpu_seconds"] > 0.05
    assert damaged["ingest"]["bytes_in"] > 50_000
    assert main("run", "--input", f"{place.parent}/", "--output", tmp_path / "run")[0] == 1


def test_a_dry_run_counts_requests_and_bytes_as_cells_then_make_them(site: Site, main: Any) -> None:
    for date in range(2):
        site.scene(f"s{date}", noisy(date, 768), when=f"2024-06-0{date + 1}T10:00:00Z")
    told = planned(main, "--input", f"{site.folder}/", "--cell", 512)["cell"]
    cells, chosen, _ = cells_of(site, 512)
    before = spent()

    for cell in cells:
        tiles.cache_clear()
        compute_cell(cell, chosen)

    requests, read = spent()[0] - before[0], spent()[1] - before[1]
    assert told["tasks"] == len(cells) == 4
    assert told["gets"] == pytest.approx(requests, rel=0.5)
    assert told["bytes_in"] == pytest.approx(read, rel=0.5)


def test_a_dry_run_counts_the_joins_of_a_run_whose_cells_all_have_shapes_at_their_borders(
    site: Site, main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.satellite import stages

    wet = np.indices((320, 320)).sum(0) % 4 < 2
    site.scene("one", {**flat(320), "nir": np.where(wet, 100, 3000)})
    site.scene("two", {**flat(128), "nir": np.where(wet, 100, 3000)[:128, :128]}, epsg=32633)
    told = planned(main, "--input", f"{site.folder}/", "--cell", 64)
    made: list[int] = []

    def counted(layers: Any, address: str, run: Any) -> Any:
        return merge_all(layers, address, lambda tasks: made.append(len(tasks)) or run(tasks))  # type: ignore[func-returns-value]

    monkeypatch.setattr(stages, "merge_all", counted)
    status, _, err = main("run", "--input", f"{site.folder}/", "--output", tmp_path / "run", "--cell", 64)

    assert status == 0, err
    assert len(made) > 1
    assert told["merge"]["tasks"] == sum(made)


def test_cells_read_little_more_than_the_tiles_that_they_need(site: Site) -> None:
    for date in range(2):
        site.scene(f"s{date}", noisy(date, 1536), when=f"2024-06-0{date + 1}T10:00:00Z")
    cells, chosen, needed = cells_of(site, 1024)
    before = spent()

    for cell in cells:
        tiles.cache_clear()
        compute_cell(cell, chosen)

    assert needed < spent()[1] - before[1] < 1.1 * needed


def cells_of(site: Site, side: int) -> tuple[Any, CellParams, int]:
    """Return the cells of a site, how they are computed, and the bytes of the tiles that they need."""
    params = Params(input=(f"{site.folder}/",), cell=side)
    found = [ingest(each, params, None) for each in find(params.input)]
    layout = lay_out([scene_from(each["scene"]) for each in found if "scene" in each], params)
    needed = 0
    for cell in layout.cells:
        for scene in (scene for take in cell.datatakes for scene in take):
            assert scene.mask is not None
            for asset in (*scene.bands.values(), scene.mask):
                file, (rows, columns) = tiles(asset.source), nearest(cell.raster, asset.raster)
                across = -(-asset.raster.width // file._columns)
                needed += sum(
                    file._counts[down * across + right]
                    for down in range(rows.start // file.rows, -(-rows.stop // file.rows))
                    for right in range(columns.start // file._columns, -(-columns.stop // file._columns))
                )
    chosen = CellParams(params.bands, params.stat, params.resample, params.scl_invalid, params.water, None, 2 << 30)
    return layout.cells, chosen, needed
