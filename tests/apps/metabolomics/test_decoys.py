from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.science.adducts import Adduct, parse_adduct
from apps.metabolomics.science.decoys import DECOY_ELEMENTS, decoy_adduct, decoy_candidates, decoys
from apps.metabolomics.science.elements import isotope_table
from apps.metabolomics.science.formulas import Composition

DEFAULTS = [parse_adduct(name, "+") for name in ("+H", "+Na", "+K")]


def test_decoys_are_eighty_elements_with_an_isotopic_composition() -> None:
    assert len(set(DECOY_ELEMENTS)) == 80
    assert set(DECOY_ELEMENTS) <= set(isotope_table())


def test_the_engines_decoys_are_its_seeded_shuffles_one_formula_after_the_other() -> None:
    formulas = [f"C{n}H{n}" for n in range(1, 30)]
    np.random.seed(42)
    expected = []
    for _ in formulas:
        shuffled = [element for element in DECOY_ELEMENTS if element != "Cl"]
        np.random.shuffle(shuffled)
        expected.append(shuffled[:20])

    targets = [parse_adduct("-H", "-"), parse_adduct("+Cl", "-")]
    drawn = decoys(formulas, targets, 20, "metaspace")

    candidates = decoy_candidates(targets)
    assert [[candidates[i] for i in row] for row in drawn] == expected


def test_decoys_by_formula_do_not_depend_on_order_or_company() -> None:
    formulas = [f"C{n}H{n + 2}" for n in range(1, 200)]

    together = decoys(formulas, DEFAULTS)
    backwards = decoys(formulas[::-1], DEFAULTS)
    alone = decoys(formulas[77:78], DEFAULTS)

    assert (together == backwards[::-1]).all()
    assert (together[77] == alone[0]).all()


def test_decoys_by_formula_are_what_they_always_were() -> None:
    candidates = decoy_candidates(DEFAULTS)

    drawn = decoys(["C6H12O6"], DEFAULTS, 6)

    assert [candidates[i] for i in drawn[0]] == ["Tm", "Co", "He", "Cr", "Sr", "N"]


def test_decoys_of_a_formula_are_distinct_and_over_many_formulas_even() -> None:
    drawn = decoys([f"C{n}" for n in range(1, 20_001)], DEFAULTS)

    assert all(len(set(row)) == 20 for row in drawn[:500].tolist())
    shares = np.bincount(drawn.ravel(), minlength=80) / 20_000
    assert shares == pytest.approx(0.25, abs=0.02)


def test_another_target_takes_its_own_element_out_of_the_decoys_and_no_other() -> None:
    with_chlorine = [*DEFAULTS, parse_adduct("+Cl", "+")]
    before, after = decoy_candidates(DEFAULTS), decoy_candidates(with_chlorine)

    first = [before[i] for i in decoys(["C6H12O6"], DEFAULTS, 79)[0]]
    second = [after[i] for i in decoys(["C6H12O6"], with_chlorine, 79)[0]]

    assert [element for element in first if element != "Cl"] == second[: 79 - ("Cl" in first)]


def test_more_decoys_than_candidates_are_all_of_them() -> None:
    assert decoys(["C6H12O6"], DEFAULTS, 500).shape == (1, 80)


@settings(deadline=None)
@given(st.sampled_from(DECOY_ELEMENTS), st.sampled_from(["+H", "[2M+H]+", "[M+2H]2+", "-H2O+H"]))
def test_a_decoy_has_its_targets_charge_and_molecules(element: str, target: str) -> None:
    adduct = parse_adduct(target, "+")

    decoy = decoy_adduct(element, adduct)

    assert (decoy.charge, decoy.multiplier) == (adduct.charge, adduct.multiplier)
    assert decoy.change == Composition({element: 1})
    assert isinstance(decoy, Adduct)
