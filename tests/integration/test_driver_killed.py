"""Drivers that are killed for real, and what becomes of their jobs and workers."""

import os
import random
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import FunctionExecutor, open_storage
from core.task.leases import list_jobs

TASKS, BATCH = 30, 2

DRIVER = """
import os, sys
from pathlib import Path
from core import FunctionExecutor

folder = Path(sys.argv[1])

def run(x):
    from time import sleep

    with open(folder / "runs", "a") as file:
        file.write(f"{x} {os.getpid()}\\n")
    while x >= int((folder / "held").read_text()):
        sleep(0.005)
    return [x] * 3

with FunctionExecutor("process", f"file://{folder}/store", workers=2, durable=True) as executor:
    futures = executor.map(run, range(30), batch_size=2)
    print(futures.job_id, flush=True)
    for count, future in enumerate(futures):
        future.result()
        print("done", count + 1, flush=True)
    futures.results()
"""

ENDLESS = """
import os, sys
from core import FunctionExecutor

def run(x):
    print("worker", os.getpid(), flush=True)
    while True:
        pass

with FunctionExecutor(sys.argv[1], workers=2) as executor:
    executor.map(run, range(4), batch_size=1).results()
"""


def begin(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment
    )


def descendants(pid):
    try:
        tasks = [
            task for thread in Path(f"/proc/{pid}/task").iterdir() for task in (thread / "children").read_text().split()
        ]
    except OSError:  # it ended meanwhile
        return []
    return [found for child in map(int, tasks) for found in (child, *descendants(child))]


def wait_until_gone(pids):
    """Return those that do not end in the time a busy machine may need."""
    left = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if not select.select([descriptor], [], [], 30)[0]:
            left.append(pid)
        os.close(descriptor)
    return left


def committed_items(storage, job_id):
    """Return the items that commits hold; batches of this job are never taken apart."""
    batches = [int(info.key.rpartition("/")[2]) for info in storage.list(f"job/{job_id}/r/")]
    return {item for batch in batches for item in range(batch * BATCH, min(TASKS, (batch + 1) * BATCH))}


def hold_after(folder, results):
    """Let the batches of a driver end that bring so many results, and no other, until this is said again."""
    (folder / "held.new").write_text(str(whole_batches(results)))
    (folder / "held.new").rename(folder / "held")


def whole_batches(results):
    """Return how many results there are when there are at least so many: a batch brings its own together."""
    return -(-results // BATCH) * BATCH


def await_results(driver, results):
    """Wait until a driver has had so many results; returns the id of its job."""
    job_id = driver.stdout.readline().strip()
    while results and (line := driver.stdout.readline()) != f"done {results}\n":
        assert line, f"the driver ended before it had {results} results"
    return job_id


def kill_after(driver, results):
    """Kill a driver when it has had so many results, while others are computed; returns the id of its job."""
    job_id = await_results(driver, results)
    assert driver.poll() is None
    workers = descendants(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    assert wait_until_gone(workers) == []
    return job_id


@pytest.mark.parametrize("results", [0, 1, 2, 5, 9, 14, 20, 27, 28])
def test_a_killed_drivers_job_is_finished_by_another_without_running_what_is_committed(results, tmp_path):
    hold_after(tmp_path, results)
    job_id = kill_after(begin(DRIVER, tmp_path), results)
    storage = open_storage(f"file://{tmp_path}/store")
    committed = committed_items(storage, job_id)
    runs = tmp_path / "runs"
    before = len(runs.read_text().splitlines()) if runs.exists() else 0
    (info,) = list_jobs(storage)
    hold_after(tmp_path, TASKS)

    with FunctionExecutor.attach(job_id, workers=2) as executor:
        assert executor.get_result(timeout=60) == [[x] * 3 for x in range(TASKS)]

    requeue = [int(line.split()[0]) for line in runs.read_text().splitlines()[before:]]
    assert info.state == "interrupted"
    assert committed == set(range(whole_batches(results)))
    assert sorted(requeue) == sorted(set(range(TASKS)) - committed)
    assert list(storage.list("")) == []


def test_a_driver_and_its_heirs_killed_again_and_again_leave_every_result_once(tmp_path):
    heir = """
import sys
from core import FunctionExecutor
with FunctionExecutor.attach(sys.argv[1], workers=2) as executor:
    print(sys.argv[1], flush=True)
    for count, future in enumerate(executor._latest.jobs()[-1]):
        future.result()
        print("done", count + 1, flush=True)
"""
    chance = random.Random(5)
    had = 3
    hold_after(tmp_path, had)
    job_id = kill_after(begin(DRIVER, tmp_path), had)
    for _ in range(3):
        had += chance.randint(1, 6)
        hold_after(tmp_path, had)
        kill_after(begin(heir, job_id), had)
    storage = open_storage(f"file://{tmp_path}/store")
    committed = committed_items(storage, job_id)
    before = len((tmp_path / "runs").read_text().splitlines())
    hold_after(tmp_path, TASKS)

    with FunctionExecutor.attach(job_id, workers=2) as executor:
        assert executor.get_result(timeout=60) == [[x] * 3 for x in range(TASKS)]

    requeue = [int(line.split()[0]) for line in (tmp_path / "runs").read_text().splitlines()[before:]]
    assert committed == set(range(whole_batches(had)))
    assert sorted(requeue) == sorted(set(range(TASKS)) - committed)


@pytest.mark.parametrize("start", ["process?start=fork", "process?start=fresh"])
def test_no_worker_outlives_a_killed_driver(start):
    driver = begin(ENDLESS, start)
    busy = {int(re.fullmatch(r"worker (\d+)\n", driver.stdout.readline())[1]) for _ in range(2)}
    everyone = descendants(driver.pid)

    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()

    assert len(busy) == 2
    assert busy < set(everyone)
    assert wait_until_gone(everyone) == []


@pytest.mark.parametrize("start", ["process?start=fork", "process?start=fresh"])
def test_ctrl_c_ends_driver_and_workers_at_once(start):
    driver = begin(ENDLESS.replace("import os, sys", "import os, sys; sys.stderr = open(os.devnull, 'w')"), start)
    for _ in range(2):
        driver.stdout.readline()
    everyone = descendants(driver.pid)

    driver.send_signal(signal.SIGINT)
    driver.wait(60)
    driver.stdout.close()

    assert driver.returncode == -signal.SIGINT
    assert wait_until_gone(everyone) == []


def test_ctrl_c_keeps_what_a_durable_job_has_committed(tmp_path):
    hold_after(tmp_path, 8)
    driver = begin(DRIVER.replace("import os, sys", "import os, sys; sys.stderr = open(os.devnull, 'w')"), tmp_path)
    job_id = await_results(driver, 4)

    driver.send_signal(signal.SIGINT)
    driver.wait(60)
    driver.stdout.close()
    storage = open_storage(f"file://{tmp_path}/store")
    committed = committed_items(storage, job_id)
    before = len((tmp_path / "runs").read_text().splitlines())
    hold_after(tmp_path, TASKS)

    with FunctionExecutor.attach(job_id, workers=2) as executor:
        assert executor.get_result(timeout=60) == [[x] * 3 for x in range(TASKS)]
    requeue = [int(line.split()[0]) for line in (tmp_path / "runs").read_text().splitlines()[before:]]
    assert set(range(4)) <= committed
    assert sorted(requeue) == sorted(set(range(TASKS)) - committed)
