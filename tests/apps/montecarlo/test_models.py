from __future__ import annotations

import pickle

import numpy as np
import pytest

from apps.montecarlo.science.models import (
    GBM,
    Bootstrap,
    GjrGarchFhs,
    Heston,
    Merton,
    PortfolioBootstrap,
    PortfolioGBM,
    StudentT,
)

EYE = np.eye(2) * 1e-4
HALVES = np.array([0.5, 0.5])


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: GBM(float("nan"), 0.1), "drift must be finite"),
        (lambda: GBM(0.0, -0.1), "volatility must be finite and not negative"),
        (lambda: Bootstrap(np.array([])), "returns must be a non-empty array"),
        (lambda: Bootstrap(np.array([0.1, np.nan])), "returns must be finite"),
        (lambda: Bootstrap(np.ones(3), 0.5), "mean_block must be at least 1"),
        (lambda: StudentT(0.0, 0.01, 2.0), "above 2"),
        (lambda: StudentT(0.0, -0.01, 3.0), "scale must be"),
        (lambda: Merton(0.0, 0.01, -1.0, 0.0, 0.1), "jump_rate must be"),
        (lambda: Merton(0.0, 0.01, 1.0, 0.0, -0.1), "jump_std must be"),
        (lambda: GjrGarchFhs(0.0, 1e-6, 0.1, -0.2, 0.8, 1e-4, np.ones(3)), "alpha \\+ gamma"),
        (lambda: GjrGarchFhs(0.0, -1e-6, 0.1, 0.0, 0.8, 1e-4, np.ones(3)), "omega, alpha and beta"),
        (lambda: Heston(0.0, 0.0, 1e-4, 0.01, 0.0, 1e-4), "kappa must be"),
        (lambda: Heston(0.0, 0.1, 1e-4, 0.01, -1.1, 1e-4), "rho must be"),
        (lambda: PortfolioGBM(np.zeros(2), EYE, np.array([0.5, 0.6])), "weights must sum to 1"),
        (lambda: PortfolioGBM(np.zeros(3), EYE, HALVES), "one row and column for each asset"),
        (lambda: PortfolioGBM(np.zeros(2), np.ones((2, 2)), HALVES), "not positive definite"),
        (lambda: PortfolioBootstrap(np.ones((5, 3)), HALVES), "one entry for each asset"),
    ],
)
def test_impossible_parameters_are_refused_by_name(build: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()  # type: ignore[operator]


def test_models_keep_their_data_from_later_changes() -> None:
    past = np.array([0.01, 0.02])
    model = Bootstrap(past)

    past[0] = 9.0

    assert model.returns.tolist() == [0.01, 0.02]
    with pytest.raises(ValueError, match="read-only"):
        model.returns[0] = 1.0


def test_models_travel_by_pickle() -> None:
    model = PortfolioGBM(np.array([1e-4, 2e-4]), EYE, HALVES)

    copy = pickle.loads(pickle.dumps(model))

    assert np.array_equal(copy.covariance, model.covariance)
    assert np.array_equal(copy.weights, model.weights)
