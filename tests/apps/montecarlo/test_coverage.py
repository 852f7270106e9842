from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy
from scipy.stats import chi2, kstest

from apps.montecarlo.science.coverage import (
    binomial_cdf,
    chi_squared_tail,
    independence_ratio,
    kupiec_p,
    likelihood_ratio,
    traffic_light,
    uniform_ks,
    var_test,
)


def test_kupiecs_test_gives_the_published_value() -> None:
    # 17 exceptions in 250 days at 95%: likelihood ratio 1.5401, chi-squared p-value 0.2146.
    assert kupiec_p(233, 250, 0.95) == pytest.approx(0.2146, abs=5e-4)
    assert kupiec_p(95, 100, 0.95) == pytest.approx(1.0)
    assert kupiec_p(100, 100, 0.5) < 1e-20
    assert kupiec_p(0, 100, 0.5) < 1e-20


@pytest.mark.parametrize(
    ("confidence", "days", "fewest", "most"),
    [
        (0.99, 255, 0, 6),
        (0.99, 510, 2, 10),
        (0.99, 1000, 5, 16),
        (0.95, 255, 7, 20),
        (0.95, 510, 17, 35),
        (0.95, 1000, 38, 64),
    ],
)
def test_kupiecs_regions_of_acceptance_are_those_of_his_paper(
    confidence: float, days: int, fewest: int, most: int
) -> None:
    accepted = [n for n in range(1, days) if kupiec_p(days - n, days, confidence) > 0.05]

    assert (accepted[0], accepted[-1]) == (max(fewest, 1), most)


def test_christoffersens_test_gives_the_published_value() -> None:
    # Jorion, "Value at Risk" (3rd ed.), 6.2.4: 252 days, 20 exceptions, 6 of which follow one; ratios 3.91 and 9.53.
    exceptions = np.zeros(253, dtype=bool)
    runs = [0] * 14
    runs[:6] = [1] * 6
    at = 1
    for more in runs:
        exceptions[at : at + 1 + more] = True
        at += 2 + more + 10

    assert likelihood_ratio(232, 20, 0.05) == pytest.approx(3.91, abs=0.01)
    assert independence_ratio(exceptions) == pytest.approx(9.53, abs=0.01)


@given(st.lists(st.booleans(), min_size=30, max_size=120), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_ratios_are_those_of_the_likelihoods_written_out(exceptions: list[bool], confidence: float) -> None:

    series = np.array(exceptions)
    count, days = int(series.sum()), series.size
    pairs = np.array([[np.sum((series[:-1] == a) & (series[1:] == b)) for b in (False, True)] for a in (False, True)])

    found = var_test(series, confidence)

    observed = count / days
    frequency = 2 * (
        xlogy(days - count, 1 - observed) + xlogy(count, observed)
        - xlogy(days - count, confidence) - xlogy(count, 1 - confidence)
    )  # fmt: skip
    assert found.kupiec_p == pytest.approx(chi2.sf(frequency, 1), abs=1e-9)
    if pairs.sum(axis=1).all():
        shares = pairs / pairs.sum(axis=1, keepdims=True)
        overall = pairs.sum(axis=0) / pairs.sum()
        clustering = 2 * float((xlogy(pairs, shares) - xlogy(pairs, overall)).sum())
        assert found.independence_p == pytest.approx(chi2.sf(clustering, 1), abs=1e-7)
        assert found.conditional_p == pytest.approx(chi2.sf(frequency + clustering, 2), abs=1e-7)
    else:
        assert math.isnan(found.independence_p)
        assert math.isnan(found.conditional_p)


@pytest.mark.parametrize(
    ("exceptions", "cumulative"),
    [(0, 0.0811), (1, 0.2858), (2, 0.5432), (4, 0.8922), (5, 0.9588), (7, 0.9960), (9, 0.9997)],
)
def test_cumulative_probabilities_are_those_of_the_basel_table(exceptions: int, cumulative: float) -> None:
    assert binomial_cdf(exceptions, 250, 0.01) == pytest.approx(cumulative, abs=5e-5)


@pytest.mark.parametrize(
    ("exceptions", "zone", "plus"),
    [(0, "green", 0.0), (4, "green", 0.0), (5, "yellow", 0.4), (9, "yellow", 0.85), (10, "red", 1.0), (30, "red", 1.0)],
)
def test_zones_and_plus_factors_are_those_of_the_basel_table(exceptions: int, zone: str, plus: float) -> None:
    series = np.zeros(400, dtype=bool)
    series[150 : 150 + exceptions] = True

    found = var_test(series, 0.99)

    assert (found.zone, found.plus_factor, found.zone_exceptions) == (zone, plus, exceptions)


def test_the_traffic_light_looks_at_the_latest_250_days_alone() -> None:
    series = np.zeros(1000, dtype=bool)
    series[:300] = True

    assert var_test(series, 0.99).zone == "green"
    assert var_test(series, 0.99).exceptions == 300


def test_a_plus_factor_is_given_for_250_days_at_99_percent_alone() -> None:
    assert var_test(np.zeros(250, dtype=bool), 0.95).plus_factor is None
    assert var_test(np.zeros(249, dtype=bool), 0.99).plus_factor is None
    assert traffic_light(20, 250, 0.95) == "yellow"


def test_chi_squared_tails_agree_with_scipy() -> None:

    for value in (0.0, 0.5, 3.84, 20.0):
        assert chi_squared_tail(value, 1) == pytest.approx(chi2.sf(value, 1))
        assert chi_squared_tail(value, 2) == pytest.approx(chi2.sf(value, 2))


def test_the_uniform_test_agrees_with_scipy() -> None:
    values = np.random.default_rng(6).uniform(0, 1, 60) ** 1.3

    distance, p = uniform_ks(values)

    expected = kstest(values, "uniform")
    assert distance == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.01)


def test_evenly_spread_values_are_uniform() -> None:
    assert uniform_ks((np.arange(500) + 0.5) / 500)[1] == 1.0
