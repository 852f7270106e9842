import os
import signal
import subprocess
import sys
import time

import pytest

from core import ConfigError, FunctionExecutor
from core.compute.remote import dask, dask_lots
from core.errors import ComputeUnavailable, MissingExtra
from core.task.messages import FUNCTIONS_KEPT
from tests.servers.begun import await_begun
from tests.servers.dask import DaskCluster

pytest.importorskip("distributed", reason="needs Dask: pip install '.[dask]'")


def dask_process(_=None):
    """Return the Dask worker process two above this task: task, its spawner, the agent's process."""

    def parent(pid):
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])

    return parent(os.getppid())


def test_a_dask_worker_that_is_killed_costs_no_result(dask_cluster, tmp_path):
    def end_dask_once(x, flag=str(tmp_path / "ended"), find=dask_process):
        if x == 3 and not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(find(), signal.SIGKILL)
        time.sleep(0.05)
        return x * x

    with FunctionExecutor(dask_cluster.address, workers=2, retries=5) as executor:
        assert executor.map(end_dask_once, range(24), batch_size=2).results(120) == [x * x for x in range(24)]


def test_a_task_that_ends_its_own_worker_leaves_the_dask_worker_alive(dask_cluster):
    with FunctionExecutor(dask_cluster.address, workers=1, retries=0) as executor:
        before = set(executor.map(dask_process, range(4)).results(60))
        assert executor.call_async(os._exit, 3).exception(60) is not None
        after = set(executor.map(dask_process, range(4)).results(60))

    assert before & after


def test_a_cluster_of_this_process_is_ended_with_its_executor():
    with FunctionExecutor("dask://local", workers=2) as executor:
        pids = set(executor.map(dask_process, range(8), batch_size=1).results(120))

    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, "the cluster's workers outlive it"
        time.sleep(0.05)


def test_large_inputs_and_results_travel(dask_cluster):
    with FunctionExecutor(dask_cluster.address, workers=2) as executor:
        results = executor.map(lambda data: data[::-1], [bytes([i]) * 3_000_000 for i in range(4)]).results(120)

    assert [(result[0], len(result)) for result in results] == [(i, 3_000_000) for i in range(4)]


def test_short_tasks_are_not_blamed_for_one_that_ends_the_dask_worker(dask_cluster, tmp_path, monkeypatch):
    def end_dask_four_times(x, folder=str(tmp_path), find=dask_process):
        if x == 50 and len(os.listdir(folder)) < 4:
            open(f"{folder}/{time.monotonic_ns()}", "w").close()
            os.kill(find(), signal.SIGKILL)
            time.sleep(60)
        return x

    monkeypatch.setattr(dask_lots, "SHORT", 1.0)  # however busy this machine is
    with FunctionExecutor(dask_cluster.address, workers=2, retries=0) as executor:
        # Until a function is known to be short its batches go alone.
        assert executor.map(end_dask_four_times, range(100, 400), batch_size=1).results(120) == list(range(100, 400))
        assert executor.map(end_dask_four_times, range(100), batch_size=1).results(120) == list(range(100))

    assert len(os.listdir(tmp_path)) == 4


def test_a_task_that_ends_every_dask_worker_is_named_and_its_neighbours_are_not(dask_cluster):
    def end_dask(x, find=dask_process):
        if x == 3:
            os.kill(find(), signal.SIGKILL)
            time.sleep(60)
        time.sleep(0.02)
        return x

    with FunctionExecutor(dask_cluster.address, workers=2, retries=0) as executor:
        futures = executor.map(end_dask, range(12), batch_size=1)

        assert "Dask workers that ran it ended" in str(futures[3].exception(240))
        assert [futures[x].result(120) for x in range(12) if x != 3] == [x for x in range(12) if x != 3]


def test_a_cluster_without_any_worker_says_so_and_serves_when_one_comes(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(dask, "NO_WORKER_WARNING", 0.2)
    cluster = DaskCluster(tmp_path)
    try:
        cluster.start(workers=0)
        with FunctionExecutor(cluster.address, workers=1) as executor:
            waiting = executor.call_async(abs, -1)
            while "has no worker; start one with 'dask worker 127.0.0.1:" not in caplog.text:
                assert not waiting.done()
            cluster.add_worker()
            assert waiting.result(120) == 1
    finally:
        cluster.stop()


def test_a_cluster_that_gets_no_worker_ends_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(dask, "NO_WORKER_WARNING", 0.1)
    monkeypatch.setattr(dask, "NO_WORKER_TIMEOUT", 0.5)
    cluster = DaskCluster(tmp_path)
    try:
        cluster.start(workers=0)
        with FunctionExecutor(cluster.address, workers=1) as executor:
            with pytest.raises(ComputeUnavailable, match=r"has no worker; .*: none came within 0\.5 s"):
                executor.call_async(abs, -1).result(120)
    finally:
        cluster.stop()


def test_what_is_kept_of_functions_is_bounded():
    lots = dask_lots.Lots()

    for number in range(10_000):
        lots.learn(str(number), 0.001)

    assert len(lots._means) == FUNCTIONS_KEPT


def test_short_tasks_behind_one_that_is_cancelled_run(dask_cluster):
    with FunctionExecutor(dask_cluster.address, workers=1, retries=0) as executor:
        assert executor.map(abs, range(300), batch_size=1).results(120) == list(range(300))
        futures = executor.map(lambda x: time.sleep(1000) if x == 5 else x, range(40), batch_size=1)
        assert [futures[x].result(60) for x in range(5)] == [0, 1, 2, 3, 4]
        executor.cancel([futures[5]])

        assert [futures[x].result(60) for x in range(6, 40)] == list(range(6, 40))


def test_a_large_function_travels_once_to_each_worker(dask_cluster):
    table = os.urandom(3_000_000)

    with FunctionExecutor(dask_cluster.address, workers=2) as executor:
        results = executor.map(lambda i: table[i], range(40), batch_size=2).results(120)

    assert results == list(table[:40])


def test_a_reply_whose_event_is_lost_is_asked_for(dask_cluster, monkeypatch):
    monkeypatch.setattr("distributed.Client.subscribe_topic", lambda *_: None)

    with FunctionExecutor(dask_cluster.address, workers=2) as executor:
        assert executor.map(abs, range(-6, 0), batch_size=2).results(120) == [6, 5, 4, 3, 2, 1]


def test_events_are_forgotten_with_their_executor(dask_cluster):
    from distributed import Client

    with FunctionExecutor(dask_cluster.address, workers=2) as executor:
        executor.map(abs, range(6)).results(120)
        topic = executor._backend._topic
        with Client(executor._backend.address.where, set_as_default=False) as client:
            assert client.get_events(topic)
    with Client(dask_cluster.address.removeprefix("dask://"), set_as_default=False) as client:
        assert not client.get_events(topic)


def test_a_scheduler_that_goes_away_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("core.compute.remote.dask.CONNECT_TIMEOUT", 3.0)
    cluster = DaskCluster(tmp_path)
    try:
        cluster.start(workers=1)
        executor = FunctionExecutor(cluster.address, workers=1)
        running = executor.call_async(time.sleep, 1000)
        await_begun(running)
        cluster.stop()
        with pytest.raises(ComputeUnavailable, match="went away and does not come back"):
            running.result(120)
    finally:
        cluster.stop()


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("core.compute.remote.dask.CONNECT_TIMEOUT", 0.5)

    with FunctionExecutor("dask://127.0.0.1:9", workers=1) as executor, pytest.raises(ComputeUnavailable) as caught:
        executor.call_async(abs, -1).result(60)

    assert "no Dask scheduler answers at 127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize("address", ["dask", "dask://host:1?colour=red"])
def test_an_address_that_cannot_work_is_refused(address):
    with pytest.raises(ConfigError, match="dask://HOST:PORT, or dask://local"):
        FunctionExecutor(address)


def test_without_its_package_the_backend_says_what_adds_it():
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "from core import FunctionExecutor\n"
        "from core.errors import MissingExtra\n"
        "try: FunctionExecutor('dask://local')\n"
        "except MissingExtra as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout

    assert "pip install 'fanfold[dask]'" in said
    assert issubclass(MissingExtra, ConfigError)
