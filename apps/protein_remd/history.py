"""The history of a campaign as arrays, read from its committed rounds: of a run that is live, killed or finished."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.protein_remd.records import RoundRecord, last_round, read_records
from apps.protein_remd.science import statistics
from apps.protein_remd.science.ladder import by_acceptance, interpolated
from apps.protein_remd.science.prediction import gaussian_acceptance
from apps.protein_remd.science.units import beta
from core import InputError
from core.storage import Storage

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TARGET = 0.3
"""Acceptance that a ladder is proposed for. Source: Kone and Kofke, J. Chem. Phys. 122, 206101 (2005): 0.23 moves
fastest, and the maximum is flat."""
LEAST_STATES, LEAST_ROUNDS = 2, 5
"""Of which energies tell a ladder."""
LEAST_VARIANCE = 1e-9
"""(kJ/mol)**2; a parabola through measured variances may be negative."""


@dataclass(frozen=True, slots=True)
class History:
    """What all committed rounds say together.

    Attributes
    ----------
    temperatures : tuple of float
        K.
    replica_at : array of int, shape (rounds, states)
        Which replica was where during each round.
    potential, kinetic : array, shape (rounds, states)
        kJ/mol at the end of each segment, by temperature.
    attempted, accepted : array of int, shape (states, states)
        Attempts to swap, and those that were accepted, lower temperature by upper.
    salted : tuple of (round, replica)
        Segments that needed another seed.
    canaries : tuple of str
        Kinds of processors that have taken part.
    volume : array, shape (rounds, states)
        nm^3 of the boxes by temperature; NaN without one.
    exchanged : array, shape (rounds, states)
        What the swaps compared, in kJ/mol by temperature: the potential energy, with pV at constant pressure.
    pressure : float, optional
        bar; None at constant volume.
    """

    temperatures: tuple[float, ...]
    replica_at: IntArray
    potential: FloatArray
    kinetic: FloatArray
    attempted: IntArray
    accepted: IntArray
    salted: tuple[tuple[int, int], ...]
    canaries: tuple[str, ...]
    volume: FloatArray
    exchanged: FloatArray
    pressure: float | None

    @property
    def rounds(self) -> int:
        """Committed rounds."""
        return len(self.replica_at)

    def reduced(self, begin: int = 0, every: int = 1) -> FloatArray:
        """Return reduced potentials of some rounds in each state, shape (states, rounds, states of the samples).

        They are not kept: made of what the swaps compared, they are as many times larger as there are temperatures.
        """
        betas = np.array([beta(t) for t in self.temperatures])
        return betas[:, None, None] * self.exchanged[begin::every]

    @property
    def state_of(self) -> IntArray:
        """Index of the temperature of each replica, shape (rounds, replicas)."""
        return np.argsort(self.replica_at, axis=1)

    def digest(self) -> str:
        """Return a hash of the numbers: equal for equal histories."""
        parts: tuple[npt.NDArray[Any], ...] = (
            self.replica_at,
            self.potential,
            self.kinetic,
            self.attempted,
            self.accepted,
        )
        if self.pressure is not None:
            parts = (*parts, self.volume)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def read_history(
    storage: Storage, first: int = 1, each: Callable[[RoundRecord], object] = lambda record: None, last: int = 0
) -> History:
    """Return the history of a run from a round on, to the last one or that given; `each` sees every record on the way.

    Raises
    ------
    InputError
        No round is committed yet, or a record is damaged.
    """
    last = last or last_round(storage)
    if last < first:
        raise InputError(f"{storage.address} has no committed round yet; 'status' says what is being done")
    return gathered(_seen(read_records(storage, range(first, last + 1)), each))


def _seen(records: Iterable[RoundRecord], each: Callable[[RoundRecord], object]) -> Iterable[RoundRecord]:
    for record in records:
        each(record)
        yield record


def gathered(records: Iterable[RoundRecord]) -> History:
    """Return records, of which there is at least one, as arrays: 40 bytes a round and replica."""
    maps, potential, kinetic, volume, exchanged = array("q"), array("d"), array("d"), array("d"), array("d")
    pressure: float | None = None
    salted: list[tuple[int, int]] = []
    canaries: dict[str, None] = {}
    temperatures: tuple[float, ...] = ()
    attempted = accepted = np.zeros((0, 0), dtype=np.int64)
    for record in records:
        if not maps:
            temperatures, pressure = record.temperatures, record.pressure
            states = len(temperatures)
            attempted, accepted = np.zeros((states, states), np.int64), np.zeros((states, states), np.int64)
        at = record.replica_at
        maps.extend(at)
        potential.extend(record.segments[replica].potential for replica in at)
        kinetic.extend(record.segments[replica].kinetic for replica in at)
        volumes = (record.segments[replica].volume for replica in at)
        volume.extend(float("nan") if each is None else each for each in volumes)
        compared = record.exchanged()
        exchanged.extend(compared[replica] for replica in at)
        salted += [(record.round_number, one.replica) for one in record.segments if one.salt]
        canaries.update(dict.fromkeys(one.canary for one in record.segments))
        for attempt in record.attempts:
            attempted[attempt.lower, attempt.upper] += 1
            accepted[attempt.lower, attempt.upper] += attempt.accepted
    shape = (-1, len(temperatures))
    return History(
        temperatures,
        np.frombuffer(maps, np.int64).reshape(shape),
        np.frombuffer(potential).reshape(shape),
        np.frombuffer(kinetic).reshape(shape),
        attempted,
        accepted,
        tuple(salted),
        tuple(canaries),
        np.frombuffer(volume).reshape(shape),
        np.frombuffer(exchanged).reshape(shape),
        pressure,
    )


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Of two neighbouring temperatures.

    Attributes
    ----------
    attempted : int
    acceptance : float
        Part of the attempts that were accepted; NaN without any.
    predicted : float
        From mean and variance of the potential energies.
    overlap : float
        Common area of their histograms.
    slope, slope_error : float
        Of the ensembles, over what is expected; see ``statistics.ensemble_slope``.
    """

    attempted: int
    acceptance: float
    predicted: float
    overlap: float
    slope: float
    slope_error: float


def pair_figures(history: History, discarded: int = 0) -> list[PairFigures]:
    """Return what is known of each pair of neighbouring temperatures; the first rounds may be left out."""
    found = []
    energies = history.exchanged[discarded:]
    inefficiency = [statistics.statistical_inefficiency(column) for column in energies.T]
    for low in range(len(history.temperatures) - 1):
        t_low, t_high = history.temperatures[low : low + 2]
        below, above = energies[:, low], energies[:, low + 1]
        thin = max(1, round(max(inefficiency[low : low + 2])))
        slope = statistics.ensemble_slope(below[::thin], above[::thin], t_low, t_high)
        tried = int(history.attempted[low, low + 1])
        acceptance = int(history.accepted[low, low + 1]) / tried if tried else float("nan")
        moments = (below.mean(), above.mean(), below.var(), above.var())
        predicted = gaussian_acceptance(t_low, t_high, *map(float, moments))
        overlap = statistics.histogram_overlap(below, above)
        found.append(PairFigures(tried, acceptance, predicted, overlap, slope.ratio, slope.error))
    return found


def propose(history: History, target: float = TARGET) -> tuple[float, ...]:
    """Return a ladder in K of one acceptance over the same range, from the energies of a history.

    Raises
    ------
    ValueError
        There are too few temperatures or rounds to tell.
    """
    mean, variance = energy_moments(history)
    return by_acceptance(history.temperatures[0], history.temperatures[-1], target, mean, variance)


def predicted_acceptances(history: History, ladder: Sequence[float]) -> list[float]:
    """Return the acceptance of each pair of neighbours of a ladder, from the energies of a history."""
    mean, variance = energy_moments(history)
    return [
        gaussian_acceptance(low, high, mean(low), mean(high), variance(low), variance(high))
        for low, high in pairwise(ladder)
    ]


def energy_moments(history: History) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Return mean and variance of what swaps compare as functions of the temperature in K, within the ladder.

    The first fifth of the rounds is left out.

    Raises
    ------
    ValueError
        There are too few temperatures or rounds to tell.
    """
    ladder = list(history.temperatures)
    later = history.exchanged[history.rounds // 5 :]
    if len(ladder) < LEAST_STATES or history.rounds < LEAST_ROUNDS:
        raise ValueError(f"it takes at least {LEAST_STATES} temperatures and {LEAST_ROUNDS} rounds")
    mean = interpolated(ladder, [float(value) for value in later.mean(axis=0)])
    variance = interpolated(ladder, [float(value) for value in later.var(axis=0)])
    return mean, lambda temperature: max(variance(temperature), LEAST_VARIANCE)
