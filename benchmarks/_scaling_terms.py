"""What the scaling model is told of a job, a platform and a driver, and what it answers. Times are seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from core.compute.remote.base import BACKOFF_MAX, BACKOFF_MIN


@dataclass(frozen=True, slots=True)
class Draw:
    """How long an execution takes; `dies` is the time after which its worker is gone, None if it is not."""

    seconds: float
    dies: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Invocations, and what becomes of each: a function of its number, its attempt (0 the first) and a generator."""

    invocations: int
    draw: Callable[[int, int, Random], Draw]


@dataclass(frozen=True, slots=True)
class Platform:
    """What runs invocations.

    Attributes
    ----------
    slots : int
        Executions at a time.
    warm : int
        Environments that are ready when the job starts.
    cold_median, cold_sigma, init : float
        A new environment takes a lognormal time and then the worker's own start.
    burst, ramp : float
        New environments at once, and a second after that.
    latency : float
        From the end of a call by the driver to its admission, and from an execution's end to its reply.
    queues : bool
        What exceeds `slots` waits; else it is refused (429) and the driver calls again.
    kills : bool
        A copy that lost the race is ended; else it runs on and is billed.
    notice : float
        From a worker's death to the driver's or the platform's next attempt.
    """

    slots: int
    warm: int = 0
    cold_median: float = 0.0
    cold_sigma: float = 0.0
    init: float = 0.0
    burst: float = math.inf
    ramp: float = math.inf
    latency: float = 0.0
    queues: bool = True
    kills: bool = True
    notice: float = 0.0


@dataclass(frozen=True, slots=True)
class Driver:
    """What invokes.

    Attributes
    ----------
    start : float
        From the call of ``map`` to the first invocation, and from the last result to the caller.
    dispatch, collect : float
        The driver's own time for a call, for a result; one at a time.
    threads : int
        Calls under way at the same time, each for `call` seconds.
    inflight : int
        Invocations that are not known to have ended.
    retry_first, retry_most : float
        A refused call is repeated after the first, then twice that, and so on up to the last, or down to half of it.
    polls : bool
        Results are found by listing a storage, `list_seconds` each time; else replies bring them.
    speculates : bool
        Backup copies are made.
    """

    start: float = 0.0
    dispatch: float = 0.0
    collect: float = 0.0
    threads: int = 1 << 30
    call: float = 0.0
    inflight: int = 1 << 30
    retry_first: float = BACKOFF_MIN
    retry_most: float = BACKOFF_MAX
    polls: bool = False
    list_seconds: float = 0.0
    speculates: bool = False


@dataclass(slots=True)
class BatchResult:
    """What came of a job: its wall time, and what explains it.

    `sent` and `started` are the times at which the last invocation was first called and first admitted; `completed`
    counts how often each was completed; `billed` holds the seconds of each execution, its worker's start included.
    """

    wall: float = 0.0
    sent: float = 0.0
    started: float = 0.0
    calls: int = 0
    cold_starts: int = 0
    throttled: int = 0
    lost: int = 0
    backups: int = 0
    lists: int = 0
    completed: list[int] = field(default_factory=list)
    billed: list[float] = field(default_factory=list)


def random_job(
    invocations: int,
    seconds: float,
    *,
    spread: float = 0.0,
    straggler_share: float = 0.0,
    slowdown: float = 1.0,
    tail: float = 0.0,
    failure_share: float = 0.0,
) -> Job:
    """Return a job of equal invocations on unequal workers.

    Parameters
    ----------
    invocations : int
        How many.
    seconds, spread : float
        Median time of one, and the standard deviation of its logarithm.
    straggler_share, slowdown, tail : float
        This share takes at least `slowdown` times as long, by Pareto's law with exponent `tail` (0: exactly).
    failure_share : float
        This share loses its worker, at any time while it runs.
    """

    def draw(task: int, attempt: int, random: Random) -> Draw:
        lasts = seconds * math.exp(random.gauss(0.0, spread)) if spread else seconds
        if random.random() < straggler_share:
            lasts *= slowdown * (random.paretovariate(tail) if tail else 1.0)
        return Draw(lasts, lasts * random.random() if random.random() < failure_share else None)

    return Job(invocations, draw)
