from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.science.adducts import NOTHING, parse_adduct, parse_modification
from apps.metabolomics.science.formulas import Composition, FormulaError, parse_formula
from apps.metabolomics.science.ions import ion_composition, ion_counts

Polarity = Literal["+", "-"]


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
        ("[M+13C]+", "+", "isotope labels as .13C."),
        ("+15NH4", "+", "isotope labels as .15N."),
        ("[M+6Li]+", "+", "isotope labels as .6Li."),
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
