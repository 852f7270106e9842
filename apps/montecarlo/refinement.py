"""Exact quantiles by a second pass: the same paths again, keeping only the bins that hold the answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from apps.montecarlo.histograms import bin_numbers
from apps.montecarlo.models import FloatArray
from apps.montecarlo.simulation import SimulationSpec, observed_batches
from apps.montecarlo.summary import Summary


@dataclass(frozen=True)
class Target:
    """One order statistic that is looked for.

    Parameters
    ----------
    row : int
        Number of the horizon.
    bin : int
        Histogram bin that holds it.
    rank : int
        Its place among the values of that bin, from 0.
    """

    row: int
    bin: int
    rank: int


def find_targets(summary: Summary, day: int, q: float) -> tuple[Target, Target, float]:
    """Locate the two order statistics whose mixture is the quantile, as numpy's ``method="linear"`` defines it.

    Returns
    -------
    lower, upper : Target
    share : float
        Weight of the upper one.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a probability lies between 0 and 1, {q} does not")
    row = summary.horizons.index(day)
    position = q * (summary.forecasts - 1)
    place = math.floor(position)
    ends = np.cumsum(summary.counts[row])
    found = []
    for rank in (place, min(place + 1, summary.forecasts - 1)):
        number = int(np.searchsorted(ends, rank, side="right"))
        found.append(Target(row, number, rank - int(ends[number] - summary.counts[row, number])))
    return found[0], found[1], position - place


def refine_blocks(
    spec: SimulationSpec, targets: Sequence[Target], first: int, count: int
) -> dict[tuple[int, int], FloatArray]:
    """Simulate blocks again and keep the values in the targets' bins.

    Parameters
    ----------
    spec : SimulationSpec
        The job whose summary the targets come from.
    targets : sequence of Target
    first, count : int
        Blocks ``first`` to ``first + count - 1``.

    Returns
    -------
    dict of (row, bin) to ndarray of float64, shape (n,)
        Log of price over initial price, in no particular order.

    Raises
    ------
    ValueError
        There are no such blocks.
    """
    kept: dict[tuple[int, int], list[FloatArray]] = {(target.row, target.bin): [] for target in targets}
    for observed in observed_batches(spec, first, count):
        for row, number in kept:
            lower, upper = (np.array([bound]) for bound in spec.bounds[row])
            values = observed.at[row]
            kept[row, number].append(values[bin_numbers(values[None, :], lower, upper)[0] == number])
    return {key: np.concatenate(parts) for key, parts in kept.items()}


def refine(
    summary: Summary, days_and_probabilities: Sequence[tuple[int, float]],
    kept: Iterable[dict[tuple[int, int], FloatArray]],
) -> list[float]:  # fmt: skip
    """Read exact quantiles from what `refine_blocks` kept over all blocks.

    Parameters
    ----------
    summary : Summary
        Of the whole job.
    days_and_probabilities : sequence of (int, float)
        The quantiles wanted; `refine_blocks` must have been given all their targets.
    kept : iterable of dict
        Of every block once, in any order.

    Returns
    -------
    list of float
        Prices, equal to ``numpy.quantile`` of all simulated log prices, exponentiated.
    """
    merged: dict[tuple[int, int], list[FloatArray]] = {}
    for part in kept:
        for key, values in part.items():
            merged.setdefault(key, []).append(values)
    ordered = {key: np.sort(np.concatenate(parts)) for key, parts in merged.items()}
    prices = []
    for day, q in days_and_probabilities:
        low, high, share = find_targets(summary, day, q)
        lower, upper = float(ordered[low.row, low.bin][low.rank]), float(ordered[high.row, high.bin][high.rank])
        prices.append(summary.s0 * math.exp(lower + share * (upper - lower)))
    return prices
