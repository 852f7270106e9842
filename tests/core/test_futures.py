import asyncio
import concurrent.futures
import threading
from concurrent.futures import CancelledError

import pytest

from core import Future, FutureList
from core.futures import wait


def finished(*values):
    futures = FutureList("job")
    futures.extend([Future(index=i) for i in range(len(values))])
    for future, value in zip(futures.made, values, strict=True):
        future.settle(value)
    futures.finish()
    return futures


def test_a_future_is_a_concurrent_future_and_takes_a_result_once():
    future = Future()

    assert isinstance(future, concurrent.futures.Future)
    future.set_result(1)
    future.set_result(2)

    assert future.result() == 1
    assert future.done()
    assert not future.cancel()


def test_a_result_of_none_is_a_result():
    future = Future()
    future.settle(None)

    assert future.done()
    assert future.result(timeout=0) is None
    assert future.exception(timeout=0) is None


def test_an_exception_is_raised_and_returned():
    future = Future()
    future.set_exception(KeyError("k"))

    assert isinstance(future.exception(), KeyError)
    with pytest.raises(KeyError):
        future.result()


def test_waiting_too_long_leaves_the_future_as_it_was():
    future = Future()

    with pytest.raises(TimeoutError, match="goes on"):
        future.result(timeout=0.001)
    future.settle("late")

    assert future.result() == "late"


def test_callbacks_run_once_whether_added_before_or_after_the_end():
    future, heard = Future(), []

    future.add_done_callback(lambda f: heard.append(("before", f.result())))
    future.settle(3)
    future.add_done_callback(lambda f: heard.append(("after", f.result())))

    assert heard == [("before", 3), ("after", 3)]


def test_a_cancelled_future_says_so_to_everyone():
    future, heard = Future(), []
    future.add_done_callback(lambda f: heard.append(f.cancelled()))

    assert future.cancel()
    assert future.cancel()

    assert heard == [True]
    assert future.cancelled()
    assert not future.settle(1)
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception()


def test_a_started_future_refuses_to_be_cancelled_but_can_be_dropped():
    future = Future()
    assert future.set_running_or_notify_cancel()

    assert not future.cancel()
    assert future.drop()
    assert future.cancelled()


def test_threads_that_wait_are_released():
    future, seen = Future(), []
    threads = [threading.Thread(target=lambda: seen.append(future.result(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    future.settle("x")
    for thread in threads:
        thread.join()

    assert seen == ["x"] * 4


def test_as_completed_and_wait_of_the_standard_library_work():
    futures = [Future(index=i) for i in range(3)]
    futures[1].settle("first")

    stream = concurrent.futures.as_completed(futures)
    assert next(stream) is futures[1]
    futures[2].settle("second")
    assert next(stream) is futures[2]
    futures[0].set_exception(ValueError())
    assert next(stream) is futures[0]
    done, rest = concurrent.futures.wait(futures)

    assert done == set(futures)
    assert rest == set()


def test_the_state_changes_only_under_the_condition_that_waiters_enlist_under():
    """Else a waiter that enlists between the change and the notice hears of one future twice."""
    future, states = Future(), []

    class Witness(threading.Condition):
        def __enter__(self):
            entered = super().__enter__()
            states.append(future._state)
            return entered

    future._condition  # noqa: B018
    future._changed = Witness()
    future.settle(1)

    assert states[0] == "PENDING"


def test_asyncio_can_await_a_future():
    async def main(future):
        wrapped = asyncio.wrap_future(future)
        threading.Thread(target=future.settle, args=(5,)).start()
        return await wrapped

    assert asyncio.run(main(Future())) == 5


def test_wait_returns_at_once_at_the_first_or_at_the_last():
    futures = [Future(index=i) for i in range(2)]

    assert wait(futures, "ALWAYS") == ([], futures)
    futures[1].settle(0)
    assert wait(futures, "ANY") == ([futures[1]], [futures[0]])
    assert wait(futures, "ALL", timeout=0.001) == ([futures[1]], [futures[0]])
    futures[0].cancel()
    assert wait(futures) == (futures, [])
    assert wait(futures[0]) == ([futures[0]], [])


def test_wait_refuses_an_unknown_condition():
    with pytest.raises(ValueError, match="SOME"):
        wait([], "SOME")


def test_a_list_has_length_slices_and_results_in_order():
    futures = finished("a", None, "c")

    assert len(futures) == 3
    assert [f.result() for f in futures[1:]] == [None, "c"]
    assert futures[-1].result() == "c"
    assert futures.results() == ["a", None, "c"]
    assert futures.done()
    assert futures.wait() == (list(futures), [])


def test_a_list_that_grows_is_iterated_as_it_grows_and_has_no_results_in_time():
    futures = FutureList("job")
    futures.extend([Future(index=0)])
    futures.made[0].settle("a")
    stream = iter(futures)

    assert next(stream).result() == "a"
    with pytest.raises(TimeoutError, match="goes on"):
        futures.results(timeout=0.001)
    assert not futures.done()
    futures.finish()

    assert list(stream) == []
    assert futures.results(timeout=0.001) == ["a"]


def growing(*values):
    """Return a list whose first futures are made, and that goes on."""
    futures = FutureList("job")
    futures.extend([Future(index=i) for i in range(len(values))])
    for future, value in zip(futures.made, values, strict=True):
        future.settle(value)
    return futures


def test_an_index_and_a_slice_with_an_end_wait_for_what_they_name_and_no_longer():
    futures = growing("a", "b", "c")

    assert futures[0].result() == "a"
    assert [future.result() for future in futures[:2]] == ["a", "b"]
    assert [future.result() for future in futures[0:3:2]] == ["a", "c"]
    assert futures[0:0] == []


@pytest.mark.parametrize("index", [3, -1, slice(1, None), slice(None), slice(-2, 3), slice(None, -1), slice(2, 0, -1)])
def test_what_only_the_end_of_the_input_tells_is_waited_for(index):
    futures = growing("a", "b", "c")
    found = []
    asker = threading.Thread(target=lambda: found.append(futures[index]))
    asker.start()
    while futures._grown is None:
        pass
    assert not found
    futures.extend([Future(index=3)])
    futures.finish()
    asker.join(60)

    assert found == [futures.made[index]]


def test_an_index_beyond_the_end_is_an_error_which_is_that_of_the_input_if_that_broke():
    whole, broken = growing("a"), growing("a")
    whole.finish()
    broken.finish(ValueError("broken"))

    with pytest.raises(IndexError):
        whole[1]
    with pytest.raises(ValueError, match="broken"):
        broken[1]


def test_a_list_that_nobody_waits_for_has_no_condition():
    futures = growing("a")
    futures.finish()

    assert list(futures) == futures.made
    assert len(futures) == 1
    assert futures._grown is None


def test_looking_at_an_exception_counts_as_having_had_it_and_waiting_does_not():
    failed, good = Future(), Future()
    failed.settle(None, KeyError())
    good.settle(1)
    wait([failed, good])
    assert not failed.fetched
    failed.exception()
    good.exception()

    assert failed.fetched
    assert not good.fetched


def test_waiting_for_any_of_a_list_that_grows_waits_for_its_first():
    futures = FutureList("job")
    first = Future()
    first.settle(1)
    grower = threading.Timer(0.01, futures.extend, ([first],))
    grower.start()

    assert futures.wait("ANY", timeout=30) == ([first], [])
    grower.join()


def test_a_list_whose_input_broke_keeps_its_first_results():
    futures = FutureList("job")
    futures.extend([Future()])
    futures.made[0].settle("kept")
    futures.finish(ValueError("broken"))

    with pytest.raises(ValueError, match="broken"):
        futures.results()
    with pytest.raises(ValueError, match="broken"):
        len(futures)
    assert futures[0].result() == "kept"


def test_results_raise_the_first_failure_in_input_order():
    futures = FutureList("job")
    futures.extend([Future(), Future()])
    futures.made[1].set_exception(KeyError())
    futures.made[0].set_exception(ValueError())
    futures.finish()

    with pytest.raises(ValueError):  # noqa: PT011
        futures.results()


def test_cancelling_a_list_cancels_what_no_worker_has():
    futures = FutureList("job")
    futures.extend([Future(), Future()])
    futures.finish()

    assert futures.cancel()
    assert all(f.cancelled() for f in futures)


def test_a_list_without_an_executor_cannot_map():
    with pytest.raises(TypeError, match="executor"):
        finished(1).map(str)
