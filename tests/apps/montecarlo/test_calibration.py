from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from apps.montecarlo.science.calibration import (
    MODEL_NAMES,
    PORTFOLIO_MODEL_NAMES,
    TALK_MODEL,
    calibrate,
    describe,
    log_returns,
)
from apps.montecarlo.science.kernels import draw, evolve
from apps.montecarlo.science.models import (
    GBM,
    Bootstrap,
    FloatArray,
    GjrGarchFhs,
    Heston,
    Merton,
    Model,
    PortfolioBootstrap,
    PortfolioGBM,
    StudentT,
)


def simulated(model: Model, days: int, seed: int = 1) -> FloatArray:
    path = evolve(model, draw(model, np.random.default_rng(seed), days, 1))[:, 0]
    return np.diff(path, prepend=0.0)


def test_log_returns_are_taken_along_time() -> None:
    prices = np.array([[1.0, 2.0], [np.e, 2.0], [np.e, 2.0 * np.e]])

    assert log_returns(prices) == pytest.approx(np.array([[1.0, 0.0], [0.0, 1.0]]))


def test_a_gbm_drifts_by_the_mean_log_return_with_nothing_taken_off() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.05, 500)

    model = calibrate("gbm", returns)

    assert model == GBM(float(returns.mean()), float(returns.std(ddof=1)))


def test_the_talks_constants_stand_as_published() -> None:
    assert GBM(-0.00022513546014255100, 0.0121678341323272) == TALK_MODEL


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_model_returns_to_the_mean_and_variance_of_the_sample(name: str) -> None:
    skewed = np.concatenate([np.full(40, -3.0), np.random.default_rng(4).normal(0.13, 0.75, 960)])
    residuals = (skewed - skewed.mean()) / skewed.std()
    returns = simulated(GjrGarchFhs(5e-4, 4e-6, 0.0, 0.2, 0.84, 1e-4, residuals), 3000)

    model = calibrate(name, returns)

    path = evolve(model, draw(model, np.random.default_rng(2), 2200, 600))
    later = np.diff(path[200:], axis=0)
    assert later.mean() == pytest.approx(returns.mean(), abs=5 * returns.std() / 1000)
    assert later.std() == pytest.approx(returns.std(), rel=0.03)


def test_variance_that_would_grow_for_ever_returns_to_that_of_the_sample() -> None:
    residuals = np.random.default_rng(8).normal(size=4000)
    returns = simulated(GjrGarchFhs(0.0, 1e-9, 0.3, 0.0, 0.7, 1e-4, residuals), 300)

    found = calibrate("gjr-garch", returns)

    assert isinstance(found, GjrGarchFhs)
    persistence = found.alpha + found.beta + found.gamma * float(np.square(np.minimum(found.residuals, 0.0)).mean())
    assert persistence <= 0.999
    assert found.omega / (1.0 - persistence) == pytest.approx(returns.var())


def test_a_student_t_is_found_again() -> None:
    found = calibrate("student-t", simulated(StudentT(0.0, 0.01, 5.0), 20_000))

    assert isinstance(found, StudentT)
    assert found.scale == pytest.approx(0.01, rel=0.03)
    assert found.df == pytest.approx(5.0, rel=0.1)


def test_a_jump_diffusion_is_found_again() -> None:
    found = calibrate("merton", simulated(Merton(6e-4, 0.008, 0.05, -0.02, 0.03), 20_000))

    assert isinstance(found, Merton)
    assert found.volatility == pytest.approx(0.008, rel=0.03)
    assert found.jump_rate == pytest.approx(0.05, rel=0.2)
    assert found.jump_mean == pytest.approx(-0.02, rel=0.3)
    assert found.jump_std == pytest.approx(0.03, rel=0.15)


def test_a_gjr_garch_is_found_again() -> None:
    residuals = np.random.default_rng(5).normal(size=4000)
    found = calibrate("gjr-garch", simulated(GjrGarchFhs(3e-4, 3e-6, 0.03, 0.1, 0.88, 1e-4, residuals), 12_000))

    assert isinstance(found, GjrGarchFhs)
    assert found.beta == pytest.approx(0.88, abs=0.03)
    assert found.gamma == pytest.approx(0.1, abs=0.04)
    assert found.residuals.std() == pytest.approx(1.0)
    assert abs(found.residuals.mean()) < 1e-12


def test_a_gjr_garch_forecast_starts_from_the_variance_that_the_last_day_leaves() -> None:
    true = GjrGarchFhs(0.0, 3e-6, 0.03, 0.1, 0.88, 1e-4, np.random.default_rng(5).normal(size=4000))
    returns = simulated(true, 12_000)
    variance = true.next_variance
    for shock in returns[:-1].tolist():
        variance = true.omega + (true.alpha + true.gamma * (shock < 0)) * shock**2 + true.beta * variance

    starts = {}
    for last in (-0.04, 0.04):
        found = calibrate("gjr-garch", np.append(returns[:-1], last))
        assert isinstance(found, GjrGarchFhs)
        starts[last] = found.next_variance

    assert starts[-0.04] == pytest.approx(true.omega + 0.13 * 0.04**2 + 0.88 * variance, rel=0.25)
    assert starts[0.04] == pytest.approx(true.omega + 0.03 * 0.04**2 + 0.88 * variance, rel=0.25)


def test_stochastic_variance_is_found_again_roughly() -> None:
    found = calibrate("heston", simulated(Heston(2e-4, 0.03, 1.5e-4, 0.0015, -0.6, 1.5e-4), 200_000))

    assert isinstance(found, Heston)
    assert found.theta == pytest.approx(1.5e-4, rel=0.05)
    assert found.kappa == pytest.approx(0.03, rel=0.4)
    assert found.xi == pytest.approx(0.0015, rel=0.25)
    assert found.rho == pytest.approx(-0.6, abs=0.15)


def test_blocks_lengthen_with_the_memory_of_the_sample() -> None:
    calm = calibrate("block-bootstrap", np.random.default_rng(1).normal(0, 0.01, 2000))
    stormy = calibrate("block-bootstrap", simulated(Heston(0.0, 0.03, 1.5e-4, 0.0015, 0.0, 1.5e-4), 2000))

    assert isinstance(calm, Bootstrap)
    assert isinstance(stormy, Bootstrap)
    assert stormy.mean_block > 3 * calm.mean_block >= 3
    assert calibrate("block-bootstrap", np.zeros(40), mean_block=7.0).mean_block == 7.0  # type: ignore[union-attr]


def test_several_columns_make_a_portfolio_of_equal_shares_unless_told() -> None:
    returns = np.random.default_rng(1).normal(0, 0.01, (200, 3))

    equal, own = calibrate("gbm", returns), calibrate("bootstrap", returns, weights=np.array([0.2, 0.3, 0.5]))

    assert isinstance(equal, PortfolioGBM)
    assert equal.weights == pytest.approx(np.full(3, 1 / 3))
    assert equal.covariance == pytest.approx(np.cov(returns.T))
    assert isinstance(own, PortfolioBootstrap)
    assert own.weights.tolist() == [0.2, 0.3, 0.5]


def test_one_column_is_one_asset() -> None:
    returns = np.random.default_rng(1).normal(0, 0.01, 200)

    assert calibrate("gbm", returns[:, None]) == calibrate("gbm", returns)


@pytest.mark.parametrize("name", sorted(set(MODEL_NAMES) - set(PORTFOLIO_MODEL_NAMES)))
def test_models_of_one_asset_refuse_a_portfolio(name: str) -> None:
    with pytest.raises(ValueError, match="is for one asset"):
        calibrate(name, np.random.default_rng(1).normal(0, 0.01, (200, 2)))


@pytest.mark.parametrize(
    ("name", "returns", "sentence"),
    [
        ("garch", np.ones(50), "there is no model 'garch'"),
        ("gbm", np.ones(28), "28 log returns are too few"),
        ("gbm", np.array([np.inf] * 50), "must be finite"),
        ("merton", np.zeros(50), "never change"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_with_the_reason(name: str, returns: FloatArray, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        calibrate(name, returns)


def test_parameters_are_listed_by_name() -> None:
    assert describe(StudentT(0.1, 0.2, 3.0)) == {"location": 0.1, "scale": 0.2, "df": 3.0}


def test_calibrating_and_simulating_a_gbm_loads_no_heavy_package() -> None:
    code = (
        "import sys, numpy as np\n"
        "from apps.montecarlo.science.calibration import calibrate\n"
        "from apps.montecarlo.science.simulation import planned, simulate_blocks\n"
        "from apps.montecarlo.science.spec import SimulationSpec\n"
        "model = calibrate('gbm', np.random.default_rng(1).normal(0, .01, 99))\n"
        "simulate_blocks(planned(SimulationSpec(model, 1.0, 9, 99, 1, (9,))), 0, 2)\n"
        "print(sorted({'scipy', 'arch', 'pandas', 'matplotlib', 'numba'} & set(sys.modules)))\n"
    )

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "[]"
