from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from threading import Barrier, Thread
from typing import BinaryIO

import pytest

from core import ConfigError, FunctionExecutor, shared_file, worker_resource


class Thing:
    def __init__(self, name: str) -> None:
        self.name, self.maker, self.closed = name, os.getpid(), False

    def close(self) -> None:
        self.closed = True


@worker_resource
def thing(folder: str, name: str = "only") -> Thing:
    Path(folder, f"{name}-{os.getpid()}-{os.urandom(4).hex()}").touch()
    return Thing(name)


def use(item: int, folder: str) -> tuple[int, int, bool]:
    made = thing(folder)
    return os.getpid(), made.maker, made.closed


def test_each_worker_makes_it_once_and_keeps_it_from_job_to_job(tmp_path: Path) -> None:
    with FunctionExecutor(workers=2) as executor:
        used = [
            result
            for _ in range(3)
            for result in executor.map(use, range(50), extra_args=(str(tmp_path),), batch_size=1).results()
        ]

    assert all(user == maker and not closed for user, maker, closed in used)
    assert len(list(tmp_path.iterdir())) == len({user for user, _, _ in used}) <= 2


def test_what_was_made_before_a_fork_is_made_anew_and_left_open(tmp_path: Path) -> None:
    ours = thing(str(tmp_path))

    with FunctionExecutor("process?start=fork", workers=1) as executor:
        user, maker, _ = executor.call_async(use, 0, str(tmp_path)).result()

    assert user == maker != os.getpid()
    assert thing(str(tmp_path)) is ours
    assert not ours.closed


def test_a_function_written_in_a_notebook_carries_its_resource(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()

    @worker_resource
    def local(folder: str) -> int:
        Path(folder, os.urandom(8).hex()).touch()
        return os.getpid()

    with FunctionExecutor(workers=1) as executor:
        first = executor.map(lambda item: local(str(made)), [1, 2], batch_size=1).results()
        second = executor.map(lambda item: local(str(made)) + 0, [1, 2], batch_size=1).results()

    assert first == second
    assert len(list(made.iterdir())) == 1


def test_the_one_unused_for_longest_is_dropped_and_closed() -> None:
    @worker_resource(keep=2)
    def named(name: str) -> Thing:
        return Thing(name)

    first, second = named("first"), named("second")
    named("first")
    named("third")

    assert (first.closed, second.closed) == (False, True)
    assert named("first") is first


def test_clearing_closes_all_and_the_next_call_makes_it_anew() -> None:
    @worker_resource
    def named(name: str) -> Thing:
        return Thing(name)

    first = named("first")
    named.clear()

    assert first.closed
    assert named("first") is not first


def test_threads_that_ask_together_get_the_same_one() -> None:
    made: list[Thing] = []

    @worker_resource
    def slow() -> Thing:
        made.append(Thing("slow"))
        return made[-1]

    gate, got = Barrier(8), []

    def ask() -> None:
        gate.wait()
        got.append(slow())

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert {id(one) for one in got} == {id(made[0])}


def test_what_fails_to_be_made_is_tried_again() -> None:
    calls = iter([ValueError("not yet"), Thing("there")])

    @worker_resource
    def flaky() -> Thing:
        outcome = next(calls)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    with pytest.raises(ValueError, match="not yet"):
        flaky()

    assert flaky().name == "there"


@pytest.mark.parametrize("keep", [0, -1, True, 1.5])
def test_a_shelf_for_less_than_one_is_refused(keep: int) -> None:
    with pytest.raises(ConfigError, match="keep must be a whole number of at least 1"):
        worker_resource(keep=keep)


def test_a_shared_file_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_CACHE_DIR", str(tmp_path / "cache"))
    written: list[int] = []

    def write(file: BinaryIO) -> None:
        written.append(file.write(b"content"))

    first, second = shared_file("app/model-1", write), shared_file("app/model-1", write)

    assert first == second == tmp_path / "cache/app/model-1"
    assert first.read_bytes() == b"content"
    assert len(written) == 1


def test_a_cache_folder_that_cannot_be_looked_into_is_passed_over_as_far_as_another_has_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("FANFOLD_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "closed"))
    written = shared_file("there", lambda file: file.write(b"x"))
    (tmp_path / f"fanfold-{os.getuid()}").mkdir(mode=0o700)
    os.rename(written, tmp_path / f"fanfold-{os.getuid()}" / "there")
    monkeypatch.setenv("XDG_CACHE_HOME", "/" + 300 * "x")

    assert shared_file("there", lambda file: file.write(b"y")).read_bytes() == b"x"


def test_a_file_half_written_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANFOLD_CACHE_DIR", str(tmp_path))

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        shared_file("model", fail)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_others_can_write_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, temporary = tmp_path / "shared", tmp_path / "temporary"
    shared.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("FANFOLD_CACHE_DIR", str(shared))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (shared / "model").write_bytes(b"planted")
    shared.chmod(0o777)

    path = shared_file("model", lambda file: file.write(b"true"))

    assert path.is_relative_to(temporary)
    assert path.read_bytes() == b"true"


def test_without_any_folder_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FANFOLD_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))

    with pytest.raises(ConfigError, match="set FANFOLD_CACHE_DIR to a folder that can be written"):
        shared_file("model", lambda file: file.write(b"true"))


def test_without_a_cache_folder_the_temporary_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FANFOLD_CACHE_DIR")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    path = shared_file("model", lambda file: file.write(b"content"))

    assert path == tmp_path / f"fanfold-{os.getuid()}" / "model"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
