"""The whole science, in memory, beside tables that METASPACE's production engine computed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from apps.metabolomics.imzml import open_dataset, read_spectra
from apps.metabolomics.science.adducts import NOTHING, parse_adduct
from apps.metabolomics.science.centroids import Instrument, patterns, windows
from apps.metabolomics.science.chaos import measures_of_chaos
from apps.metabolomics.science.decoys import decoy_adduct, decoy_candidates, decoys
from apps.metabolomics.science.fdr import fdr
from apps.metabolomics.science.formulas import Composition, parse_formula
from apps.metabolomics.science.ions import ion_composition
from apps.metabolomics.science.scores import image, score_ions
from apps.metabolomics.science.sorting import sort_peaks

ADDUCTS = ("+H", "+Na", "+K")
PRINTED = 5e-9
"""The tables have nine digits."""


@dataclass(frozen=True)
class Row:
    chaos: float
    spatial: float
    spectral: float
    msm: float
    fdr: float | None


@dataclass(frozen=True)
class Annotated:
    targets: dict[tuple[str, str], Row]
    ions: dict[Composition, Row]


def annotate(imzml: Path, formulas: list[str], instrument: Instrument, ppm: float) -> Annotated:
    dataset = open_dataset(str(imzml))
    spectra = read_spectra(dataset, 0, dataset.n_spectra)
    order = sort_peaks(spectra.mz)
    mz, pixel, intensity = spectra.mz[order], spectra.pixel[order], spectra.intensity[order]
    molecules = [parse_formula(formula) for formula in formulas]
    adducts = [parse_adduct(name, "+") for name in ADDUCTS]
    drawn, candidates = decoys(formulas, adducts, 20, "metaspace"), decoy_candidates(adducts)
    target_ions = {
        (formula, adduct.name): ion_composition(molecule, NOTHING, NOTHING, adduct)
        for formula, molecule in zip(formulas, molecules, strict=True)
        for adduct in adducts
    }
    decoy_ions = [
        ion_composition(molecule, NOTHING, NOTHING, decoy_adduct(candidates[i], adducts[0]))
        for molecule, row in zip(molecules, drawn, strict=True)
        for i in row
    ]
    ions = list(dict.fromkeys([ion for ion in (*target_ions.values(), *decoy_ions) if ion is not None]))
    found = patterns(ions, 1, instrument)
    low, high = windows(found, ppm)
    grid = dataset.width * dataset.height
    scores = score_ions(mz, pixel, intensity, low, high, found.intensity, grid, dataset.n_spectra)
    bound = scores.spatial * scores.spectral
    images = [image(mz, pixel, intensity, low[i, 0], high[i, 0]) for i in np.flatnonzero(bound)]
    chaos = np.zeros(len(ions))
    chaos[bound > 0] = measures_of_chaos(
        np.concatenate([pixels for pixels, _ in images]), np.concatenate([values for _, values in images]),
        np.cumsum([0, *(pixels.size for pixels, _ in images)]), dataset.width, dataset.height, engine_compat=True,
    )  # fmt: skip
    msm = chaos * bound
    place = {ion: i for i, ion in enumerate(ions)}
    decoy_scores = np.array([msm[place[ion]] for ion in decoy_ions if ion is not None])
    rows = {}
    for adduct in ADDUCTS:
        ranked = [(formula, ion) for (formula, name), ion in target_ions.items() if name == adduct and ion is not None]
        rates = fdr(np.array([msm[place[ion]] for _, ion in ranked]), decoy_scores, 20, clip=False)
        for (formula, ion), rate in zip(ranked, rates.tolist(), strict=True):
            i = place[ion]
            if msm[i] > 0.0:
                rows[formula, adduct] = Row(chaos[i], scores.spatial[i], scores.spectral[i], msm[i], rate)
    positive = np.flatnonzero(msm).tolist()
    all_ions = {ions[i]: Row(chaos[i], scores.spatial[i], scores.spectral[i], msm[i], None) for i in positive}
    return Annotated(rows, all_ions)


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def formulas_of(path: Path) -> list[str]:
    return list(dict.fromkeys(row["formula"] for row in table(path, "\t")))


@pytest.fixture(scope="module")
def synthetic(shared_data: Path) -> Annotated:
    folder = shared_data / "synth_small"
    return annotate(folder / "synth_small.imzML", formulas_of(folder / "db.tsv"), Instrument("orbitrap", 140_000), 3.0)


@pytest.fixture(scope="module")
def tissue(shared_data: Path) -> Annotated:
    imzml = shared_data / "untreated_tiny" / "Untreated_3_434_tiny.imzML"
    return annotate(imzml, formulas_of(shared_data / "db_800.tsv"), Instrument("fticr", 280_000), 3.0)


def check(found: Row, expected: dict[str, str]) -> None:
    assert found.chaos == pytest.approx(float(expected["chaos"]), abs=1e-6)
    assert found.spectral == pytest.approx(float(expected["spectral"]), abs=1e-6)
    assert found.spatial == pytest.approx(float(expected["spatial"]), abs=1e-5)
    assert found.msm == pytest.approx(float(expected["msm"]), abs=1e-5)


@pytest.mark.parametrize(
    ("dataset", "reference"),
    [("synthetic", "reference_synth_small_v3.csv"), ("tissue", "reference_untreated_tiny_v3.csv")],
)
def test_targets_scores_and_rates_are_the_engines(
    dataset: str, reference: str, shared_data: Path, request: pytest.FixtureRequest
) -> None:
    annotated = request.getfixturevalue(dataset)
    expected = {(row["formula"], row["adduct"]): row for row in table(shared_data / reference)}

    assert annotated.targets.keys() == expected.keys()
    for key, row in annotated.targets.items():
        check(row, expected[key])
        assert row.fdr == pytest.approx(float(expected[key]["fdr"]), rel=PRINTED)


def test_all_ions_with_a_score_are_the_engines_decoys_among_them(synthetic: Annotated, shared_data: Path) -> None:
    rows = table(shared_data / "reference_synth_small_v3_allions.csv")
    expected = {parse_formula(row["ion_formula"]): row for row in rows}

    assert synthetic.ions.keys() == expected.keys()
    for ion, row in synthetic.ions.items():
        check(row, expected[ion])
