"""Computations of cubed on a fanfold executor: ``cubed.Spec(..., executor=FanfoldExecutor(executor))``."""

import time
from functools import partial
from typing import Any

from cubed.runtime.pipeline import visit_nodes
from cubed.runtime.types import DagExecutor
from cubed.runtime.utils import (
    execute_with_stats,
    handle_callbacks,
    handle_operation_end_callbacks,
    handle_operation_start_callbacks,
)

from core import FunctionExecutor


class FanfoldExecutor(DagExecutor):
    """Runs one operation of cubed after the other, the tasks of each in parallel; retries are the executor's.

    Parameters
    ----------
    executor : FunctionExecutor
        On any backend whose workers reach the work directory of the computation and have cubed installed.
    """

    def __init__(self, executor: FunctionExecutor) -> None:
        super().__init__(workers=executor.workers)
        self._pool = executor.pool()

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes along with tasks, whose specification names its executor: not the pool."""
        return {"kwargs": self.kwargs}

    @property
    def name(self) -> str:
        """Name in reports of cubed."""
        return "fanfold"

    def execute_dag(self, dag: Any, callbacks: Any = None, spec: Any = None, **options: Any) -> None:
        """Run every operation that is not computed yet."""
        for name, node in visit_nodes(dag):
            handle_operation_start_callbacks(callbacks, name)
            pipeline = node["pipeline"]
            run = partial(execute_with_stats, pipeline.function, config=pipeline.config)
            created = time.time()
            for result, stats in self._pool.imap_unordered(run, pipeline.mappable):
                handle_callbacks(callbacks, result, {**stats, "name": name, "task_create_tstamp": created})
            handle_operation_end_callbacks(callbacks, name)
