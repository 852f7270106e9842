"""Protonation as a structure file's names of residues say it; readers of such files forget them."""

from __future__ import annotations

import io
from typing import Any

from core import InputError

STATES = {
    "HID": ("HIS", "HID"), "HSD": ("HIS", "HID"), "HIE": ("HIS", "HIE"), "HSE": ("HIS", "HIE"),
    "HIP": ("HIS", "HIP"), "HSP": ("HIS", "HIP"), "ASH": ("ASP", "ASH"), "GLH": ("GLU", "GLH"),
    "LYN": ("LYS", "LYN"), "CYX": ("CYS", "CYX"), "CYM": ("CYS", "CYX"),
}  # fmt: skip
"""Names of Amber and CHARMM: the residue that each is, and what OpenMM calls its state."""
BRIDGED = "CYX"
HISTIDINES = frozenset(["HID", "HIE", "HIP"])


def standard(text: str) -> str:
    """Return a PDB file with the names of its residues in the place of those of their states."""
    return "".join(map(_standard, text.splitlines(keepends=True)))


def _standard(line: str) -> str:
    if line.startswith(("ATOM", "HETATM")) and (state := STATES.get(line[17:20])):
        return f"{line[:17]}{state[0]}{line[20:]}"
    return line


def states(text: str) -> list[str | None]:
    """Return the state that a PDB file's name of each residue says, None where it says none."""
    return [STATES[name][1] if name in STATES else None for name in _names(text)]


def _names(text: str) -> list[str]:
    from openmm.app.internal.pdbstructure import PdbStructure

    return [str(one.name) for one in PdbStructure(io.StringIO(text)).iter_residues()]


def check_bridges(text: str, topology: Any, where: str) -> None:
    """Refuse a cysteine that is in a disulfide bridge by its name, and alone by its place: it would lose its proton.

    Raises
    ------
    InputError
    """
    joined = {one.residue for bond in topology.bonds() for one in bond if bond[0].name == bond[1].name == "SG"}
    for residue, name in zip(topology.residues(), _names(text), strict=True):
        if name == BRIDGED and residue not in joined:
            raise InputError(
                f"{where}: CYX {residue.id} of chain {residue.chain.id} is in a disulfide bridge by its name, and no "
                "other sulfur is within 0.3 nm of its own; call it CYS, or CYM if it has no proton"
            )


def histidines(topology: Any, chosen: list[str | None]) -> str:
    """Return which state each histidine has got, by those that were chosen for all residues."""
    named = zip(topology.residues(), chosen, strict=True)
    return ", ".join(f"{residue.chain.id}{residue.id} {state}" for residue, state in named if state in HISTIDINES)
