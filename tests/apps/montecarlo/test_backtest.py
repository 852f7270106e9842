from __future__ import annotations

import math

import numpy as np
import pytest

from apps.montecarlo.science.backtest import (
    VarForecast,
    WindowResult,
    backtest_window,
    summarise,
    var_forecasts,
    var_starts,
    var_tests,
    window_starts,
)
from apps.montecarlo.science.calibration import calibrate
from apps.montecarlo.science.fitting import brought_to_date
from apps.montecarlo.science.models import FloatArray, GjrGarchFhs, Heston, StudentT


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


def test_a_price_that_many_forecasts_share_counts_half_below_it() -> None:
    steps = np.random.default_rng(1).permutation([0.0] * 100 + [0.01] * 100 + [-0.01] * 100)
    prices = 100.0 * np.exp(np.cumsum(steps))
    start = int(np.flatnonzero(steps[250:] == 0.0)[0]) + 249
    falls, still = (float((np.rint(steps[1 : start + 1] / 0.01) == sign).mean()) for sign in (-1, 0))

    found = backtest_window(prices, start, 1, model="bootstrap", forecasts=20_000)

    assert found.pit == pytest.approx(falls + still / 2, abs=0.01)
    assert backtest_window(np.full(100, 5.0), 60, 20, forecasts=1000).pit == 0.5


def test_a_day_without_a_change_is_no_loss_beyond_the_value_at_risk_of_a_stock_that_hardly_trades() -> None:
    steps = np.random.default_rng(3).permutation([0.0] * 580 + [0.013] * 10 + [-0.017] * 10)
    prices = 100.0 * np.exp(np.cumsum(steps))

    days = var_forecasts(prices, range(300, 599), model="bootstrap", confidence=(0.95,), refit=1, forecasts=2000)

    (test,) = var_tests(days, (0.95,))
    assert test.exceptions == int((steps[301:] < 0.0).sum())


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


def test_nothing_to_summarise_is_refused() -> None:
    with pytest.raises(ValueError, match="no window"):
        summarise([])


def test_the_latest_steps_are_tested_or_as_many_as_the_history_leaves() -> None:
    assert var_starts(1000, 250, 300) == range(749, 999)
    assert var_starts(1000, 900, 300) == range(300, 999)


def test_value_at_risk_holds_its_promise_where_the_model_is_true() -> None:
    prices = walk(2500, seed=4)

    days = var_forecasts(
        prices, var_starts(2500, 2000, 400), model="gbm", confidence=(0.95, 0.99), refit=20, forecasts=2000
    )
    wide, narrow = var_tests(days, (0.95, 0.99))

    assert (wide.days, narrow.days) == (2000, 2000)
    for test in (wide, narrow):
        assert test.kupiec_p > 0.01
        assert test.independence_p > 0.01


def test_the_value_at_risk_of_a_gbm_is_the_normal_one() -> None:
    prices = walk(300)
    returns = np.diff(np.log(prices[:251]))

    (day,) = var_forecasts(prices, [250], model="gbm", confidence=(0.95,), refit=1, forecasts=100_000)

    assert day.var[0] == pytest.approx(1 - math.exp(returns.mean() - 1.644854 * returns.std(ddof=1)), rel=0.02)
    assert day.loss == 1 - prices[251] / prices[250]


def test_a_loss_of_just_the_value_at_risk_is_no_exception() -> None:
    days = [VarForecast(0, 0.02, (0.02,)), VarForecast(1, 0.021, (0.02,)), VarForecast(2, -0.5, (0.02,))]

    assert var_tests(days, (0.95,))[0].exceptions == 1


GARCH = GjrGarchFhs(0.0, 2e-6, 0.02, 0.1, 0.9, 1e-4, np.array([-1.0, 1.0]))
HESTON = Heston(0.0, 0.05, 1e-4, 0.002, -0.5, 1e-4)


@pytest.mark.parametrize("model", [GARCH, HESTON], ids=["gjr-garch", "heston"])
def test_between_calibrations_the_variance_follows_the_prices(model: GjrGarchFhs | Heston) -> None:
    calm = np.tile([0.01, -0.01], 300)
    stormy = np.concatenate([calm, [-0.05, 0.05] * 5])

    quiet, loud = (brought_to_date(model, returns) for returns in (calm, stormy))

    name = "next_variance" if model is GARCH else "v0"
    assert getattr(loud, name) > 4 * getattr(quiet, name)


def test_a_gjr_garch_variance_is_the_recursion_written_out() -> None:
    found = brought_to_date(GARCH, np.array([0.01, -0.02]))

    start = np.array([0.01, -0.02]).var()
    first = 2e-6 + 0.02 * 0.01**2 + 0.9 * start
    assert found.next_variance == pytest.approx(2e-6 + 0.12 * 0.02**2 + 0.9 * first)  # type: ignore[union-attr]


def test_a_model_without_a_state_stays_as_it_was_fitted() -> None:
    model = StudentT(0.0, 0.01, 4.0)

    assert brought_to_date(model, np.ones(30)) is model


def test_a_gjr_garch_model_brought_to_the_day_of_its_fit_has_the_variance_of_the_fit() -> None:
    returns = np.diff(np.log(walk(2000, seed=6)))
    fitted = calibrate("gjr-garch", returns)

    again = brought_to_date(fitted, returns)

    assert again.next_variance == pytest.approx(fitted.next_variance, rel=0.03)  # type: ignore[union-attr]
