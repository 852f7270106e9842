"""Dask and xarray with ``scheduler=`` an executor."""

import pytest

pytest.importorskip("dask", reason="pip install '.[compat]'")
pytest.importorskip("xarray", reason="pip install '.[compat]'")

import dask
import dask.array
import numpy as np
import xarray


def test_dask_computes_on_a_pool_and_on_the_executor_itself(executor, pool):
    values = dask.array.random.default_rng(3).random((400, 300), chunks=(100, 100))
    expected = (values @ values.T).sum().compute(scheduler="synchronous")

    for scheduler in (pool, executor):
        assert (values @ values.T).sum().compute(scheduler=scheduler) == expected


def test_an_error_in_a_task_of_dask_is_its_own(pool):
    @dask.delayed
    def fail():
        raise LookupError("no such cell")

    with pytest.raises(LookupError, match="no such cell"):
        fail().compute(scheduler=pool)


def test_xarray_reduces_chunks_on_a_pool(pool):
    cube = xarray.DataArray(np.arange(24.0).reshape(4, 6), dims=("time", "x")).chunk({"time": 2})

    with dask.config.set(scheduler=pool):
        assert cube.mean("time").values.tolist() == cube.values.mean(axis=0).tolist()
        roots = xarray.apply_ufunc(np.sqrt, cube, dask="parallelized").values
    assert roots.tolist() == np.sqrt(cube.values).tolist()
