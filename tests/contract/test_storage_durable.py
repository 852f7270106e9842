"""What durable jobs need of every storage."""

from concurrent.futures import ThreadPoolExecutor

from core import FunctionExecutor, open_storage, serialization
from core.task.commit import commit, read_commit, split
from core.task.protocol import BatchResult, DurableRef

BIG = 300 << 10
"""Bytes of a result that does not fit into a commit."""


def fill(number):
    return bytes([number]) * BIG if number % 10 == 0 else number


def test_sixteen_racing_commits_have_one_winner(address):
    storage = open_storage(address)
    for batch in range(5):
        ref = DurableRef(storage.address, "race", b"k" * 32, batch)

        def attempt(number, ref=ref):
            values = [number, bytes([number]) * BIG]
            return commit(storage, ref, BatchResult(serialization.pack(values), [0.0] * 2), number, f"worker-{number}")

        with ThreadPoolExecutor(16) as threads:
            won = list(threads.map(attempt, range(16)))

        assert sum(won) == 1
        winner = won.index(True)
        kept = read_commit(storage, ref)
        assert kept.attempt == winner
        assert list(serialization.unpack(kept.fetched)) == [winner, bytes([winner]) * BIG]
        assert not split(storage, ref)
    assert sum("/o/" in info.key for info in storage.list()) == 5


def test_a_durable_map_gives_every_result_and_leaves_nothing(address):
    compute = "process" if open_storage(address).shared else "serial"
    with FunctionExecutor(compute, storage=address, durable=True) as executor:
        results = executor.map(fill, range(60), batch_size=4).results(120)

    assert results == [fill(number) for number in range(60)]
    assert list(open_storage(address).list()) == []
