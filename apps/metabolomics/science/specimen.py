"""A specimen of known composition, and the spectra that an instrument would measure of it.

Each compound has an isotope pattern, an abundance and a distribution over the specimen; what an instrument adds is
scatter of intensities, error of mass, peaks of chemical noise, and a limit below which it detects nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SCATTER = 0.2
"""Standard deviation of the logarithm of a compound's intensity from pixel to pixel, beside its distribution."""
PEAK_SCATTER = 0.1
"""The same of a single isotope peak, beside its pattern."""
NOISE_SCATTER = 0.8
"""Of the intensities of noise peaks, which begin at the limit of detection."""
PIXEL_ERROR = 0.5
"""Part of the mass error that all peaks of a pixel share, in standard deviations of the rest."""
SETTING, ROW = 0, 1
"""Streams of random numbers: what is in the specimen, and what is measured in a row of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Specimen:
    """Compounds, and the instrument.

    Attributes
    ----------
    mz : ndarray of float64, shape (n, k)
        Of the isotope peaks of each compound's ion; NaN where it has fewer.
    pattern : ndarray of float64, shape (n, k)
        Their intensities, the strongest of which is 1; 0 where it has fewer.
    abundance : ndarray of float64, shape (n,)
        Intensity of the strongest peak where the compound is most abundant.
    distribution : ndarray of int, shape (n,)
        Index into `DISTRIBUTIONS`.
    width, height : int
        Pixels.
    limit : float
        Intensity below which no peak is detected.
    noise : float
        Mean number of noise peaks of a pixel.
    mz_range : (float, float)
        m/z that are measured.
    error : float
        Standard deviation of the mass error, in ppm.
    seed : int
    """

    mz: FloatArray
    pattern: FloatArray
    abundance: FloatArray
    distribution: NDArray[np.int64]
    width: int
    height: int
    limit: float
    noise: float
    mz_range: tuple[float, float]
    error: float
    seed: int


def _disc(u: FloatArray, v: float, at: tuple[float, float], radius: float) -> FloatArray:
    distance = np.hypot(u - at[0], v - at[1])
    return np.asarray(1.0 / (1.0 + np.exp((distance - radius) / (0.08 * radius))))


def _ring(u: FloatArray, v: float) -> FloatArray:
    return np.asarray(np.exp(-0.5 * ((np.hypot(u - 0.5, v - 0.5) - 0.32) / 0.05) ** 2))


def _islands(u: FloatArray, v: float) -> FloatArray:
    centres = ((0.2, 0.25), (0.7, 0.2), (0.45, 0.55), (0.8, 0.75), (0.2, 0.8))
    return np.asarray(np.max([_disc(u, v, at, 0.11) for at in centres], axis=0))


DISTRIBUTIONS = (
    lambda u, v: np.ones_like(u),
    lambda u, v: u,
    lambda u, v: np.full_like(u, v),
    lambda u, v: np.clip(1.0 - u - v, 0.0, None) * 1.5,
    lambda u, v: _disc(u, v, (0.5, 0.5), 0.28),
    lambda u, v: _disc(u, v, (0.25, 0.3), 0.2),
    lambda u, v: _disc(u, v, (0.72, 0.68), 0.22),
    lambda u, v: 1.0 - _disc(u, v, (0.5, 0.5), 0.4),
    _ring,
    _islands,
    lambda u, v: np.clip(np.sin(6 * np.pi * u), 0.0, None) ** 2,
    lambda u, v: np.full_like(u, max(0.0, np.sin(5 * np.pi * v)) ** 2),
    lambda u, v: np.exp(-0.5 * ((u - v) / 0.12) ** 2),
    lambda u, v: (0.5 + 0.5 * np.sin(9 * u + 3 * v)) * (0.5 + 0.5 * np.cos(7 * v - 4 * u)),
    lambda u, v: np.where(u > 0.5, 1.0, 0.15) * np.where(np.full_like(u, v) > 0.4, 1.0, 0.3),
    lambda u, v: _disc(u, v, (0.35, 0.7), 0.16) + 0.6 * _disc(u, v, (0.7, 0.3), 0.12),
)
"""Where a compound is: from 0 to 1, at places u and v from 0 to 1 across and down the specimen."""


def stream(seed: int, *place: int) -> np.random.Generator:
    """Return the random numbers of one logical place, the same whatever else is drawn."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *place))))


def measure_row(specimen: Specimen, row: int) -> tuple[FloatArray, NDArray[np.float32], NDArray[np.int64]]:
    """Measure the pixels of one row.

    Returns
    -------
    mz : ndarray of float64, shape (peaks,)
        Rising within each pixel.
    intensity : ndarray of float32, shape (peaks,)
    count : ndarray of int64, shape (width,)
        Peaks of each pixel, one pixel after the other.
    """
    random = stream(specimen.seed, ROW, row)
    u = (np.arange(specimen.width) + 0.5) / specimen.width
    v = (row + 0.5) / specimen.height
    places = np.array([shape(u, v) for shape in DISTRIBUTIONS])
    amount = places[specimen.distribution] * specimen.abundance[:, None]
    amount *= np.exp(SCATTER * random.standard_normal(amount.shape))
    compound, pixel = np.nonzero(amount > specimen.limit / 2)
    peaks = amount[compound, pixel][:, None] * specimen.pattern[compound]
    peaks *= np.exp(PEAK_SCATTER * random.standard_normal(peaks.shape))
    which, isotope = np.nonzero(peaks > specimen.limit)
    noise = random.poisson(specimen.noise, specimen.width)
    noisy = int(noise.sum())
    mz = np.concatenate([specimen.mz[compound[which], isotope], random.uniform(*specimen.mz_range, noisy)])
    weak = specimen.limit * np.exp(NOISE_SCATTER * np.abs(random.standard_normal(noisy)))
    intensity = np.concatenate([peaks[which, isotope], weak])
    where = np.concatenate([pixel[which], np.repeat(np.arange(specimen.width), noise)])
    shift = PIXEL_ERROR * random.standard_normal(specimen.width)
    mz *= 1.0 + 1e-6 * specimen.error * (random.standard_normal(len(mz)) + shift[where])
    order = np.lexsort((mz, where))
    return mz[order], intensity[order].astype(np.float32), np.bincount(where, minlength=specimen.width)
