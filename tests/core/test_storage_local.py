"""What only files can do wrong: full disks, permissions, links, killed writers."""

import errno
import itertools
import multiprocessing
import os
import random
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import (
    AccessDenied,
    ConfigError,
    InputError,
    NotFound,
    PreconditionFailed,
    StorageError,
    StorageUnavailable,
)
from core.storage import local
from core.storage.base import RESERVED_PREFIX, open_storage
from core.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path):
    return LocalStorage(f"file://{tmp_path}/store")


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB."""
    mount = tmp_path / "tiny"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system needs root and a kernel that allows it: {mounted.stderr.strip()}")
    yield mount
    subprocess.run(["umount", mount], check=True)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def fail(error_number):
    def failing(*_args, **_options):
        raise OSError(error_number, os.strerror(error_number))

    return failing


def test_plain_relative_home_and_url_addresses_mean_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    addresses = [
        "data",
        "./data/",
        "~/data",
        str(tmp_path / "data"),
        f"file://{tmp_path}/data",
        f"file://{tmp_path}/x/../data/",
    ]

    assert {open_storage(address).address for address in addresses} == {f"file://{tmp_path}/data"}


def test_a_url_that_is_not_absolute_is_refused():
    with pytest.raises(ConfigError, match="file:///absolute/path"):
        LocalStorage("file://data")


def test_nothing_is_created_before_the_first_put(tmp_path, storage):
    list(storage.list())
    storage.delete(["a/b"])
    with pytest.raises(NotFound):
        storage.get("a/b")
    assert files(tmp_path) == []

    storage.put("a/b", b"")

    assert files(tmp_path) == ["store", "store/a", "store/a/b"]


def test_deleting_removes_emptied_folders_below_the_root(tmp_path, storage):
    for key in ("a/b/c/d", "a/e", "f/g"):
        storage.put(key, b"")

    storage.delete(["a/b/c/d", "f/g"])
    assert files(tmp_path / "store") == ["a", "a/e"]

    storage.delete(["a/e"])
    assert files(tmp_path) == ["store"]


def test_new_files_have_the_permissions_of_the_umask(tmp_path, storage):
    previous = os.umask(0o027)
    try:
        storage.put("key", b"")
    finally:
        os.umask(previous)

    assert (tmp_path / "store" / "key").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_nothing_half_written_and_keeps_what_was_there(tiny_disk):
    storage = LocalStorage(str(tiny_disk))
    storage.put("old", b"x" * 1000)

    for key, if_absent in (("old", False), ("new/key", False), ("absent", True)):
        with pytest.raises(StorageUnavailable, match=rf"cannot write {tiny_disk}/{key}: No space left .*; free space"):
            storage.put(key, (b"y" * 10_000 for _ in range(20)), if_absent=if_absent)

    assert storage.get("old") == b"x" * 1000
    assert [name for name in files(tiny_disk) if name != "new"] == ["old"]
    storage.put("key", b"z" * 20_000)


@pytest.mark.parametrize(
    ("error_number", "error", "message"),
    [
        (errno.ENOSPC, StorageUnavailable, "free space"),
        (errno.EDQUOT, StorageUnavailable, "free space"),
        (errno.EIO, StorageUnavailable, "check the disk"),
        (errno.EACCES, AccessDenied, "check the permissions"),
        (errno.EROFS, AccessDenied, "check the permissions"),
    ],
)
def test_a_rename_that_fails_is_a_typed_error_and_leaves_nothing(
    tmp_path, storage, monkeypatch, error_number, error, message
):
    storage.put("key", b"old")
    monkeypatch.setattr(local.os, "replace", fail(error_number))

    with pytest.raises(error, match=rf"{tmp_path}/store/key: .*{message}"):
        storage.put("key", b"content")

    assert files(tmp_path / "store") == ["key"]
    assert storage.get("key") == b"old"


def test_a_file_system_without_hard_links_is_named_as_the_cause(storage, monkeypatch):
    monkeypatch.setattr(local.os, "link", fail(errno.EPERM))

    with pytest.raises(StorageUnavailable, match="no hard links"):
        storage.put("key", b"", if_absent=True)
    assert list(storage.list()) == []


def test_what_the_user_may_not_read_is_denied_and_never_left_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("denied")
    storage = LocalStorage(str(folder))
    storage.put("open/file", b"1")
    storage.put("private/file", b"1")
    (folder / "open/file").chmod(0)
    (folder / "private").chmod(0)
    uses = {
        "get": lambda: storage.get("open/file"),
        "head": lambda: storage.head("private/file"),
        "list": lambda: list(storage.list()),
        "put": lambda: storage.put("private/new", b""),
        "delete": lambda: storage.delete(["private/file"]),
    }

    outcomes = run_unprivileged(folder, uses)

    assert outcomes == dict.fromkeys(uses, "AccessDenied")


def run_unprivileged(folder, uses):
    """Return the name of what each use raises in a process without root's rights."""
    nobody = 65534
    reader, writer = multiprocessing.Pipe(duplex=False)
    if os.getuid() == 0:
        for parent in itertools.takewhile(lambda path: path.owner() == "root" and path != Path("/tmp"), folder.parents):
            parent.chmod(0o755)
        for path in (folder, folder / "open", folder / "open/file", folder / "private"):
            os.chown(path, nobody, nobody)
    if (child := os.fork()) == 0:
        if os.getuid() == 0:
            os.setuid(nobody)
        outcomes = {}
        for name, use in uses.items():
            try:
                use()
                outcomes[name] = "nothing"
            except Exception as error:
                outcomes[name] = type(error).__name__
        writer.send(outcomes)
        os._exit(0)
    os.waitpid(child, 0)
    for path in (folder / "private", folder / "open/file"):
        path.chmod(0o700)
    return reader.recv()


def test_a_name_cannot_be_a_file_and_a_folder(storage):
    storage.put("file", b"")
    storage.put("folder/file", b"")

    for key in ("file/below", "folder"):
        for if_absent in (False, True):
            with pytest.raises(StorageError, match="a file and a folder at once") as caught:
                storage.put(key, b"", if_absent=if_absent)
            assert not isinstance(caught.value, PreconditionFailed)
    assert [info.key for info in storage.list()] == ["file", "folder/file"]


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_or_device_is_not_replaced(storage, tmp_path, monkeypatch, linked, nameless):
    storage.put("file", b"")
    pipe = tmp_path / "store" / "pipe"
    os.mkfifo(tmp_path / "elsewhere" if linked else pipe)
    if linked:
        pipe.symlink_to(tmp_path / "elsewhere")
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE")

    with pytest.raises(StorageError, match="a device or a pipe"):
        storage.put("pipe", b"data")

    assert pipe.is_fifo()
    assert files(tmp_path / "store") == ["file", "pipe"]


def test_a_key_too_long_for_the_file_system_is_refused(storage):
    with pytest.raises(InputError, match="choose a shorter key"):
        storage.put("x" * 300, b"")


def test_half_written_files_are_not_listed(tmp_path, storage):
    storage.put("key", b"")
    (tmp_path / "store" / f"{RESERVED_PREFIX}x").write_bytes(b"half")

    assert [info.key for info in storage.list()] == ["key"]


@pytest.mark.parametrize("if_absent", [True, False])
def test_a_killed_writer_leaves_nothing(tmp_path, storage, if_absent):
    storage.put("job/key", b"")
    if (child := os.fork()) == 0:
        content = (b"half" if number == 0 else os.kill(os.getpid(), signal.SIGKILL) for number in range(2))
        storage.put("job/other" if if_absent else "job/key", content, if_absent=if_absent)
    os.waitpid(child, 0)

    assert files(tmp_path / "store") == ["job", "job/key"]
    assert storage.get("job/key") == b""


def test_writers_killed_at_any_moment_leave_objects_alone(tmp_path, storage):
    storage.put("folder/key", bytes(1000))
    for turn in range(60):
        if (child := os.fork()) == 0:
            for number in itertools.count():
                storage.put("folder/key", bytes([number % 256]) * 1000)
                storage.put(f"folder/{turn}-{number}", bytes(10), if_absent=True)
        last = tmp_path / "store" / "folder" / f"{turn}-{random.randrange(8)}"
        while not last.exists():
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert len({*storage.get("folder/key")}) == 1
    left = [path for path in files(tmp_path / "store") if RESERVED_PREFIX in path]
    assert len(left) <= 20  # the instant between a name and the rename over the old one, which a busy machine stretches
    assert not [info.key for info in storage.list() if RESERVED_PREFIX in info.key]


@pytest.fixture
def _no_nameless_files(monkeypatch):
    """What a kernel without nameless files makes of the request: a folder opened for writing."""
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)


@pytest.mark.usefixtures("_no_nameless_files")
def test_without_nameless_files_writes_are_as_atomic(tmp_path, storage):
    storage.put("a/key", b"1", if_absent=True)
    storage.put("a/key", iter([b"2", b"2"]))

    with pytest.raises(PreconditionFailed):
        storage.put("a/key", b"3", if_absent=True)
    assert storage.get("a/key") == b"22"
    assert files(tmp_path / "store") == ["a", "a/key"]


@pytest.mark.usefixtures("_no_nameless_files")
def test_what_a_killed_writer_left_goes_with_the_last_object_of_its_folder(tmp_path, storage):
    storage.put("job/key", b"")
    if (child := os.fork()) == 0:
        storage.put("job/other", (os.kill(os.getpid(), signal.SIGKILL) for _ in range(1)))
    os.waitpid(child, 0)
    assert len(files(tmp_path / "store" / "job")) == 2

    storage.delete(["job/key"])

    assert files(tmp_path) == ["store"]


def test_what_a_living_writer_is_writing_stays(tmp_path, storage):
    storage.put("job/key", b"")

    def content():
        storage.delete(["job/key"])
        yield b"content"

    storage.put("job/other", content())

    assert storage.get("job/other") == b"content"


def test_links_are_followed_and_loops_are_not(tmp_path, storage):
    storage.put("a/file", b"1")
    storage.put("b/file", b"2")
    root = tmp_path / "store"
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "across").symlink_to(root / "b")
    (root / "b" / "back").symlink_to(root / "a")
    (root / "self").symlink_to(root / "self")
    (root / "broken").symlink_to(root / "nothing")
    (root / "link").symlink_to(root / "a" / "file")
    os.mkfifo(root / "pipe")

    keys = [info.key for info in storage.list()]

    assert keys == sorted(keys)
    assert {"a/across/file", "a/file", "b/file", "link"} <= set(keys)
    assert len(keys) < 20
    assert not {"broken", "self", "pipe"} & set(keys)
    with pytest.raises(NotFound):
        storage.get("pipe")


def test_listing_reads_only_the_folders_it_needs(tmp_path, storage, monkeypatch):
    for key in ("a/1", "b/2", "c/3", "d/4"):
        storage.put(key, b"")
    scandir, seen = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(Path(path).name) or scandir(path))

    listing = storage.list(start_after="b/9")
    assert next(listing).key == "c/3"
    assert seen == ["store", "b", "c"]

    seen.clear()
    assert [info.key for info in storage.list("d/")] == ["d/4"]
    assert seen == ["d"]


def test_putting_survives_deletes_that_remove_its_folders(storage):
    def put_and_delete(number):
        for turn in range(100):
            storage.put(f"a/b/{number}", b"%d" % turn, if_absent=True)
            assert storage.get(f"a/b/{number}") == b"%d" % turn
            storage.delete([f"a/b/{number}"])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put_and_delete, range(8)))

    assert files(storage.address.removeprefix("file://")) == []


def test_a_folder_that_cannot_be_created_is_named():
    with pytest.raises(StorageUnavailable, match="cannot write /proc/self/new/key: its folder cannot be created"):
        LocalStorage("/proc/self/new").put("key", b"")


def compete(address, number, barrier, results):
    storage = LocalStorage(address)
    barrier.wait()
    for race in range(20):
        try:
            storage.put(f"race/{race}", b"%d" % number * 100, if_absent=True)
        except PreconditionFailed:
            continue
        results.put((race, number))


def test_racing_processes_have_one_winner_each_time(storage):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(16), context.SimpleQueue()
    racers = [context.Process(target=compete, args=(storage.address, n, barrier, results)) for n in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert [racer.exitcode for racer in racers] == [0] * 16
    winners = [results.get() for _ in range(20)]
    assert results.empty()
    assert sorted(race for race, _ in winners) == list(range(20))
    assert all(storage.get(f"race/{race}") == b"%d" % number * 100 for race, number in winners)
    assert len(list(Path(storage.address.removeprefix("file://"), "race").iterdir())) == 20
