"""Ions of a molecule: chemical modification, neutral loss and adduct; and the implausible adducts of decoys."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.science.formulas import Composition, FormulaError, parse_formula

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
MAX_CHARGE = 8
MAX_MULTIPLIER = 4
DECOY_ROWS = 100_000
"""Formulas whose 80 keys are ranked at a time: 64 MB."""

_USUAL = {"H4N": "NH4", "HO": "OH", "CHO2": "HCOO", "C2H3O2": "CH3COO"}
"""Groups that chemists, and METASPACE's names of adducts, write in another order than Hill's."""
_BRACKETED = re.compile(
    r"\[(?P<multiplier>[0-9]*)M(?P<change>[^\[\]]*(?:\[[0-9]+[A-Z][a-z]?\][^\[\]]*)*)\](?P<charge>[0-9+\-]*)"
)
_TERM = re.compile(r"([+-])((?:[A-Za-z0-9()]|\[[0-9]+[A-Z][a-z]?\])+)")


class Change(Composition):
    """What an ion gains and loses: a composition with signs, and what it loses by itself.

    Parameters
    ----------
    gain, loss : Composition
        With counts above zero. A molecule must have the atoms of `loss` before it gains any.
    """

    __slots__ = ("gain", "loss")

    def __init__(self, gain: Composition, loss: Composition):
        super().__init__(gain.plus(loss, -1))
        self.gain, self.loss = gain, loss

    def __reduce__(self) -> tuple[type[Change], tuple[Any, ...]]:
        return Change, (self.gain, self.loss)

    def applied(self, molecule: Composition) -> Composition | None:
        """Change a molecule; None where it lacks what it would lose, or nothing is left."""
        if any(molecule.get(name, 0) < count for name, count in self.loss.items()):
            return None
        changed = molecule.plus(self)
        return changed if changed else None


NOTHING = Change(Composition(), Composition())


@dataclass(frozen=True, slots=True)
class Adduct:
    """What makes an ion of a molecule; equal when the ions are.

    Attributes
    ----------
    name : str
        ``+H``, ``-H2O+H``, ``[M]+``; in brackets with several molecules or charges: ``[2M+H]+``, ``[M+2H]2+``.
    charge : int
        Elementary charges with their sign.
    multiplier : int
        Molecules in the ion.
    change : Change
    """

    name: str = field(compare=False)
    charge: int
    multiplier: int
    change: Change

    @property
    def loss(self) -> Composition:
        """Atoms that the molecules must have before anything is gained."""
        return self.change.loss


def parse_adduct(text: str, polarity: Literal["+", "-"]) -> Adduct:
    """Read an adduct.

    Parameters
    ----------
    text : str
        METASPACE's spelling (``+H``, ``-H``, ``-H2O+H``, ``[M]+``) or the bracketed one (``[M+NH4]+``, ``[2M+H]+``,
        ``[M+2H]2+``, ``M+H``). The short spelling has one charge, of the sign of the polarity.
    polarity : {"+", "-"}

    Returns
    -------
    Adduct
        Its name is the canonical one: losses first, then gains.

    Raises
    ------
    FormulaError
        The adduct is not understood, its charge is of the other polarity, or it changes nothing.
    """
    sign = 1 if polarity == "+" else -1
    plain = _normalised(text)
    multiplier, charge, body = 1, sign, plain
    bracketed = _BRACKETED.fullmatch(plain)
    if bracketed is not None:
        multiplier = int(bracketed["multiplier"] or 1)
        charge = _charge(bracketed["charge"], text, sign)
        body = bracketed["change"]
    elif plain.startswith("M"):
        body = plain[1:]
    if charge * sign < 0:
        raise FormulaError(f"adduct {text!r} has the other polarity; the data's is {polarity}")
    if not 1 <= multiplier <= MAX_MULTIPLIER or abs(charge) > MAX_CHARGE:
        raise FormulaError(
            f"adduct {text!r} has {multiplier} molecules and {abs(charge)} charges; up to {MAX_MULTIPLIER} and "
            f"{MAX_CHARGE} are understood"
        )
    terms = _terms(body)
    if terms is None or (not terms and bracketed is None):
        raise FormulaError(f"adduct {text!r} is not understood; write it as +H, -H2O+H, [M]+, [2M+H]+ or [M+2H]2+")
    losses, gains = [[_term(formula, text) for mark, formula in terms if mark == wanted] for wanted in "-+"]
    change = Change(_sum(gains), _sum(losses))
    if terms and not change:
        raise FormulaError(f"adduct {text!r} changes nothing; write [M]{polarity} for the bare ion")
    return Adduct(_name(losses, gains, multiplier, charge), charge, multiplier, change)


def _terms(text: str) -> list[tuple[str, str]] | None:
    """Split ``-H2O+2Na`` into signs and formulas; None where it is not made of these alone."""
    terms = _TERM.findall(text)
    return terms if "".join(mark + formula for mark, formula in terms) == text else None


def _normalised(text: str) -> str:
    """Take spaces away around signs and brackets, and write minus signs as hyphens."""
    return re.sub(r"\s*([+\-\[\]])\s*", r"\1", text.strip().replace("−", "-").replace("–", "-"))


def _charge(text: str, adduct: str, sign: int) -> int:
    match = re.fullmatch(r"([0-9]*)([+-])|([+-])([0-9]+)", text)
    if match is not None:
        digits, mark = match[1] or match[4], match[2] or match[3]
        value = int(digits or 1)
        if value:
            return value if mark == "+" else -value
    if text in ("++", "--", "+++", "---"):
        return len(text) if text[0] == "+" else -len(text)
    raise FormulaError(
        f"adduct {adduct!r} has no charge behind its bracket; write it as [M+H]{'+' if sign > 0 else '-'}"
    )


def _term(formula: str, whole: str) -> tuple[int, Composition]:
    """Read ``2H`` or ``NH4`` as a number of times a formula; `whole` is what it stands in, for messages."""
    match = re.match(r"[0-9]+", formula)
    times = int(match[0]) if match else 1
    try:
        if not times:
            raise FormulaError("a count of zero")
        return times, parse_formula(formula[match.end() :] if match else formula)
    except FormulaError as error:
        raise FormulaError(f"{whole!r} is not understood: {error}") from None


def _sum(terms: list[tuple[int, Composition]]) -> Composition:
    total = Composition()
    for times, composition in terms:
        total = total.plus(composition, times)
    return total


def _name(
    losses: list[tuple[int, Composition]], gains: list[tuple[int, Composition]], multiplier: int, charge: int
) -> str:
    def spelled(mark: str, terms: list[tuple[int, Composition]]) -> str:
        formulas = [(times, _USUAL.get(str(composition), str(composition))) for times, composition in terms]
        return "".join(sorted(f"{mark}{times if times > 1 else ''}{formula}" for times, formula in formulas))

    body = spelled("-", losses) + spelled("+", gains)
    if multiplier == 1 and abs(charge) == 1 and body:
        return body
    sign = "+" if charge > 0 else "-"
    return f"[{multiplier if multiplier > 1 else ''}M{body}]{abs(charge) if abs(charge) > 1 else ''}{sign}"


def parse_modification(text: str) -> Change:
    """Read a chemical modification or neutral loss: ``-H2O``, ``+C2H2O``, ``-H+C3H5O``.

    Raises
    ------
    FormulaError
        It is not understood, or changes nothing.
    """
    terms = _terms(_normalised(text))
    if not terms:
        raise FormulaError(f"modification {text!r} is not understood; write it as -H2O or +C2H2O")
    losses, gains = [[_term(formula, text) for mark, formula in terms if mark == wanted] for wanted in "-+"]
    change = Change(_sum(gains), _sum(losses))
    if not change:
        raise FormulaError(f"modification {text!r} changes nothing; leave it out")
    return change


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
        loss, net = (
            np.array([held.get(name, 0) for name in elements], dtype=np.int32) for held in (change.loss, change)
        )
        atoms = atoms * np.int32(times)
        possible &= (atoms >= loss).all(axis=1)
        atoms = atoms + net
        possible &= atoms.any(axis=1)
    return atoms, possible


def decoy_adduct(element: str, target: Adduct) -> Adduct:
    """Replace what a target adduct adds by one atom of an implausible element: same charge, same molecules."""
    atom = Composition({element: 1})
    name = _name([], [(1, atom)], target.multiplier, target.charge)
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
