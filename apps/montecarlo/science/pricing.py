"""Option prices by simulation: what a worker runs, and the price with its standard error read from merged sums."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from apps.montecarlo.science.blocks import (
    BLOCK,
    MAX_DIMENSIONS,
    REPLICATES,
    batch_width,
    block_stream,
    brownian_bridge,
    draw_blocks,
    sobol_normals,
)
from apps.montecarlo.science.histograms import UNIT, UNIT_BITS, row_sums
from apps.montecarlo.science.kernels import evolve
from apps.montecarlo.science.models import GBM, FloatArray, Heston, Merton
from apps.montecarlo.science.options import Option, control, control_mean, payoff, risk_neutral

METHODS = ("plain", "antithetic", "control", "antithetic+control", "sobol")
MAX_STEPS = 25_200


@dataclass(frozen=True)
class OptionSpec:
    """Everything a worker needs to price an option; small and picklable.

    Parameters
    ----------
    option : Option
        The contract.
    model : GBM, Merton or Heston
        Shocks of one step; the drift is replaced by the risk-neutral one.
    s0 : float
        Price today, in currency.
    rate, dividend : float
        Interest and dividend yield per step, continuously compounded.
    paths, seed : int
        Number of simulated paths (`sobol` rounds up to 2**m in each replicate), and the seed.
    method : str
        One of `METHODS`; `control` and `sobol` are for the GBM alone.

    Raises
    ------
    ValueError
        A value is out of range or two exclude each other.
    """

    option: Option
    model: GBM | Merton | Heston
    s0: float
    rate: float
    paths: int
    seed: int
    dividend: float = 0.0
    method: str = "plain"

    def __post_init__(self) -> None:
        if not isinstance(self.model, GBM | Merton | Heston):
            raise ValueError("options are priced under a gbm, merton or heston model")
        if not 0.0 < self.s0 < math.inf:
            raise ValueError(f"the initial price must be positive and finite, not {self.s0}")
        if self.paths < 2 or self.seed < 0:
            raise ValueError("paths must be at least 2 and the seed not negative")
        if self.option.steps > MAX_STEPS:
            raise ValueError(f"an option has at most {MAX_STEPS} steps, not {self.option.steps}")
        if self.method not in METHODS:
            raise ValueError(f"there is no method {self.method!r}; choose from {', '.join(METHODS)}")
        if not isinstance(self.model, GBM) and (self.uses_control or self.method == "sobol"):
            raise ValueError(f"method {self.method} is for the gbm model alone, not for {self.model.name}")
        if self.antithetic and self.paths % 2:
            raise ValueError("antithetic paths come in pairs: ask for an even number")
        if self.method == "sobol" and self.option.steps > MAX_DIMENSIONS:
            raise ValueError(f"sobol points have at most {MAX_DIMENSIONS} dimensions; use fewer steps")

    @property
    def antithetic(self) -> bool:
        """Whether paths come in mirrored pairs."""
        return self.method.startswith("antithetic")

    @property
    def uses_control(self) -> bool:
        """Whether a control variate steadies the price."""
        return self.method.endswith("control")

    @property
    def n_blocks(self) -> int:
        """Number of blocks: of `BLOCK` paths, or one for each replicate of the Sobol points."""
        return REPLICATES if self.method == "sobol" else -(-self.paths // BLOCK)

    @property
    def points(self) -> int:
        """Points of one Sobol replicate, a power of two."""
        return 1 << max(0, math.ceil(math.log2(self.paths / REPLICATES)))

    @property
    def simulated_paths(self) -> int:
        """Paths truly simulated."""
        return REPLICATES * self.points if self.method == "sobol" else self.paths

    @property
    def process(self) -> GBM | Merton | Heston:
        """The risk-neutral model of one step."""
        return risk_neutral(self.model, self.rate - self.dividend)


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
    if first < 0 or count < 1 or first + count > spec.n_blocks:
        raise ValueError(f"blocks {first} to {first + count - 1} are not among the {spec.n_blocks} of the job")
    if spec.method == "sobol":
        return merge_prices(_replicate(spec, block) for block in range(first, first + count))
    width = batch_width(spec.model, spec.option.steps)
    starts = range(first, first + count, width)
    return merge_prices(_batch(spec, range(start, min(start + width, first + count))) for start in starts)


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
    """Read the discounted price and its standard error from the sums of all blocks.

    With a control variate the price is ``mean(p) - b (mean(c) - E[c])``, ``b`` being the regression slope in the same
    sample; its bias is of the order of 1/paths.
    """
    n, unit = sums.observations, 1 << UNIT_BITS
    mean = sums.payoff / n * UNIT
    variance = _covariance(n, sums.payoff_square * unit, sums.payoff * sums.payoff)
    if spec.uses_control and isinstance(spec.process, GBM):
        spread = _covariance(n, sums.control_square * unit, sums.control * sums.control)
        common = _covariance(n, sums.product * unit, sums.payoff * sums.control)
        slope = common / spread if spread > 0.0 else 0.0
        mean -= slope * (sums.control / n * UNIT - control_mean(spec.option, spec.process, spec.s0))
        variance = max(variance - slope * common, 0.0)
    scale = spec.s0 * math.exp(-spec.rate * spec.option.steps)
    return Price(scale * mean, scale * math.sqrt(variance / n))


def _batch(spec: OptionSpec, blocks: range) -> PriceSums:
    streams = [block_stream(spec.seed, block) for block in blocks]
    draws = draw_blocks(spec.model, streams, spec.option.steps, spec.antithetic)
    used = min(len(blocks) * BLOCK, spec.paths - blocks[0] * BLOCK)
    path = evolve(spec.process, draws)[:, :used]
    paid = _observations(spec, payoff(spec.option, path, spec.s0))
    if not spec.uses_control:
        return _sums(paid, used * spec.option.steps)
    steady = _observations(spec, control(spec.option, path, spec.s0))
    total, square, product = row_sums(np.stack([steady, steady * steady, paid * steady]))
    plain = _sums(paid, used * spec.option.steps)
    return replace(plain, control=total, control_square=square, product=product)


def _observations(spec: OptionSpec, values: FloatArray) -> FloatArray:
    return (values[::2] + values[1::2]) * 0.5 if spec.antithetic else values


def _replicate(spec: OptionSpec, block: int) -> PriceSums:
    process = spec.process
    assert isinstance(process, GBM)
    steps, total = spec.option.steps, 0
    for normals in sobol_normals(steps, spec.points, spec.seed, block):
        walk = brownian_bridge(normals.T)
        np.multiply(walk, process.volatility, out=walk)
        walk += process.drift * np.arange(1.0, steps + 1.0)[:, None]
        total += row_sums(payoff(spec.option, walk, spec.s0)[None, :])[0]
    return _sums(np.array([total / spec.points * UNIT]), spec.points * steps)


def _sums(paid: FloatArray, path_steps: int) -> PriceSums:
    total, square = row_sums(np.stack([paid, paid * paid]))
    return PriceSums(paid.size, path_steps, total, square)


def _covariance(n: int, products: int, sums: int) -> float:
    return (n * products - sums) / (n * (n - 1)) * UNIT * UNIT
