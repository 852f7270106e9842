"""A small dataset with molecules planted in it, and its database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from apps.metabolomics.imzml.writing import Format, Pixel, write_imzml
from apps.metabolomics.science.adducts import NOTHING, parse_adduct
from apps.metabolomics.science.centroids import Instrument, patterns
from apps.metabolomics.science.formulas import parse_formula
from apps.metabolomics.science.ions import ion_composition

WIDTH, HEIGHT = 14, 11
FORMULAS = [
    str(parse_formula(f"C{carbon}H{2 * carbon - 4}N{nitrogen}O{oxygen}"))
    for carbon, nitrogen, oxygen in [(6, 1, 2), (8, 2, 3), (10, 1, 4), (12, 3, 5), (15, 1, 3), (18, 2, 6), (20, 4, 2),
                                     (22, 1, 7), (25, 2, 4), (28, 1, 5), (30, 3, 3), (34, 2, 8)]
]  # fmt: skip
MANY = [f"C{carbon}H{hydrogen}O{oxygen}" for carbon in range(9, 40) for hydrogen in (12, 14) for oxygen in range(3, 9)]
OTHERS = [f"C{carbon}H{2 * carbon - 2}N2O{oxygen}S" for carbon in range(7, 25) for oxygen in (2, 3)]
PLANTED = FORMULAS[::2]


def write_dataset(
    address: str,
    *,
    polarity: str = "+",
    noise: int = 200,
    formulas: list[str] | None = None,
    ppm: float = 0.0,
    mz: str = "f8",
) -> None:
    """Write the dataset, with blobs of the planted molecules and noise over all m/z, all of them off by so many ppm."""
    pixels = _pixels(noise, PLANTED if formulas is None else formulas, ppm)
    write_imzml(address, pixels, Format(polarity=polarity, mz=mz, identifier=bytes(16)))


def write_database(path: Path, formulas: list[str] | None = None) -> Path:
    chosen = [*FORMULAS, *OTHERS] if formulas is None else formulas
    path.write_text("id\tname\tformula\n" + "".join(f"X{at}\tmol {at}\t{each}\n" for at, each in enumerate(chosen)))
    return path


def _pixels(noise: int, formulas: list[str], ppm: float) -> Iterator[Pixel]:
    rng = np.random.default_rng(1)
    ions = [ion_composition(parse_formula(each), NOTHING, NOTHING, parse_adduct("+H", "+")) for each in formulas]
    pattern = patterns([ion for ion in ions if ion is not None], 1, Instrument("orbitrap", 140_000))
    centres = rng.uniform(0, 1, (len(formulas), 2)) * (WIDTH, HEIGHT)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            near = np.exp(-(((centres - (x, y)) ** 2).sum(axis=1)) / 18)
            intensity = (
                pattern.intensity * near[:, None] * 100 * rng.uniform(0.9, 1.1, pattern.intensity.shape)
            ).ravel()
            mz = (pattern.mz * (1 + rng.normal(0, 0.4e-6, pattern.mz.shape))).ravel()
            seen = intensity > 20
            mz = np.concatenate([mz[seen], rng.uniform(100, 800, noise)]) * (1 + ppm * 1e-6)
            intensity = np.concatenate([intensity[seen], rng.exponential(30, noise)])
            order = np.argsort(mz)
            yield Pixel(x + 1, y + 1, mz[order], intensity[order])
