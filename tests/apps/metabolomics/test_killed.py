"""Drivers and workers killed for real, at any point: the same tables, to the byte."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apps.metabolomics.planted import FORMULAS, MANY, write_database, write_dataset
from tests.servers.processes import workers_of

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
TABLES = ("annotations.csv", "all_ions.parquet", "molecules.parquet")
COMMAND = ("annotate", "spots.imzML", "--db", "molecules.tsv", "--output", "killed")
IN_PARTS = """
import sys
from apps.metabolomics import formulas
from apps.metabolomics.__main__ import APP
from apps.metabolomics.databases import cutting

cutting.LOOK, cutting.cuts.__defaults__ = 1000, (2000,)
formulas.DEALT_BYTES, formulas.UNITED_ROWS = 0, 80
if __name__ == "__main__":
    sys.exit(APP.main(sys.argv[1:]))
"""
"""The application, which reads and unites small databases by as many tasks as large ones."""

Started = Callable[[], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """Return a folder with a dataset, a database, and a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    dataset, database = str(folder / "spots.imzML"), folder / "molecules.tsv"
    write_dataset(dataset, noise=1500)
    write_database(database, [*FORMULAS, *MANY])
    places = ["--output", str(folder / "whole"), "--cache", str(folder / "apart")]
    in_order = ["annotate", dataset, "--db", str(database), *places, "--compute", "serial", "--quiet"]
    subprocess.run([sys.executable, "-c", IN_PARTS, *in_order], env=ENVIRONMENT, check=True)
    return folder


@pytest.fixture
def whole(undisturbed, tmp_path, monkeypatch) -> dict[str, bytes]:
    """Return the tables of a run that nothing disturbed, and work where its dataset and database are."""
    monkeypatch.chdir(tmp_path)
    for name in ("spots.imzML", "spots.ibd", "molecules.tsv"):
        shutil.copy(undisturbed / name, name)
    return tables(undisturbed / "whole")


@pytest.fixture
def started(tmp_path) -> Started:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", IN_PARTS, *COMMAND, "--compute", "process", "--workers", "2", "--quiet"],
            cwd=tmp_path, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def tables(run: str | Path) -> dict[str, bytes]:
    return {name: Path(run, name).read_bytes() for name in TABLES}


def written() -> set[str]:
    folders = [each for place in ("killed", "metabolomics-cache") for each in os.walk(place)]
    files = [os.path.join(folder, name) for folder, _, names in folders for name in names]
    return {file for file in files if "/stages/" in file or file.endswith(".parquet")}


def wait_for_more(seen: set[str], more: int, process: subprocess.Popen[str]) -> None:
    """Wait until there are so many objects more than were seen before, or the process has ended."""
    begun, deadline = len(seen), time.monotonic() + 120
    while len(seen) < begun + more and process.poll() is None:
        seen |= written()
        assert time.monotonic() < deadline


def test_a_driver_killed_again_and_again_leaves_the_tables_of_an_undisturbed_one(whole, started):
    rng, seen, kills = random.Random(11), set[str](), 0
    while not Path("killed/result.json").exists():
        driver = started()
        wait_for_more(seen, rng.randint(4, 60), driver)
        kills += driver.poll() is None
        driver.send_signal(signal.SIGKILL)
        said = driver.communicate()
        assert kills < 40, said

    assert kills >= 3
    assert tables("killed") == whole


def test_workers_killed_while_it_runs_change_nothing(whole, started):
    driver, seen, kills = started(), set[str](), 0
    for more in (4, 12, 12):
        wait_for_more(seen, more, driver)
        below = workers_of(driver.pid)
        if below:
            os.kill(max(below), signal.SIGKILL)
            kills += 1
    said = driver.communicate(timeout=200)

    assert driver.returncode == 0, said
    assert kills > 0
    assert tables("killed") == whole


def test_two_runs_at_once_make_one_index(whole, tmp_path):
    write_database(Path("other.tsv"), FORMULAS)
    runs = {"killed": "molecules.tsv", "second": "other.tsv"}

    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", IN_PARTS, "spots.imzML", "--db", database, "--output", run, "--quiet"],
            env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
        )
        for run, database in runs.items()
    ]  # fmt: skip
    said = [driver.communicate(timeout=250)[1] for driver in drivers]

    assert [driver.returncode for driver in drivers] == [0, 0], said
    assert len(list(Path("metabolomics-cache").glob("spots-*"))) == 1
    assert tables("killed") == whole
