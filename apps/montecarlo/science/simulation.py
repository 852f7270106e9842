"""Simulation of blocks of forecasts: what a worker runs.

How a block's random stream makes the result independent of where and beside which others it is simulated stands in
:mod:`apps.montecarlo.science.blocks`. Exact quantiles take a second pass: the same paths again, keeping only the bins
that hold the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from apps.montecarlo.science.blocks import BATCH_VALUES, BLOCK, assets, batch_width, block_stream, draw_blocks
from apps.montecarlo.science.histograms import bin_numbers
from apps.montecarlo.science.kernels import accumulate, draw, evolve
from apps.montecarlo.science.models import GBM, Bachelier, FloatArray, Model
from apps.montecarlo.science.recording import Observed, Recorder, observe
from apps.montecarlo.science.spec import PILOT_STREAM, SimulationSpec, uses_numba
from apps.montecarlo.science.summary import Summary

PILOT_PATHS = 1024
GBM_RANGE = 6.5
"""Half width of a normal's histogram in standard deviations; 1e-10 of the forecasts fall beyond."""
PILOT_RANGE = 8.0
"""The same for other models, in standard deviations of the pilot paths."""
PILOT_MARGIN = 1.5
"""The range also reaches this much further than the farthest pilot path."""
DRAWDOWN_MARGIN = 2.0
NARROWEST = 1e-9
"""Smallest half width in log price, for models without randomness."""


def simulate_blocks(spec: SimulationSpec, first: int, count: int) -> Summary:
    """Simulate blocks ``first`` to ``first + count - 1`` of a job.

    Parameters
    ----------
    spec : SimulationSpec
        The job.
    first, count : int
        Which blocks; they must exist.

    Returns
    -------
    Summary
        Of those blocks alone; `merge` joins summaries in any grouping to the same bits.

    Raises
    ------
    ValueError
        There are no such blocks, or prices leave the range of floating point.
    """
    recorder = Recorder(spec)
    for observed in observed_batches(spec, first, count):
        recorder.add(observed)
    return recorder.finish()


def observed_batches(spec: SimulationSpec, first: int, count: int) -> Iterator[Observed]:
    """Simulate the blocks that `simulate_blocks` would, and yield the figures of a batch at a time, not yet counted."""
    if first < 0 or count < 1 or first + count > spec.n_blocks:
        raise ValueError(f"blocks {first} to {first + count - 1} are not among the {spec.n_blocks} of the job")
    width = batch_width(spec.model, spec.steps)
    for start in range(first, first + count, width):
        blocks = range(start, min(start + width, first + count))
        used = min(len(blocks) * BLOCK, spec.forecasts - start * BLOCK)
        yield observe_blocks(spec, blocks).first(used)


def observe_blocks(spec: SimulationSpec, blocks: range) -> Observed:
    """Simulate whole blocks and return their figures, side by side, before anything is counted."""
    streams = [block_stream(spec.seed, block) for block in blocks]
    if uses_numba(spec):
        from apps.montecarlo.science.kernels_numba import observe_gbm

        return observe_gbm(spec, streams)
    if spec.exact:
        return Observed(_exact_path(spec, streams))
    draws = draw_blocks(spec.model, streams, spec.days, spec.antithetic)
    return observe(evolve(spec.model, draws), spec.horizons, drawdown=spec.drawdown, extremes=bool(spec.levels))


def planned(spec: SimulationSpec) -> SimulationSpec:
    """Plan the histogram ranges of a job, from the model and the seed alone; without them it cannot be simulated.

    Raises
    ------
    ValueError
        Prices of the model leave the range of numbers.
    """
    model = spec.model
    normal = isinstance(model, GBM | Bachelier)
    if not normal or spec.drawdown:
        stream = block_stream(spec.seed, PILOT_STREAM)
        with np.errstate(over="ignore", invalid="ignore"):
            path = _pilot_path(model, stream, spec.days)
            pilot = observe(path, spec.horizons, drawdown=spec.drawdown, extremes=False)
        if not np.isfinite(pilot.at).all():
            raise ValueError(f"the {model.name} model explodes within {spec.days} days; check its parameters")
    if isinstance(model, GBM | Bachelier):
        days = np.asarray(spec.horizons, dtype=np.float64)
        centre, half = model.drift * days, GBM_RANGE * model.volatility * np.sqrt(days)
    else:
        centre = pilot.at.mean(axis=1)
        far = np.abs(pilot.at - centre[:, None]).max(axis=1)
        half = np.maximum(PILOT_RANGE * pilot.at.std(axis=1), PILOT_MARGIN * far)
    half = np.maximum(half, NARROWEST)
    bounds = tuple(zip((centre - half).tolist(), (centre + half).tolist(), strict=True))
    if not spec.drawdown or pilot.drawdown is None:
        return replace(spec, bounds=bounds, drawdown_bound=0.0)
    return replace(spec, bounds=bounds, drawdown_bound=max(DRAWDOWN_MARGIN * float(pilot.drawdown.max()), NARROWEST))


def _exact_path(spec: SimulationSpec, streams: list[Generator]) -> FloatArray:
    assert isinstance(spec.model, GBM)
    gaps = np.diff(np.asarray(spec.horizons, dtype=np.float64), prepend=0.0)[:, None]
    normals = draw_blocks(spec.model, streams, len(spec.horizons), spec.antithetic)[0]
    return accumulate(normals * (spec.model.volatility * np.sqrt(gaps)) + spec.model.drift * gaps)


def _pilot_path(model: Model, stream: Generator, days: int) -> FloatArray:
    paths = max(BLOCK, min(PILOT_PATHS, BATCH_VALUES // (days * assets(model))))
    return evolve(model, draw(model, stream, days, paths))


@dataclass(frozen=True)
class Target:
    """One order statistic that is looked for.

    Parameters
    ----------
    row : int
        Number of the horizon.
    bin : int
        Histogram bin that holds it.
    rank : int
        Its place among the values of that bin, from 0.
    """

    row: int
    bin: int
    rank: int


def find_targets(summary: Summary, day: int, q: float) -> tuple[Target, Target, float]:
    """Locate the two order statistics whose mixture is the quantile, as numpy's ``method="linear"`` defines it.

    Returns
    -------
    lower, upper : Target
    share : float
        Weight of the upper one.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a probability lies between 0 and 1, {q} does not")
    row = summary.horizons.index(day)
    position = q * (summary.forecasts - 1)
    place = math.floor(position)
    ends = np.cumsum(summary.counts[row])
    found = []
    for rank in (place, min(place + 1, summary.forecasts - 1)):
        number = int(np.searchsorted(ends, rank, side="right"))
        found.append(Target(row, number, rank - int(ends[number] - summary.counts[row, number])))
    return found[0], found[1], position - place


def refine_blocks(
    spec: SimulationSpec, targets: Sequence[Target], first: int, count: int
) -> dict[tuple[int, int], FloatArray]:
    """Simulate blocks again and keep the values in the targets' bins.

    Parameters
    ----------
    spec : SimulationSpec
        The job whose summary the targets come from.
    targets : sequence of Target
    first, count : int
        Blocks ``first`` to ``first + count - 1``.

    Returns
    -------
    dict of (row, bin) to ndarray of float64, shape (n,)
        Log of price over initial price, in no particular order.

    Raises
    ------
    ValueError
        There are no such blocks.
    """
    kept: dict[tuple[int, int], list[FloatArray]] = {(target.row, target.bin): [] for target in targets}
    for observed in observed_batches(spec, first, count):
        for row, number in kept:
            lower, upper = (np.array([bound]) for bound in spec.bounds[row])
            values = observed.at[row]
            kept[row, number].append(values[bin_numbers(values[None, :], lower, upper)[0] == number])
    return {key: np.concatenate(parts) for key, parts in kept.items()}


def refine(
    summary: Summary, days_and_probabilities: Sequence[tuple[int, float]],
    kept: Iterable[dict[tuple[int, int], FloatArray]],
) -> list[float]:  # fmt: skip
    """Read exact quantiles from what `refine_blocks` kept over all blocks.

    Parameters
    ----------
    summary : Summary
        Of the whole job.
    days_and_probabilities : sequence of (int, float)
        The quantiles wanted; `refine_blocks` must have been given all their targets.
    kept : iterable of dict
        Of every block once, in any order.

    Returns
    -------
    list of float
        Prices, equal to ``numpy.quantile`` of all simulated log prices, exponentiated.
    """
    merged: dict[tuple[int, int], list[FloatArray]] = {}
    for part in kept:
        for key, values in part.items():
            merged.setdefault(key, []).append(values)
    ordered = {key: np.sort(np.concatenate(parts)) for key, parts in merged.items()}
    prices = []
    for day, q in days_and_probabilities:
        low, high, share = find_targets(summary, day, q)
        lower, upper = float(ordered[low.row, low.bin][low.rank]), float(ordered[high.row, high.bin][high.rank])
        prices.append(summary.price_at(lower + share * (upper - lower)))
    return prices
