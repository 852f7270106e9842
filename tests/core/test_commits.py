import os
import threading
from dataclasses import replace

import pytest

from core import FunctionExecutor, open_storage, serialization
from core.compute.local import process
from core.errors import IntegrityError, WorkerDied
from core.storage import base
from core.storage.local import LocalStorage
from core.task import keys
from core.task.commit import commit, read_commit, split
from core.task.protocol import BatchDone, BatchLost, BatchResult, DurableRef
from core.types import TaskFailed, TaskRetried


@pytest.fixture
def store(tmp_path):
    return f"file://{tmp_path}/store"


@pytest.fixture
def start(store):
    started = []

    def begin(**settings):
        executor = FunctionExecutor(storage=store, durable=True, **{"workers": 2, **settings})
        started.append(executor)
        return executor

    yield begin
    for executor in started:
        executor.shutdown(cancel_futures=True)


def objects(store):
    return [info.key for info in open_storage(store).list("")]


def a_ref(store, batch=0, item=None):
    return DurableRef(store, "job-1", b"k" * 32, batch, item)


def outcome_of(*values):
    return BatchResult(serialization.pack(list(values)), [0.0] * len(values))


def values_of(made):
    return list(serialization.unpack(made.fetched))


def runs(folder):
    return (folder / "runs").read_text().split()


def noted(folder):
    """Return a function that notes its item, and waits with the items from 3 until there is a gate."""

    def run(x):
        with open(folder / "runs", "a") as file:
            file.write(f"{x}\n")
        while x >= 3 and not (folder / "gate").exists():
            pass
        return x * 10

    return run


def test_of_attempts_that_race_to_commit_one_wins_and_the_others_leave_nothing(store):
    storage = open_storage(store)
    barrier = threading.Barrier(8)
    won = []

    def attempt(number):
        barrier.wait()
        won.append((commit(storage, a_ref(store), outcome_of(number, bytes(300_000)), number, "w"), number))

    threads = [threading.Thread(target=attempt, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winners = [number for first, number in won if first]
    assert len(winners) == 1
    made = read_commit(storage, a_ref(store))
    assert values_of(made)[0] == winners[0]
    assert made.attempt == winners[0]
    assert len(objects(store)) == 2


def test_a_batch_that_was_taken_apart_cannot_be_committed_whole_any_more(store):
    storage = open_storage(store)

    assert split(storage, a_ref(store))
    assert not commit(storage, a_ref(store), outcome_of(1, 2), 0, "late")
    assert read_commit(storage, a_ref(store)) is None
    assert commit(storage, a_ref(store, item=1), outcome_of(2), 1, "w")
    assert values_of(read_commit(storage, a_ref(store, item=1))) == [2]


def test_a_batch_that_was_committed_cannot_be_taken_apart_any_more(store):
    storage = open_storage(store)
    commit(storage, a_ref(store), outcome_of(1, 2), 0, "w")

    assert not split(storage, a_ref(store))
    assert values_of(read_commit(storage, a_ref(store))) == [1, 2]


class Silent(process.ProcessBackend):
    """A backend that does not say when a batch has been committed."""

    def __init__(self, address, config):
        super().__init__(address, config)
        self.capabilities = replace(self.capabilities, reports_completion=False)

    def poll(self, timeout):
        return [reply for reply in super().poll(timeout) if not (type(reply) is BatchDone and reply.outcome is None)]


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setattr(process, "ProcessBackend", Silent)


def test_commits_that_nobody_announces_are_found(start, silent, store):
    executor = start()
    futures = executor.map(lambda x: None if x % 3 else [x], range(40), batch_size=3)

    assert futures.results(60) == [None if x % 3 else [x] for x in range(40)]
    executor.shutdown()
    assert objects(store) == []


def test_commits_that_nobody_announces_are_found_in_every_shard(start, silent, monkeypatch):
    monkeypatch.setattr(keys, "SHARD", 3)
    monkeypatch.setenv("FANFOLD_COMPUTE", "process?start=fork")  # a fresh interpreter would not see the change
    assert start().map(lambda x: x, range(20), batch_size=1).results(60) == list(range(20))


def test_failures_that_nobody_announces_are_found(start, silent):
    def run(x):
        if x == 2:
            raise KeyError(x)
        if x == 4:
            os._exit(1)
        return x

    futures = start().map(run, range(6), batch_size=3, retries=1)
    futures.wait(timeout=60)

    assert [f.result() for f in futures if f.exception() is None] == [0, 1, 3, 5]
    assert isinstance(futures[2].exception(), KeyError)
    assert "exited with status 1" in str(futures[4].exception())


class Distant(LocalStorage):
    """Storage over a network, where a commit is answered only while others are asked for."""

    together = threading.Barrier(3)

    def __init__(self, address):
        super().__init__(address.replace("distant://", "file://"))
        self.address = self.address.replace("file://", "distant://")

    def get(self, key, *rest, **options):
        if "/r/" in key and keys.parse_commit(key)[0] < 3:
            self.together.wait(30)
        return super().get(key, *rest, **options)


@pytest.fixture
def distant(monkeypatch, store):
    monkeypatch.setitem(base._DRIVERS, "distant", f"{__name__}:Distant")
    monkeypatch.setenv("FANFOLD_COMPUTE", "process?start=fork")  # a fresh interpreter would not know the driver
    return store.replace("file://", "distant://")


class Gathering(process.ProcessBackend):
    """A backend whose replies come three at a time."""

    def poll(self, timeout):
        self.gathered = [*getattr(self, "gathered", []), *super().poll(timeout)]
        ready, self.gathered = (self.gathered, []) if len(self.gathered) >= 3 else ([], self.gathered)
        return ready


def test_commits_of_distant_storage_that_are_announced_together_are_read_together(distant, monkeypatch):
    monkeypatch.setattr(process, "ProcessBackend", Gathering)
    with FunctionExecutor(None, distant, workers=2) as executor:
        assert executor.map(lambda x: x * 10, range(3), batch_size=1, durable=True).results(60) == [0, 10, 20]


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fanfold-commits")]


@pytest.fixture
def half_done(start, tmp_path):
    """Return the id of a job of six tasks that was left when three were committed."""
    executor = start(workers=1)
    futures = executor.map(noted(tmp_path), range(6), batch_size=1)
    assert [future.result(60) for future in futures[:3]] == [0, 10, 20]
    executor.shutdown(cancel_futures=True)
    (tmp_path / "gate").touch()
    return futures.job_id


def test_commits_of_distant_storage_that_are_found_together_are_read_together(half_done, tmp_path, distant):
    before = len(runs(tmp_path))

    with FunctionExecutor.attach(half_done, distant, compute="serial") as second:
        assert second.get_result(timeout=60) == [0, 10, 20, 30, 40, 50]

    assert sorted(runs(tmp_path)[before:]) == ["3", "4", "5"]
    for thread in readers():
        thread.join(60)
    assert readers() == []


def test_a_forged_commit_among_several_of_distant_storage_is_refused(half_done, distant, store):
    open_storage(store).put(keys.commit(half_done, 1), b"forged" * 20)

    with pytest.raises(IntegrityError):
        FunctionExecutor.attach(half_done, distant, compute="serial")


class Hasty(process.ProcessBackend):
    """A backend that reports a batch lost which was committed."""

    def poll(self, timeout):
        return [
            BatchLost(reply.batch_id, reply.worker, "killed", "it was ended", 0, True)
            if type(reply) is BatchDone
            else reply
            for reply in super().poll(timeout)
        ]


def test_a_batch_that_was_committed_before_it_was_reported_lost_is_not_run_again(start, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "ProcessBackend", Hasty)
    (tmp_path / "gate").touch()

    assert start().map(noted(tmp_path), range(6), batch_size=2).results(60) == [x * 10 for x in range(6)]
    assert sorted(runs(tmp_path)) == ["0", "1", "2", "3", "4", "5"]


class Forgetful(process.ProcessBackend):
    """A backend that does not know which task of a lost batch ran."""

    def poll(self, timeout):
        replies = super().poll(timeout)
        for reply in replies:
            if type(reply) is BatchLost:
                reply.position = None
        return replies


@pytest.mark.parametrize("durable", [True, False])
def test_where_nobody_knows_which_task_ended_a_worker_the_one_that_does_it_alone_counts(start, monkeypatch, durable):
    monkeypatch.setattr(process, "ProcessBackend", Forgetful)
    heard = []

    def run(x):
        if x == 2:
            os._exit(3)
        return x

    executor = start(listeners=[heard.append])
    futures = executor.map(run, range(4), batch_size=4, retries=1, durable=durable)
    futures.wait(timeout=60)

    assert isinstance(futures[2].exception(), WorkerDied)
    assert [future.result() for future in futures if future.index != 2] == [0, 1, 3]
    retried = [(event.task_id, event.attempts) for event in heard if type(event) is TaskRetried]
    failed = [(event.task_id, event.attempts) for event in heard if type(event) is TaskFailed]
    assert retried == [(2, 1)]
    assert failed == [(2, 2)]
    rows = executor.stats()
    assert set(rows[rows.task_id != 2].attempts) == {1}
