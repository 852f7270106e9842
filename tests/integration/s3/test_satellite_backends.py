"""Scenes and a run in buckets, on backends that answer and one that does not, disturbed or not: the same files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from core import open_storage
from tests.servers.http import TOKEN, HttpWorker

pytest.importorskip("rasterio", reason="needs rasterio: pip install '.[satellite]'")

from apps.satellite import demo  # noqa: E402
from tests.apps.satellite.conftest import put_files  # noqa: E402

ROOT = Path(__file__).parents[3]
SOURCES = "s3://fanfold/satellite-backends"
MINE = """
import numpy as np
from greenness import greenest


def cell(stack):
    return greenest(stack), []
"""
HELPER = """
import numpy as np


def greenest(stack):
    values = np.where(stack.valid[:, None], stack.values, stack.nodata)
    return {"green": values.max(0)[stack.bands.index("green")]}
"""


def started(output: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FANFOLD_WORKER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "apps.satellite", "run", "--input", f"{SOURCES}/scenes/", "--cell", "256"]
    return subprocess.Popen(
        [*command, "--zones", f"{SOURCES}/{demo.ZONES}", "--output", output, *arguments, "--quiet"],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(driver: subprocess.Popen[str]) -> None:
    said = driver.communicate(timeout=250)
    assert driver.returncode == 0, said


def published(place: str) -> dict[str, bytes]:
    """Every file of a run but its manifest, which says where and when it was begun."""
    storage = open_storage(place)
    names = [
        info.key for info in storage.list() if not info.key.startswith(".run/") and not info.key.startswith("manifest.")
    ]
    return {name: storage.get(name) for name in names}


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> tuple[str, str]:
    """Flags by which a function with a module beside it is run."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    (folder / "greenness.py").write_text(HELPER)
    return "--function", f"{folder}/mine.py:cell"


@pytest.fixture(scope="module")
def scenes(s3_server, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("satellite")
    demo.write_example(folder)
    put_files(folder, SOURCES)
    return SOURCES


@pytest.fixture(scope="module")
def undisturbed(scenes, mine, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of serial runs in a folder, of the built-in computation and of the function."""
    found = {}
    for name, flags in {"built-in": (), "mine": mine}.items():
        place = str(tmp_path_factory.mktemp("undisturbed") / "run")
        finished(started(place, "--compute", "serial", *flags))
        found[name] = published(place)
    return found


def placed(platform: str, request: pytest.FixtureRequest, place: str) -> Sequence[str]:
    """Return the flags by which a platform is used."""
    compute = platform if platform == "process" else request.getfixturevalue(f"{platform}_site")["compute"]
    store = ("--storage", f"{place}/store") if platform == "lambda_async" else ()
    return ("--compute", str(compute), "--workers", "2", *store)


ASYNCHRONOUS = pytest.param("lambda_async", marks=pytest.mark.slow)


@pytest.mark.parametrize("platform", ["process", "http", "dask", ASYNCHRONOUS])
def test_every_backend_leaves_the_same_files(platform, request, undisturbed):
    place = f"s3://fanfold/satellite-on/{platform}"

    finished(started(f"{place}/run", *placed(platform, request, place)))

    assert published(f"{place}/run") == undisturbed["built-in"]


@pytest.mark.parametrize("platform", ["http", "dask", ASYNCHRONOUS])
def test_a_function_and_the_module_beside_it_run_on_every_backend(platform, request, undisturbed, mine):
    place = f"s3://fanfold/satellite-mine/{platform}"

    finished(started(f"{place}/run", *placed(platform, request, place), *mine))

    assert published(f"{place}/run") == undisturbed["mine"]


def test_drivers_and_a_remote_worker_killed_by_turns_leave_the_same_files(undisturbed):
    place = "s3://fanfold/satellite-turns"
    worker = HttpWorker()
    worker.start()
    seen: set[str] = set()
    try:
        for compute in (worker.url, "process", worker.url):
            driver = started(f"{place}/run", "--compute", compute, "--workers", "2")
            wait_for_more(seen, place, 5, driver)
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
        driver = started(f"{place}/run", "--compute", worker.url, "--workers", "2")
        wait_for_more(seen, place, 3, driver)
        worker.stop()
        worker.start()
        finished(driver)
    finally:
        worker.stop()

    assert published(f"{place}/run") == undisturbed["built-in"]


def wait_for_more(seen: set[str], place: str, more: int, driver: subprocess.Popen[str]) -> None:
    """Wait until there are so many objects more than were seen before, or the driver has ended."""
    goal, deadline = len(seen) + more, time.monotonic() + 120
    while len(seen) < goal and driver.poll() is None:
        seen |= {info.key for info in open_storage(place).list() if "/lease/" not in info.key}
        assert time.monotonic() < deadline
