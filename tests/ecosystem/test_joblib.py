"""The joblib backend: what joblib asks of one, and what users of others report."""

import pytest

pytest.importorskip("joblib", reason="pip install '.[compat]'")

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings

import joblib
import numpy as np
from joblib import Parallel, delayed

import core.joblib
from core import ConfigError, FunctionExecutor
from core.joblib import FanfoldBackend
from core.pool import shared_arrays

LARGE = 1 << 20
"""Bytes from which joblib shares an array, by default."""


@pytest.fixture(autouse=True)
def _on_executor(executor):
    with joblib.parallel_config("fanfold", executor=executor):
        yield


@pytest.fixture
def large():
    return np.random.default_rng(0).random((400, 400))


def square(x):
    return x * x


def row_sum(array, row):
    return float(array[row].sum())


def where_it_lies(array):
    return os.getpid(), array.flags.writeable, array.flags.c_contiguous, array.flags.f_contiguous


def write(array, row):
    array[row] = row


def fail_at_three(x):
    if x == 3:
        raise LookupError("three")
    return x


def spin_until(path):
    while not os.path.exists(path):
        pass


def test_calls_run_in_the_workers_and_keep_their_order():
    results = Parallel()(delayed(square)(x) for x in range(1000))

    assert results == [x * x for x in range(1000)]
    assert os.getpid() not in Parallel()(delayed(os.getpid)() for _ in range(20))


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}, {"pre_dispatch": "all"}, {"n_jobs": 2}])
def test_options_of_joblib_change_no_result(options):
    assert Parallel(**options)(delayed(square)(x) for x in range(50)) == [x * x for x in range(50)]


def test_the_number_of_jobs_is_that_of_workers_at_most(executor):
    assert joblib.effective_n_jobs(-1) == joblib.effective_n_jobs(100) == executor.workers == 2
    assert joblib.effective_n_jobs(-2) == joblib.effective_n_jobs(1) == 1
    with pytest.raises(ValueError, match="n_jobs"):
        joblib.effective_n_jobs(0)


def test_no_more_calls_run_at_once_than_jobs_were_asked_for(tmp_path):
    def running(path):
        mine = path / str(os.getpid())
        mine.touch()
        seen = len(list(path.iterdir()))
        mine.unlink()
        return seen

    with FunctionExecutor("process", workers=3) as three, joblib.parallel_config("fanfold", executor=three):
        seen = Parallel(n_jobs=2, batch_size=1)(delayed(running)(tmp_path) for _ in range(100))

    assert max(seen) <= 2


def test_one_job_runs_here():
    assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2


@pytest.mark.parametrize("way", ["generator", "generator_unordered"])
def test_results_can_be_read_as_they_come(way):
    results = Parallel(return_as=way)(delayed(square)(x) for x in range(200))

    assert next(results) is not None
    assert len(list(results)) == 199


def test_a_generator_that_is_dropped_ends_its_calls(tmp_path, executor):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = Parallel(return_as="generator", batch_size=1)(
            delayed(spin_until)(str(path)) for path in [tmp_path] + [tmp_path / "never"] * 10
        )
        next(results)
        del results

    assert executor.submit(square, 3).result(60) == 9


def test_the_exception_of_a_call_is_raised_with_the_line_that_raised_it():
    with pytest.raises(LookupError, match="three") as caught:
        Parallel()(delayed(fail_at_three)(x) for x in range(10))

    assert 'raise LookupError("three")' in str(caught.value.__cause__)
    assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_an_exception_of_the_callers_generator_is_raised_here():
    def calls():
        yield from (delayed(square)(x) for x in range(20))
        raise ArithmeticError("the input broke")

    with pytest.raises(ArithmeticError, match="input broke"):
        Parallel()(calls())


def test_an_argument_that_cannot_be_pickled_is_an_error_and_no_hang():
    locks = [1] * 20 + [threading.Lock()]

    with pytest.raises(Exception, match="pickle"):
        Parallel()(delayed(id)(lock) for lock in locks)


def test_a_call_over_its_time_ends_the_others_too(tmp_path, executor):
    with pytest.raises((TimeoutError, multiprocessing.TimeoutError)):
        Parallel(timeout=0.1)(delayed(spin_until)(str(tmp_path / "never")) for _ in range(4))

    assert executor.submit(square, 3).result(60) == 9


def test_calls_may_call_joblib_again():
    def outer(x):
        return sum(Parallel(n_jobs=2)(delayed(square)(y) for y in range(x)))

    assert Parallel()(delayed(outer)(x) for x in range(6)) == [sum(y * y for y in range(x)) for x in range(6)]


def test_the_callers_generator_may_use_the_same_executor(executor):
    calls = (delayed(square)(executor.submit(square, x).result(60)) for x in range(20))

    assert Parallel()(calls) == [x**4 for x in range(20)]


def test_a_worker_that_dies_does_not_end_the_call(tmp_path):
    def die_once(x, path):
        if x == 5 and not os.path.exists(path):
            open(path, "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    results = Parallel()(delayed(die_once)(x, str(tmp_path / "died")) for x in range(20))

    assert results == list(range(20))


def test_large_arrays_are_mapped_and_not_written_to(large):
    assert large.nbytes >= LARGE
    seen = Parallel()(delayed(where_it_lies)(large) for _ in range(20))

    assert {flags for _, *flags in map(tuple, seen) for flags in [tuple(flags)]} == {(False, True, False)}
    with pytest.raises(ValueError, match="read-only"):
        Parallel()(delayed(write)(large, 1) for _ in range(4))


def test_a_large_array_is_copied_once_a_call(large, monkeypatch):
    made = []
    copy = shared_arrays._Copy
    monkeypatch.setattr(shared_arrays, "_Copy", lambda array: made.append(1) or copy(array))

    Parallel(batch_size=1)(delayed(row_sum)(large, row) for row in range(100))

    assert len(made) == 1


@pytest.mark.parametrize("mode", ["c", None])
def test_tasks_may_write_to_their_own_copy_if_asked(large, mode):
    before = large.copy()

    def write_and_sum(array, row):
        array[row] = 1.0
        return float(array[row].sum())

    results = Parallel(mmap_mode=mode, batch_size=1)(delayed(write_and_sum)(large, row) for row in range(30))

    assert results == [400.0] * 30
    assert np.array_equal(large, before)
    untouched = Parallel(mmap_mode=mode, batch_size=1)(delayed(row_sum)(large, row) for row in range(30))
    assert untouched == [row_sum(large, row) for row in range(30)]


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[:, ::-1],
        lambda a: a[::2, 1:],
        lambda a: a.reshape(40, 40, 400)[..., ::2],
        lambda a: a.view("c16"),
        lambda a: a.astype(">f4").repeat(2, 0),
    ],
)
def test_views_of_any_layout_arrive_as_they_are(large, view):
    array = view(np.tile(large, (2, 2)))

    for back in Parallel(batch_size=1)(delayed(np.array)(array) for _ in range(6)):
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)


def test_an_array_that_changed_between_two_calls_is_seen_as_it_is(large):
    with Parallel() as parallel:
        for _ in range(3):
            large += 1.0
            assert parallel(delayed(row_sum)(large, row) for row in range(40)) == [row_sum(large, r) for r in range(40)]


def test_arrays_that_live_for_one_call_are_not_taken_for_one_another():
    results = Parallel(batch_size=1)(delayed(row_sum)(np.full((2, 100_000), x), 0) for x in range(60))

    assert results == [x * 100_000.0 for x in range(60)]


def test_nothing_is_left_of_shared_arrays(large):
    def shared():
        return sum("fanfold-array" in os.readlink(f"/proc/self/fd/{name}") for name in open_files())

    def open_files():
        return [name for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}")]

    Parallel()(delayed(row_sum)(large, row) for row in range(40))

    assert shared() == 0


def test_what_tasks_write_to_a_mapped_file_is_there(tmp_path):
    output = np.memmap(tmp_path / "out", np.int64, "w+", shape=(8, 3))

    Parallel()(delayed(write)(output, row) for row in range(8))

    assert output.tolist() == [[row] * 3 for row in range(8)]


def test_a_transposed_mapping_is_written_where_it_should_be(tmp_path):
    output = np.memmap(tmp_path / "out", np.int64, "w+", shape=(2, 5)).T

    Parallel()(delayed(write)(output, row) for row in range(5))

    assert output.tolist() == [[row] * 2 for row in range(5)]


@pytest.mark.parametrize("cut", [np.s_[:, 1], np.s_[..., 2], np.s_[::-1], np.s_[3:, ::2, ::-1]])
def test_cuts_of_a_mapped_file_are_read_as_they_are(tmp_path, cut):
    stored = np.arange(6 * 5 * 4.0).reshape(6, 5, 4)
    stored.tofile(tmp_path / "in")
    mapped = np.memmap(tmp_path / "in", np.float64, "r", offset=8 * 20, shape=(5, 5, 4))

    for back in Parallel()(delayed(np.array)(mapped[cut]) for _ in range(4)):
        assert back.tolist() == stored[1:][cut].tolist()


def test_a_reshaped_mapping_keeps_its_order(tmp_path):
    np.arange(15.0).tofile(tmp_path / "in")
    mapped = np.memmap(tmp_path / "in", np.float64, "r").reshape(5, 3)

    seen = Parallel()(delayed(where_it_lies)(mapped) for _ in range(4))

    assert {flags[2:] for flags in seen} == {(True, False)}


def test_a_private_copy_of_a_mapped_file_is_sent_as_it_is_here(tmp_path):
    np.zeros(10).tofile(tmp_path / "in")
    mapped = np.memmap(tmp_path / "in", np.float64, "c")
    mapped[:] = 5.0

    assert Parallel()(delayed(np.sum)(mapped) for _ in range(4)) == [50.0] * 4


def test_lists_of_large_arrays_and_objects_that_hold_them_are_shared_too(large):
    held = {"parts": [large, large * 2], "label": "x"}

    def total(holder, key):
        return float(sum(part.sum() for part in holder[key]))

    results = Parallel()(delayed(total)(held, "parts") for _ in range(10))

    assert results == [total(held, "parts")] * 10


def test_a_backend_is_made_of_an_address_or_an_executor(executor):
    with joblib.parallel_config("fanfold", compute="serial"):
        assert Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(3)) == [os.getpid()] * 3
    with joblib.parallel_config(FanfoldBackend(executor)):
        assert os.getpid() not in Parallel()(delayed(os.getpid)() for _ in range(3))
    with pytest.raises(ConfigError, match="memory"):
        FanfoldBackend(executor, memory="1GB")
    with pytest.raises(ConfigError, match="nowhere"), joblib.parallel_config("fanfold", compute="nowhere://x"):
        Parallel(n_jobs=2)(delayed(square)(x) for x in range(3))


def test_workers_stay_warm_from_one_call_to_the_next():
    first = set(Parallel(2, backend="fanfold")(delayed(os.getpid)() for _ in range(50)))
    second = set(Parallel(2, backend="fanfold")(delayed(os.getpid)() for _ in range(50)))

    assert first & second


SCRIPT = """
import joblib
from joblib import Parallel, delayed
import core.joblib

class Sample:
    scale = 0

    def __init__(self, x):
        self.x = x

    def scaled(self):
        return Sample(self.x * self.scale)

def process(i):
    return f"{chunk} - {i}"

if __name__ == "__main__":
    samples = [Sample(x) for x in range(3)]
    with joblib.parallel_config("fanfold", n_jobs=2):
        for chunk in ["a", "b", "c"]:
            print(Parallel()(delayed(process)(i) for i in range(3)))
        for Sample.scale in (1, 10):
            scaled = Parallel()(delayed(Sample.scaled)(sample) for sample in samples)
            print([s.x for s in scaled], {type(s) is Sample for s in scaled}, Sample.scale)
"""

INTERRUPTED = """
import os, signal, sys, threading
import joblib
from joblib import Parallel, delayed
import core.joblib

def wait(path):
    open(os.path.join(path, str(os.getpid())), "x").close()
    while True:
        pass

if __name__ == "__main__":
    def interrupt():
        while not os.listdir(sys.argv[1]):
            pass
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with joblib.parallel_config("fanfold", n_jobs=2):
            Parallel()(delayed(wait)(sys.argv[1]) for _ in range(4))
    except KeyboardInterrupt:
        with joblib.parallel_config("fanfold", n_jobs=2):
            print("interrupted", Parallel()(delayed(abs)(i) for i in range(3)))
"""


@pytest.fixture(scope="module", autouse=True)
def _no_executor_is_kept():
    yield
    core.joblib._kept.clear()


def run_script(folder, text, *arguments):
    (folder / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "script.py", *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_a_script_that_changes_its_globals_and_classes_sees_the_new_ones(tmp_path):
    done = run_script(tmp_path, SCRIPT)

    of_functions = [str([f"{chunk} - {i}" for i in range(3)]) for chunk in "abc"]
    of_classes = ["[0, 1, 2] {True} 1", "[0, 10, 20] {True} 10"]
    assert done.stdout.splitlines() == of_functions + of_classes, done.stderr


def test_ctrl_c_ends_the_calls_and_leaves_the_workers_usable(tmp_path):
    (tmp_path / "begun").mkdir()

    done = run_script(tmp_path, INTERRUPTED, str(tmp_path / "begun"))

    assert done.stdout == "interrupted [0, 1, 2]\n", done.stderr
