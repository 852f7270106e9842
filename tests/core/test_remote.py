import os
import signal
import sys

import numpy as np
import pytest

from core import FunctionExecutor, InputError
from core.compute import base
from core.compute.pipe import PipeSlot, explain_exit
from core.compute.remote import RemoteBackend
from core.errors import ComputeUnavailable, WorkerDied


class PipeBackend(RemoteBackend):
    """Workers as processes of their own on this machine, behind the protocol of remote ones."""

    name = "pipe"
    command = (sys.executable, "-m", "core.entry", "worker")

    def __init__(self, address, config):
        super().__init__(address, config, config.workers or 2)
        self.largest = int(address.options.get("largest", 0)) or None

    def open_slot(self, index):
        return PipeSlot(self.command, explain_exit)


class AbsentBackend(PipeBackend):
    command = (sys.executable, "-c", "import sys; sys.exit('no such luck')")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(base._BACKENDS, "pipe", f"{__name__}:PipeBackend")
    monkeypatch.setitem(base._BACKENDS, "absent", f"{__name__}:AbsentBackend")
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or __import__(__name__))


def test_a_map_runs_in_remote_workers_and_comes_back_in_order():
    with FunctionExecutor("pipe", workers=2) as executor:
        results = executor.map(lambda x: (x, os.getpid()), range(100)).results(60)

    assert [value for value, _ in results] == list(range(100))
    assert os.getpid() not in {pid for _, pid in results}


def test_arrays_cross_the_pipe_in_both_directions():
    with FunctionExecutor("pipe", workers=1) as executor:
        (result,) = executor.map(lambda a: a * 2, [np.arange(100_000.0)]).results(60)

    assert np.array_equal(result, np.arange(100_000.0) * 2)


def test_a_function_that_kills_its_worker_is_named_and_the_others_are_right():
    def maybe(x):
        if x == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    with FunctionExecutor("pipe", workers=2, retries=0) as executor:
        futures = executor.map(maybe, range(8), batch_size=4)
        assert isinstance(futures[3].exception(60), WorkerDied)
        assert [futures[i].result(60) for i in range(8) if i != 3] == [0, 1, 2, 4, 5, 6, 7]


def test_a_killed_agent_costs_no_result(tmp_path):
    def end_agent_once(x, flag=str(tmp_path / "ended")):
        if x == 2 and not os.path.exists(flag):
            open(flag, "w").close()
            agent = int(os.popen(f"ps -o ppid= -p {os.getppid()}").read())
            os.kill(agent, signal.SIGKILL)
            signal.pause()
        return -x

    with FunctionExecutor("pipe", workers=1) as executor:
        assert executor.map(end_agent_once, range(5), batch_size=5).results(60) == [0, -1, -2, -3, -4]


def test_messages_over_the_limit_go_through_storage_and_leave_nothing(tmp_path):
    store = tmp_path / "store"
    store.mkdir()

    with FunctionExecutor("pipe?largest=50000", storage=f"file://{store}", workers=1) as executor:
        results = executor.map(lambda a: a + 1, [np.zeros(20_000), np.ones(20_000)]).results(60)

    assert [float(result[7]) for result in results] == [1.0, 2.0]
    assert [path for path in store.rglob("*") if path.is_file()] == []


def test_a_message_over_the_limit_without_storage_says_what_to_do():
    with FunctionExecutor("pipe?largest=50000", workers=1) as executor:
        futures = executor.map(lambda a: a, [np.zeros(20_000), np.ones(3)])

        with pytest.raises(InputError, match=r"0\.2 MB.*carries 0\.1 MB a call; give the executor a storage"):
            futures[0].result(60)
        assert futures[1].result(60).sum() == 3.0


def test_a_platform_that_runs_nothing_is_reported_with_its_own_words(monkeypatch):
    monkeypatch.setattr("core.compute.remote.PATIENCE", 0.5)

    with FunctionExecutor("absent", workers=2) as executor, pytest.raises(ComputeUnavailable, match="no such luck"):
        executor.map(lambda x: x, range(3)).results(60)


def test_a_running_task_can_be_cancelled():
    import time

    with FunctionExecutor("pipe", workers=1) as executor:
        sleeping = executor.call_async(time.sleep, 1000)
        while not sleeping.running():
            time.sleep(0.01)
        executor.cancel(sleeping)
        assert sleeping.cancelled()
        assert executor.call_async(lambda: 5).result(60) == 5
