"""Jobs in an S3 bucket: what they ask of it, and what they make of a bad line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from core import EventLog, FunctionExecutor, Future, open_storage, serialization
from core.errors import ConfigError
from core.settings import state_dir
from core.task.commit import commit, read_commit
from core.task.protocol import BatchResult, DurableRef

BIG = 300 << 10
"""Bytes of a result that does not fit into a commit."""


DRIVER = """
import os, pathlib, sys, time
from core import FunctionExecutor

place, folder = sys.argv[1], pathlib.Path(sys.argv[2])

def square(number):
    mark = folder / f"ran-{number}"
    (folder / f"ran-{number}-2" if mark.exists() else mark).touch()
    while number >= 3 and not (folder / "gate").exists():
        time.sleep(0.01)
    if number >= 3:
        mark.unlink(missing_ok=True)
    return number * number

if __name__ == "__main__":
    executor = FunctionExecutor(storage=place, durable=True, workers=1)
    futures = executor.map(square, range(6), batch_size=1)
    for future in futures[:3]:
        future.result(60)
    print(futures.job_id, flush=True)
    os._exit(0)
"""
"""Ends in the middle of its job, as if killed, when three of six results are in."""


def square(number):
    return number * number


def fill(number):
    return bytes([number % 256]) * BIG if number % 10 == 0 else number


def outcome_of(values):
    return BatchResult(serialization.pack(values), [0.0] * len(values))


def test_a_batch_costs_two_requests_and_the_job_a_few(proxy, place):
    batches, workers = 25, 2
    with FunctionExecutor(storage=f"{place}?endpoint={proxy.endpoint}", durable=True, workers=workers) as executor:
        results = executor.map(square, range(16 * batches), batch_size=16).results(60)
        commits, reads = proxy.count("PUT", "/r/"), proxy.count("GET", "/r/")
        others = len(proxy.seen) - commits - reads

    assert results == [square(number) for number in range(16 * batches)]
    assert (commits, reads) == (batches, batches)
    # The record and the lease are written once, the service is tried once, and the record is read once a worker.
    assert others <= 3 + workers
    assert list(open_storage(place).list()) == []


def test_a_service_that_writes_over_objects_is_refused_before_anything_runs(proxy, tmp_path):
    proxy.ignored = "if-none-match"
    open_place = f"s3://open/jobs?anonymous=true&endpoint={proxy.endpoint}"

    with (
        FunctionExecutor(storage=open_place, durable=True, workers=1) as executor,
        pytest.raises(ConfigError, match=rf"s3://open.*{proxy.endpoint} cannot hold durable jobs.*use a shared folder"),
    ):
        executor.map(lambda number: (tmp_path / "ran").touch(), range(3))

    assert list(tmp_path.iterdir()) == []
    assert list(open_storage(open_place).list()) == []


def test_a_service_that_obeys_is_tried_once(proxy, tmp_path):
    open_place = f"s3://open/jobs?anonymous=true&endpoint={proxy.endpoint}"

    with FunctionExecutor(storage=open_place, durable=True, workers=1) as executor:
        assert executor.map(square, range(3)).results(60) == [0, 1, 4]
        first = proxy.count("PUT", "/lease")
        assert executor.map(square, range(3)).results(60) == [0, 1, 4]

    assert (first, proxy.count("PUT", "/lease") - first) == (2, 1)


def test_sixteen_racing_commits_have_one_winner(proxy, place):
    proxy.spoil(0.05)
    storage = open_storage(f"{place}?endpoint={proxy.endpoint}")
    ref = DurableRef(storage.address, "race", b"k" * 32, 0)

    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda n: commit(storage, ref, outcome_of([n]), n, f"worker-{n}"), range(16)))

    assert sum(won) == 1
    kept = read_commit(storage, ref)
    assert next(serialization.unpack(kept.fetched)) == won.index(True)


def test_a_late_commit_changes_nothing_and_leaves_nothing(place, s3_server):
    storage = open_storage(place)
    ref = DurableRef(place, "late", b"k" * 32, 0)
    commit(storage, ref, outcome_of([b"1" * BIG]), 0, "first")
    before = list(storage.list())

    assert not commit(storage, ref, outcome_of([b"2" * BIG]), 1, "late")

    assert list(storage.list()) == before
    assert next(serialization.unpack(read_commit(storage, ref).fetched)) == b"1" * BIG


@pytest.mark.parametrize("seed", range(3))
def test_results_are_the_same_through_a_line_that_spoils_a_twentieth_of_all_requests(proxy, place, seed):
    proxy.spoil(0.05, seed)
    items = range(200)

    with FunctionExecutor(storage=f"{place}?endpoint={proxy.endpoint}", durable=True, workers=2) as executor:
        results = executor.map(fill, items, batch_size=4).results(120)

    assert results == [fill(number) for number in items]
    assert proxy.spoiled
    assert list(open_storage(place).list()) == []


def test_workers_killed_behind_a_bad_line_cost_no_result(proxy, place, tmp_path):
    proxy.spoil(0.05, 7)

    def once(number):
        flag = tmp_path / str(number)
        if number % 20 == 3 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with FunctionExecutor(storage=f"{place}?endpoint={proxy.endpoint}", durable=True, workers=2) as executor:
        results = executor.map(once, range(100), batch_size=5).results(120)

    assert results == list(range(100))
    assert list(open_storage(place).list()) == []


def test_a_job_whose_driver_died_is_taken_up_without_running_again_what_is_committed(place, s3_server, tmp_path):
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, place, str(tmp_path)], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    (tmp_path / "gate").touch()
    before = {path.name for path in tmp_path.glob("ran-*")}

    with FunctionExecutor.attach(driver.stdout.strip(), workers=2) as executor:
        assert executor.get_result(timeout=60) == [number * number for number in range(6)]

    assert {"ran-0", "ran-1", "ran-2"} <= before
    assert list(tmp_path.glob("ran-[012]-2")) == []
    assert list(open_storage(place).list()) == []


def test_no_object_log_or_state_of_a_job_shows_a_credential(place, s3_server, tmp_path):
    def fail(number):
        raise ValueError(f"number {number}")

    log = tmp_path / "events.jsonl"
    executor = FunctionExecutor(storage=place, durable=True, workers=2, listeners=(EventLog(log),))
    futures = executor.map(square, [1, "two", 3], batch_size=1)
    told = [traceback.format_exception(error) for error in map(Future.exception, futures) if error is not None]
    told += [traceback.format_exception(executor.call_async(fail, 1).exception(60))]
    storage = open_storage(place)
    stored = [storage.get(info.key) for info in storage.list()]
    kept = [path.read_bytes() for path in state_dir().rglob("*") if path.is_file()]
    executor.shutdown()

    assert len(stored) > 4
    seen = b"".join([*stored, *kept, log.read_bytes(), repr((told, executor, futures, vars(storage))).encode()])
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]):
        assert secret.encode() not in seen


@pytest.mark.slow
def test_a_job_outlives_a_restart_of_the_server(s3_server, place, tmp_path):
    with FunctionExecutor(storage=place, durable=True, workers=2) as executor:
        futures = executor.map(fill, range(400), batch_size=2)
        futures[20].result(60)
        s3_server.stop()
        s3_server.start()
        assert futures.results(120) == [fill(number) for number in range(400)]
