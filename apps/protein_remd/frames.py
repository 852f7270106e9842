"""What is in the frames of a campaign: pieces by round and replica, and what molecules look like in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from apps.protein_remd.records import RoundRecord, read_records, stored
from apps.protein_remd.science.peptide import chirality, dihedral
from apps.protein_remd.science.structure import IN_A_ROW, helix_fraction
from apps.protein_remd.segments import unpacked
from core import InputError
from core.storage import Storage

Frames = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

CIS = 90.0
"""Degrees; a peptide bond whose omega is nearer to 0 than this is cis."""


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
    frames, cis, inverted : int
        Frames that were seen; of all bonds and carbons in them, those that are wrong.
    """

    def __init__(self, topology: bytes) -> None:
        self.frames = self.cis = self.inverted = 0
        residues = backbone(topology)
        self._omega = _indices(
            [one["CA"], one["C"], after["N"], after["CA"]]
            for one, after in zip(residues, residues[1:], strict=False)
            if {"CA", "C"} <= set(one) and {"N", "CA"} <= set(after)
        )
        chiral = (one for one in residues if {"N", "CA", "C", "CB"} <= set(one))
        self._alpha = _indices([one[name] for name in ("N", "CA", "C", "CB")] for one in chiral)

    def look(self, frames: Frames) -> None:
        """Count in some frames, shape (frames, atoms, 3)."""
        x = frames.astype(np.float64)
        self.frames += len(x)
        if len(self._omega):
            omega = dihedral(*(x[:, self._omega[:, at]] for at in range(4)))
            self.cis += int(np.count_nonzero(np.abs(omega) < CIS))
        if len(self._alpha):
            volume = chirality(*(x[:, self._alpha[:, at]] for at in range(4)))
            self.inverted += int(np.count_nonzero(volume < 0.0))

    def warnings(self) -> list[str]:
        """Return what was seen in sentences."""
        said = []
        if self.cis:
            share = self.cis / (self.frames * len(self._omega))
            said.append(f"{share:.2%} of the peptide bonds are cis; averages mix two molecules")
        if self.inverted:
            share = self.inverted / (self.frames * len(self._alpha))
            said.append(f"{share:.2%} of the alpha carbons have turned over into D amino acids; lower the highest T")
        return said


def backbone(topology: bytes) -> list[dict[str, int]]:
    """Return the index of each atom by its name, residue by residue, of a PDB file."""
    residues: dict[str, dict[str, int]] = {}
    atoms = [line for line in topology.decode().splitlines() if line.startswith(("ATOM", "HETATM"))]
    for index, line in enumerate(atoms):
        residues.setdefault(line[21:27], {})[line[12:16].strip()] = index
    return list(residues.values())


def _indices(rows: Iterable[Sequence[int]]) -> IntArray:
    return np.array(list(rows), dtype=np.int64).reshape(-1, 4)


def helix_by_state(storage: Storage, topology: bytes, rounds: range, states: int) -> list[float] | None:
    """Return the mean part of the residues that are in an alpha helix at each temperature.

    None where the molecule is too short for one.
    """
    residues = backbone(topology)
    middle = [
        (before["C"], one["N"], one["CA"], one["C"], after["N"])
        for before, one, after in zip(residues, residues[1:], residues[2:], strict=False)
        if "C" in before and {"N", "CA", "C"} <= set(one) and "N" in after
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
