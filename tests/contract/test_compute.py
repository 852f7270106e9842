"""What every compute backend must do.

Each runs twice: with results in the reply, and with results in storage (``durable=True``); a platform that gives no
replies has the second mode alone. Limits are tried for real where ``capabilities.enforces`` says that they end a
running task. A platform is started by a fixture ``<name>_site`` of session scope that returns settings for
`FunctionExecutor` (in tests/servers, one file a platform); a new backend adds its name to `SITES`.
"""

import linecache
import os
import re
import signal
import threading
import time
import traceback

import numpy as np
import pytest

from core import ConfigError, FunctionExecutor, InputError, RetryPolicy, TaskError, open_storage
from core.compute.base import open_backend
from core.errors import MemoryLimitExceeded, SerializationError, StorageError, TaskTimeout, WorkerDied
from core.settings import ExecutorConfig, parse_address
from core.types import BatchInvoked, JobCreated, JobDone, TaskDone, TaskFailed

LOCAL = ("serial", "process?start=fork", "process?start=fresh")
BOTH, STORED = ("direct", "durable"), ("durable",)
SITES: dict[str, tuple[str, ...]] = {
    "http": BOTH,
    "lambda": BOTH,
    "lambda_async": STORED,
    "slurm": STORED,
    "kubernetes": STORED,
    "container": BOTH,
    "dask": BOTH,
    "openwhisk": BOTH,
}
SLOW: frozenset[str] = frozenset({"kubernetes"})
MODES = [
    pytest.param((name, mode), id=f"{name}-{mode}", marks=[pytest.mark.slow] if name in SLOW else [])
    for name, modes in {**dict.fromkeys(LOCAL, BOTH), **SITES}.items()
    for mode in modes
]


def capabilities(chosen):
    settings = {name: value for name, value in chosen.items() if name in ("storage", "workers", "runtime")}
    return open_backend(parse_address(chosen["compute"]), ExecutorConfig(**settings)).capabilities


@pytest.fixture(scope="module", params=MODES)
def chosen(request, tmp_path_factory):
    name, mode = request.param
    settings = {"compute": name, "workers": None if name == "serial" else 2}
    if name not in LOCAL:
        settings |= request.getfixturevalue(f"{name}_site")
    store = f"file://{tmp_path_factory.mktemp('store')}"
    return {"storage": store, "durable": mode == "durable", **settings}


@pytest.fixture(scope="module")
def executor(chosen):
    with FunctionExecutor(**chosen) as started:
        yield started


@pytest.fixture
def enforces(chosen):
    return capabilities(chosen).enforces


@pytest.fixture
def separate(chosen):
    """Skip unless tasks run in processes of their own."""
    if capabilities(chosen).inline:
        pytest.skip("tasks run in the calling process")


def failure_of(futures, index=0):
    error = futures[index].exception(timeout=60)
    assert error is not None
    return error


def test_results_align_with_inputs_and_none_stays_none(executor):
    results = executor.map(lambda x: None if x % 2 else x * x, range(50)).results(60)

    assert results == [None if x % 2 else x * x for x in range(50)]


def test_no_items_give_no_results(executor):
    assert executor.map(lambda x: x, []).results(60) == []


def test_one_call_takes_positional_and_keyword_arguments(executor):
    assert executor.call_async(lambda a, b=2, *, c: (a, b, c), 1, c=3).result(60) == (1, 2, 3)


def test_generators_are_consumed(executor):
    assert executor.map(lambda x: x + 1, (i for i in range(30))).results(60) == list(range(1, 31))


@pytest.mark.parametrize("size", [10, 10_000])
def test_a_generator_may_use_its_memory_again(executor, size):
    def refilled():
        array, pair = np.zeros(size), [0, {}]
        for i in range(50):
            array[:] = pair[0] = i
            pair[1]["of"] = i
            yield array, pair

    results = executor.map(lambda array, pair: (array.min(), array.max(), *pair), refilled()).results(60)

    assert results == [(i, i, i, {"of": i}) for i in range(50)]


def test_the_arguments_of_a_call_are_those_at_the_call(executor):
    array, held = np.zeros(10_000), {"x": []}
    futures = []
    for i in range(10):
        array[:] = i
        held["x"].append(i)
        futures.append(executor.submit(lambda a, *, h: (a.max(), len(h["x"])), array, h=held))

    assert [future.result(60) for future in futures] == [(i, i + 1) for i in range(10)]


def test_a_batch_size_changes_no_result(executor):
    assert executor.map(lambda x: -x, range(23), batch_size=5).results(60) == [-x for x in range(23)]


def test_map_reduce_gets_the_results_in_order(executor):
    assert executor.map_reduce(lambda x: str(x), range(8), "".join).result(60) == "01234567"


def test_arrays_come_back_equal_and_writable(executor):
    given = [np.arange(40_000, dtype=float) + i for i in range(4)]

    back = executor.map(lambda a: a * 2, given).results(60)

    for before, after in zip(given, back, strict=True):
        after[0] = -1
        assert np.array_equal(after[1:], before[1:] * 2)


def test_arrays_given_to_tasks_are_writable(executor):
    def change(array):
        array[0] = 7
        return float(array.sum())

    assert executor.map(change, [np.zeros(30_000), np.ones(30_000)]).results(60) == [7.0, 30_006.0]


def test_tasks_do_not_share_or_change_the_callers_objects(executor):
    shared = {"x": [1]}

    def append(item):
        item["x"].append(2)
        return item

    results = executor.map(append, [(shared,), (shared,)], batch_size=2).results(60)

    assert results == [{"x": [1, 2]}, {"x": [1, 2]}]
    assert shared == {"x": [1]}


def test_extra_arguments_and_environment_reach_tasks_and_leave_no_trace(executor):
    before = dict(os.environ)
    home = executor.call_async(lambda: os.environ["HOME"]).result(60)
    extra_args, extra_env = [10, [1]], {"FLAVOUR": "plum", "HOME": "/elsewhere"}

    def f(x, y, z):
        z.append(y)
        return x + y, os.environ["FLAVOUR"], os.environ["HOME"]

    assert executor.map(f, [1, 2], extra_args=extra_args, extra_env=extra_env).results(60) == [
        (11, "plum", "/elsewhere"),
        (12, "plum", "/elsewhere"),
    ]
    after = executor.map(lambda _: (os.environ.get("FLAVOUR"), os.environ["HOME"]), range(8)).results(60)
    assert after == [(None, home)] * 8
    assert (extra_args, extra_env) == ([10, [1]], {"FLAVOUR": "plum", "HOME": "/elsewhere"})
    assert dict(os.environ) == before


def test_tasks_are_told_their_number_key_attempt_and_storage(executor, chosen):
    def f(item, task_id, task_key, attempt, storage):
        storage.put(f"seen/{task_id}", str(item).encode())
        return task_id, task_key, attempt

    futures = executor.map(f, ["a", "b", "c"], batch_size=2)

    assert futures.results(60) == [(i, f"{futures.job_id}/{i}", 0) for i in range(3)]
    storage = open_storage(chosen["storage"])
    assert [storage.get(f"seen/{i}") for i in range(3)] == [b"a", b"b", b"c"]


def test_objects_in_storage_are_read_by_chunks_of_whole_lines(executor, tmp_path):
    lines = [f"{i},{'x' * (i % 37)}\r\n".encode() for i in range(300)]
    (tmp_path / "data.csv").write_bytes(b"".join(lines)[:-2])

    parts = executor.map(lambda obj: obj.read(), str(tmp_path / "data.csv"), chunk_bytes=997).results(60)

    assert len(parts) > 5
    assert b"".join(parts) == b"".join(lines)[:-2]
    assert all(part.endswith(b"\r\n") for part in parts[:-1])


def test_an_exception_keeps_its_type_and_shows_the_users_failing_line(executor):
    def divide(x):
        return 1 / x

    futures = executor.map(divide, [1, 0, 2], batch_size=3)
    error = failure_of(futures, 1)

    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error.__cause__, TaskError)
    assert error.__cause__.task_id == 1
    assert error.__cause__.job_id == futures.job_id
    shown = "".join(traceback.format_exception(error))
    assert "return 1 / x" in shown
    assert re.search(r"in divide\b", str(error.__cause__))
    assert futures[0].result(60) == 1.0
    assert futures[2].result(60) == 0.5
    with pytest.raises(ZeroDivisionError):
        futures.results(60)


def test_the_lines_of_a_notebook_show_in_tracebacks_and_to_the_function_itself(executor, separate):
    lines = ["def halve(x):\n", "    import inspect, traceback  # of this cell\n", "    try:\n"]
    lines += ["        return 1 / x, inspect.getsource(halve)\n", "    except ZeroDivisionError:\n"]
    lines += ["        traceback.print_exc()\n", "        raise\n"]
    scope = {"__name__": "__main__"}
    linecache.cache["<cell 7>"] = (sum(map(len, lines)), None, lines, "<cell 7>")
    exec(compile("".join(lines), "<cell 7>", "exec"), scope)

    futures = executor.map(scope["halve"], [1, 0])

    assert futures[0].result(60) == (1.0, "".join(lines))
    error = failure_of(futures, 1)
    assert 'File "<cell 7>", line 4, in halve\n    return 1 / x, inspect' in str(error.__cause__)
    assert "return 1 / x, inspect" in futures[1].log


def test_what_an_exception_holds_and_cannot_send_stays_behind_and_is_named(executor):
    class Odd(Exception):
        def __init__(self, lock):
            super().__init__("odd one", lock)
            self.lock, self.number = lock, 5

    def fail(x):
        raise Odd(threading.Lock())

    error = failure_of(executor.map(fail, [1]))

    assert type(error) is Odd
    assert error.number == 5
    assert not hasattr(error, "lock")
    assert "lock" in str(error)
    assert "attribute 'lock' stayed in the worker: TypeError" in error.__notes__[0]
    assert "raise Odd(threading.Lock())" in str(error.__cause__)


def test_an_exception_is_rebuilt_without_its_constructor(executor):
    class Demanding(Exception):
        def __init__(self, a, b, *, c):
            super().__init__(f"{a} against {b}")
            self.c = c

    class Moved(FileNotFoundError):
        def __init__(self, path):
            super().__init__(2, "it was moved", path)

    def fail(x):
        raise Demanding("this", "that", c=x) if x else Moved("/there")

    futures = executor.map(fail, [0, 7])

    assert (type(failure_of(futures, 1)), str(failure_of(futures, 1))) == (Demanding, "this against that")
    assert failure_of(futures, 1).c == 7
    assert type(failure_of(futures, 0)) is Moved
    assert (futures[0].exception().errno, futures[0].exception().filename) == (2, "/there")


def test_groups_causes_and_notes_of_an_exception_come_along(executor):
    class Part(Exception):
        def __init__(self, number, lock=None):
            super().__init__()
            self.number, self.lock = number, lock

    def fail(x):
        try:
            raise Part(1)
        except Part as first:
            error = ExceptionGroup("several", [Part(2, threading.Lock() if x else None), ValueError("v")])
            error.add_note("by hand")
            raise error from first

    for error in map(failure_of, [executor.map(fail, [0]), executor.map(fail, [1])]):
        assert type(error) is ExceptionGroup
        assert [type(part) for part in error.exceptions] == [Part, ValueError]
        assert error.exceptions[0].number == 2
        assert "by hand" in error.__notes__
        assert isinstance(error.__cause__, TaskError)
        assert (type(error.__cause__.__cause__), error.__cause__.__cause__.number) == (Part, 1)


def test_the_end_of_an_iterator_is_an_error_of_the_task_and_hangs_nobody(executor):
    import asyncio

    async def main(future):
        return await asyncio.wait_for(asyncio.wrap_future(future), 60)

    def take(items):
        return next(iter(items))

    assert asyncio.run(main(executor.submit(take, [3]))) == 3
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        asyncio.run(main(executor.submit(take, [])))
    assert isinstance(caught.value.__cause__, TaskError)
    assert isinstance(caught.value.__cause__.__cause__, StopIteration)
    assert "return next(iter(items))" in str(caught.value.__cause__)


def test_an_exception_that_cannot_even_be_printed_still_names_its_type(executor):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    def fail(x):
        raise Mute

    assert "Mute" in str(failure_of(executor.map(fail, [1])))


def test_a_result_that_cannot_be_pickled_fails_its_own_task_alone(executor):
    futures = executor.map(lambda x: threading.Lock() if x == 1 else [x], range(3), batch_size=3)

    error = failure_of(futures, 1)

    assert isinstance(error, SerializationError)
    assert "result of task 1" in str(error)
    assert [futures[0].result(60), futures[2].result(60)] == [[0], [2]]


def test_a_result_that_cannot_be_unpickled_fails_its_own_task_alone(executor):
    class Broken:
        def __reduce__(self):
            return int, ("not a number",)

    futures = executor.map(lambda x: Broken() if x == 1 else [x], range(3), batch_size=3)

    assert isinstance(failure_of(futures, 1), SerializationError)
    assert [futures[0].result(60), futures[2].result(60)] == [[0], [2]]


def test_an_item_that_cannot_be_pickled_fails_its_own_task_alone(executor):
    futures = executor.map(lambda x: str(type(x)), [[1], threading.Lock(), [3]], batch_size=3)

    error = failure_of(futures, 1)

    assert isinstance(error, SerializationError)
    assert "item" in str(error)
    assert futures[2].result(60) == "<class 'list'>"


def test_a_function_that_cannot_be_pickled_is_refused_before_anything_runs(executor):
    lock = threading.Lock()

    with pytest.raises(SerializationError, match="inside the function"):
        executor.map(lambda x: lock, [1, 2])


def test_a_function_that_cannot_be_loaded_fails_its_tasks_and_spares_the_executor(executor):
    class Refuses:
        def __reduce__(self):
            return int, ("no number",)

    burden = Refuses()

    error = failure_of(executor.map(lambda x: burden, [1]))

    assert "no number" in str(error)
    assert not isinstance(error, StorageError)
    assert executor.map(lambda x: x, [5]).results(60) == [5]


@pytest.mark.parametrize("mistake", [3, "text", None])
def test_what_is_not_a_function_is_refused_before_anything_runs(executor, mistake):
    with pytest.raises(ConfigError, match="function"):
        executor.map(mistake, [1])


def test_a_function_without_room_for_an_item_is_refused_before_anything_runs(executor):
    with pytest.raises(ConfigError, match="no parameter"):
        executor.map(lambda: 1, [1])


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_a_batch_size_that_makes_no_sense_is_refused(executor, size):
    with pytest.raises(ConfigError, match="batch_size"):
        executor.map(lambda x: x, [1], batch_size=size)


def test_a_missing_path_is_refused_before_anything_runs(executor, tmp_path):
    with pytest.raises(InputError, match="nothing-here"):
        executor.map(lambda obj: obj.read(), str(tmp_path / "nothing-here"))


def test_sys_exit_fails_its_task_and_keeps_the_worker(executor):
    def leave(x):
        if x == 1:
            raise SystemExit(4)
        return x

    futures = executor.map(leave, range(3), batch_size=3)

    assert "sys.exit(4)" in str(failure_of(futures, 1))
    assert not isinstance(failure_of(futures, 1), SystemExit)
    assert futures[2].result(60) == 2


def test_an_interrupt_raised_by_the_function_does_not_end_the_driver(executor, separate):
    def interrupt(x):
        raise KeyboardInterrupt("from the task")

    error = failure_of(executor.map(interrupt, [1]))

    assert type(error) is TaskError
    assert "KeyboardInterrupt: from the task" in str(error)


def test_waiting_for_another_attempt_takes_none_of_the_tasks_time(executor):
    def third_time(x, attempt):
        if attempt < 2:
            raise OSError
        return attempt

    policy = RetryPolicy(retries=2, retry_on=(OSError,), backoff=0.2)

    assert executor.map(third_time, [1], timeout=0.05, retries=policy).results(60) == [2]


def test_a_task_over_its_time_is_tried_again(executor):
    def slow_at_first(x, attempt):
        end = time.monotonic() + (4 if x == 1 and attempt == 0 else 0)
        while time.monotonic() < end:
            pass
        return x, attempt

    assert executor.map(slow_at_first, range(3), batch_size=3, timeout=2).results(60) == [(0, 0), (1, 1), (2, 0)]


def test_a_task_that_is_always_over_its_time_fails_after_its_last_attempt_and_the_others_do_not(executor):
    def slow(x):
        end = time.monotonic() + (1.0 if x == 1 else 0)
        while time.monotonic() < end:
            pass
        return x

    futures = executor.map(slow, range(3), batch_size=3, timeout=0.3, retries=1)
    error = failure_of(futures, 1)

    assert isinstance(error, TaskTimeout)
    assert "task 1 of" in str(error)
    assert "0.3 s (tried 2 times)" in str(error)
    assert error.attempts == 2
    assert [futures[0].result(60), futures[2].result(60)] == [0, 2]


def test_an_array_given_to_a_task_is_the_tasks_own(executor):
    given = np.zeros(30_000)

    def change(array):
        array[:] = 7
        return float(array[0])

    assert executor.map(change, [given, given]).results(60) == [7.0, 7.0]
    assert not given.any()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_result_is_as_the_task_returned_it_whatever_later_tasks_do(executor, batch_size):
    kept = np.zeros(30_000)

    def fill(x):
        kept[:] = x
        return kept

    results = executor.map(fill, range(1, 5), batch_size=batch_size).results(60)

    assert [(result[0], result[-1]) for result in results] == [(x, x) for x in range(1, 5)]


def test_a_function_keeps_nothing_from_one_job_to_the_next(executor, separate):
    def count(x, seen=[]):  # noqa: B006
        seen.append(x)
        return len(seen)

    assert [executor.map(count, [x]).results(60) for x in range(5)] == [[1]] * 5


def test_an_exception_named_by_the_policy_is_tried_again_until_it_succeeds(executor):
    def third_time(x, attempt):
        if attempt < 2:
            raise OSError(f"attempt {attempt}")
        return x, attempt

    policy = RetryPolicy(retries=2, retry_on=(OSError,), backoff=0.001)

    assert executor.map(third_time, [1, 2], retries=policy).results(60) == [(1, 2), (2, 2)]


def test_an_exception_named_by_the_policy_fails_after_its_last_attempt(executor):
    def never(x, attempt):
        raise OSError(f"attempt {attempt}")

    error = failure_of(executor.map(never, [1], retries=RetryPolicy(2, (OSError,), backoff=0.001)))

    assert str(error) == "attempt 2"
    assert error.__cause__.attempts == 3


def test_an_exception_the_policy_does_not_name_is_not_tried_again(executor):
    def never(x, attempt):
        raise KeyError(attempt)

    error = failure_of(executor.map(never, [1], retries=RetryPolicy(5, (OSError,), backoff=0.001)))

    assert error.args == (0,)


def test_what_a_task_prints_is_kept_for_its_future_and_its_error(executor):
    def speak(x):
        print(f"said {x}")
        if x == 2:
            raise ValueError("enough")
        return x

    futures = executor.map(speak, [1, 2], batch_size=2)
    futures.wait(timeout=60)

    assert futures[0].log == "said 1\n"
    assert futures[1].exception().__cause__.log == "said 2\n"


def test_statistics_have_a_row_for_every_task(executor):
    futures = executor.map(lambda x: x, range(7))
    futures.results(60)

    table = executor.stats()

    mine = table[table.job_id == futures.job_id]
    assert sorted(mine.task_id) == list(range(7))
    assert (mine.duration >= 0).all()
    assert (mine.attempts == 1).all()


def test_events_tell_a_job_from_beginning_to_end(chosen):
    heard = []
    with FunctionExecutor(**chosen, listeners=[heard.append]) as executor:
        futures = executor.map(lambda x: 1 / x, [1, 0, 2], batch_size=1)
        futures.wait(timeout=60)

    kinds = [type(event) for event in heard]
    assert kinds[0] is JobCreated
    assert kinds[-1] is JobDone
    assert heard[-1].tasks == 3
    assert heard[-1].failed == 1
    assert sorted(e.stats.task_id for e in heard if type(e) is TaskDone) == [0, 2]
    assert [e.task_id for e in heard if type(e) is TaskFailed] == [1]
    assert sorted(i for e in heard if type(e) is BatchInvoked for i in e.tasks) == [0, 1, 2]
    assert {e.job_id for e in heard} == {futures.job_id}


def test_a_function_may_use_an_executor_itself(executor):
    def inner(x):
        with FunctionExecutor("serial", durable=False) as nested:
            return sum(nested.map(lambda y: y * x, range(4)).results())

    assert executor.map(inner, [1, 2]).results(60) == [6, 12]


def test_cancelled_tasks_that_wait_never_run_and_the_others_do(chosen, separate, tmp_path):
    gate, marks = tmp_path / "gate", tmp_path / "marks"
    marks.mkdir()

    def run(x):
        (marks / str(x)).touch()
        while not gate.exists():
            pass
        return x

    with FunctionExecutor(**{**chosen, "workers": 1}) as executor:
        futures = executor.map(run, range(6), batch_size=1)
        executor.cancel(futures[3:])
        gate.touch()
        assert [f.result(60) for f in futures[:3]] == [0, 1, 2]

    assert all(f.cancelled() for f in futures[3:])
    assert {p.name for p in marks.iterdir()} == {"0", "1", "2"}


def test_a_running_task_that_is_cancelled_ends_and_its_batch_mates_go_on(chosen, separate, tmp_path):
    begun = tmp_path / "begun"

    def run(x):
        if x == 1:
            begun.touch()
            while True:
                pass
        return x

    with FunctionExecutor(**{**chosen, "workers": 1}) as executor:
        futures = executor.map(run, range(4), batch_size=4)
        while not begun.exists():
            assert not futures[1].done()
        executor.cancel([futures[1]])
        assert [futures[i].result(60) for i in (0, 2, 3)] == [0, 2, 3]

    assert futures[1].cancelled()


def test_a_task_over_its_time_is_ended_and_named(executor, enforces):
    if "timeout" not in enforces:
        pytest.skip("judged when the task returns")

    def stuck(x):
        if x == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                pass
        return x

    futures = executor.map(stuck, range(3), batch_size=3, timeout=0.1, retries=0)
    error = failure_of(futures, 1)

    assert isinstance(error, TaskTimeout)
    assert isinstance(error, TimeoutError)
    assert "task 1 of" in str(error)
    assert "0.1 s" in str(error)
    assert [futures[0].result(60), futures[2].result(60)] == [0, 2]


def test_a_task_over_its_memory_is_ended_and_named(executor, enforces):
    if "memory" not in enforces:
        pytest.skip("not enforced")

    def grow(x):
        held = []
        while x == 1:
            held.append(bytearray(os.urandom(1 << 20)))
        return x

    futures = executor.map(grow, range(3), batch_size=3, memory="64MB", retries=0)
    error = failure_of(futures, 1)

    assert isinstance(error, MemoryLimitExceeded)
    assert isinstance(error, MemoryError)
    assert error.task_id == 1
    assert "64 MB" in str(error)
    assert [futures[0].result(60), futures[2].result(60)] == [0, 2]


def _exit():
    os._exit(3)


def _segfault():
    import ctypes
    import faulthandler

    faulthandler.disable()
    ctypes.string_at(0)


def _kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("end", "words"),
    [(_exit, "status 3"), (_segfault, "SIGSEGV"), (_kill_self, "SIGKILL")],
    ids=["exit", "segv", "kill"],
)
def test_a_task_that_ends_its_worker_is_tried_again_then_named_and_its_batch_mates_go_on(
    executor, separate, end, words
):
    def run(x):
        if x == 1:
            end()
        return x

    futures = executor.map(run, range(4), batch_size=4, retries=1)
    error = failure_of(futures, 1)

    assert isinstance(error, WorkerDied)
    assert error.attempts == 2
    assert "task 1 of" in str(error)
    assert words in str(error)
    assert [futures[i].result(60) for i in (0, 2, 3)] == [0, 2, 3]


def test_only_the_task_that_ran_counts_an_attempt_when_its_worker_dies(executor, separate):
    def run(x, attempt):
        if x == 1 and attempt < 2:
            os._exit(1)
        return x, attempt

    assert executor.map(run, range(4), batch_size=4, retries=2).results(60) == [(0, 0), (1, 2), (2, 0), (3, 0)]


def test_a_worker_that_exits_while_it_reads_an_item_is_no_other_tasks_fault(executor, separate):
    class Trap:
        def __reduce__(self):
            return os._exit, (5,)

    futures = executor.map(lambda x: str(x), [[0], [1], Trap(), [3]], batch_size=4, retries=0)

    assert isinstance(failure_of(futures, 2), WorkerDied)
    assert [futures[i].result(60) for i in (0, 1, 3)] == ["[0]", "[1]", "[3]"]
