import gc
import operator
import pickle
import weakref

import pytest

from core import ConfigError, FunctionExecutor, InputError


@pytest.fixture(scope="module", params=["serial", "process"])
def executor(request):
    with FunctionExecutor(request.param, workers=1 if request.param == "serial" else 2) as started:
        yield started


@pytest.fixture
def folder(tmp_path):
    for name, content in {"a.txt": b"1\n2\n3", "b.txt": b"10\r\n20\r\n", "empty.txt": b"", "z.txt": b"x"}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_reducer_gets_all_results_in_input_order(executor):
    assert executor.map_reduce(lambda x: str(x), range(12), list).result(60) == [str(x) for x in range(12)]


def test_the_reducer_runs_once_even_when_there_is_nothing_to_reduce(executor):
    assert executor.map_reduce(lambda x: x, [], len).result(60) == 0


def test_results_are_merged_in_input_order_and_the_reducer_gets_the_one_merged_value(executor):
    joined = executor.map_reduce(lambda x: str(x), range(12), list, combine=operator.add).result(60)

    assert joined == ["01234567891011"]


def test_merging_as_results_arrive_never_holds_them_all():
    living = weakref.WeakSet()
    most = 0

    class Result(frozenset):
        pass

    def merge(a, b):
        nonlocal most
        living.update((a, b))
        gc.collect(0)
        most = max(most, len(living))
        return Result({sum(a) + sum(b)})

    with FunctionExecutor("process", workers=2) as executor:
        futures = executor.map_reduce(
            lambda x: Result({x}), range(300), lambda x: sum(x[0]), combine=merge, batch_size=5
        )

        assert futures.result(60) == sum(range(300))

    assert most < 20


def test_objects_are_reduced_by_themselves(executor, folder):
    def first_byte_sum(results):
        return [bytes(part) for part in results]

    reduced = executor.map_reduce(
        lambda obj: obj.read(), str(folder), first_byte_sum, reduce_by="object", chunk_bytes=2
    ).result(60)

    assert [key.rpartition("/")[2] for key in reduced] == ["a.txt", "b.txt", "empty.txt", "z.txt"]
    assert [b"".join(parts) for parts in reduced.values()] == [b"1\n2\n3", b"10\r\n20\r\n", b"", b"x"]


def test_objects_are_merged_by_themselves(executor, folder):
    reduced = executor.map_reduce(
        lambda obj: obj.read(), str(folder), list, reduce_by="object", chunk_bytes=2, combine=operator.add
    ).result(60)

    assert list(reduced.values()) == [[b"1\n2\n3"], [b"10\r\n20\r\n"], [b""], [b"x"]]


def test_an_object_that_comes_again_after_others_is_refused_and_not_lost(executor, folder):
    first, second, *_ = sorted(map(str, folder.iterdir()))

    with pytest.raises(InputError, match="again after other objects"):
        executor.map_reduce(lambda obj: obj.size, [first, second, first], sum, reduce_by="object").result(60)


def test_reducing_by_object_what_is_no_object_is_refused(executor):
    with pytest.raises(InputError, match="objects"):
        executor.map_reduce(lambda x: x, [1, 2], sum, reduce_by="object").result(60)


@pytest.mark.parametrize("options", [{"reduce_by": "colour"}, {"combine": 3}])
def test_mistakes_are_refused_before_anything_runs(executor, options):
    with pytest.raises(ConfigError):
        executor.map_reduce(lambda x: x, [1], sum, **options)


@pytest.mark.parametrize("reduce_by", [None, "object"])
def test_cancelling_the_future_of_a_reduction_cancels_the_map(reduce_by, folder):
    def stuck(obj):
        while True:
            pass

    with FunctionExecutor("process", workers=2) as executor:
        final = executor.map_reduce(stuck, str(folder), sum, reduce_by=reduce_by, batch_size=1)
        other = executor.submit(abs, -3)
        executor.cancel(final)

        assert final.cancelled()
        assert other.result(60) == 3
        assert executor.submit(abs, -4).result(60) == 4  # by then the loop has seen to what was cancelled
        assert {job.name for job in executor._history.running.values()} <= {"abs"}


def test_cancelling_the_future_of_a_reduction_ends_the_reduction_that_runs(tmp_path):
    def stuck(results):
        (tmp_path / "reduces").touch()
        while True:
            pass

    with FunctionExecutor("process", workers=1) as executor:
        final = executor.map_reduce(lambda x: x, range(3), stuck)
        while not (tmp_path / "reduces").exists():
            pass
        executor.cancel([final])

        assert final.cancelled()
        assert executor.submit(abs, -3).result(60) == 3


def test_cancelling_everything_ends_reductions_too():
    def stuck(x):
        while True:
            pass

    with FunctionExecutor("process", workers=1) as executor:
        final = executor.map_reduce(stuck, [1], sum)
        executor.cancel()

        assert final.exception(60) is not None if not final.cancelled() else True
        assert executor.submit(abs, -3).result(60) == 3


def test_a_reduction_that_has_ended_lets_go_of_results():
    class Result(frozenset):
        pass

    with FunctionExecutor("process", workers=1) as executor:
        final = executor.map_reduce(lambda x: Result({x}), range(20), lambda results: len(results))
        assert final.result(60) == 20

        gc.collect()
        assert not [thing for thing in gc.get_objects() if type(thing) is Result]


def test_the_future_of_a_reduction_cannot_be_sent(executor):
    final = executor.map_reduce(lambda x: x, [1], sum)

    with pytest.raises(TypeError, match="return its result"):
        pickle.dumps(final)
    assert final.result(60) == 1


def test_a_failure_of_the_map_reaches_the_future_and_ends_the_rest():
    def fail(x):
        if x == 0:
            raise KeyError("from map")
        while True:
            pass

    with FunctionExecutor("process", workers=2) as executor:
        future = executor.map_reduce(fail, range(4), sum, batch_size=1)

        with pytest.raises(KeyError, match="from map"):
            future.result(60)


def test_a_failure_of_the_reducer_reaches_the_future(executor):
    def fail(results):
        raise KeyError("from reduce")

    with pytest.raises(KeyError, match="from reduce"):
        executor.map_reduce(lambda x: x, range(4), fail).result(60)


def test_a_failure_of_combine_reaches_the_future(executor):
    with pytest.raises(TypeError):
        executor.map_reduce(lambda x: x, [1, "a"], sum, combine=operator.add).result(60)


def test_a_future_that_stands_for_no_task_is_not_among_the_latest(executor):
    executor.map_reduce(lambda x: x, range(5), sum).result(60)

    assert executor.get_result() == 10


def test_closing_an_executor_waits_for_the_reduction_too():
    with FunctionExecutor("process", workers=2) as executor:
        future = executor.map_reduce(lambda x: x, range(40), sum)

    assert future.result(0) == sum(range(40))


def test_closing_by_force_ends_the_reduction_with_the_map():
    def stuck(x):
        while True:
            pass

    executor = FunctionExecutor("process", workers=1)
    future = executor.map_reduce(stuck, [1], sum)
    executor.shutdown(cancel_futures=True)

    assert future.exception(60) is not None
