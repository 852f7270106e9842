import os
import shutil
import subprocess
import sys
import time

import pytest

from core import ConfigError, FunctionExecutor
from core.errors import ComputeUnavailable, MemoryLimitExceeded, VersionMismatch
from tests.servers.begun import await_begun

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="needs Python 3.11 here, which the base image of the tests has"
)


@pytest.fixture
def image(containers):
    return containers.runtime("base")


def running(containers):
    return set(containers.podman("ps", "--quiet", "--no-trunc", "--filter", "name=fanfold-").stdout.split())


def test_containers_are_confined(image):
    def look():
        def try_to(action):
            try:
                action()
                return "allowed"
            except OSError as error:
                return type(error).__name__

        import socket

        with open("/proc/self/status") as status:
            capabilities = next(line.split()[1] for line in status if line.startswith("CapEff"))
        return {
            "user": os.getuid(),
            "capabilities": int(capabilities, 16),
            "root": try_to(lambda: open("/opt/mark", "w")),
            "network": try_to(lambda: socket.create_connection(("1.1.1.1", 53), 2)),
            "secret": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        }

    with FunctionExecutor(f"container://{image}", workers=1) as executor:
        seen = executor.call_async(look).result(120)

    assert seen == {"user": 10001, "capabilities": 0, "root": "OSError", "network": "OSError", "secret": None}


def test_only_variables_that_are_named_reach_a_container(image, monkeypatch):
    monkeypatch.setenv("FLAVOUR", "plum")
    monkeypatch.setenv("HIDDEN", "stone")

    with FunctionExecutor(f"container://{image}?env=FLAVOUR", workers=1) as executor:
        assert executor.call_async(lambda: (os.environ.get("FLAVOUR"), os.environ.get("HIDDEN"))).result(120) == (
            "plum",
            None,
        )


def test_a_task_over_the_memory_of_its_container_is_named_and_the_next_one_runs(image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with FunctionExecutor(f"container://{image}?memory=300MB", workers=1, retries=0) as executor:
        futures = executor.map(lambda size: len(bytearray(size)), [10, 900_000_000, 20], batch_size=1)

        assert futures[0].result(120) == 10
        assert isinstance(futures[1].exception(120), MemoryLimitExceeded)
        assert futures[2].result(120) == 20
    assert list(tmp_path.iterdir()) == []


def test_a_container_that_is_killed_costs_no_result_and_none_is_left(containers, image):
    before = running(containers)
    with FunctionExecutor(f"container://{image}", workers=2, retries=5) as executor:
        futures = executor.map(lambda x: time.sleep(0.1) or -x, range(40), batch_size=2)
        futures[0].result(120)
        for name in running(containers) - before:
            containers.podman("kill", name)
        assert futures.results(120) == [-x for x in range(40)]

    assert running(containers) - before == set()


def test_a_driver_that_is_killed_leaves_no_container(containers, image, tmp_path):
    before = running(containers)
    began = tmp_path / "began"
    code = (
        "import sys, time, pathlib\n"
        "from core import FunctionExecutor\n"
        f"executor = FunctionExecutor('container://{image}?mount={tmp_path}', workers=1)\n"
        f"executor.call_async(lambda: (pathlib.Path('{began}').touch(), time.sleep(1000))).result()\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], env=containers.checkout())
    while not began.exists():
        assert driver.poll() is None, "the driver ended before its task began"
        time.sleep(0.05)
    driver.kill()
    driver.wait()

    deadline = time.monotonic() + 60
    while running(containers) - before:
        assert time.monotonic() < deadline, "a container outlives its driver"
        time.sleep(0.1)


def test_a_durable_job_keeps_its_storage_on_this_machine(image, tmp_path):
    with FunctionExecutor(
        f"container://{image}", storage=f"file://{tmp_path}/store", durable=True, workers=2
    ) as executor:
        futures = executor.map(lambda x: x**2, range(30))
        assert futures.results(120) == [x**2 for x in range(30)]
        assert (tmp_path / "store" / "job" / futures.job_id).is_dir()


def test_an_image_that_is_not_there_is_named_with_the_remedy(containers):
    with FunctionExecutor("container://localhost/no-such-image:1", workers=1) as executor:
        with pytest.raises(ConfigError, match="localhost/no-such-image:1 does not start.*fanfold runtime list"):
            executor.call_async(abs, -1).result(120)


def test_an_image_without_the_worker_is_named(containers):
    with FunctionExecutor(f"container://{containers.python}", workers=1) as executor:
        with pytest.raises(ConfigError, match="does not start"):
            executor.call_async(abs, -1).result(120)


def test_an_image_with_other_software_is_refused_with_both_versions(image, monkeypatch):
    from core.task import versions as durable

    ours = {**durable.versions(), "cloudpickle": "0.0.1"}
    monkeypatch.setattr(durable, "versions", lambda: ours)
    with FunctionExecutor(f"container://{image}", workers=1) as executor:
        with pytest.raises(VersionMismatch, match=r"cloudpickle .* 0\.0\.1"):
            executor.call_async(abs, -1).result(120)


def test_an_image_that_is_refused_leaves_no_container_running(containers, image, monkeypatch):
    from core.task import versions as durable

    before = running(containers)
    ours = {**durable.versions(), "cloudpickle": "0.0.1"}
    monkeypatch.setattr(durable, "versions", lambda: ours)
    with FunctionExecutor(f"container://{image}", workers=1) as executor:
        refused = executor.call_async(abs, -1).exception(120)

        assert isinstance(refused, VersionMismatch)
        assert running(containers) - before == set()


def test_a_name_that_a_lost_container_still_holds_is_taken_back(containers, image):
    with FunctionExecutor(f"container://{image}", workers=1) as executor:
        made = containers.podman("create", "--name", f"{executor._backend._label}-0", image)
        assert made.returncode == 0, made.stderr

        assert executor.call_async(abs, -1).result(120) == 1

    assert executor._backend._label not in containers.podman("ps", "--all", "--format", "{{.Names}}").stdout


def test_an_engine_that_hangs_when_a_container_is_to_end_does_not_hold_the_executor(image, tmp_path, monkeypatch):
    monkeypatch.setattr("core.compute.remote.container.END_TIMEOUT", 0.5)
    engine = tmp_path / "podman"
    engine.write_text(
        f'#!/bin/sh\nif [ "$1" = rm ] && mkdir {tmp_path}/hung 2>/dev/null; then exec sleep 1000; fi\n'
        f'exec {shutil.which("podman")} "$@"\n'
    )
    engine.chmod(0o755)
    began = tmp_path / "began"
    with FunctionExecutor(f"container://{image}?engine={engine}&mount={tmp_path}", workers=1) as executor:
        endless = executor.call_async(lambda: began.touch() or time.sleep(10_000))
        await_begun(endless, began)
        executor.cancel(endless)

        assert executor.call_async(abs, -5).result(120) == 5
    assert (tmp_path / "hung").exists()


def test_ctrl_c_is_for_the_driver_and_ends_no_container(containers, image, tmp_path):
    began, gate = tmp_path / "began", tmp_path / "gate"
    code = f"""
import os, pathlib, signal, time
from core import FunctionExecutor

def wait():
    pathlib.Path("{began}").touch()
    while not os.path.exists("{gate}"):
        time.sleep(0.01)
    return "finished"

with FunctionExecutor("container://{image}?mount={tmp_path}", workers=1, retries=0) as executor:
    future = executor.call_async(wait)
    while not os.path.exists("{began}") and not future.done():
        time.sleep(0.01)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.killpg(0, signal.SIGINT)
    pathlib.Path("{gate}").touch()
    print(future.result(60))
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(
        command, env=containers.checkout(), capture_output=True, text=True, timeout=120, start_new_session=True
    )

    assert (ended.stdout, ended.returncode) == ("finished\n", 0), ended.stderr


@pytest.mark.parametrize(
    "address",
    ["container", "container://image?colour=red", "container://image?cpus=many", "container://image?memory=much"],
)
def test_an_address_that_cannot_work_is_refused(address):
    with pytest.raises(ConfigError, match="container"):
        FunctionExecutor(address)


def test_a_folder_that_is_not_there_cannot_be_mounted(image, monkeypatch):
    monkeypatch.setattr("core.compute.remote.base.UNAVAILABLE_TIMEOUT", 1.0)
    with FunctionExecutor(f"container://{image}?mount=/no/such/folder", workers=1) as executor:
        with pytest.raises((ConfigError, ComputeUnavailable), match="/no/such/folder"):
            executor.call_async(abs, -1).result(120)
