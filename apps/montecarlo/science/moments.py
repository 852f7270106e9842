"""The mean and the volatility that a calibrated model implies, and the same model with another mean."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from apps.montecarlo.science.models import (
    GBM,
    Bachelier,
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


class Volatility(NamedTuple):
    """Standard deviation of a step's log return (change of the price for Bachelier), at first and in the long run."""

    first: float
    long_run: float


def volatility(model: Model) -> Volatility:
    """Return the volatility of a model, per step; for a portfolio that of its weights on day 0."""
    match model:
        case GjrGarchFhs():
            falls = float(np.square(np.minimum(model.residuals, 0.0)).mean())
            spread = float(np.square(model.residuals).mean())
            persistence = (model.alpha * spread + model.gamma * falls) + model.beta
            settled = model.omega / (1.0 - persistence) if persistence < 1.0 else math.inf
            return Volatility(math.sqrt(model.next_variance * spread), math.sqrt(settled * spread))
        case Heston():
            return Volatility(math.sqrt(model.v0), math.sqrt(model.theta))
        case _:
            always = math.sqrt(_variance(model))
            return Volatility(always, always)


def _variance(model: Model) -> float:
    match model:
        case GBM() | Bachelier():
            return model.volatility**2
        case StudentT():
            return model.scale**2 * model.df / (model.df - 2.0)
        case Merton():
            return model.volatility**2 + model.jump_rate * (model.jump_mean**2 + model.jump_std**2)
        case PortfolioGBM():
            return float(model.weights @ model.covariance @ model.weights)
        case Bootstrap():
            return float(model.returns.var(ddof=1))
        case PortfolioBootstrap():
            return float((model.returns @ model.weights).var(ddof=1))
    raise TypeError(f"no variance for {type(model).__name__}")


def mean(model: Model) -> FloatArray:
    """Return the mean log return of a step, shape (assets,)."""
    match model:
        case GBM() | Bachelier() | Heston():
            return np.array([model.drift])
        case StudentT():
            return np.array([model.location])
        case Merton():
            return np.array([model.drift + model.jump_rate * model.jump_mean])
        case GjrGarchFhs():
            return np.array([model.mean])
        case PortfolioGBM():
            return model.drifts
        case Bootstrap() | PortfolioBootstrap():
            return np.atleast_1d(model.returns.mean(axis=0))


def with_mean(model: Model, wanted: FloatArray) -> Model:
    """Return the same model with another mean log return of a step, all else unchanged.

    Parameters
    ----------
    model : Model
    wanted : ndarray of float64, shape (assets,)
        One mean for each asset.
    """
    match model:
        case GBM() | Bachelier() | Heston():
            return replace(model, drift=float(wanted[0]))
        case StudentT():
            return replace(model, location=float(wanted[0]))
        case Merton():
            return replace(model, drift=float(wanted[0]) - model.jump_rate * model.jump_mean)
        case GjrGarchFhs():
            return replace(model, mean=float(wanted[0]))
        case PortfolioGBM():
            return replace(model, drifts=wanted)
        case Bootstrap():
            return replace(model, returns=model.returns + (wanted[0] - model.returns.mean()))
        case PortfolioBootstrap():
            return replace(model, returns=model.returns + (wanted - model.returns.mean(axis=0)))


def growing_at(model: Model, rate: float, returns: FloatArray) -> Model:
    """Return the same model with an expected price that grows by `rate` a step, continuously compounded.

    Parameters
    ----------
    model : Model
    rate : float
        Per step.
    returns : ndarray of float64, shape (n, assets)
        The sample, whose variance is that of the model.

    Notes
    -----
    Half the variance is taken off the rate: exact for normal log returns, to second order for others. Where runs of
    past steps are drawn it is that of a step among many, as steps of a run go together or against each other.
    """
    sample = np.asarray(returns)
    if isinstance(model, Bootstrap | PortfolioBootstrap):
        variance = np.array([_variance_in_runs(column, model.mean_block) for column in sample.T])
    else:
        variance = sample.var(axis=0, ddof=1)
    return with_mean(model, rate - variance / 2.0)


def _variance_in_runs(returns: FloatArray, mean_block: float) -> float:
    """Return the variance of a sum of many steps of the stationary bootstrap, per step.

    Notes
    -----
    Politis and Romano, J. American Statistical Association 89 (1994), lemma 1, for endless sums.
    """
    size = returns.size
    spectrum = np.square(np.abs(np.fft.rfft(returns - returns.mean())))
    covariance = np.fft.irfft(spectrum, size) / size
    weights = (1.0 - 1.0 / mean_block) ** np.arange(1, size)
    return float(covariance[0] + 2.0 * weights @ covariance[1:])
