import asyncio
import concurrent.futures
import os
import pickle
import subprocess
import sys
import threading
import traceback

import pytest

from core import ConfigError, FunctionExecutor, FutureList, TaskError, open_storage


@pytest.fixture(scope="module")
def executor():
    with FunctionExecutor("process", workers=2) as started:
        yield started


@pytest.fixture
def serial():
    with FunctionExecutor("serial") as started:
        yield started


def spin_until(path):
    while not path.exists():
        pass
    return path.name


def test_it_is_an_executor_of_the_standard_library(executor):
    assert isinstance(executor, concurrent.futures.Executor)
    assert isinstance(executor.submit(int), concurrent.futures.Future)


def test_as_completed_yields_every_future_once(executor):
    futures = [executor.submit(pow, i, 2) for i in range(200)]

    assert sorted(f.result() for f in concurrent.futures.as_completed(futures, 60)) == [i * i for i in range(200)]


def test_wait_of_the_standard_library_sees_its_futures_end(executor):
    futures = executor.map(lambda x: x, range(50), batch_size=1)

    done, rest = concurrent.futures.wait(futures, timeout=60)

    assert len(done) == 50
    assert not rest


def test_an_event_loop_can_run_functions_in_it(executor):
    async def main():
        loop = asyncio.get_running_loop()
        several = await asyncio.gather(*(loop.run_in_executor(executor, pow, i, 2) for i in range(20)))
        return several, await asyncio.wrap_future(executor.submit(str, 5))

    assert asyncio.run(main()) == ([i * i for i in range(20)], "5")


def test_submit_passes_arguments_named_like_its_own(executor):
    assert executor.submit(lambda **given: given, fn=1, self=2).result(60) == {"fn": 1, "self": 2}


def test_a_timeout_leaves_the_job_alone_and_its_results_can_be_fetched_later(executor, tmp_path):
    futures = executor.map(spin_until, [tmp_path / "gate"])

    with pytest.raises(TimeoutError):
        executor.get_result(futures, timeout=0.01)
    with pytest.raises(TimeoutError):
        executor.get_result(timeout=0.01)
    with pytest.raises(TimeoutError):
        futures[0].result(timeout=0.01)
    assert executor.wait(futures, timeout=0.01) == ([], list(futures))
    (tmp_path / "gate").touch()

    assert executor.get_result(futures, timeout=60) == ["gate"]


def test_get_result_returns_what_was_not_yet_fetched(serial):
    serial.map(lambda x: x, [1, 2])
    serial.call_async(lambda: 3)

    assert serial.get_result() == [1, 2, 3]
    assert serial.get_result() == []
    serial.call_async(lambda: None)
    assert serial.get_result() is None
    serial.map(lambda x: x, [4])
    assert serial.get_result() == [4]


def test_get_result_leaves_out_what_was_had_otherwise(serial):
    serial.map(lambda x: x, [1]).results()
    serial.call_async(lambda: 2).result()
    serial.map(lambda x: x, [3])

    assert serial.get_result() == [3]


def test_get_result_takes_a_future_a_list_or_any_iterable_of_futures(serial):
    futures = serial.map(lambda x: x, [1, 2, 3])

    assert serial.get_result(futures[0]) == 1
    assert serial.get_result(futures) == [1, 2, 3]
    assert serial.get_result(reversed(futures)) == [3, 2, 1]


def test_wait_without_arguments_waits_for_the_latest_jobs(executor):
    executor.get_result()
    futures = executor.map(lambda x: x, iter(range(5)))
    one = executor.call_async(int)

    done, rest = executor.wait(timeout=60)

    assert done == [*futures, one]
    assert rest == []
    assert executor.wait(return_when="ANY")[0]


def test_futures_can_be_mapped_again_before_they_are_done(executor):
    assert executor.map(lambda x: x + 1, range(20)).map(lambda x: x * 10).map(str).results(60) == [
        str(10 * (x + 1)) for x in range(20)
    ]


def test_an_upstream_failure_fails_its_own_item_alone(executor):
    upstream = executor.map(lambda x: 1 / x, [1, 0, 2])
    downstream = upstream.map(lambda x: x + 1)

    assert downstream[0].result(60) == 2.0
    assert downstream[2].result(60) == 1.5
    assert isinstance(downstream[1].exception(60), ZeroDivisionError)


def test_upstream_failures_are_the_same_in_this_process(serial):
    downstream = serial.map(lambda x: 1 / x, [1, 0]).map(lambda x: x + 1)

    assert downstream[0].result() == 2.0
    assert isinstance(downstream[1].exception(), ZeroDivisionError)


def test_what_a_user_sees_first_is_the_failing_line_of_their_function(executor):
    def prepare(x):
        return {"x": x}["y"]

    with pytest.raises(KeyError) as caught:
        executor.map(prepare, [1]).results(60)

    cause = caught.value.__cause__
    assert isinstance(cause, TaskError)
    lines = str(cause).splitlines()
    assert "task 0 of prepare failed with KeyError" in lines[0]
    frames = [line for line in lines if line.lstrip().startswith("File ")]
    assert len(frames) == 1
    assert "in prepare" in frames[0]
    assert 'return {"x": x}["y"]' in "".join(traceback.format_exception(caught.value))


def test_shutting_down_waits_for_what_was_submitted():
    executor = FunctionExecutor("process", workers=2)
    futures = executor.map(lambda x: x, range(100), batch_size=1)

    executor.shutdown()

    assert all(f.done() for f in futures)
    assert futures.results(0) == list(range(100))
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(int)
    executor.shutdown()


def test_shutting_down_without_waiting_lets_the_work_go_on(tmp_path):
    executor = FunctionExecutor("process", workers=1)
    future = executor.submit(spin_until, tmp_path / "gate")

    executor.shutdown(wait=False)
    (tmp_path / "gate").touch()

    assert future.result(60) == "gate"


def test_shutting_down_by_force_ends_what_runs(tmp_path):
    executor = FunctionExecutor("process", workers=1)
    futures = executor.map(spin_until, [tmp_path / "never"] * 3, batch_size=1)

    executor.shutdown(cancel_futures=True)

    assert all(f.cancelled() for f in futures)


def test_leaving_the_block_by_an_exception_does_not_wait_for_tasks(tmp_path):
    started = FunctionExecutor("process", workers=1)
    future = started.submit(spin_until, tmp_path / "never")

    with pytest.raises(LookupError), started:
        raise LookupError

    assert future.cancelled()


def test_an_unused_executor_starts_nothing():
    before = threading.active_count(), set(os.listdir("/proc/self/fd"))

    with FunctionExecutor("process") as executor:
        assert executor.workers >= 1
        assert (threading.active_count(), set(os.listdir("/proc/self/fd"))) == before


def test_a_closed_executor_leaves_no_process_thread_or_descriptor(tmp_path):
    def children():
        with open(f"/proc/self/task/{threading.main_thread().native_id}/children") as file:
            return file.read()

    with FunctionExecutor("process", workers=1) as executor:
        executor.submit(int).result(60)
    before = children(), threading.active_count(), len(os.listdir("/proc/self/fd"))

    with FunctionExecutor("process", workers=2) as executor:
        executor.map(lambda x: bytes(100_000), range(20)).results(60)

    assert (children(), threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_an_executor_cannot_be_sent_to_a_worker(executor):
    with pytest.raises(TypeError, match="inside the function"):
        pickle.dumps(executor)


def test_a_future_of_a_job_that_is_not_durable_cannot_be_sent(executor):
    with pytest.raises(TypeError, match="durable"):
        pickle.dumps(executor.submit(int))


def test_two_executors_and_many_threads_do_not_mix_results(executor):
    results = {}
    together = threading.Barrier(6)

    def use(name, chosen):
        together.wait()
        results[name] = chosen.map(lambda x: (name, x), range(50)).results(60)

    with FunctionExecutor("process", workers=1) as other:
        threads = [threading.Thread(target=use, args=(i, (executor, other)[i % 2])) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert results == {i: [(i, x) for x in range(50)] for i in range(6)}


def test_the_serial_backend_runs_in_this_thread_and_process(serial):
    assert serial.submit(lambda: (os.getpid(), threading.get_ident())).result() == (os.getpid(), threading.get_ident())


def test_an_interrupt_at_the_keyboard_passes_through_the_serial_backend_and_spares_it(serial):
    def interrupt(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serial.map(interrupt, [1, 2])

    assert serial.map(lambda x: x, [1, 2]).results() == [1, 2]


def test_a_timeout_is_judged_after_the_fact_where_nothing_can_end_the_task(serial):
    def spin(x):
        import time

        end = time.monotonic() + x
        while time.monotonic() < end:
            pass
        return x

    futures = serial.map(spin, [0.0, 0.05], timeout=0.02, batch_size=2)

    assert futures[0].result() == 0.0
    assert isinstance(futures[1].exception(), TimeoutError)


@pytest.mark.parametrize(
    "settings",
    [
        {"compute": "abacus"},
        {"compute": "process?start=slowly"},
        {"compute": "process://elsewhere"},
        {"compute": "serial", "workers": 2},
        {"workers": 0},
        {"timeout": -1},
        {"memory": "lots"},
        {"retries": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ConfigError):
        FunctionExecutor(**settings)


def test_a_script_that_forgets_to_close_its_executor_ends_all_the_same():
    script = """
from core import FunctionExecutor
executor = FunctionExecutor("process", workers=2)
print(executor.map(lambda x: x + 1, [1, 2]).results())
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert ended.stdout == "[2, 3]\n"
    assert ended.stderr == ""


def test_cancelling_from_a_callback_takes_effect_without_waiting_for_itself(tmp_path):
    with FunctionExecutor("process", workers=1) as executor:
        first = executor.submit(spin_until, tmp_path / "gate")
        second = executor.submit(spin_until, tmp_path / "never")
        loop = executor._scheduler._thread
        heard = []

        def cancel(_):
            heard.append(threading.current_thread() is loop)
            executor.cancel(second)

        first.add_done_callback(cancel)
        (tmp_path / "gate").touch()
        assert first.result(60) == "gate"

    assert heard == [True]
    assert second.cancelled()


def test_cancel_without_arguments_cancels_everything_and_the_executor_goes_on(tmp_path):
    with FunctionExecutor("process", workers=1) as executor:
        futures = executor.map(spin_until, [tmp_path / "never"] * 4, batch_size=1)
        executor.cancel()
        assert all(f.cancelled() for f in futures)
        assert executor.submit(int).result(60) == 0


def test_clean_forgets_finished_jobs(executor):
    executor.map(lambda x: x, [1]).results(60)
    assert len(executor.stats())

    executor.wait()
    executor.clean()

    assert len(executor.stats()) == 0


def test_an_executor_that_closed_keeps_its_statistics():
    with FunctionExecutor("process", workers=1) as executor:
        futures = executor.map(lambda x: x, [1, 2])

    assert isinstance(futures, FutureList)
    assert len(executor.stats()) == 2
    assert executor.bill().tasks == 2


@pytest.mark.parametrize(
    ("compute", "settings", "file", "memory", "bucket"),
    [
        ("serial", {}, True, True, True),
        ("process", {}, True, False, True),
        ("http://127.0.0.1:9", {}, False, False, True),
        ("slurm://main", {"storage": "shared/jobs"}, True, False, True),
        ("slurm://main", {"storage": "memory://jobs"}, False, False, True),
    ],
)
def test_it_says_which_storages_its_workers_see(tmp_path, monkeypatch, compute, settings, file, memory, bucket):
    pytest.importorskip("boto3", reason="needs boto3: pip install '.[s3]'")
    monkeypatch.setenv("FANFOLD_WORKER_TOKEN", "t" * 32)
    places = str(tmp_path), f"memory://{tmp_path}", "s3://bucket/run"

    with FunctionExecutor(compute, **settings) as executor:
        reached = [executor.reaches(open_storage(place)) for place in places]

    assert reached == [file, memory, bucket]
