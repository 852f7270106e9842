"""The joblib backend with workers that see neither the files nor the memory of the driver."""

import pytest

pytest.importorskip("joblib", reason="pip install '.[compat]'")

import joblib
import numpy as np
from joblib import Parallel, delayed

import core.joblib  # noqa: F401
from core import FunctionExecutor


def row_sum(array, row):
    return float(array[row].sum())


def test_a_large_array_goes_to_remote_workers_once_and_not_with_every_call(http_site):
    large = np.random.default_rng(1).random((200, 2000))  # 3.2 MB
    with FunctionExecutor(**http_site) as remote, joblib.parallel_config("fanfold", executor=remote):
        results = Parallel(batch_size=1)(delayed(row_sum)(large, row) for row in range(60))
        sent = remote.stats()["bytes_in"].sum()

    assert results == [row_sum(large, row) for row in range(60)]
    assert large.nbytes <= sent < 6 * large.nbytes  # the first calls bring it along


def test_an_array_that_changes_between_calls_is_new_to_remote_workers(http_site):
    large = np.zeros((2, 200_000))
    with FunctionExecutor(**http_site) as remote, joblib.parallel_config("fanfold", executor=remote):
        with Parallel() as parallel:
            for _ in range(3):
                large += 1
                assert parallel(delayed(row_sum)(large, 0) for _ in range(8)) == [row_sum(large, 0)] * 8


def test_remote_tasks_cannot_write_to_a_shared_array_by_accident(http_site):
    large = np.zeros((2, 200_000))

    def write(array):
        array[0] = 1

    with FunctionExecutor(**http_site) as remote, joblib.parallel_config("fanfold", executor=remote):
        with pytest.raises(ValueError, match="read-only"):
            Parallel()(delayed(write)(large) for _ in range(4))
