"""Durable jobs as the owner of a storage sees them: who drives each, who looks on, how far it is."""

from __future__ import annotations

import calendar
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Literal

from core.errors import AccessDenied, FanfoldError, IntegrityError, NotFound, printable
from core.serialization import MARKER_SIZE
from core.storage.base import Storage
from core.storage.owner import LATEST_TIME, LEASE, LONGEST_LEASE, LONGEST_NAME, owner_lives, this_owner
from core.storage.reading import LARGEST_TEXT, is_count, is_number, is_text, read_fields
from core.task import keys
from core.task.jobkeys import forget_key
from core.types import ObjectInfo

_logger = logging.getLogger("fanfold")

_MOST_TASKS = 1 << 40
_MOST_WATCHERS = 32
"""Marks that are read; whoever finds so many knows enough."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who drives a job and until when, with what a listing shows of it. Readable without the job's key.

    `owner` is a process and `holder` one of its executors.
    """

    owner: str
    expires: float
    name: str
    created: float
    tasks: int
    batch_size: int
    holder: str = ""

    def alive(self) -> bool:
        """Whether the owner may still be at work: at once False if it was a process of this machine and is gone."""
        return self.expires >= time.time() and owner_lives(self.owner)


_OWNER = re.compile(r"[^:]*:[0-9]+:[0-9?]*")
_TIME = is_number(0, LATEST_TIME)
_MARK = {"owner": is_text(LONGEST_NAME), "expires": _TIME}
_LEASE = {
    **_MARK,
    "name": is_text(LONGEST_NAME),
    "created": _TIME,
    "tasks": is_count(0, _MOST_TASKS),
    "batch_size": is_count(1, _MOST_TASKS),
    "holder": is_text(LONGEST_NAME),
}


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One durable job in a listing; times in seconds since the epoch, size in bytes.

    `watchers` counts those who look on; `problem` says in one sentence what is wrong with its objects, if anything is.
    """

    job_id: str
    name: str
    created: float
    owner: str
    state: Literal["running", "interrupted", "finished"]
    tasks: int
    done: int
    bytes: int
    lease_expires: float
    watchers: int = 0
    problem: str = ""


def write_lease(storage: Storage, job_id: str, lease: Lease) -> None:
    """Say who drives a job."""
    storage.put(keys.lease(job_id), json.dumps(asdict(lease)).encode())


def read_lease(storage: Storage, job_id: str) -> Lease | None:
    """Return a job's lease, None if it has none that can be read; one that cannot is named in the log."""
    lease, problem = _read_lease(storage, job_id)
    if problem:
        _logger.warning("%s", problem)
    return lease


def _read_lease(storage: Storage, job_id: str) -> tuple[Lease | None, str]:
    """Return a lease, or None and what is wrong with it; nothing is if there is none."""
    place = keys.lease(job_id)
    try:
        lease = Lease(**read_fields(storage.get(place, 0, LARGEST_TEXT + 1), place, _LEASE))
        if not _OWNER.fullmatch(lease.owner) or lease.expires > time.time() + LONGEST_LEASE:
            raise IntegrityError(f"{printable(place)} cannot be used: nobody writes such an owner or such an end")
        return lease, ""
    except NotFound:
        return None, ""
    except (IntegrityError, AccessDenied) as error:
        return None, printable(error)


def watch(storage: Storage, job_id: str, holder: str) -> None:
    """Say, or say again, that somebody looks on."""
    mark = {"owner": this_owner(), "expires": time.time() + LEASE}
    storage.put(keys.watcher(job_id, holder), json.dumps(mark).encode())


def unwatch(storage: Storage, job_id: str, holder: str) -> None:
    """Say that one who looked on does so no more."""
    storage.delete([keys.watcher(job_id, holder)])


def _is_watching(storage: Storage, place: str) -> bool:
    try:
        mark = read_fields(storage.get(place, 0, LARGEST_TEXT + 1), place, _MARK)
    except (NotFound, IntegrityError, AccessDenied):
        return False
    now = time.time()
    return bool(now <= mark["expires"] <= now + LONGEST_LEASE and owner_lives(mark["owner"]))


def list_jobs(storage: Storage) -> Iterator[JobInfo]:
    """Yield the durable jobs of a storage, the oldest first; one that cannot be read comes with its `problem`."""
    after = keys.ROOT
    while (first := next(storage.list(keys.ROOT, after), None)) is not None:
        job_id = keys.job_of(first.key)
        after = keys.beyond(job_id)
        try:
            yield _Contents(storage, job_id).info()
        except FanfoldError as error:
            made = _made_at(job_id)
            problem = f"it cannot be looked through: {printable(error)}"
            yield JobInfo(job_id, "?", made, "?", "interrupted", 0, 0, 0, made, 0, problem)


class _Contents:
    """What is in storage of one job."""

    def __init__(self, storage: Storage, job_id: str) -> None:
        self._storage, self._job_id = storage, job_id
        self._bytes = self._singles = self._strays = 0
        self._whole: set[int] = set()
        self._marks: list[str] = []
        self._stray = ""
        for info in storage.list(keys.prefix(job_id)):
            self._count(info)

    def _count(self, info: ObjectInfo) -> None:
        self._bytes += info.size
        if not keys.is_known(info.key):
            self._strays, self._stray = self._strays + 1, self._stray or info.key
        elif info.key.startswith(keys.watchers(self._job_id)):
            self._marks += [info.key] if len(self._marks) < _MOST_WATCHERS else []
        elif info.size != MARKER_SIZE and (commit := keys.parse_commit(info.key)) and commit.attempt is None:
            if commit.item is None:
                self._whole.add(commit.batch)
            else:
                self._singles += 1

    def info(self) -> JobInfo:
        job_id = self._job_id
        known, problem = _read_lease(self._storage, job_id)
        made = _made_at(job_id)
        lease = known or Lease("::", made, "?", made, 0, 1)
        size, tasks = lease.batch_size, lease.tasks
        done = self._singles + sum(max(0, min(size, tasks - batch * size)) for batch in self._whole)
        state: Literal["running", "interrupted", "finished"] = "interrupted"
        if done >= tasks > 0:
            state = "finished"
        elif lease.alive():
            state = "running"
        owner = lease.owner.rpartition(":")[0]
        watchers = count_watchers(self._storage, job_id, self._marks)
        problem = problem or self._problem()
        return JobInfo(
            *(job_id, lease.name, lease.created, owner, state, tasks, done, self._bytes, lease.expires, watchers),
            problem,
        )

    def _problem(self) -> str:
        if not keys.is_job_id(self._job_id):
            return "no job has such a name"
        return f"{self._strays} of its objects are no job's, such as {printable(self._stray)}" if self._strays else ""


def count_watchers(storage: Storage, job_id: str, found: Iterable[str]) -> int:
    """Return how many look on, of those whose marks are among the keys of a job."""
    marks = [key for key in found if key.startswith(keys.watchers(job_id))]
    return sum(_is_watching(storage, key) for key in marks[:_MOST_WATCHERS])


def _made_at(job_id: str) -> float:
    """Return when a job was made, as its name says, in seconds since the epoch; 0 if it does not."""
    try:
        return float(calendar.timegm(time.strptime(job_id[:15], "%Y%m%d-%H%M%S")))
    except ValueError:
        return 0.0


def remove_job(storage: Storage, job_id: str) -> None:
    """Delete everything of a job, and its key."""
    below = (info.key for info in storage.list(keys.prefix(job_id)))
    storage.delete(chain(below, [keys.prefix(job_id)[:-1]]))  # the last is a stray that is called like a job
    forget_key(job_id)


def close_job(storage: Storage, job_id: str, lease: Lease) -> bool:
    """Remove a job that has ended, unless somebody looks on: then all but its record is left to the last who does.

    The record goes before the watchers are counted, and whoever comes to look on says so before they see that it is
    there. So one of the two sees the other. Returns whether the job was removed.
    """
    storage.delete([keys.record(job_id)])
    found = [info.key for info in storage.list(keys.prefix(job_id))]
    if count_watchers(storage, job_id, found):
        write_lease(storage, job_id, replace(lease, expires=0.0))
        return False
    storage.delete(found)
    forget_key(job_id)
    return True
