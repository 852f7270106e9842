"""tqdm's maps over an executor, and its bars over results."""

import functools
import io

from tqdm import tqdm
from tqdm.contrib import concurrent


def square(x):
    return x * x


def test_a_bar_counts_results_as_they_come(pool):
    bar = io.StringIO()

    assert list(tqdm(pool.map(square, range(20)), file=bar)) == [x * x for x in range(20)]
    assert list(tqdm(pool.imap(square, range(20)), total=20, file=bar)) == [x * x for x in range(20)]
    assert "20/20" in bar.getvalue()


def test_the_maps_of_tqdm_run_on_a_pool_in_place_of_their_own(executor):
    made = []

    def make(max_workers, initializer, initargs):  # these share a lock between bars in workers, which have none
        made.append(max_workers)
        return executor.pool()

    run = functools.partial(concurrent._executor_map, make, square, range(30), max_workers=2, file=io.StringIO())

    assert run() == [x * x for x in range(30)]
    assert made == [2]
