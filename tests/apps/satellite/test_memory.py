"""Memory does not grow with the extent: that of workers is within the model, the driver's where a small run has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from pickle import dumps

import numpy as np
import pytest

from apps.satellite.science.grid import cell_memory
from benchmarks.satellite import CHOSEN, laid_out
from tests.apps.satellite.conftest import Site, noisy
from tests.servers.held import ROOT
from tests.servers.processes import peaks_until_done

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CELL, DATES = 1024, 3
SMALL_CELL = 64
WET = 0.12
"""Part of the pixels that are water, each by chance: a shape of its own in most cases."""
PER_CELL = 20 << 10
"""Bytes of the driver by which a cell more may be known: its task, its sources, its record."""
FLAT = 40 << 20
"""Bytes of the driver that may come and go with its parts."""


def measured(scenes: Path, output: Path, cell: int) -> tuple[int, int]:
    """Run on two workers; returns the peaks of the driver and of its largest worker."""
    command = [sys.executable, "-m", "apps.satellite", "run", "--input", f"{scenes}/", "--output", str(output)]
    driver = subprocess.Popen(
        [*command, "--cell", str(cell), "--workers", "2", "--quiet"], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    peaks = peaks_until_done(driver)
    assert driver.returncode == 0
    return peaks


def test_workers_take_what_the_model_says_at_any_extent(tmp_path: Path) -> None:
    model = cell_memory(CELL, DATES, 4)

    peaks = []
    for side in (1, 2):
        site = Site(tmp_path / f"scenes{side}")
        for date in range(DATES):
            images = noisy(date, side * CELL)
            images["nir"] += 9000  # no speckles of water
            site.scene(f"s{date}", images, when=f"2024-06-0{date + 1}T10:00:00Z")
        peaks.append(measured(site.folder, tmp_path / f"run{side}", CELL)[1])

    assert max(peaks) <= 1.15 * model
    assert peaks[1] <= 1.05 * peaks[0]


def test_the_driver_holds_no_more_shapes_of_many_cells_than_of_few(tmp_path: Path) -> None:
    drivers, shapes = [], []
    for across in (8, 24):
        side, site = across * SMALL_CELL, Site(tmp_path / f"scenes{across}")
        wet = np.random.default_rng(1).random((side, side)) < WET
        nir = np.where(wet, 300, 3000).astype(np.uint16)
        site.scene("one", {**dict.fromkeys(("blue", "green", "red"), np.full_like(nir, 900)), "nir": nir})
        driver, worker = measured(site.folder, tmp_path / f"run{across}", SMALL_CELL)
        drivers.append(driver)
        shapes.append(json.loads((tmp_path / f"run{across}/result.json").read_text())["shapes"])
        assert worker <= 1.15 * cell_memory(SMALL_CELL, 1, 4)

    assert shapes[1] > 150_000
    assert drivers[1] - drivers[0] < FLAT + PER_CELL * (24 * 24 - 8 * 8)


@pytest.mark.parametrize("pattern", ["every other pixel", "an eighth of the pixels", "half of the pixels"])
def test_a_worker_takes_what_the_model_says_however_speckled_water_is(tmp_path: Path, pattern: str) -> None:
    site, places = Site(tmp_path / "scenes"), np.add.outer(np.arange(CELL), np.arange(CELL))
    chance = np.random.default_rng(1).random((CELL, CELL))
    wet = {"every other pixel": places % 2 == 0, "an eighth of the pixels": chance < WET}.get(pattern, chance < 0.5)
    nir = np.where(wet, 300, 3000).astype(np.uint16)
    site.scene("one", {**dict.fromkeys(("blue", "green", "red"), np.full_like(nir, 900)), "nir": nir})
    (cell,) = laid_out(f"{site.folder}/", CELL).cells
    task = f"compute_cell(*pickle.loads({dumps((cell, CHOSEN))!r}))"
    code = f"import pickle; from apps.satellite.cells import compute_cell; {task}"

    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    peak, _ = peaks_until_done(worker)

    assert worker.returncode == 0
    assert peak <= 1.15 * cell_memory(CELL, 1, 4)
