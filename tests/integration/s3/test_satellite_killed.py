"""Scenes and a run in buckets of a real server, its drivers killed: what an undisturbed run in a folder leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core import open_storage

pytest.importorskip("rasterio", reason="needs rasterio: pip install '.[satellite]'")

from apps.satellite import demo  # noqa: E402
from tests.apps.satellite.conftest import put_files  # noqa: E402
from tests.servers.held import kill_held, start_held  # noqa: E402

ROOT = Path(__file__).parents[3]
SOURCES = "s3://fanfold/satellite-scenes"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "apps.satellite", *arguments]


def run_of(source: str, zones: str, output: str) -> list[str]:
    return ["run", "--input", source, "--zones", zones, "--cell", "128", "--output", output]


def named_by_content(place: str) -> dict[str, bytes]:
    """Cells and layers of a run, which do not say where its scenes were."""
    storage = open_storage(place)
    names = [info.key for prefix in ("cells/", "index/") for info in storage.list(prefix)]
    return {name: storage.get(name) for name in names}


@pytest.fixture(scope="module")
def scenes(s3_server, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("satellite")
    demo.write_example(folder)
    put_files(folder, SOURCES)
    return folder


def test_drivers_killed_in_a_bucket_leave_what_an_undisturbed_one_does_in_a_folder(scenes, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole = run_of(f"{scenes}/scenes/", f"{scenes}/{demo.ZONES}", str(tmp_path / "whole"))
    subprocess.run(command(*whole, "--workers", "2", "--quiet"), env=environment, check=True, timeout=200)
    place = "s3://fanfold/satellite-run"
    storage = open_storage(place)

    for most in (10, 36):  # scenes and cells
        flags = run_of(f"{SOURCES}/scenes/", f"{SOURCES}/{demo.ZONES}", place)
        kill_held(
            start_held("apps.satellite.__main__", tmp_path / "count", most, *flags, cwd=tmp_path),
            tmp_path / "count",
            most,
        )
        assert not list(storage.list("result.json"))
    last = subprocess.run(
        command("resume", place, "--quiet"), env=environment, capture_output=True, text=True, timeout=200
    )

    assert last.returncode == 0, last.stderr
    assert named_by_content(place) == named_by_content(str(tmp_path / "whole"))
    verified = subprocess.run(command("verify", "--output", place), env=environment, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
    found = command(
        "query", "--output", place, "--bbox", "11.9,46.4,12.1,46.5", "--result", str(tmp_path / "found"), "--json"
    )
    queried = subprocess.run(found, env=environment, capture_output=True, text=True)
    assert queried.returncode == 0, queried.stderr
    assert sorted(json.loads(queried.stdout)["rasters"]) == ["32632.tif", "32633.tif"]


def test_a_scene_that_its_reader_may_not_read_is_a_row(scenes, s3_server, tmp_path):
    place = tmp_path / "items"
    place.mkdir()
    item = json.loads(next((scenes / "scenes").rglob("*0615*.json")).read_text())
    for name, asset in item["assets"].items():
        asset["href"] = f"{SOURCES}/scenes/32TQS/20240615T101601/{name}.tif"
    (place / "item.json").write_text(json.dumps(item))
    other = {"AWS_ACCESS_KEY_ID": "fanfold-reader", "AWS_SECRET_ACCESS_KEY": "fanfold-reader-secret"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **other}

    done = subprocess.run(
        command("run", "--input", str(place), "--output", str(tmp_path / "run"), "--compute", "serial", "--json"),
        env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    (refused,) = json.loads(done.stdout)["refused"]
    assert refused["status"] == "rejected"
    assert "may not" in refused["reason"] or "denied" in refused["reason"].lower()


def test_a_scene_replaced_while_cells_read_it_is_a_row_and_no_mixture(scenes, tmp_path):
    from dataclasses import replace
    from types import SimpleNamespace

    from apps.satellite.cells import CellParams, compute_cell
    from apps.satellite.dataset import STAC, find
    from apps.satellite.ingest import ingest
    from apps.satellite.params import Params
    from apps.satellite.planning import lay_out
    from apps.satellite.records import scene_from

    bucket = open_storage(SOURCES)
    params, output = Params(input=(f"{SOURCES}/scenes/33TTM/",), cell=256), SimpleNamespace(put=None)
    items = [each for each in find(params.input) if each.kind == STAC]
    scenes_found = [scene_from(ingest(each, params, output)["scene"]) for each in items]
    cell = lay_out(scenes_found, params).cells[0]
    key = "scenes/33TTM/20240615T101601/red.tif"
    before = bucket.get(key)
    bucket.put(key, bucket.get("scenes/33TTM/20240405T101601/red.tif"))

    chosen = CellParams(params.bands, params.stat, params.resample, params.scl_invalid, params.water, None, 2 << 30)
    done = compute_cell(replace(cell, zones=()), chosen)["done"]
    bucket.put(key, before)

    (name,) = done["lost"]
    assert "20240615T101601" in name
    assert "changed" in done["lost"][name]
