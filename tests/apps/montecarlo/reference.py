"""Scalar forms of the kernels: plain loops over numbers, written for reading.

Tests hold the numpy and numba kernels to these on the same draws; nothing else uses them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from apps.montecarlo.science.kernels import Draws
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


def evolve_reference(model: Model, draws: Draws) -> FloatArray:
    """Do what `apps.montecarlo.science.kernels.evolve` does, one number at a time and without changing `draws`.

    Parameters
    ----------
    model : Model
    draws : tuple of ndarray, shape (..., days, paths)

    Returns
    -------
    ndarray of float64, shape (days, paths)
    """
    days, paths = draws[0].shape[-2:]
    result = np.empty((days, paths))
    for path in range(paths):
        one = [array[..., path].tolist() for array in draws]
        result[:, path] = _path(model, one, days)
    return result


def _path(model: Model, draws: list[Any], days: int) -> list[float]:
    match model:
        case GBM():
            return _summed([model.drift + model.volatility * z for z in draws[0]])
        case StudentT():
            return _summed([model.location + model.scale * t for t in draws[0]])
        case Bootstrap():
            past = model.returns.tolist()
            return _summed([past[i] for i in _rows(draws, days, len(past))])
        case Merton():
            return _merton(model, draws)
        case GjrGarchFhs():
            return _gjr_garch(model, draws[0])
        case Heston():
            return _heston(model, draws)
        case PortfolioGBM():
            return _portfolio_gbm(model, draws[0], days)
        case PortfolioBootstrap():
            rows = _rows(draws, days, model.returns.shape[0])
            return _value([_summed([column[i] for i in rows]) for column in model.returns.T.tolist()], model.weights)


def _summed(increments: list[float]) -> list[float]:
    total, path = 0.0, []
    for increment in increments:
        total += increment
        path.append(total)
    return path


def _rows(draws: list[Any], days: int, size: int) -> list[int]:
    if len(draws) == 1:
        return list(draws[0])
    rows: list[int] = []
    for day in range(days):
        new_run = day == 0 or draws[1][day]
        rows.append(draws[0][day] if new_run else (rows[-1] + 1) % size)
    return rows


def _merton(model: Merton, draws: list[Any]) -> list[float]:
    increments = []
    for z, jumps, size in zip(*draws, strict=True):
        jump = jumps * model.jump_mean + math.sqrt(jumps) * model.jump_std * size
        increments.append(model.drift + model.volatility * z + jump)
    return _summed(increments)


def _gjr_garch(model: GjrGarchFhs, rows: list[int]) -> list[float]:
    variance, total, path = model.next_variance, 0.0, []
    for row in rows:
        shock = math.sqrt(variance) * float(model.residuals[row])
        variance = model.omega + (model.alpha + (model.gamma if shock < 0 else 0.0)) * shock**2 + model.beta * variance
        total += model.mean + shock
        path.append(total)
    return path


def _heston(model: Heston, draws: list[Any]) -> list[float]:
    variance, total, path = model.v0, 0.0, []
    for z1, independent in zip(*draws, strict=True):
        z2 = model.rho * z1 + math.sqrt(1.0 - model.rho**2) * independent
        positive = max(variance, 0.0)
        total += model.drift + model.theta / 2.0 - positive / 2.0 + math.sqrt(positive) * z1
        variance += model.kappa * (model.theta - positive) + model.xi * math.sqrt(positive) * z2
        path.append(total)
    return path


def _portfolio_gbm(model: PortfolioGBM, normals: list[list[float]], days: int) -> list[float]:
    factor = np.linalg.cholesky(model.covariance).tolist()
    paths = []
    for asset, drift in enumerate(model.drifts.tolist()):
        shocks = [sum(factor[asset][k] * normals[k][day] for k in range(asset + 1)) for day in range(days)]
        paths.append(_summed([drift + shock for shock in shocks]))
    return _value(paths, model.weights)


def _value(paths: list[list[float]], weights: FloatArray) -> list[float]:
    shares = weights.tolist()
    return [
        math.log(sum(w * math.exp(x) for w, x in zip(shares, values, strict=True)))
        for values in zip(*paths, strict=True)
    ]


def max_drawdown_reference(path: list[float]) -> float:
    """Do what `apps.montecarlo.science.recording.max_drawdown` does for one path of log price over initial price."""
    peak = deepest = 0.0
    for value in path:
        peak = max(peak, value)
        deepest = max(deepest, peak - value)
    return deepest
