"""The points that the standard library asks of its executors and pools, asked of an executor's pool."""

import concurrent.futures
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from core import FunctionExecutor
from core.pool.pool import Pool


@pytest.fixture(scope="module", params=["process", "serial"])
def executor(request):
    with FunctionExecutor(request.param, workers=2 if request.param == "process" else None) as started:
        yield started


@pytest.fixture(scope="module")
def processes():
    with FunctionExecutor("process", workers=2) as started:
        yield started


@pytest.fixture
def pool(executor):
    with executor.pool() as opened:
        yield opened


def square(x):
    return x * x


def capture(*args, **kwargs):
    return args, kwargs


def fail_at_three(x):
    if x == 3:
        raise KeyError("three")
    return x


def spin_until(path):
    while not os.path.exists(path):
        pass
    return os.path.basename(path)


def broken(count):
    yield from range(count)
    raise ArithmeticError("the input broke")


def test_a_pool_is_an_executor_that_names_its_workers(pool, executor):
    assert isinstance(pool, concurrent.futures.Executor)
    assert pool._max_workers == pool._processes == executor._max_workers == executor.workers


def test_submit_passes_arguments_of_any_name_as_they_are(pool):
    future = pool.submit(capture, 1, self=2, fn=3, attempt=4, storage="s3://bucket/key")

    assert future.result(60) == ((1,), {"self": 2, "fn": 3, "attempt": 4, "storage": "s3://bucket/key"})
    with pytest.raises(TypeError):
        pool.submit(fn=capture, arg=1)
    with pytest.raises(TypeError):
        pool.submit()


def test_map_gives_each_item_as_the_one_argument(pool):
    items = [(1,), (1, 2), {"obj": 1}, "s3://bucket/*", None, [3]]

    assert list(pool.map(capture, items)) == [((item,), {}) for item in items]
    assert list(pool.map(len, ["ab", "file:///"])) == [2, 8]


def test_reserved_names_are_nothing_special(pool):
    assert list(pool.map(lambda task_id, attempt=7: (task_id, attempt), [5])) == [(5, 7)]
    assert list(pool.map(lambda obj: obj, ["no/such/path"])) == ["no/such/path"]
    assert pool.submit(lambda x, task_id: (x, task_id), 5, 100).result(60) == (5, 100)


def test_map_takes_several_iterables_and_ends_with_the_shortest(pool):
    assert list(pool.map(pow, range(5), iter([2, 3, 4]))) == [0, 1, 16]
    assert list(pool.map(capture)) == []


def test_map_reads_its_input_and_begins_before_it_is_iterated(pool, tmp_path):
    source = iter([str(tmp_path / "made")])

    results = pool.map(lambda path: open(path, "x").close(), source)

    assert next(source, None) is None
    pool.shutdown()
    assert (tmp_path / "made").exists()
    assert list(results) == [None]


@pytest.mark.parametrize("size", [1, 3, 40, None])
def test_the_size_of_chunks_changes_nothing(pool, size):
    expected = [square(x) for x in range(20)]

    assert list(pool.map(square, range(20), chunksize=size)) == expected
    assert pool.map(square, range(20), size) == expected
    assert pool.map_async(square, range(20), chunksize=size).get(60) == expected
    assert list(pool.imap(square, range(20), chunksize=size)) == expected


def test_an_impossible_chunksize_is_refused(pool):
    for method in (pool.map, pool.imap, pool.map_async):
        with pytest.raises(ValueError, match="chunksize"):
            method(square, [1], chunksize=-1)


def test_empty_input_gives_empty_results_everywhere(pool):
    for size in (None, 1, 5):
        assert pool.map(square, [], size) == []
        assert pool.map_async(square, [], chunksize=size).get(10) == []
        assert pool.starmap(pow, [], size) == []
        assert list(pool.imap(square, [], size)) == list(pool.imap_unordered(square, [], size)) == []


def test_results_of_map_can_be_read_like_a_list(pool):
    results = pool.map(square, range(5))

    assert (len(results), results[0], results[-1]) == (5, 0, 16)
    assert np.array(pool.map(square, range(5))).tolist() == [0, 1, 4, 9, 16]
    with pytest.raises(IndexError):
        results[5]


def test_what_iteration_has_let_go_of_is_not_read_as_something_else(pool):
    results = pool.map(square, range(5))
    next(results)

    with pytest.raises(RuntimeError, match="let go"):
        results[0]
    assert list(results) == [1, 4, 9, 16]


def test_iteration_of_map_raises_where_a_task_failed_and_then_ends(pool):
    results = pool.map(fail_at_three, range(6))

    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(results)
    assert list(results) == []


def test_the_error_of_an_input_is_raised_as_it_is(pool):
    with pytest.raises(ArithmeticError, match="input broke"):
        pool.map(square, broken(3))
    for imap in (pool.imap, pool.imap_unordered):
        with pytest.raises(ArithmeticError, match="input broke"):
            list(imap(square, broken(3)))


def test_imap_gives_the_results_of_what_its_input_gave_before_it_broke(processes):
    with processes.pool() as pool:
        for imap in (pool.imap, pool.imap_unordered):
            results = imap(square, broken(3))
            assert sorted(next(results) for _ in range(3)) == [0, 1, 4]
            with pytest.raises(ArithmeticError, match="input broke"):
                next(results)


def test_an_item_that_cannot_be_pickled_fails_its_own_call(pool):
    with pytest.raises(Exception, match="pickle"):
        pool.apply(square, (threading.Lock(),))
    assert pool.apply(square, (3,)) == 9


def test_apply_and_starmap_pass_elements_and_keywords(pool):
    assert pool.apply(capture, (1, 2), {"c": 3}) == ((1, 2), {"c": 3})
    assert pool.starmap(capture, [[1, 2], (3,), "ab"]) == [((1, 2), {}), ((3,), {}), (("a", "b"), {})]
    assert pool.starmap_async(pow, [(2, 3), (3, 2)]).get(60) == [8, 9]


def test_an_async_result_answers_what_it_is_asked(processes, tmp_path):
    with processes.pool() as pool:
        waiting = pool.apply_async(spin_until, (str(tmp_path / "go"),))

        waiting.wait(0)
        assert not waiting.ready()
        with pytest.raises(ValueError, match="not ready"):
            waiting.successful()
        with pytest.raises(multiprocessing.TimeoutError):
            waiting.get(timeout=0)
        with pytest.raises(TimeoutError):
            waiting.get(timeout=0)
        (tmp_path / "go").touch()
        assert waiting.get(60) == "go"
        assert waiting.ready()
        assert waiting.successful()


def test_an_async_result_of_a_failure_raises_it(pool):
    for failed in (pool.apply_async(fail_at_three, (3,)), pool.map_async(fail_at_three, range(5))):
        with pytest.raises(KeyError, match="three"):
            failed.get(60)
        assert not failed.successful()


def test_callbacks_have_been_called_when_get_returns(pool):
    heard = []

    pool.apply_async(square, (3,), callback=heard.append).get(60)
    pool.map_async(square, range(3), callback=heard.append).get(60)
    for failed in (
        pool.apply_async(fail_at_three, (3,), callback=heard.append, error_callback=heard.append),
        pool.starmap_async(fail_at_three, [(3,)], callback=heard.append, error_callback=heard.append),
    ):
        failed.wait(60)

    assert heard[:2] == [9, [0, 1, 4]]
    assert [type(error) for error in heard[2:]] == [KeyError, KeyError]


def test_a_callback_that_raises_harms_nobody(pool):
    def refuse(result):
        raise RuntimeError(result)

    assert pool.apply_async(square, (3,), callback=refuse).get(60) == 9
    assert pool.apply(square, (4,)) == 16


def test_imap_goes_on_after_a_failure(pool):
    results = pool.imap(fail_at_three, range(5))

    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(results)
    assert list(results) == [4]


def test_imap_waits_no_longer_than_it_may(processes, tmp_path):
    with processes.pool() as pool:
        for imap in (pool.imap, pool.imap_unordered):
            go = tmp_path / imap.__name__
            results = imap(spin_until, [str(go)])
            with pytest.raises(multiprocessing.TimeoutError):
                results.next(timeout=0.01)
            go.touch()
            assert results.next(timeout=60) == go.name
            with pytest.raises(StopIteration):
                results.next(timeout=60)


def test_imap_reads_an_endless_input_no_further_than_workers_need(processes):
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield read[-1]

    pool = processes.pool()
    results = pool.imap(square, endless())

    assert [next(results) for _ in range(100)] == [x * x for x in range(100)]
    pool.terminate()
    pool.join()
    stopped = len(read)
    assert pool._unfinished() == []
    assert len(read) == stopped < 1_000_000


def test_imap_takes_an_item_when_it_is_yielded(processes):
    def refilled():
        buffer = []
        for number in range(50):
            buffer[:] = [number]
            yield list(buffer)

    with processes.pool() as pool:
        assert [item for (item,) in pool.imap(list, refilled())] == list(range(50))


def test_imap_unordered_gives_what_ends_first(processes, tmp_path):
    slow, quick = str(tmp_path / "slow"), str(tmp_path)

    with processes.pool() as pool:
        results = pool.imap_unordered(spin_until, [slow, quick], chunksize=1)
        assert next(results) == os.path.basename(quick)
        open(slow, "x").close()
        assert next(results) == "slow"


def test_a_map_that_takes_too_long_is_cut_short(processes, tmp_path):
    with processes.pool() as pool:
        results = pool.map(spin_until, [str(tmp_path), str(tmp_path / "go"), str(tmp_path / "go")], timeout=30)
        assert next(results) == tmp_path.name
        results._deadline = 0
        with pytest.raises(TimeoutError):
            next(results)
        (tmp_path / "go").touch()


def test_results_are_let_go_of_as_they_are_read(processes):
    with processes.pool() as pool:
        for results in (pool.map(set, [[1], [2], [3]]), pool.imap(set, [[1], [2], [3]])):
            for result in results:
                kept = weakref.ref(result)
                del result
                gc.collect()
                assert kept() is None


def test_a_closed_pool_takes_nothing_and_its_executor_goes_on(executor):
    pool = executor.pool()
    running = pool.map_async(square, range(3))

    with pytest.raises(ValueError, match="open"):
        pool.join()
    pool.close()
    pool.join()

    assert running.get(0) == [0, 1, 4]
    for error in (ValueError, RuntimeError):
        with pytest.raises(error, match="closed"):
            pool.submit(square, 1)
    with pytest.raises(ValueError, match="closed"):
        pool.__enter__()
    assert executor.submit(square, 5).result(60) == 25


def test_terminate_ends_what_runs_and_what_waits(processes, tmp_path):
    pool = processes.pool()
    results = pool.map_async(spin_until, [str(tmp_path / "never")] * 1000)

    pool.terminate()
    pool.join()

    with pytest.raises(concurrent.futures.CancelledError):
        results.get(0)
    assert processes.submit(square, 5).result(60) == 25


def test_shutdown_may_cancel_what_has_not_begun(processes, tmp_path):
    pool = processes.pool()
    futures = [pool.submit(spin_until, str(tmp_path / "go")) for _ in range(50)]

    pool.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    pool.shutdown()

    ended = {future.cancelled() for future in futures}
    assert all(future.done() for future in futures)
    assert ended == {True, False}


def test_an_exception_that_leaves_the_pool_ends_its_tasks(processes, tmp_path):
    def leave():
        with processes.pool() as pool:
            futures.append(pool.submit(spin_until, str(tmp_path / "never")))
            raise LookupError

    futures = []

    with pytest.raises(LookupError):
        leave()
    assert futures[0].cancelled()


def test_results_that_are_dropped_half_read_are_not_waited_for(processes, tmp_path):
    with processes.pool() as pool:
        results = pool.map(spin_until, [str(tmp_path)] + [str(tmp_path / "go")] * 200)
        assert next(results) == tmp_path.name
        del results
        other = pool.submit(os.getpid)
        (tmp_path / "go").touch()
        other.result(60)
        dropped = pool._work[0]
    assert sum(future.cancelled() for future in dropped) > 100


def test_a_pool_forgets_what_is_done(executor):
    pool = executor.pool()

    for number in range(500):
        pool.submit(square, number).result(60)

    assert len(pool._work) <= 65


def count_in(folder):
    with open(os.path.join(folder, str(os.getpid())), "a") as file:
        file.write("x")


def test_an_initializer_runs_once_in_each_worker(executor, tmp_path):
    with executor.pool(count_in, (str(tmp_path),)) as pool:
        list(pool.map(square, range(50), chunksize=1))
        [pool.submit(square, number).result(60) for number in range(20)]
        assert pool.starmap(pow, [(2, 3)]) == [8]

    runs = [path.read_text() for path in tmp_path.iterdir()]
    assert set(runs) == {"x"}
    assert len(runs) <= executor.workers


def test_a_worker_that_replaces_another_is_initialized_too(tmp_path):
    def die_first(path):
        if not os.path.exists(path):
            open(path, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.path.exists(os.path.join(os.path.dirname(path), "ready", str(os.getpid())))

    (tmp_path / "ready").mkdir()
    with FunctionExecutor("process", workers=1) as one, one.pool(count_in, (str(tmp_path / "ready"),)) as pool:
        assert pool.submit(die_first, str(tmp_path / "died")).result(60)

    assert len(list((tmp_path / "ready").iterdir())) == 2


def refuse():
    raise LookupError("no licence")


def test_a_failing_initializer_breaks_the_pool_and_not_the_executor(executor):
    pool = executor.pool(refuse)

    with pytest.raises(concurrent.futures.BrokenExecutor, match=r"LookupError.*no licence"):
        pool.submit(square, 1).result(60)
    pool.shutdown()
    with pytest.raises(concurrent.futures.BrokenExecutor, match="no licence"):
        pool.submit(square, 1)
    with pytest.raises(TypeError, match="initializer"):
        executor.pool(3)
    assert executor.submit(square, 5).result(60) == 25


SCRIPT = """
from core import FunctionExecutor

shared = None

def initialize(value):
    global shared
    shared = value

def add(x):
    return shared + x

def times(x):
    return shared * x

if __name__ == "__main__":
    with FunctionExecutor("{compute}") as executor, executor.pool(initialize, (5,)) as pool:
        print(list(pool.map(add, range(3))), list(pool.map(times, range(3))), pool.submit(add, 1).result(), shared)
"""


@pytest.mark.parametrize("compute", ["process?start=fork", "process?start=fresh"])
def test_functions_of_a_script_see_the_globals_that_its_initializer_set(tmp_path, compute):
    (tmp_path / "script.py").write_text(SCRIPT.format(compute=compute))

    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.stdout == "[5, 6, 7] [0, 5, 10] 6 None\n", done.stderr


def test_an_exception_shows_the_line_that_raised_it(pool):
    future = pool.submit(fail_at_three, 3)

    error = future.exception(60)

    assert type(error) is KeyError
    assert 'raise KeyError("three")' in str(error.__cause__)
    assert "core/pool" not in str(error.__cause__)
    assert "core/task" not in str(error.__cause__)


def test_a_worker_that_dies_breaks_nothing(processes):
    pool = processes.pool()

    failed = pool.submit(os._exit, 3)

    assert "status 3" in str(failed.exception(60))
    assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]


def test_threads_may_share_a_pool(processes):
    with processes.pool() as pool, concurrent.futures.ThreadPoolExecutor(4) as threads:
        sums = threads.map(lambda start: sum(pool.map(square, range(start, start + 50))), range(20))
        assert list(sums) == [sum(x * x for x in range(s, s + 50)) for s in range(20)]


def test_a_pool_does_not_travel(pool):
    with pytest.raises(TypeError, match="cannot be sent"):
        pool.__reduce__()


def test_results_of_a_pool_are_not_the_executors_latest(executor):
    mine = executor.map(square, [7])
    with executor.pool() as pool:
        list(pool.map(square, range(3)))

    assert executor.get_result() == mine.results() == [49]


def test_a_pool_with_options_holds_its_tasks_to_them(processes, tmp_path):
    with processes.options(timeout=0.1, retries=0).pool() as pool:
        assert isinstance(pool, Pool)
        with pytest.raises(TimeoutError, match="timeout"):
            pool.apply(spin_until, (str(tmp_path / "never"),))
