"""Memory grows with neither dataset nor database: workers stay below a limit, the driver where a small one has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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
ROWS, UNIQUE = 9_000_000, 600_000
"""Of a database that three tasks unite, 250 MB."""
UNITING_MB = 768
"""Of a worker that reads and unites any database."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def pixels() -> Iterator[Pixel]:
    """Yield spectra of noise around whole m/z, as many different ones as are quickly made."""
    rng = np.random.default_rng(1)
    spectra = [np.sort(rng.integers(100, 1000, PEAKS) + rng.normal(0.05, 0.05, PEAKS)) for _ in range(64)]
    intensity = rng.exponential(100, PEAKS).astype(np.float32)
    for place in range(SIDE * SIDE):
        mz = spectra[rng.integers(64)] * (1 + rng.uniform(-5e-5, 5e-5))
        yield Pixel(place % SIDE + 1, place // SIDE + 1, mz, intensity)


def write_rows(path: Path, rows: int, unique: int) -> None:
    """Write a database of so many rows, in which equal formulas are far apart."""
    tables = [[element if count == 1 else f"{element}{count}" for count in range(1, 100)] for element in "CHNO"]
    with path.open("wb") as file:
        file.write(b"name\tformula\n")
        for start in range(0, rows, 1 << 18):
            number = np.arange(start, min(start + (1 << 18), rows)) * 7_919 % unique
            counts = number % 60 + 5, 2 * (number // 60 % 40) + 2, number // 2_400 % 25, number // 60_000
            atoms = [pa.array(table).take(pa.array(count)) for table, count in zip(tables, counts, strict=True)]
            lines = pc.binary_join_element_wise("molecule\t", *atoms, "\n", "")
            file.write("".join(lines.to_pylist()).encode())


def run(*arguments: str, memory: int = WORKER_MB) -> tuple[int, int]:
    """Run a command with a limit on memory; returns the peaks of the driver and of its largest worker, in MB."""
    command = [sys.executable, "-m", "apps.metabolomics", *arguments, "--quiet"]
    flags = ["--compute", "process", "--workers", "2", "--memory", f"{memory}MB"]
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
        small, _ = run("annotate", "small.imzML", "--db", "molecules.tsv", "--output", "small")
        large, worker = run("annotate", "large.imzML", "--db", "molecules.tsv", "--output", "large")
    finally:
        Path("large.ibd").unlink()
        shutil.rmtree("metabolomics-cache", ignore_errors=True)

    assert worker < WORKER_MB
    assert large < small + GROWTH_MB


def test_nine_million_molecules_take_no_more_memory_than_their_tasks(tmp_path, monkeypatch):
    if shutil.disk_usage(tmp_path).free < DISK:
        pytest.skip(f"needs {DISK >> 30} GB of disk")
    monkeypatch.chdir(tmp_path)
    write_dataset("spots.imzML")
    write_database(Path("molecules.tsv"), [*FORMULAS, *MANY])
    write_rows(Path("large.tsv"), ROWS, UNIQUE)
    few = ("--adducts", "+H", "--decoys", "1", "--images", "none")

    small, _ = run("annotate", "spots.imzML", "--db", "molecules.tsv", "--output", "small", *few)
    large, worker = run("annotate", "spots.imzML", "--db", "large.tsv", "--output", "large", *few, memory=UNITING_MB)
    found = json.loads(Path("large/result.json").read_text())

    assert (found["databases"][0]["rows"], found["formulas"]) == (ROWS, UNIQUE)
    assert worker < UNITING_MB
    assert large < small + GROWTH_MB
