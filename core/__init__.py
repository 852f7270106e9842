"""fanfold: run a Python function on thousands of items, here or anywhere, with data in object storage."""

from core.errors import ConfigError, FanfoldError, InputError, TaskError
from core.executor import FunctionExecutor
from core.futures import Future, FutureList, wait
from core.progress import EventLog, ProgressBar
from core.storage.base import open_storage
from core.types import Partition, RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "EventLog",
    "FanfoldError",
    "Future",
    "FutureList",
    "FunctionExecutor",
    "InputError",
    "Partition",
    "ProgressBar",
    "RetryPolicy",
    "TaskError",
    "open_storage",
    "wait",
]
