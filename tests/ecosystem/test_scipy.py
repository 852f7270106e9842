"""scipy's ``workers=`` takes a pool's map."""

import numpy as np
from scipy import optimize


def valley(x):
    return float((x[0] - 1) ** 2 + (x[1] + 2) ** 2)


def residuals(x, offset):
    return np.array([x[0] - offset, 10 * (x[1] - x[0] ** 2)])


def test_differential_evolution_finds_the_same_minimum_on_a_pool(pool):
    options = {"bounds": [(-5, 5), (-5, 5)], "rng": 7, "maxiter": 20, "updating": "deferred", "polish": False}

    here = optimize.differential_evolution(valley, **options)
    there = optimize.differential_evolution(valley, workers=pool.map, **options)

    assert there.x.tolist() == here.x.tolist()
    assert there.nfev == here.nfev


def test_brute_force_evaluates_its_grid_on_a_pool(pool):
    ranges = (slice(-4, 4, 0.5), slice(-4, 4, 0.5))

    assert optimize.brute(valley, ranges, workers=pool.map, finish=None).tolist() == [1.0, -2.0]


def test_least_squares_takes_its_derivatives_on_a_pool(pool):
    here = optimize.least_squares(residuals, [0.0, 3.0], args=(2.0,))
    there = optimize.least_squares(residuals, [0.0, 3.0], args=(2.0,), workers=pool.map)

    assert there.x.tolist() == here.x.tolist()
