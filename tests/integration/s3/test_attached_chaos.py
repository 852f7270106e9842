"""Drivers, watchers and workers killed while a job runs that several look on at: everybody left gets the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core import FunctionExecutor, open_storage

TASKS = 60

DRIVER = """
import os, sys, time
from core import FunctionExecutor

def made():
    runs = os.path.abspath(sys.argv[2])

    def run(x):
        with open(runs, "a") as file:
            file.write(f"{x}\\n")
        while not os.path.exists(runs + "-go"):
            time.sleep(0.005)
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass
        return [x, x * x, "y" * (300_000 if x == 7 else 1)]

    return run

executor = FunctionExecutor("process", sys.argv[1], workers=2, durable=True, retries=20)
futures = executor.map(made(), range(60), batch_size=2)
print(futures.job_id, flush=True)
futures.results()
executor.shutdown()
"""

WATCHER = """
import json, sys
from core import FunctionExecutor

executor = FunctionExecutor.attach(sys.argv[1], workers=2)
print("looks on", flush=True)
results = executor.get_result()
executor.shutdown()
print(json.dumps(results), flush=True)
"""

EXPECTED = [[x, x * x, "y" * (300_000 if x == 7 else 1)] for x in range(TASKS)]


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    return f"file://{tmp_path}/store" if request.param == "file" else request.getfixturevalue("place")


@pytest.fixture
def begin():
    processes = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def descendants(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []
    return [found for child in children for found in (child, *descendants(child))]


def kill_a_worker_of(process: subprocess.Popen[str], chance: random.Random) -> None:
    found = descendants(process.pid)
    if found:
        try:
            os.kill(chance.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            pass


def until_runs(runs: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while not runs.exists() or len(runs.read_text().split()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_whoever_is_left_gets_every_result_once(store, begin, tmp_path):
    chance = random.Random(1)
    runs = tmp_path / "runs"
    driver = begin(DRIVER, store, runs)
    job_id = driver.stdout.readline().strip()
    watchers = [begin(WATCHER, job_id) for _ in range(2)]
    for watcher in watchers:
        assert watcher.stdout.readline() == "looks on\n"

    with FunctionExecutor.attach(job_id, workers=1, retries=20) as here:
        kill_a_worker_of(driver, chance)
        (tmp_path / "runs-go").touch()
        until_runs(runs, chance.randint(4, 16))
        driver.kill()
        until_runs(runs, chance.randint(20, 30))
        for watcher in watchers:
            kill_a_worker_of(watcher, chance)
        victim, survivor = chance.sample(watchers, 2)
        until_runs(runs, chance.randint(32, 44))
        victim.kill()
        kill_a_worker_of(survivor, chance)

        assert here.get_result(timeout=120) == EXPECTED

    assert json.loads(survivor.stdout.readline()) == EXPECTED
    assert survivor.wait(60) == 0
    assert list(open_storage(store).list()) == []
    assert set(runs.read_text().split()) == {str(x) for x in range(TASKS)}


def test_a_driver_that_finishes_while_two_look_on_leaves_them_the_results(store, begin, tmp_path):
    driver = begin(DRIVER, store, tmp_path / "runs")
    job_id = driver.stdout.readline().strip()
    watchers = [begin(WATCHER, job_id) for _ in range(2)]
    for watcher in watchers:
        assert watcher.stdout.readline() == "looks on\n"

    (tmp_path / "runs-go").touch()
    assert driver.wait(120) == 0

    for watcher in watchers:
        assert json.loads(watcher.stdout.readline()) == EXPECTED
        assert watcher.wait(60) == 0
    assert list(open_storage(store).list()) == []
    assert sorted(map(int, (tmp_path / "runs").read_text().split())) == list(range(TASKS))
