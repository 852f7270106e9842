"""Chaos last: which ions need it for a false discovery rate to be certain, from counts of scores alone.

Spatial times spectral is a bound of an ion's score, since chaos is at most 1. The driver keeps, of each ranking, how
many targets and decoys have which bound, and which score so far; so it needs no list of ions, however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics import runs

SCORE_BINS = 5_000
"""Of scores from 0 to 1."""
SMALL_PIXELS = 1_000_000_000
"""Pixels of first images that are not 0 up to which chaos is computed of every ion: a minute on one core."""

Histograms = NDArray[np.int64]
"""int64[groups, SCORE_BINS]: how many ions of each group have a score in each bin."""


def score_bin(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each score; of two scores the higher one is never in a lower bin."""
    return np.minimum((score * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)


def histograms(score: NDArray[np.float64], group: NDArray[Any], groups: int) -> Histograms:
    """Count scores by group and bin."""
    places = group.astype(np.int64) * SCORE_BINS + score_bin(score)
    return np.bincount(places, minlength=groups * SCORE_BINS).reshape(groups, SCORE_BINS).astype(np.int64)


def unpacked(text: str, groups: int) -> Histograms:
    """Return the histograms that a task has packed."""
    return runs.unpack(text).reshape(groups, SCORE_BINS)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of all rankings.

    Attributes
    ----------
    bounds : Histograms
        Of all ions that have one above 0.
    scores : Histograms
        Of those whose chaos was computed.
    lowest : int64[groups]
        Bin of bounds from which on that is; `SCORE_BINS` for none.
    """

    bounds: Histograms
    scores: Histograms
    lowest: NDArray[np.int64]

    @classmethod
    def nothing(cls, bounds: Histograms) -> Known:
        """Begin with bounds alone."""
        return cls(bounds, np.zeros_like(bounds), np.full(len(bounds), SCORE_BINS, np.int64))

    def with_scores(self, scores: Histograms, lowest: NDArray[np.int64]) -> Known:
        """Add the scores of all ions whose bound lies between the lowest bins of before and now."""
        return Known(self.bounds, self.scores + scores, lowest)

    def unknown(self, group: int) -> NDArray[np.int64]:
        """Return the bounds of the ions of a group that have no score yet."""
        return np.where(np.arange(SCORE_BINS) < self.lowest[group], self.bounds[group], 0)


def next_lowest(known: Known, families: Sequence[int], decoys_per_target: int, level: float) -> NDArray[np.int64]:
    """Say down to which bins of bounds chaos is to be computed next; the same bins as now when the level is certain.

    Parameters
    ----------
    known : Known
    families : sequence of int
        Of each target group, which are the first ones, the group of its decoys.
    decoys_per_target : int
    level : float
        False discovery rate that is asked for.

    Returns
    -------
    int64[groups]
    """
    lowest = known.lowest.copy()
    for group, family in enumerate(families):
        targets, decoys = known.unknown(group), known.unknown(family)
        scores = known.scores[group], known.scores[family]
        if is_settled(targets, decoys, *scores, decoys_per_target, level):
            continue
        # As if chaos were 1 where it is unknown: the highest bin that would then settle it, by bisection.
        low, high = 0, int(np.flatnonzero(targets + decoys)[-1])
        while low < high:
            middle = (low + high + 1) // 2
            above = np.arange(SCORE_BINS) >= middle
            guess = scores[0] + np.where(above, targets, 0), scores[1] + np.where(above, decoys, 0)
            rest = np.where(above, 0, targets), np.where(above, 0, decoys)
            if is_settled(*rest, *guess, decoys_per_target, level):
                low = middle
            else:
                high = middle - 1
        lowest[group] = min(lowest[group], low)
        lowest[family] = min(lowest[family], low)
    return lowest


def is_settled(
    unknown_targets: NDArray[np.int64],
    unknown_decoys: NDArray[np.int64],
    targets: NDArray[np.int64],
    decoys: NDArray[np.int64],
    decoys_per_target: int,
    level: float,
) -> bool:
    """Tell whether unknown scores can change nothing at or below a level, neither which targets pass nor their rates.

    Parameters
    ----------
    unknown_targets, unknown_decoys : int64[SCORE_BINS]
        By their bounds.
    targets, decoys : int64[SCORE_BINS]
        By their scores, where those are known.
    decoys_per_target : int
    level : float
    """
    open_bins = np.flatnonzero(unknown_targets + unknown_decoys)
    if not len(open_bins):
        return True
    if level >= 1:
        return False
    # In the highest bin of an unknown bound and below: at most so many targets, at least so many decoys in the bins
    # above, whatever the unknown scores are. A score of the bin itself may be above or below any other one there.
    hopeful = targets + unknown_targets
    at_most = np.cumsum(hopeful[::-1])[::-1]
    at_least = np.cumsum(decoys[::-1])[::-1] - decoys
    rate = (at_least + 1.0) / decoys_per_target / (at_most + 1.0)
    return not bool(np.any(rate[: open_bins[-1] + 1][hopeful[: open_bins[-1] + 1] > 0] <= level))
