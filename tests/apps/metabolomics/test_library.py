from __future__ import annotations

from apps.metabolomics.library import instrument_of
from apps.metabolomics.params import MoleculeParams
from apps.metabolomics.science.centroids import Instrument


def test_the_instrument_is_the_one_that_was_given() -> None:
    params = MoleculeParams(instrument="fticr", resolving_power="120000@400")

    assert instrument_of(params) == Instrument("fticr", 120_000, 400)


def test_as_the_engine_does_a_resolving_power_is_taken_for_one_of_its_eight() -> None:
    params = MoleculeParams(instrument="fticr", resolving_power="120000@400", engine_compat=True)

    assert instrument_of(params) == Instrument("fticr", 250_000)
