"""Memory does not grow with the dataset: workers stay below two gigabytes, the driver where a small one has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from apps.metabolomics.imzml.writing import Format, Pixel, write_imzml
from tests.apps.metabolomics.planted import FORMULAS, MANY, write_database, write_dataset
from tests.servers.processes import peaks_until_done

ROOT = Path(__file__).parents[3]
SIDE, PEAKS = 128, 16_000
"""3.1 GB in the .ibd."""
DISK = 12 << 30
"""Bytes that dataset, runs and segments take at most at a time."""
WORKER_MB, GROWTH_MB = 2048, 200

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def pixels() -> Iterator[Pixel]:
    """Yield spectra of noise around whole m/z, as many different ones as are quickly made."""
    rng = np.random.default_rng(1)
    spectra = [np.sort(rng.integers(100, 1000, PEAKS) + rng.normal(0.05, 0.05, PEAKS)) for _ in range(64)]
    intensity = rng.exponential(100, PEAKS).astype(np.float32)
    for place in range(SIDE * SIDE):
        mz = spectra[rng.integers(64)] * (1 + rng.uniform(-5e-5, 5e-5))
        yield Pixel(place % SIDE + 1, place // SIDE + 1, mz, intensity)


def annotated(dataset: str, output: str) -> tuple[int, int]:
    """Annotate with a limit on memory; returns the peaks of the driver and of its largest worker, in MB."""
    command = [sys.executable, "-m", "apps.metabolomics", "annotate", dataset, "--db", "molecules.tsv", "--quiet"]
    flags = ["--output", output, "--compute", "process", "--workers", "2", "--memory", "2GB"]
    driver = subprocess.Popen([*command, *flags], env={**os.environ, "PYTHONPATH": str(ROOT)})
    peak, largest = peaks_until_done(driver)
    assert driver.returncode == 0
    return peak >> 20, largest >> 20


def test_three_gigabytes_take_no_more_memory_than_their_tasks(tmp_path, monkeypatch):
    if shutil.disk_usage(tmp_path).free < DISK:
        pytest.skip(f"needs {DISK >> 30} GB of disk")
    monkeypatch.chdir(tmp_path)
    write_database(Path("molecules.tsv"), [*FORMULAS, *MANY])
    write_dataset("small.imzML")
    write_imzml("large.imzML", pixels(), Format(polarity="+"))
    try:
        small, _ = annotated("small.imzML", "small")
        large, worker = annotated("large.imzML", "large")
    finally:
        Path("large.ibd").unlink()
        shutil.rmtree("metabolomics-cache", ignore_errors=True)

    assert worker < WORKER_MB
    assert large < small + GROWTH_MB
