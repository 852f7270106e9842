"""Runs tasks in the calling process, one after the other: for debuggers, and for the smallest jobs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from core import serialization
from core.compute.base import Capabilities
from core.compute.functions import Functions
from core.errors import ConfigError
from core.settings import Address, ExecutorConfig
from core.task.call import working_folder
from core.task.protocol import BatchDone, BatchLost, BatchResult, Invocation, Reply
from core.task.run import describe, failed, run


class SerialBackend:
    """Runs each batch inside `invoke`.

    Function, items and results are pickled and unpickled as for any other backend, so that what works here works there.
    What must differ, since tasks share the driver's process: a task over its timeout is found when it returns, and is
    then lost and tried again as elsewhere; ``memory`` is not enforced; a task that ends its process ends the driver;
    Ctrl-C and standard input reach tasks; a generator is read to its end first; and of what a task leaves behind in its
    process, such as environment variables or the state of a random generator, the driver keeps all but the working
    folder.
    """

    name = "serial"
    workers = 1
    capabilities = Capabilities(inline=True, shares_files=True, carries_queues=True, enforces=frozenset())

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        if address.options or address.where:
            raise ConfigError("compute backend 'serial' takes no place and no options")
        self._replies: list[Reply] = []
        self._functions = Functions()

    def start(self) -> None:
        """Nothing to make ready."""

    def capacity(self) -> int:
        """Return one: a batch is done when `invoke` returns."""
        return 1

    def invoke(self, invocation: Invocation) -> None:
        """Run a batch here and now."""
        number, watch = invocation.batch_id, _Watch(invocation.timeout)
        reply: Reply
        with _same_folder():
            try:
                reply = BatchDone(number, self.name, self._outcome(invocation, watch))
            except _OverTime as late:
                why = f"it ran longer than its timeout of {invocation.timeout:g} s"
                reply = BatchLost(number, self.name, "timeout", why, late.position, True)
            except Exception as error:
                failure = describe(error)
                why = f"{failure.kind}: {failure.message}"
                reply = BatchLost(number, self.name, "unavailable", why, None, True, failure)
        self._replies.append(reply)

    def _outcome(self, invocation: Invocation, watch: _Watch) -> BatchResult | None:
        if invocation.durable is not None:
            from core.task.commit import run_committed

            run_committed(invocation.durable, invocation.attempt, watch)
            return None
        packed = invocation.packed
        assert packed is not None
        ids = invocation.task_ids
        try:
            if invocation.call_hash not in self._functions:
                self._functions.put(invocation.call_hash, invocation.call)
            call = self._functions.get(invocation.call_hash, invocation.generation or invocation.job_id)
            items = serialization.unpack(serialization.copied(packed), call.definitions)
            outcome = run(call, items, ids, invocation.job_id, invocation.attempt, watch)
        except Exception as error:
            return failed(len(ids), error)
        outcome.values = serialization.copied(outcome.values)
        return outcome

    def poll(self, timeout: float | None) -> list[Reply]:
        """Return the replies of what was invoked."""
        replies, self._replies = self._replies, []
        return replies

    def wake(self) -> None:
        """Nothing waits."""

    def is_running(self, batch_id: int) -> bool:
        """Whether a batch has begun: nobody can ask before it has ended."""
        return False

    def revoke(self, batch_id: int) -> bool:
        """Refuse: a batch has run before anybody could ask."""
        return False

    def kill(self, batch_id: int) -> None:
        """Nothing runs between calls."""

    def forget(self, call_hash: str) -> None:
        """Drop a function."""
        self._functions.drop(call_hash)

    def close(self, force: bool = False) -> None:
        """Drop everything."""
        self._functions = Functions()


class _OverTime(BaseException):
    """The task at a position of its batch took longer than it may; no error of the batch itself."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class _Watch:
    """Hears when each task of a batch starts, and so how long the one before it took."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._position, self._started = -1, 0.0

    def __call__(self, position: int, now: float) -> None:
        """Note the start of a task.

        Raises
        ------
        _OverTime
            The one before it is over its time.
        """
        late = self._timeout is not None and now - self._started > self._timeout
        if late and self._position not in (-1, position):
            raise _OverTime(self._position)
        self._position, self._started = position, now


@contextlib.contextmanager
def _same_folder() -> Iterator[None]:
    folder = working_folder()
    try:
        yield
    finally:
        if folder is not None:
            with contextlib.suppress(OSError):  # a task deleted it
                os.chdir(folder)
