import itertools
import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from core import FunctionExecutor, InputError
from core.data.generator import AHEAD_BYTES


def test_a_long_generator_is_never_read_far_ahead_of_the_results():
    pulled, furthest = 0, 0

    def numbers():
        nonlocal pulled, furthest
        for number in range(100_000):
            pulled += 1
            furthest = max(furthest, pulled - len(completed))
            yield number

    completed = []
    with FunctionExecutor("process", workers=2) as executor:
        total = executor.map_reduce(
            lambda x: x, numbers(), sum, combine=lambda a, b: (completed.append(0), a + b)[1], batch_size=100
        ).result(120)

    assert total == sum(range(100_000))
    assert pulled == 100_000
    assert furthest < 20_000


def test_an_endless_generator_gives_results_and_can_be_cancelled():
    with FunctionExecutor("process", workers=2) as executor:
        futures = executor.map(lambda x: x * 2, itertools.count())
        first = [future.result(60) for future in itertools.islice(futures, 20)]
        executor.cancel(futures)

    assert first == list(range(0, 40, 2))
    assert futures.done()
    with pytest.raises(CancelledError):
        futures.results(60)


@pytest.mark.parametrize("compute", ["process", "process?start=fresh"])
def test_a_generator_that_raises_half_way_keeps_the_results_before_it(compute):
    def numbers():
        yield from range(5)
        raise LookupError("no more rows")

    with FunctionExecutor(compute, workers=2) as executor:
        futures = executor.map(lambda x: x + 1, numbers())
        with pytest.raises(InputError, match="LookupError after 5 items: no more rows") as caught:
            futures.results(60)

    assert isinstance(caught.value.__cause__, LookupError)
    assert [future.result(60) for future in futures[:5]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("options", [{"compute": "serial"}, {"durable": True}], ids=["serial", "durable"])
def test_a_generator_that_raises_where_it_is_read_at_once_is_an_input_error_too(options, tmp_path):
    def numbers():
        yield from range(5)
        raise LookupError("no more rows")

    with FunctionExecutor(storage=f"file://{tmp_path}", **options) as executor:
        with pytest.raises(InputError, match="no more rows"):
            executor.map(lambda x: x + 1, numbers()).results(60)


def test_a_generator_that_raises_at_once_fails_the_job_and_spares_the_executor():
    def nothing():
        raise LookupError("not even one")
        yield

    with FunctionExecutor("process", workers=1) as executor:
        with pytest.raises(InputError, match="not even one"):
            executor.map(lambda x: x, nothing()).results(60)
        assert executor.map(lambda x: x, [1]).results(60) == [1]


def test_a_generator_that_waits_for_ever_does_not_keep_an_executor_from_closing():
    never = threading.Event()

    def numbers():
        yield 1
        never.wait()
        yield 2

    with FunctionExecutor("process", workers=1) as executor:
        futures = executor.map(lambda x: x, numbers())
        assert next(iter(futures)).result(60) == 1
        executor.shutdown(cancel_futures=True)
    never.set()

    with pytest.raises(CancelledError):
        futures.results(60)


def test_a_generator_does_not_keep_the_first_workers_from_being_forked():
    """Forking is what makes a cold start quick, and it is safe only before the thread that reads the generator."""
    script = """
from core import FunctionExecutor
with FunctionExecutor("process", workers=1) as executor:
    executor.map(abs, iter([-1])).results(60)
    print(open(f"/proc/{executor._backend._table.forkserver.pid}/cmdline").read())
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert "FunctionExecutor" in shown
    assert "core.compute.local.forkserver" not in shown


def test_the_length_of_a_stream_waits_for_its_end():
    with FunctionExecutor("process", workers=1) as executor:
        futures = executor.map(lambda x: x, iter(range(12)))

        assert len(futures) == 12
        assert futures.results(60) == list(range(12))


def test_items_of_a_generator_that_are_futures_are_waited_for():
    with FunctionExecutor("process", workers=2) as executor:
        first = executor.map(lambda x: x + 1, range(5))

        assert executor.map(lambda x: x * 10, iter(first)).results(60) == [10, 20, 30, 40, 50]


def test_large_items_are_read_ahead_by_bytes_not_by_number():
    class Large:
        def __reduce__(self):
            return bytearray, (bytes(AHEAD_BYTES // 2),)

    def numbers():
        for _ in range(2):
            yield from itertools.repeat(1, 200)  # so quick that many are wanted
        for i in range(12):
            taken.append(i)
            yield Large()

    taken = []
    with FunctionExecutor("process", workers=1) as executor:
        futures = executor.map(len_or_one, numbers())
        ends = iter(futures)
        for _ in range(400):
            assert next(ends).result(60) == 1
        read = [len(taken) for future in ends if future.result(60) == AHEAD_BYTES // 2]

    assert len(read) == 12
    assert max(ahead - done for done, ahead in enumerate(read)) <= 8


def len_or_one(x):
    return x if isinstance(x, int) else len(x)


def test_the_first_future_is_there_when_the_first_item_is(tmp_path):
    gate = tmp_path / "gate"

    def items():
        yield 1
        while not gate.exists():
            pass
        yield 2

    with FunctionExecutor("process", workers=1) as executor:
        futures = executor.map(lambda x: x * 10, items())

        assert futures[0].result(60) == 10
        assert [future.result(60) for future in futures[:1]] == [10]
        gate.touch()
        assert futures[-1].result(60) == 20
