"""The record of a simulation job, checked when it is made, and what it asks of a worker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from apps.montecarlo.science.blocks import BLOCK, assets
from apps.montecarlo.science.kernels import mirror
from apps.montecarlo.science.models import (
    GBM,
    Bachelier,
    Bootstrap,
    GjrGarchFhs,
    Heston,
    Merton,
    Model,
    PortfolioBootstrap,
    PortfolioGBM,
    StudentT,
)

MAX_DAYS = 25_200
"""100 years of 252 trading days; longer paths would no longer keep a worker's memory small."""
MAX_ASSET_DAYS = 100_000
"""The same for portfolios: one block of as many normals takes 51 MB."""
NUMBA_STEPS = 2_000_000_000
"""Path-steps from which numba saves more than compiling its kernel costs a handful of workers, 3 s each. Once cached it
would be repaid sooner, but whether a worker elsewhere has it cached is not known where a job is planned."""
PILOT_STREAM = (1 << 32) - 1
"""Number of the stream that plans the histogram ranges; no block has it."""


@dataclass(frozen=True, eq=False)
class SimulationSpec:
    """Everything a worker needs to simulate any block of a job; small and picklable.

    Parameters
    ----------
    model : Model
        The price model.
    s0 : float
        Last known price, or initial value of the portfolio, in currency.
    days, forecasts, seed : int
        Length and number of paths, and the job's seed (not negative).
    horizons : tuple of int
        Days whose distribution is kept; ascending, the last one is `days`.
    levels : tuple of float
        Prices whose chance of being touched at a day's close is wanted; none equals `s0`.
    drawdown : bool
        Whether to follow drawdowns.
    exact : bool
        Draw a GBM at the horizons alone, without the days between; only without `levels` and `drawdown`.
    antithetic : bool
        Make every second path the mirror image of the one before it.
    engine : {"auto", "numpy", "numba"}
        What runs the daily loop. It never changes a result; ``auto`` takes numba where it is installed and the job is
        large enough to repay loading it.
    bounds : tuple of (float, float)
        Range of the histogram of each horizon, in log of price over `s0`; empty until they are planned.
    drawdown_bound : float
        Upper end of the drawdown histogram, in log price; 0 until it is planned.

    Raises
    ------
    ValueError
        A value is out of range or two exclude each other; the message says which.
    """

    model: Model
    s0: float
    days: int
    forecasts: int
    seed: int
    horizons: tuple[int, ...]
    levels: tuple[float, ...] = ()
    drawdown: bool = True
    exact: bool = False
    antithetic: bool = False
    engine: str = "auto"
    bounds: tuple[tuple[float, float], ...] = ()
    drawdown_bound: float = 0.0

    def __post_init__(self) -> None:
        # Plain floats print alike everywhere, which the digest of a summary needs.
        object.__setattr__(self, "s0", float(self.s0))
        object.__setattr__(self, "levels", tuple(float(level) for level in self.levels))
        self._check_size()
        self._check_methods()

    def _check_size(self) -> None:
        if self.additive and (self.s0 == 0.0 or not math.isfinite(self.s0)):
            raise ValueError(f"the initial price must be finite and other than 0, not {self.s0}")
        if not self.additive and not 0.0 < self.s0 < math.inf:
            raise ValueError(f"the initial price must be positive and finite, not {self.s0}")
        if not 1 <= self.days <= MAX_DAYS:
            raise ValueError(f"days must be between 1 and {MAX_DAYS}, not {self.days}")
        if self.days * assets(self.model) > MAX_ASSET_DAYS:
            longest = MAX_ASSET_DAYS // assets(self.model)
            raise ValueError(f"a portfolio of {assets(self.model)} assets can look at most {longest} days ahead")
        if self.forecasts < 1 or self.seed < 0:
            raise ValueError("forecasts must be at least 1 and the seed not negative")
        if self.n_blocks >= PILOT_STREAM:
            raise ValueError(f"at most {PILOT_STREAM * BLOCK:,} forecasts have a random stream of their own")
        if not self.horizons or list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError("horizons must be ascending days, each once")
        if self.horizons[0] < 1 or self.horizons[-1] != self.days:
            raise ValueError(f"horizons must lie between day 1 and the last day, {self.days}, and end with it")
        lowest = -math.inf if self.additive else 0.0
        if any(not lowest < level < math.inf or level == self.s0 for level in self.levels):
            raise ValueError(f"levels must be {'' if self.additive else 'positive '}prices other than the initial one")

    def _check_methods(self) -> None:
        if self.additive and self.drawdown:
            raise ValueError("a drawdown is a share of the price before it, which means nothing where prices pass zero")
        if self.exact and (self.drawdown or self.levels):
            raise ValueError("exact sampling skips the days between, so it excludes drawdowns and touch levels")
        if self.exact and not isinstance(self.model, GBM):
            raise ValueError(f"exact sampling is known for the gbm model alone, not for {self.model.name}")
        if self.antithetic and self.forecasts % 2:
            raise ValueError("antithetic forecasts come in pairs: ask for an even number")
        if self.antithetic:
            mirror(self.model, (np.zeros((1, 1)),) * 3)
        if self.engine not in ("auto", "numpy", "numba"):
            raise ValueError(f"engine must be auto, numpy or numba, not {self.engine!r}")
        if self.engine == "numba" and not _numba_possible(self):
            raise ValueError(
                "engine numba runs gbm with daily steps and without antithetic pairs alone; use engine auto"
            )
        if self.engine == "numba" and find_spec("numba") is None:
            raise ValueError("engine numba needs numba: pip install 'fanfold[fast]', or use engine auto")

    @property
    def additive(self) -> bool:
        """Whether paths are of the price less the initial one, in currency, instead of the log of their ratio."""
        return isinstance(self.model, Bachelier)

    @property
    def n_blocks(self) -> int:
        """Number of blocks; the last one may be partly used."""
        return -(-self.forecasts // BLOCK)

    @property
    def steps(self) -> int:
        """Steps simulated for one path: its days, or the horizons alone with exact sampling."""
        return len(self.horizons) if self.exact else self.days

    @property
    def path_steps(self) -> int:
        """Steps truly simulated by the whole job."""
        return self.forecasts * self.steps


_NUMPY_NS = {
    GBM: 13.0, Bachelier: 13.0, Bootstrap: 13.0, StudentT: 45.0, Merton: 80.0, GjrGarchFhs: 18.0, Heston: 30.0,
    PortfolioGBM: 25.0, PortfolioBootstrap: 22.0,
}  # fmt: skip
"""CPU nanoseconds of one step as measured on a server's core; for portfolios, of one asset's step."""
_NUMBA_NS = 4.0


def estimate_cpu_seconds(spec: SimulationSpec) -> float:
    """Estimate the CPU time of the whole job on one ordinary core, in seconds, for sizing invocations and plans."""
    if uses_numba(spec):
        return spec.path_steps * _NUMBA_NS * 1e-9
    return spec.path_steps * _NUMPY_NS[type(spec.model)] * assets(spec.model) * 1e-9


def uses_numba(spec: SimulationSpec) -> bool:
    """Tell whether numba will run the job's daily loop here; numpy does otherwise, with the same result."""
    if spec.engine == "numpy" or not _numba_possible(spec):
        return False
    if spec.engine == "auto" and spec.path_steps < NUMBA_STEPS:
        return False
    return find_spec("numba") is not None


def _numba_possible(spec: SimulationSpec) -> bool:
    return isinstance(spec.model, GBM) and not spec.exact and not spec.antithetic
