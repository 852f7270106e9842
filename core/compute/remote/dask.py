"""Runs batches on whatever Dask reaches: a thin adapter from batches to ``distributed`` tasks."""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from core.compute.base import Capabilities
from core.compute.remote.base import BACKOFF_MAX as LONGEST_WAIT
from core.compute.remote.base import BACKOFF_MIN as FIRST_WAIT
from core.compute.remote.base import POLL_INTERVAL as LOOK
from core.compute.remote.base import UNAVAILABLE_TIMEOUT as PATIENCE
from core.compute.remote.courier import ALWAYS_SENT, settled
from core.errors import ComputeUnavailable, ConfigError, FanfoldError, IntegrityError, MissingExtra
from core.settings import Address, ExecutorConfig
from core.task import messages
from core.task.protocol import BatchDone, BatchLost, Invocation, Reply
from core.task.versions import versions

LOCAL = "local"
"""Place that stands for a cluster of this process, ended with it."""

CONNECT = 30.0
"""Seconds that the scheduler has to answer."""

SCATTERED = 1 << 20
"""Requests of more bytes go to a Dask worker as data of their own, not within the task."""

LOT = 8
"""Short batches that go as one Dask task."""

DEPTH = 3 * LOT
"""Batches under way for each worker: Dask takes milliseconds to hand the next one on."""

SHORT = 0.005
"""Seconds that a lot may take to run: several times what Dask itself needs for a task."""

CARRIERS = 4
"""Large requests and replies that travel at the same time."""


@dataclass(slots=True)
class _Flight:
    """A batch at the scheduler.

    `future` is Dask's, `place` that of the batch in its lot, `is_alone` says that nothing else is in it; `is_fetched`
    says that the reply is being asked for.
    """

    invocation: Invocation
    sent_at: float
    place: int = 0
    is_alone: bool = True
    future: Any = None
    is_fetched: bool = False


class DaskBackend:
    """Submits each batch as one Dask task, very short ones in lots; a lot that fails goes again, each batch alone.

    Address: ``dask://SCHEDULER:PORT``, or ``dask://local`` for processes of this machine.

    Each thread of a Dask worker has a worker process of ours behind it, which enforces timeouts and memory limits and
    may die without harm to Dask. A Dask worker that dies itself is Dask's to replace; its batches run again.
    """

    name = "dask"
    capabilities = Capabilities(speculates=True)

    def __init__(self, address: Address, config: ExecutorConfig) -> None:
        if address.options or not address.where:
            raise ConfigError("dask needs a scheduler and takes no options: dask://HOST:PORT, or dask://local")
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise MissingExtra("dask:// needs the packages dask and distributed: pip install 'fanfold[dask]'") from None
        self.address, self.config = address, config
        self.workers = config.workers or 1
        self.client: Any = None
        self._cluster: Any = None
        self._topic = f"fanfold-{os.urandom(8).hex()}"
        self._numbers = itertools.count()
        self._pending: list[Invocation] = []
        self._flights: dict[str, _Flight] = {}
        self._keys: dict[int, str] = {}
        self._functions: dict[str, Any] = {}
        self._scattering = threading.Lock()
        self._heard: queue.SimpleQueue[BatchLost | tuple[str, bytes | Exception | None] | None] = queue.SimpleQueue()
        self._carriers = ThreadPoolExecutor(CARRIERS, thread_name_prefix="fanfold-dask")
        self._alone: set[int] = set()
        self._means: dict[str, float] = {}
        self._looked = 0.0
        self._absent_since: float | None = None
        self._refused_since: float | None = None
        self._not_before = 0.0
        self._versions: dict[str, str] = {}

    def start(self) -> None:
        """Connect to the scheduler, and offer it batches for as many workers as its own have threads.

        Raises
        ------
        ComputeUnavailable
            It does not answer.
        """
        distributed: Any = import_module("distributed")
        self._versions = versions()
        self._answer = import_module("core.worker.dask").answer
        if self.address.where == LOCAL:
            self._cluster = distributed.LocalCluster(
                n_workers=self.config.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=40
            )
        try:
            self.client = distributed.Client(self._cluster or self.address.where, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ComputeUnavailable(
                f"no Dask scheduler answers at {self.address.where}: {error}; start one with 'dask scheduler'"
            ) from None
        self.client.subscribe_topic(self._topic, lambda event: self._heard.put(tuple(event[1])))
        if self.config.workers is None:
            self.workers = max(1, sum(self.client.nthreads().values()))

    def capacity(self) -> int:
        """Return how many batches to send."""
        return DEPTH * self.workers - len(self._pending) - len(self._flights)

    def invoke(self, invocation: Invocation) -> None:
        """Keep a batch for the next `poll`: many go to the scheduler for the price of one."""
        self._pending.append(invocation)

    def poll(self, timeout: float | None) -> list[Reply]:
        """Send what there is, and return replies, waiting for the first.

        Raises
        ------
        ComputeUnavailable
            The scheduler is gone.
        ConfigError
            The Dask workers lack a package of ours.
        """
        self._send()
        if self._flights or self._pending:
            timeout = LOOK if timeout is None else min(LOOK, timeout)
        found: list[Reply] = []
        with suppress(queue.Empty):
            word = self._heard.get(timeout=timeout)
            while True:
                if isinstance(word, BatchLost):
                    found.append(word)
                elif word is not None and (reply := self._read(*word)) is not None:
                    found.append(reply)
                word = self._heard.get_nowait()
        if time.monotonic() - self._looked > LOOK:
            self._look()
            self._looked = time.monotonic()
        return found

    def _send(self) -> None:
        if not self._pending or not self._is_connected() or time.monotonic() < self._not_before:
            return
        slowest = max(self._means.get(invocation.call_hash, SHORT) for invocation in self._pending)
        lot = max(1, min(LOT, int(SHORT / max(slowest, 1e-9))))
        if len(self._pending) < lot and len(self._flights) > LOT * self.workers:
            return  # enough is there to do until a lot is full
        small: list[tuple[str, bytes]] = []
        alone: list[tuple[str, bytes]] = []
        for invocation in self._pending:
            key = f"{self._topic}-{next(self._numbers)}"
            has_call = len(invocation.call) <= ALWAYS_SENT
            message = messages.request(invocation, self._versions, has_call)
            self._flights[key] = _Flight(invocation, time.monotonic())
            self._keys[invocation.batch_id] = key
            if not has_call or len(message) > SCATTERED:
                self._carriers.submit(self._carry, key, message, None if has_call else invocation)
            else:
                (alone if invocation.batch_id in self._alone else small).append((key, message))
        self._pending.clear()
        lots = [[request] for request in alone] + [small[at : at + lot] for at in range(0, len(small), lot)]
        if not lots:
            return
        keys = [[key for key, _ in requests] for requests in lots]
        bodies = [[message for _, message in requests] for requests in lots]
        futures = self.client.map(self._answer, bodies, keys, key=[names[0] for names in keys], pure=False)
        for names, future in zip(keys, futures, strict=True):
            for place, key in enumerate(names):
                flight = self._flights[key]
                flight.future, flight.place, flight.is_alone = future, place, len(names) == 1

    def _is_connected(self) -> bool:
        status = self.client.status
        if status == "running":
            self._absent_since = None
            return True
        now = time.monotonic()
        self._absent_since = self._absent_since or now
        if status == "closed" or now - self._absent_since > PATIENCE:
            raise ComputeUnavailable(f"the Dask scheduler at {self.address.where} went away and does not come back")
        return False

    def _carry(self, key: str, message: bytes, called: Invocation | None) -> None:
        """Submit a large request, or the request of a large function, in a thread of its own."""
        try:
            function = called and self._function(called)
            data = message if len(message) <= SCATTERED else self.client.scatter(message, hash=False)
            future = self.client.submit(self._answer, [data], [key], function, key=key, pure=False)
            flight = self._flights.get(key)
            if flight is not None:
                flight.future = future
        except Exception as error:
            self._heard.put((key, error))

    def _function(self, invocation: Invocation) -> Any:
        """Return a large function as data of the cluster, which moves it to each worker once."""
        with self._scattering:
            if invocation.call_hash not in self._functions:
                self._functions[invocation.call_hash] = self.client.scatter(invocation.call, hash=False)
            return self._functions[invocation.call_hash]

    def _fetch(self, key: str, flight: _Flight) -> None:
        """Ask for a large reply, in a thread of its own."""
        try:
            self._heard.put((key, flight.future.result()[flight.place]))
        except Exception as error:
            self._heard.put((key, error))

    def _read(self, key: str, answered: bytes | Exception | None) -> Reply | None:
        """Return what became of a batch, None if it is not known yet or nobody wants to know."""
        from distributed.comm.core import CommClosedError

        flight = self._flights.get(key)
        if flight is None:
            return None
        if answered is None:
            if not flight.is_fetched and flight.future is not None:
                flight.is_fetched = True
                self._carriers.submit(self._fetch, key, flight)
            return None
        del self._flights[key]
        ident = flight.invocation.batch_id
        self._keys.pop(ident, None)
        if isinstance(answered, Exception) and not flight.is_alone:
            self._send_alone(flight)
            return None
        if isinstance(answered, OSError) and not isinstance(answered, CommClosedError):
            self._send_later(flight, answered)
            return None
        self._refused_since = None
        self._alone.discard(ident)
        if isinstance(answered, Exception):
            return self._lost(flight, answered)
        try:
            reply = settled(messages.read_reply(answered, flight.invocation), time.monotonic() - flight.sent_at)
        except IntegrityError as error:
            return BatchLost(ident, self.name, "died", f"its answer cannot be read: {error}", None, True)
        if isinstance(reply, BatchDone) and reply.outcome is not None:
            name, seconds = flight.invocation.call_hash, sum(reply.outcome.durations)
            self._means[name] = max(seconds, 0.8 * self._means.get(name, SHORT))  # one that is slow ends the lots
        return reply

    def _send_alone(self, flight: _Flight) -> None:
        """Have a batch that shared a Dask task run once more: what ended that may have been another."""
        self._alone.add(flight.invocation.batch_id)
        self._pending.append(flight.invocation)

    def _send_later(self, flight: _Flight, error: OSError) -> None:
        """Have a batch run that a worker could not begin.

        Raises
        ------
        ComputeUnavailable
            None could be begun for as long as one can wait.
        """
        now = time.monotonic()
        self._refused_since = self._refused_since or now
        if now - self._refused_since > PATIENCE:
            raise ComputeUnavailable(f"{self.name} runs nothing: {error}") from error
        self._not_before = now + min(LONGEST_WAIT, max(FIRST_WAIT, now - self._refused_since))
        self._send_alone(flight)

    def _lost(self, flight: _Flight, error: Exception) -> BatchLost:
        """Return why Dask gave a batch up.

        Raises
        ------
        ConfigError
            Its workers cannot run any.
        """
        from distributed import KilledWorker

        self._functions.pop(flight.invocation.call_hash, None)  # it may have been lost with the worker that had it
        if isinstance(error, ModuleNotFoundError):
            raise ConfigError(f"the Dask workers lack {error.name}: install fanfold where they run") from None
        why = f"Dask gave it up: {error}"
        if isinstance(error, KilledWorker):
            why = f"the Dask workers that ran it ended, one after the other: {error}"
        return BatchLost(flight.invocation.batch_id, self.name, "died", why, None, True)

    def _look(self) -> None:
        """See what became of batches of which no word came."""
        for key, flight in self._flights.items():
            status = flight.future.status if flight.future is not None else "pending"
            if status == "finished":
                self._heard.put((key, None))
            elif status == "error":
                self._heard.put((key, flight.future.exception()))
            elif status != "pending":
                self._heard.put((key, FanfoldError(f"its state is {status!r}")))

    def wake(self) -> None:
        """End a `poll` that waits."""
        self._heard.put(None)

    def is_running(self, batch_id: int) -> bool:
        """Whether a batch is among those that were sent first: Dask begins them in this order."""
        return self._keys.get(batch_id, "") in itertools.islice(self._flights, self.workers)

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that has not been sent."""
        before = len(self._pending)
        self._pending = [invocation for invocation in self._pending if invocation.batch_id != batch_id]
        return len(self._pending) < before

    def kill(self, batch_id: int) -> None:
        """Take a batch from the scheduler; the worker that runs it notices, and ends it."""
        key = self._keys.pop(batch_id, None)
        if key is not None:
            future = self._flights.pop(key).future
            others = [name for name, flight in self._flights.items() if future is not None and flight.future is future]
            for name in others:
                flight = self._flights.pop(name)
                del self._keys[flight.invocation.batch_id]
                self._send_alone(flight)
            if future is not None:
                future.cancel()
        if self.revoke(batch_id) or key is not None:
            self._heard.put(BatchLost(batch_id, self.name, "killed", "it was cancelled", None, key is not None))

    def forget(self, call_hash: str) -> None:
        """Let the cluster drop a large function."""
        self._functions.pop(call_hash, None)
        self._means.pop(call_hash, None)

    def close(self, force: bool = False) -> None:
        """Leave the cluster; end it if it is this process's own."""
        self._carriers.shutdown(wait=False, cancel_futures=True)
        if self.client is not None:
            for batch_id in list(self._keys):
                self.kill(batch_id)
            self._functions.clear()
            with suppress(Exception):  # a scheduler that is gone, or lets no client run code, keeps nothing or little
                self.client.unsubscribe_topic(self._topic)
                self.client.run_on_scheduler(_forget_events, topic=self._topic)
            self.client.close()
        if self._cluster is not None:
            self._cluster.close()


def _forget_events(dask_scheduler: Any, topic: str) -> None:
    broker = getattr(dask_scheduler, "_broker", None)
    if broker is not None:
        broker.truncate(topic)
