"""Word from workers to their driver over Redis: a batch was committed or lost, a task has put a value into a queue.

Storage stays the truth. A notice makes the driver read a commit at once instead of at its next look, so notices that
are lost, late, repeated or forged cost time at most: what is not signed with the executor's own key is not read.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from core import serialization
from core.errors import ConfigError, IntegrityError, MissingExtra
from core.task.protocol import NotifyCredentials

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import PubSub

PUBLISH_TIMEOUT = 0.2
"""Seconds that a worker waits for Redis."""

SILENCE_MIN, SILENCE_MAX = 2.0, 60.0
"""Seconds for which a worker says nothing after Redis failed it, doubled each time."""

LISTEN_TIMEOUT = 5.0
"""Seconds that a driver waits for Redis to answer."""

GREETING_TIMEOUT = 1.0
"""Seconds that a driver's first job waits for it: what is put into a queue before that is not heard."""

PING_INTERVAL = 5.0
"""Seconds of silence after which a driver asks whether Redis is still there."""

RECONNECT_MIN, RECONNECT_MAX = 0.1, 5.0
"""Seconds between a driver's attempts to connect again, doubled each time."""

FENCE_INTERVAL = 0.1
"""Seconds between two looks whether the connection is lost over which an answer is to come."""

_logger = logging.getLogger("fanfold")


class QueueHeader(NamedTuple):
    """Where a value in a queue comes from; `number` counts what `origin`, a worker process, has put there."""

    queue: str
    origin: str
    number: int
    job_id: str
    task_id: int
    attempt: int


Deliver = Callable[[QueueHeader, bytes], None]


class Receiver(Protocol):
    """Takes the values that are put into one queue."""

    def take(self, header: QueueHeader, data: bytes) -> None:
        """Hear of a value. Called from any thread."""


receivers: weakref.WeakValueDictionary[str, Receiver] = weakref.WeakValueDictionary()
"""Those of this process, by the names of their queues."""


def deliver(header: QueueHeader, data: bytes) -> None:
    """Give a value to whoever reads its queue, if somebody does."""
    receiver = receivers.get(header.queue)
    if receiver is not None:
        receiver.take(header, data)


def connect(address: str, timeout: float) -> Redis:
    """Return a client that gives up after `timeout` seconds; it connects on first use.

    User and password are the environment's REDIS_USERNAME and REDIS_PASSWORD.

    Raises
    ------
    MissingExtra
        The package ``redis`` is not installed.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise MissingExtra("notify=redis:// needs the package redis: pip install 'fanfold[redis]'") from None
    return redis.Redis.from_url(
        address,
        username=os.environ.get("REDIS_USERNAME"),
        password=os.environ.get("REDIS_PASSWORD"),
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


class _Publisher:
    """A worker process's connection, which is left alone for a while after it failed."""

    def __init__(self, address: str) -> None:
        self._client = connect(address, PUBLISH_TIMEOUT)
        self._silent_until = 0.0
        self._pause = SILENCE_MIN

    def publish(self, credentials: NotifyCredentials, *message: Any) -> None:
        import redis

        if time.monotonic() < self._silent_until:
            return
        signed = serialization.sign(credentials.key, credentials.channel, serialization.dumps(message))
        try:
            try:
                self._client.publish(credentials.channel, signed)
            except redis.ConnectionError:  # the connection may be older than the server
                self._client.publish(credentials.channel, signed)
        except (redis.RedisError, OSError) as error:
            _logger.warning("no word to the driver over %s for %g s: %s", credentials.address, self._pause, error)
            self._silent_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, SILENCE_MAX)
        else:
            self._pause = SILENCE_MIN


@functools.lru_cache(maxsize=4)
def _publisher(address: str, process: int) -> _Publisher | None:
    try:
        return _Publisher(address)
    except MissingExtra as error:
        _logger.warning("%s; the driver looks for results in storage", error)
        return None


_credentials: NotifyCredentials | None = None
_aloud: Deliver | None = None


def use(credentials: NotifyCredentials | None) -> None:
    """Let the tasks of this process speak to the driver whose credentials these are."""
    global _credentials
    _credentials = credentials


def speak_through(aloud: Deliver) -> None:
    """Let the tasks of this process speak through what connects it to its driver, where there are no credentials."""
    global _aloud
    _aloud = aloud
    receivers.clear()  # those of a driver that this process was forked from


def announce(job_id: str, place: str, credentials: NotifyCredentials | None = None) -> None:
    """Tell the driver that a commit, or the word of a loss, is in storage at `place`; never raises."""
    credentials = credentials or _credentials
    if credentials is not None and (publisher := _publisher(credentials.address, os.getpid())) is not None:
        publisher.publish(credentials, "stored", job_id, place)


def send_value(header: QueueHeader, data: bytes) -> None:
    """Send the driver a value for one of its queues.

    Raises
    ------
    ConfigError
        Nothing leads to the driver.
    MissingExtra
        The package ``redis`` is not installed here.
    """
    if _credentials is not None:
        publisher = _publisher(_credentials.address, os.getpid())
        if publisher is None:
            raise MissingExtra("this worker needs the package redis for queues: pip install 'fanfold[redis]'")
        publisher.publish(_credentials, "value", header, data)
    elif _aloud is not None:
        _aloud(header, data)
    else:
        raise ConfigError("this worker cannot reach the queue: it belongs to an executor that did not start the task")


class CommitListener:
    """Hears, on a thread of its own, what the workers of one executor say.

    Attributes
    ----------
    credentials : NotifyCredentials
        What workers need to be heard.
    healthy : bool
        Whether words arrive now.
    turn : int
        Changes whenever the connection is lost or made: words may have been missed.

    Parameters
    ----------
    address : str
        ``redis://HOST:PORT/DB`` or ``rediss://``.
    """

    def __init__(self, address: str) -> None:
        self.credentials = NotifyCredentials(address, f"fanfold:{os.urandom(16).hex()}", os.urandom(32))
        self.healthy = False
        self.turn = 0
        self._client = connect(address, LISTEN_TIMEOUT)
        self._watched: dict[str, tuple[deque[str], Callable[[], None]]] = {}
        self._fences: dict[str, threading.Event] = {}
        self._ending = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="fanfold-notices", daemon=True)

    def start(self) -> None:
        """Begin to listen; returns when words are heard, or cannot be for now."""
        self._thread.start()
        self._tried.wait(GREETING_TIMEOUT)

    def watch(self, job_id: str, stir: Callable[[], None]) -> None:
        """Keep notices of a job, for `take`; `stir` is called when there is news, from the thread that listens."""
        self._watched[job_id] = deque(), stir

    def take(self, job_id: str) -> list[str]:
        """Return the keys in storage that were announced for a job since the last time."""
        kept = self._watched[job_id][0] if job_id in self._watched else deque()
        return [kept.popleft() for _ in range(len(kept))]

    def leave(self, job_id: str) -> None:
        """Keep no more notices of a job."""
        self._watched.pop(job_id, None)

    def catch_up(self) -> None:
        """Wait until everything that was said before is heard, or the connection is lost."""
        token, heard = os.urandom(8).hex(), threading.Event()
        self._fences[token] = heard
        turn = self.turn
        if self.healthy and self._publish("fence", token):
            while not heard.wait(FENCE_INTERVAL) and self.turn == turn:
                continue
        self._fences.pop(token, None)

    def close(self) -> None:
        """Listen no more."""
        self._ending.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._publish("end")
            self._thread.join(LISTEN_TIMEOUT)
        self._client.close()

    def _publish(self, *message: str) -> bool:
        import redis

        with suppress(redis.RedisError, OSError):
            signed = serialization.sign(self.credentials.key, self.credentials.channel, serialization.dumps(message))
            return bool(self._client.publish(self.credentials.channel, signed))
        return False

    def _listen(self) -> None:
        import redis

        wait = RECONNECT_MIN
        while not self._ending.is_set():
            try:
                with self._client.pubsub() as hearing:  # type: ignore[no-untyped-call]
                    hearing.subscribe(self.credentials.channel)
                    self._hear(hearing)
            except (redis.RedisError, OSError) as error:
                if self.healthy or wait == RECONNECT_MIN:
                    where = self.credentials.address
                    _logger.warning("notices over %s are lost, results are looked for: %s", where, error)
                wait = RECONNECT_MIN if self.healthy else min(2 * wait, RECONNECT_MAX)
            self._connected(False)
            self._ending.wait(wait)

    def _connected(self, healthy: bool) -> None:
        self.healthy = healthy
        self.turn += 1
        self._tried.set()
        for _, stir in list(self._watched.values()):
            stir()

    def _hear(self, hearing: PubSub) -> None:
        """Take words until there are no more to come.

        Raises
        ------
        redis.RedisError
            The connection is lost.
        """
        import redis

        heard = time.monotonic()
        while not self._ending.is_set():
            message = hearing.get_message(timeout=PING_INTERVAL)
            if message is None:
                if time.monotonic() - heard > 2.5 * PING_INTERVAL:
                    raise redis.ConnectionError("it does not answer")
                hearing.ping()
                continue
            heard = time.monotonic()
            if message["type"] == "subscribe":
                self._connected(True)
            elif message["type"] == "message":
                with suppress(IntegrityError):
                    self._take(serialization.verify(self.credentials.key, self.credentials.channel, message["data"]))

    def _take(self, data: memoryview) -> None:
        kind, *rest = serialization.loads(data)
        if kind == "stored":
            job_id, place = rest
            if job_id in self._watched:
                kept, stir = self._watched[job_id]
                kept.append(place)
                stir()
        elif kind == "value":
            deliver(*rest)
        elif kind == "fence" and rest[0] in self._fences:
            self._fences[rest[0]].set()
