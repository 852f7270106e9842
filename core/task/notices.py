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
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from core import serialization
from core.errors import ConfigError, IntegrityError, MissingExtra
from core.task.protocol import NotifyCredentials

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import PubSub

PATIENCE = 0.2
"""Seconds that a worker waits for Redis."""

PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds for which a worker says nothing after Redis failed it, doubled each time."""

CONNECT = 5.0
"""Seconds that a driver waits for Redis to answer."""

GREETING = 1.0
"""Seconds that a driver's first job waits for it: what is put into a queue before that is not heard."""

PULSE = 5.0
"""Seconds of silence after which a driver asks whether Redis is still there."""

SOONEST, LATEST = 0.1, 5.0
"""Seconds between a driver's attempts to connect again, doubled each time."""

_LOOK = 0.1

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

    def take(self, word: QueueHeader, data: bytes) -> None:
        """Hear of a value. Called from any thread."""


receivers: weakref.WeakValueDictionary[str, Receiver] = weakref.WeakValueDictionary()
"""Those of this process, by the names of their queues."""


def deliver(word: QueueHeader, data: bytes) -> None:
    """Give a value to whoever reads its queue, if somebody does."""
    receiver = receivers.get(word.queue)
    if receiver is not None:
        receiver.take(word, data)


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


class _Speaker:
    """A worker process's connection, which is left alone for a while after it failed."""

    def __init__(self, address: str) -> None:
        self._client = connect(address, PATIENCE)
        self._silent_until = 0.0
        self._pause = PAUSE

    def say(self, grant: NotifyCredentials, *word: Any) -> None:
        import redis

        if time.monotonic() < self._silent_until:
            return
        signed = serialization.sign(grant.key, grant.channel, serialization.dumps(word))
        try:
            try:
                self._client.publish(grant.channel, signed)
            except redis.ConnectionError:  # the connection may be older than the server
                self._client.publish(grant.channel, signed)
        except (redis.RedisError, OSError) as error:
            _logger.warning("no word to the driver over %s for %g s: %s", grant.address, self._pause, error)
            self._silent_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._pause = PAUSE


@functools.lru_cache(maxsize=4)
def _speaker(address: str, process: int) -> _Speaker | None:
    try:
        return _Speaker(address)
    except MissingExtra as error:
        _logger.warning("%s; the driver looks for results in storage", error)
        return None


_grant: NotifyCredentials | None = None
_aloud: Deliver | None = None


def use(grant: NotifyCredentials | None) -> None:
    """Let the tasks of this process speak to the driver that granted it."""
    global _grant
    _grant = grant


def speak_through(aloud: Deliver) -> None:
    """Let the tasks of this process speak through what connects it to its driver, where nothing else is granted."""
    global _aloud
    _aloud = aloud
    receivers.clear()  # those of a driver that this process was forked from


def announce(job_id: str, place: str, grant: NotifyCredentials | None = None) -> None:
    """Tell the driver that a commit, or the word of a loss, is in storage at `place`; never raises."""
    grant = grant or _grant
    if grant is not None and (speaker := _speaker(grant.address, os.getpid())) is not None:
        speaker.say(grant, "stored", job_id, place)


def send_value(word: QueueHeader, data: bytes) -> None:
    """Send the driver a value for one of its queues.

    Raises
    ------
    ConfigError
        Nothing leads to the driver.
    MissingExtra
        The package ``redis`` is not installed here.
    """
    if _grant is not None:
        speaker = _speaker(_grant.address, os.getpid())
        if speaker is None:
            raise MissingExtra("this worker needs the package redis for queues: pip install 'fanfold[redis]'")
        speaker.say(_grant, "value", word, data)
    elif _aloud is not None:
        _aloud(word, data)
    else:
        raise ConfigError("this worker cannot reach the queue: it belongs to an executor that did not start the task")


class CommitListener:
    """Hears, on a thread of its own, what the workers of one executor say.

    Attributes
    ----------
    grant : Grant
        What workers need to be heard.
    healthy : bool
        Whether words arrive now.
    turn : int
        Changes whenever the connection is lost or made: words may have been missed.

    Parameters
    ----------
    address : str
        ``redis://HOST:PORT/DB`` or ``rediss://``.
    wake : callable
        Called when there is news, from the thread that listens.
    """

    def __init__(self, address: str, wake: Callable[[], None]) -> None:
        self.grant = NotifyCredentials(address, f"fanfold:{os.urandom(16).hex()}", os.urandom(32))
        self.healthy = False
        self.turn = 0
        self._client = connect(address, CONNECT)
        self._wake = wake
        self._stored: dict[str, list[str]] = {}
        self._fences: dict[str, threading.Event] = {}
        self._ending = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="fanfold-notices", daemon=True)

    def start(self) -> None:
        """Begin to listen; returns when words are heard, or cannot be for now."""
        self._thread.start()
        self._tried.wait(GREETING)

    def watch(self, job_id: str) -> None:
        """Keep notices of a job, for `take`."""
        self._stored[job_id] = []

    def take(self, job_id: str) -> list[str]:
        """Return the keys in storage that were announced for a job since the last time."""
        if not self._stored.get(job_id):
            return []
        places, self._stored[job_id] = self._stored[job_id], []
        return places

    def leave(self, job_id: str) -> None:
        """Keep no more notices of a job."""
        self._stored.pop(job_id, None)

    def catch_up(self) -> None:
        """Wait until everything that was said before is heard, or the connection is lost."""
        token, heard = os.urandom(8).hex(), threading.Event()
        self._fences[token] = heard
        turn = self.turn
        if self.healthy and self._say("fence", token):
            while not heard.wait(_LOOK) and self.turn == turn:
                continue
        self._fences.pop(token, None)

    def close(self) -> None:
        """Listen no more."""
        self._ending.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._say("end")
            self._thread.join(CONNECT)
        self._client.close()

    def _say(self, *word: str) -> bool:
        import redis

        with suppress(redis.RedisError, OSError):
            signed = serialization.sign(self.grant.key, self.grant.channel, serialization.dumps(word))
            return bool(self._client.publish(self.grant.channel, signed))
        return False

    def _listen(self) -> None:
        import redis

        wait = SOONEST
        while not self._ending.is_set():
            try:
                with self._client.pubsub() as hearing:  # type: ignore[no-untyped-call]
                    hearing.subscribe(self.grant.channel)
                    self._hear(hearing)
            except (redis.RedisError, OSError) as error:
                if self.healthy or wait == SOONEST:
                    _logger.warning("notices over %s are lost, results are looked for: %s", self.grant.address, error)
                wait = SOONEST if self.healthy else min(2 * wait, LATEST)
            self._connected(False)
            self._ending.wait(wait)

    def _connected(self, healthy: bool) -> None:
        self.healthy = healthy
        self.turn += 1
        self._tried.set()
        self._wake()

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
            message = hearing.get_message(timeout=PULSE)
            if message is None:
                if time.monotonic() - heard > 2.5 * PULSE:
                    raise redis.ConnectionError("it does not answer")
                hearing.ping()
                continue
            heard = time.monotonic()
            if message["type"] == "subscribe":
                self._connected(True)
            elif message["type"] == "message":
                with suppress(IntegrityError):
                    self._take(serialization.verify(self.grant.key, self.grant.channel, message["data"]))

    def _take(self, data: memoryview) -> None:
        kind, *rest = serialization.loads(data)
        if kind == "stored":
            job_id, place = rest
            if job_id in self._stored:
                self._stored[job_id].append(place)
                self._wake()
        elif kind == "value":
            deliver(*rest)
        elif kind == "fence" and rest[0] in self._fences:
            self._fences[rest[0]].set()
