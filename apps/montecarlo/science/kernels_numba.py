"""numba kernel of the daily GBM loop: the same bits as the numpy kernels, several times faster.

The generator is passed in, so the same stream is consumed in the same order, and every operation is the plain IEEE one
that numpy does; `fastmath` would break that.

A worker that loads the compiled loop from numba's cache takes 0.3 s for it and reaches 150 MB, more than half of which
is mapped from the files of numba and LLVM and shared between workers; one that has to compile it takes 3 s and reaches
200 MB. With numpy alone workers stay below 60 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.random import SFC64, Generator

from apps.montecarlo.science.blocks import BLOCK
from apps.montecarlo.science.models import GBM, FloatArray
from apps.montecarlo.science.recording import Observed
from apps.montecarlo.science.spec import SimulationSpec

UNNEEDED = ("scipy", "coverage")
"""What numba loads where it is installed: scipy for linear algebra, coverage to report compiled lines."""


@contextmanager
def hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Make imports of some packages fail for a while, as if not installed, unless they are loaded already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile to machine code on the first call, kept on disk for later processes where that is possible."""
    import numba

    try:
        return numba.njit(function, cache=True)
    except RuntimeError:
        # No folder for the cache can be written; compiling anew costs two seconds a process and nothing else.
        return numba.njit(function)


@cache
def gbm_kernel() -> Any:
    """Load numba and the compiled `_gbm_block`.

    Leaving out scipy and coverage saves a worker 17 MB. numba looks for scipy again when a function of linear
    algebra is compiled, so other uses of it in the same process lose nothing.
    """
    with hidden(UNNEEDED):
        kernel = compiled(_gbm_block)
        # numba loads half of itself on the first call, so that has to happen here.
        one = [np.zeros(1) for _ in range(3)]
        kernel(Generator(SFC64(0)), 0.0, 0.0, np.ones(1, dtype=np.int64), np.empty((1, 1)), *one)
    return kernel


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
    kernel = gbm_kernel()
    horizons = np.asarray(spec.horizons, dtype=np.int64)
    paths = len(streams) * BLOCK
    at = np.empty((horizons.size, paths))
    drawdown, high, low = np.zeros(paths), np.full(paths, -np.inf), np.full(paths, np.inf)
    for block, stream in enumerate(streams):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        out = at[:, part], drawdown[part], high[part], low[part]
        kernel(stream, spec.model.drift, spec.model.volatility, horizons, *out)
    watched = bool(spec.levels)
    return Observed(at, drawdown if spec.drawdown else None, high if watched else None, low if watched else None)
