from __future__ import annotations

import math

import numpy as np
import pytest

from apps.montecarlo.science.backtest import (
    WindowResult,
    backtest_window,
    kupiec_p,
    summarise,
    uniform_ks,
    window_starts,
)
from apps.montecarlo.science.models import FloatArray


def walk(days: int, seed: int = 1) -> FloatArray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(1e-4, 0.01, days)))


def test_windows_are_disjoint_and_end_with_the_last_price() -> None:
    starts = window_starts(1000, 21, 250)

    assert starts[-1] + 21 == 999
    assert set(np.diff(starts)) == {21}
    assert 250 <= starts[0] < 271


def test_a_history_too_short_for_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="hold no window"):
        window_starts(250, 21, 240)
    with pytest.raises(ValueError, match="at least 29"):
        window_starts(250, 21, 5)


def test_a_forecast_knows_nothing_of_what_comes_after_its_start() -> None:
    prices = walk(300)
    changed = prices.copy()
    changed[251:] *= 3.0

    before, after = backtest_window(prices, 250, 21), backtest_window(changed, 250, 21)

    assert after.median == before.median
    assert after.realised == pytest.approx(3 * before.realised)
    assert after.pit == 1.0


def test_a_forecast_can_be_told_to_look_back_only_so_far() -> None:
    prices = walk(300)
    other = prices.copy()
    other[:100] = walk(100, seed=2)

    assert backtest_window(prices, 250, 21, history=150) == backtest_window(other, 250, 21, history=150)
    assert backtest_window(prices, 250, 21) != backtest_window(other, 250, 21)


def test_windows_with_the_same_past_are_forecast_by_different_paths() -> None:
    prices = 100 + np.tile(np.arange(10.0), 30)

    one, other = (backtest_window(prices, start, 5, history=100, forecasts=1000) for start in (200, 210))

    assert one.realised == other.realised
    assert one.median != other.median


def test_the_probability_integral_is_the_normal_one_for_a_gbm() -> None:
    prices = walk(300)
    returns = np.diff(np.log(prices[:251]))

    found = backtest_window(prices, 250, 21, forecasts=64_000)

    z = (math.log(found.realised / prices[250]) - 21 * returns.mean()) / (returns.std(ddof=1) * math.sqrt(21))
    assert found.pit == pytest.approx(math.erfc(-z / math.sqrt(2)) / 2, abs=0.01)


def test_intervals_hold_their_promise_where_the_model_is_true() -> None:
    prices = walk(6000, seed=3)

    report = summarise([backtest_window(prices, start, 21, forecasts=1000) for start in window_starts(6000, 21, 500)])

    for coverage in report.coverages:
        assert abs(coverage.share - coverage.nominal) < 3 * coverage.se
        assert coverage.kupiec_p > 0.003
    assert report.ks_p > 0.003


def test_forecasts_that_are_too_sure_are_found_out() -> None:
    windows = []
    for seed in range(20):
        prices = walk(522, seed=seed)
        prices[501:] = prices[500] * (prices[501:] / prices[500]) ** 3
        windows.append(backtest_window(prices, 500, 21, forecasts=1000))

    report = summarise(windows)

    ninety = next(coverage for coverage in report.coverages if coverage.nominal == 0.9)
    assert ninety.share < 0.8
    assert ninety.kupiec_p < 0.05


def test_the_report_counts_windows_inside_central_intervals_in_order_of_time() -> None:
    pits = [0.01, 0.06, 0.3, 0.5, 0.97]
    windows = [WindowResult(10 - i, 100.0, 100.0, pit) for i, pit in enumerate(pits)]

    report = summarise(windows, nominal=(0.5, 0.9))

    assert [coverage.hits for coverage in report.coverages] == [2, 3]
    assert [window.start for window in report.windows] == [6, 7, 8, 9, 10]


def test_kupiecs_test_gives_the_published_value() -> None:
    # 17 exceptions in 250 days at 95%: likelihood ratio 1.5401, chi-squared p-value 0.2146.
    assert kupiec_p(233, 250, 0.95) == pytest.approx(0.2146, abs=5e-4)
    assert kupiec_p(95, 100, 0.95) == pytest.approx(1.0)
    assert kupiec_p(100, 100, 0.5) < 1e-20
    assert kupiec_p(0, 100, 0.5) < 1e-20


def test_the_uniform_test_agrees_with_scipy() -> None:
    from scipy.stats import kstest

    values = np.random.default_rng(6).uniform(0, 1, 60) ** 1.3

    distance, p = uniform_ks(values)

    expected = kstest(values, "uniform")
    assert distance == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.01)


def test_evenly_spread_values_are_uniform() -> None:
    assert uniform_ks((np.arange(500) + 0.5) / 500)[1] == 1.0


def test_nothing_to_summarise_is_refused() -> None:
    with pytest.raises(ValueError, match="no window"):
        summarise([])
