"""Sets of ion images made of dense ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.science.images import ImageSet


def image_set(dense: NDArray[np.float64], sampled: NDArray[np.int32]) -> ImageSet:
    """Make a set of the rows of a matrix, whose columns are the pixels of the grid."""
    held = [np.flatnonzero(row).astype(np.int32) for row in dense]
    values = np.concatenate([row[pixels] for row, pixels in zip(dense, held, strict=True)])
    return ImageSet(np.concatenate(held), values, np.cumsum([0, *map(len, held)]), sampled)
