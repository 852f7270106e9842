"""Drivers and workers killed for real, at any point: the same tables, to the byte."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.metabolomics.planted import FORMULAS, MANY, write_database, write_dataset
from tests.servers.held import await_count, hold_after, kill_held, start_held
from tests.servers.processes import children

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
TABLES = ("annotations.csv", "all_ions.parquet", "molecules.parquet")
COMMAND = ("annotate", "spots.imzML", "--db", "molecules.tsv", "--output", "killed")
IN_PARTS = "tests.apps.metabolomics.in_parts"
EVERYTHING = 1 << 20
"""More outputs than there are."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """Return a folder with a dataset, a database, and a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    dataset, database = str(folder / "spots.imzML"), folder / "molecules.tsv"
    write_dataset(dataset, noise=1500)
    write_database(database, [*FORMULAS, *MANY])
    places = ["--output", str(folder / "whole"), "--cache", str(folder / "apart")]
    in_order = ["annotate", dataset, "--db", str(database), *places, "--compute", "serial", "--quiet"]
    subprocess.run([sys.executable, "-m", IN_PARTS, *in_order], env=ENVIRONMENT, check=True)
    return folder


@pytest.fixture
def whole(undisturbed, tmp_path, monkeypatch) -> dict[str, bytes]:
    """Return the tables of a run that nothing disturbed, and work where its dataset and database are."""
    monkeypatch.chdir(tmp_path)
    for name in ("spots.imzML", "spots.ibd", "molecules.tsv"):
        shutil.copy(undisturbed / name, name)
    return tables(undisturbed / "whole")


def tables(run: str | Path) -> dict[str, bytes]:
    return {name: Path(run, name).read_bytes() for name in TABLES}


def test_a_driver_killed_again_and_again_leaves_the_tables_of_an_undisturbed_one(whole, tmp_path):
    for most in (3, 8, 14, 19, 40, 70):  # of 74 outputs: rows, formulas, centroids, the index, scores, molecules
        driver = start_held(IN_PARTS, tmp_path / "count", most, *COMMAND, cwd=tmp_path)
        kill_held(driver, tmp_path / "count", most)
        assert not Path("killed/result.json").exists()
    last = start_held(IN_PARTS, tmp_path / "count", EVERYTHING, *COMMAND, cwd=tmp_path)
    said = last.communicate(timeout=250)

    assert last.returncode == 0, said
    assert tables("killed") == whole


def test_workers_killed_while_it_runs_change_nothing(whole, tmp_path):
    count = tmp_path / "count"
    driver = start_held(IN_PARTS, count, 4, *COMMAND, cwd=tmp_path)
    for most, more in ((4, 16), (16, 28), (28, EVERYTHING)):
        await_count(driver, count, most)
        (forkserver,) = children(driver.pid)
        os.kill(max(children(forkserver)), signal.SIGKILL)
        hold_after(count, more)
    said = driver.communicate(timeout=200)

    assert driver.returncode == 0, said
    assert tables("killed") == whole


def test_two_runs_at_once_make_one_index(whole, tmp_path):
    write_database(Path("other.tsv"), FORMULAS)
    runs = {"killed": "molecules.tsv", "second": "other.tsv"}

    drivers = [
        subprocess.Popen(
            [sys.executable, "-m", IN_PARTS, "spots.imzML", "--db", database, "--output", run, "--quiet"],
            env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
        )
        for run, database in runs.items()
    ]  # fmt: skip
    said = [driver.communicate(timeout=250)[1] for driver in drivers]

    assert [driver.returncode for driver in drivers] == [0, 0], said
    assert len(list(Path("metabolomics-cache").glob("spots-*"))) == 1
    assert tables("killed") == whole
