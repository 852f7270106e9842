"""What is in the frames of a campaign: pieces by round and replica, and what molecules look like in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from apps.protein_remd.records import RoundRecord, read_records, stored
from apps.protein_remd.science.peptide import chirality, dihedral
from apps.protein_remd.science.structure import IN_A_ROW, helix_fraction
from apps.protein_remd.segments import unpacked
from core import InputError
from core.storage import Storage

FloatArray = npt.NDArray[np.float64]
Frames = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

CIS = 90.0
"""Degrees; a peptide bond whose omega is nearer to 0 than this is cis."""
ACETYL, METHYL = ("CA", "CH3"), ("CA", "CH3", "C")
"""Alpha carbons, and what stands for them in the caps before and after a chain, as force fields call it."""
BONDED = 2.0
"""Angstrom between C and N that a peptide bond has at most; it is 1.33 long."""


def pieces(storage: Storage, record: RoundRecord) -> Iterator[tuple[int, Frames, Frames | None]]:
    """Yield replica, frames in nm, shape (frames, atoms, 3), and their boxes, shape (frames, 3, 3), of a round."""
    for one in record.segments:
        if one.frames is None:
            raise InputError(f"round {record.round_number} names no frames of replica {one.replica}")
        piece = stored(storage, one.frames)
        found = unpacked(piece.read(), piece.url)
        yield one.replica, found["frames"], found.get("boxes")


class Watched:
    """Peptide bonds that turned cis and alpha carbons that turned over: hot replicas do so, and hardly turn back.

    What is so in the structure that a campaign began from is no change: prolines and D amino acids have their right.

    Attributes
    ----------
    frames, cis, inverted : int
        Frames that were seen; of all bonds and carbons in them, those that are not as they began.
    """

    def __init__(self, topology: bytes) -> None:
        self.frames = self.cis = self.inverted = 0
        residues, x = backbone(topology), _places(topology)
        bonds = (
            [_alpha(one, ACETYL), one["C"], after["N"], _alpha(after, METHYL)]
            for one, after in pairwise(residues)
            if _bonded(one, after, x) and set(one) & set(ACETYL) and set(after) & set(METHYL)
        )
        self._omega = _indices(bonds)
        chiral = (one for one in residues if {"N", "CA", "C", "CB"} <= set(one))
        self._alpha = _indices([one[name] for name in ("N", "CA", "C", "CB")] for one in chiral)
        self._began_cis, self._began_right = (found[0] for found in self._seen(x[None]))

    def _seen(self, x: FloatArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which bonds are cis and which carbons right-handed, shape (frames, bonds) and (frames, carbons)."""
        omega = dihedral(*(x[:, self._omega[:, at]] for at in range(4)))
        volume = chirality(*(x[:, self._alpha[:, at]] for at in range(4)))
        return np.abs(omega) < CIS, volume < 0.0

    def look(self, frames: Frames) -> None:
        """Count in some frames, shape (frames, atoms, 3)."""
        cis, right = self._seen(frames.astype(np.float64))
        self.frames += len(frames)
        self.cis += int(np.count_nonzero(cis != self._began_cis))
        self.inverted += int(np.count_nonzero(right != self._began_right))

    def warnings(self) -> list[str]:
        """Return what was seen in sentences."""
        said = []
        if self.cis:
            share = self.cis / (self.frames * len(self._omega))
            said.append(
                f"{share:.2%} of the peptide bonds, over all frames, have turned between trans and cis: averages mix "
                "isomers that do not turn back in a run; lower the highest T"
            )
        if self.inverted:
            share = self.inverted / (self.frames * len(self._alpha))
            said.append(
                f"{share:.2%} of the alpha carbons, over all frames, have turned over between L and D; lower the "
                "highest T"
            )
        return said


def _alpha(residue: Mapping[str, int], names: Sequence[str]) -> int:
    return next(residue[name] for name in names if name in residue)


def _bonded(one: Mapping[str, int], after: Mapping[str, int], x: FloatArray) -> bool:
    """Whether there is a peptide bond: neighbours in the file are none in the chain where one ends, or has a gap."""
    return "C" in one and "N" in after and bool(np.linalg.norm(x[one["C"]] - x[after["N"]]) < BONDED)


def _places(topology: bytes) -> FloatArray:
    """Return the positions in Angstrom of the atoms of a PDB file, shape (atoms, 3)."""
    atoms = [line for line in topology.decode().splitlines() if line.startswith(("ATOM", "HETATM"))]
    return np.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in atoms]).reshape(-1, 3)


def backbone(topology: bytes) -> list[dict[str, int]]:
    """Return the index of each atom by its name, residue by residue, of a PDB file."""
    residues: list[dict[str, int]] = []
    atoms = [line for line in topology.decode().splitlines() if line.startswith(("ATOM", "HETATM"))]
    before = ""
    for index, line in enumerate(atoms):
        # By their sequence: files may number two residues alike.
        if line[17:27] != before:
            residues.append({})
            before = line[17:27]
        residues[-1][line[12:16].strip()] = index
    return residues


def _indices(rows: Iterable[Sequence[int]]) -> IntArray:
    return np.array(list(rows), dtype=np.int64).reshape(-1, 4)


def backbone_angles(topology: bytes) -> IntArray:
    """Return the atoms C N CA C N of phi and psi of each residue that has both, shape (residues, 5)."""
    residues, x = backbone(topology), _places(topology)
    rows = [
        (before["C"], one["N"], one["CA"], one["C"], after["N"])
        for before, one, after in zip(residues, residues[1:], residues[2:], strict=False)
        if _bonded(before, one, x) and _bonded(one, after, x) and "CA" in one
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def seen_by_state(
    storage: Storage, topology: bytes, rounds: range, states: int, watched: Watched
) -> list[float] | None:
    """Return the mean part of the residues that are in an alpha helix at each temperature; `watched` sees all frames.

    The helix is that of the rounds without their first fifth; None where the molecule is too short for one.
    """
    atoms = backbone_angles(topology)
    sums, counts = np.zeros(states), np.zeros(states)
    for record in read_records(storage, rounds):
        for replica, frames, _ in pieces(storage, record):
            watched.look(frames)
            if len(atoms) < IN_A_ROW or record.round_number <= len(rounds) // 5:
                continue
            x = frames.astype(np.float64)
            phi, psi = (dihedral(*(x[:, atoms[:, first + at]] for at in range(4))) for first in (0, 1))
            state = record.replica_at.index(replica)
            sums[state] += helix_fraction(phi, psi).sum()
            counts[state] += len(x)
    return None if len(atoms) < IN_A_ROW else [float(value) for value in sums / np.maximum(counts, 1)]
