"""Which batches of a durable job are committed, how a driver hears of it, and how it reads them ahead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future as Reading
from concurrent.futures import ThreadPoolExecutor

from core.errors import IntegrityError, printable
from core.storage.base import Storage
from core.task import keys
from core.task.commit import POLL_MAX, POLL_MIN, Commit, read_commit
from core.task.keys import CommitKey
from core.task.notices import CommitListener
from core.task.protocol import DurableRef

Part = tuple[int, int | None]
"""A batch, or one item of a batch that was taken apart."""

POLL_NOTIFIED = 5.0
"""Seconds between two looks for commits, at most, while notices tell of them."""

_GROWTH = 1.5
"""A look that found nothing makes the next wait this many times as long."""

READERS = 8
"""Commits that are read at the same time from storage where a request takes a while."""

MOST_STRAYS = 10_000
"""Keys of others among the commits of a job that are passed over; of more, reading them would stop everything else."""

_NEAR = ("file://", "memory://")
"""Storage that answers sooner than a thread would."""

_logger = logging.getLogger("fanfold")


class Progress:
    """What of a job is committed.

    Attributes
    ----------
    attempts : dict
        The attempt that committed each part.
    low : int
        The lowest batch that is not committed whole.
    """

    def __init__(self, batches: int, items: Callable[[int], range]) -> None:
        self.attempts: dict[Part, int] = {}
        self.low = 0
        self._batches, self._items = batches, items
        self._left: dict[int, int] = {}  # items to come of each batch that was taken apart

    @property
    def complete(self) -> bool:
        """Whether every batch is committed."""
        return self.low >= self._batches

    def is_split(self, batch: int) -> bool:
        """Whether a batch was taken apart."""
        return batch in self._left

    def split(self, batch: int) -> None:
        """Note that a batch was taken apart."""
        self._left.setdefault(batch, len(self._items(batch)))

    def add(self, part: Part, attempt: int) -> None:
        """Note that a part is committed."""
        self.attempts[part] = attempt
        batch, item = part
        if item is not None:
            self._left[batch] -= 1
        while not self.complete and ((self.low, None) in self.attempts or self._left.get(self.low) == 0):
            self.low += 1

    def open(self) -> Iterator[Part]:
        """Yield what is not committed."""
        for batch in range(self.low, self._batches):
            items: Iterable[int | None] = self._items(batch) if batch in self._left else [None]
            yield from ((batch, item) for item in items if (batch, item) not in self.attempts)

    def has(self, key: CommitKey) -> bool:
        """Whether a job of this shape has such a part."""
        return key.batch < self._batches and (key.item is None or key.item in self._items(key.batch))


class CommitReader:
    """Reads commits, several at a time where that is worth a thread.

    Parameters
    ----------
    storage : Storage
    ref : callable
        Returns the name of a part.
    """

    def __init__(self, storage: Storage, ref: Callable[[int, int | None], DurableRef]) -> None:
        self._storage, self._ref = storage, ref
        self._is_near = storage.address.startswith(_NEAR)
        self._threads: ThreadPoolExecutor | None = None
        self._ahead: dict[Part, Reading[Commit | None]] = {}

    def prefetch(self, parts: Iterable[Part]) -> None:
        """Begin to read parts, and forget what was read before: what was not committed then may be now."""
        self._ahead.clear()
        wanted = dict.fromkeys(parts)
        if self._is_near or len(wanted) < 2:
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READERS, "fanfold-commits")
        for part in wanted:
            self._ahead[part] = self._threads.submit(read_commit, self._storage, self._ref(*part))

    def read(self, part: Part) -> Commit | None:
        """Return the commit of a part; see `read_commit`."""
        reading = self._ahead.pop(part, None)
        return read_commit(self._storage, self._ref(*part)) if reading is None else reading.result()

    def close(self) -> None:
        """Read no more."""
        self._ahead.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


class CommitFinder:
    """Finds commits that nobody announces: by notices, and by looking through the storage with growing pauses.

    Parameters
    ----------
    listener : CommitListener, optional
        Hears notices, for a backend that does not say when a batch has ended.
    stir : callable
        Called when there is a notice, from another thread.
    """

    def __init__(
        self, storage: Storage, job_id: str, listener: CommitListener | None, stir: Callable[[], None]
    ) -> None:
        self._storage, self._job_id, self._listener = storage, job_id, listener
        self._turn = 0
        self._trusts = True
        self._delay, self.next_look = POLL_MIN, 0.0
        self._warned = False
        if listener is not None:
            listener.watch(job_id, stir)

    @property
    def hears(self) -> bool:
        """Whether notices make looking at the storage needless, as far as is known."""
        return self._listener is not None and self._listener.healthy and self._trusts

    def notices(self, now: float) -> list[str]:
        """Return the keys that were announced since the last time."""
        if self._listener is None:
            return []
        if self._listener.turn != self._turn:  # something may have been missed
            self._turn, self._trusts = self._listener.turn, True
            self._delay, self.next_look = POLL_MIN, now
        places = self._listener.take(self._job_id)
        if places and not self._trusts:
            self._trusts, self._delay = True, POLL_MAX
            self.next_look = now + self._delay
        return places

    def looked(self, found: bool, now: float) -> None:
        """Settle when to look again, after a look."""
        if self.hears:
            self._trusts = not found  # what nobody told of shows that not every worker can
        if self.hears:
            self._delay = min(max(2 * self._delay, POLL_MAX), POLL_NOTIFIED)
        else:
            self._delay = POLL_MIN if found else min(self._delay * _GROWTH, POLL_MAX)
        self.next_look = now + self._delay

    def list(self, low: int, last: int) -> Iterator[list[tuple[CommitKey, str]]]:
        """Yield what is in storage of the batches from `low` to `last`, shard by shard, each with its key.

        Raises
        ------
        IntegrityError
            Somebody has put too much there that is not the job's.
        """
        after = keys.commit(self._job_id, low - 1) + "~" if low % keys.SHARD else ""
        for shard in range(low // keys.SHARD, last // keys.SHARD + 1):
            prefix = keys.commits(self._job_id, shard)
            found, strays = [], 0
            for info in self._storage.list(prefix, after if after > prefix else ""):
                key = keys.parse_commit(info.key)
                if key is not None:
                    found.append((key, info.key))
                    continue
                strays += 1
                self._tell_of(info.key, strays)
            yield found

    def _tell_of(self, stray: str, count: int) -> None:
        if count > MOST_STRAYS:
            what = f"more than {MOST_STRAYS} objects are no job's, such as {printable(stray)}"
            raise IntegrityError(f"{what}; delete them from {self._storage.address}")
        if not self._warned:
            self._warned = True
            _logger.warning("%s in %s is no job's; it is passed over", printable(stray), self._storage.address)

    def close(self) -> None:
        """Hear no more."""
        if self._listener is not None:
            self._listener.leave(self._job_id)
