"""Every exception the product raises.

::

    FanfoldError
    ├── ConfigError                 a setting, flag or address that cannot work
    │   └── MissingExtra            an optional package is not installed
    ├── InputError                  the data given to a job cannot be used
    │   └── ObjectChanged           an object changed while a job was reading it
    ├── SerializationError          a function, item, result or exception cannot be pickled
    ├── IntegrityError              stored bytes were not written by this job
    ├── VersionMismatch             driver and worker run different software
    ├── TaskError                   the user's function failed
    │   ├── TaskTimeout             (TimeoutError) a task ran longer than ``timeout``
    │   └── WorkerDied              the process that ran the task ended
    │       └── MemoryLimitExceeded (MemoryError) a task used more than ``memory``
    ├── ComputeError                a compute platform cannot run the job
    │   ├── ComputeDenied           (PermissionError) it refuses the credentials, or the request
    │   └── ComputeUnavailable      (ConnectionError) it did not answer, or has no room
    └── StorageError
        ├── NotFound                (FileNotFoundError)
        ├── AccessDenied            (PermissionError)
        ├── PreconditionFailed      put-if-absent found an object
        └── StorageUnavailable      (ConnectionError) the service did not answer, or is full

``ConfigError`` and ``InputError`` are the caller's to mend: applications exit with status 2 on them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception may be somebody's Ctrl-C, which no code that runs on others' behalf may swallow."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def contained(action: Callable[..., object], *args: object) -> BaseException | None:
    """Call what somebody else has given; returns what it raised, whatever that is, but lets Ctrl-C go on."""
    try:
        action(*args)
    except BaseException as error:
        if is_interrupt(error):
            raise
        return error
    return None


def printable(text: object, limit: int = 200, kept: str = "") -> str:
    """Return text with all escaped that does not print, but for the characters that are `kept`.

    It is cut after `limit` characters, if that is not 0.
    """
    shown = str(text)
    if limit and len(shown) > limit:
        shown = shown[: limit - 3] + "..."
    if shown.isprintable():
        return shown
    return "".join(each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in shown)


def excerpt(text: object, limit: int = 300) -> str:
    """Return the beginning of what a service says, on one line."""
    return printable(" ".join(str(text).split()), limit)


class FanfoldError(Exception):
    """Base class of every exception raised by the product.

    Its text can be printed whatever an address, a name or an answer held: what could steer a terminal is escaped.
    """

    _kept = "\n\t"

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(each, 0, self._kept) if isinstance(each, str) else each for each in args))


class ConfigError(FanfoldError):
    """A setting, flag or address cannot work; the message says which and what would."""


class MissingExtra(ConfigError):
    """An optional package is missing; the message carries the ``pip install`` that adds it."""


class InputError(FanfoldError):
    """The data given to a job cannot be used; the message says what, where and what to do."""


class ObjectChanged(InputError):
    """An object changed while a job was reading it."""


class SerializationError(FanfoldError):
    """A function, item or result cannot be pickled."""


class IntegrityError(FanfoldError):
    """Stored or received bytes do not carry this job's signature, so they are not unpickled."""


class VersionMismatch(FanfoldError):
    """Driver and worker run software too different to exchange pickles."""


class TaskError(FanfoldError):
    """A task failed.

    Parameters
    ----------
    message : str
        What happened, in one sentence, or the remote traceback.
    job_id, task_id : str, int
        The task that failed.
    attempts : int
        How often it was tried.
    log : str
        The last lines the task wrote to its standard streams.
    """

    def __init__(self, message: str, *, job_id: str = "", task_id: int = -1, attempts: int = 1, log: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id
        self.task_id = task_id
        self.attempts = attempts
        self.log = log

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_task_error, (type(self), str(self), self.job_id, self.task_id, self.attempts, self.log)


def _rebuild_task_error(
    kind: type[TaskError], message: str, job_id: str, task_id: int, attempts: int, log: str
) -> TaskError:
    return kind(message, job_id=job_id, task_id=task_id, attempts=attempts, log=log)


class TaskTimeout(TaskError, TimeoutError):
    """A task ran longer than its ``timeout`` and was ended."""


class WorkerDied(TaskError):
    """The process that ran a task ended before the task did."""


class MemoryLimitExceeded(WorkerDied, MemoryError):
    """A task used more than its ``memory`` and was ended."""


class ComputeError(FanfoldError):
    """A compute platform cannot run the job; the message says what to mend."""


class ComputeDenied(ComputeError, PermissionError):
    """The platform refuses the credentials in use, or what was asked for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ComputeUnavailable(ComputeError, ConnectionError):
    """The platform did not answer, or had no room, for as long as one can wait."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class StorageError(FanfoldError):
    """Base class of storage failures; each is one line."""

    _kept = ""


class NotFound(StorageError, FileNotFoundError):
    """There is no such object, bucket or folder."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class AccessDenied(StorageError, PermissionError):
    """The credentials in use do not allow the request."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class PreconditionFailed(StorageError):
    """Put-if-absent found that the object exists already."""


class StorageUnavailable(StorageError, ConnectionError):
    """The storage did not answer, refused for lack of space, or answered with a fault of its own."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
