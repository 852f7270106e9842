"""Blocks of forecasts and the random numbers they use: streams, or scrambled Sobol points with a Brownian bridge.

A block is `BLOCK` paths with a random stream of its own, named by the job's seed and the block's number. Which worker
simulates a block, and beside which others, therefore changes nothing in the result.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator

import numpy as np
from numpy.random import SFC64, Generator, SeedSequence

from apps.montecarlo.science.kernels import Draws, draw, mirror
from apps.montecarlo.science.models import FloatArray, Model, PortfolioBootstrap, PortfolioGBM

BLOCK = 64
"""Paths of one random stream; 64 paths of 1080 days in float64 fit a core's second-level cache."""
BATCH_VALUES = 1 << 20
"""Random values held at once (8 MiB): wide enough that numpy's cost per call vanishes, small enough for any worker."""

REPLICATES = 32
"""Independent scramblings of the Sobol points; their spread is the standard error."""
MAX_DIMENSIONS = 21_201
"""Directions that Joe and Kuo tabulated, SIAM J. Sci. Comput. 30 (2008)."""


def block_stream(seed: int, block: int, *purpose: int) -> Generator:
    """Open the random stream of one block: the same wherever and whenever the block is simulated.

    A `purpose` other than the simulation itself has streams of its own.
    """
    return Generator(SFC64(SeedSequence(seed, spawn_key=(block, *purpose))))


def assets(model: Model) -> int:
    """Count the assets of a model."""
    return model.weights.size if isinstance(model, PortfolioGBM | PortfolioBootstrap) else 1


def batch_width(model: Model, steps: int) -> int:
    """Choose how many blocks of `steps` steps are simulated side by side."""
    return max(1, BATCH_VALUES // (BLOCK * steps * assets(model)))


def draw_block(model: Model, stream: Generator, steps: int, antithetic: bool) -> Draws:
    """Take the draws of one block; antithetic ones alternate between a path and its mirror image."""
    if not antithetic:
        return draw(model, stream, steps, BLOCK)
    half = draw(model, stream, steps, BLOCK // 2)
    # A path and its mirror image lie side by side, so that any even number of paths is whole pairs.
    pairs = zip(half, mirror(model, half), strict=True)
    return tuple(np.stack(pair, axis=-1).reshape(*pair[0].shape[:-1], BLOCK) for pair in pairs)


def draw_blocks(model: Model, streams: list[Generator], steps: int, antithetic: bool) -> Draws:
    """Take the draws of several blocks, side by side in the last axis."""
    blocks = [draw_block(model, stream, steps, antithetic) for stream in streams]
    if len(blocks) == 1:
        return blocks[0]
    return tuple(np.concatenate(parts, axis=-1) for parts in zip(*blocks, strict=True))


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
    size = 1 << max(0, int(math.log2(max(BATCH_VALUES // dimensions, 1))))
    for start in range(0, points, size):
        uniforms = sampler.random(min(size, points - start))
        # A scrambled point may be 0 exactly; half a last place away from either end no normal is infinite.
        yield np.asarray(ndtri(np.clip(uniforms, 2.0**-54, 1.0 - 2.0**-53)), dtype=np.float64)


def brownian_bridge(normals: FloatArray) -> FloatArray:
    """Build random walks with unit steps: the first normal fixes the end, the next the middle, and so on.

    Of Sobol points the first dimensions are the best, so they go where most of the spread is.

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
