import os
import socket
import subprocess
import sys
import time

import pytest

from core import open_storage
from core.storage.owner import birth, this_owner
from core.task.leases import Lease, list_jobs, read_lease, write_lease


def lease(owner, seconds=60.0):
    return Lease(owner, time.time() + seconds, "f", 0.0, 10, 4)


@pytest.fixture(scope="module")
def ended():
    """A process of this machine that is gone: its number, and when it was born."""
    script = "from core.storage.owner import this_owner; print(this_owner())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()


def test_a_lease_of_this_process_is_alive_until_it_expires():
    assert lease(this_owner()).alive()
    assert not lease(this_owner(), seconds=-1).alive()


def test_a_process_of_this_machine_that_ended_holds_nothing(ended):
    assert not lease(ended).alive()


def test_a_process_that_ended_and_whose_parent_does_not_care_holds_nothing():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    owner = f"{socket.gethostname()}:{child.pid}:{birth(child.pid)}"
    assert lease(owner).alive()

    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert not lease(owner).alive()
    child.wait()


def test_another_process_that_got_the_same_number_holds_nothing():
    host, pid, _ = this_owner().rsplit(":", 2)

    assert not lease(f"{host}:{pid}:1").alive()


def test_a_process_of_another_machine_is_believed():
    assert lease(f"not-{socket.gethostname()}:1:1").alive()


def test_a_lease_survives_storage(tmp_path):
    storage = open_storage(f"file://{tmp_path}")
    written = lease(this_owner())
    write_lease(storage, "job-1", written)

    assert read_lease(storage, "job-1") == written
    assert read_lease(storage, "job-2") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"owner": 1}', b"\xff"])
def test_a_lease_that_cannot_be_read_is_none_and_named(tmp_path, content, caplog):
    storage = open_storage(f"file://{tmp_path}")
    storage.put("job/job-1/lease", content)

    assert read_lease(storage, "job-1") is None
    assert "job/job-1/lease cannot be used" in caplog.text
    (info,) = list_jobs(storage)
    assert info.state == "interrupted"


def test_jobs_are_listed_oldest_first_with_their_state(tmp_path, ended):
    storage = open_storage(f"file://{tmp_path}")
    write_lease(storage, "20250102-a", lease(this_owner()))
    write_lease(storage, "20250101-b", lease(ended))
    for batch in range(3):
        storage.put(f"job/20250103-c/r/000000/{batch:09d}", bytes(500))
    write_lease(storage, "20250103-c", lease(ended))

    assert [(info.job_id, info.state, info.done) for info in list_jobs(storage)] == [
        ("20250101-b", "interrupted", 0),
        ("20250102-a", "running", 0),
        ("20250103-c", "finished", 10),
    ]
