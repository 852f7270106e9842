"""Durable jobs as the owner of a storage sees them: who drives each, how far it is, who holds its key."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from core.errors import InputError, NotFound
from core.serialization import MARKER_SIZE
from core.settings import state_dir
from core.storage.base import Storage
from core.task import keys

LEASE = 60.0
"""Seconds for which a driver says it will be alive; it says so again three times as often."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who drives a job and until when, with what a listing shows of it. Readable without the job's key."""

    owner: str
    expires: float
    name: str
    created: float
    tasks: int
    batch_size: int

    def alive(self) -> bool:
        """Whether the owner may still be at work: at once False if it was a process of this machine and is gone."""
        if self.expires < time.time():
            return False
        host, pid, born = self.owner.rsplit(":", 2)
        return host != socket.gethostname() or born == _birth(int(pid))


@dataclass(frozen=True, slots=True)
class JobInfo:
    """One durable job in a listing; times in seconds since the epoch, size in bytes."""

    job_id: str
    name: str
    created: float
    owner: str
    state: Literal["running", "interrupted", "finished"]
    tasks: int
    done: int
    bytes: int
    lease_expires: float


def this_owner() -> str:
    """Return a name of this process that no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}:{_birth(os.getpid())}"


def _birth(pid: int) -> str:
    """Return when a process was started, in the kernel's unit; "" if there is none such, "?" if that is not told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return ""
    except OSError:
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "?"


def write_lease(storage: Storage, job_id: str, lease: Lease) -> None:
    """Say who drives a job."""
    storage.put(keys.lease(job_id), json.dumps(asdict(lease)).encode())


def read_lease(storage: Storage, job_id: str) -> Lease | None:
    """Return a job's lease, None if it has none that can be read."""
    try:
        return Lease(**json.loads(storage.get(keys.lease(job_id))))
    except (NotFound, ValueError, TypeError):
        return None


def keep_key(job_id: str, address: str, key: bytes) -> None:
    """Remember a job's key and place for this user, readable by nobody else."""
    folder = state_dir() / "jobs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{job_id}.json"
    descriptor = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump({"storage": address, "key": key.hex()}, file)
    os.replace(path.with_suffix(".new"), path)


def find_key(job_id: str) -> tuple[str, bytes]:
    """Return (storage address, key) of a job.

    Raises
    ------
    InputError
        This user has no key of such a job.
    """
    path = state_dir() / "jobs" / f"{os.path.basename(job_id)}.json"
    try:
        known = json.loads(path.read_text("utf-8"))
        return known["storage"], bytes.fromhex(known["key"])
    except FileNotFoundError:
        raise InputError(
            f"no job {job_id!r} is known to this user: its key would be {path}; "
            "'fanfold jobs' lists those that are, and a finished job is forgotten when its executor closes"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the key of job {job_id!r} in {path} cannot be read: {error}") from error


def forget_key(job_id: str) -> None:
    """Delete a job's key, if there is one."""
    (state_dir() / "jobs" / f"{job_id}.json").unlink(missing_ok=True)


def list_jobs(storage: Storage) -> Iterator[JobInfo]:
    """Yield the durable jobs of a storage, the oldest first."""
    after = keys.ROOT
    while (first := next(storage.list(keys.ROOT, after), None)) is not None:
        job_id = keys.job_of(first.key)
        after = keys.prefix(job_id) + "\uffff"
        yield _inspect(storage, job_id)


def _inspect(storage: Storage, job_id: str) -> JobInfo:
    size = singles = 0
    whole: set[int] = set()
    for info in storage.list(keys.prefix(job_id)):
        size += info.size
        if info.key.startswith(keys.commits(job_id)) and info.size != MARKER_SIZE and not keys.is_loss(info.key):
            batch, item = keys.parse_commit(info.key)
            if item is None:
                whole.add(batch)
            else:
                singles += 1
    lease = read_lease(storage, job_id) or Lease("::", 0.0, "?", 0.0, 0, 1)
    done = singles + sum(max(0, min(lease.batch_size, lease.tasks - batch * lease.batch_size)) for batch in whole)
    state: Literal["running", "interrupted", "finished"] = "interrupted"
    if done >= lease.tasks > 0:
        state = "finished"
    elif lease.alive():
        state = "running"
    return JobInfo(
        job_id, lease.name, lease.created, lease.owner.rpartition(":")[0], state, lease.tasks, done, size, lease.expires
    )


def remove_job(storage: Storage, job_id: str) -> None:
    """Delete everything of a job, and its key."""
    storage.delete(info.key for info in storage.list(keys.prefix(job_id)))
    forget_key(job_id)
