"""Workers and their parent killed for real while they work."""

import contextlib
import os
import random
import signal
import threading

import pytest

from core import FunctionExecutor, RetryPolicy
from core.errors import FanfoldError
from core.types import JobDone, TaskDone

KILLS_EVERY = 0.1
"""Seconds."""

MOST_KILLS = 30
"""More than a machine with nothing else to do needs; a busy one must come to an end too."""


def make_slow_square(held):
    """Return a function that waits half-way as long as there is a file.

    It travels by value: a worker that must import this test first would never get to run it.
    """

    def slow_square(x):
        import time

        while x == 500 and held.exists():
            time.sleep(0.002)
        end = time.monotonic() + 0.002
        while time.monotonic() < end:
            pass
        return x, x * x

    return slow_square


@pytest.mark.parametrize("durable", [False, True], ids=["direct", "durable"])
def test_killing_a_worker_every_tenth_of_a_second_loses_and_repeats_no_result(durable, tmp_path):
    heard, killed = [], []
    stop = threading.Event()

    def kill(backend):
        chance = random.Random(1)
        while len(killed) < MOST_KILLS and not stop.wait(KILLS_EVERY):
            with contextlib.suppress(IndexError, ProcessLookupError):  # none has started, or one has ended
                pids = [worker.pid for worker in list(backend._table.workers.values()) if worker.pid]
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed.append(1)
                held.unlink(missing_ok=True)

    held = tmp_path / "held"
    held.touch()
    settings = {"durable": durable, "storage": f"file://{tmp_path}", "retries": 10, "listeners": [heard.append]}
    with FunctionExecutor("process", workers=2, **settings) as executor:
        killer = threading.Thread(target=kill, args=(executor._backend,))
        killer.start()
        try:
            results = executor.map(make_slow_square(held), range(1000)).results(120)
        finally:
            stop.set()
            killer.join()

    assert results == [(x, x * x) for x in range(1000)]
    assert killed
    assert sorted(event.stats.task_id for event in heard if type(event) is TaskDone) == list(range(1000))
    assert [(event.tasks, event.failed) for event in heard if type(event) is JobDone] == [(1000, 0)]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("start", ["process?start=fork", "process?start=fresh"])
def test_the_parent_of_the_workers_may_be_killed(start, tmp_path):
    def run(x):
        while x == 0 and not (tmp_path / "gate").exists():
            pass
        if x == 3 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        return x

    with FunctionExecutor(start, workers=2) as executor:
        futures = executor.map(run, range(6), batch_size=1)
        futures[1].result(60)
        os.kill(executor._backend._table.forkserver.pid, signal.SIGKILL)
        (tmp_path / "gate").touch()

        assert futures.results(60) == list(range(6))
        assert executor.map(lambda x: x, range(5)).results(60) == list(range(5))


def test_parent_and_workers_may_all_be_killed(tmp_path):
    with FunctionExecutor("process", workers=2) as executor:
        executor.submit(int).result(60)
        backend = executor._backend
        for pid in [
            backend._table.forkserver.pid,
            *(worker.pid for worker in list(backend._table.workers.values()) if worker.pid),
        ]:
            os.kill(pid, signal.SIGKILL)

        assert executor.map(lambda x: x + 1, range(10)).results(60) == list(range(1, 11))


def test_workers_that_die_before_they_have_run_anything_are_an_error_and_no_endless_loop(monkeypatch):
    monkeypatch.setattr("core.compute.local.worker.Channel", lambda end: os._exit(7))

    with FunctionExecutor("process?start=fork", workers=1) as executor:
        futures = executor.map(lambda x: x, range(3))

        with pytest.raises(FanfoldError, match="ended before they had run anything.*status 7"):
            futures.results(60)
        with pytest.raises(FanfoldError, match="status 7"):
            executor.map(lambda x: x, range(3)).results(60)


def test_a_task_that_kills_its_worker_every_time_is_given_up_and_the_others_are_not():
    def run(x):
        if x % 10 == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with FunctionExecutor("process", workers=2, retries=RetryPolicy(1)) as executor:
        futures = executor.map(run, range(50))
        futures.wait(timeout=60)

    assert [f.index for f in futures if f.exception()] == [3, 13, 23, 33, 43]
    assert [f.result() for f in futures if not f.exception()] == [x for x in range(50) if x % 10 != 3]
