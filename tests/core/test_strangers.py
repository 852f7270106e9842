"""Whoever may write to the storage of jobs harms the job whose objects they touch, and no other."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core import FunctionExecutor, open_storage, serialization
from core.cli.main import chosen_jobs, main
from core.errors import FanfoldError, IntegrityError, VersionMismatch
from core.job.commits import MOST_STRAYS, CommitFinder
from core.storage.memory import MemoryStorage
from core.storage.owner import LONGEST_LEASE, this_owner
from core.storage.reading import LARGEST_TEXT, is_count, is_number, is_text, read_fields
from core.task import keys, messages
from core.task.commit import read_commit, read_loss_report, read_record
from core.task.jobkeys import find_key
from core.task.leases import Lease, list_jobs, read_lease, write_lease
from core.task.protocol import DurableRef

GOOD = {
    "owner": "host:1:1",
    "expires": 2e9,
    "name": "f",
    "created": 1e9,
    "tasks": 4,
    "batch_size": 2,
    "holder": "h",
}
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(10**300, 10**301))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
FORGED = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.builds(lambda name, value: json.dumps({**GOOD, name: value}).encode(), st.sampled_from([*GOOD, "extra"]), JSON),
)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


def until(condition, patience=30.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# The reader


@given(FORGED)
@example(b'{"owner": "x", "expires": 9e99}')
@example(json.dumps({**GOOD, "expires": math.inf}).encode())
@example(json.dumps({**GOOD, "expires": math.nan}).encode())
@example(b"[" * 100_000)
@example(b'{"owner": 1, "owner": 2}')
@example(b"9" * 5000)
def test_whatever_stands_for_a_lease_is_a_sound_lease_or_none(content: bytes) -> None:
    storage = MemoryStorage("memory://forged")
    storage.put(keys.lease("job-1"), content)

    lease = read_lease(storage, "job-1")
    (info,) = list_jobs(storage)

    assert info.problem.isprintable()
    assert (lease is None) == bool(info.problem)
    if lease is not None:
        assert isinstance(lease.alive(), bool)
        assert 0 <= lease.expires <= time.time() + LONGEST_LEASE
        assert (lease.owner + lease.name).isprintable()


def test_a_lease_that_its_driver_wrote_is_read_as_it_is(store: str) -> None:
    storage = open_storage(store)
    lease = Lease(this_owner(), time.time() + 60, "f", 1e9, 3, 2, "holder")
    write_lease(storage, "job-1", lease)

    assert read_lease(storage, "job-1") == lease


def test_a_text_without_end_is_not_read_to_its_end(store: str) -> None:
    storage = open_storage(store)
    storage.put(keys.lease("job-1"), b" " * (50 << 20))
    before = storage.bytes_in

    assert read_lease(storage, "job-1") is None
    assert storage.bytes_in - before <= LARGEST_TEXT + 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{}", "fields"),
        (b'{"a": 1, "b": 2, "c": "x"}', "fields are not those of a, b: see 'c'"),
        (b'{"a": true, "b": 2.0}', "a cannot be True"),
        (b'{"a": 1, "b": 1e999}', "b cannot be inf"),
        (b'{"a": 1, "b": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 2, "b": 0}', "a field twice"),
        (b'{"a": 1, "b": 3}', "b cannot be 3"),
        (b"[1, 2]", "no JSON object"),
        (b" " * (LARGEST_TEXT + 1), "more than"),
        (b"\x1b[2J\xff", "cannot be used"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_in_one_printable_sentence(content: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason) as caught:
        read_fields(content, "job/\x1b[31m/lease", {"a": is_count(0, 5), "b": is_number(0, 2)})

    assert str(caught.value).isprintable()


def test_text_of_control_characters_is_no_text() -> None:
    assert is_text(5)("ok")
    assert not is_text(5)("\x1b[2J")
    assert not is_text(1)("ok")


@given(st.binary(max_size=300))
def test_records_commits_and_reports_that_are_anything_else_are_refused(content: bytes) -> None:
    storage = MemoryStorage("memory://garbage")
    key = b"k" * 32
    for place in (keys.record("job-1"), keys.commit("job-1", 0), keys.loss("job-1", 0, None, 0)):
        storage.put(place, content)

    for read in (
        lambda: read_record(storage, key, "job-1"),
        lambda: read_commit(storage, DurableRef("memory://garbage", "job-1", key, 0)),
        lambda: read_loss_report(storage, key, keys.loss("job-1", 0, None, 0)),
    ):
        with pytest.raises(IntegrityError):
            read()


def test_versions_are_compared_before_a_record_is_unpickled(store: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    storage, key, place = open_storage(store), b"k" * 32, keys.record("job-1")
    body = messages.encode({"kind": "record", "versions": {"python": "2.7"}}, [serialization.dumps(Trap())])
    storage.put(place, serialization.sign(key, place, body))

    with pytest.raises(VersionMismatch, match="python 2.7 there"):
        read_record(storage, key, "job-1")

    assert not (tmp_path / "sprung").exists()


def test_a_record_of_another_job_under_the_same_key_is_refused(store: str) -> None:
    with FunctionExecutor("serial", store, durable=True) as executor:
        futures = executor.map(abs, [1])
        key = find_key(futures.job_id)[1]
        storage = open_storage(store)
        body = serialization.verify(key, keys.record(futures.job_id), storage.get(keys.record(futures.job_id)))
        place = keys.record("job-2")
        storage.put(place, serialization.sign(key, place, bytes(body)))

        with pytest.raises(IntegrityError, match="no record of that job"):
            read_record(storage, key, "job-2")


# Keys

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and not name.startswith(".fanfold-tmp-")
)


@given(st.lists(NAMES, min_size=1, max_size=4))
@example(["r", "000000", "garb\x1bage"])
@example(["r", "000000", "000000000"])
@example(["r", "000001", "000000000"])
@example(["r", "000000", "٠٠٠٠٠٠٠٠٠"])
def test_a_key_is_that_of_a_commit_only_as_the_product_writes_it(names: list[str]) -> None:
    key = keys.prefix("job-1") + "/".join(names)

    found = keys.parse_commit(key)

    if found is not None:
        batch, item, attempt = found
        written = keys.commit("job-1", batch, item)
        assert key == (written if attempt is None else keys.loss("job-1", batch, item, attempt))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=12))
@example(["x/\U0001f600", "x/job", "x0/job", "x", "x-/lease"])
def test_stray_objects_below_job_end_no_listing_and_hide_no_job(names: list[str]) -> None:
    storage = MemoryStorage("memory://strays")
    storage.delete([info.key for info in storage.list()])
    write_lease(storage, "20260101-120000-deadbeef", Lease("host:1:1", time.time() - 1, "f", 1e9, 4, 2))
    for name in names:
        storage.put(keys.ROOT + name, b"x")

    listed = list(list_jobs(storage))

    assert [info.name for info in listed if info.job_id == "20260101-120000-deadbeef"] == ["f"]
    assert len({info.job_id for info in listed}) == len(listed)
    assert all(info.problem.isprintable() for info in listed)


def test_too_many_stray_objects_among_commits_are_refused_and_a_few_passed_over() -> None:
    storage = MemoryStorage("memory://crowd")
    storage.put(keys.commit("job-1", 0), b"c")
    finder = CommitFinder(storage, "job-1", None, lambda: None)
    for number in range(5):
        storage.put(f"{keys.commits('job-1', 0)}stray-{number}", b"")
    assert [key for found in finder.list(0, 0) for key, _ in found] == [(0, None, None)]
    for number in range(MOST_STRAYS + 1):
        storage.put(f"{keys.commits('job-1', 0)}stray-{number}", b"")

    with pytest.raises(IntegrityError, match="are no job's, such as job/job-1/r/000000/stray-"):
        list(finder.list(0, 0))


# One job and its neighbours

TAMPERED = {
    "a lease of nonsense": ("lease", b'{"owner": "x", "expires": 9e99}'),
    "a lease without end": ("lease", json.dumps({**GOOD, "expires": 9e99}).encode()),
    "a lease of nobody": ("lease", json.dumps({**GOOD, "owner": "x"}).encode()),
    "a lease that is a folder": ("lease/folder", b""),
    "a stray commit": ("r/000000/garb\x1bage", b"x"),
    "a commit of no batch": ("r/000000/000000777", b"x"),
    "a mark of nonsense": ("w/00ff", b"\xff"),
    "a stray object": ("\x1b[2J", b"x"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_running_job_with_a_bad_object_and_its_neighbours_give_their_results(
    what: str, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("core.job.attach.LEASE", 0.3)
    place, content = TAMPERED[what]
    gate = tmp_path / "gate"

    def wait(x):
        while not gate.exists():
            time.sleep(0.005)
        return x

    with FunctionExecutor(storage=store, workers=2, durable=True) as executor:
        bad, good = executor.map(wait, [1, 2], batch_size=1), executor.map(wait, [3], batch_size=1)
        storage = open_storage(store)
        if what == "a lease that is a folder":
            storage.delete([keys.lease(bad.job_id)])
        storage.put(keys.prefix(bad.job_id) + place, content)
        status = main(["jobs", "--storage", store, "--json"])
        listed = json.loads(capsys.readouterr().out)["jobs"]
        until(lambda: read_lease(storage, bad.job_id) is not None or bad[0].done())  # the driver says it again
        gate.touch()

        assert good.results(60) == [3]
        assert executor.map(abs, [-4]).results(60) == [4]
        found = [future.exception(60) or future.result() for future in bad]

    assert found == [1, 2] or all(isinstance(each, FanfoldError) for each in found)
    assert status == 0
    assert {job["job_id"] for job in listed} == {bad.job_id, good.job_id}
    assert next(job["problem"] for job in listed if job["job_id"] == good.job_id) == ""


def test_a_listing_names_what_is_wrong_and_shows_no_control_character(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(store)
    write_lease(storage, "20260101-120000-deadbeef", Lease("host:1:1", time.time() - 1, "f", 1e9, 4, 2))
    storage.put("job/evil\x1b[2Jname/lease", b"\x1b[2J")
    storage.put("job/20260101-120000-0badbad0/lease", b'{"owner": "x", "expires": 9e99}')

    assert main(["jobs", "--storage", store]) == 0

    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "20260101-120000-deadbeef" in out
    assert "evil" in out
    assert "job/20260101-120000-0badbad0/lease cannot be used" in err


def test_cleaning_leaves_what_may_be_no_job_unless_it_is_named(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage = open_storage(store)
    write_lease(storage, "20250101-120000-deadbeef", Lease("host:1:1", 1e9, "f", 1e9, 4, 2))
    storage.put("job/20250101-120000-0badbad0/lease", b"garbage")
    storage.put("job/notes/readme.txt", b"mine")

    assert main(["clean", "--storage", store, "--all"]) == 0
    left = {info.job_id for info in list_jobs(storage)}
    assert main(["clean", "--storage", store, "20250101-120000-0badbad0"]) == 0

    assert left == {"20250101-120000-0badbad0", "notes"}
    assert [info.key for info in storage.list()] == ["job/notes/readme.txt"]
    assert "job notes:" in capsys.readouterr().err


def test_a_job_that_cannot_be_removed_keeps_no_other_from_it(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from core.storage.local import LocalStorage

    storage = open_storage(store)
    for job_id in ("20250101-120000-aaaaaaaa", "20250102-120000-bbbbbbbb"):
        write_lease(storage, job_id, Lease("host:1:1", 1e9, "f", 1e9, 4, 2))
    real = LocalStorage.delete

    def refusing(self, names):
        names = list(names)
        if any("aaaaaaaa" in name for name in names):
            raise FanfoldError("no right to delete that")
        real(self, names)

    monkeypatch.setattr(LocalStorage, "delete", refusing)

    assert main(["clean", "--storage", store]) == 1

    out, err = capsys.readouterr()
    assert "job 20250101-120000-aaaaaaaa is not removed: no right to delete that" in err
    assert "removed 1 job" in out
    assert [info.job_id for info in list_jobs(storage)] == ["20250101-120000-aaaaaaaa"]


def test_what_a_late_worker_committed_after_its_job_was_removed_is_cleaned_up(store: str) -> None:
    storage = open_storage(store)
    storage.put(keys.commit("20250101-120000-deadbeef", 3), bytes(500))

    (info,) = list_jobs(storage)

    assert info.problem == ""
    assert chosen_jobs([info], [], 86400.0, time.time()) == [info]
