"""Futures of durable jobs of another process: waited for, iterated and called back like any other."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import pickle
import threading
import time
from pathlib import Path

import pytest

from core import FunctionExecutor, open_storage, serialization
from core.errors import IntegrityError, WorkerDied
from core.futures import FutureList, wait
from core.job.returned import StoredFuture
from core.storage.owner import this_owner
from core.task import keys
from core.task.commit import commit, split
from core.task.jobkeys import find_key
from core.task.leases import list_jobs, write_lease
from core.task.protocol import BatchResult, DurableRef


class Stored:
    """A job in storage whose batches are committed as a test says."""

    def __init__(self, folder: Path) -> None:
        self.store = f"file://{folder}/store"
        self.storage = open_storage(self.store)
        executor = FunctionExecutor("process", self.store, workers=1, durable=True)
        gate = folder / "never"

        def stuck(x):
            while not gate.exists():
                pass

        futures = executor.map(stuck, range(6), batch_size=2)
        self.job_id, self.key = futures.job_id, find_key(futures.job_id)[1]
        self.futures: FutureList = pickle.loads(pickle.dumps(futures))
        job = executor._history.find(self.job_id)
        self.lease = job.record.lease("another", 600)
        executor.shutdown(cancel_futures=True)
        self.storage.delete([info.key for info in self.storage.list(keys.commits(self.job_id))])
        write_lease(self.storage, self.job_id, self.lease)

    def ref(self, batch: int, item: int | None = None) -> DurableRef:
        return DurableRef(self.store, self.job_id, self.key, batch, item)

    def commit(self, batch: int, *values: object, item: int | None = None, logs: dict[int, str] | None = None) -> None:
        outcome = BatchResult(serialization.pack(list(values)), [0.0] * len(values), logs=logs or {})
        commit(self.storage, self.ref(batch, item), outcome, 0, "w")

    def driver_goes(self) -> None:
        gone = f"{this_owner().rsplit(':', 1)[0]}:1"
        write_lease(self.storage, self.job_id, type(self.lease)(gone, time.time() + 60, "f", 0.0, 6, 2, "another"))


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


def test_futures_of_another_process_have_no_results_until_these_are_committed(stored):
    first = stored.futures[0]

    assert isinstance(first, StoredFuture)
    assert not first.done()
    with pytest.raises(TimeoutError, match="goes on"):
        first.result(0.01)
    stored.commit(0, "a", "b", logs={0: "said so\n"})

    assert first.result(60) == "a"
    assert first.log == "said so\n"


def test_waiting_for_any_and_for_all_of_them_works(stored):
    stored.commit(1, "c", "d")

    done, rest = wait(stored.futures, "ANY", timeout=60)
    assert stored.futures[2] in done
    assert stored.futures[0] in rest
    stored.commit(0, "a", "b")
    stored.commit(2, "e", "f")
    done, rest = stored.futures.wait(timeout=60)

    assert (done, rest) == (list(stored.futures), [])
    assert stored.futures.results(0) == list("abcdef")


def test_as_completed_and_wait_of_the_standard_library_work(stored):
    stream = concurrent.futures.as_completed(stored.futures, timeout=60)
    stored.commit(1, "c", "d")
    assert {next(stream).result(), next(stream).result()} == {"c", "d"}
    stored.commit(0, "a", "b")
    stored.commit(2, "e", "f")

    assert sorted(future.result() for future in stream) == ["a", "b", "e", "f"]
    assert len(concurrent.futures.wait(stored.futures, timeout=60).done) == 6


def test_callbacks_are_called_although_nobody_waits(stored):
    called = threading.Event()
    stored.futures[0].add_done_callback(lambda future: called.set())
    stored.commit(0, "a", "b")

    assert called.wait(60)


def test_they_can_be_awaited(stored):
    threading.Timer(0.05, stored.commit, (0, "a", "b")).start()

    async def both():
        return await asyncio.gather(*(asyncio.wrap_future(future) for future in stored.futures[:2]))

    assert asyncio.run(both()) == ["a", "b"]


def test_asking_again_and_again_whether_it_is_done_is_enough(stored):
    stored.commit(0, "a", "b")
    deadline = time.monotonic() + 60

    while not stored.futures[1].done():
        assert time.monotonic() < deadline

    assert stored.futures[1].result(0) == "b"


def test_items_of_a_batch_that_was_taken_apart_come_one_by_one(stored):
    split(stored.storage, stored.ref(0))
    stored.commit(0, "b", item=1)

    assert stored.futures[1].result(60) == "b"
    assert not stored.futures[0].done()
    stored.commit(0, "a", item=0)
    assert stored.futures[0].result(60) == "a"


def test_when_the_driver_is_gone_what_is_committed_comes_and_the_rest_says_so(stored):
    stored.commit(2, "e", "f")
    stored.driver_goes()

    done, rest = wait(stored.futures, timeout=60)

    assert rest == []
    assert [future.result() for future in stored.futures[4:]] == ["e", "f"]
    assert isinstance(stored.futures[0].exception(), WorkerDied)
    assert f"attach('{stored.job_id}') takes the job up" in str(stored.futures[0].exception())


def test_a_forged_commit_fails_its_own_futures_and_no_others(stored):
    stored.storage.put(keys.commit(stored.job_id, 0), b"forged" * 20)
    stored.commit(1, "c", "d")

    assert stored.futures[2].result(60) == "c"
    assert isinstance(stored.futures[0].exception(60), IntegrityError)


def test_two_references_to_one_task_both_get_its_result(stored):
    twin = pickle.loads(pickle.dumps(stored.futures[0]))
    stored.commit(0, "a", "b")

    assert (twin.result(60), stored.futures[0].result(60)) == ("a", "a")


def test_the_job_is_removed_when_all_have_ended_and_its_thread_ends(stored):
    for batch in range(3):
        stored.commit(batch, batch, batch)

    assert stored.futures.results(60) == [0, 0, 1, 1, 2, 2]

    assert list(list_jobs(stored.storage)) == []
    for thread in threading.enumerate():
        if thread.name == "fanfold-returned":
            thread.join(60)
            assert not thread.is_alive()


def test_each_commit_is_read_once_for_all_who_wait(stored, monkeypatch):
    from core.job import returned

    reads = []
    real = returned.read_commit
    monkeypatch.setattr(returned, "read_commit", lambda storage, ref: (reads.append(ref.batch), real(storage, ref))[1])
    for batch in range(3):
        stored.commit(batch, batch, batch)
    for future in stored.futures:
        future.add_done_callback(lambda _: None)
    stored.futures.results(60)

    assert len(reads) <= 2 * 3


def test_futures_that_nobody_waits_for_cost_no_thread(stored):
    futures = list(stored.futures)
    gc.collect()

    assert len(futures) == 6
    assert not [thread for thread in threading.enumerate() if thread.name == "fanfold-returned"]
