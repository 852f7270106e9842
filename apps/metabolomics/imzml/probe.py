"""A look at a few spectra, before all are read: m/z that are none, arrays that are exchanged, profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.dataset import Dataset
from apps.metabolomics.imzml.profile import is_profile
from apps.metabolomics.imzml.quirks import Quirk
from apps.metabolomics.imzml.spectra import read_arrays

SPECTRA = 8
"""Spectra that are looked at when a dataset is opened."""
MZ_RANGE = (0.1, 1e6)
"""m/z that a mass spectrometer can measure, with room."""
INTENSITY_RANGE = (1e-30, 1e30)
"""Between which the median intensity of a spectrum lies in any unit; whole numbers read as floats lie far below."""
ENOUGH = 10
"""Peaks from which the order of a spectrum tells anything."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of some spectra.

    Parameters
    ----------
    spectra, peaks : int
    implausible : int
        Spectra of which most m/z are none.
    lowest, highest : float
        m/z of the first of those, or of all.
    misread : int
        Spectra whose median intensity is none.
    exchanged, told : int
        Spectra whose intensities rise but whose m/z do not, of those that are long enough to tell.
    profiles, modes : int
        Spectra in profile mode, of those that are long enough to tell.
    not_finite, not_positive, zeros : int
        Peaks with a NaN or infinity; with an m/z of zero or below, or an intensity below zero; of intensity zero.
    beyond : int
        Intensities beyond the range of 32 bits.
    unsorted : int
        Spectra whose m/z fall.
    """

    spectra: int = 0
    peaks: int = 0
    implausible: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    misread: int = 0
    exchanged: int = 0
    told: int = 0
    profiles: int = 0
    modes: int = 0
    not_finite: int = 0
    not_positive: int = 0
    zeros: int = 0
    beyond: int = 0
    unsorted: int = 0

    def __add__(self, other: Seen) -> Seen:
        counts = {name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        lowest, highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        return Seen(**{**counts, "lowest": lowest, "highest": highest})


def sample(dataset: Dataset, count: int) -> list[int]:
    """Return up to `count` spectra with peaks, evenly from the whole dataset."""
    whole = np.flatnonzero(dataset.index.length > 0)
    if len(whole) > count:
        whole = whole[np.linspace(0, len(whole) - 1, count).astype(np.intp)]
    return [int(each) + dataset.first for each in whole]


def look(dataset: Dataset, count: int = SPECTRA) -> Seen:
    """Read some spectra one by one, and say what they are like.

    Raises
    ------
    InputError
        A compressed array is damaged.
    """
    seen = Seen()
    for number in sample(dataset, count):
        seen += see(*(arrays[0] for arrays in read_arrays(dataset, number, number + 1)))
    return seen


def see(mz_array: NDArray[Any], intensity_array: NDArray[Any]) -> Seen:
    """Return what one spectrum is like."""
    mz, intensity = mz_array.astype(np.float64), intensity_array.astype(np.float64)
    finite = np.isfinite(mz) & np.isfinite(intensity)
    plausible = (mz > MZ_RANGE[0]) & (mz < MZ_RANGE[1])
    falls = bool((np.diff(mz) < 0).any())
    usable = finite & plausible
    long = len(mz) >= ENOUGH
    x, y = mz[usable], intensity[usable]
    if falls:
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
    profile = is_profile(x, y)
    kept = mz[finite]
    there = intensity[finite & (intensity > 0)]
    median = float(np.median(there)) if there.size else 1.0
    return Seen(
        spectra=1,
        peaks=len(mz),
        implausible=int(2 * int(plausible.sum()) < len(mz)),
        lowest=float(kept.min(initial=np.inf)),
        highest=float(kept.max(initial=-np.inf)),
        misread=int(not INTENSITY_RANGE[0] < median < INTENSITY_RANGE[1]),
        exchanged=int(long and falls and bool((np.diff(intensity) > 0).all())),
        told=int(long),
        profiles=int(profile is True),
        modes=int(profile is not None),
        not_finite=int((~finite).sum()),
        not_positive=int((finite & ((mz <= 0) | (intensity < 0))).sum()),
        zeros=int((finite & (intensity == 0)).sum()),
        beyond=int((finite & (np.abs(intensity) > np.finfo(np.float32).max)).sum()),
        unsorted=int(falls),
    )


def quirks_of(seen: Seen) -> list[Quirk]:
    """Return what the spectra themselves show to be wrong."""
    quirks = []
    if seen.implausible:
        quirks.append(
            Quirk(
                "no-mz",
                f"most m/z of {seen.implausible:,} of {seen.spectra:,} spectra looked at are none, at "
                f"{seen.lowest:.3g} to {seen.highest:.3g}",
                "the element type, the byte order or the offsets in the header are wrong: export the file again",
                seen.implausible,
                fatal=True,
            )
        )
    elif seen.misread:
        quirks.append(
            Quirk(
                "no-intensity",
                f"the median intensity of {seen.misread:,} of {seen.spectra:,} spectra looked at is none",
                "the element type or the byte order in the header is wrong: export the file again",
                seen.misread,
                fatal=True,
            )
        )
    elif seen.told and seen.exchanged == seen.told:
        quirks.append(
            Quirk(
                "exchanged",
                "intensities rise through every spectrum looked at while m/z do not",
                "m/z and intensities seem to be exchanged in the header: export the file again",
                seen.exchanged,
                fatal=True,
            )
        )
    return quirks


def mode_of(seen: Seen, told: str, centroid: bool, quirks: list[Quirk]) -> tuple[str, bool]:
    """Return the mode of a dataset and whether its peaks are to be picked.

    Parameters
    ----------
    seen : Seen
    told : str
        The mode that the file tells; empty if it does not.
    centroid : bool
        Whether the user asks for picking.
    quirks : list of Quirk
        Is added to.
    """
    shown = "" if not seen.modes else "profile" if 2 * seen.profiles > seen.modes else "centroid"
    mode = shown or told
    if shown and told and shown != told:
        looks = f"the file says {told}, but points of the spectra looked at stand "
        looks += "in even rows, as in a profile" if shown == "profile" else "apart, as centroids do"
    else:
        looks = "the spectra are profiles" if mode == "profile" else ""
    if mode == "profile":
        if centroid:
            quirks.append(Quirk("profile", looks, "their peaks are picked (--centroid)"))
            return mode, True
        certain = told != "centroid"
        remedy = "--centroid picks their peaks" if certain else "they are read as centroids; --centroid picks peaks"
        quirks.append(Quirk("profile", looks, remedy, fatal=certain))
        return mode, False
    if looks:
        quirks.append(Quirk("mode", looks, "they are read as centroids"))
    if centroid:
        quirks.append(Quirk("centroids", "the spectra are centroids already", "--centroid changes nothing"))
    return mode, False
