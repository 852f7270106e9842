"""Where objects live: the storage protocol and its drivers.

What stands in ``__all__`` is public, for those who keep a state of their own in a storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.errors import NotFound, PreconditionFailed, StorageError
from core.storage.address import join_address, split_address
from core.storage.base import Storage, open_storage
from core.storage.clients import process_storage
from core.types import ObjectInfo

if TYPE_CHECKING:
    from core.storage.owner import Holder, LeaseLock
    from core.storage.probe import check_put_if_absent

__all__ = [
    "Holder",
    "LeaseLock",
    "NotFound",
    "ObjectInfo",
    "PreconditionFailed",
    "Storage",
    "StorageError",
    "check_put_if_absent",
    "join_address",
    "open_storage",
    "process_storage",
    "split_address",
]

_LATER = {"Holder": "owner", "LeaseLock": "owner", "check_put_if_absent": "probe"}


def __getattr__(name: str) -> Any:
    """Load on first use what most processes have no use for."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"core.storage.{_LATER[name]}"), name)
    raise AttributeError(f"module 'core.storage' has no attribute {name!r}")
