"""Runs batches on whatever Dask reaches: a thin adapter from batches to ``distributed`` tasks."""

from __future__ import annotations

import itertools
import logging
import os
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, Literal

from core.compute.base import Capabilities
from core.compute.remote.base import BACKOFF_MAX, BACKOFF_MIN, POLL_INTERVAL, UNAVAILABLE_TIMEOUT
from core.compute.remote.courier import ALWAYS_SENT, settled
from core.compute.remote.dask_lots import LOT, SCATTERED, Carriers, Flight, Lots
from core.compute.waiting import Backoff, Mailbox
from core.errors import ComputeUnavailable, ConfigError, FanfoldError, IntegrityError, MissingExtra, excerpt
from core.settings import Address, ExecutorConfig
from core.task import messages
from core.task.protocol import BatchDone, BatchLost, Invocation, Reply
from core.task.versions import versions

LOCAL = "local"
"""Place that stands for a cluster of this process, ended with it."""

CONNECT_TIMEOUT = 30.0
"""Seconds that the scheduler has to answer."""

NO_WORKER_WARNING, NO_WORKER_TIMEOUT = 10.0, 300.0
"""Seconds without any Dask worker after which that is said, and after which the cluster counts as unavailable: one
that adapts to its load starts workers late."""

DEPTH = 3 * LOT
"""Batches under way for each worker: Dask takes milliseconds to hand the next one on."""

Said = bytes | Exception | Literal[True] | None
"""What is heard of a batch: its reply, what ended it, True if it begins, None if its reply is there to be asked for."""

_logger = logging.getLogger("fanfold")


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
        self._carriers: Carriers | None = None
        self._topic = f"fanfold-{os.urandom(8).hex()}"
        self._numbers = itertools.count()
        self._lots = Lots()
        self._flights: dict[int, Flight] = {}
        self._mailbox: Mailbox[BatchLost | tuple[str, Said]] = Mailbox()
        self._looked = 0.0
        self._absent: Backoff | None = None
        self._refused: Backoff | None = None
        self._not_before = 0.0
        self._workless: Backoff | None = None
        self._count_at = 0.0

    def start(self) -> None:
        """Connect to the scheduler, and offer it batches for as many workers as its own have threads.

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
        try:
            place = self._cluster or self.address.where
            self.client = distributed.Client(place, timeout=CONNECT_TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ComputeUnavailable(
                f"no Dask scheduler answers at {self.address.where}: {excerpt(str(error))}; start one with "
                "'dask scheduler'"
            ) from None
        self._carriers = Carriers(self.client)
        self.client.subscribe_topic(self._topic, lambda event: self._mailbox.put(tuple(event[1])))
        if self.config.workers is None:
            self.workers = max(1, sum(self.client.nthreads().values()))

    def capacity(self) -> int:
        """Return how many batches to send."""
        return DEPTH * self.workers - len(self._lots) - len(self._flights)

    def invoke(self, invocation: Invocation) -> None:
        """Keep a batch for the next `poll`: many go to the scheduler for the price of one."""
        self._lots.add(invocation)

    def poll(self, timeout: float | None) -> list[Reply]:
        """Send what there is, and return replies, waiting for the first.

        Raises
        ------
        ComputeUnavailable
            The scheduler is gone, or has no worker for too long.
        ConfigError
            The Dask workers lack a package of ours.
        """
        self._send()
        if self._flights or self._lots:
            timeout = POLL_INTERVAL if timeout is None else min(POLL_INTERVAL, timeout)
        found: list[Reply] = []
        for word in self._mailbox.poll(timeout):
            reply = word if isinstance(word, BatchLost) else self._read(*word)
            if reply is not None:
                found.append(reply)
        if time.monotonic() - self._looked > POLL_INTERVAL:
            self._look()
            self._looked = time.monotonic()
        return found

    def _send(self) -> None:
        """Hand what waits to the scheduler, in one request."""
        if not self._lots or not self._is_connected() or time.monotonic() < self._not_before:
            return
        if len(self._lots) < self._lots.size() and len(self._flights) > LOT * self.workers:
            return  # enough is there to do until a lot is full
        tasks = [self._task(lot) for lot in self._lots.take()]
        tasks = [task for task in tasks if task]
        if not tasks:
            return
        keys = [[flight.key for flight in task] for task in tasks]
        bodies = [list(task.values()) for task in tasks]
        answer = import_module("core.worker.dask").answer
        futures = self.client.map(answer, bodies, keys, key=[names[0] for names in keys], pure=False)
        for task, future in zip(tasks, futures, strict=True):
            for place, flight in enumerate(task):
                flight.future, flight.place, flight.is_alone = future, place, len(task) == 1

    def _task(self, lot: list[Invocation]) -> dict[Flight, bytes]:
        """Return the requests of a lot; those that are large go ways of their own."""
        small: dict[Flight, bytes] = {}
        for invocation in lot:
            ident, has_call = invocation.batch_id, len(invocation.call) <= ALWAYS_SENT
            message = messages.request(invocation, versions(), has_call)
            flight = Flight(f"{self._topic}-{next(self._numbers)}.{ident}", invocation, time.monotonic())
            self._flights[ident] = flight
            if has_call and len(message) <= SCATTERED:
                small[flight] = message
            else:
                assert self._carriers is not None
                self._carriers.start(self._carry, flight, message, None if has_call else invocation)
        return small

    def _is_connected(self) -> bool:
        status = self.client.status
        if status == "running":
            self._absent = None
            return True
        self._absent = self._absent or Backoff(BACKOFF_MIN, BACKOFF_MAX, timeout=UNAVAILABLE_TIMEOUT)
        if status == "closed" or self._absent.is_over:
            raise ComputeUnavailable(f"the Dask scheduler at {self.address.where} went away and does not come back")
        return False

    def _carry(self, flight: Flight, message: bytes, called: Invocation | None) -> None:
        """Submit a large request, or the request of a large function, in a thread of its own."""
        assert self._carriers is not None
        key = flight.key
        try:
            function = called and self._carriers.function(called)
            answer = import_module("core.worker.dask").answer
            data = self._carriers.data(message)
            flight.future = self.client.submit(answer, [data], [key], function, key=key, pure=False)
        except Exception as error:
            self._mailbox.put((key, error))

    def _fetch(self, flight: Flight) -> None:
        """Ask for a large reply, in a thread of its own."""
        try:
            self._mailbox.put((flight.key, flight.future.result()[flight.place]))
        except Exception as error:
            self._mailbox.put((flight.key, error))

    def _read(self, key: str, said: Said) -> Reply | None:
        """Return what became of a batch, None if it is not known yet or nobody wants to know."""
        ident = int(key.rpartition(".")[2])
        flight = self._flights.get(ident)
        if flight is None or flight.key != key:
            return None
        self._workless = None
        if said is True:
            flight.began = True
        elif said is not None:
            del self._flights[ident]
            return self._answered(flight, said) if isinstance(said, bytes) else self._failed(flight, said)
        elif not flight.is_fetched and flight.future is not None:
            assert self._carriers is not None
            flight.is_fetched = True
            self._carriers.start(self._fetch, flight)
        return None

    def _answered(self, flight: Flight, answer: bytes) -> Reply:
        """Return what a worker says of a batch."""
        invocation, self._refused = flight.invocation, None
        self._lots.settle(invocation.batch_id)
        try:
            reply = settled(messages.read_reply(answer, invocation), time.monotonic() - flight.sent_at)
        except IntegrityError as error:
            why = f"its answer cannot be read: {error}"
            return BatchLost(invocation.batch_id, self.name, "died", why, None, True)
        if isinstance(reply, BatchDone) and reply.outcome is not None:
            self._lots.learn(invocation.call_hash, sum(reply.outcome.durations))
        return reply

    def _failed(self, flight: Flight, error: Exception) -> BatchLost | None:
        """Return why Dask gave a batch up, None if it goes again: others may be to blame, or the moment."""
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        invocation = flight.invocation
        is_doubtful = isinstance(error, KilledWorker) and not (
            flight.began or self._lots.was_alone(invocation.batch_id)
        )
        if not flight.is_alone or is_doubtful:
            self._lots.add_alone(invocation)
            return None
        if isinstance(error, OSError) and not isinstance(error, CommClosedError):
            self._send_later(invocation, error)
            return None
        self._refused = None
        self._lots.settle(invocation.batch_id)
        return self._lost(invocation, error)

    def _send_later(self, invocation: Invocation, error: OSError) -> None:
        """Have a batch run that a worker could not begin.

        Raises
        ------
        ComputeUnavailable
            None could be begun for as long as one can wait.
        """
        self._refused = self._refused or Backoff(BACKOFF_MIN, BACKOFF_MAX, timeout=UNAVAILABLE_TIMEOUT)
        if self._refused.is_over:
            raise ComputeUnavailable(f"{self.name} runs nothing: {error}") from error
        if time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + self._refused.next()
        self._lots.add_alone(invocation)

    def _lost(self, invocation: Invocation, error: Exception) -> BatchLost:
        """Return why Dask gave a batch up.

        Raises
        ------
        ConfigError
            Its workers cannot run any.
        """
        from distributed import KilledWorker

        self.forget(invocation.call_hash)
        if isinstance(error, ModuleNotFoundError):
            raise ConfigError(f"the Dask workers lack {error.name}: install fanfold where they run") from None
        why = f"Dask gave it up: {error}"
        if isinstance(error, KilledWorker):
            why = f"the Dask workers that ran it ended, one after the other: {error}"
        return BatchLost(invocation.batch_id, self.name, "died", why, None, True)

    def _look(self) -> None:
        """See what became of batches of which no word came."""
        for flight in self._flights.values():
            status = flight.future.status if flight.future is not None else "pending"
            if status == "finished":
                self._mailbox.put((flight.key, None))
            elif status == "error":
                self._mailbox.put((flight.key, flight.future.exception()))
            elif status != "pending":
                self._mailbox.put((flight.key, FanfoldError(f"its state is {status!r}")))
        self._look_for_workers()

    def _look_for_workers(self) -> None:
        """Say that a cluster has no worker, when nothing is heard for some time.

        Raises
        ------
        ComputeUnavailable
            It has had none for as long as one can wait.
        """
        now, waited = time.monotonic(), self._workless
        if not self._flights or waited is None:
            waited = self._workless = Backoff(NO_WORKER_WARNING, NO_WORKER_WARNING, timeout=NO_WORKER_TIMEOUT)
            self._count_at = now + waited.next()
        if now < self._count_at:
            return
        with suppress(OSError):  # a scheduler that is away is another matter
            if self.client.nthreads():
                self._workless = None
                return
        self._count_at = now + waited.next()
        where = self.address.where
        what = f"the Dask scheduler at {where} has no worker; start one with 'dask worker {where}'"
        if waited.is_over:
            raise ComputeUnavailable(f"{what}: none came within {NO_WORKER_TIMEOUT:g} s")
        _logger.warning("%s, or wait until it does: after %g s the job ends", what, NO_WORKER_TIMEOUT)

    def wake(self) -> None:
        """End a `poll` that waits."""
        self._mailbox.wake()

    def is_running(self, batch_id: int) -> bool:
        """Whether a batch is among those that were sent first: Dask begins them in this order."""
        return batch_id in itertools.islice(self._flights, self.workers)

    def revoke(self, batch_id: int) -> bool:
        """Take back a batch that has not been sent."""
        return self._lots.remove(batch_id)

    def kill(self, batch_id: int) -> None:
        """Take a batch from the scheduler; the worker that runs it notices, and ends it."""
        flight = self._flights.pop(batch_id, None)
        if flight is not None and flight.future is not None:
            for ident in [ident for ident, other in self._flights.items() if other.future is flight.future]:
                self._lots.add_alone(self._flights.pop(ident).invocation)
            flight.future.cancel()
        self._lots.settle(batch_id)
        if self.revoke(batch_id) or flight is not None:
            self._mailbox.put(BatchLost(batch_id, self.name, "killed", "it was cancelled", None, flight is not None))

    def forget(self, call_hash: str) -> None:
        """Let the cluster drop a large function."""
        if self._carriers is not None:
            self._carriers.forget(call_hash)

    def close(self, force: bool = False) -> None:
        """Leave the cluster; end it if it is this process's own."""
        if self._carriers is not None:
            self._carriers.close()
        if self.client is not None:
            for batch_id in list(self._flights):
                self.kill(batch_id)
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
