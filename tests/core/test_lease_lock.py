from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.storage import LeaseLock, Storage, open_storage, owner
from core.storage.owner import birth, this_owner

HELD = """
import sys
from core.storage import LeaseLock, open_storage

lock = LeaseLock(open_storage(sys.argv[1]), "lease/")
assert lock.take("reading") is None
print("held", flush=True)
input()
"""


numbers = itertools.count()


@pytest.fixture(params=["file", "memory", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "file":
        return open_storage(str(tmp_path / "run"))
    if request.param == "bucket":
        request.getfixturevalue("s3_server")
    return open_storage(f"{'memory://' if request.param == 'memory' else 's3://fanfold/'}lease-{next(numbers)}/x")


def test_who_comes_second_is_told_who_has_the_lock_and_what_it_does(storage: Storage) -> None:
    LeaseLock(storage, "lease/").take("2/7 centroids")

    holder = LeaseLock(storage, "lease/").take()

    assert holder is not None
    assert (holder.owner, holder.note) == (this_owner(), "2/7 centroids")


def test_a_lock_that_was_released_is_free_and_leaves_nothing(storage: Storage) -> None:
    first = LeaseLock(storage, "lease/")
    first.take()

    first.release()

    assert list(storage.list()) == []
    assert LeaseLock(storage, "lease/").take() is None


def test_of_many_that_find_the_lock_free_one_gets_it(storage: Storage) -> None:
    locks, start = [LeaseLock(storage, "lease/") for _ in range(8)], threading.Barrier(8)
    got: list[int] = []

    def take(at: int) -> None:
        start.wait()
        if locks[at].take() is None:
            got.append(at)

    threads = [threading.Thread(target=take, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(got) == 1


def test_the_lock_of_a_process_that_was_killed_is_free_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        lock = LeaseLock(open_storage(str(tmp_path)), "lease/")
        holder = lock.take()
        other.kill()
        other.wait()

    assert str(holder) == f"process {other.pid} on {socket.gethostname()}"
    assert lock.holder() is None
    assert lock.last() == holder
    assert lock.take() is None
    assert [info.key for info in open_storage(str(tmp_path)).list()] == ["lease/000002.json"]


def written(storage: Storage, **fields: object) -> None:
    whole = {"owner": "far:1:2", "token": "x", "since": 1.0, "expires": 0.0, "note": "", **fields}
    storage.put("lease/000004.json", json.dumps(whole).encode())


def test_a_holder_on_another_machine_is_believed_until_its_lease_ends(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "time", SimpleNamespace(time=lambda: 1000.0))
    written(storage, expires=1060.0)
    lock = LeaseLock(storage, "lease/")

    before = lock.take()
    monkeypatch.setattr(owner, "time", SimpleNamespace(time=lambda: 1060.1))

    assert before is not None
    assert before.owner == "far:1:2"
    assert lock.take() is None


@pytest.mark.parametrize(
    "fields",
    [{"expires": 1e10}, {"expires": "soon"}, {"owner": "x" * 1000}, {"note": "\x1b[2J"}, {"more": 1}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_lease_that_nobody_can_have_written_holds_nothing(storage: Storage, fields: dict[str, object]) -> None:
    written(storage, **fields)

    assert LeaseLock(storage, "lease/").take() is None
    assert [info.key for info in storage.list()] == ["lease/000005.json"]


def test_who_was_taken_for_dead_hears_so_when_it_renews(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper, heir = LeaseLock(storage, "lease/"), LeaseLock(storage, "lease/")
    sleeper.take()
    monkeypatch.setattr(owner, "owner_lives", lambda name: False)
    heir.take()
    monkeypatch.undo()

    assert not sleeper.renew()
    sleeper.release()
    assert heir.renew("still at it")
    assert heir.last().note == "still at it"  # type: ignore[union-attr]


def test_who_was_held_up_while_it_renewed_hears_that_another_has_taken_the_lock(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, heir = LeaseLock(storage, "lease/"), LeaseLock(storage, "lease/")
    sleeper.take()
    put, is_held_up = storage.put, True

    def put_late(*args: Any, **options: Any) -> Any:
        nonlocal is_held_up
        if is_held_up:
            is_held_up = False
            with monkeypatch.context() as patch:
                patch.setattr(owner, "owner_lives", lambda name: False)
                heir.take("at work")
        return put(*args, **options)

    monkeypatch.setattr(storage, "put", put_late)

    assert not sleeper.renew()
    heir.release()
    assert list(storage.list()) == []


def test_who_was_held_up_between_looking_and_writing_takes_no_lock_that_another_has(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(storage)  # by a holder that is gone
    slow, first, second = (LeaseLock(storage, "lease/") for _ in range(3))
    put, is_held_up = storage.put, True

    def put_late(*args: Any, **options: Any) -> Any:
        nonlocal is_held_up
        if is_held_up:
            is_held_up = False
            first.take()
            first.release()
            second.take("at work")
        return put(*args, **options)

    monkeypatch.setattr(storage, "put", put_late)
    holder = slow.take()

    assert holder is not None
    assert holder.note == "at work"
    assert second.renew()


def test_a_lock_can_be_renewed_beyond_its_first_lease(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, now = LeaseLock(storage, "lease/"), 1000.0
    monkeypatch.setattr(owner, "time", SimpleNamespace(time=lambda: now))
    lock.take()

    for _ in range(5):
        now += 50.0
        assert lock.renew()

    assert LeaseLock(storage, "lease/").take() is not None


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert birth(child.pid) not in ("", birth(1))
        child.communicate(b"\n")

    assert birth(child.pid) == ""
