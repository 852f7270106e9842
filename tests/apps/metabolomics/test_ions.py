from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.science.elements import isotope_table
from apps.metabolomics.science.formulas import Composition, FormulaError, parse_formula
from apps.metabolomics.science.ions import (
    DECOY_ELEMENTS,
    NOTHING,
    Adduct,
    decoy_adduct,
    decoy_candidates,
    decoys,
    ion_composition,
    ion_counts,
    parse_adduct,
    parse_modification,
)

Polarity = Literal["+", "-"]
DEFAULTS = [parse_adduct(name, "+") for name in ("+H", "+Na", "+K")]


def ion(formula: str, adduct: str, polarity: Polarity = "+", modification: str = "", loss: str = "") -> str | None:
    composed = ion_composition(
        parse_formula(formula),
        parse_modification(modification) if modification else NOTHING,
        parse_modification(loss) if loss else NOTHING,
        parse_adduct(adduct, polarity),
    )
    return None if composed is None else str(composed)


@pytest.mark.parametrize(
    ("text", "polarity", "name", "charge", "multiplier"),
    [
        ("+H", "+", "+H", 1, 1),
        ("[M+H]+", "+", "+H", 1, 1),
        ("[M + H]+", "+", "+H", 1, 1),
        ("M+H", "+", "+H", 1, 1),
        ("-H", "-", "-H", -1, 1),
        ("[M−H]-", "-", "-H", -1, 1),
        ("[M]+", "+", "[M]+", 1, 1),
        ("[M]-", "-", "[M]-", -1, 1),
        ("[M-H2O+H]+", "+", "-H2O+H", 1, 1),
        ("[M+H-H2O]+", "+", "-H2O+H", 1, 1),
        ("[M+NH4]+", "+", "+NH4", 1, 1),
        ("+NH4", "+", "+NH4", 1, 1),
        ("[M+HCOO]-", "-", "+HCOO", -1, 1),
        ("+2Na-H", "+", "-H+2Na", 1, 1),
        ("[2M+H]+", "+", "[2M+H]+", 1, 2),
        ("[M+2H]2+", "+", "[M+2H]2+", 2, 1),
        ("[M+2H]+2", "+", "[M+2H]2+", 2, 1),
        ("[M+2H]++", "+", "[M+2H]2+", 2, 1),
        ("[M+H+Na]2+", "+", "[M+H+Na]2+", 2, 1),
        ("[M+Na+H]2+", "+", "[M+H+Na]2+", 2, 1),
        ("[M-2H]2-", "-", "[M-2H]2-", -2, 1),
        ("[M+[13C]H4]+", "+", "+[13C]H4", 1, 1),
    ],
)
def test_an_adduct_has_one_name(text: str, polarity: Polarity, name: str, charge: int, multiplier: int) -> None:
    adduct = parse_adduct(text, polarity)

    assert (adduct.name, adduct.charge, adduct.multiplier) == (name, charge, multiplier)
    assert parse_adduct(adduct.name, polarity) == adduct


@pytest.mark.parametrize(
    ("text", "polarity", "what"),
    [
        ("", "+", "not understood"),
        ("H", "+", "not understood"),
        ("M", "+", "not understood"),
        ("+Xx", "+", "not understood.*no element"),
        ("[M+FA-H]-", "-", "not understood"),
        ("[M+H]", "+", "no charge"),
        ("[M+H]0+", "+", "no charge"),
        ("[M+H]+-", "+", "no charge"),
        ("[M-H]-", "+", "other polarity"),
        ("[M+H]+", "-", "other polarity"),
        ("+H-H", "+", "changes nothing"),
        ("[5M+H]+", "+", "5 molecules"),
        ("[0M+H]+", "+", "0 molecules"),
        ("[M+9H]9+", "+", "9 charges"),
        ("+0H", "+", "count of zero"),
        ("+H0", "+", "count of zero"),
        ("+N a", "+", "not understood"),
        ("[M+H]+H", "+", "not understood"),
        ("+H,+Na", "+", "not understood"),
    ],
)
def test_an_adduct_that_is_not_understood_is_refused_by_name(text: str, polarity: Polarity, what: str) -> None:
    with pytest.raises(FormulaError, match=what) as error:
        parse_adduct(text, polarity)
    assert repr(text) in str(error.value)


def test_two_spellings_of_one_ion_are_one_ion() -> None:
    spellings = ("-H2O+H", "[M-H2O+H]+", "[M+H-H2O]+", "[M-OH]+", "-HO")

    assert len({parse_adduct(spelling, "+") for spelling in spellings}) == 1


def test_one_atom_more_or_one_charge_more_is_another_ion() -> None:
    different = ("+H", "+2H", "[M+2H]2+", "[2M+H]+", "[M]+")

    assert len({parse_adduct(text, "+") for text in different}) == len(different)


@pytest.mark.parametrize(
    ("formula", "adduct", "expected"),
    [
        ("C6H12O6", "+H", "C6H13O6"),
        ("C6H12O6", "+Na", "C6H12NaO6"),
        ("C6H12O6", "[M]+", "C6H12O6"),
        ("C6H12O6", "[M-H2O+H]+", "C6H11O5"),
        ("C6H12O6", "[M+NH4]+", "C6H16NO6"),
        ("C6H12O6", "[2M+H]+", "C12H25O12"),
        ("C6H12O6", "[M+2H]2+", "C6H14O6"),
        ("[13C]6H12O6", "+H", "[13C]6H13O6"),
        ("CO2", "-H2O+H", None),
        ("CHClO", "-H2O+H", None),
        ("C6H12O6", "-Cl", None),
    ],
)
def test_an_ion_has_the_atoms_that_its_name_says(formula: str, adduct: str, expected: str | None) -> None:
    assert ion(formula, adduct) == expected


def test_an_ion_that_loses_what_its_molecule_has_not_is_none() -> None:
    assert ion("CO2", "-H", "-") is None
    assert ion("CO2", "+H", loss="-H2O") is None
    assert ion("CO2", "+H", modification="-H+C2H3O") is None


def test_a_loss_must_be_there_before_anything_is_gained() -> None:
    assert ion("CO2", "+H", modification="+C2H3O-H") is None
    assert ion("CHClO", "+H-H2O") is None


def test_modification_and_loss_come_before_the_adduct() -> None:
    assert ion("C2H6O", "+H", modification="+C2H2O") == "C4H9O2"
    assert ion("C2H6O", "+H", loss="-H2O") == "C2H5"
    assert ion("C2H6O", "[2M+H]+", loss="-H2O") == "C4H9"


def test_what_is_wholly_lost_is_no_ion() -> None:
    assert ion("H2O", "+Na", loss="-H2O") is None


@pytest.mark.parametrize("text", ["H2O", "", "-", "-H2O+", "-H2O+H2O", "-Qq", "-H2O -"])
def test_a_modification_that_is_not_understood_is_refused_by_name(text: str) -> None:
    with pytest.raises(FormulaError, match="modification .* (is not understood|changes nothing)|no element"):
        parse_modification(text)


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


change = st.sampled_from(["", "-H2O", "+C2H2O", "-H+C2H3O", "-CO2"])


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("CHO"), st.integers(1, 4), min_size=1), min_size=1, max_size=5),
    change,
    change,
    st.sampled_from(["+H", "[M]+", "-H2O+H", "[2M+H]+", "[M+2H]2+", "+2Na-H", "-C2H4O2"]),
)
def test_many_ions_are_composed_as_each_alone(molecules: list[dict[str, int]], mod: str, loss: str, name: str) -> None:
    elements = ("C", "H", "Na", "O")
    changes = [parse_modification(text) if text else NOTHING for text in (mod, loss)]
    adduct = parse_adduct(name, "+")
    counts = np.array([[molecule.get(element, 0) for element in elements] for molecule in molecules], dtype=np.int32)

    atoms, possible = ion_counts(counts, elements, *changes, adduct)

    together = [
        Composition(zip(elements, row, strict=True)) if there else None
        for row, there in zip(atoms.tolist(), possible.tolist(), strict=True)
    ]
    assert together == [ion_composition(Composition(molecule), *changes, adduct) for molecule in molecules]
