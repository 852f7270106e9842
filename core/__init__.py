"""fanfold: run a Python function on thousands of items, here or anywhere, with data in object storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.data.chunks import Chunks
from core.errors import ConfigError, FanfoldError, InputError, TaskError
from core.executor import FunctionExecutor
from core.futures import Future, FutureList
from core.job.queue import Queue
from core.storage.base import open_storage
from core.task.resources import shared_file, worker_resource
from core.types import Partition, RetryPolicy
from core.version import __version__ as __version__

if TYPE_CHECKING:
    from core.events.listeners import EventLog, ProgressBar

__all__ = [
    "Chunks",
    "ConfigError",
    "EventLog",
    "FanfoldError",
    "Future",
    "FutureList",
    "FunctionExecutor",
    "InputError",
    "Partition",
    "ProgressBar",
    "Queue",
    "RetryPolicy",
    "TaskError",
    "open_storage",
    "shared_file",
    "worker_resource",
]


def __getattr__(name: str) -> Any:
    """Load listeners on first use: most workers and many drivers have none."""
    if name in ("EventLog", "ProgressBar"):
        import core.events.listeners

        return getattr(core.events.listeners, name)
    raise AttributeError(f"module 'core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
