"""Blocks of forecasts and their random streams.

A block is `BLOCK` paths with a random stream of its own, named by the job's seed and the block's number. Which worker
simulates a block, and beside which others, therefore changes nothing in the result.
"""

from __future__ import annotations

import numpy as np
from numpy.random import SFC64, Generator, SeedSequence

from apps.montecarlo import portfolio  # noqa: F401  importing it registers the kernels of portfolios
from apps.montecarlo.kernels import Draws, draw, mirror
from apps.montecarlo.models import Model, PortfolioBootstrap, PortfolioGBM

BLOCK = 64
"""Paths of one random stream; 64 paths of 1080 days in float64 fit a core's second-level cache."""
BATCH_VALUES = 1 << 20
"""Random values held at once (8 MiB): wide enough that numpy's cost per call vanishes, small enough for any worker."""

__all__ = ["BATCH_VALUES", "BLOCK", "assets", "batch_width", "block_stream", "draw_block", "draw_blocks"]


def block_stream(seed: int, block: int) -> Generator:
    """Open the random stream of one block: the same wherever and whenever the block is simulated."""
    return Generator(SFC64(SeedSequence(seed, spawn_key=(block,))))


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
