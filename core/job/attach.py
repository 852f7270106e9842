"""Who drives a durable job: the executor that made it, or one that attached to it and looks on while another lives."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace

from core.errors import AccessDenied, InputError, NotFound, StorageError
from core.storage.base import Storage
from core.storage.owner import LEASE
from core.task import keys
from core.task.commit import POLL_MAX, POLL_MIN
from core.task.leases import Lease, close_job, read_lease, remove_job, unwatch, watch, write_lease


def new_holder() -> str:
    """Return a name that no other executor has."""
    return os.urandom(8).hex()


class Tenure:
    """One executor's part in a durable job: it drives, or it looks on, and takes over from a driver that died.

    Attributes
    ----------
    is_watching : bool
        Whether another drives.
    next_look : float
        Monotonic time at which `renew` wants to be called.

    Parameters
    ----------
    lease : Lease
        What a driver of the job writes, `holder` included.
    """

    def __init__(self, storage: Storage, job_id: str, lease: Lease) -> None:
        self._storage, self._job_id = storage, job_id
        self._lease = lease
        self.is_watching = self._is_attached = False
        self._renew_at = self.next_look = time.monotonic() + LEASE / 3

    def attach(self) -> None:
        """Look on, or drive the job if nobody who lives does.

        Raises
        ------
        InputError
            The job was removed, or its driver is about to.
        """
        self._is_attached = True
        self._watch()
        try:
            if not self._has_record():
                raise self._removed()
            self.is_watching = True
            self.renew()
        except BaseException:
            self._unwatch()
            raise

    def renew(self) -> bool:
        """Say again who drives or looks on; returns whether this executor has just become the driver.

        Raises
        ------
        InputError
            The job was removed.
        """
        now = time.monotonic()
        if self._is_attached and now >= self._renew_at:
            self._watch()
            self._renew_at = now + LEASE / 3
        watched, self.is_watching = self.is_watching, self._other() is not None
        if not self.is_watching:
            self._write(LEASE)
        elif not self._is_attached:  # it was away for so long that another took over
            self._is_attached = True
            self._watch()
        self.next_look = now + (POLL_MAX if self.is_watching else LEASE / 3)
        return watched and not self.is_watching

    def _is_driven(self) -> bool:
        """Whether another drives the job, and is not just parting from it."""
        delay = POLL_MIN
        while (other := self._other()) is not None and not self._has_record():
            time.sleep(delay)
            delay = min(2 * delay, POLL_MAX)
        return other is not None

    def _has_record(self) -> bool:
        try:
            self._storage.head(keys.record(self._job_id))
        except NotFound:
            return False
        return True

    def _removed(self) -> InputError:
        where = f"{self._job_id} was removed from {self._storage.address}"
        return InputError(f"job {where}, by its driver or by a clean-up")

    def _other(self) -> Lease | None:
        """Return the lease of another driver that lives."""
        lease = read_lease(self._storage, self._job_id)
        if lease is None and not self._has_record():
            raise self._removed()
        return lease if lease is not None and lease.holder != self._lease.holder and lease.alive() else None

    def _write(self, seconds: float) -> None:
        expires = time.time() + seconds if seconds else 0.0
        write_lease(self._storage, self._job_id, replace(self._lease, expires=expires))

    def _watch(self) -> None:
        with suppress(AccessDenied):  # whoever may only read looks on all the same, at their own risk
            watch(self._storage, self._job_id, self._lease.holder)

    def _unwatch(self) -> None:
        if self._is_attached:
            with suppress(StorageError):
                unwatch(self._storage, self._job_id, self._lease.holder)

    def close(self) -> None:
        """Part from a job that has ended: remove it, unless somebody else looks on or drives."""
        self._unwatch()
        with suppress(InputError):  # the driver has removed it meanwhile
            if not self.is_watching or not self._is_driven():
                close_job(self._storage, self._job_id, self._lease)

    def release(self) -> None:
        """Part from a job that others may take up."""
        self._unwatch()
        if not self.is_watching:
            with suppress(StorageError):
                if read_lease(self._storage, self._job_id) is not None:  # else it was removed, and must not come back
                    self._write(0.0)

    def remove(self) -> None:
        """Delete a job, whoever looks on."""
        remove_job(self._storage, self._job_id)
