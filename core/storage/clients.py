"""The clients of storages that a process keeps, and what they have asked for."""

from __future__ import annotations

import os

from core.storage.base import Storage, open_storage

_OPEN_STORAGES = 8


def process_storage(address: str) -> Storage:
    """Return this process's client for a storage; one inherited by a fork is never used.

    In a worker what it asks for is counted as its task's, and so is on the bill.
    """
    name = address, os.getpid()
    storage = _clients.get(name)
    if storage is None:
        storage = _clients.setdefault(name, open_storage(address))
        while len(_clients) > _OPEN_STORAGES:
            _retire(next(iter(_clients)))
    return storage


def spent() -> tuple[int, int, int]:
    """Return the requests, bytes read and bytes written of this process's clients so far."""
    requests, read, written = _retired
    for storage in list(_clients.values()):
        requests += storage.requests
        read += storage.bytes_in
        written += storage.bytes_out
    return requests, read, written


_clients: dict[tuple[str, int], Storage] = {}
_retired = (0, 0, 0)


def _retire(name: tuple[str, int]) -> None:
    global _retired
    storage = _clients.pop(name, None)
    if storage is not None:
        requests, read, written = _retired
        _retired = requests + storage.requests, read + storage.bytes_in, written + storage.bytes_out
