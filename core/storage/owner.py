"""Processes by a name that no other has, and a lease lock: one process alone works below a prefix of a storage."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from dataclasses import asdict, dataclass

from core.errors import AccessDenied, IntegrityError, NotFound, PreconditionFailed
from core.storage.base import Storage
from core.storage.reading import LARGEST_TEXT, is_number, is_text, read_fields

LEASE = 60.0
"""Seconds for which a driver says it will be alive, and a watcher that it looks on; both say so again three times as
often."""

LONGEST_LEASE = 3600.0
"""Seconds ahead of this machine's clock that a lease may end. Where clocks differ by more, a job may get a second
driver, which costs work and changes no result; a forged lease keeps a driver from its job no longer."""

LATEST_TIME = 1e11
"""Seconds since the epoch; later is no date of anything."""

LONGEST_NAME = 200


def owner_lives(owner: str) -> bool:
    """Whether a process may be at work: False if it was one of this machine and is gone; others are believed."""
    host, _, process = owner.partition(":")
    pid, _, born = process.partition(":")
    return host != socket.gethostname() or not pid.isdecimal() or born == birth(int(pid))


def this_owner() -> str:
    """Return a name of this process that no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}:{birth(os.getpid())}"


_ENDED = (b"Z", b"X")
"""States of a process that has ended and that its parent has not asked for yet (Linux: proc_pid_stat(5))."""


def birth(pid: int) -> str:
    """Return when a process was started, in the kernel's unit; "" if none such is at work, "?" if that is not told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *rest = file.read().rpartition(b")")[2].split()
            return "" if state in _ENDED else rest[18].decode()
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


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease lock.

    Attributes
    ----------
    owner : str
        Host, process and the kernel's time of its start, separated by colons.
    token : str
        Tells one lock from another of the same process.
    since, expires : float
        Seconds since the epoch.
    note : str
        What it last said of its work.
    """

    owner: str
    token: str
    since: float
    expires: float
    note: str = ""

    def alive(self) -> bool:
        """Whether it may still be at work: at once False if it was a process of this machine and is gone."""
        return time.time() <= self.expires <= time.time() + LONGEST_LEASE and owner_lives(self.owner)

    def __str__(self) -> str:
        host, _, process = self.owner.partition(":")
        return f"process {process.partition(':')[0]} on {host}"


_NUMBER = re.compile(r"([0-9]{6})\.json")
_TIME = is_number(0, LATEST_TIME)
_HOLDER = {
    "owner": is_text(LONGEST_NAME),
    "token": is_text(LONGEST_NAME),
    "since": _TIME,
    "expires": _TIME,
    "note": is_text(LONGEST_NAME),
}


class LeaseLock:
    """A lock in a storage that ends with its holder.

    Each holder has an object of its own, numbered on and written by put-if-absent, so of two that find the lock free
    only one gets it. Who was taken for dead and is not finds a later one than its own at its next `renew`.

    Parameters
    ----------
    storage : Storage
    prefix : str
        Below which its objects are, with the trailing ``/``.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        self._storage, self._prefix = storage, prefix
        self._number, self._held = 0, Holder("", "", 0.0, 0.0)

    def holder(self) -> Holder | None:
        """Return who holds the lock and lives."""
        _, found = self._latest()
        return found if found is not None and found.alive() else None

    def last(self) -> Holder | None:
        """Return who held the lock last, alive or not, unless it was released."""
        return self._latest()[1]

    def take(self, note: str = "", lease: float = LEASE) -> Holder | None:
        """Take the lock, for so many seconds unless it is renewed; returns None, or who has it."""
        while True:
            number, found = self._latest()
            if found is not None and found.alive():
                return found
            now = time.time()
            mine = Holder(this_owner(), secrets.token_hex(8), now, now + lease, note[:LONGEST_NAME])
            try:
                self._storage.put(self._key(number + 1), _written(mine), if_absent=True)
            except PreconditionFailed:
                continue
            others = [(key, of) for key, of in self._objects() if of != number + 1]
            if any((rival := self._read(key)) is not None and rival.alive() for key, _ in others):
                # Others took and released the lock since it was looked at, and so began to count anew.
                self._storage.delete([self._key(number + 1)])
                continue
            self._number, self._held = number + 1, mine
            self._storage.delete(key for key, of in others if of <= number)
            return None

    def renew(self, note: str = "") -> bool:
        """Hold the lock for another `LEASE` seconds; returns False if another has taken it since."""
        _, found = self._latest()
        if found is None or found.token != self._held.token:
            return False
        self._held = Holder(
            self._held.owner, self._held.token, self._held.since, time.time() + LEASE, note[:LONGEST_NAME]
        )
        self._storage.put(self._key(self._number), _written(self._held))
        if any(number > self._number for _, number in self._objects()):
            # Another took it between the look and the write; when it is released, this would be taken for a holder.
            self._storage.delete([self._key(self._number)])
            return False
        return True

    def release(self) -> None:
        """Give the lock up, if it is still held."""
        _, found = self._latest()
        if found is not None and found.token == self._held.token:
            self._storage.delete([self._key(self._number)])

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:06d}.json"

    def _objects(self) -> list[tuple[str, int]]:
        found = (
            (info.key, _NUMBER.fullmatch(info.key[len(self._prefix) :])) for info in self._storage.list(self._prefix)
        )
        return [(key, int(match[1])) for key, match in found if match]

    def _latest(self) -> tuple[int, Holder | None]:
        """Return the number and the holder of the latest object; one that nobody can have written holds nothing."""
        key, number = max(self._objects(), key=lambda each: each[1], default=("", 0))
        return number, self._read(key) if key else None

    def _read(self, key: str) -> Holder | None:
        try:
            return Holder(**read_fields(self._storage.get(key, 0, LARGEST_TEXT + 1), key, _HOLDER))
        except (NotFound, IntegrityError, AccessDenied):
            return None


def _written(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()
