"""Structures as archives have them: what of a PDB file cannot be simulated as it stands is named with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from apps._frame.tables import counted
from core import InputError

LONGEST_BOND = 0.25
"""nm between C and N of neighbours; a peptide bond is 0.133 nm long, and what is beyond this is a gap in the chain."""
ALPHA = frozenset(["CA", "CH3"])
"""One of which amino acids and their caps have beside C and N."""
_ATOM = ("ATOM", "HETATM")
_BY_NUMBER = re.compile(r"No template found for residue (\d+) \((\S+)\)\.\s*(.*?)\s*(?:For more information.*)?$")
_HINT = re.compile(r"\s*You may be able to add them with Modeller.addHydrogens\(\)")
_KNOWN_ALONE = ", which are added to residues of standard names alone"


def check(text: str, topology: Any, positions: Any, where: str) -> None:
    """Refuse chains with gaps, which readers would close by a bond across them.

    Raises
    ------
    InputError
        The message names both neighbours and their lines.
    """
    from openmm import unit

    x = np.array([[float(part) for part in row] for row in positions.value_in_unit(unit.nanometer)])
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


def cautions(text: str) -> list[str]:
    """Return in sentences what readers pass over: further models, and alternate locations."""
    said = []
    models = sum(line.startswith("MODEL ") for line in text.splitlines())
    if models > 1:
        said.append(f"the file has {models} models; the first is simulated")
    elsewhere = {line[21:27] for line in text.splitlines() if line.startswith(_ATOM) and line[16:17].strip()}
    if elsewhere:
        said.append(
            f"{counted(len(elsewhere), 'residue')} with alternate locations of atoms: the first of each is simulated"
        )
    return said


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
