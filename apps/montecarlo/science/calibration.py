"""Models from past prices: one function, `calibrate`, and the constants of the published talk.

In every model the mean log return of a day is the sample's mean log return `u`, and the long-run variance that of the
sample (Merton's nearly). No `variance / 2` is taken off: that belongs to a drift of the price, and `u` is already the
drift of its logarithm.
"""

from __future__ import annotations

import numpy as np

from apps.montecarlo.science import fitting
from apps.montecarlo.science.models import (
    GBM,
    Bachelier,
    Bootstrap,
    FloatArray,
    Model,
    PortfolioBootstrap,
    PortfolioGBM,
)

__all__ = [
    "MODEL_NAMES",
    "PORTFOLIO_MODEL_NAMES",
    "TALK_DAYS",
    "TALK_LAST_PRICE",
    "TALK_MODEL",
    "calibrate",
    "describe",
    "log_returns",
]

MODEL_NAMES = ("gbm", "bootstrap", "block-bootstrap", "student-t", "merton", "gjr-garch", "heston", "bachelier")
PORTFOLIO_MODEL_NAMES = ("gbm", "bootstrap", "block-bootstrap")
MIN_RETURNS = 29
"""Fewest log returns (30 prices) from which a spread can be told at all."""

TALK_LAST_PRICE = 159.44
"""Last price of the published notebook, US dollars."""
TALK_DAYS = 1080
TALK_MODEL = GBM(drift=-0.00022513546014255100, volatility=0.0121678341323272)
"""The published notebook's constants as they stand, the drift being that of the exponent.

By the notebook's text the drift is ``u - var^2 / 2``. With the standard deviation for `var` that takes half the
variance off a mean of log returns, which needs no such correction; with the variance it takes off next to nothing
(1e-8). The constants cannot tell which was done, and as they stand they repeat the published picture best: of 100,000
forecasts most fall at $130 after 540 days (standard deviation of the highest bin over seeds $4), 2,475 of them in one
bin (30). With half the variance added back that is $135, with it taken off once more $126.
"""


def log_returns(prices: FloatArray) -> FloatArray:
    """Take log returns of daily prices.

    Parameters
    ----------
    prices : ndarray of float64, shape (n,) or (n, k)
        Positive prices, oldest first, one column for each asset.

    Returns
    -------
    ndarray of float64, shape (n - 1,) or (n - 1, k)
    """
    return np.diff(np.log(np.asarray(prices, dtype=np.float64)), axis=0)


def calibrate(
    name: str, returns: FloatArray, *, weights: FloatArray | None = None, mean_block: float | None = None
) -> Model:
    """Find the parameters of a model from past log returns.

    Parameters
    ----------
    name : str
        One of `MODEL_NAMES`; for several assets one of `PORTFOLIO_MODEL_NAMES`.
    returns : ndarray of float64, shape (n,) or (n, k)
        Daily log returns, oldest first; two columns or more make a portfolio. For ``bachelier`` changes of the price.
    weights : ndarray of float64, shape (k,), optional
        Share of each asset in the value on day 0; equal shares without it.
    mean_block : float, optional
        Mean run of days that ``block-bootstrap`` draws together; without it the optimal length for the data.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        The name is unknown or not for several assets, or the returns are too few or not finite, or a fit fails.
    """
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim == 2 and returns.shape[1] == 1:
        returns = returns[:, 0]
    if name not in MODEL_NAMES:
        raise ValueError(f"there is no model {name!r}; choose from {', '.join(MODEL_NAMES)}")
    if returns.shape[0] < MIN_RETURNS:
        raise ValueError(f"{returns.shape[0]} log returns are too few to calibrate from; {MIN_RETURNS} are needed")
    if not np.isfinite(returns).all():
        raise ValueError("log returns must be finite; prices must be positive and none missing")
    if returns.ndim == 2:
        return _calibrate_portfolio(name, returns, weights, mean_block)
    if name == "gbm":
        return GBM(float(returns.mean()), float(returns.std(ddof=1)))
    if name == "bachelier":
        return Bachelier(float(returns.mean()), float(returns.std(ddof=1)))
    if name == "bootstrap":
        return Bootstrap(returns)
    if name == "block-bootstrap":
        return Bootstrap(returns, mean_block or fitting.optimal_block_length(returns[:, None]))
    if float(returns.std()) == 0.0:
        raise ValueError(f"these prices never change, so the {name} model cannot be fitted; use gbm or bootstrap")
    if name == "student-t":
        return fitting.fit_student_t(returns)
    if name == "merton":
        return fitting.fit_merton(returns)
    return fitting.fit_gjr_garch(returns) if name == "gjr-garch" else fitting.fit_heston(returns)


def _calibrate_portfolio(
    name: str, returns: FloatArray, weights: FloatArray | None, mean_block: float | None
) -> PortfolioGBM | PortfolioBootstrap:
    count = returns.shape[1]
    shares = np.full(count, 1.0 / count) if weights is None else weights
    if name == "gbm":
        return PortfolioGBM(returns.mean(axis=0), np.cov(returns, rowvar=False), shares)
    if name == "bootstrap":
        return PortfolioBootstrap(returns, shares)
    if name == "block-bootstrap":
        return PortfolioBootstrap(returns, shares, mean_block or fitting.optimal_block_length(returns))
    known = ", ".join(PORTFOLIO_MODEL_NAMES)
    raise ValueError(f"the {name} model is for one asset; for a portfolio choose from {known}")


def describe(model: Model) -> dict[str, float]:
    """List the parameters of a model that are single numbers, by name and in the model's own units."""
    return {key: float(value) for key, value in vars(model).items() if isinstance(value, float | int)}
