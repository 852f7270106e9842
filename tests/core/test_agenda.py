"""What a turn of the loop costs: only the jobs that something happened to are looked at."""

from __future__ import annotations

from collections import Counter

import pytest

from core import FunctionExecutor
from core.futures import Future, FutureList
from core.job.agenda import Agenda
from core.job.calls import IDLE_BYTES, MOST_IDLE, Calls
from core.job.direct import DirectJob
from core.job.job import Job
from core.job.options import Options
from core.job.unfetched import Unfetched
from core.serialization.definitions import Definitions
from core.task.protocol import Invocation


def a_job(name: str = "job") -> DirectJob:
    return DirectJob(name, "f", Definitions(), [1], Options(), FutureList(name), False)


@pytest.fixture
def agenda() -> Agenda:
    return Agenda()


def test_a_job_that_is_added_is_looked_at_once(agenda):
    job = a_job()
    agenda.add(job)

    assert agenda.wait() == 0.0
    assert agenda.take() == [job]
    assert agenda.take() == []
    assert agenda.wait() is None


def test_what_another_thread_stirs_is_looked_at_however_often_it_does(agenda):
    job = a_job()
    agenda.add(job)
    agenda.take()

    agenda.stir(job)
    agenda.stir(job)

    assert agenda.wait() == 0.0
    assert agenda.take() == [job]


def test_a_job_that_is_gone_is_neither_looked_at_nor_asked_to_send(agenda):
    job = a_job()
    agenda.add(job)
    agenda.line_up(job)
    agenda.schedule(job, 0.0)
    agenda.drop(job)
    agenda.stir(job)
    agenda.touch(job)

    assert agenda.take() == []
    assert agenda.next_ready() is None
    assert agenda.wait() is None


def test_jobs_send_in_turn_and_each_has_one_place_in_the_line(agenda):
    first, second = a_job("1"), a_job("2")
    for job in (first, second):
        agenda.add(job)
        agenda.line_up(job)
        agenda.line_up(job)

    assert [agenda.next_ready() for _ in range(3)] == [first, second, None]


def test_a_job_is_due_at_the_soonest_of_the_times_it_was_given(agenda):
    job = a_job()
    agenda.add(job)
    agenda.take()

    agenda.schedule(job, 1000.0)
    agenda.schedule(job, None)
    assert 999 < agenda.wait() <= 1000
    agenda.schedule(job, 0.0)
    assert agenda.take() == [job]
    assert agenda.wait() is None


class Idle(Job):
    """A job that waits for what nobody tells it, such as one that another process drives."""

    total, idle = 1, True
    looks: Counter[str] = Counter()

    def next_batch(self, batch_id, workers):
        self.looks["next_batch"] += 1

    def next_poll(self):
        self.looks["next_poll"] += 1
        return 3600.0

    def poll(self):
        self.looks["poll"] += 1
        return []

    done = charge_attempt = requeue = None


def test_a_thousand_idle_jobs_cost_the_others_nothing():
    with FunctionExecutor("process", workers=1) as executor:
        executor.submit(abs, -1).result(60)
        for number in range(1000):
            futures = FutureList(f"idle-{number}")
            job = Idle(f"idle-{number}", "f", Definitions(), Options(), futures)
            futures.extend([Future(job, 0)])
            futures.finish()
            executor._launcher._adopt(job)
        executor.submit(abs, -1).result(60)
        before = Idle.looks.copy()

        for number in range(200):
            assert executor.submit(abs, number).result(60) == number

        assert Idle.looks == before
        executor.cancel()


class Broken(Idle):
    """A job that finds what nobody reckoned with."""

    def poll(self):
        raise ValueError("nobody reckoned with that")


def test_a_job_that_breaks_fails_alone():
    with FunctionExecutor("process", workers=1) as executor:
        executor.submit(abs, -1).result(60)
        futures = FutureList("broken")
        job = Broken("broken", "f", Definitions(), Options(), futures)
        futures.extend([Future(job, 0)])
        futures.finish()
        executor._launcher._adopt(job)

        error = futures[0].exception(60)

        assert "job broken broke: ValueError('nobody reckoned with that')" in str(error)
        assert isinstance(error.__cause__, ValueError)
        assert executor.submit(abs, -2).result(60) == 2


def an_invocation(call: bytes, call_hash: str) -> Invocation:
    return Invocation(0, "job", call, call_hash, [0], 0)


class Using:
    """A job, as far as its functions go."""

    def __init__(self, *hashes: str) -> None:
        self.job_id = "job"
        self.definitions = Definitions()
        self.definitions.hashes += hashes


def test_a_function_is_kept_while_a_job_uses_it_and_for_a_while_after():
    calls = Calls()
    first, second = Using("a"), Using("a")
    for job in (first, second):
        calls.use(job, an_invocation(b"f", "a"))

    assert list(calls.release(first)) == []
    assert list(calls.release(second)) == []
    for number in range(MOST_IDLE - 1):
        job = Using(str(number))
        calls.use(job, an_invocation(b"g", str(number)))
        assert list(calls.release(job)) == []
    job = Using("last")
    calls.use(job, an_invocation(b"g", "last"))
    assert list(calls.release(job)) == ["a"]


def test_a_large_function_goes_with_its_last_job_and_one_used_again_stays():
    calls = Calls()
    job = Using("small", "large")
    calls.use(job, an_invocation(b"f", "small"))
    calls.use(job, an_invocation(bytes(IDLE_BYTES + 1), "large"))

    assert "large" in list(calls.release(job))
    again = Using("small")
    calls.use(again, an_invocation(b"f", "small"))
    other = Using("large")
    calls.use(other, an_invocation(bytes(IDLE_BYTES + 1), "large"))
    assert list(calls.release(other)) == ["large"]


def test_of_futures_that_others_hold_only_those_still_held_are_the_latest():
    latest = Unfetched()
    held = [Future(), Future()]
    for future in held:
        future.settle(1)
        latest.add_held(future)
    latest.add_held(Future())

    assert latest.jobs() == held
    assert latest.results(0) == [1, 1]


def test_a_list_whose_failure_was_raised_has_been_had():
    latest = Unfetched()
    failed, last = FutureList("failed"), Future()
    failed.extend([Future(), Future()])
    failed.made[0].settle(None, KeyError("k"))
    failed.finish()
    latest.add(failed)
    latest.add(last)

    with pytest.raises(KeyError):
        failed.results(0)

    assert latest.jobs() == [last]


def test_a_list_that_was_not_ready_in_time_is_still_to_be_had():
    latest = Unfetched()
    slow, last = FutureList("slow"), Future()
    slow.extend([Future()])
    slow.finish()
    latest.add(slow)
    latest.add(last)

    with pytest.raises(TimeoutError):
        slow.results(0)

    assert latest.jobs() == [slow, last]
