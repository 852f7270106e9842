"""Structures as archives have them: what of a PDB file cannot be simulated as it stands is named with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from apps._frame.tables import counted
from apps.protein_remd.engines import FloatArray
from apps.protein_remd.engines.solvents import WATERS
from apps.protein_remd.science.peptide import NAMES, chirality, dihedral
from core import InputError

LONGEST_BOND = 0.25
"""nm; a peptide bond is 0.133 nm long, and what is beyond this is a gap in the chain; sulfurs of a bridge are 0.205 nm
apart, those of metals hardly more."""
ALPHA = frozenset(["CA", "CH3"])
"""One of which amino acids and their caps have beside C and N."""
LEAST_APART = 0.05
"""nm; no two atoms are nearer: the hydrogens of their own molecule are 0.074 nm apart."""
CIS = 90.0
"""Degrees; a peptide bond whose omega is nearer to 0 than this is cis."""
MOST_NAMED = 5
"""Residues that a sentence names."""
KNOWN = WATERS | set(NAMES.values()) | {"ACE", "NME"}
_ATOM = ("ATOM", "HETATM")
_BY_NUMBER = re.compile(r"No template found for residue (\d+) \((\S+)\)\.\s*(.*?)\s*(?:For more information.*)?$")
_HINT = re.compile(r"\s*You may be able to add them with Modeller.addHydrogens\(\)")
_KNOWN_ALONE = ", which are added to residues of standard names alone"


def check(text: str, topology: Any, x: FloatArray, where: str) -> None:
    """Refuse chains with gaps, which readers would close by a bond across them, and atoms at one place.

    Parameters
    ----------
    x : array, shape (atoms, 3)
        nm.

    Raises
    ------
    InputError
        The message names both neighbours and their lines.
    """
    _check_apart(text, topology, x, where)
    for chain in topology.chains():
        residues = list(chain.residues())
        for before, after in zip(residues, residues[1:], strict=False):
            ends, begins = ({atom.name: atom for atom in residue.atoms()} for residue in (before, after))
            # Ligands have atoms of such names too.
            if not ({"C"} < set(ends) and {"N"} < set(begins) and set(ends) & ALPHA and set(begins) & ALPHA):
                continue
            carbon, nitrogen = ends["C"], begins["N"]
            apart = float(np.linalg.norm(x[carbon.index] - x[nitrogen.index]))
            if apart > LONGEST_BOND:
                raise InputError(
                    f"{where}: {placed(text, before)} and {placed(text, after)} follow each other, and their C and N "
                    f"are {apart:.2f} nm apart: residues between them are missing; model them, or end the chain there "
                    "with TER"
                )


def _check_apart(text: str, topology: Any, x: FloatArray, where: str) -> None:
    """Refuse atoms that are there twice, and coordinates in another unit: no minimisation ends, or a knot comes out."""
    from scipy.spatial import cKDTree

    apart, nearest = cKDTree(x).query(x, k=2)
    first = int(apart[:, 1].argmin())
    if apart[first, 1] < LEAST_APART:
        second = next(int(at) for at in nearest[first] if at != first)
        ends = [atom for atom in topology.atoms() if atom.index in (first, second)]
        one, other = (f"{atom.name} of {placed(text, atom.residue)}" for atom in ends)
        raise InputError(
            f"{where}: {one} and {other} are {apart[first, 1]:.3f} nm apart, nearer than any two atoms: some are in it "
            "twice, or its coordinates are not in Angstrom"
        )


def check_bonds(
    bonds: npt.NDArray[np.int64], x: FloatArray, box: FloatArray | None, named: Callable[[int], str], where: str
) -> None:
    """Refuse coordinates in another order than their topology's, or of another molecule with as many atoms.

    Parameters
    ----------
    bonds : array, shape (bonds, 2)
        Indices of atoms.
    x : array, shape (atoms, 3)
        nm.
    box : array, shape (3, 3), optional
        Vectors of the periodic box in nm, a row each, in reduced form: molecules may cross its faces.
    named : callable
        Returns what an atom is called, by its index.

    Raises
    ------
    InputError
    """
    between = x[bonds[:, 0]] - x[bonds[:, 1]]
    if box is not None:
        for at in (2, 1, 0):
            between -= np.round(between[:, at] / box[at, at])[:, None] * box[at]
    apart = np.linalg.norm(between, axis=1)
    long = np.flatnonzero(apart > LONGEST_BOND)
    if len(long):
        one, other = map(named, bonds[long[0]].tolist())
        raise InputError(
            f"{where}: {one} and {other} are bonded, and {apart[long[0]]:.2f} nm apart "
            f"({counted(len(long), 'such bond')}): the coordinates are those of another molecule, or in another order"
        )


def bonds_of(topology: Any) -> tuple[npt.NDArray[np.int64], Callable[[int], str]]:
    """Return the bonds of a topology, and what its atoms are called; see ``check_bonds``."""
    pairs = [(one.index, other.index) for one, other in topology.bonds()]
    atoms = list(topology.atoms())

    def named(at: int) -> str:
        return f"{atoms[at].name} of {_name(atoms[at].residue)}"

    return np.array(pairs, dtype=np.int64).reshape(-1, 2), named


def cautions(text: str, topology: Any, x: FloatArray) -> list[str]:
    """Return in sentences what readers pass over: further models, alternate locations, and unusual isomers."""
    said = []
    models = sum(line.startswith("MODEL ") for line in text.splitlines())
    if models > 1:
        said.append(f"the file has {models} models; the first is simulated")
    elsewhere = {line[21:27] for line in text.splitlines() if line.startswith(_ATOM) and line[16:17].strip()}
    if elsewhere:
        said.append(
            f"{counted(len(elsewhere), 'residue')} with alternate locations of atoms: the first of each is simulated"
        )
    inverted, cis = _isomers(topology, x)
    if inverted:
        said.append(f"{_some(inverted)} right-handed, as D amino acids are; mend the structure if that is not meant")
    if cis:
        said.append(f"{_some(cis)} behind a peptide bond that is cis; mend the structure if that is not meant")
    return said


def _isomers(topology: Any, x: FloatArray) -> tuple[list[str], list[str]]:
    """Return the amino acids that are right-handed, and those but proline before which the peptide bond is cis."""
    inverted, cis = [], []
    for chain in topology.chains():
        before: dict[str, Any] = {}
        for residue in chain.residues():
            here = {atom.name: x[atom.index] for atom in residue.atoms()}
            if {"N", "CA", "C", "CB"} <= set(here) and chirality(here["N"], here["CA"], here["C"], here["CB"]) < 0.0:
                inverted.append(_name(residue))
            ends = [before.get("CA", before.get("CH3")), before.get("C"), here.get("N"), here.get("CA", here.get("C"))]
            found = [end for end in ends if end is not None]
            if residue.name != "PRO" and len(found) == len(ends) and _is_cis(*found):
                cis.append(_name(residue))
            before = here
    return inverted, cis


def _is_cis(alpha: FloatArray, carbon: FloatArray, nitrogen: FloatArray, after: FloatArray) -> bool:
    bonded = np.linalg.norm(carbon - nitrogen) < LONGEST_BOND
    return bool(bonded and abs(dihedral(alpha, carbon, nitrogen, after)) < CIS)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"


@contextmanager
def residues_named(text: str, topology: Any, where: str) -> Iterator[None]:
    """Turn what is said of a residue by its index into its name, number, neighbours and line in the file.

    Raises
    ------
    InputError
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        found = _BY_NUMBER.search(said)
        residues = list(topology.residues())
        if found is None or int(found[1]) >= len(residues):
            raise InputError(f"{where}: {said}") from error
        index = int(found[1])
        beside = [residues[at] for at in (index - 1, index + 1) if 0 <= at < len(residues)]
        strange = [one for one in beside if one.name not in KNOWN and one.chain is residues[index].chain]
        if strange and residues[index].name in KNOWN:
            # What readers do not know has no bonds, so that its neighbours are those that do not fit.
            raise InputError(
                f"{where}: {placed(text, strange[0])}, beside {_name(residues[index])}, is no residue that the force "
                "field knows; mend or remove it"
            ) from error
        why = _HINT.sub(_KNOWN_ALONE, found[3]).rstrip(". ")
        between = " and ".join(map(_name, beside)) or "no other residue"
        raise InputError(
            f"{where}: {placed(text, residues[index])}, beside {between}, fits no residue of the force field: "
            f"{why}; mend or remove it"
        ) from error


def placed(text: str, residue: Any) -> str:
    """Return a residue with its chain, and the line where the file has it."""
    said = f"{_name(residue)} of chain {residue.chain.id}"
    number = f"{residue.id:>4}{residue.insertionCode.strip() or ' '}"
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith(_ATOM) and line[22:27] == number and line[21:22].strip() == residue.chain.id.strip():
            return f"{said} (line {at})"
    return said


def _name(residue: Any) -> str:
    return f"{residue.name} {residue.id}{residue.insertionCode.strip()}"
