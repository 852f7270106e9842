"""Which batches get a backup copy."""

from __future__ import annotations

import pytest

from core.futures import FutureList
from core.job.backups import BACKUP_LEAST, BACKUP_SLOWNESS, stragglers, wants_looking
from core.job.direct import DirectJob
from core.job.job import Batch
from core.job.options import Options
from core.serialization.definitions import Definitions


def a_job(tasks: int, speculate: bool = True) -> DirectJob:
    """Return a job whose batches of one task are all under way."""
    options = Options(batch_size=1, speculate=speculate)
    job = DirectJob("job", "f", Definitions(), range(tasks), options, FutureList("job"), False)
    for number in range(tasks):
        job.next_batch(number, 2)
    return job


def end(job: DirectJob, numbers: range, seconds: float) -> None:
    for number in numbers:
        job.inflight.pop(number)
        job.futures.made[number].settle(0)
        job.ended += 1
        job.durations.append(seconds)


def copied(job: DirectJob, now: float, running: range | None = None) -> list[int]:
    return [batch.batch_id for batch in stragglers(job, lambda number: running is None or number in running, now)]


def test_nobody_looks_before_half_of_a_job_is_done_or_unless_it_speculates():
    job, quiet = a_job(10), a_job(10, speculate=False)
    end(job, range(4), 0.1)
    assert not wants_looking(job)
    end(job, range(4, 5), 0.1)
    end(quiet, range(9), 0.1)

    assert wants_looking(job)
    assert not wants_looking(quiet)


def test_a_batch_is_copied_when_it_has_run_far_longer_than_the_others():
    job = a_job(10)
    end(job, range(9), 2.0)
    assert copied(job, 100.0) == []

    assert copied(job, 100.0 + BACKUP_SLOWNESS * 2.0) == []
    assert copied(job, 100.1 + BACKUP_SLOWNESS * 2.0) == [9]


def test_quick_tasks_are_not_copied_for_a_moment_s_delay():
    job = a_job(10)
    end(job, range(9), 0.001)
    copied(job, 100.0)

    assert copied(job, 100.0 + BACKUP_LEAST) == []
    assert copied(job, 100.1 + BACKUP_LEAST) == [9]


def test_only_time_that_a_worker_spends_on_a_batch_counts():
    job = a_job(10)
    end(job, range(9), 1.0)
    copied(job, 100.0, running=range(0))

    assert copied(job, 1000.0) == []
    assert copied(job, 1010.0) == [9]


def test_at_most_a_tenth_of_a_job_is_copied_and_nothing_twice():
    job = a_job(30)
    end(job, range(20), 0.1)
    copied(job, 0.0)

    assert copied(job, 100.0) == [20, 21, 22]
    assert copied(job, 200.0) == []


@pytest.mark.parametrize("change", [{"abandoned": True}, {"is_backup": True}, {"backup": "another"}])
def test_what_is_a_copy_or_has_one_or_is_not_wanted_is_not_copied(change):
    job = a_job(10)
    end(job, range(9), 0.1)
    batch: Batch = job.inflight[9]
    for name, value in change.items():
        setattr(batch, name, value)
    copied(job, 0.0)

    assert copied(job, 100.0) == []
