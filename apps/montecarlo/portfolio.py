"""numpy kernels of the portfolios: several assets, bought at given weights on day 0 and held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.random import Generator

from apps.montecarlo.exact import exponential
from apps.montecarlo.kernels import Draws, accumulate, block_indices, draw, draw_indices, evolve, mirror
from apps.montecarlo.models import FloatArray, PortfolioBootstrap, PortfolioGBM


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
    """
    value = np.zeros(())
    for weight, path in zip(weights.tolist(), asset_paths, strict=True):
        grown = exponential(path)
        np.multiply(grown, weight, out=grown)
        value = np.add(value, grown, out=grown)
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
