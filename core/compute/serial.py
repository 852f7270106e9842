"""Runs tasks in the calling process, one after the other: for debuggers, and for the smallest jobs."""

from __future__ import annotations

from core import serialization
from core.compute.base import Capabilities
from core.errors import ConfigError
from core.settings import Address, ExecutorConfig
from core.task.call import Call, load_call
from core.task.protocol import BatchDone, BatchLost, Invocation, Reply
from core.task.run import describe, failed, run


class SerialBackend:
    """Runs each batch inside `invoke`.

    Function, items and results are pickled and unpickled as for any other backend, so that what works here
    works there. Nothing can end a running task: its timeout is judged when it returns, and `memory` is not enforced.
    """

    name = "serial"
    workers = 1
    capabilities = Capabilities(inline=True, shares_files=True, carries_queues=True, enforces=frozenset())

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        if address.options or address.where:
            raise ConfigError("compute backend 'serial' takes no place and no options")
        if config.workers not in (None, 1):
            raise ConfigError(f"compute backend 'serial' has one worker, not {config.workers}; use 'process' for more")
        self._replies: list[Reply] = []
        self._calls: dict[str, Call] = {}

    def start(self) -> None:
        """Nothing to make ready."""

    def capacity(self) -> int:
        """Return one: a batch is done when `invoke` returns."""
        return 1

    def invoke(self, invocation: Invocation) -> None:
        """Run a batch here and now."""
        number = invocation.batch_id
        if invocation.durable is not None:
            from core.task.commit import run_committed

            try:
                run_committed(invocation.durable, invocation.attempt)
            except Exception as error:
                failure = describe(error)
                why = f"{failure.kind}: {failure.message}"
                self._replies.append(BatchLost(number, "serial", "unavailable", why, None, True, failure))
            else:
                self._replies.append(BatchDone(number, "serial", None))
            return
        assert invocation.packed is not None
        try:
            call = self._calls.get(invocation.call_hash)
            if call is None:
                call = self._calls[invocation.call_hash] = load_call(invocation.call)
        except Exception as error:
            self._replies.append(BatchDone(number, "serial", failed(len(invocation.task_ids), error)))
            return
        items = serialization.unpack(invocation.packed, call.definitions)
        outcome = run(call, items, invocation.task_ids, invocation.job_id, invocation.attempt)
        self._replies.append(BatchDone(number, "serial", outcome))

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
        self._calls.pop(call_hash, None)

    def close(self, force: bool = False) -> None:
        """Drop everything."""
        self._calls.clear()
