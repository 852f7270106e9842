from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from apps.montecarlo.science.calibration import calibrate
from apps.montecarlo.science.models import Bachelier, FloatArray
from apps.montecarlo.science.simulation import (
    find_targets,
    observe_blocks,
    planned,
    refine,
    refine_blocks,
    simulate_blocks,
)
from apps.montecarlo.science.spec import SimulationSpec
from apps.montecarlo.science.summary import Summary, merge

MODEL = Bachelier(0.02, 1.5)
SPEC = planned(SimulationSpec(MODEL, 10.0, 60, 20_001, 3, (10, 60), levels=(25.0, -5.0), drawdown=False))


@pytest.fixture(scope="module")
def prices() -> FloatArray:
    return 10.0 + observe_blocks(SPEC, range(SPEC.n_blocks)).first(SPEC.forecasts).at


@pytest.fixture(scope="module")
def summary() -> Summary:
    return simulate_blocks(SPEC, 0, SPEC.n_blocks)


def test_prices_have_the_mean_and_deviation_of_the_closed_form(summary: Summary) -> None:
    deviation = 1.5 * math.sqrt(60)

    assert abs(summary.mean(60) - (10.0 + 0.02 * 60)) < 4 * deviation / math.sqrt(SPEC.forecasts)
    assert summary.std(60) == pytest.approx(deviation, rel=0.02)
    assert summary.mean_se(60) == pytest.approx(deviation / math.sqrt(SPEC.forecasts), rel=0.02)


def test_figures_are_those_of_the_simulated_prices(prices: FloatArray, summary: Summary) -> None:
    assert summary.mean(60) == pytest.approx(prices[1].mean(), rel=1e-11)
    assert summary.std(60) == pytest.approx(prices[1].std(ddof=1), rel=1e-8)
    assert summary.min(60) == pytest.approx(prices[1].min(), rel=1e-12)
    assert summary.max(60) == pytest.approx(prices[1].max(), rel=1e-12)
    assert summary.min(60) < 0.0
    for q in (0.01, 0.05, 0.5, 0.95):
        assert summary.quantile(60, q) == pytest.approx(np.quantile(prices[1], q), abs=0.02)
    assert summary.probability_below(60, 0.0)[0] == pytest.approx((prices[1] < 0.0).mean(), abs=1e-3)
    assert summary.probability_of_loss(60)[0] == (prices[1] < 10.0).mean()


@pytest.mark.parametrize("level", [0.9, 0.99])
@pytest.mark.parametrize("s0", [10.0, -10.0])
def test_losses_are_in_units_of_the_price_whatever_its_sign(level: float, s0: float) -> None:
    spec = planned(replace(SPEC, s0=s0, levels=()))
    losses = -observe_blocks(spec, range(spec.n_blocks)).first(spec.forecasts).at[1]
    var = np.quantile(losses, level)

    risk = simulate_blocks(spec, 0, spec.n_blocks).var_es(60, level).in_currency(s0)

    assert risk.var == pytest.approx(var, abs=0.02)
    assert risk.es == pytest.approx(losses[losses >= var].mean(), abs=0.03)
    assert risk.var_se > 0.0
    assert risk.es_se > 0.0


def test_levels_on_both_sides_of_zero_are_touched_as_often_as_the_paths_say(summary: Summary) -> None:
    observed = observe_blocks(SPEC, range(SPEC.n_blocks)).first(SPEC.forecasts)
    assert observed.high is not None
    assert observed.low is not None

    assert summary.touch_probability(25.0)[0] == (observed.high >= 15.0).mean()
    assert summary.touch_probability(-5.0)[0] == (observed.low <= -15.0).mean()


def test_a_histogram_counts_every_forecast(prices: FloatArray, summary: Summary) -> None:
    edges, counts = summary.histogram(60, 50)

    assert counts.sum() == SPEC.forecasts
    np.testing.assert_allclose(counts, np.histogram(prices[1], edges)[0], atol=12)


def test_exact_quantiles_are_those_of_numpy(prices: FloatArray, summary: Summary) -> None:
    targets = [target for q in (0.05, 0.5) for target in find_targets(summary, 60, q)[:2]]

    found = refine(summary, [(60, 0.05), (60, 0.5)], [refine_blocks(SPEC, targets, 0, SPEC.n_blocks)])

    np.testing.assert_allclose(found, np.quantile(prices[1], [0.05, 0.5]), rtol=1e-13)


def test_any_grouping_gives_the_same_bits(summary: Summary) -> None:
    parts = [simulate_blocks(SPEC, 0, 100), simulate_blocks(SPEC, 100, SPEC.n_blocks - 100)]

    assert merge(parts).digest() == summary.digest()


def test_standard_errors_are_the_spread_over_many_seeds() -> None:
    spec = planned(SimulationSpec(MODEL, 10.0, 20, 1280, 0, (20,), drawdown=False, antithetic=True))
    figures, stated = [], []
    for seed in range(300):
        one = simulate_blocks(replace(spec, seed=seed), 0, spec.n_blocks)
        risk = one.var_es(20, 0.95).in_currency(10.0)
        pairs = [(one.quantile(20, 0.25), one.quantile_se(20, 0.25)), (risk.var, risk.var_se), (risk.es, risk.es_se)]
        figures.append([value for value, _ in pairs])
        stated.append([error for _, error in pairs])

    ratio = np.sqrt(np.square(stated).mean(axis=0)) / np.std(figures, axis=0, ddof=1)

    # The spread of 300 seeds is itself known to 4%.
    np.testing.assert_allclose(ratio, 1.0, atol=0.16)


def test_it_is_calibrated_on_changes_of_the_price() -> None:
    changes = np.random.default_rng(1).normal(0.1, 2.0, 500)

    model = calibrate("bachelier", changes)

    assert model == Bachelier(float(changes.mean()), float(changes.std(ddof=1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"s0": 0.0}, "other than 0"),
        ({"s0": math.inf}, "must be finite"),
        ({"drawdown": True}, "a drawdown is a share of the price"),
        ({"levels": (10.0,)}, "prices other than the initial one"),
    ],
)
def test_what_means_nothing_where_prices_pass_zero_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **changes)  # type: ignore[arg-type]
