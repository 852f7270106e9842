from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apps.metabolomics.science.centroids import Instrument, patterns, patterns_of_counts, windows
from apps.metabolomics.science.formulas import parse_formula
from tests.apps.metabolomics.reference import isotopologues_reference, pattern_reference

ORBITRAP = Instrument("orbitrap", 140_000)
SIGMAS = {"0.002476": 70_000, "0.001238": 140_000, "0.000619": 280_000}


def one(
    formula: str, charge: int = 1, instrument: Instrument = ORBITRAP, n_peaks: int = 4
) -> list[tuple[float, float]]:
    found = patterns([parse_formula(formula)], charge, instrument, n_peaks)
    return [(found.mz[0, i], found.intensity[0, i]) for i in range(found.count[0])]


def test_patterns_are_those_that_metaspace_computes_with_on_every_row(shared_data: Path) -> None:
    with open(shared_data / "centroids.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 1000
    for kind, sigma, charge in {(row["instrument"], row["sigma"], int(row["charge"])) for row in rows}:
        alike = [row for row in rows if (row["instrument"], row["sigma"], int(row["charge"])) == (kind, sigma, charge)]
        instrument = Instrument(kind, SIGMAS[sigma])  # type: ignore[arg-type]
        found = patterns([parse_formula(row["ion_formula"]) for row in alike], charge, instrument)
        for i, row in enumerate(alike):
            mz, intensity = (np.array(row[name].split(";"), dtype=float) for name in ("mzs", "ints"))
            assert found.count[i] == mz.size, row
            assert np.abs(found.mz[i, : mz.size] - mz).max() < 1e-6, row
            assert np.abs(found.intensity[i, : mz.size] / intensity - 1.0).max() < 1e-4, row


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["H", "O", "S", "Cl", "Se", "[13C]"]), st.integers(1, 6), min_size=1),
    st.sampled_from(["orbitrap", "fticr", "tof"]),
    st.sampled_from([4_000, 20_000, 140_000]),
    st.sampled_from([1, -1, 2]),
)
@example({"H": 3, "O": 4, "S": 1, "Cl": 6, "Se": 6, "[13C]": 3}, "fticr", 4_000, 2)  # a valley near its maximum
def test_patterns_are_those_of_a_walk_over_the_whole_grid(
    atoms: dict[str, int], kind: str, resolving_power: float, charge: int
) -> None:
    instrument = Instrument(kind, resolving_power)  # type: ignore[arg-type]
    atoms["C"] = 20

    found = patterns([atoms], charge, instrument)

    expected = pattern_reference(atoms, charge, instrument, 4)
    assert found.count[0] == len(expected)
    assert found.mz[0, : len(expected)] == pytest.approx([mz for mz, _ in expected], abs=2e-8)
    assert found.intensity[0, : len(expected)] == pytest.approx([height for _, height in expected], rel=1e-7)


def test_labels_move_the_pattern_and_take_its_isotope_peak_away() -> None:
    natural, labelled = one("C6H13O6"), one("[13C]6H13O6")

    assert labelled[0][0] - natural[0][0] == pytest.approx(6 * 1.00335484, abs=1e-4)
    assert natural[1][1] > 6.0
    assert labelled[1][1] < 1.5


def test_two_charges_halve_every_distance() -> None:
    (first, _), (second, _), *_ = one("C60H90O20", 2)

    assert second - first == pytest.approx(1.00335 / 2, abs=1e-3)
    assert first == pytest.approx(parse_formula("C60H90O20").monoisotopic_mass(2) / 2, abs=1e-3)


def test_a_negative_ion_is_heavier_by_two_electrons_than_the_positive_one() -> None:
    (positive, _), (negative, _) = one("PF6Na")[0], one("PF6Na", -1)[0]

    assert negative - positive == pytest.approx(2 * 5.48579909e-4, abs=1e-9)


def test_a_single_isotopologue_is_exact_and_what_lies_behind_it_is_absent() -> None:
    found = patterns([parse_formula("NaF2")], 1, ORBITRAP)

    assert found.count.tolist() == [1]
    assert found.mz[0, 0] == pytest.approx(parse_formula("NaF2").monoisotopic_mass(1), abs=1e-9)
    assert np.isnan(found.mz[0, 1:]).all()
    assert found.intensity[0].tolist() == [100.0, 0.0, 0.0, 0.0]


def test_fewer_peaks_asked_for_are_the_strongest_of_more() -> None:
    many, few = one("C40H80O10S2Cl3", n_peaks=8), one("C40H80O10S2Cl3", n_peaks=3)

    assert sorted(few, key=lambda peak: -peak[1]) == sorted(many, key=lambda peak: -peak[1])[:3]


@pytest.mark.parametrize("formula", ["C10H10Sn", "C5H5Fe", "C2H6Se", "C3H9Pt2", "C20H40O5"])
def test_intensities_are_those_of_the_isotopologues_under_each_peak(formula: str) -> None:
    found = one(formula, instrument=Instrument("tof", 8_000), n_peaks=12)
    fine = isotopologues_reference(parse_formula(formula))

    nominal: dict[int, float] = {}
    for mass, share in fine:
        nominal[round(mass)] = nominal.get(round(mass), 0.0) + share
    top = max(nominal.values())
    for mz, intensity in found:
        assert intensity == pytest.approx(100.0 * nominal[round(mz)] / top, rel=0.06, abs=0.02)


def test_an_ion_with_endlessly_many_isotopologues_has_no_pattern_and_the_others_have_theirs() -> None:
    found = patterns([parse_formula("C6H13O6"), parse_formula("SnXe3Cd4"), parse_formula("C5H11O5")], 1, ORBITRAP)

    assert found.count.tolist() == [4, 0, 4]
    assert np.isnan(found.mz[1]).all()
    assert not found.intensity[1].any()


def test_a_pattern_does_not_depend_on_what_is_computed_beside_it() -> None:
    alone = patterns([parse_formula("C42H83NO8P")], 1, ORBITRAP)

    beside = patterns([parse_formula(text) for text in ("SnH4", "C42H83NO8P", "C60")], 1, ORBITRAP)

    assert (beside.mz[1] == alone.mz[0]).all()
    assert (beside.intensity[1] == alone.intensity[0]).all()


def test_no_ions_have_no_patterns() -> None:
    assert patterns([], 1, ORBITRAP).mz.shape == (0, 4)


@pytest.mark.parametrize(("atoms", "charge"), [({"C": 1, "H": -1}, 1), ({}, 1), ({"C": 1}, 0)])
def test_what_is_no_ion_is_refused(atoms: dict[str, int], charge: int) -> None:
    with pytest.raises(ValueError, match="an ion has"):
        patterns([atoms], charge, ORBITRAP)


@pytest.mark.parametrize(("kind", "power", "at"), [("quadrupole", 1000, 200), ("tof", 0, 200), ("tof", 1000, -1)])
def test_an_instrument_that_there_is_not_is_refused(kind: str, power: float, at: float) -> None:
    with pytest.raises(ValueError, match="instrument|resolving power"):
        Instrument(kind, power, at)  # type: ignore[arg-type]


@pytest.mark.parametrize(("power", "sigma"), [(70_000, 0.002476), (140_000, 0.001238), (280_000, 0.000619)])
def test_widths_at_mz_200_are_metaspaces(power: float, sigma: float) -> None:
    assert Instrument("orbitrap", power).sigma == sigma


def test_resolving_power_is_carried_to_mz_200_by_the_instruments_law() -> None:
    assert Instrument("orbitrap", 70_000, 800).sigma == Instrument("orbitrap", 140_000).sigma
    assert Instrument("fticr", 70_000, 400).sigma == Instrument("fticr", 140_000).sigma
    assert Instrument("tof", 140_000, 800).sigma == Instrument("tof", 140_000).sigma


@pytest.mark.parametrize(
    ("power", "taken"), [(17_000, 70_000), (85_000, 100_000), (120_000, 140_000), (240_000, 250_000), (1e7, 1_000_000)]
)
def test_metaspace_knows_eight_resolving_powers(power: float, taken: float) -> None:
    assert Instrument("orbitrap", power).as_metaspace() == Instrument("orbitrap", taken)


def test_windows_are_relative_and_absent_where_there_is_no_peak() -> None:
    found = patterns([parse_formula("NaF2")], 1, ORBITRAP, 2)

    low, high = windows(found, 3.0)

    assert (high[0, 0] - low[0, 0]) / found.mz[0, 0] == pytest.approx(6e-6)
    assert np.isnan([low[0, 1], high[0, 1]]).all()


def test_counts_with_another_number_of_columns_than_elements_are_refused() -> None:
    with pytest.raises(ValueError, match="2 elements and 3 columns"):
        patterns_of_counts(("C", "H"), np.ones((1, 3), dtype=np.int32), 1, ORBITRAP)
