"""What an executor's jobs took and cost, and what one would cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.compute.base import ComputeBackend
from core.job.job import Job
from core.settings import ExecutorConfig
from core.types import Bill, TaskStats

if TYPE_CHECKING:
    import pandas

    from core.events.prices import Estimate


class Account:
    """The part of a ``FunctionExecutor`` that looks at its jobs and changes nothing."""

    config: ExecutorConfig
    _backend: ComputeBackend
    _jobs: list[Job]

    def stats(self) -> pandas.DataFrame:
        """Return one row a finished task: job, task, start, duration, CPU seconds, worker, attempts, memory, bytes."""
        import pandas

        rows = [
            {"job_id": job.job_id, "function": job.name, **{name: getattr(row, name) for name in TaskStats.__slots__}}
            for job in self._jobs
            for row in job.stats()
        ]
        return pandas.DataFrame(rows, columns=["job_id", "function", *TaskStats.__slots__])

    def plot(self, path: str | Path) -> None:
        """Draw a timeline of finished tasks, one line a worker, to a PNG, SVG or PDF file."""
        from core.events.listeners import timeline

        timeline([row for job in self._jobs for row in job.stats()], path)

    def bill(self) -> Bill:
        """Return what the jobs of this executor have cost so far."""
        from core.events.prices import bill, price_of

        rows = [row for job in self._jobs for row in job.stats()]
        invocations = sum(job.invocations for job in self._jobs)
        requests = sum(job.requests for job in self._jobs)
        return bill(self._backend.name, rows, self.config.memory, invocations, requests, price_of(self.config))

    def estimate(
        self,
        invocations: int,
        seconds: float,
        memory: int = 0,
        *,
        puts: int = 0,
        gets: int = 0,
        compute: str | None = None,
    ) -> Estimate:
        """Return what a job would be charged; starts and runs nothing.

        Parameters
        ----------
        invocations : int
            Batches of tasks.
        seconds : float
            Seconds that one takes.
        memory : int, optional
            Bytes a worker needs; what the executor or the platform grants, if that is more.
        puts, gets : int, optional
            Requests that its functions make of the storage: writing or listing, reading.
        compute : str, optional
            Another compute address to ask the price of.
        """
        from core.events.prices import estimate

        readers = self._backend.workers if self.config.durable or self._backend.capabilities.results_in_storage else 0
        return estimate(self.config, invocations, seconds, memory, puts, gets, compute, readers)
