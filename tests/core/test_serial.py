"""What the backend in the driver's own process has in common with worker processes."""

import os
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor, RetryPolicy
from core.errors import SerializationError, TaskTimeout
from core.types import TaskRetried


@pytest.fixture(params=["serial", "process"])
def compute(request):
    return request.param


def test_a_working_folder_that_a_task_changes_is_not_the_drivers(compute):
    before = os.getcwd()

    with FunctionExecutor(compute) as executor:
        executor.submit(os.chdir, tempfile.gettempdir()).result(60)

        assert os.getcwd() == before
        assert executor.submit(os.getcwd).result(60) == before


@pytest.mark.parametrize("durable", [False, True], ids=["direct", "durable"])
def test_every_attempt_over_its_time_is_told(compute, durable, tmp_path):
    heard = []

    def slow(x):
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        return x

    settings = {"storage": f"file://{tmp_path}", "durable": durable, "listeners": [heard.append]}
    with FunctionExecutor(compute, **settings) as executor:
        error = executor.map(slow, [0], timeout=0.1, retries=2)[0].exception(60)

    assert isinstance(error, TaskTimeout)
    assert error.attempts == 3
    retried = [event for event in heard if type(event) is TaskRetried]
    assert [(event.attempts, event.reason) for event in retried] == [
        (attempts, "it ran longer than its timeout of 0.1 s") for attempts in (1, 2)
    ]


@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_number_of_workers_that_is_set_for_all_backends_is_no_mistake(place, monkeypatch, tmp_path):
    (tmp_path / "settings.toml").write_text("workers = 4\n" if place == "file" else "")
    if place == "environment":
        monkeypatch.setenv("FANFOLD_WORKERS", "4")

    with FunctionExecutor("serial", config=tmp_path / "settings.toml") as executor:
        assert executor.workers == 1
        assert executor.map(abs, [-1]).results() == [1]


def test_a_number_of_workers_that_is_asked_of_it_is_refused():
    with pytest.raises(ConfigError, match=r"'serial' has 1 worker\(s\), not 4; use 'process' for more"):
        FunctionExecutor("serial", workers=4)


@pytest.mark.parametrize("kind", [list, lambda content: np.array(content * 100_000)], ids=["list", "array"])
def test_each_attempt_at_a_task_gets_its_item_as_it_was(compute, kind):
    def change_and_fail_twice(item, attempt):
        item[0] += 1
        if attempt < 2:
            raise OSError
        return int(item[0])

    policy = RetryPolicy(retries=2, retry_on=(OSError,), backoff=0.001)
    with FunctionExecutor(compute) as executor:
        assert executor.map(change_and_fail_twice, [kind([1]), kind([5])], retries=policy).results(60) == [2, 6]


def test_an_item_that_cannot_be_read_is_not_given_to_the_function_by_another_attempt(compute):
    policy = RetryPolicy(retries=2, retry_on=(Exception,), backoff=0.001)
    with FunctionExecutor(compute) as executor:
        future = executor.map(lambda item: "called", [threading.Lock()], retries=policy)[0]

        assert isinstance(future.exception(60), SerializationError)


CLOSES = """
import contextlib, io
from core import FunctionExecutor

for _ in range(2):
    with contextlib.closing(io.TextIOWrapper(io.BytesIO())) as stream, contextlib.redirect_stdout(stream):
        with FunctionExecutor("serial") as executor:
            executor.map(print, [1]).results()
"""


def test_a_stream_that_is_closed_between_two_jobs_is_let_go_without_a_word():
    done = subprocess.run([sys.executable, "-X", "dev", "-c", CLOSES], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
