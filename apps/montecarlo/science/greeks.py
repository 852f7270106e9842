"""Sensitivities of an option's price by simulation, each with its standard error.

Central differences between prices of the same random numbers with one thing changed a little; of each path the
difference is taken first and then averaged, so that the standard error is that of the difference. The changes are small
beside the spread of the price at expiry, so what a finite difference leaves out is well below a hundredth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from apps.montecarlo.science.american import stopped_payoff
from apps.montecarlo.science.blocks import BLOCK, block_stream, brownian_bridge, draw_blocks, sobol_normals
from apps.montecarlo.science.formulas import Greeks, control_mean
from apps.montecarlo.science.histograms import UNIT, exponential, row_sums
from apps.montecarlo.science.kernels import accumulate
from apps.montecarlo.science.models import GBM, FloatArray
from apps.montecarlo.science.options import OptionSpec, Settled, control, payoff, settled
from apps.montecarlo.science.pricing import (
    Price,
    PriceSums,
    batches,
    estimate,
    is_exercised,
    merge_prices,
    or_exercised,
    paired,
    summable,
)

SPOT_SHARE = {"european": 0.05, "asian": 0.05, "barrier": 0.1, "american": 0.2}
"""Change of the spot, as a share of the standard deviation of the log price at expiry: larger where a path's pay-off
jumps, at a barrier or between exercise and waiting, since the noise of a second difference then grows as it shrinks."""
LARGEST_CHANGE = 0.1
INTEREST_SHARE = 0.05
"""Change of the interest to expiry, as such a share."""
VOLATILITY_SHARE = 0.02
TIME_SHARE = 0.04
LADDER = (0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3)
"""Spots at which the price is told too, over the spot of today."""


@dataclass(frozen=True)
class Scenario:
    """A pricing job with something changed: its spot as a multiple of the spot, its interest and its process."""

    spot: float
    rate: float
    process: GBM


Weighted = tuple[tuple[float, Scenario], ...]


def quantities(spec: OptionSpec) -> tuple[Weighted, ...]:
    """Return what is estimated: five sensitivities in the order of ``Greeks``, then the prices of `LADDER`.

    Each is a weighted sum of discounted prices, in units of the spot: derivatives by the log of the spot's multiple,
    its second derivative times the change of the spot (so that it is not huge where that is small), by the volatility
    of a step, by the log of the time to expiry, and by the interest of a step.
    """
    model, steps = spec.model, spec.option.steps
    assert isinstance(model, GBM)

    def changed(spot: float = 1.0, volatility: float = 1.0, rate: float = 0.0, time: float = 1.0) -> Scenario:
        sigma, interest = model.volatility * volatility * math.sqrt(time), (spec.rate + rate) * time
        other = replace(spec, rate=interest, dividend=spec.dividend * time, model=GBM(0.0, sigma), policy=())
        assert isinstance(other.process, GBM)
        return Scenario(spot, interest, other.process)

    def difference(up: Scenario, down: Scenario, size: float) -> Weighted:
        return ((0.5 / size, up), (-0.5 / size, down))

    spot = _spot_change(spec)
    sigma, interest = VOLATILITY_SHARE * model.volatility, INTEREST_SHARE * model.volatility / math.sqrt(steps)
    up, here, down = changed(1.0 + spot), changed(), changed(1.0 - spot)
    share = VOLATILITY_SHARE
    return (
        difference(up, down, spot),
        ((1.0 / spot, up), (-2.0 / spot, here), (1.0 / spot, down)),
        difference(changed(volatility=1.0 + share), changed(volatility=1.0 - share), sigma),
        difference(changed(time=1.0 + TIME_SHARE), changed(time=1.0 - TIME_SHARE), TIME_SHARE),
        difference(changed(rate=interest), changed(rate=-interest), interest),
        *(((1.0, changed(multiple)),) for multiple in LADDER),
    )


def greek_blocks(spec: OptionSpec, first: int, count: int) -> tuple[PriceSums, ...]:
    """Simulate blocks ``first`` to ``first + count - 1``: the sums of every quantity of ``quantities``.

    Raises
    ------
    ValueError
        There are no such blocks, or the model is not a GBM.
    """
    if not isinstance(spec.model, GBM):
        raise ValueError(f"sensitivities are known for the gbm model alone, not for {spec.model.name}")
    wanted = quantities(spec)
    simulated = _replicate if spec.method == "sobol" else _batch
    return merge_greeks(simulated(spec, wanted, blocks) for blocks in batches(spec, first, count))


def merge_greeks(parts: Iterable[tuple[PriceSums, ...]]) -> tuple[PriceSums, ...]:
    """Join sums of different blocks, in any order and grouping."""
    return tuple(merge_prices(column) for column in zip(*parts, strict=True))


def greeks(spec: OptionSpec, sums: tuple[PriceSums, ...], years: float) -> tuple[Greeks, Greeks]:
    """Read the sensitivities and their standard errors from the sums of all blocks.

    Parameters
    ----------
    spec : OptionSpec
        The job.
    sums : tuple of PriceSums
        Of all blocks.
    years : float
        Time to expiry; sensitivities are those of a year.

    Returns
    -------
    tuple of Greeks
        Where exercise today is best they are those of the gain, without an error.
    """
    here = next(value for spot, value in ladder(spec, sums) if spot == spec.s0)
    if is_exercised(spec, spec.s0, here):
        return Greeks(1.0 if spec.option.right == "call" else -1.0, 0.0, 0.0, 0.0, 0.0), Greeks(*[0.0] * 5)
    found = [estimate(part, _known(spec, wanted)) for part, wanted in zip(sums, quantities(spec), strict=True)]
    step = years / spec.option.steps
    scales = (1.0, 1.0 / (spec.s0 * _spot_change(spec)), spec.s0 * math.sqrt(step), -spec.s0 / years, spec.s0 * step)
    five = list(zip(found, scales, strict=False))
    return (
        Greeks(*(part.value * scale for part, scale in five)),
        Greeks(*(part.se * abs(scale) for part, scale in five)),
    )


def ladder(spec: OptionSpec, sums: tuple[PriceSums, ...]) -> list[tuple[float, Price]]:
    """Read spots and the prices of the option there, but for spots at which a barrier is crossed already."""
    first = len(Greeks._fields)
    pairs = zip(LADDER, sums[first:], quantities(spec)[first:], strict=True)
    found = [(multiple, estimate(part, _known(spec, wanted))) for multiple, part, wanted in pairs]
    rungs = []
    for multiple, each in found:
        # Ten digits: 1.1 times 100 is to be 110.
        spot = spec.s0 if multiple == 1.0 else float(f"{spec.s0 * multiple:.10g}")
        if not spec.option.crossed(spot):
            rungs.append((spot, or_exercised(spec, spot, Price(spec.s0 * each.value, spec.s0 * each.se))))
    return rungs


def _spot_change(spec: OptionSpec) -> float:
    assert isinstance(spec.model, GBM)
    spread = spec.model.volatility * math.sqrt(spec.option.steps)
    return min(SPOT_SHARE[spec.option.kind] * spread, LARGEST_CHANGE)


def _known(spec: OptionSpec, wanted: Weighted) -> float | None:
    if not spec.uses_control:
        return None
    return math.fsum(
        weight * _discount(spec, scenario) * control_mean(spec.option, scenario.process, spec.s0 * scenario.spot)
        for weight, scenario in wanted
    )


def _discount(spec: OptionSpec, scenario: Scenario) -> float:
    """Return what one unit of a scenario's spot at expiry is worth today, in units of the spot."""
    return scenario.spot * math.exp(-scenario.rate * spec.option.steps)


def _batch(spec: OptionSpec, wanted: tuple[Weighted, ...], blocks: range) -> tuple[PriceSums, ...]:
    streams = [block_stream(spec.seed, block) for block in blocks]
    (normals,) = draw_blocks(spec.model, streams, spec.option.steps, spec.antithetic)
    used = min(len(blocks) * BLOCK, spec.paths - blocks[0] * BLOCK)
    values, controls = _valued(spec, wanted, accumulate(normals)[:, :used])
    path_steps = used * spec.option.steps
    columns = [row_sums(values), row_sums(values * values)]
    if controls is not None:
        columns += [row_sums(controls), row_sums(controls * controls), row_sums(values * controls)]
    return tuple(PriceSums(values.shape[1], path_steps, *row) for row in zip(*columns, strict=True))


def _replicate(spec: OptionSpec, wanted: tuple[Weighted, ...], blocks: range) -> tuple[PriceSums, ...]:
    totals = [0] * len(wanted)
    for normals in sobol_normals(spec.option.steps, spec.points, spec.seed, blocks[0]):
        values, _ = _valued(spec, wanted, brownian_bridge(normals.T))
        totals = [total + more for total, more in zip(totals, row_sums(values), strict=True)]
    means = np.array(totals)[:, None] / spec.points * UNIT
    path_steps = spec.points * spec.option.steps
    rows = zip(row_sums(means), row_sums(means * means), strict=True)
    return tuple(PriceSums(1, path_steps, *row) for row in rows)


def _valued(spec: OptionSpec, wanted: tuple[Weighted, ...], walk: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Value every quantity on random walks of shape (steps, paths): discounted pay-offs, and controls if there are."""
    option, steps = spec.option, spec.option.steps
    if option.kind == "european":
        walk = walk[-1:]
    time = np.arange(steps - len(walk) + 1.0, steps + 1.0)[:, None]

    @cache
    def path(process: GBM) -> FloatArray:
        return np.asarray(walk * process.volatility + process.drift * time, dtype=np.float64)

    @cache
    def seen(process: GBM) -> Settled | FloatArray:
        return exponential(path(process)) if option.kind == "american" else settled(option, path(process))

    @cache
    def paid(scenario: Scenario) -> FloatArray:
        s0, what = spec.s0 * scenario.spot, seen(scenario.process)
        if isinstance(what, Settled):
            return _discount(spec, scenario) * payoff(option, what, s0)
        return _discount(spec, scenario) * stopped_payoff(replace(spec, rate=scenario.rate), what, s0)

    @cache
    def steady(scenario: Scenario) -> FloatArray:
        return _discount(spec, scenario) * control(option, path(scenario.process), spec.s0 * scenario.spot)

    values = summable(paired(spec, np.stack(list(_summed(wanted, paid)))))
    if not spec.uses_control:
        return values, None
    return values, summable(paired(spec, np.stack(list(_summed(wanted, steady)))))


def _summed(wanted: tuple[Weighted, ...], valued: Callable[[Scenario], FloatArray]) -> Iterator[FloatArray]:
    for scenarios in wanted:
        yield np.sum([weight * valued(scenario) for weight, scenario in scenarios], axis=0)
