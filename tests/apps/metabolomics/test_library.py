from __future__ import annotations

from collections import Counter

import pytest

from apps.metabolomics import library
from apps.metabolomics.library import compose, instrument_of, ions_of
from apps.metabolomics.modifiers import chemistry
from apps.metabolomics.params import MoleculeParams
from apps.metabolomics.science.centroids import Instrument
from apps.metabolomics.science.formulas import Composition, parse_formula
from apps.metabolomics.science.ions import ion_composition


def test_the_instrument_is_the_one_that_was_given() -> None:
    params = MoleculeParams(instrument="fticr", resolving_power="120000@400")

    assert instrument_of(params) == Instrument("fticr", 120_000, 400)


def test_as_the_engine_does_a_resolving_power_is_taken_for_one_of_its_eight() -> None:
    params = MoleculeParams(instrument="fticr", resolving_power="120000@400", engine_compat=True)

    assert instrument_of(params) == Instrument("fticr", 250_000)


@pytest.mark.parametrize("most", [1, 7, 1 << 14])
def test_ions_are_composed_as_each_alone_however_many_together(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "BATCH_IONS", most)
    formulas = ["C6H12O6", "H2O", "CO2", "C10H16N5O13P3", "C[13C]2H6O3"]
    molecules = MoleculeParams(
        polarity="+", adducts=("+H", "[M+2H]2+", "[2M+Na]+", "-H2O+H"), neutral_losses=("-H2O",), decoys=3
    )
    made = chemistry(molecules)
    expected, impossible = list[tuple[int, int, Composition]](), 0
    for rows, modifier in ions_of(formulas, 0, made, molecules):
        for row in rows.tolist():
            ion = ion_composition(parse_formula(formulas[row]), *made.changes[modifier])
            impossible += ion is None
            expected += [] if ion is None else [(row, modifier, ion)]

    batches = list(compose(formulas, 0, made, molecules))

    assert impossible > 0
    assert sum(batch.impossible for batch in batches) == impossible
    assert expected == [
        (row, modifier, Composition(zip(batch.elements, atoms, strict=True)))
        for batch in batches
        for row, modifier, atoms in zip(
            batch.rows.tolist(), batch.modifiers.tolist(), batch.atoms.tolist(), strict=True
        )
    ]
    for batch in batches:
        assert {made.modifiers[modifier].charge for modifier in batch.modifiers.tolist()} <= {batch.charge}
    charges = Counter(batch.charge for batch in batches)
    assert charges[1] + charges[2] == len(batches) >= (20 if most == 1 else 3)
