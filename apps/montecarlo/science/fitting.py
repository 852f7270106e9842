"""Fits of the models that need more than a mean and a standard deviation; scipy and arch are loaded where used."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from apps.montecarlo.science.models import FloatArray, GjrGarchFhs, Heston, Merton, Model, StudentT

PERCENT = 100.0
"""`arch` fits returns in percent: its optimiser is poorly scaled on fractions."""
DF_ABOVE_TWO = (0.01, 400.0)
"""Degrees of freedom are kept in this range above 2: there is no variance below, and no tail to speak of beyond."""
MAX_JUMPS = 12
"""Jumps on one day beyond which Merton's likelihood is cut off."""
MERTON_STARTS = ((0.02, 3.0), (0.1, 2.0), (0.5, 1.0))
"""Starting points: jumps a day, and their size in standard deviations of a day's return."""
HESTON_LAGS = 60
"""Days over which the memory of squared returns is fitted."""
LEVERAGE_LAGS = 10
"""Days after a return over which its effect on the variance is averaged."""
EWMA_DECAY = 0.94
"""Daily decay of the variance estimate that starts a forecast: RiskMetrics Technical Document (1996)."""
PERSISTENCE_RANGE = (0.5, 0.999)
"""Daily persistence of Heston's variance is kept in this range, outside which the sample says nothing; GJR-GARCH's is
kept below its end, or the variance would have no long-run level."""
CORRELATION_LIMIT = 0.95


def optimal_block_length(returns: FloatArray) -> float:
    """Choose the mean block of the stationary bootstrap by the rule of Politis and White.

    Parameters
    ----------
    returns : ndarray of float64, shape (n, k)

    Returns
    -------
    float
        Days, at least 1: the longest over assets, and over returns and squared returns, since the memory of returns is
        that of their size.

    Notes
    -----
    Politis and White, Econometric Reviews 23 (2004), with the correction of 2009, as `arch` computes it.
    """
    from arch.bootstrap import optimal_block_length as politis_white

    series = np.concatenate([returns, np.square(returns - returns.mean(axis=0))], axis=1)
    lengths = politis_white(series)["stationary"].to_numpy(dtype=np.float64)
    return max(1.0, float(np.nanmax(lengths))) if np.isfinite(lengths).any() else 1.0


def fit_student_t(returns: FloatArray) -> StudentT:
    """Fit the degrees of freedom by maximum likelihood, mean and variance being those of the sample.

    A free location would forget the crashes and forecast a drift never earned; a free scale with few degrees of freedom
    would forecast a variance several times that of the sample.

    Notes
    -----
    The standardised law of Bollerslev, Review of Economics and Statistics 69 (1987).
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    mean, spread = float(returns.mean()), float(returns.std(ddof=1))
    squares = np.square((returns - mean) / spread)

    def minus_log_likelihood(log_excess: float) -> float:
        excess = math.exp(log_excess)
        df = 2.0 + excess
        norm = gammaln((df + 1.0) / 2.0) - gammaln(df / 2.0) - 0.5 * math.log(excess * math.pi)
        return float((df + 1.0) / 2.0 * np.log1p(squares / excess).sum() - returns.size * norm)

    fit = minimize_scalar(minus_log_likelihood, bounds=np.log(DF_ABOVE_TWO), method="bounded")
    excess = math.exp(fit.x)
    return StudentT(mean, spread * math.sqrt(excess / (2.0 + excess)), 2.0 + excess)


def fit_merton(returns: FloatArray) -> Merton:
    """Fit a jump diffusion by maximum likelihood, its overall mean being that of the sample.

    Raises
    ------
    ValueError
        The optimiser finds no maximum.
    """
    from scipy.optimize import minimize
    from scipy.special import gammaln, logsumexp

    mean, spread = float(returns.mean()), float(returns.std(ddof=1))
    standard = ((returns - mean) / spread)[:, None]
    jumps = np.arange(MAX_JUMPS + 1)[None, :]
    log_factorial = gammaln(jumps + 1.0)

    def minus_log_likelihood(theta: FloatArray) -> float:
        volatility, rate, jump_mean, jump_std = math.exp(theta[0]), math.exp(theta[1]), theta[2], math.exp(theta[3])
        variance = volatility**2 + jumps * jump_std**2
        distance = standard - (jumps - rate) * jump_mean
        poisson = jumps * theta[1] - rate - log_factorial
        terms = poisson - 0.5 * np.log(2 * math.pi * variance) - distance**2 / variance / 2
        return -float(logsumexp(terms, axis=1).sum())

    limits = [(math.log(0.05), math.log(1.5)), (math.log(1e-4), 0.0), (-10.0, 10.0), (math.log(0.05), math.log(20.0))]
    starts = [np.array([-0.3, math.log(rate), 0.0, math.log(size)]) for rate, size in MERTON_STARTS]
    fits = [minimize(minus_log_likelihood, start, method="L-BFGS-B", bounds=limits) for start in starts]
    best = min(fits, key=lambda fit: float(fit.fun))
    if not np.isfinite(best.fun):
        raise ValueError("the merton model could not be fitted to these prices; choose another model")
    rate, jump_mean = math.exp(best.x[1]), float(best.x[2]) * spread
    return Merton(
        drift=mean - rate * jump_mean,
        volatility=spread * math.exp(best.x[0]),
        jump_rate=rate,
        jump_mean=jump_mean,
        jump_std=spread * math.exp(best.x[3]),
    )


def fit_gjr_garch(returns: FloatArray) -> GjrGarchFhs:
    """Fit GJR-GARCH(1,1) by quasi maximum likelihood with `arch`, and keep its standardised residuals.

    Residuals are brought to mean 0 and variance 1, and `omega` is set so that forecasts return to the sample's mean and
    variance. The fitted `omega` would not do: it supposes that half of the squared residuals are falls, and where
    falls weigh more, as with shares, the forecast variance would settle far above anything the sample has seen.

    Raises
    ------
    ValueError
        The fit does not converge.

    Notes
    -----
    Variance targeting: Engle and Mezrich, "GARCH for groups", Risk 9 (1996).
    """
    from arch import arch_model

    mean = float(returns.mean())
    shocks = returns - mean
    model = arch_model(shocks * PERCENT, mean="Zero", vol="GARCH", p=1, o=1, q=1, rescale=False)
    fit = model.fit(disp="off", show_warning=False)
    if fit.convergence_flag != 0:
        raise ValueError("the gjr-garch fit did not converge on these prices; use more history or another model")
    omega, alpha, gamma, beta = (float(fit.params[key]) for key in ("omega", "alpha[1]", "gamma[1]", "beta[1]"))
    variance = np.square(np.asarray(fit.conditional_volatility) / PERCENT)
    weight = alpha + (gamma if shocks[-1] < 0 else 0.0)
    next_variance = omega / PERCENT**2 + weight * shocks[-1] ** 2 + beta * variance[-1]
    residuals = shocks / np.sqrt(variance)
    residuals = (residuals - residuals.mean()) / residuals.std()
    persistence = alpha + beta + gamma * float(np.square(np.minimum(residuals, 0.0)).mean())
    shrink = min(1.0, PERSISTENCE_RANGE[1] / persistence) if persistence > 0.0 else 1.0
    return GjrGarchFhs(
        mean=mean,
        omega=float(shocks.var()) * (1.0 - shrink * persistence),
        alpha=shrink * alpha,
        gamma=shrink * max(gamma, -alpha),
        beta=shrink * beta,
        next_variance=float(next_variance),
        residuals=residuals,
    )


def fit_heston(returns: FloatArray) -> Heston:
    """Estimate stochastic variance by matching moments of the returns.

    The autocovariance of squared returns at lag ``l`` is ``c (1 - kappa)^l`` with ``c`` the stationary variance of the
    variance, ``xi^2 theta / (1 - (1 - kappa)^2)``; the covariance of a return with the squared one ``l`` days later is
    ``rho xi theta (1 - kappa)^(l - 1)``. The first is fitted by least squares over `HESTON_LAGS` lags, the second
    averaged over `LEVERAGE_LAGS`; the variance on day 0 is exponentially weighted.

    Notes
    -----
    A simple estimator without the option prices or high-frequency data that a careful one would use.
    """
    mean = float(returns.mean())
    shocks = returns - mean
    squares = np.square(shocks)
    theta = float(squares.mean())
    excess = squares - theta
    lags = np.arange(1, min(HESTON_LAGS, returns.size // 3) + 1)
    covariance = np.array([excess[:-lag] @ excess[lag:] / excess.size for lag in lags])
    candidates = np.linspace(*PERSISTENCE_RANGE, 500)
    decay = candidates[:, None] ** lags[None, :]
    level = np.maximum(decay @ covariance / np.square(decay).sum(axis=1), 0.0)
    misfit = np.square(covariance - level[:, None] * decay).sum(axis=1)
    best = int(np.argmin(misfit))
    persistence = float(candidates[best])
    xi = math.sqrt(float(level[best]) * (1.0 - persistence**2) / theta)
    leads = np.arange(1, min(LEVERAGE_LAGS, lags.size) + 1)
    leverage = np.array([shocks[:-lead] @ excess[lead:] / excess.size for lead in leads])
    weights = persistence ** (leads - 1.0)
    slope = float(weights @ leverage / (weights @ weights))
    rho = slope / (xi * theta) if xi > 0.0 else 0.0
    return Heston(
        drift=mean,
        kappa=1.0 - persistence,
        theta=theta,
        xi=xi,
        rho=float(np.clip(rho, -CORRELATION_LIMIT, CORRELATION_LIMIT)),
        v0=_recent_variance(squares),
    )


def brought_to_date(model: Model, returns: FloatArray) -> Model:
    """Give a model fitted earlier the state that later returns have brought about; its parameters stay.

    Parameters
    ----------
    model : Model
        A model for one asset.
    returns : ndarray of float64, shape (n,)
        All log returns known by now, oldest first.

    Returns
    -------
    Model
        Another variance of the first forecast day for GJR-GARCH and Heston; the other models have no state.
    """
    if isinstance(model, Heston):
        return replace(model, v0=_recent_variance(np.square(returns - model.drift)))
    if not isinstance(model, GjrGarchFhs):
        return model
    shocks = returns - model.mean
    variance = float(shocks.var())
    for shock in shocks.tolist():
        weight = model.alpha + (model.gamma if shock < 0.0 else 0.0)
        variance = model.omega + weight * shock * shock + model.beta * variance
    return replace(model, next_variance=variance)


def _recent_variance(squares: FloatArray) -> float:
    """Weigh squared returns exponentially, the latest most."""
    recent = EWMA_DECAY ** np.arange(squares.size)[::-1]
    return float(recent @ squares / recent.sum())
