from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from apps.metabolomics.science.recalibration import FEWEST_IONS, fit_recalibration

FloatArray = NDArray[np.float64]


def ions(count: int, seed: int = 0) -> tuple[FloatArray, FloatArray, np.random.Generator]:
    random = np.random.default_rng(seed)
    mz = random.uniform(150, 1000, count)
    return mz, random.normal(0, 0.3, count), random


def test_an_error_that_drifts_with_mz_is_learnt() -> None:
    mz, noise, _ = ions(400)

    found = fit_recalibration(mz, 1.5 - 0.002 * mz + noise)

    assert found is not None
    at = np.array([250.0, 500.0, 900.0])
    assert found.error(at) == pytest.approx(1.5 - 0.002 * at, abs=0.2)
    assert found.measured(at) == pytest.approx(at * (1 + (1.5 - 0.002 * at) * 1e-6), rel=2e-7)
    assert found.n_ions == 400


def test_a_third_of_false_ions_does_not_move_it() -> None:
    mz, noise, random = ions(600)
    error = 1.0 + noise
    error[::3] = random.uniform(-3, 3, 200)

    found = fit_recalibration(mz, error)

    assert found is not None
    assert found.ppm == pytest.approx(1.0, abs=0.2)


def test_few_ions_teach_nothing() -> None:
    mz, noise, _ = ions(FEWEST_IONS - 1)

    assert fit_recalibration(mz, 2.0 + noise) is None


def test_ions_without_a_measured_mz_do_not_count() -> None:
    mz, noise, _ = ions(FEWEST_IONS + 5)
    error = 2.0 + noise
    error[:10] = np.nan

    assert fit_recalibration(mz, error) is None


def test_a_scale_without_an_error_is_left_alone() -> None:
    applied = sum(fit_recalibration(*ions(300, seed)[:2]) is not None for seed in range(20))

    assert applied <= 6


def test_beyond_the_outermost_points_the_error_stays() -> None:
    mz, noise, _ = ions(200)
    found = fit_recalibration(mz, 2.0 + 0.001 * mz + noise)
    assert found is not None

    assert found.error(np.array([50.0, 5000.0])).tolist() == [found.ppm[0], found.ppm[-1]]


def test_many_ions_of_one_mz_are_one_point() -> None:
    mz = np.repeat([300.0, 600.0], [150, 50])

    found = fit_recalibration(mz, np.where(mz < 400, 1.0, 2.0))

    assert found is not None
    assert (np.diff(found.mz) > 0).all()


def test_the_result_does_not_depend_on_the_order_of_ions() -> None:
    mz, noise, random = ions(200)
    error = 1.0 + noise
    shuffled = random.permutation(200)

    first, second = fit_recalibration(mz, error), fit_recalibration(mz[shuffled], error[shuffled])

    assert first is not None
    assert second is not None
    assert (first.ppm == second.ppm).all()
