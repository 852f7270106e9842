"""The limits on a task's time and memory, as the driver watches them from outside."""

from __future__ import annotations

from core.compute.local.wire import Doing
from core.compute.local.workers import STATUS_TIMEOUT, WorkerProcess, resident_bytes
from core.task.protocol import LossReason

MEMORY_INTERVAL = 0.02
"""Seconds between two looks at the memory of a worker whose task has a limit."""

_SECOND_LOOK = 0.001
"""Seconds between the two readings that it takes to find a task over its time."""


def next_look(worker: WorkerProcess, now: float, watches_memory: bool) -> float:
    """Return the monotonic time at which a worker wants to be looked at again."""
    until = min(worker.kill_at, worker.lost_at + STATUS_TIMEOUT)
    if worker.suspect is not None:
        until = min(until, now + _SECOND_LOOK)
    if not worker.held:
        return until
    invocation = next(iter(worker.held.values()))  # the others begin after its reply
    if watches_memory and invocation.memory is not None:
        until = min(until, now + MEMORY_INTERVAL)
    if invocation.timeout is not None:
        doing = worker.task_status.read()
        begun = doing.started if doing.position >= 0 else now
        until = min(until, max(begun + invocation.timeout, now + _SECOND_LOOK))
    return until


def limit_passed(worker: WorkerProcess, now: float, watches_memory: bool) -> tuple[LossReason, str] | None:
    """Return which limit the running task of a worker has passed, and what to say of it."""
    number, invocation = next(iter(worker.held.items()), (-1, None))
    if invocation is None or (invocation.timeout is None and invocation.memory is None):
        worker.suspect = None
        return None
    doing = worker.task_status.read()
    if doing.number != number or worker.end_reason is not None:
        worker.suspect = None
    elif invocation.timeout is not None and _is_late(worker, doing, now - invocation.timeout):
        return "timeout", f"it ran longer than its timeout of {invocation.timeout:g} s"
    elif invocation.memory is not None and worker.pid and watches_memory:
        used = resident_bytes(worker.pid) - worker.baseline
        if used > invocation.memory:
            limit = f"{invocation.memory / 1e6:.0f} MB"
            return "memory", f"it used {used / 1e6:.0f} MB, over its memory limit of {limit}"
    return None


def _is_late(worker: WorkerProcess, doing: Doing, latest: float) -> bool:
    """Whether the running task began before `latest`, as two readings of its status agree."""
    if doing.position < 0 or doing.started >= latest:
        worker.suspect = None
        return False
    is_sure, worker.suspect = worker.suspect == doing, doing
    return is_sure
