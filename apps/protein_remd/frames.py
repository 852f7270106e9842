"""What is in the frames of a campaign: pieces by round and replica, and what molecules look like in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from apps.protein_remd.records import RoundRecord, read_records, stored
from apps.protein_remd.science.peptide import chirality, dihedral
from apps.protein_remd.science.structure import IN_A_ROW, helix_fraction
from apps.protein_remd.segments import unpacked
from core import InputError
from core.storage import Storage

Frames = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CIS = 90.0
"""Degrees; a peptide bond whose omega is nearer to 0 than this is cis."""
PROLINE = "PRO"
LONGEST_BOND = 2.0
"""Angstrom; a peptide bond has 1.33."""


def pieces(storage: Storage, record: RoundRecord) -> Iterator[tuple[int, Frames, Frames | None]]:
    """Yield replica, frames in nm, shape (frames, atoms, 3), and their boxes, shape (frames, 3, 3), of a round."""
    for one in record.segments:
        if one.frames is None:
            raise InputError(f"round {record.round_number} names no frames of replica {one.replica}")
        piece = stored(storage, one.frames)
        found = unpacked(piece.read(), piece.url)
        yield one.replica, found["frames"], found.get("boxes")


class Watched:
    """Peptide bonds that turned cis and alpha carbons that turned over: hot replicas do so, and never turn back.

    Attributes
    ----------
    frames, cis, cis_proline, inverted : int
        Frames that were seen; of all bonds and carbons in them, those that are wrong. Bonds before proline, which may
        be cis, are counted apart.
    """

    def __init__(self, topology: bytes) -> None:
        self.frames = self.cis = self.cis_proline = self.inverted = 0
        residues = backbone(topology)
        bonds = [
            ([one.atoms["CA"], one.atoms["C"], after.atoms["N"], after.atoms["CA"]], after.name == PROLINE)
            for one, after in bonded(residues)
            if "CA" in one.atoms and "CA" in after.atoms
        ]
        self._omega = _indices(bond for bond, _ in bonds)
        self._proline = np.array([before_proline for _, before_proline in bonds], dtype=bool)
        chiral = (one.atoms for one in residues if {"N", "CA", "C", "CB"} <= set(one.atoms))
        self._alpha = _indices([one[name] for name in ("N", "CA", "C", "CB")] for one in chiral)

    def look(self, frames: Frames) -> None:
        """Count in some frames, shape (frames, atoms, 3)."""
        x = frames.astype(np.float64)
        self.frames += len(x)
        if len(self._omega):
            cis = np.abs(dihedral(*(x[:, self._omega[:, at]] for at in range(4)))) < CIS
            self.cis += int(np.count_nonzero(cis[:, ~self._proline]))
            self.cis_proline += int(np.count_nonzero(cis[:, self._proline]))
        if len(self._alpha):
            volume = chirality(*(x[:, self._alpha[:, at]] for at in range(4)))
            self.inverted += int(np.count_nonzero(volume < 0.0))

    def warnings(self) -> list[str]:
        """Return what was seen in sentences."""
        said = []
        prolines = int(self._proline.sum())
        if self.cis:
            share = self.cis / (self.frames * (len(self._omega) - prolines))
            said.append(f"{share:.2%} of the peptide bonds are cis; averages mix two molecules")
        if self.cis_proline:
            share = self.cis_proline / (self.frames * prolines)
            said.append(
                f"{share:.2%} of the peptide bonds before proline are cis, as some are in nature; they turn far more "
                "slowly than a campaign lasts, so that this share says where replicas began"
            )
        if self.inverted:
            share = self.inverted / (self.frames * len(self._alpha))
            said.append(f"{share:.2%} of the alpha carbons have turned over into D amino acids; lower the highest T")
        return said


@dataclass(frozen=True, slots=True)
class Residue:
    """A residue of a molecule: the index of each atom by its name, and where they are in Angstrom."""

    name: str
    atoms: dict[str, int]
    places: dict[str, FloatArray]


def backbone(topology: bytes) -> list[Residue]:
    """Return the residues of a PDB file in its order."""
    residues: list[Residue] = []
    atoms = [line for line in topology.decode().splitlines() if line.startswith(("ATOM", "HETATM"))]
    before = ""
    for index, line in enumerate(atoms):
        # By their sequence: long files number many residues alike.
        if line[17:27] != before:
            residues.append(Residue(line[17:20].strip(), {}, {}))
            before = line[17:27]
        name = line[12:16].strip()
        residues[-1].atoms[name] = index
        residues[-1].places[name] = np.array([float(line[at : at + 8]) for at in (30, 38, 46)])
    return residues


def bonded(residues: Sequence[Residue]) -> Iterator[tuple[Residue, Residue]]:
    """Yield successive residues between which there is a peptide bond: not across chains, nor over a gap."""
    for one, after in pairwise(residues):
        if "C" in one.places and "N" in after.places:
            if np.linalg.norm(one.places["C"] - after.places["N"]) < LONGEST_BOND:
                yield one, after


def _indices(rows: Iterable[Sequence[int]]) -> IntArray:
    return np.array(list(rows), dtype=np.int64).reshape(-1, 4)


def helix_by_state(storage: Storage, topology: bytes, rounds: range, states: int) -> list[float] | None:
    """Return the mean part of the residues that are in an alpha helix at each temperature.

    None where the molecule is too short for one.
    """
    residues = backbone(topology)
    bonds = {id(one): after for one, after in bonded(residues)}
    middle = [
        (before.atoms["C"], one.atoms["N"], one.atoms["CA"], one.atoms["C"], bonds[id(one)].atoms["N"])
        for before, one in bonded(residues)
        if id(one) in bonds and "CA" in one.atoms
    ]
    if len(middle) < IN_A_ROW:
        return None
    atoms = np.array(middle)
    sums, counts = np.zeros(states), np.zeros(states)
    for record in read_records(storage, rounds):
        for replica, frames, _ in pieces(storage, record):
            x = frames.astype(np.float64)
            phi, psi = (dihedral(*(x[:, atoms[:, first + at]] for at in range(4))) for first in (0, 1))
            state = record.replica_at.index(replica)
            sums[state] += helix_fraction(phi, psi).sum()
            counts[state] += len(x)
    return [float(value) for value in sums / np.maximum(counts, 1)]
