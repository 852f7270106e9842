from __future__ import annotations

import numpy as np
import pytest

from apps.montecarlo.science.kernels import draw, evolve
from apps.montecarlo.science.models import (
    GBM,
    Bootstrap,
    GjrGarchFhs,
    Heston,
    Merton,
    Model,
    PortfolioBootstrap,
    PortfolioGBM,
    StudentT,
)
from apps.montecarlo.science.moments import growing_at, mean, volatility, with_mean

PAST = np.random.default_rng(1).normal(2e-4, 0.01, (400, 2))
RESIDUALS = np.random.default_rng(2).normal(0.0, 1.0, 500)
RESIDUALS = (RESIDUALS - RESIDUALS.mean()) / RESIDUALS.std()
SINGLE: list[Model] = [
    GBM(1e-4, 0.012),
    Bootstrap(PAST[:, 0]),
    StudentT(1e-4, 0.008, 5.0),
    Merton(2e-4, 0.009, 0.05, -0.01, 0.02),
    GjrGarchFhs(1e-4, 4e-6, 0.02, 0.1, 0.85, 3e-4, RESIDUALS),
    Heston(1e-4, 0.05, 1.4e-4, 0.001, -0.7, 3e-4),
]
COVARIANCE = np.array([[1.0, 0.4], [0.4, 2.0]]) * 1e-4
SHARES = np.array([0.4, 0.6])
PORTFOLIOS: list[Model] = [PortfolioGBM(np.array([1e-4, 2e-4]), COVARIANCE, SHARES), PortfolioBootstrap(PAST, SHARES)]


def simulated(model: Model, days: int) -> np.ndarray:
    path = evolve(model, draw(model, np.random.default_rng(5), days, 40_000))
    return np.diff(path, axis=0, prepend=0.0)


@pytest.mark.parametrize("model", SINGLE + PORTFOLIOS, ids=lambda model: type(model).__name__)
def test_the_volatility_of_the_first_day_is_that_of_simulated_paths(model: Model) -> None:
    first = simulated(model, 1)[0]

    assert volatility(model).first == pytest.approx(first.std(), rel=0.02)


@pytest.mark.parametrize("model", SINGLE, ids=lambda model: type(model).__name__)
def test_the_long_run_volatility_is_that_of_distant_days(model: Model) -> None:
    distant = simulated(model, 150)[-30:]

    assert volatility(model).long_run == pytest.approx(distant.std(), rel=0.02)


@pytest.mark.parametrize("model", SINGLE + PORTFOLIOS, ids=lambda model: type(model).__name__)
def test_another_mean_changes_nothing_else(model: Model) -> None:
    wanted = mean(model) + 3e-4

    other = with_mean(model, wanted)

    assert mean(other) == pytest.approx(wanted, rel=1e-9)
    assert volatility(other) == pytest.approx(volatility(model))


@pytest.mark.parametrize("model", [model for model in SINGLE if not isinstance(model, Heston)], ids=lambda m: m.name)
def test_a_simulated_price_has_the_mean_log_return_asked_for(model: Model) -> None:
    daily = simulated(with_mean(model, np.array([2e-3])), 20)

    assert daily.mean() == pytest.approx(2e-3, abs=4 * daily.std() / np.sqrt(daily.size))


def test_an_expected_price_grows_by_the_rate() -> None:
    returns = PAST[:, :1]
    model = GBM(float(returns.mean()), float(returns.std(ddof=1)))

    grown = growing_at(model, 1e-3, returns)

    total = np.exp(simulated(grown, 20).sum(axis=0))
    assert total.mean() == pytest.approx(np.exp(0.02), abs=4 * total.std() / np.sqrt(total.size))


@pytest.mark.parametrize("memory", [-0.6, 0.6])
def test_an_expected_price_grows_by_the_rate_where_runs_are_drawn_that_remember(memory: float) -> None:
    shocks = np.random.default_rng(5).normal(0.0, 0.02, 1001)
    returns = (shocks[1:] + memory * shocks[:-1])[:, None]

    grown = growing_at(Bootstrap(returns[:, 0], 10.0), 1e-3, returns)

    total = np.exp(simulated(grown, 200).sum(axis=0))
    assert total.mean() == pytest.approx(np.exp(0.2), abs=4 * total.std() / np.sqrt(total.size))


def test_a_variance_that_never_settles_is_infinite_in_the_long_run() -> None:
    explosive = GjrGarchFhs(0.0, 1e-6, 0.2, 0.0, 0.9, 1e-4, np.array([-1.0, 1.0]))

    assert volatility(explosive).long_run == np.inf
