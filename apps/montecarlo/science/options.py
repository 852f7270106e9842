"""Option contracts, the record of a pricing job, and pay-offs on simulated paths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apps.montecarlo.science.blocks import BLOCK, MAX_DIMENSIONS, REPLICATES
from apps.montecarlo.science.histograms import exponential
from apps.montecarlo.science.models import GBM, FloatArray, Heston, Merton

KINDS = ("european", "asian", "barrier", "american")
RIGHTS = ("call", "put")
BARRIERS = ("up-and-out", "up-and-in", "down-and-out", "down-and-in")
METHODS = ("plain", "antithetic", "control", "antithetic+control", "sobol")
MAX_STEPS = 25_200


@dataclass(frozen=True)
class Option:
    """A contract on one asset, settled after `steps` equal steps.

    Parameters
    ----------
    kind : {"european", "asian", "barrier", "american"}
        Asian pays on the arithmetic mean of the prices at all steps; a barrier is looked at, and an American option may
        be exercised, once a step, at its end.
    right : {"call", "put"}
        The right to buy or to sell.
    strike : float
        In currency.
    steps : int
        Monitoring dates until expiry; a European option needs but one.
    barrier : float
        Price of the barrier, in currency; for barrier options only.
    barrier_type : str
        One of `BARRIERS`; for barrier options only.

    Raises
    ------
    ValueError
        A value is out of range, or a barrier is missing or too many.
    """

    kind: str
    right: str
    strike: float
    steps: int
    barrier: float = 0.0
    barrier_type: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no option {self.kind!r}; choose from {', '.join(KINDS)}")
        if self.right not in RIGHTS:
            raise ValueError(f"an option is a call or a put, not {self.right!r}")
        if not 0.0 < self.strike < math.inf:
            raise ValueError(f"the strike must be positive and finite, not {self.strike}")
        if self.steps < 1:
            raise ValueError(f"an option needs at least one step to expiry, not {self.steps}")
        if self.kind == "barrier":
            if self.barrier_type not in BARRIERS:
                raise ValueError(f"there is no barrier {self.barrier_type!r}; choose from {', '.join(BARRIERS)}")
            if not 0.0 < self.barrier < math.inf:
                raise ValueError(f"the barrier must be a positive price, not {self.barrier}")
        elif self.barrier or self.barrier_type:
            raise ValueError(f"a barrier has no meaning for a {self.kind} option; use kind barrier")

    @property
    def upward(self) -> bool:
        """Whether the barrier lies above the price."""
        return self.barrier_type.startswith("up")

    def crossed(self, price: float) -> bool:
        """Tell whether a price lies at or beyond the barrier, if there is one."""
        return self.kind == "barrier" and (price >= self.barrier if self.upward else price <= self.barrier)


def risk_neutral(model: GBM | Merton | Heston, carry: float) -> GBM | Merton | Heston:
    """Replace the drift so that the expected price grows by `carry`.

    Parameters
    ----------
    model : GBM, Merton or Heston
        A model per step.
    carry : float
        Interest less dividends per step, continuously compounded.

    Returns
    -------
    GBM, Merton or Heston
        The same shocks; exact for the simulated steps, not only as they become short.
    """
    match model:
        case GBM():
            return GBM(carry - model.volatility**2 / 2.0, model.volatility)
        case Merton():
            jump = model.jump_rate * math.expm1(model.jump_mean + model.jump_std**2 / 2.0)
            drift = carry - model.volatility**2 / 2.0 - jump
            return Merton(drift, model.volatility, model.jump_rate, model.jump_mean, model.jump_std)
        case Heston():
            drift = carry - model.theta / 2.0
            return Heston(drift, model.kappa, model.theta, model.xi, model.rho, model.v0)


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
    policy : tuple of tuple of float, shape (steps - 1, degree + 1)
        When an American option is exercised; see `apps.montecarlo.science.american`. Empty until it is fitted.

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
    policy: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.model, GBM | Merton | Heston):
            raise ValueError("options are priced under a gbm, merton or heston model")
        if not 0.0 < self.s0 < math.inf:
            raise ValueError(f"the initial price must be positive and finite, not {self.s0}")
        if self.paths < 2 or self.seed < 0:
            raise ValueError("paths must be at least 2 and the seed not negative")
        if self.option.crossed(self.s0):
            raise ValueError(
                f"a price of {self.s0:g} is at or beyond the barrier of {self.option.barrier:g} already: "
                f"{self.option.barrier_type} is settled"
            )
        if self.option.steps > MAX_STEPS:
            raise ValueError(f"an option has at most {MAX_STEPS} steps, not {self.option.steps}")
        if self.method not in METHODS:
            raise ValueError(f"there is no method {self.method!r}; choose from {', '.join(METHODS)}")
        if not isinstance(self.model, GBM) and (self.uses_control or self.method == "sobol"):
            raise ValueError(f"method {self.method} is for the gbm model alone, not for {self.model.name}")
        if self.antithetic and self.paths % 2:
            raise ValueError("antithetic paths come in pairs: ask for an even number")
        if self.antithetic and self.paths < 4:
            raise ValueError("one antithetic pair has no standard error: ask for 4 paths at least")
        if self.method == "sobol" and self.option.kind == "american":
            raise ValueError("method sobol is not for American exercise; use antithetic+control")
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


class Settled(NamedTuple):
    """What of its paths an option settled at expiry looks at; pay-offs from any initial price follow from it.

    Parameters
    ----------
    price : ndarray of float64, shape (paths,)
        Price at expiry, or its mean over the steps for an Asian option, over the initial price.
    extreme : ndarray of float64, shape (paths,), or None
        Log of the highest or lowest price over the initial one, for a barrier above or below.
    """

    price: FloatArray
    extreme: FloatArray | None


def settled(option: Option, path: FloatArray) -> Settled:
    """Reduce paths of shape (steps, paths), log of price over initial price, to what the option looks at."""
    if option.kind == "asian":
        return Settled(exponential(path).mean(axis=0), None)
    if option.kind != "barrier":
        return Settled(exponential(path[-1]), None)
    return Settled(exponential(path[-1]), path.max(axis=0) if option.upward else path.min(axis=0))


def payoff(option: Option, seen: Settled, s0: float) -> FloatArray:
    """Compute the pay-off at expiry of each path, in units of the initial price `s0`: shape (paths,)."""
    paid = exercised(option, seen.price, s0)
    return paid if seen.extreme is None else paid * _alive(option, seen.extreme, s0)


def control(option: Option, path: FloatArray, s0: float) -> FloatArray:
    """Compute a pay-off of known price that moves with the option's: shape (paths,), in units of `s0`.

    The price itself for a European option, the option on the geometric mean for an Asian one, the European option for a
    barrier and for American exercise.
    """
    if option.kind == "european":
        return exponential(path[-1])
    if option.kind == "asian":
        return exercised(option, exponential(path.mean(axis=0)), s0)
    return exercised(option, exponential(path[-1]), s0)


def exercised(option: Option, price: FloatArray, s0: float) -> FloatArray:
    """Compute what exercising pays at a price over `s0`, in units of `s0`."""
    gain = price - option.strike / s0 if option.right == "call" else option.strike / s0 - price
    return np.asarray(np.maximum(gain, 0.0), dtype=np.float64)


def _alive(option: Option, extreme: FloatArray, s0: float) -> FloatArray:
    distance = math.log(option.barrier / s0)
    touched = extreme >= distance if option.upward else extreme <= distance
    return np.asarray(touched if option.barrier_type.endswith("in") else ~touched, dtype=np.float64)
