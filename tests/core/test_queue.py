"""Queues from tasks to the driver: over the worker's own socket, and over a real Redis."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor, Queue, RetryPolicy, serialization
from core.compute import base
from core.errors import SerializationError
from core.job.options import options_of
from core.task import notices as notify

LOCAL = ("serial", "process?start=fork", "process?start=fresh")


@pytest.fixture(autouse=True)
def piped(monkeypatch):
    monkeypatch.setitem(base._BACKENDS, "pipe", "tests.servers.pipes:PipeBackend")


SITES = [*((name, False) for name in LOCAL), ("process", True), ("pipe", False), ("pipe", True)]


@pytest.fixture(params=SITES, ids=lambda site: f"{site[0]}-{'durable' if site[1] else 'direct'}")
def executor(request, tmp_path):
    compute, durable = request.param
    settings = {"durable": durable, "storage": f"file://{tmp_path}/store"}
    if compute == "pipe":
        settings["notify"] = request.getfixturevalue("redis_server").address
    if compute != "serial":
        settings["workers"] = 2
    with FunctionExecutor(compute, **settings) as made:
        yield made


def walk(seed, progress, steps=20):
    for step in range(steps):
        progress.put((seed, step))
    return seed


def test_values_of_each_task_arrive_in_order_and_the_queue_ends_with_the_job(executor):
    queue = executor.queue()

    futures = executor.map(walk, range(5), extra_args=(queue,))
    entries = list(queue.entries())

    assert futures.results(60) == list(range(5))
    for seed in range(5):
        own = [entry for entry in entries if entry.task_id == seed]
        assert [entry.value for entry in own] == [(seed, step) for step in range(20)]
        assert {(entry.job_id, entry.attempt) for entry in own} == {(futures.job_id, 0)}
    assert queue.dropped == 0


def test_a_queue_may_be_an_argument_of_one_call(executor):
    queue = executor.queue()

    future = executor.call_async(walk, 3, progress=queue, steps=2)

    assert list(queue) == [(3, 0), (3, 1)]
    assert future.result(60) == 3


def test_arrays_travel(executor):
    def send(progress):
        progress.put(np.arange(200_000.0))

    queue = executor.queue()
    executor.call_async(send, queue)

    (array,) = queue
    assert np.array_equal(array, np.arange(200_000.0))


def test_a_value_is_there_before_its_task_has_ended(executor, tmp_path):
    gate = str(tmp_path / "gate")

    def ask(progress):
        progress.put("question")
        while not os.path.exists(gate):
            time.sleep(0.005)
        return "answered"

    if executor.workers == 1:
        pytest.skip("tasks run in the calling thread")
    queue = executor.queue()
    future = executor.call_async(ask, queue)

    assert queue.get(60) == "question"
    assert not future.done()
    open(gate, "w").close()
    assert future.result(60) == "answered"
    with pytest.raises(EOFError, match="every job has ended"):
        queue.get(60)


def test_a_second_attempt_puts_its_values_again_and_says_so(executor, tmp_path):
    flag = str(tmp_path / "failed")

    def fail_once(progress):
        progress.put("begun")
        if not os.path.exists(flag):
            open(flag, "w").close()
            raise OSError("once")
        return "done"

    queue = executor.queue()
    future = executor.map(
        lambda _, progress: fail_once(progress),
        [0],
        extra_args=(queue,),
        retries=RetryPolicy(retries=2, backoff=0.01, retry_on=(OSError,)),
    )

    assert [(entry.value, entry.attempt) for entry in queue.entries()] == [("begun", 0), ("begun", 1)]
    assert future.results(60) == ["done"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_worker_killed_while_it_puts_costs_no_result_and_no_order(tmp_path, durable):
    flag = str(tmp_path / "killed")

    def put_many(progress):
        for number in range(2000):
            progress.put(number)
            if number == 1000 and not os.path.exists(flag):
                open(flag, "w").close()
                threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGKILL)).start()
                while True:
                    progress.put("more")
        return "done"

    with FunctionExecutor("process", f"file://{tmp_path}/store", workers=1, durable=durable) as executor:
        queue = executor.queue()
        future = executor.call_async(put_many, queue)
        entries = list(queue.entries())

        assert future.result(60) == "done"
    first = [entry.value for entry in entries if entry.attempt == 0]
    assert first[:1001] == list(range(1001))
    assert set(first[1001:]) <= {"more"}
    assert [entry.value for entry in entries if entry.attempt == 1] == list(range(2000))


def test_a_hundred_thousand_values_arrive(tmp_path):
    with FunctionExecutor("process", workers=2) as executor:
        queue = executor.queue()
        executor.map(walk, range(2), extra_args=(queue, 50_000))

        values = list(queue)

    assert queue.dropped == 0
    for seed in range(2):
        assert [step for one, step in values if one == seed] == list(range(50_000))


@pytest.mark.parametrize("compute", LOCAL)
def test_a_reader_that_comes_late_gets_the_latest_values_and_the_count_of_the_others(compute):
    with FunctionExecutor(compute) as executor:
        queue = executor.queue(size="100kB")
        executor.map(walk, [7], extra_args=(queue, 5000)).results(60)

        kept = [step for _, step in queue]

    assert kept == list(range(5000 - len(kept), 5000))
    assert 100 < len(kept) < 1000
    assert queue.dropped == 5000 - len(kept)


def test_a_value_larger_than_the_queue_is_kept_alone():
    def send(progress):
        progress.put("small")
        progress.put(b"x" * 10_000)

    with FunctionExecutor("serial") as executor:
        queue = executor.queue(size=1000)
        executor.call_async(send, queue)

        assert list(queue) == [b"x" * 10_000]
    assert queue.dropped == 1


def test_waiting_too_long_is_an_error_that_can_be_tried_again(tmp_path):
    gate = str(tmp_path / "gate")

    def late(progress):
        while not os.path.exists(gate):
            time.sleep(0.005)
        progress.put(1)

    with FunctionExecutor("process", workers=1) as executor:
        queue = executor.queue()
        executor.call_async(late, queue)
        with pytest.raises(TimeoutError, match=r"no value came within 0\.01 s"):
            queue.get(0.01)
        open(gate, "w").close()

        assert queue.get(60) == 1


def test_a_queue_of_no_job_is_at_its_end():
    with FunctionExecutor("serial") as executor:
        executor.map(abs, [1]).results()
        queue = executor.queue()

        assert list(queue) == []


def test_a_cancelled_job_ends_its_queue():
    def forever(progress):
        progress.put(1)
        threading.Event().wait()

    with FunctionExecutor("process", workers=1) as executor:
        queue = executor.queue()
        executor.call_async(forever, queue)
        assert queue.get(60) == 1
        executor.cancel()

        assert list(queue) == []


def test_threads_of_a_task_may_put(tmp_path):
    def many(progress):
        def put(name):
            for step in range(200):
                progress.put((name, step))

        threads = [threading.Thread(target=put, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with FunctionExecutor("process", workers=1) as executor:
        queue = executor.queue()
        executor.call_async(many, queue)
        values = list(queue)

    for name in range(4):
        assert [step for one, step in values if one == name] == list(range(200))


def test_a_value_that_cannot_be_pickled_fails_its_task_with_that_reason():
    def send(progress):
        progress.put(threading.Lock())

    with FunctionExecutor("process", workers=1) as executor:
        queue = executor.queue()
        future = executor.call_async(send, queue)

        assert list(queue) == []
        assert isinstance(future.exception(60), SerializationError)


def test_only_a_running_task_puts_and_only_the_driver_reads():
    def read(queue):
        return queue.get(0)

    with FunctionExecutor("process", workers=1) as executor:
        queue = executor.queue()
        with pytest.raises(RuntimeError, match="only from a running task"):
            queue.put(1)
        with pytest.raises(RuntimeError, match="is read by the driver"):
            executor.call_async(read, queue).result(60)


def test_without_redis_a_remote_backend_has_no_queue():
    with FunctionExecutor("pipe") as executor, pytest.raises(ConfigError, match=r"give the executor notify='redis://"):
        executor.queue()


@pytest.mark.parametrize("size", [0, "many", -1, True])
def test_a_size_that_is_none_is_refused(size):
    with FunctionExecutor("serial") as executor, pytest.raises(ConfigError, match="size of a queue"):
        executor.queue(size=size)


def test_a_redis_that_dies_costs_values_that_are_counted_and_no_result(redis_server, tmp_path):
    gate, stop = str(tmp_path / "gate"), str(tmp_path / "stop")

    def chatter(progress):
        progress.put("first")
        while not os.path.exists(gate):
            time.sleep(0.005)
        progress.put("lost")
        while not os.path.exists(stop):
            progress.put("more")
        return "done"

    with FunctionExecutor("pipe", workers=1, notify=redis_server.address) as executor:
        queue = executor.queue()
        future = executor.call_async(chatter, queue)
        assert queue.get(60) == "first"
        redis_server.kill()
        open(gate, "w").close()
        with pytest.raises(TimeoutError):
            queue.get(0.3)
        redis_server.start()

        assert queue.get(60) == "more"
        assert queue.dropped > 0
        open(stop, "w").close()
        assert set(queue) <= {"more"}
        assert future.result(60) == "done"


def test_forged_and_repeated_values_are_not_read(redis_server, tmp_path):
    touched = tmp_path / "touched"

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(touched),)

    with FunctionExecutor("pipe", workers=1, notify=redis_server.address) as executor:
        queue = executor.queue()
        future = executor.call_async(walk, 1, queue, 1)
        assert future.result(60) == 1
        grant = executor._listener.credentials
        word = notify.QueueHeader(queue._ident, "thief", 1, future.job_id, 0, 0)
        forged = serialization.sign(
            os.urandom(32), grant.channel, serialization.dumps(("value", word, serialization.dumps(Harmful())))
        )
        own = serialization.sign(grant.key, grant.channel, serialization.dumps(("value", word, serialization.dumps(5))))
        with redis_server.client() as client:
            for message in (forged, own, own):
                client.publish(grant.channel, message)

        assert list(queue)[-1:] == [5]
        assert queue.dropped == 0
    assert not touched.exists()


def test_a_queue_that_nobody_reads_any_more_stops_nothing():
    with FunctionExecutor("process", workers=1) as executor:
        queue = executor.queue()
        futures = executor.map(walk, range(3), extra_args=(queue,))
        del queue

        assert futures.results(60) == [0, 1, 2]


def test_tasks_that_put_into_a_queue_get_no_backup_copies_unless_asked_for():
    def speculates(executor):
        return options_of(executor.config, executor._can, bool(executor._queues)).speculate

    with FunctionExecutor("pipe", notify="redis://127.0.0.1:1/0") as executor:
        queue = executor.queue()
        assert not speculates(executor)
        del queue
        assert speculates(executor)
    with FunctionExecutor("pipe", notify="redis://127.0.0.1:1/0", speculation=True) as executor:
        queue = executor.queue()
        assert speculates(executor), queue


def test_the_public_class_is_what_the_executor_makes():
    with FunctionExecutor("serial") as executor:
        assert isinstance(executor.queue(), Queue)
