"""Option prices by simulation: what a worker runs, and the price with its standard error read from merged sums."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from apps.montecarlo.science.american import stopped_payoff
from apps.montecarlo.science.blocks import (
    BLOCK,
    batch_width,
    block_stream,
    brownian_bridge,
    draw_blocks,
    sobol_normals,
)
from apps.montecarlo.science.formulas import control_mean
from apps.montecarlo.science.histograms import LARGEST, UNIT, UNIT_BITS, exponential, row_sums
from apps.montecarlo.science.kernels import evolve
from apps.montecarlo.science.models import GBM, FloatArray
from apps.montecarlo.science.options import Option, OptionSpec, control, payoff, settled

MOST = math.sqrt(LARGEST)
"""Largest value whose square is summed exactly, in units of the spot."""


@dataclass(frozen=True)
class PriceSums:
    """Sums over independent observations (paths, pairs or replicates), in units of 2**-40; they merge exactly.

    Parameters
    ----------
    observations, path_steps : int
        Numbers of observations, and of steps truly simulated.
    payoff, payoff_square : int
        Sums of the undiscounted pay-off over `s0` and its square.
    control, control_square, product : int
        The same for the control variate, and of the product of both; 0 without one.
    """

    observations: int
    path_steps: int
    payoff: int
    payoff_square: int
    control: int = 0
    control_square: int = 0
    product: int = 0

    def digest(self) -> str:
        """Return the SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


class Price(NamedTuple):
    """Price of an option and its standard error, in currency."""

    value: float
    se: float


def price_blocks(spec: OptionSpec, first: int, count: int) -> PriceSums:
    """Simulate blocks ``first`` to ``first + count - 1``.

    Raises
    ------
    ValueError
        There are no such blocks.
    """
    simulated = _replicate if spec.method == "sobol" else _batch
    return merge_prices(simulated(spec, blocks) for blocks in batches(spec, first, count))


def merge_prices(parts: Iterable[PriceSums]) -> PriceSums:
    """Join sums of different blocks, in any order and grouping.

    Raises
    ------
    ValueError
        There is none.
    """
    rows = [tuple(vars(part).values()) for part in parts]
    if not rows:
        raise ValueError("there are no sums to merge")
    return PriceSums(*(sum(column) for column in zip(*rows, strict=True)))


def price(spec: OptionSpec, sums: PriceSums) -> Price:
    """Read the discounted price and its standard error from the sums of all blocks."""
    known = None
    if spec.uses_control and isinstance(spec.process, GBM):
        known = control_mean(spec.option, spec.process, spec.s0)
    mean, se = estimate(sums, known)
    scale = spec.s0 * math.exp(-spec.rate * spec.option.steps)
    return or_exercised(spec, spec.s0, Price(scale * mean, scale * se))


def or_exercised(spec: OptionSpec, spot: float, waiting: Price) -> Price:
    """Return the gain of exercise today, which is certain, where an American option allows it and it is the better."""
    gain = _gain_today(spec.option, spot)
    return Price(gain, 0.0) if spec.option.kind == "american" and 0.0 < gain >= waiting.value else waiting


def is_exercised(spec: OptionSpec, spot: float, best: Price) -> bool:
    """Tell whether what ``or_exercised`` returned is the gain of exercise; without an error it may also be nothing."""
    return spec.option.kind == "american" and best.se == 0.0 and 0.0 < best.value == _gain_today(spec.option, spot)


def _gain_today(option: Option, spot: float) -> float:
    return spot - option.strike if option.right == "call" else option.strike - spot


def estimate(sums: PriceSums, known: float | None) -> Price:
    """Read a mean and its standard error from sums, in their own unit.

    Parameters
    ----------
    sums : PriceSums
        Of all blocks.
    known : float, optional
        Expected value ``E[c]`` of the control variate, if there is one: the result is then
        ``mean(p) - b (mean(c) - E[c])``, ``b`` being the regression slope in the same sample; its bias is of the order
        of 1/paths.
    """
    n, unit = sums.observations, 1 << UNIT_BITS
    mean = sums.payoff / n * UNIT
    variance = max(_covariance(n, sums.payoff_square * unit, sums.payoff * sums.payoff), 0.0)
    if known is not None:
        spread = _covariance(n, sums.control_square * unit, sums.control * sums.control)
        common = _covariance(n, sums.product * unit, sums.payoff * sums.control)
        slope = common / spread if spread > 0.0 else 0.0
        mean -= slope * (sums.control / n * UNIT - known)
        variance = max(variance - slope * common, 0.0)
    return Price(mean, math.sqrt(variance / n))


def paired(spec: OptionSpec, values: FloatArray) -> FloatArray:
    """Return independent observations along the last axis: the values, or the means of antithetic pairs."""
    return (values[..., ::2] + values[..., 1::2]) * 0.5 if spec.antithetic else values


def batches(spec: OptionSpec, first: int, count: int) -> Iterator[range]:
    """Group blocks ``first`` to ``first + count - 1`` into those that are simulated side by side.

    Raises
    ------
    ValueError
        There are no such blocks.
    """
    if first < 0 or count < 1 or first + count > spec.n_blocks:
        raise ValueError(f"blocks {first} to {first + count - 1} are not among the {spec.n_blocks} of the job")
    width = 1 if spec.method == "sobol" else batch_width(spec.model, spec.option.steps)
    for start in range(first, first + count, width):
        yield range(start, min(start + width, first + count))


def _paid(spec: OptionSpec, path: FloatArray) -> FloatArray:
    if spec.option.kind == "american":
        return stopped_payoff(spec, exponential(path), spec.s0)
    return payoff(spec.option, settled(spec.option, path), spec.s0)


def _batch(spec: OptionSpec, blocks: range) -> PriceSums:
    streams = [block_stream(spec.seed, block) for block in blocks]
    draws = draw_blocks(spec.model, streams, spec.option.steps, spec.antithetic)
    used = min(len(blocks) * BLOCK, spec.paths - blocks[0] * BLOCK)
    path = evolve(spec.process, draws)[:, :used]
    paid = paired(spec, _paid(spec, path))
    if not spec.uses_control:
        return _sums(paid, used * spec.option.steps)
    steady = summable(paired(spec, control(spec.option, path, spec.s0)))
    total, square, product = row_sums(np.stack([steady, steady * steady, paid * steady]))
    plain = _sums(paid, used * spec.option.steps)
    return replace(plain, control=total, control_square=square, product=product)


def _replicate(spec: OptionSpec, blocks: range) -> PriceSums:
    process = spec.process
    assert isinstance(process, GBM)
    steps, total = spec.option.steps, 0
    for normals in sobol_normals(steps, spec.points, spec.seed, blocks[0]):
        walk = brownian_bridge(normals.T)
        np.multiply(walk, process.volatility, out=walk)
        walk += process.drift * np.arange(1.0, steps + 1.0)[:, None]
        total += row_sums(summable(_paid(spec, walk))[None, :])[0]
    return _sums(np.array([total / spec.points * UNIT]), spec.points * steps)


def summable(values: FloatArray) -> FloatArray:
    """Return the values, whose squares can be summed exactly.

    Raises
    ------
    ValueError
        They cannot: a standard error would be too small without a word.
    """
    if values.size and max(float(values.max()), -float(values.min())) > MOST:
        raise ValueError(
            "on some path it pays more than a million times the spot, so that no standard error can be told; shorten "
            "the time to expiry, or lower volatility or interest"
        )
    return values


def _sums(paid: FloatArray, path_steps: int) -> PriceSums:
    paid = summable(paid)
    total, square = row_sums(np.stack([paid, paid * paid]))
    return PriceSums(paid.size, path_steps, total, square)


def _covariance(n: int, products: int, sums: int) -> float:
    return (n * products - sums) / (n * (n - 1)) * UNIT * UNIT
