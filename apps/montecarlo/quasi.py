"""Scrambled Sobol points, the Brownian bridge that spends their best dimensions first, and terminal values."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.random import SeedSequence

from apps.montecarlo.models import GBM, FloatArray, PortfolioGBM
from apps.montecarlo.portfolio import log_value

REPLICATES = 32
"""Independent scramblings; their spread is the standard error."""
MAX_DIMENSIONS = 21_201
"""Directions that Joe and Kuo tabulated, SIAM J. Sci. Comput. 30 (2008)."""
CHUNK_VALUES = 1 << 20
"""Values made at once (8 MiB)."""


class TerminalEstimate(NamedTuple):
    """Figures of the price on one day, in currency, with standard errors from independent scramblings.

    `quantiles` and `quantile_se` have shape (probabilities,).
    """

    quantiles: FloatArray
    quantile_se: FloatArray
    mean: float
    mean_se: float


def sobol_normals(dimensions: int, points: int, seed: int, replicate: int) -> Iterator[FloatArray]:
    """Make one scrambled replicate of Sobol points as normals, in chunks of shape (n, dimensions).

    Parameters
    ----------
    dimensions : int
        Up to `MAX_DIMENSIONS`.
    points : int
        A power of two.
    seed, replicate : int
        Name the scrambling.

    Yields
    ------
    ndarray of float64, shape (n, dimensions)
    """
    from scipy.special import ndtri
    from scipy.stats import qmc

    # scipy 1.15 renamed the argument; the older name warns from some later release on.
    name = "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"
    generator = np.random.default_rng(SeedSequence(seed, spawn_key=(replicate,)))
    sampler = qmc.Sobol(dimensions, scramble=True, **{name: generator})
    size = 1 << max(0, int(math.log2(max(CHUNK_VALUES // dimensions, 1))))
    for start in range(0, points, size):
        uniforms = sampler.random(min(size, points - start))
        # A scrambled point may be 0 exactly; half a last place away from either end no normal is infinite.
        yield np.asarray(ndtri(np.clip(uniforms, 2.0**-54, 1.0 - 2.0**-53)), dtype=np.float64)


def brownian_bridge(normals: FloatArray) -> FloatArray:
    """Build random walks with unit steps: the first normal fixes the end, the next the middle, and so on.

    Parameters
    ----------
    normals : ndarray of float64, shape (steps, paths)

    Returns
    -------
    ndarray of float64, shape (steps, paths)
        Row ``t`` is the walk after ``t + 1`` steps.

    Notes
    -----
    Caflisch, Morokoff and Owen, J. Computational Finance 1 (1997).
    """
    steps = normals.shape[0]
    walk = np.empty((steps + 1, normals.shape[1]))
    walk[0] = 0.0
    walk[steps] = math.sqrt(steps) * normals[0]
    gaps, used = [(0, steps)], 1
    for left, right in gaps:
        middle = (left + right) // 2
        if middle == left:
            continue
        share = (middle - left) / (right - left)
        deviation = math.sqrt((middle - left) * (right - middle) / (right - left))
        walk[middle] = (1.0 - share) * walk[left] + share * walk[right] + deviation * normals[used]
        used += 1
        gaps += [(left, middle), (middle, right)]
    return walk[1:]


def terminal_estimate(
    model: GBM | PortfolioGBM, s0: float, day: int, probabilities: tuple[float, ...], points: int, seed: int
) -> TerminalEstimate:
    """Estimate quantiles and mean of the price on one day from scrambled Sobol points, without the days between.

    Parameters
    ----------
    model : GBM or PortfolioGBM
        One dimension for each asset.
    s0 : float
        Initial price or value.
    day : int
        Days ahead.
    probabilities : tuple of float
        Of the quantiles.
    points : int
        Points of each of `REPLICATES` scramblings, a power of two.
    seed : int
        The job's seed.

    Returns
    -------
    TerminalEstimate

    Raises
    ------
    ValueError
        `points` is not a power of two.
    """
    if points < 1 or points & (points - 1):
        raise ValueError(f"Sobol points come in powers of two, not {points}")
    quantiles, means = np.empty((REPLICATES, len(probabilities))), np.empty(REPLICATES)
    dimensions = model.weights.size if isinstance(model, PortfolioGBM) else 1
    for replicate in range(REPLICATES):
        normals = np.concatenate(list(sobol_normals(dimensions, points, seed, replicate)))
        logs = _terminal_logs(model, normals, day)
        quantiles[replicate] = s0 * np.exp(np.quantile(logs, probabilities))
        means[replicate] = s0 * float(np.exp(logs).mean())
    root = math.sqrt(REPLICATES)
    return TerminalEstimate(
        quantiles.mean(axis=0),
        quantiles.std(axis=0, ddof=1) / root,
        float(means.mean()),
        float(means.std(ddof=1)) / root,
    )


def _terminal_logs(model: GBM | PortfolioGBM, normals: FloatArray, day: int) -> FloatArray:
    if isinstance(model, GBM):
        return model.drift * day + model.volatility * math.sqrt(day) * normals[:, 0]
    shocks = normals @ np.linalg.cholesky(model.covariance).T * math.sqrt(day)
    assets = [(drift * day + column)[None, :] for drift, column in zip(model.drifts.tolist(), shocks.T, strict=True)]
    return np.asarray(log_value(assets, model.weights)[0], dtype=np.float64)
