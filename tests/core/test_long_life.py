"""What is done is let go: counted in objects and bytes, never in time."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import tracemalloc
from collections import Counter
from typing import TypeVar

import pytest

from core import FunctionExecutor, RetryPolicy
from core.job import history
from core.job.costs import BatchCost, CostTable, JobKey
from core.job.direct import DirectJob
from core.job.durable import DurableJob
from core.job.history import JobHistory
from core.types import Usage

T = TypeVar("T")


def living() -> Counter[str]:
    """Count the objects of the product's own classes."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return Counter(kind.__qualname__ for kind in kinds if str(kind.__module__).startswith("core."))


def instances(kind: type[T]) -> list[T]:
    """Return what there is of a class, without a look through weak proxies, whose objects may be gone."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kind)]


def grown(before: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in (living() - before).items() if count > 8}


def chatty(x):
    print("said " * 200)
    if x % 5 == 0:
        raise ValueError("x" * 1000)
    return bytes(1000)


@pytest.fixture
def executor():
    with FunctionExecutor("process", workers=2) as started:
        yield started


def use(executor, rounds):
    for number in range(rounds):
        with contextlib.suppress(ValueError):
            executor.submit(chatty, number).result(60)


def test_calls_whose_futures_nobody_holds_leave_no_object(executor):
    use(executor, 300)
    before = living()

    use(executor, 900)

    assert grown(before) == {}


def test_calls_that_nobody_ever_asks_for_leave_no_object(executor):
    executor.submit(abs, -1).result(60)
    before = living()

    for number in range(900):
        executor.submit(chatty, number)
    executor.submit(abs, -1).result(60)
    executor.wait(timeout=60)

    assert grown(before) == {}


def test_memory_is_flat_over_many_calls(executor, monkeypatch):
    monkeypatch.setattr(history, "LARGEST_TABLE", 100_000)  # so that it is full soon
    use(executor, 600)
    tracemalloc.start()
    try:
        use(executor, 100)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        use(executor, 900)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert after - before < 100_000


def test_a_hundred_jobs_with_failures_and_logs_leave_no_object(executor):
    def run(jobs):
        for _ in range(jobs):
            with contextlib.suppress(ValueError):
                executor.map(chatty, range(20), retries=RetryPolicy(1, (ValueError,), backoff=0.001)).results(60)
            executor.map(chatty, iter(range(1, 4)), batch_size=2).results(60)
            assert executor.map_reduce(len, ["a", "bc"], sum).result(60) == 3

    run(5)
    before = living()
    run(30)

    assert grown(before) == {}


def test_futures_that_are_held_keep_results_and_logs_and_no_job(executor):
    gc.collect()
    others = {id(thing): thing for thing in instances(DirectJob)}
    futures = [executor.submit(chatty, number) for number in range(50)]
    listed = executor.map(chatty, range(1, 5))
    executor.wait([*futures, *listed], timeout=60)
    with contextlib.suppress(ValueError):
        executor.get_result(timeout=60)

    gc.collect()

    assert not [thing for thing in instances(DirectJob) if id(thing) not in others]
    assert [len(future.result()) for future in listed] == [1000] * 4
    assert all(future.log.startswith("said said") for future in [*futures, *listed])
    assert isinstance(futures[5].exception(), ValueError)
    assert futures[5].exception().__cause__.log == futures[5].log


def test_a_durable_job_that_has_ended_keeps_what_removing_it_takes(tmp_path):
    with FunctionExecutor("process", f"file://{tmp_path}/store", workers=2, durable=True) as executor:
        futures = executor.map(chatty, range(1, 5), batch_size=2, extra_args=())
        assert [len(result) for result in futures.results(60)] == [1000] * 4
        executor.map(abs, [1]).results(60)

        jobs = instances(DurableJob)

        assert len(jobs) == 2
        assert all(job.record.call == b"" and job.record.inputs == [] and job.costs == [] for job in jobs)
        assert all(not job.futures.made and not job._progress.attempts for job in jobs)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class Calls:
    """Counts the calls of functions on the threads that it is told to `watch`."""

    def __init__(self):
        self.count = 0

    def watch(self):
        sys.setprofile(self._hear)

    def _hear(self, frame, event, argument):
        self.count += event in ("call", "c_call")


def test_a_call_costs_the_same_however_many_were_made_before(executor):
    """In calls of functions, by the caller and by the executor's own thread."""

    def on_its_thread(action):
        done = threading.Event()
        executor._scheduler.command(lambda: (action(), done.set()))
        assert done.wait(60)

    def cost(rounds=100):
        calls = Calls()
        on_its_thread(calls.watch)
        calls.watch()
        try:
            for number in range(rounds):
                assert executor.submit(abs, number).result(60) == number
        finally:
            sys.setprofile(None)
            on_its_thread(lambda: sys.setprofile(None))
        return calls.count / rounds

    use(executor, 20)
    early = cost()
    use(executor, 1500)

    assert cost() < 1.25 * early


def a_cost(worker="w", durations=(1.0,), **values) -> BatchCost:
    fields = {"started": 0.0, "cpu": 0.5, "peak_rss": 100, "requests": 1, "bytes_in": 10, "bytes_out": 20, **values}
    return BatchCost(range(len(durations)), worker, 1, {}, list(durations), **fields)


def test_a_table_gives_back_what_was_put_in():
    table = CostTable()
    first, second = JobKey(1, "job-1", "f"), JobKey(2, "job-2", "g")
    one = BatchCost(range(5, 8), "w", 1, {1: 3}, [1.0, 2.0, 3.0], 7.0, 6.0, 100, 4, 10, 20)
    table.add(first, one)
    table.add(second, a_cost("v"))

    (key, again), (other, _) = table.copy().batches()

    assert (key, other) == (first, second)
    assert list(again.rows()) == list(one.rows())
    assert [row.attempts for row in again.rows()] == [1, 3, 1]


def test_of_a_table_that_is_too_large_the_oldest_are_summed_up_and_the_latest_job_stays_whole():
    table, sums = CostTable(), Usage()
    for number in range(100):
        table.add(JobKey(number, f"job-{number}", "f"), a_cost())
    latest = JobKey(100, "job-100", "f")
    for _ in range(50):
        table.add(latest, a_cost(durations=[0.5, 0.5]))

    table.shrink(table.nbytes // 10, sums)

    assert {key for key, _ in table.batches()} == {latest}
    assert len(list(table.batches())) == 50
    assert (sums.tasks, sums.wall_seconds, sums.cpu_seconds, sums.rss_seconds) == (100, 100.0, 50.0, 10_000.0)
    assert (sums.bytes_in, sums.bytes_out) == (1000, 2000)


def test_the_bill_is_the_same_whether_tasks_are_summed_up_or_not(executor, monkeypatch):
    for number in range(40):
        executor.submit(abs, -number).result(60)
    executor.map(abs, range(30), batch_size=3).results(60)
    before, rows = executor.bill(), len(executor.stats())

    monkeypatch.setattr(history, "LARGEST_TABLE", 2000)
    executor.submit(abs, -1).result(60)
    after = executor.bill()

    assert rows == 70
    assert len(executor.stats()) < 20
    assert (after.tasks, after.invocations) == (71, before.invocations + 1)
    last = executor.stats().iloc[-1]
    assert after.wall_seconds == pytest.approx(before.wall_seconds + last.duration)
    assert after.gb_seconds == pytest.approx(before.gb_seconds + last.duration * last.peak_rss / (1 << 30))


def test_rows_come_job_by_job_although_jobs_end_in_another_order(tmp_path):
    gate = tmp_path / "gate"

    def wait(x):
        while not gate.exists():
            pass
        return x

    with FunctionExecutor("process", workers=2) as executor:
        first = executor.map(wait, [1], batch_size=1)
        second = executor.map(abs, [2, 3])
        second.results(60)
        assert list(executor.stats().job_id) == [second.job_id] * 2
        gate.touch()
        first.results(60)
        executor.wait(timeout=60)

    assert list(executor.stats().job_id) == [first.job_id, *[second.job_id] * 2]


def test_a_history_that_is_cleared_knows_nothing_of_what_has_ended():
    known = JobHistory()

    known.clear()

    assert (list(known.rows()), known.jobs(), known.newest()) == ([], [], 0)
