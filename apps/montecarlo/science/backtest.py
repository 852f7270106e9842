"""Backtests: whether past prices came where forecasts made at the time said they would.

History is cut into windows that do not overlap. Before each, a model is calibrated on what was known then; the price at
the window's end is compared with the forecast's distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apps.montecarlo.science.calibration import MIN_RETURNS, calibrate, log_returns
from apps.montecarlo.science.models import GBM, FloatArray
from apps.montecarlo.science.simulation import planned, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec

NOMINAL = (0.5, 0.8, 0.9, 0.95)
"""Central intervals whose coverage is checked."""
KOLMOGOROV_TERMS = 100


class WindowResult(NamedTuple):
    """One held-out window.

    Parameters
    ----------
    start : int
        Row of the last price that the forecast knew.
    realised : float
        Price at the window's end, in currency.
    median : float
        Median of the forecast, in currency.
    pit : float
        Share of the forecast below the realised price; uniform when forecasts are right.
    """

    start: int
    realised: float
    median: float
    pit: float


@dataclass(frozen=True)
class Coverage:
    """How often a nominal interval held the realised price.

    Parameters
    ----------
    nominal : float
        What the interval promises.
    hits, windows : int
        Windows inside it, and windows in all.
    kupiec_p : float
        p-value of Kupiec's likelihood-ratio test that the true coverage is the nominal one.
    """

    nominal: float
    hits: int
    windows: int
    kupiec_p: float

    @property
    def share(self) -> float:
        """Observed coverage."""
        return self.hits / self.windows

    @property
    def se(self) -> float:
        """Standard error of the observed coverage if the nominal one is true."""
        return math.sqrt(self.nominal * (1.0 - self.nominal) / self.windows)


@dataclass(frozen=True)
class BacktestReport:
    """All windows of a backtest: coverages, and the Kolmogorov-Smirnov test that `pit` values are uniform."""

    windows: tuple[WindowResult, ...]
    coverages: tuple[Coverage, ...]
    ks_distance: float
    ks_p: float


def window_starts(prices: int, horizon: int, min_history: int) -> tuple[int, ...]:
    """Lay out disjoint windows so that the last one ends with the last price.

    Parameters
    ----------
    prices : int
        Number of prices.
    horizon : int
        Days of a window.
    min_history : int
        Log returns that must be known before the first window.

    Returns
    -------
    tuple of int
        Ascending rows of the last known price before each window.

    Raises
    ------
    ValueError
        Not even one window fits.
    """
    if horizon < 1 or min_history < MIN_RETURNS:
        raise ValueError(f"a backtest needs a horizon of at least 1 day and a history of at least {MIN_RETURNS}")
    starts = tuple(range(prices - 1 - horizon, min_history - 1, -horizon))[::-1]
    if not starts:
        raise ValueError(f"{prices} prices hold no window of {horizon} days after {min_history} days of history")
    return starts


def backtest_window(
    prices: FloatArray, start: int, horizon: int, *, model: str = "gbm", history: int | None = None,
    forecasts: int = 10_000, seed: int = 0,
) -> WindowResult:  # fmt: skip
    """Forecast one held-out window with what was known at its start.

    Parameters
    ----------
    prices : ndarray of float64, shape (n,)
        All prices, oldest first; those after ``start`` serve for nothing but the comparison.
    start : int
        Row of the last known price.
    horizon : int
        Days ahead.
    model : str
        Name of a model for one asset.
    history : int, optional
        Log returns to calibrate on, just before the window; all without it.
    forecasts, seed : int
        Size and seed of the simulation; each window has a stream of its own.

    Returns
    -------
    WindowResult
    """
    known = prices[: start + 1] if history is None else prices[max(0, start - history) : start + 1]
    calibrated = calibrate(model, log_returns(known))
    s0, realised = float(prices[start]), float(prices[start + horizon])
    # The window's row is part of the seed: streams of one seed would make all windows err alike.
    own_seed = int(np.random.SeedSequence((seed, start)).generate_state(1, np.uint64)[0])
    spec = SimulationSpec(
        calibrated, s0, horizon, forecasts, own_seed, (horizon,), drawdown=False, exact=isinstance(calibrated, GBM)
    )
    summary = simulate_blocks(planned(spec), 0, spec.n_blocks)
    return WindowResult(
        start, realised, summary.quantile(horizon, 0.5), summary.probability_below(horizon, realised)[0]
    )


def summarise(windows: Sequence[WindowResult], nominal: Sequence[float] = NOMINAL) -> BacktestReport:
    """Count coverages over all windows and test them.

    Parameters
    ----------
    windows : sequence of WindowResult
        At least one, in any order.
    nominal : sequence of float
        Central intervals.

    Returns
    -------
    BacktestReport

    Raises
    ------
    ValueError
        There is no window.
    """
    if not windows:
        raise ValueError("there is no window to summarise")
    ordered = tuple(sorted(windows))
    pits = np.array([window.pit for window in ordered])
    coverages = []
    for level in nominal:
        hits = int(np.count_nonzero(np.abs(pits - 0.5) <= level / 2.0))
        coverages.append(Coverage(level, hits, pits.size, kupiec_p(hits, pits.size, level)))
    distance, p = uniform_ks(pits)
    return BacktestReport(ordered, tuple(coverages), distance, p)


def kupiec_p(hits: int, windows: int, nominal: float) -> float:
    """Test that `hits` of `windows` agree with a coverage of `nominal`, and return the p-value.

    Notes
    -----
    Kupiec, "Techniques for verifying the accuracy of risk measurement models", J. Derivatives 3 (1995): a likelihood
    ratio, chi-squared with one degree of freedom.
    """
    misses = windows - hits

    def log_likelihood(p: float) -> float:
        inside = hits * math.log(p) if hits else 0.0
        return inside + (misses * math.log1p(-p) if misses else 0.0)

    ratio = 2.0 * (log_likelihood(hits / windows) - log_likelihood(nominal))
    return math.erfc(math.sqrt(max(ratio, 0.0) / 2.0))


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
