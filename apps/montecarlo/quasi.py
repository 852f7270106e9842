"""Scrambled Sobol points, and the Brownian bridge that spends their best dimensions first."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator

import numpy as np
from numpy.random import SeedSequence

from apps.montecarlo.models import FloatArray

REPLICATES = 32
"""Independent scramblings; their spread is the standard error."""
MAX_DIMENSIONS = 21_201
"""Directions that Joe and Kuo tabulated, SIAM J. Sci. Comput. 30 (2008)."""
CHUNK_VALUES = 1 << 20
"""Values made at once (8 MiB)."""


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
