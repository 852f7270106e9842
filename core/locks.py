"""Locks of a whole process: a child that was forked while another thread held one finds it free."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

Lock = TypeVar("Lock")

_locks: list[Any] = []


def process_lock(kind: Callable[[], Lock]) -> Lock:
    """Return a new lock, for a module to keep."""
    lock = kind()
    _locks.append(lock)
    return lock


@functools.cache
def watch_forks() -> None:
    """See to forks from now on, once; before anything runs no thread can hold a lock."""
    os.register_at_fork(after_in_child=_free_all)


def _free_all() -> None:
    for lock in _locks:
        lock._at_fork_reinit()  # as the standard library frees those of its own modules
