import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor, InputError, RetryPolicy, open_storage, serialization
from core.errors import IntegrityError, StorageError, VersionMismatch
from core.settings import state_dir
from core.storage.owner import birth, this_owner
from core.task import keys
from core.task.commit import commit, split
from core.task.jobkeys import find_key
from core.task.leases import Lease, list_jobs, read_lease, remove_job, write_lease
from core.task.protocol import BatchResult, DurableRef


class Trap:
    """Whoever unpickles this leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def store(tmp_path):
    return f"file://{tmp_path}/store"


@pytest.fixture
def start(store):
    started = []

    def begin(compute=None, **settings):
        workers = None if compute == "serial" else 2
        executor = FunctionExecutor(compute, store, durable=True, **{"workers": workers, **settings})
        started.append(executor)
        return executor

    yield begin
    for executor in started:
        executor.shutdown(cancel_futures=True)


@pytest.fixture
def small_shards(monkeypatch):
    def of(batches):
        monkeypatch.setattr(keys, "SHARD", batches)
        monkeypatch.setenv("FANFOLD_COMPUTE", "process?start=fork")  # a fresh interpreter would not see the change

    return of


def objects(store, job_id=None):
    return [info.key for info in open_storage(store).list(keys.prefix(job_id) if job_id else "")]


def leave_unfinished(executor, futures):
    """End a driver as Ctrl-C does: what is committed stays."""
    executor.shutdown(cancel_futures=True)
    return futures.job_id


def half_done(start, folder, tasks=6, **settings):
    """Make a job whose first half is committed and whose driver has gone; returns its id."""
    executor = start(workers=1, **settings)

    def run(x):
        with open(folder / "runs", "a") as file:
            file.write(f"{x}\n")
        while x >= 3 and not (folder / "gate").exists():
            pass
        return x * 10

    futures = executor.map(run, range(tasks), batch_size=1)
    assert [future.result(60) for future in futures[:3]] == [0, 10, 20]
    return leave_unfinished(executor, futures)


def runs(folder):
    return (folder / "runs").read_text().split()


@pytest.mark.parametrize("compute", ["serial", "process"])
def test_a_finished_job_leaves_nothing_behind(start, store, tmp_path, compute):
    executor = start(compute)
    futures = executor.map(lambda x: bytes(x), [10, 300_000, 5], batch_size=2)

    assert [len(result) for result in futures.results(60)] == [10, 300_000, 5]
    assert objects(store, futures.job_id)
    executor.shutdown()

    assert objects(store) == []
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    assert not (state_dir() / "jobs" / f"{futures.job_id}.json").exists()


def test_a_job_is_one_record_and_one_commit_a_batch(start, store):
    executor = start()
    futures = executor.map(lambda x: x, range(10), batch_size=4)
    futures.results(60)

    stored = objects(store, futures.job_id)

    job = futures.job_id
    assert stored == sorted([keys.record(job), keys.lease(job), *(keys.commit(job, batch) for batch in range(3))])


def test_large_inputs_and_results_have_objects_of_their_own_and_small_ones_do_not(start, store):
    executor = start()
    given = [np.zeros(10), np.arange(50_000.0), np.ones(10)]
    futures = executor.map(lambda a: a + 1, given, batch_size=1)

    for before, after in zip(given, futures.results(60), strict=True):
        assert np.array_equal(after, before + 1)
        after[0] = 5

    stored = objects(store, futures.job_id)
    assert keys.inputs(futures.job_id) in stored
    assert len([key for key in stored if "/o/" in key]) == 1


def test_a_key_is_readable_by_its_owner_alone(start):
    futures = start().map(lambda x: x, [1])
    path = state_dir() / "jobs" / f"{futures.job_id}.json"

    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    futures.results(60)


def test_memory_storage_is_refused_where_workers_cannot_reach_it_and_used_where_they_can():
    with (
        FunctionExecutor("process", "memory://durable", durable=True) as executor,
        pytest.raises(ConfigError, match="file://"),
    ):
        executor.map(lambda x: x, [1])
    with FunctionExecutor("serial", "memory://durable", durable=True) as executor:
        assert executor.map(lambda x: x + 1, [1, 2]).results() == [2, 3]
    assert list(open_storage("memory://durable").list("")) == []


def test_storage_that_cannot_be_written_to_is_an_error_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("in the way")
    before = set((state_dir() / "jobs").glob("*.json"))

    with FunctionExecutor("process", f"file://{tmp_path}/file/store", durable=True) as executor:
        with pytest.raises(StorageError):
            executor.map(lambda x: (tmp_path / "ran").touch(), [1])

    assert not (tmp_path / "ran").exists()
    assert set((state_dir() / "jobs").glob("*.json")) == before


def test_a_committed_job_is_not_run_again_by_whoever_takes_it_up(start, tmp_path, store):
    job_id = half_done(start, tmp_path)
    (tmp_path / "gate").touch()
    committed = [key for key in objects(store, job_id) if "/r/" in key]
    before = runs(tmp_path)

    with FunctionExecutor.attach(job_id, workers=2) as second:
        assert second.get_result(timeout=60) == [0, 10, 20, 30, 40, 50]

    after = runs(tmp_path)[len(before) :]
    assert len(committed) == 3
    assert sorted(after) == ["3", "4", "5"]
    assert objects(store) == []


def test_an_interrupted_job_is_listed_as_such_and_can_be_removed(start, tmp_path, store):
    job_id = half_done(start, tmp_path)

    (info,) = list_jobs(open_storage(store))
    assert (info.job_id, info.state, info.tasks, info.done) == (job_id, "interrupted", 6, 3)
    remove_job(open_storage(store), job_id)

    assert list(list_jobs(open_storage(store))) == []
    with pytest.raises(InputError, match="no job"):
        FunctionExecutor.attach(job_id)


def test_cancelling_a_whole_job_removes_it(start, store, tmp_path):
    executor = start()

    def stuck(x):
        while True:
            pass

    futures = executor.map(stuck, range(4), batch_size=1)
    executor.cancel(futures)
    executor.shutdown()

    assert objects(store) == []


def test_attaching_to_a_job_that_never_was_says_so():
    with pytest.raises(InputError, match="no job '20010101-000000-deadbeef'"):
        FunctionExecutor.attach("20010101-000000-deadbeef")


def test_attaching_to_a_job_that_was_removed_says_so(start, tmp_path, store):
    job_id = half_done(start, tmp_path)
    open_storage(store).delete(objects(store, job_id))

    with pytest.raises(InputError, match="not in .* any more"):
        FunctionExecutor.attach(job_id)


def test_attaching_with_other_software_is_refused_before_anything_runs(start, tmp_path, monkeypatch):
    job_id = half_done(start, tmp_path)
    before = runs(tmp_path)
    monkeypatch.setattr(
        "core.task.versions.versions", lambda: {"python": "2.7", "fanfold": "0", "cloudpickle": "0", "numpy": "0"}
    )

    with pytest.raises(VersionMismatch, match=r"python 3\.\d+ there and 2\.7 here"):
        FunctionExecutor.attach(job_id)

    assert runs(tmp_path) == before


@pytest.mark.parametrize("which", ["record", "commit"])
def test_a_forged_object_is_refused_and_never_unpickled(start, tmp_path, store, which):
    job_id = half_done(start, tmp_path)
    storage = open_storage(store)
    place = keys.record(job_id) if which == "record" else keys.commit(job_id, 0)
    bait = serialization.dumps(Trap(tmp_path / "sprung"))
    storage.put(place, serialization.sign(b"x" * 32, place, bait))

    with pytest.raises(IntegrityError, match="not written by this job"):
        FunctionExecutor.attach(job_id)

    assert not (tmp_path / "sprung").exists()


def test_a_commit_of_another_batch_is_refused(start, tmp_path, store):
    job_id = half_done(start, tmp_path)
    storage = open_storage(store)
    storage.put(keys.commit(job_id, 1), storage.get(keys.commit(job_id, 0)))

    with pytest.raises(IntegrityError, match="signature does not match"):
        FunctionExecutor.attach(job_id)


def test_a_record_of_another_job_is_refused(start, tmp_path, store):
    first, second = (half_done(start, tmp_path / name) for name in map(_folder(tmp_path), "ab"))
    storage = open_storage(store)
    storage.put(keys.record(second), storage.get(keys.record(first)))

    with pytest.raises(IntegrityError):
        FunctionExecutor.attach(second)


def _folder(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        return name

    return make


@pytest.mark.parametrize("change", ["forged", "missing"])
def test_a_large_result_that_is_not_what_its_commit_names_is_refused(start, tmp_path, store, change):
    executor = start(workers=1)

    def run(x):
        while x and not (tmp_path / "gate").exists():
            pass
        return bytes(400_000)

    futures = executor.map(run, range(2), batch_size=1)
    futures[0].result(60)
    job_id = leave_unfinished(executor, futures)
    storage = open_storage(store)
    (large,) = [key for key in objects(store, job_id) if "/o/" in key]
    storage.delete([large])
    if change == "forged":
        storage.put(large, serialization.to_bytes(serialization.pack([Trap(tmp_path / "sprung")])))

    with pytest.raises(IntegrityError, match="is missing" if change == "missing" else "not what its commit names"):
        FunctionExecutor.attach(job_id)

    assert not (tmp_path / "sprung").exists()


def test_a_forged_commit_fails_its_job_and_no_other(start, tmp_path, store):
    executor = start(workers=1)
    gate = tmp_path / "gate"

    def run(x):
        while not gate.exists():
            pass
        return x

    futures = executor.map(run, range(2), batch_size=1)
    open_storage(store).put(keys.commit(futures.job_id, 0), b"forged" * 20)
    other = executor.map(lambda x: x, [5], durable=False)
    gate.touch()

    assert isinstance(futures[0].exception(60), IntegrityError)
    assert other.results(60) == [5]
    assert executor.map(lambda x: x, [6]).results(60) == [6]


def outcome_of(*values):
    return BatchResult(serialization.pack(list(values)), [0.0] * len(values))


def test_what_is_committed_beyond_a_gap_is_not_run_again(start, tmp_path, store, small_shards):
    """Slow batches that fill a shard must not hide what the next shard holds."""
    small_shards(2)
    executor = start(workers=3)

    def run(x):
        with open(tmp_path / "runs", "a") as file:
            file.write(f"{x}\n")
        while x < 2 and not (tmp_path / "gate").exists():
            pass
        return x

    futures = executor.map(run, range(8), batch_size=1)
    assert [futures[i].result(60) for i in range(2, 8)] == list(range(2, 8))
    job_id = leave_unfinished(executor, futures)
    (tmp_path / "gate").touch()
    before = len(runs(tmp_path))

    with FunctionExecutor.attach(job_id, workers=2) as second:
        assert second.get_result(timeout=60) == list(range(8))

    assert sorted(runs(tmp_path)[before:]) == ["0", "1"]


def test_a_job_whose_items_another_driver_took_apart_is_finished(start, tmp_path, store):
    executor = start(workers=1)
    gate = tmp_path / "gate"

    def run(x):
        while not gate.exists():
            pass
        return x

    futures = executor.map(run, range(4), batch_size=2)
    key = find_key(futures.job_id)[1]
    split(open_storage(store), DurableRef(store, futures.job_id, key, 0))
    gate.touch()

    assert futures.results(60) == [0, 1, 2, 3]


def test_an_exception_is_tried_again_and_its_attempts_are_in_the_commit(start):
    def third(x, attempt):
        if attempt < 2:
            raise OSError
        return attempt

    executor = start()
    futures = executor.map(third, [1], retries=RetryPolicy(2, (OSError,), backoff=0.001))

    assert futures.results(60) == [2]
    assert list(executor.stats().attempts) == [3]


def test_memory_is_doubled_for_a_task_that_ran_out_of_it(start):
    def hold(x, attempt):
        block = b"x" * (100 << 20)
        end = time.monotonic() + 0.2
        while attempt == 0 or time.monotonic() < end:
            pass
        return len(block)

    assert start().map(hold, [1], memory="70MB", retries=1).results(60) == [100 << 20]


def test_no_credentials_or_key_are_in_storage(start, store):
    futures = start().map(lambda x: x, [1])
    futures.results(60)
    key = find_key(futures.job_id)[1]
    storage = open_storage(store)

    for name in objects(store, futures.job_id):
        content = storage.get(name)
        assert key not in content
        assert key.hex().encode() not in content


def test_the_lease_is_plain_json_that_a_listing_can_read_without_the_key(start, store):
    futures = start().map(lambda x: x, [1], durable=True)
    lease = json.loads(open_storage(store).get(keys.lease(futures.job_id)))

    assert lease["tasks"] == 1
    assert str(os.getpid()) in lease["owner"]
    futures.results(60)


def other_driver(store, job_id, alive=True):
    """Make it look as if process 1 of this machine drove the job."""
    storage = open_storage(store)
    mine = read_lease(storage, job_id)
    owner = this_owner() if alive is None else f"{mine.owner.split(':')[0]}:1:{birth(1) if alive else 'long ago'}"
    write_lease(storage, job_id, Lease(owner, time.time() + 600, mine.name, mine.created, mine.tasks, mine.batch_size))


def test_attaching_while_the_driver_lives_only_looks_on(start, tmp_path, store):
    executor = start(workers=1)

    def run(x):
        with open(tmp_path / "runs", "a") as file:
            file.write(f"{x}\n")
        while not (tmp_path / "gate").exists():
            pass
        return x

    futures = executor.map(run, range(4), batch_size=1)
    other_driver(store, futures.job_id)
    with FunctionExecutor.attach(futures.job_id, workers=2) as watcher:
        (tmp_path / "gate").touch()
        assert watcher.get_result(timeout=60) == [0, 1, 2, 3]

    assert sorted(runs(tmp_path)) == ["0", "1", "2", "3"]
    assert keys.record(futures.job_id) in objects(store)
    assert futures.results(60) == [0, 1, 2, 3]


def test_a_watcher_takes_over_when_the_driver_dies(start, tmp_path, store):
    job_id = half_done(start, tmp_path)
    (tmp_path / "gate").touch()
    other_driver(store, job_id)

    with FunctionExecutor.attach(job_id, workers=2) as watcher:
        futures = watcher._latest.jobs()[-1]
        assert watcher.wait(timeout=0.01)[1]
        before = len(runs(tmp_path))
        other_driver(store, job_id, alive=False)
        assert futures.results(60) == [0, 10, 20, 30, 40, 50]

    assert sorted(runs(tmp_path)[before:]) == ["3", "4", "5"]
    assert objects(store) == []


def test_a_watcher_of_a_job_that_its_driver_removed_is_told(start, tmp_path, store):
    job_id = half_done(start, tmp_path)
    other_driver(store, job_id)

    with FunctionExecutor.attach(job_id, workers=1) as watcher:
        open_storage(store).delete(objects(store, job_id))

        with pytest.raises(InputError, match="removed"):
            watcher.get_result(timeout=60)

    assert objects(store) == []


def test_a_watcher_finds_commits_in_every_shard(start, tmp_path, store, small_shards):
    small_shards(2)
    job_id = half_done(start, tmp_path, tasks=9)
    other_driver(store, job_id)
    record_key = find_key(job_id)[1]

    with FunctionExecutor.attach(job_id, workers=1) as watcher:
        for batch in reversed(range(3, 9)):
            commit(open_storage(store), DurableRef(store, job_id, record_key, batch), outcome_of(batch * 10), 0, "w")
        assert watcher.get_result(timeout=60) == [x * 10 for x in range(9)]


def test_a_job_that_cannot_be_removed_keeps_no_other_from_it(start, store, monkeypatch):
    from core.storage.local import LocalStorage

    executor = start()
    stuck, other = executor.map(abs, [1]), executor.map(abs, [2])
    assert stuck.results(60) + other.results(60) == [1, 2]
    real = LocalStorage.delete

    def refusing(self, names):
        names = list(names)
        if any(stuck.job_id in name for name in names):
            raise StorageError("no right to delete that")
        real(self, names)

    monkeypatch.setattr(LocalStorage, "delete", refusing)

    with pytest.raises(StorageError, match="no right"):
        executor.shutdown()

    assert objects(store, other.job_id) == []


def test_a_job_that_an_executor_refuses_because_it_closes_leaves_nothing(start, store, monkeypatch):
    executor = start()
    executor.map(abs, [1]).results(60)
    real = executor._launcher._job

    def closing(*given):
        job = real(*given)
        executor.shutdown()
        return job

    monkeypatch.setattr(executor._launcher, "_job", closing)

    with pytest.raises(RuntimeError, match="shut down"):
        executor.map(abs, [2])

    assert objects(store) == []


def test_a_job_whose_storage_fails_while_it_is_cancelled_fails_alone(start, tmp_path, monkeypatch):
    executor = start(workers=1)

    def stuck(x):
        (tmp_path / "runs").touch()
        while not (tmp_path / "never").exists():
            pass

    def fail(*_):
        raise StorageError("no right to split")

    monkeypatch.setattr("core.job.durable.split", fail)
    futures = executor.map(stuck, range(2), batch_size=2)
    while not (tmp_path / "runs").exists():
        pass
    executor.cancel(futures[0])

    assert isinstance(futures[1].exception(60), StorageError)
    assert executor.map(abs, [-1]).results(60) == [1]


def test_cleaning_an_executor_leaves_a_job_on_which_somebody_looks_on(start, store):
    executor = start()
    futures = executor.map(abs, [-1])
    assert futures.results(60) == [1]
    with FunctionExecutor.attach(futures.job_id, workers=1) as watcher:
        executor.clean()
        assert watcher.get_result(timeout=60) == [1]

    assert objects(store) == []
