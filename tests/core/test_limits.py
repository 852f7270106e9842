"""The limits on time and memory, on a worker of whom only the status exists."""

import math
import os

import pytest

from core.compute.local.limits import MEMORY_INTERVAL, limit_passed, next_look
from core.compute.local.wire import Doing, TaskStatus
from core.compute.local.workers import STATUS_TIMEOUT, WorkerProcess, how_it_ended
from core.task.protocol import Invocation


@pytest.fixture
def worker():
    status = TaskStatus(TaskStatus.file())
    made = WorkerProcess(0, None, -1, -1, status, None, pid=os.getpid())
    yield made
    status.close()


def hold(worker, **limits):
    worker.held[7] = Invocation(1, "job", b"", "f", range(1), 0, **limits)
    worker.task_status.begin(7)
    worker.task_status.mark(0, 100.0)


def test_the_status_is_read_as_it_was_written(worker):
    hold(worker)

    assert worker.task_status.read() == Doing(7, 0, 100.0)


def test_a_task_over_its_time_is_found_by_two_readings_that_agree(worker):
    hold(worker, timeout=5.0)

    assert limit_passed(worker, 104.0, True) is None
    assert limit_passed(worker, 105.1, True) is None
    assert limit_passed(worker, 105.2, True) == ("timeout", "it ran longer than its timeout of 5 s")


def test_a_task_that_ends_between_the_readings_is_not_over_its_time(worker):
    hold(worker, timeout=5.0)
    limit_passed(worker, 105.1, True)
    worker.task_status.mark(1, 105.1)

    assert limit_passed(worker, 105.2, True) is None
    assert limit_passed(worker, 109.9, True) is None


def test_a_batch_that_waits_behind_another_is_not_over_its_time(worker):
    hold(worker, timeout=5.0)
    worker.task_status.begin(6)
    worker.task_status.mark(0, 100.0)

    assert [limit_passed(worker, 200.0, True) for _ in range(2)] == [None, None]


def test_memory_counts_beyond_what_the_worker_inherited(worker):
    hold(worker, memory=1_000_000)

    reason, message = limit_passed(worker, 100.0, True)
    assert reason == "memory"
    assert "over its memory limit of 1 MB" in message
    worker.baseline = 1 << 50
    assert limit_passed(worker, 100.0, True) is None
    worker.baseline = 0
    assert limit_passed(worker, 100.0, False) is None


def test_a_worker_is_looked_at_when_something_may_have_happened(worker):
    assert next_look(worker, 100.0, True) == math.inf
    hold(worker, timeout=5.0)
    assert next_look(worker, 101.0, True) == 105.0
    worker.held.clear()
    hold(worker, timeout=5.0, memory=1)
    assert next_look(worker, 101.0, True) == 101.0 + MEMORY_INTERVAL
    worker.lost_at = 100.0
    assert next_look(worker, 100.0, False) == 100.0 + STATUS_TIMEOUT


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, "ended"), (0x300, "status 3"), (9, "SIGKILL; the system does that"), (11, "SIGSEGV"), (40, "signal 40")],
)
def test_how_a_worker_ended_is_said_in_words(status, words):
    assert words in how_it_ended(status)
