"""Ions: a molecule with a chemical modification, a neutral loss and an adduct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.science.adducts import Adduct, Change
from apps.metabolomics.science.formulas import Composition


def ion_composition(
    formula: Composition, modification: Change, neutral_loss: Change, adduct: Adduct
) -> Composition | None:
    """Compose an ion.

    Parameters
    ----------
    formula : Composition
        The neutral molecule.
    modification, neutral_loss : Change
        Of each molecule; `NOTHING` where there is none.
    adduct : Adduct

    Returns
    -------
    Composition or None
        None where the molecule has not the atoms that it would lose, or nothing is left.
    """
    molecule: Composition | None = formula
    for change in (modification, neutral_loss):
        molecule = change.applied(molecule) if molecule is not None and change else molecule
    if molecule is None:
        return None
    return adduct.change.applied(Composition().plus(molecule, adduct.multiplier))


def ion_counts(
    molecules: NDArray[np.int32], elements: Sequence[str], modification: Change, neutral_loss: Change, adduct: Adduct
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Compose the ions of many molecules, as `ion_composition` does one.

    Parameters
    ----------
    molecules : ndarray of int32, shape (n, e)
        Atoms of each element.
    elements : sequence of str
        Those of the molecules, and all that the changes gain or lose.
    modification, neutral_loss : Change
    adduct : Adduct

    Returns
    -------
    atoms : ndarray of int32, shape (n, e)
    possible : ndarray of bool, shape (n,)
        Where there is such an ion.
    """
    possible = np.ones(len(molecules), dtype=np.bool_)
    atoms = molecules
    for change, times in ((modification, 1), (neutral_loss, 1), (adduct.change, adduct.multiplier)):
        loss, net = (_counted(held, elements) for held in (change.loss, change))
        atoms = atoms * np.int32(times)
        possible &= (atoms >= loss).all(axis=1)
        atoms = atoms + net
        possible &= atoms.any(axis=1)
    return atoms, possible


def _counted(change: Mapping[str, int], elements: Sequence[str]) -> NDArray[np.int32]:
    counts = np.zeros(len(elements), np.int32)
    for name, count in change.items():
        counts[elements.index(name)] = count
    return counts
