"""False discovery rate by target-decoy competition.

Source: A. Palmer et al., Nature Methods 14, 57 (2017), with the rule of succession of METASPACE's engine v3: one
ranking for each modification and adduct, all decoys of all its formulas beside its targets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = (0.05, 0.1, 0.2, 0.5)


def fdr(
    targets: NDArray[np.float64],
    decoys: NDArray[np.float64],
    decoys_per_target: int,
    *,
    clip: bool = True,
) -> NDArray[np.float64]:
    """Estimate the false discovery rate at the score of each target of one ranking.

    Parameters
    ----------
    targets, decoys : ndarray of float64, shapes (t,) and (d,)
        Scores, higher is better. Those of ions that could not be scored may be left out or be 0.
    decoys_per_target : int
        Decoys drawn for each formula.
    clip : bool
        Bound it by 1, which the engine does not.

    Returns
    -------
    ndarray of float64, shape (t,)
        ``(decoys >= s + 1) / decoys_per_target / (targets >= s + 1)``, made monotonic from the bottom.

    Raises
    ------
    ValueError
        A score is not a number.
    """
    if np.isnan(targets).any() or np.isnan(decoys).any():
        raise ValueError("a score is not a number; leave ions without a score out")
    scores, rates = _rates(targets, decoys, decoys_per_target)
    estimate = rates[np.searchsorted(scores, targets)]
    return np.minimum(estimate, 1.0) if clip else estimate


def _rates(
    targets: NDArray[np.float64], decoys: NDArray[np.float64], decoys_per_target: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distinct target scores, ascending, and the monotonic rate at each."""
    scores = np.unique(targets)
    raw = _ratio(_at_least(targets, scores), _at_least(decoys, scores), decoys_per_target)
    return scores, np.minimum.accumulate(raw)


def _ratio(targets: NDArray[np.int64], decoys: NDArray[np.int64], decoys_per_target: int) -> NDArray[np.float64]:
    # In the engine's order of operations, for the same bits.
    return np.asarray((decoys + 1.0) / decoys_per_target / (targets + 1.0), dtype=np.float64)


def _at_least(values: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the values at or above each score."""
    return values.size - np.searchsorted(np.sort(values), scores, side="left")
