"""What is committed of a durable job, how a driver hears of it, and how it reads ahead."""

from __future__ import annotations

import os
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import serialization
from core.errors import NotFound
from core.job import commits
from core.job.commits import POLL_NOTIFIED, CommitFinder, CommitReader, Progress
from core.storage.memory import MemoryStorage
from core.task import keys
from core.task.commit import POLL_MAX, POLL_MIN, commit
from core.task.keys import CommitKey
from core.task.protocol import BatchResult, DurableRef


class Listener:
    """Stands for a connection over which commits are announced."""

    def __init__(self):
        self.healthy, self.turn = True, 0
        self.told: deque[str] = deque()

    def watch(self, job_id, stir):
        self.stir = stir

    def take(self, job_id):
        told, self.told = list(self.told), deque()
        return told

    def leave(self, job_id):
        self.stir = None


def a_finder(listener=None):
    return CommitFinder(MemoryStorage("memory://finder"), "job-1", listener, lambda: None)


# Progress


def of_three_batches():
    return Progress(3, lambda batch: range(2))


def test_a_job_is_complete_when_every_batch_is_committed_whole_or_item_by_item():
    progress = of_three_batches()
    progress.add((1, None), 0)
    assert (progress.low, progress.complete) == (0, False)
    progress.split(0)
    progress.add((0, 1), 2)
    progress.add((2, None), 0)
    assert list(progress.open()) == [(0, 0)]

    progress.add((0, 0), 0)

    assert progress.complete
    assert list(progress.open()) == []
    assert progress.attempts == {(1, None): 0, (0, 1): 2, (2, None): 0, (0, 0): 0}


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_whatever_the_order_of_commits_what_is_left_is_open(order, apart):
    progress = Progress(8, lambda batch: range(2))
    parts = [(batch, item) for batch in order for item in ((0, 1) if batch in apart else (None,))]
    for number, (batch, item) in enumerate(parts):
        if item is not None:
            progress.split(batch)
        progress.add((batch, item), 0)
        left = set(parts[number + 1 :])
        expected = {part if part[0] not in apart or progress.is_split(part[0]) else (part[0], None) for part in left}
        assert set(progress.open()) == expected

    assert progress.complete


@pytest.mark.parametrize(
    ("key", "fits"),
    [(CommitKey(2, None), True), (CommitKey(3, None), False), (CommitKey(0, 1), True), (CommitKey(0, 2), False)],
)
def test_parts_that_the_job_does_not_have_are_known_as_such(key, fits):
    assert of_three_batches().has(key) == fits


# CommitFinder


def test_looks_become_rarer_while_nothing_is_found_and_frequent_again_when_something_is():
    finder = a_finder()
    delays = []
    for _ in range(20):
        finder.looked(False, 100.0)
        delays.append(finder.next_look - 100.0)
    finder.looked(True, 200.0)

    assert delays == sorted(delays)
    assert delays[0] == pytest.approx(1.5 * POLL_MIN)
    assert delays[-1] == POLL_MAX
    assert finder.next_look == 200.0 + POLL_MIN


def test_with_a_connection_that_works_looks_are_rare():
    finder = a_finder(Listener())
    for _ in range(20):
        finder.looked(False, 100.0)

    assert finder.hears
    assert finder.next_look == 100.0 + POLL_NOTIFIED


def test_what_nobody_told_of_is_looked_for_again_until_somebody_tells():
    listener = Listener()
    finder = a_finder(listener)
    finder.notices(0.0)
    finder.looked(True, 100.0)
    assert not finder.hears
    assert finder.next_look == 100.0 + POLL_MIN

    listener.told.append("job/job-1/r/000000/000000000")
    assert finder.notices(100.0) == ["job/job-1/r/000000/000000000"]

    assert finder.hears
    assert finder.next_look == 100.0 + POLL_MAX


def test_a_connection_that_was_lost_or_made_again_is_a_reason_to_look_at_once():
    listener = Listener()
    finder = a_finder(listener)
    finder.looked(False, 100.0)
    listener.turn += 1
    finder.notices(100.1)

    assert finder.next_look == 100.1


def test_whoever_finds_commits_no_more_is_not_told_of_them():
    listener = Listener()
    a_finder(listener).close()

    assert listener.stir is None


def test_commits_are_listed_from_the_lowest_that_is_missing_shard_by_shard(monkeypatch):
    monkeypatch.setattr(keys, "SHARD", 2)
    storage = MemoryStorage("memory://shards")
    for batch in range(7):
        storage.put(keys.commit("job-1", batch), b"c")
    storage.put(keys.commit("job-1", 4, 1), b"c")
    storage.put(keys.loss("job-1", 4, None, 1), b"l")
    finder = CommitFinder(storage, "job-1", None, lambda: None)

    found = [[key for key, _ in shard] for shard in finder.list(1, 5)]

    assert found == [
        [(1, None, None)],
        [(2, None, None), (3, None, None)],
        [(4, None, None), (4, None, 1), (4, 1, None), (5, None, None)],
    ]


# CommitReader


class Distant(MemoryStorage):
    """Storage that answers some requests only when as many are asked at once."""

    together: threading.Barrier

    def __init__(self, parties):
        super().__init__(f"memory://{os.urandom(4).hex()}")
        self.address = "distant://storage"
        self.together = threading.Barrier(parties)

    def get(self, key, *rest, **options):
        self.together.wait(60)
        return super().get(key, *rest, **options)


def a_ref(batch, item):
    return DurableRef("memory://distant", "job-1", b"k" * 32, batch, item)


def committed(storage, batches):
    for batch in range(batches):
        commit(storage, a_ref(batch, None), BatchResult(serialization.pack([batch]), [0.0]), batch, "w")


def test_commits_that_are_wanted_together_are_read_together():
    storage = Distant(3)
    committed(storage, 3)
    reader = CommitReader(storage, a_ref)

    reader.prefetch((batch, None) for batch in range(3))

    assert [reader.read((batch, None)).attempt for batch in range(3)] == [0, 1, 2]
    reader.close()


def test_what_was_not_there_is_asked_for_again_the_next_time():
    storage = Distant(2)
    reader = CommitReader(storage, a_ref)
    reader.prefetch([(0, None), (1, None)])
    with pytest.raises(NotFound):
        reader.read((0, None))
    committed(storage, 2)

    reader.prefetch([(0, None), (1, None)])

    assert reader.read((1, None)).attempt == 1
    reader.close()


def test_near_storage_and_single_commits_are_read_without_threads(monkeypatch):
    monkeypatch.setattr(commits, "ThreadPoolExecutor", None)
    near, distant = MemoryStorage("memory://distant"), Distant(1)
    committed(near, 2)
    committed(distant, 1)

    for storage, parts in ((near, [(0, None), (1, None)]), (distant, [(0, None)])):
        reader = CommitReader(storage, a_ref)
        reader.prefetch(parts)
        assert reader.read((0, None)).attempt == 0
        reader.close()
