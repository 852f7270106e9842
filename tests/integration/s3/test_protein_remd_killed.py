"""A campaign in a bucket, its drivers and workers killed, here and over HTTP: the history of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from core import open_storage
from tests.apps.protein_remd.conftest import ended
from tests.servers.http import TOKEN, HttpWorker

ROOT = Path(__file__).parents[3]
ROUNDS = 9
"""Before the first evaluation, since drivers that are killed have begun one each time."""
CAMPAIGN = ("--engine", "harmonic", "--dof", "12", "--temperatures", "300,350,410", "--rounds", str(ROUNDS))

ANALYZE = ("analyze",) if find_spec("pymbar") else ()
"""Where what it needs is installed."""


def started(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FANFOLD_WORKER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "apps.protein_remd", *arguments, "--quiet"]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def history(place: str) -> dict[str, bytes]:
    """Return every record and state of a run by its key."""
    storage = open_storage(place)
    return {info.key: storage.get(info.key) for prefix in ("rounds/", "state/") for info in storage.list(prefix)}


def committed(place: str) -> int:
    return sum(1 for _ in open_storage(place).list("rounds/"))


def wait_for(place: str, goal: int, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while committed(place) < goal and not ended(driver):
        assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def undisturbed(s3_server, tmp_path_factory) -> dict[str, bytes]:
    place = str(tmp_path_factory.mktemp("undisturbed") / "run")
    driver = started("run", *CAMPAIGN, "--output", place, "--compute", "serial")
    said = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    return history(place)


def test_drivers_killed_on_two_backends_leave_one_history(undisturbed, s3_server):
    place, rng, goal = "s3://fanfold/remd-drivers", random.Random(3), 0
    worker = HttpWorker()
    worker.start()
    try:
        for compute in ("process", worker.url, "process", worker.url):
            goal = min(goal + rng.randint(1, 3), ROUNDS - 2)
            driver = started("run", *CAMPAIGN, "--output", place, "--compute", compute, "--workers", "2")
            wait_for(place, goal, driver)
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
        last = started("resume", place, "--compute", worker.url, "--workers", "2")
        said = last.communicate(timeout=120)
    finally:
        worker.stop()

    assert last.returncode == 0, said
    assert history(place) == undisturbed


def test_a_remote_worker_that_is_killed_and_comes_back_leaves_the_same_history(undisturbed, s3_server):
    place = "s3://fanfold/remd-worker"
    worker = HttpWorker()
    worker.start()
    try:
        driver = started("run", *CAMPAIGN, "--output", place, "--compute", worker.url, "--workers", "2")
        for goal in (2, 5):
            wait_for(place, goal, driver)
            worker.stop()
            worker.start()
        said = driver.communicate(timeout=120)
    finally:
        worker.stop()

    assert driver.returncode == 0, said
    assert history(place) == undisturbed


def test_status_and_report_read_a_run_in_a_bucket(undisturbed, s3_server):
    place = "s3://fanfold/remd-read"
    driver = started("run", *CAMPAIGN, "--output", place, "--compute", "process")
    wait_for(place, 3, driver)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()

    for command in ("status", "report", "verify"):
        reader = started(command, place)
        said = reader.communicate(timeout=120)
        assert reader.returncode == 0, said
    assert open_storage(place).get("report.html").startswith(b"<!DOCTYPE html>")


def test_a_run_that_is_live_is_read_by_every_command_and_goes_on(s3_server):
    place = "s3://fanfold/remd-live"
    driver = started("run", *CAMPAIGN[:-1], "100000", "--output", place, "--compute", "process", "--workers", "1")
    try:
        wait_for(place, 12, driver)
        for command in ("status", "report", *ANALYZE):
            reader = started(command, place, "--json")
            said = reader.communicate(timeout=120)
            assert reader.returncode == 0, said
            if command == "status":
                assert '"state": "running"' in said[0]
                assert '"verdict": "' in said[0]
        before = committed(place)
        wait_for(place, before + 2, driver)
        assert driver.poll() is None
        assert open_storage(place).get("report.html").startswith(b"<!DOCTYPE html>")
        assert not [info for info in open_storage(place).list("result.json")]
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.communicate()


def test_two_drivers_of_one_run_in_a_bucket_make_one_history(undisturbed, s3_server):
    place = "s3://fanfold/remd-both"

    both = [started("run", *CAMPAIGN, "--output", place, "--compute", "serial") for _ in range(2)]
    said = [driver.communicate(timeout=200) for driver in both]

    assert [driver.returncode for driver in both] == [0, 0], said
    assert history(place) == undisturbed
