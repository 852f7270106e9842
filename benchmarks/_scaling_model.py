"""A discrete-event model of one job: a driver that invokes, a platform that admits, starts, runs and loses.

Pure functions of a job, a platform, a driver and a seed. Times are seconds. What the driver does follows
``core.job.backups``, ``core.job.commits`` and ``core.compute.remote.base``: backup copies, looks at the storage with
back-off, refused calls again with jitter, lost batches first.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from benchmarks._scaling_terms import BatchResult, Draw, Driver, Job, Platform
from core.job.backups import BACKUP_AFTER, BACKUP_LEAST, BACKUP_SHARE, BACKUP_SLOWNESS
from core.task.commit import POLL_MAX, POLL_MIN

LOOK = 0.05
"""Seconds between two looks for stragglers; a copy starts after two at the earliest."""
LOOK_GROWTH = 1.5
"""Factor between two looks at the storage that found nothing."""
SAMPLE = 1024
"""Durations that the median is taken of."""


@dataclass(slots=True, eq=False)
class _Execution:
    task: int
    attempt: int
    is_backup: bool = False
    refusals: int = 0
    began: float | None = None
    billed_from: float = 0.0
    draw: Draw | None = None
    backup: _Execution | None = None
    is_gone: bool = False
    is_over: bool = False


def simulate(job: Job, platform: Platform, driver: Driver, seed: int = 0) -> BatchResult:
    """Run a job in the model once; the same seed gives the same outcome."""
    return _Simulation(job, platform, driver, Random(seed)).run()


class _Simulation:
    def __init__(self, job: Job, platform: Platform, driver: Driver, random: Random) -> None:
        self.job, self.platform, self.driver, self.random = job, platform, driver, random
        self.out = BatchResult(completed=[0] * job.invocations)
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.order = 0
        self.pending = deque(_Execution(task, 0) for task in range(job.invocations))
        self.queue: deque[_Execution] = deque()
        self.inflight: dict[_Execution, None] = {}
        self.received: deque[_Execution] = deque()
        self.committed: list[_Execution] = []
        self.durations: list[float] = []
        self.threads = [0.0] * min(driver.threads, job.invocations)
        self.idle = self.live = min(platform.warm, platform.slots)
        self.tokens, self.refilled = platform.burst, 0.0
        self.free = driver.start
        self.done = 0
        self.delay = POLL_MIN
        self.next_pump = self.next_check = math.inf

    def at(self, time: float, action: Callable[[float], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (time, self.order, action))

    def run(self) -> BatchResult:
        self.pump(0.0)
        if self.driver.polls:
            self.at(POLL_MIN, self.look)
        while self.done < self.job.invocations:
            time, _, action = heapq.heappop(self.events)
            action(time)
        for execution in self.inflight:  # copies that nobody waits for
            if execution.began is not None and not execution.is_over:
                self.bill(execution, math.inf)
        return self.out

    def pump(self, now: float) -> None:
        """Call what is pending as soon as the driver and a thread are free."""
        if self.next_pump <= now:
            self.next_pump = math.inf
        while self.pending and len(self.inflight) < self.driver.inflight:
            ready = max(self.free, self.threads[0])
            if ready > now:
                if ready < self.next_pump:
                    self.next_pump = ready
                    self.at(ready, self.pump)
                return
            execution = self.pending.popleft()
            if execution.is_gone:
                continue
            self.free = now + self.driver.dispatch
            called = self.free + self.driver.call
            heapq.heapreplace(self.threads, called)
            self.inflight[execution] = None
            self.out.calls += 1
            if not execution.attempt:
                self.out.sent = called
            self.at(called + self.platform.latency, lambda time, e=execution: self.arrive(e, time))
        if not self.pending:
            self.plan_check(now)

    def arrive(self, execution: _Execution, now: float) -> None:
        if execution.is_gone:
            return
        if self.admit(execution, now):
            return
        if self.platform.queues:
            self.queue.append(execution)
            self.wait_for_ramp()
            return
        self.out.throttled += 1
        wait = min(self.driver.retry_most, self.driver.retry_first * 2.0 ** min(execution.refusals, 60))
        execution.refusals += 1
        self.at(now + wait * self.random.uniform(0.5, 1.0), lambda time: self.call_again(execution, time))

    def call_again(self, execution: _Execution, now: float) -> None:
        """Repeat a refused call; it has kept its place among those in flight."""
        self.free = max(self.free, now) + self.driver.dispatch
        self.out.calls += 1
        arrives = self.free + self.driver.call + self.platform.latency
        self.at(arrives, lambda time: self.arrive(execution, time))

    def admit(self, execution: _Execution, now: float) -> bool:
        if self.idle:
            self.idle -= 1
            self.start(execution, now, 0.0)
            return True
        if math.isfinite(self.platform.ramp):
            self.tokens = min(self.platform.burst, self.tokens + (now - self.refilled) * self.platform.ramp)
            self.refilled = now
        if self.live >= self.platform.slots or self.tokens < 1.0 - 1e-9:
            return False
        self.tokens -= 1.0
        self.live += 1
        cold = self.platform.init
        if self.platform.cold_median:
            cold += self.random.lognormvariate(math.log(self.platform.cold_median), self.platform.cold_sigma)
        self.out.cold_starts += cold > 0
        self.start(execution, now, cold)
        return True

    def wait_for_ramp(self) -> None:
        """Admit the first of the queue when the platform may make another environment."""
        if self.live < self.platform.slots and math.isfinite(self.platform.ramp):
            self.at(self.refilled + (1.0 - self.tokens) / self.platform.ramp, self.drain)

    def drain(self, now: float) -> None:
        while self.queue and self.admit(self.queue[0], now):
            self.queue.popleft()
        if self.queue:
            self.wait_for_ramp()

    def start(self, execution: _Execution, now: float, cold: float) -> None:
        execution.began = now
        execution.billed_from = now + max(0.0, cold - self.platform.init)
        if not execution.attempt:
            self.out.started = now
        draw = execution.draw = self.job.draw(execution.task, execution.attempt, self.random)
        lasts = draw.seconds if draw.dies is None else draw.dies
        self.at(now + cold + lasts, lambda time: self.end(execution, time))

    def bill(self, execution: _Execution, now: float) -> None:
        assert execution.draw is not None
        whole = self.platform.init + execution.draw.seconds
        self.out.billed.append(max(0.0, min(now - execution.billed_from, whole)))

    def end(self, execution: _Execution, now: float) -> None:
        if execution.is_gone:
            return
        self.bill(execution, now)
        execution.is_over = True
        assert execution.draw is not None
        if execution.draw.dies is not None:
            self.live -= 1
            self.drain(now)
            self.at(now + self.platform.notice + self.platform.latency, lambda time: self.lose(execution, time))
            return
        self.idle += 1
        self.drain(now)
        if self.driver.polls:
            self.committed.append(execution)
        else:
            self.at(now + self.platform.latency, lambda time: self.reply(execution, time))

    def reply(self, execution: _Execution, now: float) -> None:
        self.received.append(execution)
        if len(self.received) == 1:
            self.at(max(self.free, now), self.take)

    def take(self, now: float) -> None:
        """Take the first of the replies that wait for the driver's one thread."""
        if self.free > now:
            self.at(self.free, self.take)
            return
        self.free = now + self.driver.collect
        self.complete(self.received[0], self.free)
        self.received.popleft()
        if self.received:
            self.at(self.free, self.take)
        self.pump(now)

    def look(self, now: float) -> None:
        """List the storage for results that nobody announces."""
        if self.pending and len(self.inflight) < self.driver.inflight or self.free > now:
            self.at(max(self.free, now + POLL_MIN), self.look)
            return
        found, self.committed = self.committed, []
        self.out.lists += 1
        self.delay = POLL_MIN if found else min(self.delay * LOOK_GROWTH, POLL_MAX)
        self.free = now + self.driver.list_seconds
        for execution in found:
            self.free += self.driver.collect
            self.complete(execution, self.free)
        self.pump(now)
        self.at(self.free + self.delay, self.look)

    def complete(self, execution: _Execution, now: float) -> None:
        self.inflight.pop(execution, None)
        if execution.is_gone:
            return
        assert execution.draw is not None
        if not self.out.completed[execution.task]:
            self.out.completed[execution.task] += 1
            self.done += 1
            self.out.wall = max(self.out.wall, now)
            if len(self.durations) < SAMPLE:
                insort(self.durations, execution.draw.seconds)
        if execution.backup is not None:
            self.withdraw(execution.backup, now)

    def withdraw(self, execution: _Execution, now: float) -> None:
        if execution.began is None:
            execution.is_gone = True
            self.inflight.pop(execution, None)
            if execution in self.queue:
                self.queue.remove(execution)
        elif self.platform.kills and not execution.is_over:
            execution.is_gone = execution.is_over = True
            del self.inflight[execution]
            self.bill(execution, now)
            self.live -= 1
            self.drain(now)

    def lose(self, execution: _Execution, now: float) -> None:
        self.out.lost += 1
        self.inflight.pop(execution, None)
        backup = execution.backup
        if backup is not None and backup in self.inflight:
            backup.backup = None
        elif not self.out.completed[execution.task]:
            self.pending.appendleft(_Execution(execution.task, execution.attempt + 1))
        self.pump(now)

    def plan_check(self, now: float) -> None:
        if self.driver.speculates and self.next_check == math.inf:
            self.next_check = now + LOOK
            self.at(self.next_check, self.check)

    def check(self, now: float) -> None:
        """Make copies of stragglers, as ``Scheduler`` does once half a job is done and all of it is sent."""
        self.next_check = math.inf
        total = self.job.invocations
        if self.pending or self.done == total or self.out.backups + 1 > max(1, BACKUP_SHARE * total):
            return
        wait = LOOK
        if self.done >= BACKUP_AFTER * total and self.durations:
            limit = max(BACKUP_SLOWNESS * self.durations[len(self.durations) // 2], BACKUP_LEAST)
            # A reply that waits for the driver is no straggler; a result in a storage may be taken for one.
            running = [
                e
                for e in self.inflight
                if e.began is not None
                and e.backup is None
                and not e.is_backup
                and not (e.is_over and e.draw and e.draw.dies is None and not self.driver.polls)
            ]
            for execution in running:
                assert execution.began is not None
                if now - execution.began > limit and self.out.backups + 1 <= max(1, BACKUP_SHARE * total):
                    self.out.backups += 1
                    copy = _Execution(execution.task, execution.attempt + 1, is_backup=True, backup=execution)
                    execution.backup = copy
                    self.pending.append(copy)
            soonest = min(
                (e.began + limit for e in running if e.backup is None and e.began is not None), default=now + limit
            )
            wait = max(LOOK, soonest - now)
        self.next_check = now + wait
        self.at(self.next_check, self.check)
        if self.pending:
            self.pump(now)
