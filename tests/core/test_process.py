import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor
from core.compute.local import channel
from core.compute.local.process import ProcessBackend
from core.errors import MemoryLimitExceeded, TaskTimeout, WorkerDied
from core.job.calls import MOST_IDLE
from core.settings import Address, ExecutorConfig
from core.types import RetryPolicy, TaskRetried


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(params=["0", "1"], ids=["memfd", "stream"])
def executor(request, monkeypatch):
    monkeypatch.setenv("FANFOLD_NO_MEMFD", request.param)
    with FunctionExecutor("process?start=fork", workers=2) as started:
        yield started


def test_large_arrays_come_back_equal_and_writable_by_either_road(executor):
    results = executor.map(lambda n: np.full(300_000, n), range(12)).results(60)

    for number, result in enumerate(results):
        result[0] += 1
        assert result[0] == number + 1
        assert (result[1:] == number).all()


def test_a_thousand_large_results_leak_no_descriptor(executor):
    executor.submit(int).result(60)
    before = descriptors()

    for result in executor.map(lambda n: np.full(9_000, n), range(1000)):
        result.result(60)
    executor.clean()
    executor.get_result()
    result = None
    executor.map(lambda x: x, range(2)).results(60)

    assert descriptors() - before < 100


def test_what_driver_and_workers_hold_does_not_grow_with_what_was_done(executor):
    def inside(_):
        import gc

        from core.compute.local.worker import Worker

        (worker,) = (found for found in gc.get_objects() if type(found) is Worker)
        return len(worker._functions), len(worker._channel._files)

    for turn in range(2 * MOST_IDLE):
        calls = [executor.submit(lambda n, turn=turn: n, number) for number in range(5)]
        arrays = [executor.submit(np.full, 9_000, number) for number in range(5)]
        assert [call.result(60) for call in calls] == list(range(5))
        assert [array.result(60)[0] for array in arrays] == list(range(5))

    workers = executor._backend._table.workers.values()
    assert executor.map(lambda x: x, range(2), batch_size=1).results(60) == [0, 1]
    assert all(len(worker.known) <= MOST_IDLE + 2 for worker in workers)
    assert [len(worker.channel._files) for worker in workers] == [0, 0]
    for functions, files in executor.map(inside, range(4), batch_size=1).results(60):
        assert functions <= MOST_IDLE + 2
        assert files <= 2 * channel.POOL_FILES


def test_workers_are_warm(executor):
    first = set(executor.map(lambda _: os.getpid(), range(40), batch_size=1).results(60))
    second = set(executor.map(lambda _: os.getpid(), range(40), batch_size=1).results(60))

    assert len(first | second) <= 2
    assert os.getpid() not in first


def test_a_batch_behind_a_long_one_is_given_to_a_worker_that_idles(tmp_path):
    gate = tmp_path / "gate"

    def run(x):
        while x == 0 and not gate.exists():
            pass
        return x

    with FunctionExecutor("process", workers=2) as executor:
        futures = executor.map(run, range(8), batch_size=1)
        assert [future.result(60) for future in futures[1:]] == list(range(1, 8))
        gate.touch()
        assert futures[0].result(60) == 0


def test_a_worker_has_no_standard_input_and_does_not_hear_ctrl_c():
    def look():
        os.kill(os.getpid(), signal.SIGINT)
        return sys.stdin.read() if sys.stdin else ""

    with FunctionExecutor("process?start=fresh", workers=1) as executor:
        assert executor.submit(look).result(60) == ""


def test_every_worker_draws_random_numbers_of_its_own():
    np.random.seed(0)

    def draw(_):
        return os.getpid(), np.random.random()

    with FunctionExecutor("process?start=fork", workers=2) as executor:
        drawn = executor.map(draw, range(20), batch_size=1).results(60)

    numbers = [number for _, number in drawn]
    assert len(set(numbers)) == len(numbers)


def test_a_driver_with_threads_starts_its_workers_from_a_clean_process():
    script = """
import threading
from core import ConfigError, FunctionExecutor
from core.compute.local import channel
stop = threading.Event()
threading.Thread(target=stop.wait).start()
with FunctionExecutor("process", workers=1) as executor:
    print(executor.submit(threading.active_count).result(60))
    parent = executor._backend._table.forkserver.pid
    print(b"core.compute.local.forkserver" in open(f"/proc/{parent}/cmdline", "rb").read())
stop.set()
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert shown.stdout.split() == ["1", "True"]


@pytest.mark.parametrize(
    ("options", "kind"), [({"timeout": 0.05}, TaskTimeout), ({"memory": "50MB"}, MemoryLimitExceeded), ({}, WorkerDied)]
)
def test_a_task_that_ends_its_worker_is_tried_as_often_as_the_policy_says(options, kind, tmp_path):
    heard = []

    def run(x):
        with open(tmp_path / "tries", "a") as file:
            file.write("x")
        if not options:
            os._exit(1)
        held = []
        while True:
            held.append(bytearray(os.urandom(1 << 16)) if "memory" in options else None)
            held = held if "memory" in options else []

    with FunctionExecutor("process", workers=1, listeners=[heard.append]) as executor:
        error = executor.map(run, [1], retries=RetryPolicy(2), **options)[0].exception(60)

    assert type(error) is kind
    assert error.attempts == 3
    assert "tried 3 times" in str(error)
    assert (tmp_path / "tries").read_text() == "xxx"
    assert [event.attempts for event in heard if type(event) is TaskRetried] == [1, 2]


def test_memory_grows_by_the_policys_factor():
    def hold(x, attempt):
        block = b"x" * (100 << 20)
        end = time.monotonic() + 0.2
        while attempt == 0 or time.monotonic() < end:
            pass
        return len(block)

    with FunctionExecutor("process", workers=1) as executor:
        policy = RetryPolicy(1, memory_growth=3.0)
        assert executor.map(hold, [1], memory="50MB", retries=policy).results(60) == [100 << 20]
        refused = executor.map(hold, [1], memory="50MB", retries=RetryPolicy(1))
        assert isinstance(refused[0].exception(60), MemoryLimitExceeded)


def test_memory_that_a_worker_inherited_does_not_count():
    burden = b"x" * (150 << 20)

    with FunctionExecutor("process?start=fork", workers=1) as executor:
        assert executor.map(lambda x: x, range(5), memory="60MB").results(60) == list(range(5))

    assert burden


def test_a_wakening_that_comes_while_another_is_read_silences_none_after_it():
    class WokenWhileRead:
        def __init__(self, end):
            self.end = end

        def recv(self, size):
            backend.wake()
            return self.end.recv(size)

    backend = ProcessBackend(Address("process"), ExecutorConfig(workers=1))
    backend.start()
    try:
        end, backend._wakeup_read = backend._wakeup_read, WokenWhileRead(backend._wakeup_read)
        backend.wake()
        backend._wake_up(0)

        backend.wake()

        assert end.recv(1) == b"!"
    finally:
        backend._wakeup_read = end
        backend.close(force=True)


def test_a_machine_that_makes_no_more_processes_is_told_in_a_sentence(monkeypatch):
    def refuse():
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)

    with FunctionExecutor("process?start=fork", workers=2) as executor:
        with pytest.raises(
            ConfigError, match="2 workers cannot be started: Resource temporarily unavailable; .*ulimit"
        ):
            executor.submit(abs, -1)
