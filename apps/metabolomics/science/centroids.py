"""Isotope patterns: what an instrument of finite resolution sees of an ion's isotopologues.

The definition is that of ims-cpp (cpyMSpec 0.4.2), by which METASPACE computes: isotopologues of at least 1e-4 of the
commonest; each a Gaussian of the instrument's width; their sum on a grid of FWHM/25; its local maxima, each centroided
over the 15 grid points around it; the strongest kept, in order of m/z.

A centroid over a window of grid points leans towards the grid, so where the grid lies (its phase) decides the sixth
digit: it begins 6 sigma below the lightest isotopologue and runs on from there, over the empty space between isotope
peaks too, in steps of the width at the present isotopologue. The next one's width is taken at the first point that is
more than 6 sigma beyond the present one and within 6 sigma of the next, one isotopologue a point at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.science.elements import ELECTRON_MASS, isotope_table

BASE_MZ = 200.0
SIGMA_TIMES_RESOLVING_POWER = 0.00247585727028 * 70_000
"""Standard deviation of a peak at m/z 200, times the resolving power there, as METASPACE sets it: 0.002476 at 70,000,
0.001238 at 140,000. It is 2.04 times the width that the resolving power by itself would give."""
SIGMA_DECIMALS = 6
"""METASPACE rounds sigma, and where the grid lies depends on its last digits."""
METASPACE_STEPS = (
    (85_000, 70_000), (120_000, 100_000), (195_000, 140_000), (265_000, 250_000), (390_000, 280_000),
    (625_000, 500_000), (875_000, 750_000), (float("inf"), 1_000_000),
)  # fmt: skip
"""Resolving powers at m/z 200 below the first are taken for the second by METASPACE."""
POWERS = {"orbitrap": 1.5, "fticr": 2.0, "tof": 1.0}
"""A peak's width grows with this power of m/z: resolving power falls as m/z^-1/2, as m/z^-1, or stays."""
ROOMS = (2048, 16_384, 100_000)
"""Isotopologues of one ion, and grid points of one cluster of them, that buffers hold: tried in turn. With more than
the last, as with the reference, an ion has no pattern."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A mass analyser.

    Attributes
    ----------
    kind : {"orbitrap", "fticr", "tof"}
    resolving_power : float
        m/z over peak width at `at_mz`.
    at_mz : float
    """

    kind: Literal["orbitrap", "fticr", "tof"]
    resolving_power: float
    at_mz: float = BASE_MZ

    def __post_init__(self) -> None:
        if self.kind not in POWERS:
            raise ValueError(f"instrument must be one of {', '.join(POWERS)}, not {self.kind!r}")
        if not (self.resolving_power > 0.0 and self.at_mz > 0.0):
            raise ValueError("resolving power and its m/z must be above zero")

    @property
    def resolving_power_at_base(self) -> float:
        """Resolving power at m/z 200."""
        return float(self.resolving_power * (self.at_mz / BASE_MZ) ** (POWERS[self.kind] - 1.0))

    @property
    def sigma(self) -> float:
        """Standard deviation of a peak at m/z 200, as METASPACE sets it for a resolving power."""
        sigma = round(SIGMA_TIMES_RESOLVING_POWER / self.resolving_power_at_base, SIGMA_DECIMALS)
        return max(sigma, 10.0**-SIGMA_DECIMALS)

    def as_metaspace(self) -> Instrument:
        """Return the instrument that METASPACE takes this one for: it knows eight resolving powers."""
        at_base = self.resolving_power_at_base
        return Instrument(self.kind, next(taken for below, taken in METASPACE_STEPS if at_base < below))

    def sigma_at(self, mz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviation of peaks at `mz`."""
        return np.asarray(self.sigma * (mz / BASE_MZ) ** POWERS[self.kind], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Patterns:
    """Isotope patterns of n ions, k peaks at most.

    Attributes
    ----------
    mz : ndarray of float64, shape (n, k)
        By rising m/z; NaN behind the last one.
    intensity : ndarray of float64, shape (n, k)
        In percent of the strongest peak; 0 behind the last one.
    count : ndarray of int8, shape (n,)
        Peaks; 0 where an ion has more isotopologues than can be listed, and so no pattern.
    """

    mz: NDArray[np.float64]
    intensity: NDArray[np.float64]
    count: NDArray[np.int8]


def count_atoms(compositions: Sequence[Mapping[str, int]]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Lay compositions out as a matrix.

    Returns
    -------
    elements : tuple of str
        e of them.
    counts : ndarray of int32, shape (n, e)
    """
    columns: dict[str, int] = {}
    for composition in compositions:
        for name in composition:
            columns.setdefault(name, len(columns))
    counts = np.zeros((len(compositions), len(columns)), dtype=np.int32)
    for row, composition in enumerate(compositions):
        for name, count in composition.items():
            counts[row, columns[name]] = count
    return tuple(columns), counts


def patterns(
    compositions: Sequence[Mapping[str, int]], charge: int, instrument: Instrument, n_peaks: int = 4
) -> Patterns:
    """Compute the isotope patterns of ions of one charge.

    Parameters
    ----------
    compositions : sequence of Composition
        Ions, with all atoms that they have (`ions.ion_composition`); every count positive.
    charge : int
        With its sign, not 0; m/z is of the mass less `charge` electrons.
    instrument : Instrument
    n_peaks : int
        Peaks kept.

    Returns
    -------
    Patterns
    """
    elements, counts = count_atoms(compositions)
    return patterns_of_counts(elements, counts, charge, instrument, n_peaks)


def patterns_of_counts(
    elements: Sequence[str], counts: NDArray[np.int32], charge: int, instrument: Instrument, n_peaks: int = 4
) -> Patterns:
    """Compute the isotope patterns of ions that stand in a matrix, as `count_atoms` lays it out.

    Raises
    ------
    ValueError
        A count is negative, an ion has no atom, the charge is 0, or elements and columns differ in number.
    """
    from apps.metabolomics.science.kernels.envelope import FULL, pattern_rows

    ions = len(counts)
    if counts.shape[1] != len(elements):
        raise ValueError(f"{len(elements)} elements and {counts.shape[1]} columns of counts")
    if charge == 0:
        raise ValueError("an ion has a charge; 0 was given")
    if ions and (counts.min(initial=0) < 0 or not counts.any(axis=1).all()):
        raise ValueError("an ion has atoms, and no count below zero")
    found = Patterns(np.full((ions, n_peaks), np.nan), np.zeros((ions, n_peaks)), np.zeros(ions, dtype=np.int8))
    if not ions:
        return found
    lists, starts, masses, shares = _isotopologue_lists(elements, counts)
    power = POWERS[instrument.kind]
    factor = instrument.sigma / BASE_MZ**power
    todo = np.arange(ions)
    for room in ROOMS:
        part = Patterns(found.mz[todo], found.intensity[todo], found.count[todo])
        pattern_rows(
            counts[todo], lists, starts, masses, shares, charge, ELECTRON_MASS, factor, power, room,
            part.mz, part.intensity, part.count,
        )  # fmt: skip
        found.mz[todo], found.intensity[todo], found.count[todo] = part.mz, part.intensity, part.count
        todo = todo[part.count == FULL]
        if not todo.size:
            break
    found.count[todo] = 0
    return found


def _isotopologue_lists(
    elements: Sequence[str], counts: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """List, for each element and number of its atoms that occurs, the isotopologues that matter; `FULL` if too many."""
    from apps.metabolomics.science.kernels.envelope import FULL, isotopologues

    table = isotope_table()
    lists = np.zeros((len(elements), int(counts.max()) + 1), dtype=np.int64)
    starts, masses, shares = [0], [np.empty(0)], [np.empty(0)]
    for column, element in enumerate(elements):
        isotopes = table[element]
        logs = np.log(isotopes.abundances)
        for atoms in np.unique(counts[:, column]).tolist():
            if atoms == 0:
                continue
            for room in ROOMS:
                mass, share = np.empty(room), np.empty(room)
                size = isotopologues(atoms, isotopes.masses, logs, mass, share)
                if size != FULL:
                    break
            if size == FULL:
                lists[column, atoms] = FULL
                continue
            lists[column, atoms] = len(starts) - 1
            starts.append(starts[-1] + size)
            masses.append(mass[:size])
            shares.append(share[:size])
    return lists, np.array(starts), np.concatenate(masses), np.concatenate(shares)


def windows(found: Patterns, ppm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the m/z windows of patterns: ``mz (1 - ppm 1e-6)`` to ``mz (1 + ppm 1e-6)``, both ends included.

    Returns
    -------
    low, high : ndarray of float64, shape (n, k)
        NaN where there is no peak.
    """
    return found.mz - found.mz * ppm * 1e-6, found.mz + found.mz * ppm * 1e-6
