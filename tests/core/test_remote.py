import gc
import os
import signal
import sys
import threading

import numpy as np
import pytest

from core import FunctionExecutor, InputError, serialization
from core.compute import base
from core.compute.remote.pipe import PipeSlot
from core.compute.remote.slot import NotStarted, Slot
from core.errors import ComputeUnavailable, StorageUnavailable, WorkerDied
from core.settings import ExecutorConfig, parse_address
from core.storage.clients import process_storage
from core.task import messages
from core.task.call import dump_call, make_call
from core.task.protocol import BatchDone, BatchLost, BatchResult, DurableRef, Invocation
from core.task.versions import versions
from core.types import RetryPolicy
from core.worker.agent import Agent, answer_silently
from tests.servers.begun import await_begun
from tests.servers.pipes import PipeBackend, explain_exit


class AbsentBackend(PipeBackend):
    command = (sys.executable, "-c", "import sys; sys.exit('no such luck')")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(base._BACKENDS, "pipe", "tests.servers.pipes:PipeBackend")
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


def test_a_function_over_the_limit_is_told_from_large_inputs():
    ballast = os.urandom(200_000)

    with FunctionExecutor("pipe?largest=50000", workers=1) as executor:
        with pytest.raises(InputError, match=r"its function is 0\.2 MB, and pipe carries 0\.1 MB a call"):
            executor.call_async(lambda: len(ballast)).result(60)


def test_a_platform_that_runs_nothing_is_reported_with_its_own_words(monkeypatch):
    monkeypatch.setattr("core.compute.remote.base.UNAVAILABLE_TIMEOUT", 0.5)

    with FunctionExecutor("absent", workers=2) as executor, pytest.raises(ComputeUnavailable, match="no such luck"):
        executor.map(lambda x: x, range(3)).results(60)


def test_a_platform_that_runs_nothing_is_named_once_before_one_gives_up(monkeypatch, caplog):
    monkeypatch.setattr("core.compute.remote.base.UNAVAILABLE_TIMEOUT", 0.5)
    monkeypatch.setattr("core.compute.remote.base.NOTICE_TIMEOUT", 0.05)
    with FunctionExecutor("absent", workers=3) as executor, pytest.raises(ComputeUnavailable):
        executor.map(abs, range(3)).results(30)

    (said,) = [record.getMessage() for record in caplog.records if record.name == "fanfold"]
    assert said.startswith("pipe runs nothing so far: ")
    assert "no such luck; after 0.5 s" in said


def test_a_running_task_can_be_cancelled():
    import time

    with FunctionExecutor("pipe", workers=1) as executor:
        sleeping = executor.call_async(time.sleep, 1000)
        await_begun(sleeping)
        executor.cancel(sleeping)
        assert sleeping.cancelled()
        assert executor.call_async(lambda: 5).result(60) == 5


class NarrowBackend(PipeBackend):
    """A platform with room for one worker only."""

    def open_slot(self, index):
        if index:
            raise NotStarted("there is no room for another worker")
        return super().open_slot(index)


class DeafSlot(Slot):
    """A call that nothing ends."""

    def exchange(self, message, invocation):
        threading.Event().wait()

    def interrupt(self):
        return None


class DeafBackend(PipeBackend):
    def open_slot(self, index):
        return DeafSlot()


class LateSlot(PipeSlot):
    """Its interruption ends what runs a second time, by then perhaps another batch."""

    def __init__(self, *given):
        super().__init__(*given)
        self.batches, self.is_at_next = [], threading.Event()

    def interrupt(self):
        super().interrupt()
        self.is_at_next.wait(1)
        super().interrupt()

    def exchange(self, message, invocation):
        self.batches.append(invocation.batch_id)
        if self._process is None:
            self.start()
        if invocation.batch_id != self.batches[0]:
            self.is_at_next.set()
        return super().exchange(message, invocation)


class LateBackend(PipeBackend):
    def open_slot(self, index):
        return LateSlot(self.command, explain_exit)


class BabblingBackend(PipeBackend):
    command = ("sh", "-c", "echo Welcome to this image of ours; exec cat")


@pytest.fixture
def more(monkeypatch, registered):
    for kind in (NarrowBackend, DeafBackend, LateBackend, BabblingBackend):
        monkeypatch.setitem(
            base._BACKENDS, kind.__name__.removesuffix("Backend").lower(), f"{__name__}:{kind.__name__}"
        )


def test_workers_that_cannot_start_do_not_end_the_one_that_runs(more, monkeypatch, tmp_path):
    monkeypatch.setattr("core.compute.remote.base.UNAVAILABLE_TIMEOUT", 0.2)
    gate = tmp_path / "gate"

    def wait(x, gate=str(gate)):
        import os
        import time

        while not os.path.exists(gate):
            time.sleep(0.01)
        return x

    with FunctionExecutor("narrow", workers=3) as executor:
        waiting = executor.call_async(wait, 5)
        await_begun(waiting)
        threading.Event().wait(4 * 0.2 + 1)  # longer than the others are waited for
        gate.touch()
        assert waiting.result(60) == 5


def test_calls_that_nothing_ends_hold_a_shutdown_up_once_not_each(more, monkeypatch):
    monkeypatch.setattr("core.compute.remote.base.CLOSE_TIMEOUT", 1.0)
    executor = FunctionExecutor("deaf", workers=8)
    futures = executor.map(abs, range(8), batch_size=1)
    for future in futures:
        await_begun(future)
    waits = []
    join = threading.Thread.join

    def counted(thread, timeout=None):
        if thread.name.startswith("fanfold-pipe"):
            waits.append(timeout)
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", counted)
    executor.shutdown(cancel_futures=True)

    assert 0 < sum(waits) < 3.0


def test_a_late_interruption_does_not_hit_the_next_batch(more):
    import time

    with FunctionExecutor("late", workers=1, retries=0) as executor:
        doomed = executor.call_async(time.sleep, 1000)
        await_begun(doomed)
        innocent = executor.map(lambda x: time.sleep(2) or x, [7])
        while not executor._backend._waiting:
            time.sleep(0.01)
        executor.cancel(doomed)
        assert innocent.results(60) == [7]


def test_a_storage_that_fails_one_batch_does_not_end_the_executor(tmp_path, monkeypatch):
    opened = process_storage(f"file://{tmp_path}")
    with FunctionExecutor("pipe?largest=50000", storage=f"file://{tmp_path}", workers=1, retries=0) as executor:
        with monkeypatch.context() as patched:

            def refuse(*_args, **_options):
                raise StorageUnavailable("the disk is away")

            patched.setattr(type(opened), "put", refuse)
            assert isinstance(executor.map(len, [b"x" * 100_000])[0].exception(60), StorageUnavailable)
        assert executor.map(len, [b"x" * 100_000]).results(60) == [100_000]


def test_a_command_that_speaks_to_people_is_no_worker(more, monkeypatch):
    monkeypatch.setattr("core.compute.remote.base.UNAVAILABLE_TIMEOUT", 0.2)

    with FunctionExecutor("babbling", workers=1) as executor, pytest.raises(ComputeUnavailable, match="worker ended"):
        executor.call_async(abs, 1).result(60)


def test_an_agent_forgets_functions_that_were_not_used_for_long(monkeypatch):
    monkeypatch.setattr("core.worker.agent.FUNCTIONS_KEPT", 2)
    agent = Agent()
    try:
        for number in range(5):
            invocation = Invocation(number, "job", b"", "", [], 0)
            invocation.call, invocation.call_hash = bytes([number]), str(number)
            assert agent._supply(invocation, has_call=True)
        assert list(agent._calls) == ["3", "4"]
    finally:
        agent.close()


def test_a_request_that_comes_when_its_job_is_gone_leaves_nothing_in_storage(tmp_path):
    ref = DurableRef(f"file://{tmp_path}", "20260101-000000-00000000", bytes(32), 0)
    invocation = Invocation(0, ref.job_id, b"", "", [0], 0, durable=ref)
    agent = Agent()
    try:
        answer_silently(agent, messages.request(invocation, versions(), False))
    finally:
        agent.close()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_request_whose_caller_is_gone_before_it_begins_is_not_run(tmp_path):
    mark = tmp_path / "began"

    def never(path):
        open(path, "w").close()
        while True:
            signal.pause()

    call = make_call(never, kind="item", extra_args=(), env=None, retry=RetryPolicy(), storage=None, folder=None)
    shipped = dump_call(call, [], False).data
    packed = serialization.pack([str(mark)])
    invocation = Invocation(0, "job", shipped, serialization.content_hash(shipped), [0], 0, packed=packed)
    agent = Agent()
    try:
        for _ in range(3):
            answer = agent.answer(messages.request(invocation, versions(), True), lambda: False)
            reply = messages.read_reply(answer, invocation)
            assert isinstance(reply, BatchLost)
            assert reply.reason == "killed"
    finally:
        agent.close()


class AnsweringSlot(Slot):
    """Answers at once, as a worker would that has nothing to do."""

    def exchange(self, message, invocation):
        outcome = BatchResult(serialization.pack([None]), [0.0])
        return messages.reply(BatchDone(invocation.batch_id, "w", outcome), invocation)

    def interrupt(self):
        return None


class AnsweringBackend(PipeBackend):
    def open_slot(self, index):
        return AnsweringSlot()


def test_ten_thousand_batches_of_as_many_functions_leave_nothing_behind():
    backend = AnsweringBackend(parse_address("pipe"), ExecutorConfig(workers=2))
    backend.start()
    packed = serialization.pack([None])

    def run(numbers):
        for number in numbers:
            backend.invoke(Invocation(number, "job", bytes(40_000), str(number), [number], 0, packed=packed))
            while not backend.poll(None):
                pass
            backend.forget(str(number))
        gc.collect()
        return len(gc.get_objects())

    before, after = run(range(1000)), run(range(1000, 10_000))

    backend.close()
    assert after - before < 100
