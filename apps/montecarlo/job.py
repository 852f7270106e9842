"""A forecast as a map-reduce job: ranges of blocks are simulated, their summaries merged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from apps.montecarlo.preparation import Prepared
from apps.montecarlo.science.models import FloatArray
from apps.montecarlo.science.simulation import Target, find_targets, refine, refine_blocks, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec, estimate_cpu_seconds, uses_numba
from apps.montecarlo.science.summary import Summary, merge
from core import ConfigError, FunctionExecutor, Future, FutureList, InputError

TASK_CPU_SECONDS = 1.0
"""CPU time that makes the cost of sending a task negligible."""
MAX_TASKS = 1000
"""Tasks beyond which they grow instead of multiplying, so that the driver's memory stays flat."""


Kept = dict[tuple[int, int], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How a forecast is split: block ranges, estimated CPU seconds in all and in one task."""

    ranges: tuple[tuple[int, int], ...]
    cpu_seconds: float

    @property
    def task_cpu_seconds(self) -> float:
        """Estimated CPU seconds of one task."""
        return self.cpu_seconds / len(self.ranges)


class Part(NamedTuple):
    """What one task returns: its summary, the CPU seconds it took, and the seed it used."""

    summary: Summary
    cpu_seconds: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A finished forecast, and what it took.

    `exact_quantiles` holds the horizon's quantiles by probability when a second pass has refined them.
    """

    prepared: Prepared
    summary: Summary
    wall_seconds: float
    cpu_seconds: float
    tasks: int
    workers: int
    engine: str
    exact_quantiles: Mapping[float, float] | None = None

    @property
    def path_steps(self) -> int:
        """Steps of paths truly simulated, in both passes if there were two."""
        return self.summary.path_steps * (1 if self.exact_quantiles is None else 2)

    def quantile(self, day: int, q: float) -> float:
        """Return the price at probability `q` on a recorded day, exactly where a second pass has found it."""
        if self.exact_quantiles is not None and day == self.prepared.params.days:
            return self.exact_quantiles[q]
        return self.summary.quantile(day, q)


def plan(spec: SimulationSpec, workers: int, invocations: int | None = None) -> Plan:
    """Split a forecast into ranges of blocks.

    Parameters
    ----------
    spec : SimulationSpec
        The forecast.
    workers : int
        Tasks that run at the same time; there are never fewer tasks, unless there are fewer blocks.
    invocations : int, optional
        Number of tasks, instead of tasks of about one CPU second.
    """
    cpu = estimate_cpu_seconds(spec)
    return Plan(tuple(block_ranges(spec.n_blocks, cpu, workers, invocations)), cpu)


def block_ranges(blocks: int, cpu: float, workers: int, invocations: int | None = None) -> list[tuple[int, int]]:
    """Split `blocks` that take `cpu` CPU seconds in all into (first, count) ranges; see ``plan``."""
    rounds = math.ceil(max(1, min(MAX_TASKS, round(cpu / TASK_CPU_SECONDS))) / workers)
    count = min(invocations or rounds * workers, blocks)
    cuts = [blocks * part // count for part in range(count + 1)]
    return [(start, stop - start) for start, stop in zip(cuts, cuts[1:], strict=False)]


def simulate(first: int, count: int, spec: SimulationSpec) -> Part:
    """Map function: the summary of a range of blocks, with what it cost."""
    started = time.process_time()
    summary = simulate_blocks(spec, first, count)
    return Part(summary, time.process_time() - started, spec.seed)


def fold(futures: Iterable[Future]) -> tuple[Part, int]:
    """Merge the results of ``simulate`` as they arrive; returns the whole and the number of tasks.

    Grouping does not change the summary, and a merged part is let go, so memory is flat in the number of tasks.
    """
    total: Part | None = None
    tasks = 0
    for tasks, future in enumerate(futures, 1):
        part: Part = future.result()
        if isinstance(futures, FutureList):
            futures.release(tasks - 1)
        total = part if total is None else _joined(total, part)
    if total is None:
        raise InputError("the job has no tasks, so there is nothing to sum up")
    return total, tasks


def _joined(left: Part, right: Part) -> Part:
    return Part(merge([left.summary, right.summary]), left.cpu_seconds + right.cpu_seconds, left.seed)


def run(
    prepared: Prepared,
    executor: FunctionExecutor,
    *,
    started: float | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> Result:
    """Run a forecast.

    Parameters
    ----------
    prepared : Prepared
        What ``prepare`` returned.
    executor : FunctionExecutor
        Where it runs; the result is the same to the bit wherever that is.
    started : float, optional
        ``time.perf_counter()`` at which the wall time begins; now unless given.
    meanwhile : callable, optional
        Work of the driver that can be done while the workers simulate, such as loading a plotting library.
    """
    started = time.perf_counter() if started is None else started
    ranges = plan(prepared.spec, executor.workers, prepared.params.invocations).ranges
    futures = executor.map(simulate, ranges, extra_args=(prepared.spec,), batch_size=1)
    if meanwhile is not None:
        meanwhile()
    return collect(prepared, futures, executor.workers, started)


def collect(prepared: Prepared, futures: Iterable[Future], workers: int, started: float) -> Result:
    """Fold the futures of a forecast's job, of this process or one re-attached, into its result.

    Raises
    ------
    ConfigError
        The job was started with other parameters.
    """
    whole, tasks = fold(futures)
    summary, spec = whole.summary, prepared.spec
    ours = (spec.seed, spec.s0, spec.forecasts, spec.horizons, spec.bounds, spec.levels, spec.drawdown_bound)
    theirs = (whole.seed, summary.s0, summary.forecasts, summary.horizons, summary.bounds, summary.levels,
              summary.drawdown_bound)  # fmt: skip
    if ours != theirs:
        raise ConfigError("--resume: the job was started with other parameters; repeat the flags it had, or start anew")
    seconds = time.perf_counter() - started
    engine = "numba" if uses_numba(spec) else "numpy"
    return Result(prepared, summary, seconds, whole.cpu_seconds, tasks, workers, engine)


def refine_part(first: int, count: int, spec: SimulationSpec, targets: Sequence[Target]) -> tuple[Kept, float]:
    """Map function of the second pass: the values of a range of blocks in the targets' bins, and the CPU seconds."""
    started = time.process_time()
    return refine_blocks(spec, targets, first, count), time.process_time() - started


def refined(result: Result, executor: FunctionExecutor, started: float) -> Result:
    """Simulate the same paths again to find the exact quantiles at the horizon; `started` as for ``run``."""
    params, spec = result.prepared.params, result.prepared.spec
    wanted = [(params.days, q) for q in params.levels]
    targets = [target for day, q in wanted for target in find_targets(result.summary, day, q)[:2]]
    ranges = plan(spec, executor.workers, params.invocations).ranges
    futures = executor.map(refine_part, ranges, extra_args=(spec, targets), batch_size=1, durable=False)
    parts = futures.results()
    prices = refine(result.summary, wanted, [kept for kept, _ in parts])
    return replace(
        result,
        exact_quantiles=dict(zip(params.levels, prices, strict=True)),
        wall_seconds=time.perf_counter() - started,
        cpu_seconds=result.cpu_seconds + sum(seconds for _, seconds in parts),
        tasks=result.tasks + len(parts),
    )
