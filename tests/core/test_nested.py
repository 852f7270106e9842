import pytest

from core import FunctionExecutor, open_storage
from core.errors import SerializationError
from core.task.leases import list_jobs


@pytest.fixture
def store(tmp_path):
    return f"file://{tmp_path}"


def test_a_task_may_have_worker_processes_of_its_own():
    def outer(x):
        with FunctionExecutor("process", workers=1) as nested:
            return sum(nested.map(lambda y: x * y, range(5)).results())

    with FunctionExecutor("process", workers=2) as executor:
        assert executor.map(outer, [1, 2, 3]).results(60) == [10, 20, 30]


def returns(shape, store, compute="process"):
    def outer(x):
        with FunctionExecutor(compute, store, durable=True) as nested:
            futures = nested.map(lambda y: [x, y], range(3))
            return {"list": futures, "one": futures[1], "plain": list(futures)}[shape]

    return outer


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("list", [[5, 0], [5, 1], [5, 2]]), ("one", [5, 1]), ("plain", [[5, 0], [5, 1], [5, 2]])],
)
@pytest.mark.parametrize("durable", [False, True], ids=["direct", "durable"])
def test_futures_of_a_durable_job_that_a_task_returns_are_followed_and_the_job_is_removed(
    shape, expected, durable, store
):
    with FunctionExecutor("process", store, workers=1, durable=durable) as executor:
        assert executor.map(returns(shape, store), [5]).results(60) == [expected]

    assert list(list_jobs(open_storage(store))) == []


@pytest.mark.parametrize("durable", [False, True], ids=["direct", "durable"])
def test_they_are_where_everything_runs_in_one_process_too(durable, store):
    with FunctionExecutor("serial", store, durable=durable) as executor:
        assert executor.map(returns("one", store, "serial"), [5, 6]).results(60) == [[5, 1], [6, 1]]

    assert list(list_jobs(open_storage(store))) == []


def test_get_result_follows_futures_too(store):
    with FunctionExecutor("process", store, workers=1) as executor:
        executor.call_async(returns("list", store), 5)

        assert executor.get_result(timeout=60) == [[5, 0], [5, 1], [5, 2]]


def test_a_job_whose_results_the_task_has_had_itself_leaves_nothing(store):
    def outer(x):
        with FunctionExecutor("process", store, workers=1, durable=True) as nested:
            return nested.map(lambda y: y, range(x)).results()

    with FunctionExecutor("process", store, workers=1) as executor:
        assert executor.map(outer, [3]).results(60) == [[0, 1, 2]]

    assert list(open_storage(store).list("")) == []


def test_a_failure_in_a_followed_job_is_raised_as_its_own_type(store):
    def outer(x):
        with FunctionExecutor("process", store, workers=1, durable=True) as nested:
            return nested.map(lambda y: 1 / y, [1, 0])

    with FunctionExecutor("process", store, workers=1) as executor, pytest.raises(ZeroDivisionError):
        executor.map(outer, [1]).results(60)


def test_a_followed_result_that_cannot_be_read_is_an_error(store):
    class Broken:
        def __reduce__(self):
            return int, ("no number",)

    def outer(x):
        with FunctionExecutor("process", store, workers=1, durable=True) as nested:
            return nested.map(lambda y: Broken(), [1])

    with (
        FunctionExecutor("process", store, workers=1) as executor,
        pytest.raises(SerializationError, match="no number"),
    ):
        executor.map(outer, [1]).results(60)


def test_futures_of_a_job_that_is_not_durable_cannot_be_returned():
    def outer(x):
        with FunctionExecutor("process", workers=1) as nested:
            return nested.map(lambda y: y, [1])

    with FunctionExecutor("process", workers=1) as executor, pytest.raises(SerializationError, match="durable"):
        executor.map(outer, [1]).results(60)
