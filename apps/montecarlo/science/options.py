"""Option contracts, their pay-offs on simulated paths, and the closed formulas that check and steady them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from apps.montecarlo.science.histograms import exponential
from apps.montecarlo.science.models import GBM, FloatArray, Heston, Merton

KINDS = ("european", "asian", "barrier")
RIGHTS = ("call", "put")
BARRIERS = ("up-and-out", "up-and-in", "down-and-out", "down-and-in")


@dataclass(frozen=True)
class Option:
    """A contract on one asset, settled after `steps` equal steps.

    Parameters
    ----------
    kind : {"european", "asian", "barrier"}
        Asian pays on the arithmetic mean of the prices at all steps; a barrier is looked at once a step, at its end.
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


def payoff(option: Option, path: FloatArray, s0: float) -> FloatArray:
    """Compute the pay-off at expiry of each path, in units of `s0`.

    Parameters
    ----------
    option : Option
    path : ndarray of float64, shape (steps, paths)
        Log of price over `s0`.
    s0 : float
        Initial price.

    Returns
    -------
    ndarray of float64, shape (paths,)
    """
    if option.kind == "asian":
        return _exercised(option, exponential(path).mean(axis=0), s0)
    paid = _exercised(option, exponential(path[-1]), s0)
    return paid * _alive(option, path, s0) if option.kind == "barrier" else paid


def control(option: Option, path: FloatArray, s0: float) -> FloatArray:
    """Compute a pay-off of known price that moves with the option's: shape (paths,), in units of `s0`.

    The price itself for a European option, the option on the geometric mean for an Asian one, the European option for a
    barrier.
    """
    if option.kind == "european":
        return exponential(path[-1])
    if option.kind == "asian":
        return _exercised(option, exponential(path.mean(axis=0)), s0)
    return _exercised(option, exponential(path[-1]), s0)


def control_mean(option: Option, model: GBM, s0: float) -> float:
    """Return the expected value of `control` under a GBM with the given drift, undiscounted, in units of `s0`."""
    n = option.steps
    drift, variance = model.drift * n, model.volatility**2 * n
    if option.kind == "european":
        return math.exp(drift + variance / 2.0)
    if option.kind == "asian":
        # Kemna and Vorst, J. Banking and Finance 14 (1990), for n dates: the mean of log prices is normal.
        drift, variance = model.drift * (n + 1) / 2.0, model.volatility**2 * (n + 1) * (2 * n + 1) / (6.0 * n)
    return lognormal_payoff(option.right, option.strike / s0, drift, variance)


def lognormal_payoff(right: str, strike: float, mean: float, variance: float) -> float:
    """Return the expected pay-off on ``exp(N(mean, variance))``: the undiscounted formula of Black and Scholes.

    Parameters
    ----------
    right : {"call", "put"}
    strike : float
    mean, variance : float
        Of the logarithm.

    Returns
    -------
    float
    """
    forward = math.exp(mean + variance / 2.0)
    sign = 1.0 if right == "call" else -1.0
    if variance <= 0.0:
        return max(sign * (forward - strike), 0.0)
    deviation = math.sqrt(variance)
    d1 = (mean - math.log(strike) + variance) / deviation
    return sign * (forward * _normal_cdf(sign * d1) - strike * _normal_cdf(sign * (d1 - deviation)))


def black_scholes(right: str, s0: float, strike: float, rate: float, volatility: float, years: float) -> float:
    """Price a European option without dividends, in currency.

    Parameters
    ----------
    right : {"call", "put"}
    s0, strike : float
        In currency.
    rate, volatility : float
        Per year; the rate continuously compounded.
    years : float
        Time to expiry.

    Returns
    -------
    float

    Notes
    -----
    Black and Scholes, J. Political Economy 81 (1973).
    """
    variance = volatility**2 * years
    expected = lognormal_payoff(right, strike / s0, rate * years - variance / 2.0, variance)
    return s0 * math.exp(-rate * years) * expected


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))


def _exercised(option: Option, price: FloatArray, s0: float) -> FloatArray:
    gain = price - option.strike / s0 if option.right == "call" else option.strike / s0 - price
    return np.asarray(np.maximum(gain, 0.0), dtype=np.float64)


def _alive(option: Option, path: FloatArray, s0: float) -> FloatArray:
    distance = math.log(option.barrier / s0)
    upward = option.barrier_type.startswith("up")
    touched = path.max(axis=0) >= distance if upward else path.min(axis=0) <= distance
    return np.asarray(touched if option.barrier_type.endswith("in") else ~touched, dtype=np.float64)
