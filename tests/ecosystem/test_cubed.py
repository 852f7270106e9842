"""A computation of cubed by the adapter of the documentation."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("cubed", reason="pip install '.[compat]'")

import cubed
import cubed.array_api as xp
import numpy as np
from cubed.runtime.types import Callback

ADAPTER = Path(__file__).parents[2] / "docs" / "cubed_executor.py"


def adapter():
    spec = importlib.util.spec_from_file_location("cubed_executor", ADAPTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FanfoldExecutor


class Counted(Callback):
    def __init__(self):
        self.tasks, self.ended = {}, []

    def on_task_end(self, event):
        self.tasks[event.name] = self.tasks.get(event.name, 0) + event.num_tasks

    def on_operation_end(self, event):
        self.ended.append(event.name)


def test_an_array_is_computed_chunk_by_chunk_in_the_workers(executor, tmp_path):
    counted = Counted()
    spec = cubed.Spec(work_dir=str(tmp_path), allowed_mem="200MB", executor=adapter()(executor))
    values = np.arange(600.0).reshape(20, 30)
    array = cubed.from_array(values, chunks=(10, 10), spec=spec)

    result = xp.sum(xp.matmul(array, array.T), axis=0).compute(callbacks=[counted])

    assert result.tolist() == (values @ values.T).sum(axis=0).tolist()
    assert sum(counted.tasks.values()) > 6
    assert set(counted.tasks) <= set(counted.ended)


def test_the_error_of_a_chunk_is_raised_here(executor, tmp_path):
    spec = cubed.Spec(work_dir=str(tmp_path), allowed_mem="200MB", executor=adapter()(executor))

    def refuse(chunk):
        raise LookupError("no such chunk")

    array = cubed.map_blocks(refuse, xp.ones((4, 4), chunks=(2, 2), spec=spec), dtype=np.float64)

    with pytest.raises(LookupError, match="no such chunk"):
        array.compute()
