"""Backtests: whether past prices came where forecasts made at the time said they would.

History is cut into windows that do not overlap. Before each, a model is calibrated on what was known then; the price at
the window's end is compared with the forecast's distribution. The value at risk of one step is forecast for every one
of the latest steps, and losses beyond it are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from apps.montecarlo.science.calibration import MIN_RETURNS, calibrate, log_returns
from apps.montecarlo.science.coverage import VarTest, kupiec_p, uniform_ks, var_test
from apps.montecarlo.science.fitting import brought_to_date
from apps.montecarlo.science.histograms import BINS
from apps.montecarlo.science.models import GBM, FloatArray, Model
from apps.montecarlo.science.recording import TIE, Recorder
from apps.montecarlo.science.simulation import observed_batches, planned, simulate_blocks
from apps.montecarlo.science.spec import SimulationSpec
from apps.montecarlo.science.summary import Summary

NOMINAL = (0.5, 0.8, 0.9, 0.95)
"""Central intervals whose coverage is checked."""


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
        Share of the forecast below the realised price, and half of that at the very price, as where prices stand
        still; uniform when forecasts are right.
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
    calibrated = calibrate(model, log_returns(_known(prices, start, history)))
    spec = _spec(calibrated, prices, start, horizon, forecasts, seed)
    realised = float(prices[start + horizon])
    recorder, twice_below = Recorder(spec), 0
    for observed in observed_batches(spec, 0, spec.n_blocks):
        recorder.add(observed)
        distance = observed.at[-1] - math.log(realised / spec.s0)
        twice_below += int(np.count_nonzero(distance < -TIE) + np.count_nonzero(distance <= TIE))
    return WindowResult(start, realised, recorder.finish().quantile(horizon, 0.5), twice_below / (2 * forecasts))


def _known(prices: FloatArray, start: int, history: int | None) -> FloatArray:
    return prices[: start + 1] if history is None else prices[max(0, start - history) : start + 1]


def _spec(model: Model, prices: FloatArray, start: int, horizon: int, forecasts: int, seed: int) -> SimulationSpec:
    # The window's row is part of the seed: streams of one seed would make all windows err alike.
    own_seed = int(np.random.SeedSequence((seed, start)).generate_state(1, np.uint64)[0])
    return planned(SimulationSpec(
        model, float(prices[start]), horizon, forecasts, own_seed, (horizon,), drawdown=False,
        exact=isinstance(model, GBM),
    ))  # fmt: skip


class VarForecast(NamedTuple):
    """The value at risk forecast for one step, and what came.

    Parameters
    ----------
    start : int
        Row of the last price that the forecast knew.
    loss : float
        What the step lost, as a fraction of the price before it; negative is a gain.
    var : tuple of float
        Value at risk at each confidence, as such a fraction.
    """

    start: int
    loss: float
    var: tuple[float, ...]


def var_starts(prices: int, days: int, min_history: int) -> range:
    """Return the rows of the last known price before each of the latest `days` steps, or as many as there are."""
    return range(max(min_history, prices - 1 - days), prices - 1)


def var_forecasts(
    prices: FloatArray, starts: Sequence[int], *, model: str, confidence: Sequence[float], refit: int,
    history: int | None = None, forecasts: int = 10_000, seed: int = 0,
) -> list[VarForecast]:  # fmt: skip
    """Forecast the value at risk of steps that follow each other.

    Parameters
    ----------
    prices : ndarray of float64, shape (n,)
        All prices, oldest first.
    starts : sequence of int
        Rows of the last known prices, each one after the other.
    model : str
        Name of a model for one asset.
    confidence : sequence of float
        Confidence levels.
    refit : int
        Steps between calibrations, the first of them at the first start; in between the model's parameters stay and its
        state (the variance of today) follows the prices.
    history, forecasts, seed : int
        As for ``backtest_window``.
    """
    results = []
    calibrated: Model | None = None
    for number, start in enumerate(starts):
        returns = log_returns(_known(prices, start, history))
        if calibrated is None or number % refit == 0:
            calibrated = calibrate(model, returns)
        spec = _spec(brought_to_date(calibrated, returns), prices, start, 1, forecasts, seed)
        summary = simulate_blocks(spec, 0, spec.n_blocks)
        loss = 1.0 - float(prices[start + 1] / prices[start])
        results.append(VarForecast(start, loss, tuple(_var(summary, level, loss) for level in confidence)))
    return results


def _var(summary: Summary, level: float, loss: float) -> float:
    """Return the value at risk; where many forecasts lose the same, and the step did too, that very loss.

    Histograms know a value to within a bin, and a loss equal to the value at risk is none beyond it.
    """
    var = summary.var_es(1, level).var
    width = (summary.bounds[0][1] - summary.bounds[0][0]) / BINS
    return loss if summary.atom(1, 1.0 - level) and abs(var - loss) <= width else var


def var_tests(days: Sequence[VarForecast], confidence: Sequence[float]) -> tuple[VarTest, ...]:
    """Count and test the losses beyond the value at risk at each confidence, `days` being in order of time."""
    losses = np.array([day.loss for day in days])
    return tuple(
        var_test(losses > np.array([day.var[column] for day in days]), level) for column, level in enumerate(confidence)
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
