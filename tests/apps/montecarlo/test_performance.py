from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from apps.montecarlo.science.performance import Fall, deepest_falls, performance, rolling_volatility, underwater

PRICES = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(3e-4, 0.012, 800)))


def test_ratios_follow_their_definitions() -> None:
    returns = pd.Series(PRICES).pct_change().dropna()

    found = performance(PRICES, 252)

    assert found.sharpe == pytest.approx(returns.mean() / returns.std() * math.sqrt(252))
    downside = math.sqrt((returns[returns < 0] ** 2).sum() / len(returns))
    assert found.sortino == pytest.approx(returns.mean() / downside * math.sqrt(252))
    assert found.growth == pytest.approx((PRICES[-1] / PRICES[0]) ** (252 / 799) - 1)
    assert found.best == (pytest.approx(returns.max()), int(returns.idxmax()))
    assert found.worst == (pytest.approx(returns.min()), int(returns.idxmin()))
    assert found.rising == pytest.approx((returns > 0).mean())


def test_shape_is_that_of_scipy() -> None:
    logs = np.diff(np.log(PRICES))

    found = performance(PRICES, 252)

    assert found.skewness == pytest.approx(stats.skew(logs))
    assert found.kurtosis == pytest.approx(stats.kurtosis(logs))
    assert found.volatility == pytest.approx(np.std(logs, ddof=1) * math.sqrt(252))


def test_the_error_of_the_sharpe_ratio_is_its_spread_over_samples() -> None:
    rng = np.random.default_rng(4)
    runs = [performance(100 * np.exp(np.cumsum(rng.normal(5e-4, 0.01, 500))), 252) for _ in range(300)]

    spread = np.std([run.sharpe for run in runs], ddof=1)

    assert np.mean([run.sharpe_se for run in runs]) == pytest.approx(spread, rel=0.15)


def test_falls_are_named_by_peak_trough_and_recovery_deepest_first() -> None:
    prices = np.array([10.0, 12.0, 9.0, 11.0, 12.0, 13.0, 12.5, 13.0, 14.0, 7.0, 8.0])

    assert deepest_falls(prices) == (Fall(0.5, 8, 9, None), Fall(0.25, 1, 2, 4), Fall(pytest.approx(0.5 / 13), 5, 6, 7))
    assert underwater(prices)[[0, 2, 9]].tolist() == [0.0, 0.25, 0.5]


def test_prices_that_only_rise_have_no_falls_and_no_sortino_ratio() -> None:
    found = performance(np.array([1.0, 2.0, 3.0, 5.0]), 252)

    assert found.falls == ()
    assert math.isnan(found.sortino)


def test_prices_that_never_change_have_no_ratio() -> None:
    found = performance(np.full(40, 5.0), 252)

    assert math.isnan(found.sharpe)
    assert math.isnan(found.skewness)
    assert found.volatility == 0.0


def test_prices_that_grow_by_one_share_at_each_step_have_no_ratio() -> None:
    found = performance(100.0 * 1.001 ** np.arange(300.0), 252.0)

    assert math.isnan(found.sharpe)
    assert math.isnan(found.skewness)
    assert found.growth == pytest.approx(1.001**252 - 1.0)


def test_rolling_volatility_is_that_of_pandas() -> None:
    logs = pd.Series(np.diff(np.log(PRICES)))

    found = rolling_volatility(PRICES, 63, 252)

    assert found == pytest.approx(logs.rolling(63).std().dropna().to_numpy() * math.sqrt(252))
    assert rolling_volatility(PRICES[:20], 63, 252).size == 0
