"""False discovery rate by target-decoy competition, and how few scores decide it.

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
    """
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


def is_settled(
    target_bounds: NDArray[np.float64],
    target_scores: NDArray[np.float64],
    decoy_bounds: NDArray[np.float64],
    decoy_scores: NDArray[np.float64],
    decoys_per_target: int,
    level: float,
) -> bool:
    """Tell whether the unknown scores of a ranking can change nothing at or below a level.

    Parameters
    ----------
    target_bounds, decoy_bounds : ndarray of float64, shapes (t,) and (d,)
        What a score is at most: spatial x spectral, as the measure of chaos is at most 1.
    target_scores, decoy_scores : ndarray of float64, shapes (t,) and (d,)
        Known scores; NaN where unknown.
    decoys_per_target : int
    level : float
        Highest false discovery rate that is asked for.

    Returns
    -------
    bool
        Whether, whatever the unknown scores are, the same targets have a rate of at most `level`, and the same rates.
        They are what `fdr` gives with 0 for the unknown ones.
    """
    targets_unknown, decoys_unknown = np.isnan(target_scores), np.isnan(decoy_scores)
    unknown = np.concatenate([target_bounds[targets_unknown], decoy_bounds[decoys_unknown]])
    unknown = unknown[unknown > 0.0]
    if not unknown.size:
        return True
    # Above every bound of an unknown score, counts are exact. Below, a rate is at least what it would be if every
    # unknown target reached its bound and every unknown decoy were nothing.
    top = unknown.max()
    known_targets, known_decoys = target_scores[~targets_unknown], decoy_scores[~decoys_unknown]
    hopeful = np.concatenate([known_targets, target_bounds[targets_unknown]])
    candidates = np.unique(hopeful[(hopeful <= top) & (hopeful > 0.0)])
    lowest = _ratio(_at_least(hopeful, candidates), _at_least(known_decoys, candidates), decoys_per_target)
    return not bool(np.any(lowest <= level))


def next_bound(
    target_bounds: NDArray[np.float64],
    target_scores: NDArray[np.float64],
    decoy_bounds: NDArray[np.float64],
    decoy_scores: NDArray[np.float64],
    decoys_per_target: int,
    level: float,
) -> float:
    """Say down to which bound scores must be computed next, for a level to be settled.

    Parameters
    ----------
    target_bounds, target_scores, decoy_bounds, decoy_scores, decoys_per_target, level
        As for `is_settled`.

    Returns
    -------
    float
        Compute the score of every target and decoy whose bound is at least this, and ask again; infinite when the
        level is settled. Every answer asks for at least one more score, so asking ends; two or three times are usual.
    """
    if is_settled(target_bounds, target_scores, decoy_bounds, decoy_scores, decoys_per_target, level):
        return np.inf
    # As if chaos were 1 wherever it is unknown: the highest bound that would then settle it, by bisection.
    unknown_targets, unknown_decoys = np.isnan(target_scores), np.isnan(decoy_scores)
    cuts = np.unique(np.concatenate([target_bounds[unknown_targets], decoy_bounds[unknown_decoys]]))
    cuts = cuts[cuts > 0.0]
    low, high = 0, cuts.size - 1
    while low < high:
        middle = (low + high + 1) // 2
        cut = cuts[middle]
        guess_targets = np.where(unknown_targets & (target_bounds >= cut), target_bounds, target_scores)
        guess_decoys = np.where(unknown_decoys & (decoy_bounds >= cut), decoy_bounds, decoy_scores)
        if is_settled(target_bounds, guess_targets, decoy_bounds, guess_decoys, decoys_per_target, level):
            low = middle
        else:
            high = middle - 1
    return float(cuts[low])
