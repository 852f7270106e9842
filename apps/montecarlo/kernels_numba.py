"""numba kernel of the daily GBM loop: the same bits as the numpy kernels, several times faster.

Import it only where numba is wanted: loading costs about a second. The generator is passed in, so the same stream is
consumed in the same order, and every operation is the plain IEEE one that numpy does; `fastmath` would break that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.random import Generator

from apps.montecarlo.blocks import BLOCK
from apps.montecarlo.models import GBM, FloatArray
from apps.montecarlo.observing import Observed

if TYPE_CHECKING:
    from apps.montecarlo.simulation import SimulationSpec


def compiled(function: Callable[..., Any]) -> Any:
    """Compile to machine code on the first call, kept on disk for later processes where that is possible."""
    try:
        return numba.njit(function, cache=True)
    except RuntimeError:
        # No folder for the cache can be written; compiling anew costs two seconds a process and nothing else.
        return numba.njit(function)


def _gbm_block(
    rng: Generator,
    drift: float,
    volatility: float,
    horizons: FloatArray,
    at: FloatArray,
    drawdown: FloatArray,
    high: FloatArray,
    low: FloatArray,
) -> None:
    paths = at.shape[1]
    normals = np.empty(paths)
    total = np.zeros(paths)
    peak = np.zeros(paths)
    row = 0
    for day in range(1, horizons[-1] + 1):
        # Drawing apart from the arithmetic leaves the compiler a loop that it can vectorise.
        for i in range(paths):
            normals[i] = rng.standard_normal()
        for i in range(paths):
            value = total[i] + (normals[i] * volatility + drift)
            total[i] = value
            peak[i] = max(peak[i], value)
            drawdown[i] = max(drawdown[i], peak[i] - value)
            high[i] = max(high[i], value)
            low[i] = min(low[i], value)
        if day == horizons[row]:
            at[row] = total
            row += 1


_gbm_block_compiled = compiled(_gbm_block)


def observe_gbm(spec: SimulationSpec, streams: list[Generator]) -> Observed:
    """Simulate whole blocks of a GBM's daily paths, one for each stream, and keep what a summary needs.

    Parameters
    ----------
    spec : SimulationSpec
        A job whose model is a GBM, with daily steps and without antithetic pairs.
    streams : list of Generator
        The streams of the blocks, not yet used.

    Returns
    -------
    Observed
        Bit for bit what the numpy kernels give.
    """
    assert isinstance(spec.model, GBM)
    horizons = np.asarray(spec.horizons, dtype=np.int64)
    paths = len(streams) * BLOCK
    at = np.empty((horizons.size, paths))
    drawdown, high, low = np.zeros(paths), np.full(paths, -np.inf), np.full(paths, np.inf)
    for block, stream in enumerate(streams):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        out = at[:, part], drawdown[part], high[part], low[part]
        _gbm_block_compiled(stream, spec.model.drift, spec.model.volatility, horizons, *out)
    watched = bool(spec.levels)
    return Observed(at, drawdown if spec.drawdown else None, high if watched else None, low if watched else None)
