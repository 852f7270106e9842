"""Which batches of a job get a backup copy: those that take far longer than the others, when most are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from core.job.job import Batch, Job

BACKUP_AFTER = 0.5
"""Backup copies start when this share of a job is done (as in MapReduce: J. Dean, S. Ghemawat, OSDI 2004)."""

BACKUP_SLOWNESS = 3.0
"""A batch is a straggler at this many times the median duration of its tasks."""

BACKUP_SHARE = 0.1
"""At most this share of a job's tasks get a backup copy."""

BACKUP_LEAST = 1.0
"""Seconds that a batch runs at least before it is copied: a copy would hardly be sooner (a container takes about half a
second to its first result), and a busy machine, or a worker that is replaced, keeps quick tasks waiting for less."""

STRAGGLER_INTERVAL = 0.05
"""Seconds between two looks for stragglers."""


def wants_looking(job: Job) -> bool:
    """Whether a job may have stragglers."""
    total = job.total
    return bool(job.options.speculate and job.idle and total and job.ended >= BACKUP_AFTER * total and job.durations)


def stragglers(job: Job, is_running: Callable[[int], bool], now: float) -> Iterator[Batch]:
    """Yield batches to copy; each counts against the job's share at once.

    Parameters
    ----------
    is_running : callable
        Whether a worker has begun the batch of a number.
    now : float
        Monotonic time.
    """
    median = sorted(job.durations)[len(job.durations) // 2]
    for batch in list(job.inflight.values()):
        if batch.running_since is None and is_running(batch.batch_id):
            batch.running_since = now
        if batch.backup is not None or batch.abandoned or batch.is_backup or not _is_slow(batch, median, now):
            continue
        if job.backups + len(batch.task_ids) <= max(1, BACKUP_SHARE * (job.total or 0)):
            job.backups += len(batch.task_ids)
            yield batch


def _is_slow(batch: Batch, median: float, now: float) -> bool:
    usual = max(BACKUP_SLOWNESS * median * len(batch.task_ids), BACKUP_LEAST)
    return batch.running_since is not None and now - batch.running_since > usual
