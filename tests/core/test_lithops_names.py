"""What users of PyWren and Lithops reach for, under the names they know."""

import logging
import os
import pickle
import re
import threading
import types
from pathlib import Path

import pytest

from core import ConfigError, FunctionExecutor, InputError, RetryPolicy
from core.data.objects import open_handle
from core.futures import Future, FutureList
from core.types import Partition

PAGE = (Path(__file__).parents[2] / "docs" / "from-lithops.md").read_text()
LITHOPS = """
FunctionExecutor LocalhostExecutor ServerlessExecutor StandaloneExecutor RetryingFunctionExecutor Storage lithops.wait
lithops.get_result mode config config_file backend storage monitoring log_level runtime runtime_memory workers
call_async map map_reduce wait get_result plot clean job_summary func data extra_env timeout include_modules
exclude_modules iterdata chunksize extra_args obj_chunk_size obj_chunk_number obj_newline extra_args_reduce
map_runtime_memory reduce_runtime_memory obj_reduce_by_key spawn_reducer fs throw_except return_when download_results
threadpool_size wait_dur_sec show_progressbar clean_jobs dst figsize cs clean_cloudobjects clean_fn force
cloud_objects_n retries ResponseFuture RetryingFuture cancel new invoked running ready error success done futures status
result stats logs executor_id job_id call_id activation_id FuturesList sync get_client get_storage_config create_bucket
put_object get_object stream extra_get_args upload_file download_file head_object delete_object delete_objects
head_bucket list_objects match_pattern list_keys put_cloudobject get_cloudobject delete_cloudobject delete_cloudobjects
CloudObject StorageNoSuchKeyError obj id rabbitmq ibm_cos bucket key part total_parts chunk_size data_byte_range
data_stream url Pool Process Manager Queue Lock Value Array register_lithops
""".split()
"""Names of the public API of Lithops 3.8: of its modules' ``__all__``, its documentation and its examples."""


def rows():
    """Return (Lithops, here) of every row of the page's tables."""
    return [line.split(" | ", 1) for line in PAGE.splitlines() if line.startswith("| ")]


def test_the_page_for_users_of_lithops_names_all_that_they_have():
    named = set(re.findall(r"[\w.]+", " ".join(there for there, _ in rows())))
    named |= {name.strip(".") for name in named} | {name.rpartition(".")[2] for name in named}

    assert [name for name in LITHOPS if name not in named] == []


def test_what_the_page_for_users_of_lithops_offers_them_is_there(tmp_path):
    here = FunctionExecutor("serial", f"file://{tmp_path}")
    kinds = {
        "executor": here,
        "storage": here.storage,
        "obj": open_handle(Partition("memory://a", "k", 0, 0, 0, "")),
        "future": Future(),
        "futures": FutureList(),
    }

    offered = re.findall(rf"`({'|'.join(kinds)})\.(\w+)", " ".join(here for _, here in rows()))

    assert len(offered) > 20
    assert [f"{kind}.{name}" for kind, name in offered if not hasattr(kinds[kind], name)] == []


@pytest.fixture(scope="module", params=["process", "serial"])
def executor(request):
    with FunctionExecutor(request.param, workers=2 if request.param == "process" else None) as started:
        yield started


@pytest.fixture(scope="module")
def processes():
    with FunctionExecutor("process", workers=2) as started:
        yield started


def square(x):
    return x * x


def fail_at_three(x):
    if x == 3:
        raise LookupError("three")
    return x


def spin_until(path):
    while not os.path.exists(path):
        pass
    return os.path.basename(path)


def test_partial_results_have_none_for_what_failed_and_say_so_in_the_log(executor, caplog):
    futures = executor.map(fail_at_three, range(5))

    with caplog.at_level(logging.WARNING, "fanfold"):
        assert executor.get_result(throw_except=False) == [0, 1, 2, None, 4]
        assert futures.get_result(throw_except=False) == futures.results(throw_except=False) == [0, 1, 2, None, 4]
        assert executor.get_result(futures[3], throw_except=False) is None
    assert "task 3" in caplog.text
    assert "LookupError: three" in caplog.text
    with pytest.raises(LookupError):
        executor.get_result(futures)


def test_partial_results_of_cancelled_tasks_are_none_and_a_timeout_is_still_raised(processes, tmp_path):
    futures = processes.map(spin_until, [str(tmp_path), str(tmp_path / "never")], batch_size=1)

    with pytest.raises(TimeoutError):
        futures.get_result(timeout=0.05, throw_except=False)
    processes.cancel(futures[1])

    assert futures.get_result(60, throw_except=False) == [tmp_path.name, None]


def test_lists_of_futures_add_up(executor):
    some, more = executor.map(square, range(3)), executor.map(square, (x for x in [7]))

    both = some + more

    assert both.get_result() == [0, 1, 4, 49]
    assert sum([some, more]).results() == [0, 1, 4, 49]
    assert (some + [executor.submit(square, 5)]).results() == [0, 1, 4, 25]
    assert ([*more] + some).results() == [49, 0, 1, 4]
    assert executor.get_result(both) == [0, 1, 4, 49]
    assert both.map(square).results() == [0, 1, 16, 49**2]
    for wrong in (3, "futures", None):
        with pytest.raises(TypeError):
            some + wrong


def test_a_list_of_futures_maps_and_reduces(executor):
    assert executor.map(square, range(4)).map_reduce(square, sum).result(60) == 0 + 1 + 16 + 81
    with pytest.raises(TypeError, match="no executor"):
        FutureList().map_reduce(square, sum)


@pytest.mark.parametrize(
    ("name", "share"), [("ALL_COMPLETED", 100), ("ANY_COMPLETED", -1), ("ALWAYS", 0), ("ALL", 100), ("ANY", -1)]
)
def test_names_and_numbers_of_waiting_mean_the_same(executor, name, share):
    executor.get_result()
    futures = executor.map(square, range(10))
    futures.wait()

    for when in (name, share):
        assert executor.wait(futures, return_when=when) == (futures[:], [])
        assert executor.wait(return_when=when) == (futures[:], [])


def test_a_number_is_the_percentage_that_has_to_be_done(processes, tmp_path):
    go = tmp_path / "go"
    futures = processes.map(spin_until, [str(tmp_path)] * 3 + [str(go)], batch_size=1)

    done, rest = processes.wait(futures, return_when=75)
    assert (len(done), len(rest)) == (3, 1)
    done, rest = processes.wait(futures, return_when=76, timeout=0.05)
    assert (len(done), len(rest)) == (3, 1)
    go.touch()
    assert processes.wait(futures, return_when=76) == (futures[:], [])


@pytest.mark.parametrize("wrong", [101, -2, "SOME", None, True, 50.0])
def test_waiting_for_what_cannot_be_is_refused(executor, wrong):
    with pytest.raises(ValueError, match="return_when"):
        executor.wait(executor.map(square, [1]), return_when=wrong)


def test_a_call_waits_for_futures_among_its_arguments(executor):
    one, several = executor.call_async(square, 3), executor.map(square, range(4))

    def show(*args, **kwargs):
        return args, kwargs

    assert executor.call_async(show, one, 5, key=one).result(60) == ((9, 5), {"key": 9})
    assert executor.submit(show, several, [one, one], (one, 2)).result(60) == (([0, 1, 4, 9], [9, 9], (9, 2)), {})
    assert executor.get_result(executor.call_async(sum, several)) == 14


def test_a_call_does_not_wait_here_for_its_arguments(processes, tmp_path):
    waiting = processes.call_async(spin_until, str(tmp_path / "go"))

    chained = processes.call_async(str.upper, waiting)
    further = processes.call_async(len, chained)

    assert not further.done()
    (tmp_path / "go").touch()
    assert (chained.result(60), further.result(60)) == ("GO", 2)


def test_a_call_fails_as_its_arguments_fail(executor, tmp_path):
    failed = executor.call_async(fail_at_three, 3)

    with pytest.raises(LookupError, match="three"):
        executor.call_async(square, failed).result(60)


def test_a_call_whose_argument_is_cancelled_says_so(processes, tmp_path):
    waiting = processes.call_async(spin_until, str(tmp_path / "never"))
    chained = processes.call_async(square, waiting)

    processes.cancel(waiting)

    with pytest.raises(InputError, match="cancelled"):
        chained.result(60)


def test_an_executor_that_closes_runs_calls_that_still_wait(tmp_path):
    with FunctionExecutor(workers=2) as executor:
        chained = executor.call_async(str.upper, executor.call_async(spin_until, str(tmp_path / "go")))
        threading.Timer(0.05, (tmp_path / "go").touch).start()

    assert chained.result(0) == "GO"


def test_options_hold_for_what_is_called_through_them(processes, tmp_path):
    patient, hasty = processes.options(timeout=60), processes.options(timeout=0.1, retries=0)

    with pytest.raises(TimeoutError, match="timeout"):
        hasty.call_async(spin_until, str(tmp_path / "never")).result(60)
    with pytest.raises(TimeoutError, match="timeout"):
        hasty.submit(spin_until, str(tmp_path / "never")).result(60)
    with pytest.raises(TimeoutError, match="timeout"):
        hasty.map(spin_until, [str(tmp_path / "never")]).results(60)
    assert patient.call_async(square, 3).result(60) == 9
    assert processes.options(extra_env={"COLOUR": "red"}).call_async(os.getenv, "COLOUR").result(60) == "red"


def test_options_add_up_and_the_nearest_wins(executor, tmp_path):
    def flaky(path):
        if not os.path.exists(path):
            open(path, "x").close()
            raise OSError("first")
        return os.environ["COLOUR"]

    view = executor.options(extra_env={"COLOUR": "red"}).options(retries=RetryPolicy(1, retry_on=(OSError,)))

    assert view.call_async(flaky, str(tmp_path / "tried")).result(60) == "red"
    assert view.map(os.getenv, ["COLOUR"], extra_env={"COLOUR": "blue"}).results(60) == ["blue"]


def test_an_executor_with_options_is_the_same_executor(executor):
    view = executor.options(retries=1)
    executor.wait()
    executor.get_result(throw_except=False)

    mine = view.map(square, range(3))

    assert view.get_result() == executor.get_result(mine) == [0, 1, 4]
    assert view.workers == executor.workers == view._max_workers
    assert view.map_reduce(square, range(3), sum).result(60) == 5
    assert list(view.pool().map(square, range(3))) == [0, 1, 4]
    with pytest.raises(AttributeError):
        view.colour  # noqa: B018


def test_options_that_cannot_be_are_refused_at_once(executor):
    with pytest.raises(ConfigError, match="colour.*known: timeout"):
        executor.options(colour="red")
    with pytest.raises(ConfigError, match="timeout"):
        executor.options(timeout=-1)


def test_the_reducer_takes_further_arguments(executor):
    def scaled(results, factor, offset=0):
        return factor * sum(results) + offset

    assert executor.map_reduce(square, range(4), scaled, extra_args_reduce=(10,)).result(60) == 140
    by_name = {"factor": 10, "offset": 1}
    assert executor.map_reduce(square, range(4), scaled, extra_args_reduce=by_name).result(60) == 141


def test_a_module_that_is_excluded_does_not_travel(tmp_path, monkeypatch):
    from core.task.call import dump_call, load_call, make_call

    (tmp_path / "excluded_module.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("excluded_module")
    assert isinstance(module, types.ModuleType)
    call = make_call(module.double, kind="item")

    with_it = dump_call(call, (), False).data
    without = dump_call(call, (), False, exclude=["excluded_module"]).data

    assert len(without) < len(with_it)
    assert load_call(without).function(4) == 8


def test_an_object_tells_its_url_and_its_range():
    whole = Partition("s3://bucket?endpoint=http://host:1", "a/b.csv", 0, 100, 100, "tag")
    second = Partition("file:///data", "b.csv", 50, 100, 100, "tag", part=1, parts=2)

    assert open_handle(whole).url == "s3://bucket/a/b.csv?endpoint=http://host:1"
    assert open_handle(whole).data_byte_range is None
    assert open_handle(second).url == "file:///data/b.csv"
    assert open_handle(second).data_byte_range == (50, 100)


def test_functions_reach_any_bucket_by_name(tmp_path):
    def work(name, storage):
        storage.put_object("made", f"{name}.txt", name)
        storage.put_object("made", f"{name}.bin", b"\x00\xff")
        storage.put("own.txt", b"own")
        found = storage.list_keys("made", f"{name}.")
        head = storage.head_object("made", f"{name}.txt")
        with storage.get_object("made", f"{name}.bin", stream=True) as stream:
            read = stream.read()
        storage.delete_object("made", f"{name}.bin")
        return found, head["content-length"], read, storage.get_object("made", f"{name}.txt")

    with FunctionExecutor(workers=1, storage=f"file://{tmp_path}") as executor:
        expected = (["first.bin", "first.txt"], "5", b"\x00\xff", b"first")
        assert executor.map(work, ["first"]).results(60) == [expected]
        assert executor.storage.list_keys("made") == ["first.txt"]
        assert executor.storage.get("own.txt") == b"own"
        again = pickle.loads(pickle.dumps(executor.storage))
        assert again.get_object("made", "first.txt") == b"first"


def test_an_object_is_found_again_by_its_bucket_and_key(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.txt").write_text("x")

    def read(obj, storage):
        return storage.get_object(obj.bucket, obj.key)

    with FunctionExecutor(workers=1, storage=f"file://{tmp_path}") as executor:
        assert executor.map(read, str(tmp_path / "in")).results(60) == [b"x"]


def test_buckets_of_one_service_keep_its_options():
    from core.storage.address import beside

    assert beside("s3://a/prefix?endpoint=http://h:1&region=x", "b") == "s3://b?endpoint=http://h:1&region=x"
    assert beside("memory://a", "b") == "memory://b"
    assert beside("file:///data", "b") == "file:///data/b"
    assert beside("file:///data", "/other") == "file:///other"


def test_the_number_of_workers_is_where_other_software_looks(processes):
    assert processes._max_workers == 2


def test_a_future_of_nobody_adds_nothing(executor):
    assert isinstance(executor.submit(square, 1), Future)
