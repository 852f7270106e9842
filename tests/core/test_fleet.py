"""Units of a platform that gives no answers: how many batches each gets, and when they are looked at."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.compute.cluster.base import LONGEST, POLL_MAX, WAVES, WORTHWHILE, ClusterBackend, WorkerJob, WorkerJobEnd
from core.settings import Address, ExecutorConfig
from core.task.protocol import DurableRef, Invocation


class Platform(ClusterBackend):
    """Starts units at once and ends them when it is told to."""

    def __init__(self) -> None:
        super().__init__(Address("platform"), ExecutorConfig(), workers=2)
        self.launched: list[WorkerJob] = []
        self.ended: dict[int, WorkerJobEnd] = {}
        self.looks = 0

    def launch(self, worker_jobs: Sequence[WorkerJob]) -> None:
        for worker_job in worker_jobs:
            worker_job.ident = f"unit-{worker_job.number}"
        self.launched += worker_jobs

    def observe(self, worker_jobs: Sequence[WorkerJob]) -> dict[int, WorkerJobEnd]:
        self.looks += 1
        return {
            worker_job.number: self.ended[worker_job.number]
            for worker_job in worker_jobs
            if worker_job.number in self.ended
        }

    def end(self, worker_jobs: Sequence[WorkerJob]) -> None:
        return None


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time that the backend sees, in a list to change it."""
    clock = [1000.0]
    monkeypatch.setattr("core.compute.cluster.base.time.monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def platform(now: list[float]) -> Platform:
    return Platform()


def fill(platform: Platform) -> int:
    """Give the platform as many batches as it accepts; returns how many."""
    count = platform.capacity()
    for _ in range(count):
        number = sum(len(worker_job.batches) for worker_job in platform.launched) + len(platform._queued)
        ref = DurableRef("file:///x", "job", b"k", number)
        platform.invoke(Invocation(number, "job", b"", "", [number], 0, durable=ref))
    platform.poll(0)
    return count


def finish(platform: Platform, now: list[float], seconds: float, reason: str | None = None) -> None:
    now[0] += seconds
    for worker_job in platform.launched:
        platform.ended[worker_job.number] = WorkerJobEnd(reason)  # type: ignore[arg-type]
    platform.poll(0)


@pytest.mark.parametrize(
    ("seconds", "reason", "then"),
    [(WORTHWHILE / 10, None, 2 * WAVES), (2 * WORTHWHILE, None, WAVES), (WORTHWHILE / 10, "died", WAVES)],
)
def test_units_that_end_soon_and_well_are_followed_by_longer_ones(
    seconds: float, reason: str | None, then: int, platform: Platform, now: list[float]
) -> None:
    assert fill(platform) == WAVES * 2

    finish(platform, now, seconds, reason)

    assert platform.capacity() == then * 2


def test_lists_do_not_grow_without_end(platform: Platform, now: list[float]) -> None:
    for _ in range(10):
        fill(platform)
        finish(platform, now, 1.0)

    assert platform.capacity() == LONGEST * 2


def test_a_unit_whose_results_are_all_known_is_looked_at_at_once(platform: Platform, now: list[float]) -> None:
    fill(platform)
    for _ in range(20):  # nothing ends, so looks become rare
        now[0] += 10
        platform.poll(0)
    looks = platform.looks
    *most, last = platform.launched[0].batches

    for batch in most:
        platform.revoke(batch)
    now[0] += 0.2
    platform.poll(0)
    before = platform.looks
    platform.revoke(last)
    now[0] += 0.2
    platform.poll(0)

    assert (before, platform.looks) == (looks, looks + 1)


def test_batches_that_cannot_be_launched_now_keep_no_processor_busy(
    monkeypatch: pytest.MonkeyPatch, platform: Platform, now: list[float]
) -> None:
    waits: list[float | None] = []
    mailbox = type("Silent", (), {"poll": lambda _, wait: waits.append(wait) or []})()
    monkeypatch.setattr(platform, "launch", lambda worker_jobs: None)
    fill(platform)
    monkeypatch.setattr(platform, "_mailbox", mailbox)
    now[0] += 1.0

    platform.poll(None)

    assert waits == [POLL_MAX - 1.0]
