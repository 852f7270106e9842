"""Decoys: the same molecules with adducts that no molecule has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.science.adducts import Adduct, Change, adduct_name
from apps.metabolomics.science.formulas import Composition

DECOY_ELEMENTS = tuple(
    "He Li Be B C N O F Ne Mg Al Si P S Cl Ar Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Ru Rh "
    "Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Sm Eu Gd Tb Dy Ho Ir Th Pt Os Yb Lu Bi Pb Re Tl Tm U W Au Er Hf Hg "
    "Ta".split()
)
"""Elements of implausible adducts, in METASPACE's order, which its seeded draw depends on.

Source: A. Palmer et al., FDR-controlled metabolite annotation for high-resolution imaging mass spectrometry, Nature
Methods 14, 57 (2017), and the engine's list.
"""

METASPACE_SEED = 42
DECOY_ROWS = 100_000
"""Formulas whose 80 keys are ranked at a time: 64 MB."""


def decoy_adduct(element: str, target: Adduct) -> Adduct:
    """Replace what a target adduct adds by one atom of an implausible element: same charge, same molecules."""
    atom = Composition({element: 1})
    name = adduct_name([], [(1, atom)], target.multiplier, target.charge)
    return Adduct(name, target.charge, target.multiplier, Change(atom, Composition()))


def decoy_candidates(targets: Sequence[Adduct]) -> tuple[str, ...]:
    """Return `DECOY_ELEMENTS` without those that are a target adduct by themselves."""
    taken = {str(target.change) for target in targets}
    return tuple(element for element in DECOY_ELEMENTS if element not in taken)


def decoys(
    formulas: Sequence[str],
    targets: Sequence[Adduct],
    per_formula: int = 20,
    seed: Literal["formula", "metaspace"] = "formula",
) -> NDArray[np.int8]:
    """Choose the decoy elements of each formula.

    Parameters
    ----------
    formulas : sequence of str
        Canonical formulas, n of them.
    targets : sequence of Adduct
        All target adducts of the run.
    per_formula : int
        Decoys a formula; at most as many as there are candidates.
    seed : {"formula", "metaspace"}
        ``formula``: by a hash of the formula alone, so that neither the order of a database nor what else is in it
        changes a result. ``metaspace``: the engine's draw, one shuffle a formula in list order.

    Returns
    -------
    ndarray of int8, shape (n, min(per_formula, candidates))
        Indices into ``decoy_candidates(targets)``.
    """
    candidates = decoy_candidates(targets)
    chosen = min(per_formula, len(candidates))
    drawn = np.empty((len(formulas), chosen), dtype=np.int8)
    if seed == "metaspace":
        random = np.random.RandomState(METASPACE_SEED)
        for row in drawn:
            order = np.arange(len(candidates))
            random.shuffle(order)
            row[:] = order[:chosen]
        return drawn
    # A key depends on formula and element alone: another target adduct takes its own element out and no more.
    elements = np.array([_hash(element) for element in candidates], dtype=np.uint64)
    for start in range(0, len(formulas), DECOY_ROWS):
        hashes = np.array([_hash(formula) for formula in formulas[start : start + DECOY_ROWS]], dtype=np.uint64)
        keys = _mixed(hashes[:, None] ^ elements)
        drawn[start : start + DECOY_ROWS] = np.argsort(keys, axis=1, kind="stable")[:, :chosen]
    return drawn


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit keys: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
