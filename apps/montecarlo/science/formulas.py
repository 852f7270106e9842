"""Closed formulas for options under a geometric Brownian motion: they check the simulated prices and steady them."""

from __future__ import annotations

import math
from typing import NamedTuple

from apps.montecarlo.science.models import GBM
from apps.montecarlo.science.options import Option


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


class Greeks(NamedTuple):
    """Sensitivities of a price, in currency.

    Parameters
    ----------
    delta, gamma : float
        First and second derivative by the price of the asset.
    vega, rho : float
        Derivatives by volatility and interest, for a change of 1.00 a year.
    theta : float
        Change of the price with the passing of a year.
    """

    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float


def black_scholes_greeks(
    right: str, s0: float, strike: float, rate: float, dividend: float, volatility: float, years: float
) -> Greeks:
    """Return the sensitivities of a European option; parameters as for ``black_scholes``, with a dividend yield.

    Notes
    -----
    Hull, "Options, Futures, and Other Derivatives" (10th ed.), chapter 19.
    """
    sign = 1.0 if right == "call" else -1.0
    root = volatility * math.sqrt(years)
    d1 = (math.log(s0 / strike) + (rate - dividend) * years) / root + root / 2.0
    d2 = d1 - root
    kept, owed = s0 * math.exp(-dividend * years), strike * math.exp(-rate * years)
    density = math.exp(-d1 * d1 / 2.0) / math.sqrt(2.0 * math.pi)
    decay = sign * (dividend * kept * _normal_cdf(sign * d1) - rate * owed * _normal_cdf(sign * d2))
    return Greeks(
        delta=sign * kept / s0 * _normal_cdf(sign * d1),
        gamma=kept / s0 * density / (s0 * root),
        vega=kept * density * math.sqrt(years),
        theta=decay - kept * density * volatility / (2.0 * math.sqrt(years)),
        rho=sign * owed * years * _normal_cdf(sign * d2),
    )


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2.0))
