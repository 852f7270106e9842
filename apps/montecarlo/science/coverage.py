"""Tests of promised coverage: whether exceptions are as many as promised, and whether they come singly.

Chi-squared tail probabilities with one and two degrees of freedom are written out, so that scipy need not be loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.montecarlo.science.models import FloatArray

KOLMOGOROV_TERMS = 100
YELLOW, RED = 0.95, 0.9999
"""Cumulative probabilities at which the yellow and the red zone begin: Basel Committee on Banking Supervision,
"Supervisory framework for the use of backtesting" (1996), section III."""
BASEL_DAYS = 250
BASEL_CONFIDENCE = 0.99
BASEL_PLUS_FACTORS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.40, 0.50, 0.65, 0.75, 0.85, 1.0)
"""Increase of the capital multiplier by exceptions in 250 days at 99%, the last for ten and more: table 2 there."""


@dataclass(frozen=True)
class VarTest:
    """How often losses went beyond a value at risk, and what follows.

    Parameters
    ----------
    confidence : float
        Of the value at risk.
    days, exceptions : int
        Forecasts in all, and those whose loss was larger.
    kupiec_p : float
        p-value of the test that exceptions are as frequent as promised.
    independence_p : float
        p-value of Christoffersen's test that an exception is no likelier after an exception; NaN without exceptions.
    conditional_p : float
        p-value of both at once (conditional coverage); NaN without exceptions.
    zone : {"green", "yellow", "red"}
        The traffic light of the latest `zone_days` forecasts.
    zone_days, zone_exceptions : int
        What it looked at: 250 days, or all where there are fewer.
    """

    confidence: float
    days: int
    exceptions: int
    kupiec_p: float
    independence_p: float
    conditional_p: float
    zone: str
    zone_days: int
    zone_exceptions: int

    @property
    def expected(self) -> float:
        """Exceptions promised on average."""
        return (1.0 - self.confidence) * self.days

    @property
    def plus_factor(self) -> float | None:
        """Increase of the capital multiplier; known for 250 days at 99% alone."""
        if self.zone_days != BASEL_DAYS or self.confidence != BASEL_CONFIDENCE:
            return None
        return BASEL_PLUS_FACTORS[min(self.zone_exceptions, len(BASEL_PLUS_FACTORS) - 1)]


def var_test(exceptions: NDArray[np.bool_], confidence: float) -> VarTest:
    """Test a series of value-at-risk forecasts.

    Parameters
    ----------
    exceptions : ndarray of bool, shape (days,)
        Whether the loss was larger than forecast, in order of time.
    confidence : float
        What was promised.
    """
    days, count = exceptions.size, int(np.count_nonzero(exceptions))
    frequency = likelihood_ratio(days - count, count, 1.0 - confidence)
    clustering = independence_ratio(exceptions)
    latest = exceptions[-BASEL_DAYS:]
    recent = int(np.count_nonzero(latest))
    return VarTest(
        confidence=confidence,
        days=days,
        exceptions=count,
        kupiec_p=chi_squared_tail(frequency, 1),
        independence_p=math.nan if clustering is None else chi_squared_tail(clustering, 1),
        conditional_p=math.nan if clustering is None else chi_squared_tail(frequency + clustering, 2),
        zone=traffic_light(recent, latest.size, confidence),
        zone_days=latest.size,
        zone_exceptions=recent,
    )


def kupiec_p(hits: int, windows: int, nominal: float) -> float:
    """Test that `hits` of `windows` agree with a coverage of `nominal`, and return the p-value.

    Notes
    -----
    Kupiec, "Techniques for verifying the accuracy of risk measurement models", J. Derivatives 3 (1995).
    """
    return chi_squared_tail(likelihood_ratio(hits, windows - hits, 1.0 - nominal), 1)


def likelihood_ratio(hits: int, misses: int, promised: float) -> float:
    """Compare the observed share of misses with the promised one: chi-squared with one degree of freedom (Kupiec)."""
    observed = misses / (hits + misses)
    return max(2.0 * (_log_likelihood(hits, misses, observed) - _log_likelihood(hits, misses, promised)), 0.0)


def independence_ratio(exceptions: NDArray[np.bool_]) -> float | None:
    """Compare how likely an exception is after an exception and after none; None where there is nothing to compare.

    Chi-squared with one degree of freedom.

    Notes
    -----
    Christoffersen, "Evaluating interval forecasts", International Economic Review 39 (1998).
    """
    before, after = exceptions[:-1], exceptions[1:]
    calm_calm, calm_hit = int(np.count_nonzero(~before & ~after)), int(np.count_nonzero(~before & after))
    hit_calm, hit_hit = int(np.count_nonzero(before & ~after)), int(np.count_nonzero(before & after))
    if not calm_calm + calm_hit or not hit_calm + hit_hit:
        return None
    together = _log_likelihood(calm_calm + hit_calm, calm_hit + hit_hit, (calm_hit + hit_hit) / before.size)
    after_calm = _log_likelihood(calm_calm, calm_hit, calm_hit / (calm_calm + calm_hit))
    after_hit = _log_likelihood(hit_calm, hit_hit, hit_hit / (hit_calm + hit_hit))
    return max(2.0 * (after_calm + after_hit - together), 0.0)


def chi_squared_tail(value: float, degrees: int) -> float:
    """Return the chance that a chi-squared number with one or two degrees of freedom exceeds `value`."""
    return math.erfc(math.sqrt(value / 2.0)) if degrees == 1 else math.exp(-value / 2.0)


def traffic_light(exceptions: int, days: int, confidence: float) -> str:
    """Return the zone of a number of exceptions: green, yellow or red.

    For 250 days at 99% yellow begins with five exceptions and red with ten.
    """
    chance = binomial_cdf(exceptions, days, 1.0 - confidence)
    return "red" if chance >= RED else "yellow" if chance >= YELLOW else "green"


def binomial_cdf(most: int, trials: int, chance: float) -> float:
    """Return the probability of at most so many successes."""
    log_terms = (
        math.lgamma(trials + 1.0) - math.lgamma(k + 1.0) - math.lgamma(trials - k + 1.0)
        + k * math.log(chance) + (trials - k) * math.log1p(-chance)
        for k in range(most + 1)
    )  # fmt: skip
    return min(math.fsum(map(math.exp, log_terms)), 1.0)


def uniform_ks(values: FloatArray) -> tuple[float, float]:
    """Test values against the uniform law: distance of Kolmogorov and Smirnov, and its asymptotic p-value."""
    ordered, n = np.sort(values), values.size
    steps = np.arange(n + 1) / n
    distance = float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))
    # Stephens, J. Royal Statistical Society B 32 (1970): this scaling makes the limit law good from a few values on.
    scaled = distance * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n))
    if scaled < 0.2:
        return distance, 1.0
    terms = range(1, KOLMOGOROV_TERMS + 1)
    p = 2.0 * sum((-1.0) ** (k - 1) * math.exp(-2.0 * k * k * scaled * scaled) for k in terms)
    return distance, min(max(p, 0.0), 1.0)


def _log_likelihood(hits: int, misses: int, chance_of_miss: float) -> float:
    inside = hits * math.log1p(-chance_of_miss) if hits else 0.0
    return inside + (misses * math.log(chance_of_miss) if misses else 0.0)
