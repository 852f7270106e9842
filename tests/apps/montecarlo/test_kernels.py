from __future__ import annotations

import numpy as np
import pytest
from numpy.random import SFC64, Generator

from apps.montecarlo.science.blocks import block_stream, draw_block, draw_blocks
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
from apps.montecarlo.science.recording import max_drawdown, observe
from tests.apps.montecarlo.reference import evolve_reference, max_drawdown_reference

PAST = np.random.default_rng(3).standard_t(4, (300, 3)) * 0.01
COVARIANCE = np.array([[1.0, 0.5, 0.2], [0.5, 2.0, -0.3], [0.2, -0.3, 1.5]]) * 1e-4
WEIGHTS = np.array([0.5, 0.3, 0.2])
MODELS: list[Model] = [
    GBM(2e-4, 0.012),
    Bootstrap(PAST[:, 0]),
    Bootstrap(PAST[:, 0], mean_block=8.0),
    StudentT(1e-4, 0.008, 3.5),
    Merton(3e-4, 0.008, 0.3, -0.01, 0.02),
    GjrGarchFhs(1e-4, 2e-6, 0.02, 0.15, 0.88, 1.5e-4, PAST[:, 0] / PAST[:, 0].std()),
    Heston(1e-4, 0.05, 1.4e-4, 0.008, -0.7, 3e-4),
    PortfolioGBM(np.array([1e-4, 2e-4, -1e-4]), COVARIANCE, WEIGHTS),
    PortfolioBootstrap(PAST, WEIGHTS),
    PortfolioBootstrap(PAST, WEIGHTS, mean_block=5.0),
]
NAMES = [f"{type(model).__name__}-{i}" for i, model in enumerate(MODELS)]
each_model = pytest.mark.parametrize("model", MODELS, ids=NAMES)


@each_model
def test_the_kernel_does_what_its_scalar_reference_does(model: Model) -> None:
    draws = draw(model, Generator(SFC64(5)), 90, 7)
    expected = evolve_reference(model, draws)

    path = evolve(model, draws)

    np.testing.assert_allclose(path, expected, rtol=0, atol=1e-12)


@each_model
def test_blocks_side_by_side_are_the_blocks_alone(model: Model) -> None:
    alone = [evolve(model, draw_block(model, block_stream(9, block), 40, False)) for block in (4, 5, 6)]

    together = evolve(model, draw_blocks(model, [block_stream(9, block) for block in (4, 5, 6)], 40, False))

    assert np.array_equal(together, np.concatenate(alone, axis=1))


@pytest.mark.parametrize("model", [MODELS[0], MODELS[4], MODELS[6], MODELS[7]], ids=lambda model: type(model).__name__)
def test_antithetic_paths_come_in_pairs_of_opposite_shocks(model: Model) -> None:
    draws = draw_block(model, block_stream(1, 0), 30, True)

    normals = [draws[0], draws[2]] if isinstance(model, Merton) else draws
    for shocks in normals:
        assert np.array_equal(shocks[..., ::2], -shocks[..., 1::2])
        assert np.abs(shocks).max() > 0


def test_antithetic_gbm_paths_average_to_the_drift() -> None:
    model = GBM(2e-4, 0.012)

    path = evolve(model, draw_block(model, block_stream(1, 0), 30, True))

    middle = (path[:, ::2] + path[:, 1::2]) / 2
    np.testing.assert_allclose(middle, np.broadcast_to(2e-4 * np.arange(1, 31)[:, None], middle.shape), atol=1e-15)


def test_a_model_that_draws_from_the_past_has_no_mirror_image() -> None:
    with pytest.raises(ValueError, match="antithetic paths need a model driven by normal shocks"):
        draw_block(Bootstrap(PAST[:, 0]), block_stream(1, 0), 10, True)


def test_drawdowns_are_those_of_the_scalar_reference() -> None:
    path = evolve(MODELS[0], draw(MODELS[0], Generator(SFC64(8)), 200, 9))

    deepest = max_drawdown(path)

    assert deepest.tolist() == [max_drawdown_reference(column) for column in path.T.tolist()]


def test_a_fall_from_the_initial_price_is_a_drawdown() -> None:
    assert max_drawdown(np.array([[-0.3], [-0.1]])).tolist() == [0.3]


def test_observed_values_are_those_of_the_asked_days() -> None:
    path = np.arange(12.0).reshape(4, 3) - 5.0

    seen = observe(path, (1, 4), drawdown=False, extremes=True)

    assert seen.at.tolist() == [[-5.0, -4.0, -3.0], [4.0, 5.0, 6.0]]
    assert seen.drawdown is None
    assert seen.high is not None
    assert seen.high.tolist() == [4.0, 5.0, 6.0]
    assert seen.low is not None
    assert seen.low.tolist() == [-5.0, -4.0, -3.0]


def test_a_block_bootstrap_runs_on_through_the_past_in_order() -> None:
    model = Bootstrap(np.arange(100.0), mean_block=20.0)

    path = evolve(model, draw(model, Generator(SFC64(2)), 2000, 4))

    steps = np.diff(path, axis=0)
    following = (np.diff(steps, axis=0) % 100.0) == 1.0
    assert following.mean() == pytest.approx(1.0 - 1.0 / 20.0 + 0.05 / 100, abs=0.01)


def test_the_variance_of_a_heston_path_returns_to_its_long_run() -> None:
    model = Heston(0.0, 0.1, 2e-4, 0.002, -0.5, 8e-4)

    path = evolve(model, draw(model, Generator(SFC64(2)), 400, 4000))

    assert np.diff(path[-100:], axis=0).var() == pytest.approx(2e-4, rel=0.03)
    assert path[0].var() == pytest.approx(8e-4, rel=0.1)


def test_merton_moments_are_those_of_the_jump_sum() -> None:
    model = Merton(1e-3, 0.01, 0.4, -0.02, 0.03)

    days = np.diff(evolve(model, draw(model, Generator(SFC64(4)), 500, 2000)), axis=0)

    assert days.mean() == pytest.approx(1e-3 - 0.4 * 0.02, abs=5 * days.std() / 1e3)
    assert days.var() == pytest.approx(1e-4 + 0.4 * (0.02**2 + 0.03**2), rel=0.02)


def test_portfolio_assets_move_with_the_given_covariance() -> None:
    model = PortfolioGBM(np.zeros(2), COVARIANCE[:2, :2], np.array([1.0, 0.0]))
    other = PortfolioGBM(np.zeros(2), COVARIANCE[:2, :2], np.array([0.0, 1.0]))

    first, second = (
        np.diff(evolve(m, draw(m, Generator(SFC64(4)), 500, 2000)), axis=0).ravel() for m in (model, other)
    )

    np.testing.assert_allclose(np.cov(first, second), COVARIANCE[:2, :2], rtol=0.02)


def test_portfolio_weights_drift_as_prices_do() -> None:
    grown = PortfolioBootstrap(np.array([[0.1, -0.1]]), np.array([0.5, 0.5]))

    path = evolve(grown, draw(grown, Generator(SFC64(4)), 20, 1))

    held = np.log(0.5 * np.exp(0.1 * np.arange(1, 21)) + 0.5 * np.exp(-0.1 * np.arange(1, 21)))
    np.testing.assert_allclose(path[:, 0], held, atol=1e-12)


def test_a_short_position_falls_in_value_as_its_asset_rises() -> None:
    model = PortfolioGBM(np.zeros(2), np.eye(2) * 1e-4, np.array([1.3, -0.3]))
    normals = np.zeros((2, 3, 1))
    normals[1] = 1.0

    path = evolve(model, (normals,))

    assert path[:, 0] == pytest.approx(np.log(1.3 - 0.3 * np.exp(0.01 * np.arange(1, 4))))


def test_a_short_position_that_eats_the_portfolio_up_is_refused() -> None:
    model = PortfolioGBM(np.zeros(2), np.eye(2) * 0.04, np.array([1.3, -0.3]))
    normals = np.zeros((2, 12, 1))
    normals[1] = 1.0

    with pytest.raises(ValueError, match="short positions lose all"):
        evolve(model, (normals,))
