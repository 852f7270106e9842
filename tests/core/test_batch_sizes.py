"""How many tasks travel together: by what they take, and by what it costs to send them."""

from __future__ import annotations

import pytest

from core import serialization
from core.futures import FutureList
from core.job.direct import AMORTISED, TARGET, DirectJob
from core.job.job import Batch
from core.job.options import Options
from core.serialization.definitions import Definitions
from core.task.protocol import BatchResult

WORKERS = 2


def run_of(tasks: int) -> DirectJob:
    return DirectJob("job", "f", Definitions(), range(tasks), Options(), FutureList("job"), False)


def sizes(run: DirectJob, seconds: float, overhead: float) -> list[int]:
    """Run every batch to its end, one after the other; each task takes `seconds`, each batch `overhead` beyond."""
    found = []
    while (batch := next_of(run, len(found))) is not None:
        count = len(batch.task_ids)
        found.append(count)
        run.inflight.clear()
        values = serialization.pack(list(batch.task_ids))
        run.done(batch, "worker", BatchResult(values, [seconds] * count, overhead=overhead))
    return found


def next_of(run: DirectJob, number: int) -> Batch | None:
    return run.next_batch(number, WORKERS)


@pytest.mark.parametrize(("overhead", "least"), [(0.0, TARGET), (0.5, 0.5 * AMORTISED)])
def test_a_batch_grows_until_it_is_long_against_what_sending_costs(overhead: float, least: float) -> None:
    found = sizes(run_of(100_000), 0.001, overhead)

    assert found[0] == 1
    assert max(found) == pytest.approx(least / 0.001, rel=0.01)
    assert sum(found) == 100_000


def test_the_last_batches_are_not_smaller_than_what_sending_them_costs() -> None:
    even, costly = sizes(run_of(10_000), 1e-4, 0.0), sizes(run_of(10_000), 1e-4, 0.05)

    assert min(even[5:]) == 1
    assert min(costly[5:-1]) >= 499
    assert len(costly) < len(even)


def test_one_slow_answer_among_quick_ones_makes_no_batch_larger() -> None:
    run = run_of(1000)
    for number, overhead in enumerate((5.0, 0.001)):
        batch = next_of(run, number)
        assert batch is not None
        run.inflight.clear()
        values = serialization.pack(list(batch.task_ids))
        run.done(batch, "worker", BatchResult(values, [0.1] * len(batch.task_ids), overhead=overhead))

    assert len(next_of(run, 2).task_ids) == 1  # type: ignore[union-attr]
