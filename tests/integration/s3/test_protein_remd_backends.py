"""A campaign in a bucket on backends that answer later, its drivers and workers killed: one history, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from core import open_storage
from tests.apps.protein_remd.conftest import ended
from tests.conftest import S3_KEY, S3_SECRET
from tests.servers.processes import processes

ROOT = Path(__file__).parents[3]
ROUNDS = 9
CAMPAIGN = ("--engine", "harmonic", "--dof", "12", "--dynamics", "langevin", "--temperatures", "300,350,410")
PLATFORMS = [
    "dask",
    pytest.param("slurm", marks=pytest.mark.slow),
    pytest.param("lambda_async", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", autouse=True)
def _keys_in_a_file(tmp_path_factory):
    """Keep the keys where every node finds them: what is in a driver's environment does not go with its jobs."""
    keys = tmp_path_factory.mktemp("keys") / "credentials"
    keys.write_text(f"[default]\naws_access_key_id = {S3_KEY}\naws_secret_access_key = {S3_SECRET}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
        yield


def started(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "apps.protein_remd", *arguments, "--quiet"]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def history(place: str) -> dict[str, bytes]:
    """Return every record and state of a run by its key."""
    storage = open_storage(place)
    return {info.key: storage.get(info.key) for prefix in ("rounds/", "state/") for info in storage.list(prefix)}


def states(place: str) -> int:
    return sum(1 for _ in open_storage(place).list("state/"))


def wait_for(place: str, goal: int, driver: subprocess.Popen[str]) -> None:
    """Wait until so many segments have been run: also in the middle of a round."""
    deadline = time.monotonic() + 200
    while states(place) < goal and not ended(driver):
        assert time.monotonic() < deadline


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def victims(platform: str, request: pytest.FixtureRequest) -> list[int]:
    """Return the processes in which the segments of this test run."""
    if platform == "dask":
        nannies = {process.pid for process in request.getfixturevalue("dask_cluster").processes[1:]}
        return [pid for pid in processes("spawn_main") if parent(pid) in nannies]
    if platform == "slurm":
        return processes("core.worker.entry", "job", os.environ["FANFOLD_STATE_DIR"])
    emulators = request.getfixturevalue("emulated_lambda").emulators
    begun = [emulator.process.pid for emulator in emulators if emulator.process is not None]
    return [pid for pid in processes("awslambdaric") if parent(pid) in begun]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    place = str(tmp_path_factory.mktemp("undisturbed") / "run")
    driver = started("run", *CAMPAIGN, "--rounds", str(ROUNDS), "--output", place, "--compute", "serial")
    said = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    return history(place)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_drivers_and_workers_killed_at_random_points_leave_the_history_of_an_undisturbed_run(
    platform, request, s3_server, undisturbed
):
    site = request.getfixturevalue(f"{platform}_site")
    place = f"s3://fanfold/remd-{platform}?endpoint={s3_server.endpoint}"
    jobs = f"s3://fanfold/remd-{platform}-jobs?endpoint={s3_server.endpoint}"
    compute = ("--compute", str(site["compute"]), "--workers", "2", "--storage", jobs)
    chance, goal, killed = random.Random(5), 0, 0
    for _ in range(3):
        driver = started("run", *CAMPAIGN, "--rounds", str(ROUNDS), "--output", place, *compute)
        goal += chance.randint(2, 5)
        wait_for(place, goal, driver)
        killed += kill_one(lambda: victims(platform, request), chance, driver)
        goal += chance.randint(2, 5)
        wait_for(place, goal, driver)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()

    last = started("resume", place, *compute)
    said = last.communicate(timeout=280)

    assert killed
    assert last.returncode == 0, said
    assert history(place) == undisturbed


def kill_one(find: Callable[[], list[int]], chance: random.Random, driver: subprocess.Popen[str]) -> int:
    """Kill a worker as soon as there is one; returns how many were killed."""
    deadline = time.monotonic() + 60
    while not ended(driver) and time.monotonic() < deadline:
        with suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(find()), signal.SIGKILL)
            return 1
    return 0
