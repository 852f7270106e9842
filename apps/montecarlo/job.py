"""A forecast as a map-reduce job: prices to model, model to blocks, blocks to one summary."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from apps.montecarlo.calibration import TALK_LAST_PRICE, TALK_MODEL, calibrate
from apps.montecarlo.dataset import PriceHistory, load_history
from apps.montecarlo.models import FloatArray, Model
from apps.montecarlo.params import PORTFOLIO_MODELS, Params, touch_price
from apps.montecarlo.simulation import SimulationSpec, estimate_cpu_seconds, merge, simulate_blocks, uses_numba
from apps.montecarlo.summary import Summary
from core import ConfigError, FunctionExecutor, Future, FutureList, InputError

RISK_DAYS = (1, 5, 10)
"""Holding periods in trading days that risk figures are customarily given for, besides the horizon."""
FAN_DAYS = 36
"""Days at which the fan is recorded: as many as an eye can tell apart in a picture of this size."""
PORTFOLIO_VALUE = 100.0
"""Value of a portfolio on day 0: its results read as percentages."""
TASK_CPU_SECONDS = 1.0
"""CPU time that makes the cost of sending a task negligible."""
MAX_TASKS = 1000
"""Tasks beyond which they grow instead of multiplying, so that the driver's memory stays flat."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A forecast ready to run.

    Parameters
    ----------
    params : Params
        What was asked for.
    history : PriceHistory, optional
        The prices it is calibrated on; None for a preset.
    model : Model
        The calibrated price model.
    spec : SimulationSpec
        What the workers receive.
    touch : dict of str to float
        Each touch level as asked for, and its price.
    drift, volatility : float
        Mean and standard deviation of a day's log return in the calibration sample.
    """

    params: Params
    history: PriceHistory | None
    model: Model
    spec: SimulationSpec
    touch: dict[str, float]
    drift: float
    volatility: float


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
    """A finished forecast, and what it took."""

    prepared: Prepared
    summary: Summary
    wall_seconds: float
    cpu_seconds: float
    tasks: int
    workers: int
    engine: str


def prepare(params: Params) -> Prepared:
    """Load prices, calibrate the model, and lay out the simulation.

    Raises
    ------
    InputError, ConfigError
        Prices or parameters cannot be used.
    """
    if params.preset == "talk":
        return _laid_out(params, None, TALK_MODEL, TALK_LAST_PRICE, TALK_MODEL.drift, TALK_MODEL.volatility)
    history = load_history(params.prices, params.symbol, params.window)
    returns = history.log_returns
    if len(history.names) == 1:
        if params.weights and len(params.weights) != 1:
            raise ConfigError(f"--weights has {len(params.weights)} entries for 1 price series; give several columns")
        model = _calibrated(params, returns[:, 0], history)
        sample, s0 = returns[:, 0], float(history.prices[-1, 0])
    else:
        if params.model not in PORTFOLIO_MODELS:
            raise ConfigError(
                f"--model {params.model} is for one price series, and these are {len(history.names)}; for a portfolio "
                f"choose from {', '.join(PORTFOLIO_MODELS)}"
            )
        weights = portfolio_weights(params, history)
        model = _calibrated(params, returns, history, weights=weights)
        sample, s0 = np.diff(np.log(portfolio_value(history, weights))), PORTFOLIO_VALUE
    return _laid_out(params, history, model, s0, float(sample.mean()), float(sample.std(ddof=1)))


def portfolio_weights(params: Params, history: PriceHistory) -> FloatArray:
    """Return the share of each asset on day 0: as asked for, or equal.

    Raises
    ------
    ConfigError
        Their number is not that of the assets.
    """
    assets = len(history.names)
    if not params.weights:
        return np.full(assets, 1.0 / assets)
    if len(params.weights) != assets:
        raise ConfigError(
            f"--weights has {len(params.weights)} entries for {assets} price series ({', '.join(history.names)}); "
            "give one a series"
        )
    return np.array(params.weights)


def portfolio_value(history: PriceHistory, weights: FloatArray) -> FloatArray:
    """Return the past value of the portfolio that is worth ``PORTFOLIO_VALUE`` at `weights` on the last day."""
    return PORTFOLIO_VALUE * (history.prices / history.prices[-1]) @ weights


def _calibrated(params: Params, returns: FloatArray, history: PriceHistory, **options: Any) -> Model:
    try:
        return calibrate(params.model, returns, **options)
    except ValueError as error:
        raise InputError(
            f"--model {params.model} cannot be calibrated on {history.source} ({history.span}): {error}"
        ) from error


def _laid_out(
    params: Params, history: PriceHistory | None, model: Model, s0: float, drift: float, volatility: float
) -> Prepared:
    touch = {level: touch_price(level, s0) for level in params.touch}
    for level, price in touch.items():
        if price == s0:
            raise ConfigError(f"--touch {level} is the last price itself, which is touched already; give another level")
    try:
        spec = SimulationSpec(
            model=model,
            s0=s0,
            days=params.days,
            forecasts=params.forecasts,
            seed=params.seed,
            horizons=fan_days(params.days),
            levels=tuple(dict.fromkeys(touch.values())),
            drawdown=not params.exact,
            exact=params.exact,
            antithetic=params.antithetic,
            engine=params.engine,
        )
    except ValueError as error:
        raise ConfigError(f"this forecast cannot be simulated: {error}") from error
    if params.engine == "numba" and not uses_numba(spec):
        raise ConfigError(
            "--engine numba needs numba (pip install 'fanfold[fast]') and simulates daily steps of --model gbm for one "
            "price, without --antithetic or --exact; choose --engine auto"
        )
    return Prepared(params, history, model, spec, touch, drift, volatility)


def fan_days(days: int) -> tuple[int, ...]:
    """Return the days whose distribution is kept: risk horizons, middle, end, and an even spread between."""
    even = (math.ceil(days * part / FAN_DAYS) for part in range(1, FAN_DAYS + 1))
    return tuple(sorted({day for day in (*RISK_DAYS, middle(days), *even) if day <= days}))


def middle(days: int) -> int:
    """Return the middle day of a horizon."""
    return (days + 1) // 2


def risk_days(days: int) -> tuple[int, ...]:
    """Return the days risk figures are given for."""
    return tuple(dict.fromkeys((*(day for day in RISK_DAYS if day < days), days)))


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
    return Result(prepared, summary, seconds, whole.cpu_seconds, tasks, workers, "numba" if uses_numba(spec) else "numpy")
