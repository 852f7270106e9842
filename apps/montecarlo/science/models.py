"""The price models: frozen parameters, in units of one trading day and of natural-log returns.

What a model does with random draws is in :mod:`apps.montecarlo.science.kernels`; how its parameters are found from
prices is in :mod:`apps.montecarlo.science.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _frozen(values: object, ndim: int, what: str) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    _check(array.ndim == ndim and array.size > 0, f"{what} must be a non-empty array of {ndim} dimension(s)")
    _check(bool(np.isfinite(array).all()), f"{what} must be finite")
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class GBM:
    """Geometric Brownian motion: daily log returns are independent normals.

    Parameters
    ----------
    drift : float
        Mean log return of a day (the drift of the exponent, not of the price).
    volatility : float
        Standard deviation of the log return of a day.
    """

    name: ClassVar[str] = "gbm"
    drift: float
    volatility: float

    def __post_init__(self) -> None:
        _check(bool(np.isfinite(self.drift)), "drift must be finite")
        _check(0.0 <= self.volatility < np.inf, "volatility must be finite and not negative")


@dataclass(frozen=True)
class Bachelier:
    """Arithmetic Brownian motion: daily changes of the price are independent normals, so it may fall below zero.

    Parameters
    ----------
    drift, volatility : float
        Mean and standard deviation of the change of the price in a day, in currency.

    Notes
    -----
    Bachelier, "Théorie de la spéculation", Annales scientifiques de l'École normale supérieure 17 (1900).
    """

    name: ClassVar[str] = "bachelier"
    drift: float
    volatility: float

    def __post_init__(self) -> None:
        _check(bool(np.isfinite(self.drift)), "drift must be finite")
        _check(0.0 <= self.volatility < np.inf, "volatility must be finite and not negative")


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Past daily log returns drawn again with replacement.

    Parameters
    ----------
    returns : ndarray of float64, shape (n,)
        Past log returns.
    mean_block : float
        Mean length in days of the runs that are drawn together; 1 draws every day on its own.

    Notes
    -----
    Runs of geometric length on the circle of past days: the stationary bootstrap of Politis and Romano,
    "The Stationary Bootstrap", JASA 89 (1994).
    """

    name: ClassVar[str] = "bootstrap"
    returns: FloatArray
    mean_block: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "returns", _frozen(self.returns, 1, "returns"))
        _check(1.0 <= self.mean_block < np.inf, "mean_block must be at least 1 day")


@dataclass(frozen=True)
class StudentT:
    """Independent daily log returns ``location + scale * t`` with ``t`` Student-distributed.

    Parameters
    ----------
    location, scale : float
        Centre and scale of the log return of a day.
    df : float
        Degrees of freedom; above 2 so that the variance exists.

    Notes
    -----
    The expected price is infinite for every `df`: read quantiles of such forecasts, not means.
    """

    name: ClassVar[str] = "student-t"
    location: float
    scale: float
    df: float

    def __post_init__(self) -> None:
        _check(bool(np.isfinite(self.location)), "location must be finite")
        _check(0.0 <= self.scale < np.inf, "scale must be finite and not negative")
        _check(2.0 < self.df < np.inf, "df must be finite and above 2, or the variance does not exist")


@dataclass(frozen=True)
class Merton:
    """Jump diffusion: normal daily log returns plus a Poisson number of normal jumps.

    Parameters
    ----------
    drift, volatility : float
        Mean and standard deviation of the log return of a day without jumps.
    jump_rate : float
        Expected jumps a day.
    jump_mean, jump_std : float
        Mean and standard deviation of the log return of one jump.

    Notes
    -----
    Merton, "Option pricing when underlying stock returns are discontinuous", J. Financial Economics 3 (1976).
    """

    name: ClassVar[str] = "merton"
    drift: float
    volatility: float
    jump_rate: float
    jump_mean: float
    jump_std: float

    def __post_init__(self) -> None:
        _check(bool(np.isfinite([self.drift, self.jump_mean]).all()), "drift and jump_mean must be finite")
        _check(0.0 <= self.volatility < np.inf, "volatility must be finite and not negative")
        _check(0.0 <= self.jump_rate < np.inf, "jump_rate must be finite and not negative")
        _check(0.0 <= self.jump_std < np.inf, "jump_std must be finite and not negative")


@dataclass(frozen=True, eq=False)
class GjrGarchFhs:
    """Filtered historical simulation: GJR-GARCH(1,1) variance driven by past standardised residuals.

    The log return of a day is ``mean + e`` with ``e = sqrt(h) z``, ``z`` drawn from `residuals`, and the next day's
    variance is ``omega + (alpha + gamma [e < 0]) e^2 + beta h``.

    Parameters
    ----------
    mean : float
        Mean log return of a day.
    omega, alpha, gamma, beta : float
        Variance parameters, for log returns as fractions (not percent).
    next_variance : float
        Conditional variance of the first forecast day.
    residuals : ndarray of float64, shape (n,)
        Standardised residuals of the fit.

    Notes
    -----
    Glosten, Jagannathan and Runkle, J. Finance 48 (1993); Barone-Adesi, Giannopoulos and Vosper, "VaR without
    correlations for portfolios of derivative securities", J. Futures Markets 19 (1999).
    """

    name: ClassVar[str] = "gjr-garch"
    mean: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    next_variance: float
    residuals: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "residuals", _frozen(self.residuals, 1, "residuals"))
        _check(bool(np.isfinite(self.mean)), "mean must be finite")
        _check(self.omega >= 0 and self.alpha >= 0 and self.beta >= 0, "omega, alpha and beta must not be negative")
        _check(self.alpha + self.gamma >= 0, "alpha + gamma must not be negative")
        _check(0.0 <= self.next_variance < np.inf, "next_variance must be finite and not negative")


@dataclass(frozen=True)
class Heston:
    """Stochastic variance, stepped daily by the full-truncation Euler scheme.

    ``log return = drift + theta / 2 - v+ / 2 + sqrt(v+) z1`` and
    ``v' = v + kappa (theta - v+) + xi sqrt(v+) z2`` with ``corr(z1, z2) = rho`` and ``v+ = max(v, 0)``, so that `drift`
    is the mean log return of a day in the stationary state.

    Parameters
    ----------
    drift : float
        Mean log return of a day when the variance is at `theta`.
    kappa : float
        Speed of mean reversion of the variance, per day.
    theta : float
        Long-run variance of a day.
    xi : float
        Volatility of the variance, per day.
    rho : float
        Correlation of price and variance shocks.
    v0 : float
        Variance of the first forecast day.

    Notes
    -----
    Lord, Koekkoek and van Dijk, "A comparison of biased simulation schemes for stochastic volatility models",
    Quantitative Finance 10 (2010).
    """

    name: ClassVar[str] = "heston"
    drift: float
    kappa: float
    theta: float
    xi: float
    rho: float
    v0: float

    def __post_init__(self) -> None:
        _check(bool(np.isfinite(self.drift)), "drift must be finite")
        _check(0.0 < self.kappa <= 1.0, "kappa must be above 0 and at most 1 a day")
        _check(0.0 <= self.theta < np.inf, "theta must be finite and not negative")
        _check(0.0 <= self.v0 < np.inf, "v0 must be finite and not negative")
        _check(0.0 <= self.xi < np.inf, "xi must be finite and not negative")
        _check(-1.0 <= self.rho <= 1.0, "rho must be between -1 and 1")


@dataclass(frozen=True, eq=False)
class PortfolioGBM:
    """Correlated geometric Brownian motions, bought at `weights` and held.

    Parameters
    ----------
    drifts : ndarray of float64, shape (k,)
        Mean log return of a day of each asset.
    covariance : ndarray of float64, shape (k, k)
        Covariance of the daily log returns; positive definite.
    weights : ndarray of float64, shape (k,)
        Share of each asset in the value on day 0, summing to 1; a negative one is a short position.
    """

    name: ClassVar[str] = "gbm"
    drifts: FloatArray
    covariance: FloatArray
    weights: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "drifts", _frozen(self.drifts, 1, "drifts"))
        object.__setattr__(self, "covariance", _frozen(self.covariance, 2, "covariance"))
        object.__setattr__(self, "weights", checked_weights(self.weights))
        assets = self.drifts.size
        _check(self.covariance.shape == (assets, assets), "covariance must have one row and column for each asset")
        _check(self.weights.size == assets, "weights must have one entry for each asset")
        try:
            np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            raise ValueError("covariance is not positive definite: two assets move as one; drop one of them") from None


@dataclass(frozen=True, eq=False)
class PortfolioBootstrap:
    """Past days of several assets drawn again together, bought at `weights` and held.

    Parameters
    ----------
    returns : ndarray of float64, shape (n, k)
        Past log returns, one column for each asset.
    weights : ndarray of float64, shape (k,)
        Share of each asset in the value on day 0, summing to 1; a negative one is a short position.
    mean_block : float
        Mean length in days of the runs that are drawn together.
    """

    name: ClassVar[str] = "bootstrap"
    returns: FloatArray
    weights: FloatArray
    mean_block: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "returns", _frozen(self.returns, 2, "returns"))
        object.__setattr__(self, "weights", checked_weights(self.weights))
        _check(self.weights.size == self.returns.shape[1], "weights must have one entry for each asset")
        _check(1.0 <= self.mean_block < np.inf, "mean_block must be at least 1 day")


Model = GBM | Bachelier | Bootstrap | StudentT | Merton | GjrGarchFhs | Heston | PortfolioGBM | PortfolioBootstrap


def checked_weights(weights: object) -> FloatArray:
    """Weights of a portfolio as a read-only array; a negative one is a short position.

    Raises
    ------
    ValueError
        They do not sum to 1 within 1e-9.
    """
    array = _frozen(weights, 1, "weights")
    total = float(array.sum())
    _check(abs(total - 1.0) <= 1e-9, f"weights must sum to 1, they sum to {total:g}")
    return array
