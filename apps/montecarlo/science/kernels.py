"""numpy kernels of all models.

Each model has two halves: `draw` takes everything random from one generator, `evolve` is the plain arithmetic that
turns draws into paths. Only `evolve` is worth making fast or writing twice (its scalar form stands with
the tests), and one block of draws never depends on how many others there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from apps.montecarlo.science.histograms import exponential
from apps.montecarlo.science.models import (
    GBM,
    Bachelier,
    Bootstrap,
    FloatArray,
    GjrGarchFhs,
    Heston,
    Merton,
    PortfolioBootstrap,
    PortfolioGBM,
    StudentT,
)

Draws = tuple[NDArray[Any], ...]


@singledispatch
def draw(model: Any, rng: Generator, days: int, paths: int) -> Draws:
    """Take from `rng` all the randomness of `paths` paths of `days` days.

    Parameters
    ----------
    model : Model
        The price model.
    rng : Generator
        The stream of one block.
    days, paths : int
        Shape of what is drawn.

    Returns
    -------
    tuple of ndarray
        Arrays of shape (..., days, paths); which ones depends on the model.
    """
    raise TypeError(f"no kernel for {type(model).__name__}")


@singledispatch
def evolve(model: Any, draws: Draws) -> FloatArray:
    """Turn draws into the log of price over initial price (price less initial price for Bachelier), day by day.

    Parameters
    ----------
    model : Model
        The price model.
    draws : tuple of ndarray
        What `draw` returned, possibly of several blocks side by side in the last axis; may be overwritten.

    Returns
    -------
    ndarray of float64, shape (days, paths)
        Row ``t`` is the log of price on day ``t + 1`` over the price on day 0.
    """
    raise TypeError(f"no kernel for {type(model).__name__}")


@singledispatch
def mirror(model: Any, draws: Draws) -> Draws:
    """Make the antithetic draws: normals with the opposite sign, all else the same.

    Raises
    ------
    ValueError
        The model draws from past returns or a skewed law, which has no mirror image.
    """
    raise ValueError(f"antithetic paths need a model driven by normal shocks; {model.name} is not one")


def accumulate(increments: FloatArray) -> FloatArray:
    """Sum over days, running and in place: shape (days, paths).

    Row by row, because numpy's own accumulate over the first axis walks down one column at a time.
    """
    for day in range(1, increments.shape[0]):
        np.add(increments[day - 1], increments[day], out=increments[day])
    return increments


def block_indices(starts: NDArray[np.int64], restarts: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Find the row numbers of a stationary bootstrap on a circle of `size` past days, in place of `starts`.

    Parameters
    ----------
    starts : ndarray of int64, shape (days, paths)
        A uniform row number for every day, used where a new run begins.
    restarts : ndarray of bool, shape (days, paths)
        Where a new run begins; day 0 always begins one.
    size : int
        Number of past days.

    Returns
    -------
    ndarray of int64, shape (days, paths)
    """
    for day in range(1, starts.shape[0]):
        following = starts[day - 1] + 1
        following[following == size] = 0
        np.copyto(starts[day], following, where=~restarts[day])
    return starts


def draw_indices(rng: Generator, days: int, paths: int, size: int, mean_block: float) -> Draws:
    """Draw for an independent (one array) or stationary block bootstrap (two arrays) over `size` past days."""
    starts = rng.integers(0, size, size=(days, paths))
    if mean_block == 1.0:
        return (starts,)
    return starts, rng.random((days, paths)) < 1.0 / mean_block


@draw.register
def _(model: GBM | Bachelier, rng: Generator, days: int, paths: int) -> Draws:
    return (rng.standard_normal((days, paths)),)


@evolve.register
def _(model: GBM | Bachelier, draws: Draws) -> FloatArray:
    increments = draws[0]
    np.multiply(increments, model.volatility, out=increments)
    np.add(increments, model.drift, out=increments)
    return accumulate(increments)


@mirror.register
def _(model: GBM | Bachelier, draws: Draws) -> Draws:
    return (-draws[0],)


@draw.register
def _(model: Bootstrap, rng: Generator, days: int, paths: int) -> Draws:
    return draw_indices(rng, days, paths, model.returns.size, model.mean_block)


@evolve.register
def _(model: Bootstrap, draws: Draws) -> FloatArray:
    indices = draws[0] if len(draws) == 1 else block_indices(draws[0], draws[1], model.returns.size)
    return accumulate(model.returns[indices])


@draw.register
def _(model: StudentT, rng: Generator, days: int, paths: int) -> Draws:
    return (rng.standard_t(model.df, (days, paths)),)


@evolve.register
def _(model: StudentT, draws: Draws) -> FloatArray:
    increments = draws[0]
    np.multiply(increments, model.scale, out=increments)
    np.add(increments, model.location, out=increments)
    return accumulate(increments)


@draw.register
def _(model: Merton, rng: Generator, days: int, paths: int) -> Draws:
    normals = rng.standard_normal((days, paths))
    jumps = rng.poisson(model.jump_rate, (days, paths)).astype(np.float64)
    # Days with a jump are rare, so a jump's normal is drawn for those alone.
    where = np.flatnonzero(jumps)
    sizes = np.zeros(days * paths)
    sizes[where] = rng.standard_normal(where.size)
    return normals, jumps, sizes.reshape(days, paths)


@evolve.register
def _(model: Merton, draws: Draws) -> FloatArray:
    increments, jumps, sizes = draws
    np.multiply(increments, model.volatility, out=increments)
    np.add(increments, model.drift, out=increments)
    # The sum of N normal jumps is one normal with N times the mean and variance.
    jump = np.sqrt(jumps)
    np.multiply(jump, sizes, out=jump)
    np.multiply(jump, model.jump_std, out=jump)
    np.multiply(jumps, model.jump_mean, out=jumps)
    np.add(jump, jumps, out=jump)
    np.add(increments, jump, out=increments)
    return accumulate(increments)


@mirror.register
def _(model: Merton, draws: Draws) -> Draws:
    return -draws[0], draws[1], -draws[2]


@draw.register
def _(model: GjrGarchFhs, rng: Generator, days: int, paths: int) -> Draws:
    return (rng.integers(0, model.residuals.size, size=(days, paths)),)


@evolve.register
def _(model: GjrGarchFhs, draws: Draws) -> FloatArray:
    path = model.residuals[draws[0]]
    paths = path.shape[1]
    variance = np.full(paths, model.next_variance)
    total = np.zeros(paths)
    square, weight = np.empty(paths), np.empty(paths)
    for day in range(path.shape[0]):
        shock = path[day]
        weight[:] = model.alpha
        np.add(weight, model.gamma, out=weight, where=shock < 0.0)
        np.sqrt(variance, out=square)
        np.multiply(shock, square, out=shock)
        np.multiply(shock, shock, out=square)
        np.multiply(square, weight, out=square)
        np.multiply(variance, model.beta, out=variance)
        np.add(variance, square, out=variance)
        np.add(variance, model.omega, out=variance)
        np.add(shock, model.mean, out=shock)
        np.add(total, shock, out=total)
        shock[:] = total
    return path


@draw.register
def _(model: Heston, rng: Generator, days: int, paths: int) -> Draws:
    return rng.standard_normal((days, paths)), rng.standard_normal((days, paths))


@evolve.register
def _(model: Heston, draws: Draws) -> FloatArray:
    path, other = draws
    orthogonal = float(np.sqrt(1.0 - model.rho * model.rho))
    centre = model.drift + 0.5 * model.theta
    paths = path.shape[1]
    variance = np.full(paths, model.v0)
    total = np.zeros(paths)
    positive, root, change = np.empty(paths), np.empty(paths), np.empty(paths)
    for day in range(path.shape[0]):
        price_shock, variance_shock = path[day], other[day]
        np.maximum(variance, 0.0, out=positive)
        np.sqrt(positive, out=root)
        np.multiply(variance_shock, orthogonal, out=variance_shock)
        np.multiply(price_shock, model.rho, out=change)
        np.add(variance_shock, change, out=variance_shock)
        np.multiply(variance_shock, root, out=variance_shock)
        np.multiply(variance_shock, model.xi, out=variance_shock)
        np.subtract(model.theta, positive, out=change)
        np.multiply(change, model.kappa, out=change)
        np.add(variance, change, out=variance)
        np.add(variance, variance_shock, out=variance)
        np.multiply(price_shock, root, out=price_shock)
        np.multiply(positive, -0.5, out=change)
        np.add(price_shock, change, out=price_shock)
        np.add(price_shock, centre, out=price_shock)
        np.add(total, price_shock, out=total)
        price_shock[:] = total
    return path


@mirror.register
def _(model: Heston, draws: Draws) -> Draws:
    return -draws[0], -draws[1]


def log_value(asset_paths: Iterable[FloatArray], weights: FloatArray) -> FloatArray:
    """Return the log of the portfolio's value over its value on day 0.

    Parameters
    ----------
    asset_paths : iterable of ndarray of float64, shape (days, paths)
        Log of each asset's price over its price on day 0; used one after another, so they need not exist at once.
    weights : ndarray of float64, shape (k,)
        Share of each asset in the value on day 0.

    Returns
    -------
    ndarray of float64, shape (days, paths)

    Raises
    ------
    ValueError
        Short positions lose more on some path than the portfolio is worth.
    """
    value = np.zeros(())
    for weight, path in zip(weights.tolist(), asset_paths, strict=True):
        grown = exponential(path)
        np.multiply(grown, weight, out=grown)
        value = np.add(value, grown, out=grown)
    if weights.min() < 0.0 and value.min() <= 0.0:
        raise ValueError(
            "the short positions lose all that the portfolio is worth on some path, and beyond that no value can be "
            "forecast; look fewer days ahead, or hold smaller short positions"
        )
    return np.asarray(np.log(value, out=value), dtype=np.float64)


@draw.register
def _(model: PortfolioGBM, rng: Generator, days: int, paths: int) -> Draws:
    return (rng.standard_normal((model.drifts.size, days, paths)),)


@evolve.register
def _(model: PortfolioGBM, draws: Draws) -> FloatArray:
    normals = draws[0]
    factor = np.linalg.cholesky(model.covariance)

    def asset_paths() -> Iterator[FloatArray]:
        for asset, drift in enumerate(model.drifts.tolist()):
            # A plain loop, not a matrix product: its rounding does not depend on the BLAS that happens to be installed.
            increments = normals[0] * factor[asset, 0]
            for other in range(1, asset + 1):
                increments += normals[other] * factor[asset, other]
            increments += drift
            yield accumulate(increments)

    return log_value(asset_paths(), model.weights)


@mirror.register
def _(model: PortfolioGBM, draws: Draws) -> Draws:
    return (-draws[0],)


@draw.register
def _(model: PortfolioBootstrap, rng: Generator, days: int, paths: int) -> Draws:
    return draw_indices(rng, days, paths, model.returns.shape[0], model.mean_block)


@evolve.register
def _(model: PortfolioBootstrap, draws: Draws) -> FloatArray:
    indices = draws[0] if len(draws) == 1 else block_indices(draws[0], draws[1], model.returns.shape[0])
    columns = np.ascontiguousarray(model.returns.T)
    return log_value((accumulate(column[indices]) for column in columns), model.weights)
