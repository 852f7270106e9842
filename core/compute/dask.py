"""Runs batches on whatever Dask reaches: a thin adapter from batches to ``distributed`` tasks."""

from __future__ import annotations

import itertools
import threading
from importlib import import_module
from typing import Any

from core.compute.base import Invocation
from core.compute.remote import NotStarted, RemoteBackend, Slot, WorkerEnded
from core.config import Address, ExecutorConfig
from core.errors import ComputeUnavailable, ConfigError, MissingExtra

LOCAL = "local"
"""Place that stands for a cluster of this process, ended with it."""

CONNECT = 30.0
"""Seconds that the scheduler has to answer."""

SCATTERED = 1 << 20
"""Requests of more bytes go to a Dask worker as data of their own, not within the task."""


class DaskBackend(RemoteBackend):
    """Submits each batch as one Dask task.

    Address: ``dask://SCHEDULER:PORT``, or ``dask://local`` for processes of this machine.

    Each thread of a Dask worker has a worker process of ours behind it, which enforces timeouts and memory limits and
    may die without harm to Dask. A Dask worker that dies itself is Dask's to replace; its batches run again.
    """

    name = "dask"
    slots_each = 8

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        if address.options or not address.where:
            raise ConfigError("dask needs a scheduler and takes no options: dask://HOST:PORT, or dask://local")
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise MissingExtra("dask:// needs the packages dask and distributed: pip install 'fanfold[dask]'") from None
        super().__init__(address, config, config.workers or 1)
        self._cluster: Any = None
        self.client: Any = None

    def prepare(self) -> None:
        """Connect to the scheduler, and offer it as many batches as its workers have threads.

        Raises
        ------
        ComputeUnavailable
            It does not answer.
        """
        distributed: Any = import_module("distributed")
        if self.address.where == LOCAL:
            self._cluster = distributed.LocalCluster(
                n_workers=self.config.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=40
            )
        target = self._cluster or f"tcp://{self.address.where}"
        try:
            self.client = distributed.Client(target, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ComputeUnavailable(
                f"no Dask scheduler answers at {self.address.where}: {error}; start one with 'dask scheduler'"
            ) from None
        if self.config.workers is None:
            self.workers = max(1, sum(self.client.nthreads().values()))

    def release(self) -> None:
        """Leave the cluster; end it if it is this process's own."""
        if self.client is not None:
            self.client.close()
        if self._cluster is not None:
            self._cluster.close()

    def open_slot(self, index: int) -> Slot:
        """Return a slot, through which one batch goes at a time."""
        return DaskSlot(self.client)


class DaskSlot(Slot):
    """One batch at a time, on whichever worker the scheduler chooses."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._future: Any = None

    def exchange(self, message: bytes, invocation: Invocation) -> bytes:
        """Submit a request and return the reply."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        key = f"fanfold-{invocation.job_id}-{invocation.batch_id}-{next(_numbers)}"
        try:
            given: Any = message
            if len(message) > SCATTERED:
                given = self._client.scatter(message, hash=False)
            self._future = self._client.submit(answer, given, key, key=key, pure=False)
            reply: bytes = self._future.result()
            return reply
        except KilledWorker as error:
            raise WorkerEnded(f"the Dask workers that ran it ended, one after the other: {error}") from None
        except (CancelledError, CommClosedError) as error:
            raise WorkerEnded(f"Dask gave it up: {error}") from None
        except ModuleNotFoundError as error:
            raise ConfigError(f"the Dask workers lack {error.name}: install fanfold where they run") from None
        except (OSError, TimeoutError) as error:
            raise NotStarted(f"Dask does not answer: {error}") from None
        finally:
            self._future = None

    def interrupt(self) -> None:
        """Take the task back; the worker notices, and ends what it runs."""
        future = self._future
        if future is not None:
            future.cancel()


_numbers = itertools.count()
_thread = threading.local()


def answer(message: bytes, key: str) -> bytes:
    """Answer a request, in a Dask worker: every thread has an agent of its own."""
    from distributed import get_worker

    from core.agent import Agent

    worker = get_worker()
    if not hasattr(_thread, "agent"):
        _thread.agent = Agent(f"{worker.name}-{threading.get_ident()}")

    def is_heard() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state == "executing"

    reply: bytes = _thread.agent.answer(message, is_heard)
    return reply
