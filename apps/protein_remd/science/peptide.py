"""Heavy atoms of capped peptides by ideal geometry, so that demonstrations need no structure file."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PHI, PSI, OMEGA = -120.0, 140.0, 180.0
"""Degrees: an extended chain."""
PHI_OF_PROLINE = -65.0

NAMES = {
    "A": "ALA", "C": "CYS", "D": "ASP", "E": "GLU", "F": "PHE", "G": "GLY", "H": "HIS", "I": "ILE", "K": "LYS",
    "L": "LEU", "M": "MET", "N": "ASN", "P": "PRO", "Q": "GLN", "R": "ARG", "S": "SER", "T": "THR", "V": "VAL",
    "W": "TRP", "Y": "TYR",
}  # fmt: skip

_CB = "CB N C CA 1.53 109.5 122.7"
_SIX_RING = """
CG N CA CB 1.50 113.9 -64.7
CD1 CA CB CG 1.39 120.0 93.3
CD2 CA CB CG 1.39 120.0 -86.7
CE1 CB CG CD1 1.39 120.0 180.0
CE2 CB CG CD2 1.39 120.0 180.0
CZ CG CD1 CE1 1.39 120.0 0.0
"""
SIDE_CHAINS = {
    "G": "",
    "A": "",
    "C": "SG N CA CB 1.81 113.8 -62.2",
    "D": "CG N CA CB 1.52 113.1 -66.4\nOD1 CA CB CG 1.25 119.2 -46.7\nOD2 CA CB CG 1.25 118.2 133.3",
    "E": "CG N CA CB 1.52 113.8 -63.8\nCD CA CB CG 1.52 113.3 -179.8\n"
    "OE1 CB CG CD 1.25 119.0 -6.2\nOE2 CB CG CD 1.25 118.1 173.8",
    "F": _SIX_RING,
    "H": "CG N CA CB 1.49 113.7 -63.2\nND1 CA CB CG 1.38 122.8 -75.7\nCD2 CA CB CG 1.35 130.6 104.3\n"
    "CE1 CB CG ND1 1.32 108.5 180.0\nNE2 CB CG CD2 1.35 108.5 180.0",
    "I": "CG1 N CA CB 1.53 110.7 59.7\nCG2 N CA CB 1.53 110.4 -61.6\nCD1 CA CB CG1 1.52 114.0 169.8",
    "K": "CG N CA CB 1.52 113.8 -64.5\nCD CA CB CG 1.52 111.8 -178.1\nCE CB CG CD 1.52 111.8 -179.6\n"
    "NZ CG CD CE 1.49 111.8 180.0",
    "L": "CG N CA CB 1.53 116.1 -60.1\nCD1 CA CB CG 1.52 110.3 174.9\nCD2 CA CB CG 1.52 110.6 -66.7",
    "M": "CG N CA CB 1.52 113.7 -64.4\nSD CA CB CG 1.81 112.7 -179.6\nCE CB CG SD 1.79 100.6 70.1",
    "N": "CG N CA CB 1.52 112.6 -65.5\nOD1 CA CB CG 1.23 120.8 -58.3\nND2 CA CB CG 1.33 116.5 121.7",
    "P": "CG N CA CB 1.49 104.2 29.6\nCD CA CB CG 1.50 105.0 -34.8",
    "Q": "CG N CA CB 1.52 113.8 -60.2\nCD CA CB CG 1.52 112.8 180.0\nOE1 CB CG CD 1.24 120.9 -50.5\n"
    "NE2 CB CG CD 1.33 116.5 129.5",
    "R": "CG N CA CB 1.52 113.8 -65.2\nCD CA CB CG 1.52 111.8 -179.2\nNE CB CG CD 1.46 111.7 -179.3\n"
    "CZ CG CD NE 1.33 124.8 -178.7\nNH1 CD NE CZ 1.33 120.6 0.0\nNH2 CD NE CZ 1.33 119.6 180.0",
    "S": "OG N CA CB 1.42 110.8 -63.3",
    "T": "OG1 N CA CB 1.43 109.2 60.0\nCG2 N CA CB 1.53 111.1 -60.3",
    "V": "CG1 N CA CB 1.53 110.7 177.2\nCG2 N CA CB 1.53 110.4 -63.3",
    "W": "CG N CA CB 1.50 114.1 -66.4\nCD1 CA CB CG 1.37 127.1 96.3\nCD2 CA CB CG 1.43 126.7 -83.7\n"
    "NE1 CB CG CD1 1.38 108.5 180.0\nCE2 CB CG CD2 1.40 108.5 180.0\nCE3 CB CG CD2 1.40 133.8 0.0\n"
    "CZ2 CG CD2 CE2 1.40 120.0 180.0\nCZ3 CG CD2 CE3 1.40 120.0 180.0\nCH2 CD2 CE2 CZ2 1.40 120.0 0.0",
    "Y": f"{_SIX_RING}OH CD1 CE1 CZ 1.39 119.8 180.0",
}
"""Atom, the three it is placed by, bond in Angstrom, angle and dihedral in degrees.

Sources: bonds and angles, Engh and Huber, Acta Cryst. A47, 392 (1991); side chains as the most frequent rotamers of
Shapovalov and Dunbrack, Structure 19, 844 (2011). A minimisation follows.
"""


def place(a: FloatArray, b: FloatArray, c: FloatArray, bond: float, angle: float, dihedral: float) -> FloatArray:
    """Return the atom that is bonded to `c`, at an angle with `b` and a dihedral with `a`.

    Parameters
    ----------
    a, b, c : array, shape (3,)
    bond : float
        In the unit of the positions.
    angle, dihedral : float
        Degrees.

    Notes
    -----
    Source: Parsons et al., J. Comput. Chem. 26, 1063 (2005).
    """
    theta, phi = math.radians(angle), math.radians(dihedral)
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    frame = np.stack([along, np.cross(normal, along), normal], axis=1)
    local = [-math.cos(theta), math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi)]
    placed: FloatArray = c + bond * (frame @ np.array(local))
    return placed


def build(sequence: str) -> list[tuple[str, dict[str, FloatArray]]]:
    """Return the heavy atoms of a peptide with an acetyl and a methylamide cap.

    Parameters
    ----------
    sequence : str
        One-letter codes.

    Returns
    -------
    list of (residue name, atoms)
        Positions in Angstrom by the atoms' names in the Protein Data Bank.
    """
    first = {"CH3": np.array([0.0, 0.0, 0.0]), "C": np.array([1.52, 0.0, 0.0])}
    nitrogen = first["C"] + 1.329 * np.array([math.cos(math.radians(63.4)), math.sin(math.radians(63.4)), 0.0])
    first["O"] = first["C"] + 1.231 * np.array([math.cos(math.radians(59.6)), -math.sin(math.radians(59.6)), 0.0])
    residues = [("ACE", first)]
    alpha, carbon = first["CH3"], first["C"]
    for letter in sequence:
        atoms = {"N": nitrogen}
        atoms["CA"] = place(alpha, carbon, nitrogen, 1.458, 121.7, OMEGA)
        phi = PHI_OF_PROLINE if letter == "P" else PHI
        atoms["C"] = place(carbon, nitrogen, atoms["CA"], 1.525, 111.0, phi)
        atoms["O"] = place(nitrogen, atoms["CA"], atoms["C"], 1.231, 120.5, PSI + 180.0)
        chain = SIDE_CHAINS[letter] if letter == "G" else f"{_CB}\n{SIDE_CHAINS[letter]}"
        for line in filter(None, chain.split("\n")):
            name, a, b, c, *numbers = line.split()
            atoms[name] = place(atoms[a], atoms[b], atoms[c], *map(float, numbers))
        residues.append((NAMES[letter], atoms))
        alpha, carbon = atoms["CA"], atoms["C"]
        nitrogen = place(atoms["N"], alpha, carbon, 1.329, 116.6, PSI)
    residues.append(("NME", {"N": nitrogen, "C": place(alpha, carbon, nitrogen, 1.458, 121.7, OMEGA)}))
    return residues


def pdb_text(residues: list[tuple[str, dict[str, FloatArray]]]) -> str:
    """Return atoms as a PDB file (format 3.3), one chain."""
    lines, serial = [], 0
    for number, (residue, atoms) in enumerate(residues, 1):
        for name, (x, y, z) in atoms.items():
            serial += 1
            shown = f" {name:<3}" if len(name) < 4 else name
            lines.append(
                f"ATOM  {serial:5d} {shown} {residue} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"
                f"          {name[0]:>2}"
            )
    return "\n".join([*lines, "TER", "END", ""])


def chirality(n: FloatArray, ca: FloatArray, c: FloatArray, cb: FloatArray) -> FloatArray:
    """Return the signed volume at alpha carbons, shape of the leading axes: positive for L amino acids."""
    volume: FloatArray = np.einsum("...i,...i->...", np.cross(n - ca, c - ca), cb - ca)
    return volume


def dihedral(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> FloatArray:
    """Return dihedral angles in degrees, -180 to 180, of points of shape (..., 3)."""
    first, middle, last = b - a, c - b, d - c
    before, after = np.cross(first, middle), np.cross(middle, last)
    along = np.linalg.norm(middle, axis=-1) * np.einsum("...i,...i->...", first, after)
    angle: FloatArray = np.degrees(np.arctan2(along, np.einsum("...i,...i->...", before, after)))
    return angle
