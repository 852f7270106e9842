from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.metabolomics.science.elements import isotope_table
from apps.metabolomics.science.formulas import Composition, FormulaError, is_canonical, parse_formula

counts = st.dictionaries(
    st.sampled_from(["C", "H", "N", "O", "P", "S", "Na", "Cl", "Co", "[13C]", "[2H]", "[15N]"]),
    st.integers(1, 300),
    min_size=1,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("C6H12O6", "C6H12O6"),
        ("H12C6O6", "C6H12O6"),
        (" C6 H12 O6\t", "C6H12O6"),
        ("C₆H₁₂O₆", "C6H12O6"),
        ("CH3CH2OH", "C2H6O"),
        ("CH3(CH2)4COOH", "C6H12O2"),
        ("((CH3)3C)2O", "C8H18O"),
        ("K4[Fe(CN)6]", "C6FeK4N6"),
        ("CuSO4·5H2O", "CuH10O9S"),
        ("CuSO4 · 5 H2O", "CuH10O9S"),
        ("CuSO4•5H2O", "CuH10O9S"),
        ("CuSO4.5H2O", "CuH10O9S"),
        ("C17H19NO3.2HCl", "C17H21Cl2NO3"),
        ("C8H10N4O2.HCl", "C8H11ClN4O2"),
        ("2Na·SO4", "Na2O4S"),
        ("CuCl2·2H2O", "Cl2CuH4O2"),
        ("C6H15N·2HCl", "C6H17Cl2N"),
        ("[13C]6H12O6", "[13C]6H12O6"),
        ("[13C6]H12O6", "[13C]6H12O6"),
        ("C4[13C]2H12O6", "C4[13C]2H12O6"),
        ("¹³C₆H₁₂O₆", "[13C]6H12O6"),
        ("([13C]H3)2", "[13C]2H6"),
        ("D2O", "[2H]2O"),
        ("C6D5H", "C6H[2H]5"),
        ("CT4", "C[3H]4"),
        ("[18O]2", "[18O]2"),
        ("CO", "CO"),
        ("Co", "Co"),
        ("FIN", "FIN"),
        ("NNa", "NNa"),
        ("BrH", "BrH"),
    ],
)
def test_a_formula_is_read_exactly(text: str, canonical: str) -> None:
    assert str(parse_formula(text)) == canonical


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "missing"),
        ("   ", "missing"),
        ("C6H12O6+", "charge"),
        ("C6H11O7-", "charge"),
        ("C6H11O7−", "charge"),
        ("NH4⁺", "charge"),
        ("[C6H12]+", "charge"),
        ("Ca2+", "charge"),
        ("C6H12.5O6", "decimal point"),
        ("C10H14N5O7P.0.5H2O", "decimal point"),
        ("C60.5H2O", "decimal point"),
        ("C10H16.5N2OH", "decimal point"),
        ("C2H4O·0.5H2O", "fraction"),
        ("RCOOH", "placeholder R"),
        ("CX4", "placeholder X"),
        ("C5H9*NO2", "placeholder"),
        ("(C2H4O)n", "repeats a group n times"),
        ("(C2H4O)nH2O", "repeats a group n times"),
        ("C6H0", "count of zero"),
        ("(CH2)0C", "count of zero"),
        ("C06H12", "begins with zero"),
        ("2H2O", "begins with a number"),
        ("13C6H12O6", "begins with a number"),
        ("(13C)6", "understood"),
        ("13C6H12O6·H2O", "begins with a number"),
        ("C6H6·13C6H6", "begins with a number"),
        ("2H2O·CuSO4", "begins with a number"),
        ("UNKNOWN", "is a word"),
        (" TBD", "is a word"),
        ("ND", "is a word"),
        ("NaN", "is a word"),
        ("INF", "is a word"),
        ("UNK", "is a word"),
        ("C1 2H2", "space within"),
        ("N a", "space within"),
        ("C6H12O6)", "where none was opened"),
        ("(C6H12O6", "lacks a closing"),
        ("(C6H12]O6", "where none was opened"),
        ("()C", "empty group"),
        ("C·", "empty part"),
        ("C6H12O6..H2O", "empty part"),
        ("[13C2]2", "twice"),
        ("[15C]", "no isotope"),
        ("[1]C", "understood"),
        ("Tc", "no element"),
        ("Xx2", "no element"),
        ("NA", "placeholder A"),
        ("c6h12o6", "understood"),
        ("C6H12O6 glucose", "understood"),
        ("C6H12O6?", "understood"),
        ("C6H12O6,", "understood"),
        ("C=O", "understood"),
        ("C_6", "understood"),
        ("C1000000", "more than 100000"),
        ("(C50000)3", "more than 100000"),
        ("C٣", "understood"),
    ],
)
def test_what_is_not_one_composition_is_refused_in_a_sentence(text: str, what: str) -> None:
    with pytest.raises(FormulaError, match=re.escape(what)) as error:
        parse_formula(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, float("nan"), 6])
def test_what_is_no_text_is_no_formula(value: object) -> None:
    with pytest.raises(FormulaError, match="a formula is text"):
        parse_formula(value)  # type: ignore[arg-type]


@settings(deadline=None)
@given(counts)
def test_the_canonical_string_is_read_back(atoms: dict[str, int]) -> None:
    composition = Composition(atoms)

    assert parse_formula(str(composition)) == composition
    assert dict(parse_formula(str(composition))) == atoms


@settings(deadline=None)
@given(counts, st.randoms(use_true_random=False))
def test_equal_compositions_have_one_string_and_one_hash(atoms: dict[str, int], random: object) -> None:
    shuffled = list(atoms.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    first, second = Composition(atoms), Composition(shuffled)

    assert (str(first), hash(first)) == (str(second), hash(second))
    assert first == second
    assert pickle.loads(pickle.dumps(first)) == first


def expanded(text: str) -> dict[str, int] | None:
    """Count atoms by writing every repetition out, the slow way; None where the text is no plain formula."""
    parts = []
    for part in text.split("·"):
        leading = re.match("[1-9][0-9]*", part)
        if leading and "·" not in text:
            return None
        parts.append(part[leading.end() :] * int(leading[0]) if leading else part)
        if not part[leading.end() if leading else 0 :]:
            return None
    flat = "".join(f"({part})" for part in parts)
    while "(" in flat:
        inner = re.search(r"\(([^()]+)\)([0-9]*)", flat)
        if inner is None or inner[2].startswith("0"):
            return None
        flat = flat[: inner.start()] + inner[1] * int(inner[2] or 1) + flat[inner.end() :]
    counted: dict[str, int] = {}
    position = 0
    for atom in re.finditer(r"([A-Z][a-z]?|\[13C\])([1-9][0-9]*)?", flat):
        if atom.start() != position or atom[1] not in isotope_table():
            return None
        position = atom.end()
        counted[atom[1]] = counted.get(atom[1], 0) + int(atom[2] or 1)
    return counted if position == len(flat) and counted else None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["C", "H", "O", "Co", "[13C]", "2", "3", "0", "(", ")", "·", "a", "1"]), max_size=9))
def test_no_text_is_read_as_another_composition(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        composition = parse_formula(text)
    except FormulaError:
        return
    assert dict(composition) == expanded(text)


@settings(deadline=None)
@given(st.text(alphabet="CHONaS1230()[]·. +-₂²RXn*", max_size=10))
def test_any_text_is_a_composition_or_a_sentence(text: str) -> None:
    try:
        composition = parse_formula(text)
    except FormulaError:
        return
    assert composition.is_possible


def test_the_mass_is_that_of_the_commonest_isotopes_less_the_electrons() -> None:
    glucose = parse_formula("C6H12O6")

    assert glucose.monoisotopic_mass() == pytest.approx(180.063388, abs=1e-6)
    assert glucose.monoisotopic_mass(1) == pytest.approx(180.062840, abs=1e-6)


def test_a_label_is_heavier_by_its_neutrons() -> None:
    difference = parse_formula("[13C]6H12O6").monoisotopic_mass() - parse_formula("C6H12O6").monoisotopic_mass()

    assert difference == pytest.approx(6 * 1.00335484, abs=1e-9)


def test_abundances_of_every_element_sum_to_one() -> None:
    for name, isotopes in isotope_table().items():
        assert isotopes.abundances.sum() == pytest.approx(1.0, abs=2e-4), name
        assert (isotopes.masses[1:] > isotopes.masses[:-1]).all(), name


@given(
    st.lists(
        st.tuples(st.sampled_from(["C", "H", "Br", "Cl", "F", "I", "N", "O", "P", "S", "Na", "CO"]),
                  st.sampled_from(["", "1", "2", "10", "01", "0", "999", "1000"])),
        max_size=6,
    )
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_a_formula_that_counts_as_canonical_is_what_parsing_gives(parts: list[tuple[str, str]]) -> None:
    order = ["C", "CO", "H", "Br", "Cl", "F", "I", "N", "Na", "O", "P", "S"]
    for text in (
        "".join(map("".join, parts)),
        "".join(map("".join, sorted(parts, key=lambda each: order.index(each[0])))),
    ):
        if is_canonical(text):
            assert str(parse_formula(text)) == text


def test_usual_formulas_are_canonical_and_words_are_none() -> None:
    assert all(map(is_canonical, ["C6H12O6", "CH4", "C", "C10H16N5O13P3", "C2H5Cl", "C2HBrClF3"]))
    assert not any(map(is_canonical, ["", "H2O", "C1H4", "C06H12", "C6O6H12", "C6H12O6 ", "C6H12Na", "C6H12O6\n"]))
