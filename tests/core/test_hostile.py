"""What tasks, threads and forks do that no well-behaved program would, and that must cost nobody else a result."""

import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor
from core.errors import IntegrityError, SerializationError, TaskTimeout, WorkerDied


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("FANFOLD_STATE_DIR", str(tmp_path / "state"))


def leave_a_child_and_hang(_):
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    time.sleep(60)


def leave_a_child_and_crash(_):
    multiprocessing.Process(target=time.sleep, args=(20,), daemon=False).start()
    os.kill(os.getpid(), 11)


def fork_and_return(x):
    if x == 1 and os.fork() == 0:
        raise SystemExit(0)
    return x


@pytest.mark.parametrize(
    ("task", "error"), [(leave_a_child_and_hang, TaskTimeout), (leave_a_child_and_crash, WorkerDied)]
)
def test_a_process_that_a_task_left_behind_does_not_hide_its_death(task, error):
    with FunctionExecutor(workers=1, timeout=0.5, retries=0) as executor:
        with pytest.raises(error):
            executor.map(task, [0]).results(timeout=10)


def test_a_forked_child_that_returns_from_the_task_does_not_answer_for_it():
    with FunctionExecutor(workers=1) as executor:
        assert executor.map(fork_and_return, [0, 1, 2]).results(timeout=20) == [0, 1, 2]
        assert executor.map(abs, [-3]).results(timeout=20) == [3]


def test_whatever_is_submitted_while_the_executor_closes_ends_or_is_refused():
    for _ in range(12):
        executor = FunctionExecutor(workers=1)
        executor.submit(abs, -1).result()
        futures = []

        def submit(executor=executor, futures=futures):
            while True:
                try:
                    futures.append(executor.submit(abs, -1))
                except RuntimeError:
                    return

        thread = threading.Thread(target=submit)
        thread.start()
        executor.shutdown()
        thread.join()

        assert [future.result(timeout=20) for future in futures] == [1] * len(futures)


def test_a_task_that_deletes_its_folder_spares_the_next(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)

    with FunctionExecutor(workers=1) as executor:
        executor.map(shutil.rmtree, [str(folder)]).results()

        assert executor.map(abs, [-1, -2]).results() == [1, 2]


def test_more_workers_than_the_process_may_open_files_for_are_refused():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with FunctionExecutor(workers=50) as executor, pytest.raises(ConfigError, match="ulimit -n"):
            executor.submit(abs, -1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_durable_map_over_a_failed_task_raises_that_failure(tmp_path):
    with FunctionExecutor(workers=1, storage=f"file://{tmp_path}/store") as executor:
        failed = executor.map(lambda x: 1 / x, [0])

        with pytest.raises(ZeroDivisionError):
            executor.map(str, failed, durable=True)


def make_array(value):
    return np.full(100_000, value, float)


def test_a_fork_of_the_driver_keeps_its_arrays_and_cannot_change_the_drivers():
    with FunctionExecutor(workers=1) as executor:
        array = executor.submit(make_array, 1.0).result()
        kept = executor.submit(make_array, 5.0).result()
        ask, answer = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            kept[:] = -1
            os.read(ask[0], 1)
            os.write(answer[1], b"same" if (array == 1.0).all() else b"lost")
            os._exit(0)
        del array
        for value in range(20):
            executor.submit(make_array, float(value)).result()
        os.write(ask[1], b"!")

        assert os.read(answer[0], 4) == b"same"
        assert (kept == 5.0).all()
        os.waitpid(child, 0)


def test_inputs_that_somebody_swapped_in_storage_are_not_run(tmp_path):
    from core.storage import clients
    from core.task import commit as durable
    from core.task import keys

    store = f"file://{tmp_path}/store"
    real = durable.write_record

    def swapped(storage, key, record, packed):
        made = real(storage, key, record, packed)
        place = tmp_path / "store" / keys.inputs(record.job_id)
        data = place.read_bytes()
        (a, b), (c, d) = made.inputs
        assert b - a == d - c
        place.write_bytes(data[c:d] + data[a:b])
        return made

    clients.process_storage(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.job.create.write_record", swapped)
        with FunctionExecutor("serial", store, durable=True) as executor:
            futures = executor.map(len, [b"a" * 100_000, b"b" * 100_000], batch_size=1)

            errors = [future.exception() for future in futures]

    assert [type(error) for error in errors] == [IntegrityError, IntegrityError]
    assert "signature" in str(errors[0])


def test_a_serial_executor_that_attaches_waits_for_the_driver_that_lives(tmp_path):
    store = f"file://{tmp_path}/store"
    gate = tmp_path / "gate"

    def wait_for_gate(x):
        while not gate.exists():
            time.sleep(0.01)
        return x

    with FunctionExecutor(storage=store, workers=1, durable=True) as owner:
        futures = owner.map(wait_for_gate, [1, 2])
        threading.Timer(0.3, gate.touch).start()
        watcher = FunctionExecutor.attach(futures.job_id, compute="serial")
        assert watcher.get_result(timeout=20) == [1, 2]
        watcher.shutdown()
        assert futures.results() == [1, 2]


def test_a_task_cannot_wait_for_the_serial_executor_that_runs_it(monkeypatch):
    holder = types.ModuleType("holder_of_an_executor")
    monkeypatch.setitem(sys.modules, holder.__name__, holder)

    def use_global(x):
        import holder_of_an_executor

        return holder_of_an_executor.executor.submit(abs, x).result()

    with FunctionExecutor("serial") as holder.executor, pytest.raises(RuntimeError, match="inside the function"):
        holder.executor.submit(use_global, 1).result()


def test_a_pipe_of_the_driver_closes_when_the_driver_closes_it():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    with FunctionExecutor("process?start=fork", workers=1) as executor:
        executor.submit(abs, -1).result()
        child.stdin.close()

        assert child.wait(timeout=10) == 0


def test_tasks_find_the_parts_of_standard_output_they_are_used_to():
    def write(_):
        sys.stdout.buffer.write(b"")
        return sys.stdout.encoding.lower()

    with FunctionExecutor(workers=1) as executor:
        assert executor.map(write, [0]).results() == ["utf-8"]


class Exits:
    """Ends whoever takes it apart."""

    def __reduce__(self):
        raise SystemExit(3)


class ExitsWhenRead:
    """Ends whoever puts it together."""

    def __reduce__(self):
        return sys.exit, (3,)


@pytest.mark.parametrize("kind", [Exits, ExitsWhenRead])
@pytest.mark.parametrize("compute", ["process", "serial"])
def test_an_item_whose_own_methods_exit_fails_its_task_alone(compute, kind):
    with FunctionExecutor(compute) as executor:
        futures = executor.map(lambda item: 1, [kind(), 2])

        with pytest.raises(SerializationError, match="SystemExit: 3"):
            futures[0].result(20)
        assert futures[1].result(20) == 1


@pytest.mark.parametrize("kind", [Exits, ExitsWhenRead])
def test_a_result_whose_own_methods_exit_fails_its_task_alone(kind):
    with FunctionExecutor(workers=1) as executor:
        futures = executor.map(lambda item: kind() if item else 1, [1, 0])

        with pytest.raises(SerializationError, match="SystemExit: 3"):
            futures[0].result(20)
        assert futures[1].result(20) == 1


@pytest.mark.parametrize("compute", ["process", "serial"])
def test_a_listener_that_exits_hears_no_more_and_costs_no_result(compute):
    with FunctionExecutor(compute, listeners=[lambda event: sys.exit(3)]) as executor:
        assert executor.map(abs, [-1, -2]).results(20) == [1, 2]


def test_a_callback_that_exits_is_told_in_the_log_and_the_others_are_called(caplog):
    called = threading.Event()
    with FunctionExecutor(workers=1) as executor:
        future = executor.submit(time.sleep, 0.2)
        future.add_done_callback(lambda _: sys.exit(3))
        future.add_done_callback(lambda _: called.set())

        assert called.wait(20)
        assert executor.submit(abs, -1).result(20) == 1
    assert "SystemExit" in caplog.text


def test_what_a_thread_submits_while_another_ends_its_turn_is_run():
    with FunctionExecutor("serial") as executor:
        agenda = executor._scheduler._agenda
        wait, later = agenda.wait, []

        def wait_and_submit():
            found = wait()
            if found is None and not later:
                later.append(None)
                thread = threading.Thread(target=lambda: later.append(executor.submit(abs, -2)))
                thread.start()
                thread.join()
            return found

        agenda.wait = wait_and_submit
        executor.submit(abs, -1)

        assert later[1].result(20) == 2
