"""Looking on at a job that another executor drives, and what it leaves when it goes first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core import FunctionExecutor, InputError, open_storage
from core.cli.main import chosen_jobs
from core.errors import AccessDenied
from core.job import attach as tenure
from core.job.attach import Tenure
from core.storage.local import LocalStorage
from core.storage.owner import this_owner
from core.task import keys
from core.task.leases import Lease, list_jobs, read_lease, unwatch, watch, write_lease


def a_lease(holder: str, seconds: float = 60.0) -> Lease:
    return Lease(this_owner(), time.time() + seconds, "f", time.time(), 4, 2, holder)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


@pytest.fixture
def storage(store: str):
    """Return a storage with the record and lease of one job."""
    opened = open_storage(store)
    opened.put(keys.record("job-1"), b"record")
    write_lease(opened, "job-1", a_lease("driver"))
    return opened


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the end of a driver often."""
    monkeypatch.setattr(tenure, "POLL_MAX", 0.02)


def objects(storage) -> list[str]:
    return [info.key for info in storage.list("")]


def until(condition, patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Tenure


def test_whoever_attaches_looks_on_while_the_driver_lives_and_says_so(storage):
    watcher = Tenure(storage, "job-1", a_lease("0a"))

    watcher.attach()

    assert watcher.is_watching
    assert keys.watcher("job-1", "0a") in objects(storage)
    assert read_lease(storage, "job-1").holder == "driver"
    (info,) = list_jobs(storage)
    assert (info.state, info.watchers) == ("running", 1)


def test_whoever_attaches_drives_a_job_that_nobody_does(storage):
    write_lease(storage, "job-1", a_lease("driver", -1))
    heir = Tenure(storage, "job-1", a_lease("heir"))

    heir.attach()

    assert not heir.is_watching
    assert read_lease(storage, "job-1").holder == "heir"


def test_a_watcher_takes_over_once_when_the_driver_has_gone(storage):
    watcher = Tenure(storage, "job-1", a_lease("watcher"))
    watcher.attach()
    assert not watcher.renew()

    write_lease(storage, "job-1", a_lease("driver", -1))

    assert watcher.renew()
    assert not watcher.is_watching
    assert not watcher.renew()


def test_a_driver_that_was_away_while_another_took_over_looks_on(storage):
    driver = Tenure(storage, "job-1", a_lease("driver"))
    assert not driver.renew()
    write_lease(storage, "job-1", a_lease("heir"))

    assert not driver.renew()

    assert driver.is_watching
    assert keys.watcher("job-1", "driver") in objects(storage)
    assert read_lease(storage, "job-1").holder == "heir"


def test_a_driver_does_not_remove_a_job_while_somebody_looks_on_and_the_last_watcher_does(storage):
    driver = Tenure(storage, "job-1", a_lease("driver"))
    watchers = [Tenure(storage, "job-1", a_lease(name)) for name in ("01", "02")]
    for watcher in watchers:
        watcher.attach()

    storage.put(keys.commit("job-1", 0), b"commit")

    driver.close()
    assert keys.commit("job-1", 0) in objects(storage)
    assert not read_lease(storage, "job-1").alive()

    assert watchers[0].renew()
    watchers[0].close()
    assert keys.commit("job-1", 0) in objects(storage)
    assert watchers[1].renew()
    watchers[1].close()
    assert objects(storage) == []


def test_a_driver_removes_a_job_when_nobody_looks_on_any_more(storage):
    driver, watcher = (Tenure(storage, "job-1", a_lease(name)) for name in ("driver", "0a"))
    watcher.attach()
    watcher.close()

    driver.close()

    assert objects(storage) == []


@pytest.mark.parametrize(
    "mark",
    [
        b"garbage",
        b"{}",
        json.dumps({"owner": f"{this_owner().rsplit(':', 1)[0]}:long ago", "expires": time.time() + 60}).encode(),
        json.dumps({"owner": "elsewhere:1:1", "expires": time.time() - 1}).encode(),
        json.dumps({"owner": "elsewhere:1:1", "expires": 9e9}).encode(),
    ],
    ids=["garbage", "empty", "a process that is gone", "out of time", "for ever"],
)
def test_marks_that_are_forged_or_of_watchers_that_died_keep_no_job(storage, mark):
    storage.put(keys.watcher("job-1", "00ff"), mark)

    Tenure(storage, "job-1", a_lease("driver")).close()

    assert objects(storage) == []


def test_whoever_comes_when_the_record_has_gone_is_too_late_and_leaves_no_mark(storage):
    storage.delete([keys.record("job-1")])
    before = objects(storage)

    with pytest.raises(InputError, match="was removed"):
        Tenure(storage, "job-1", a_lease("0a")).attach()

    assert objects(storage) == before


def test_a_watcher_that_goes_while_the_driver_does_leaves_nothing(storage, soon):
    driver, watcher = (Tenure(storage, "job-1", a_lease(name)) for name in ("driver", "0a"))
    watcher.attach()
    storage.delete([keys.record("job-1")])  # the driver is about to count who looks on
    leaving = threading.Thread(target=watcher.close)
    leaving.start()
    until(lambda: keys.watcher("job-1", "0a") not in objects(storage))
    driver.release()  # as one does that has counted before
    leaving.join(60)

    assert objects(storage) == []


def test_whoever_may_only_read_looks_on_without_a_mark(storage, monkeypatch):
    def deny(*_, **__):
        raise AccessDenied("read only")

    monkeypatch.setattr(LocalStorage, "put", deny)
    watcher = Tenure(storage, "job-1", a_lease("watcher"))

    watcher.attach()

    assert watcher.is_watching


def test_a_job_that_was_removed_does_not_come_back_when_its_driver_lets_go(storage):
    driver = Tenure(storage, "job-1", a_lease("driver"))
    driver.remove()

    driver.release()

    assert objects(storage) == []


def test_cleaning_spares_a_job_on_which_somebody_looks_on(storage):
    write_lease(storage, "job-1", a_lease("driver", -100))
    watch(storage, "job-1", "00ff")
    (info,) = list_jobs(storage)

    assert chosen_jobs([info], [], None, time.time()) == []
    with pytest.raises(InputError, match="1 other processes look on at job job-1"):
        chosen_jobs([info], ["job-1"], None, time.time())
    unwatch(storage, "job-1", "00ff")
    assert [job.job_id for job in chosen_jobs(list_jobs(storage), [], None, time.time())] == ["job-1"]


# Executors


def waiting(gate):
    """Return a function that travels by value, for workers that cannot import this file."""

    def slow(x):
        while not os.path.exists(gate):
            time.sleep(0.005)
        return x * 10

    return slow


def test_whoever_attached_gets_the_results_although_the_driver_finishes_and_goes_first(store, tmp_path):
    gate = str(tmp_path / "gate")
    driver = FunctionExecutor("process", store, workers=2, durable=True)
    futures = driver.map(waiting(gate), range(6), batch_size=1)
    watcher = FunctionExecutor.attach(futures.job_id, workers=1)
    also = FunctionExecutor.attach(futures.job_id, workers=1)

    Path(gate).touch()
    assert futures.results(60) == [x * 10 for x in range(6)]
    driver.shutdown()

    assert watcher.get_result(timeout=60) == [x * 10 for x in range(6)]
    watcher.shutdown()
    assert also.get_result(timeout=60) == [x * 10 for x in range(6)]
    also.shutdown()
    assert objects(open_storage(store)) == []
    with pytest.raises(InputError, match="no job"):
        FunctionExecutor.attach(futures.job_id)


def test_attaching_in_the_process_that_drives_the_job_looks_on(store, tmp_path):
    gate, runs = str(tmp_path / "gate"), tmp_path / "runs"
    slow = waiting(gate)

    def run(x):
        with open(runs, "a") as file:
            file.write(f"{x}\n")
        return slow(x)

    with FunctionExecutor("process", store, workers=2, durable=True) as driver:
        futures = driver.map(run, range(6), batch_size=1)
        with FunctionExecutor.attach(futures.job_id, workers=2) as watcher:
            Path(gate).touch()
            assert watcher.get_result(timeout=60) == [x * 10 for x in range(6)]
        assert futures.results(60) == [x * 10 for x in range(6)]

    assert sorted(runs.read_text().split()) == [str(x) for x in range(6)]
    assert objects(open_storage(store)) == []


WATCHER = """
import sys
from core import FunctionExecutor
executor = FunctionExecutor.attach(sys.argv[1], workers=1)
print("looks on", flush=True)
executor.get_result()
"""


def test_a_watcher_that_died_keeps_no_job(store, tmp_path):
    gate = str(tmp_path / "gate")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with FunctionExecutor("process", store, workers=1, durable=True) as driver:
        futures = driver.map(waiting(gate), range(2))
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHER, futures.job_id], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdout.readline() == "looks on\n"
        (info,) = list_jobs(open_storage(store))
        process.kill()
        process.wait()
        process.stdout.close()
        Path(gate).touch()
        assert futures.results(60) == [0, 10]

    assert info.watchers == 1
    assert objects(open_storage(store)) == []


def test_a_job_that_its_driver_cancelled_is_removed_and_watchers_are_told(store, tmp_path):
    gate = str(tmp_path / "never")
    driver = FunctionExecutor("process", store, workers=1, durable=True)
    futures = driver.map(waiting(gate), range(2), batch_size=1)
    with FunctionExecutor.attach(futures.job_id, workers=1) as watcher:
        driver.cancel(futures)
        driver.shutdown()

        with pytest.raises(InputError, match="was removed"):
            watcher.get_result(timeout=60)

    assert objects(open_storage(store)) == []


def test_a_watcher_carries_on_what_its_driver_left_unfinished(store, tmp_path):
    gate = str(tmp_path / "gate")
    driver = FunctionExecutor("process", store, workers=1, durable=True)
    futures = driver.map(waiting(gate), range(4), batch_size=1)
    with FunctionExecutor.attach(futures.job_id, workers=1) as watcher:
        driver.shutdown(cancel_futures=True)
        Path(gate).touch()

        assert watcher.get_result(timeout=60) == [0, 10, 20, 30]

    assert objects(open_storage(store)) == []
