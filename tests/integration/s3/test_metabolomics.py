"""An annotation in a bucket, on backends that answer and one that does not, disturbed or not: the same tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import open_storage
from tests.apps.metabolomics.planted import FORMULAS, MANY, write_database, write_dataset
from tests.servers.http import TOKEN, HttpWorker

ROOT = Path(__file__).parents[3]
DATASET = "s3://fanfold/metabolomics/data/spots.imzML"
TABLES = ("annotations.csv", "all_ions.parquet")


def started(database: Path, output: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FANFOLD_WORKER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "apps.metabolomics", "annotate", DATASET, "--db", str(database)]
    return subprocess.Popen(
        [*command, "--output", output, *arguments, "--quiet"],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(driver: subprocess.Popen[str]) -> None:
    said = driver.communicate(timeout=250)
    assert driver.returncode == 0, said


def tables(place: str) -> dict[str, bytes]:
    storage = open_storage(place)
    return {name: storage.get(name) for name in TABLES}


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    return write_database(tmp_path_factory.mktemp("database") / "molecules.tsv", [*FORMULAS, *MANY])


@pytest.fixture(scope="module")
def undisturbed(s3_server, database, tmp_path_factory) -> dict[str, bytes]:
    write_dataset(DATASET, noise=1500)
    place = str(tmp_path_factory.mktemp("undisturbed") / "run")
    finished(started(database, place, "--compute", "serial"))
    return tables(place)


@pytest.mark.parametrize("platform", ["process", "http", "dask", "lambda_async"])
def test_every_backend_leaves_the_same_tables(platform, request, undisturbed, database):
    compute = platform if platform == "process" else request.getfixturevalue(f"{platform}_site")["compute"]
    place = f"s3://fanfold/metabolomics/{platform}"
    store = ("--storage", f"{place}/store") if platform == "lambda_async" else ()

    finished(started(database, f"{place}/run", "--compute", str(compute), "--workers", "2", *store))

    assert tables(f"{place}/run") == undisturbed


def test_drivers_and_a_remote_worker_killed_by_turns_leave_the_same_tables(undisturbed, database):
    place = "s3://fanfold/metabolomics/killed"
    worker = HttpWorker()
    worker.start()
    seen: set[str] = set()
    try:
        for compute in (worker.url, "process", worker.url):
            driver = started(database, f"{place}/run", "--compute", compute, "--workers", "2")
            wait_for_more(seen, place, 8, driver)
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
        driver = started(database, f"{place}/run", "--compute", worker.url, "--workers", "2")
        wait_for_more(seen, place, 4, driver)
        worker.stop()
        worker.start()
        finished(driver)
    finally:
        worker.stop()

    assert tables(f"{place}/run") == undisturbed


def wait_for_more(seen: set[str], place: str, more: int, driver: subprocess.Popen[str]) -> None:
    """Wait until there are so many objects more than were seen before, or the driver has ended."""
    goal, deadline = len(seen) + more, time.monotonic() + 120
    while len(seen) < goal and driver.poll() is None:
        seen |= {info.key for info in open_storage(place).list() if "/lease/" not in info.key}
        assert time.monotonic() < deadline
