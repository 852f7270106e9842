"""What a campaign's history says: mixing, overlap, uncertainty, and whether the ensembles are those asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apps.protein_remd.science.units import beta

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def round_trips(state_of: IntArray, states: int) -> IntArray:
    """Return for each replica how often it went from the lowest temperature to the highest and back.

    Parameters
    ----------
    state_of : array of int, shape (rounds, replicas)
        Index of the temperature that each replica had.
    states : int
        Temperatures.
    """
    trips = np.zeros(state_of.shape[1], dtype=np.int64)
    if states < 2:
        return trips
    for replica in range(state_of.shape[1]):
        ends = state_of[:, replica]
        ends = ends[(ends == 0) | (ends == states - 1)]
        visits = ends[np.flatnonzero(np.diff(ends, prepend=-1))]
        if len(visits) and visits[0] != 0:
            visits = visits[1:]
        trips[replica] = max(0, (len(visits) - 1) // 2)
    return trips


def transition_matrix(state_of: IntArray, states: int) -> FloatArray:
    """Return the symmetrised probabilities of going from one temperature to another in a round, shape (states, states).

    Notes
    -----
    Source: Chodera and Shirts, J. Chem. Phys. 135, 194110 (2011), equation 22.
    """
    counts = np.zeros((states, states))
    np.add.at(counts, (state_of[:-1].ravel(), state_of[1:].ravel()), 1.0)
    counts = 0.5 * (counts + counts.T)
    sums = counts.sum(axis=1, keepdims=True)
    return np.where(sums > 0, counts / np.where(sums > 0, sums, 1.0), np.eye(states))


def second_eigenvalue(matrix: FloatArray) -> float:
    """Return the second largest eigenvalue of a transition matrix: near 1 means that temperatures hardly mix."""
    if len(matrix) < 2:
        return 0.0
    return float(np.sort(np.linalg.eigvals(matrix).real)[-2])


def relaxation(eigenvalue: float) -> float:
    """Return in how many rounds what is left of a first temperature falls to 1/e, by the second eigenvalue.

    Infinite where temperatures do not mix, 0 where a round forgets everything.
    """
    if eigenvalue <= 0.0:
        return 0.0
    return -1.0 / math.log(eigenvalue) if eigenvalue < 1.0 else math.inf


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Return the chance that two shares of one probability differ as much as these do, or more.

    Parameters
    ----------
    first, second : tuple of int
        How many there were, and of how many.

    Notes
    -----
    Source: Fisher's exact test, two-sided: of all tables with the same sums, those that are no likelier than this one.
    """
    (some, all_first), (others, all_second) = first, second
    total, all_some = all_first + all_second, some + others

    def log_chance(k: int) -> float:
        ways = _log_binomial(all_first, k) + _log_binomial(all_second, all_some - k)
        return ways - _log_binomial(total, all_some)

    # Two tables that are as likely differ in the last digits.
    most = log_chance(some) + 1e-7
    possible = range(max(0, all_some - all_second), min(all_some, all_first) + 1)
    return min(1.0, math.fsum(math.exp(each) for each in map(log_chance, possible) if each <= most))


def at_most(successes: int, trials: int, share: float) -> float:
    """Return the chance of so many successes or fewer, where a trial succeeds with a probability between 0 and 1."""
    terms = (
        _log_binomial(trials, k) + k * math.log(share) + (trials - k) * math.log1p(-share) for k in range(successes + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def histogram_overlap(first: FloatArray, second: FloatArray, bins: int = 40) -> float:
    """Return the common area of the normalised histograms of two samples, 0 to 1."""
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    if low == high:
        return 1.0
    parts = [np.histogram(sample, bins, (low, high))[0] / len(sample) for sample in (first, second)]
    return float(np.minimum(*parts).sum())


def statistical_inefficiency(series: FloatArray) -> float:
    """Return how many successive values are worth one independent one, at least 1.

    Notes
    -----
    Autocorrelations are summed up to the first that is not positive. Source: Chodera et al., J. Chem. Theory Comput. 3,
    26 (2007), equations 30 to 33.
    """
    count = len(series)
    deviations = series - series.mean()
    variance = float(np.dot(deviations, deviations)) / max(count, 1)
    if count < 4 or variance == 0.0:
        return 1.0
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(deviations, size)
    correlation = np.fft.irfft(spectrum * np.conj(spectrum), size)[:count] / np.arange(count, 0, -1) / variance
    ends = np.flatnonzero(correlation[1:] <= 0.0)
    last = 1 + int(ends[0]) if len(ends) else count
    lags = np.arange(1, last)
    return max(1.0, float(1.0 + 2.0 * np.sum((1.0 - lags / count) * correlation[1:last])))


def mean_and_error(series: FloatArray) -> tuple[float, float]:
    """Return the mean of a correlated series and its standard error, which is infinite for a single value."""
    if len(series) < 2:
        return float(series.mean()), float("inf")
    inefficiency = statistical_inefficiency(series)
    return float(series.mean()), float(np.sqrt(series.var(ddof=1) * inefficiency / len(series)))


def kish(log_weights: FloatArray) -> float:
    """Return Kish's effective sample size ``(sum w)**2 / sum w**2`` of weights that are given as logarithms."""
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / np.dot(weights, weights))


@dataclass(frozen=True, slots=True)
class Slope:
    """Of the logarithm of the ratio of two energy distributions: measured over expected, with its standard error."""

    ratio: float
    error: float


def ensemble_slope(u_lower: FloatArray, u_upper: FloatArray, t_lower: float, t_upper: float) -> Slope:
    """Compare two potential-energy samples with what their temperatures demand.

    In canonical ensembles ``ln P_upper(U) / P_lower(U)`` is a straight line with slope ``beta_lower - beta_upper``,
    whatever the system. It is fitted by maximum likelihood, without bins.

    Parameters
    ----------
    u_lower, u_upper : array, shape (samples,)
        kJ/mol, uncorrelated.
    t_lower, t_upper : float
        K.

    Returns
    -------
    Slope
        A ratio of 1 is right; its error is infinite where the samples do not overlap.

    Notes
    -----
    Source: Shirts, J. Chem. Theory Comput. 9, 909 (2013), section 2.3.
    """
    energies = np.concatenate([u_lower, u_upper])
    upper = np.concatenate([np.zeros(len(u_lower)), np.ones(len(u_upper))])
    expected = beta(t_lower) - beta(t_upper)
    centre, spread = energies.mean(), energies.std()
    if spread == 0.0 or u_lower.max() < u_upper.min():
        return Slope(float("nan"), float("inf"))
    design = np.stack([np.ones(len(energies)), (energies - centre) / spread])
    found = np.zeros(2)
    for _ in range(100):
        chance = 1.0 / (1.0 + np.exp(-np.clip(found @ design, -500.0, 500.0)))
        information = (design * (chance * (1.0 - chance))) @ design.T
        if np.linalg.cond(information) > 1e12:
            return Slope(float("nan"), float("inf"))
        step = np.linalg.solve(information, design @ (upper - chance))
        found = found + step
        if np.abs(step).max() < 1e-10:
            break
    error = float(np.sqrt(np.linalg.inv(information)[1, 1]))
    return Slope(float(found[1]) / spread / expected, error / spread / expected)


def equilibration(series: FloatArray) -> tuple[int, float]:
    """Return where a series is best begun, and its statistical inefficiency from there on.

    The beginning is the one that leaves the most independent values. Source: Chodera, J. Chem. Theory Comput. 12, 1799
    (2016); the candidates are every twentieth of the first half.
    """
    starts = sorted({len(series) * part // 40 for part in range(20)})
    found = [(start, statistical_inefficiency(series[start:])) for start in starts]
    return max(found, key=lambda each: (len(series) - each[0]) / each[1])
