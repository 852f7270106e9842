"""What molecules look like in frames, beside mdtraj: angles, helices, cis bonds, chains."""

from __future__ import annotations

import numpy as np
import pytest

from apps.protein_remd.frames import Watched, backbone, bonded
from apps.protein_remd.science.peptide import build, dihedral, pdb_text


def atoms(residues) -> np.ndarray:
    return np.array([place for _, atoms in residues for place in atoms.values()])


def turned(residues, number: int):
    """A peptide whose bond before a residue is turned by half a circle, from trans to cis."""
    begin, end = residues[number - 1][1]["C"], residues[number][1]["N"]
    unit = (end - begin) / np.linalg.norm(end - begin)

    def half(place):
        along = place - begin
        return begin + 2 * np.dot(along, unit) * unit - along

    later = [(name, {key: half(at) if key != "N" else at for key, at in residues[number][1].items()})
             for name, _ in [residues[number]]]  # fmt: skip
    rest = [(name, {key: half(at) for key, at in each.items()}) for name, each in residues[number + 1 :]]
    return [*residues[:number], *later, *rest]


@pytest.fixture
def mdtraj():
    return pytest.importorskip("mdtraj", reason="needs mdtraj: pip install 'fanfold[remd]'")


def loaded(mdtraj, residues, tmp_path):
    (tmp_path / "a.pdb").write_text(pdb_text(residues))
    return mdtraj.load(str(tmp_path / "a.pdb"))


def test_dihedrals_are_those_of_mdtraj(mdtraj, tmp_path):
    residues = build("AGWPE")
    rng = np.random.default_rng(3)
    trajectory = loaded(mdtraj, residues, tmp_path)
    trajectory.xyz = trajectory.xyz + rng.normal(0, 0.03, (20, *trajectory.xyz.shape[1:])).astype(np.float32)

    for compute in (mdtraj.compute_phi, mdtraj.compute_psi, mdtraj.compute_omega):
        indices, expected = compute(trajectory)
        x = trajectory.xyz.astype(np.float64)
        found = np.stack([dihedral(*(x[:, four[at]] for at in range(4))) for four in indices], axis=1)
        difference = (found - np.degrees(expected) + 180) % 360 - 180
        assert np.abs(difference).max() < 0.05


def test_bonds_before_proline_that_are_cis_are_counted_apart(tmp_path):
    residues = build("APAA")
    places = [name for name, _ in residues]
    proline = places.index("PRO")
    topology = pdb_text(residues).encode()

    watched = Watched(topology)
    watched.look((atoms(turned(residues, proline))[None] / 10).astype(np.float32))
    assert (watched.cis, watched.cis_proline) == (0, 1)
    assert watched.warnings()[0].startswith(
        "100.00% of the peptide bonds before proline are cis, as some are in nature"
    )
    watched.look((atoms(turned(residues, proline + 1))[None] / 10).astype(np.float32))
    assert (watched.cis, watched.cis_proline) == (1, 1)
    assert watched.warnings()[0].startswith("25.00% of the peptide bonds are cis")


def test_cis_bonds_are_those_of_mdtraj(mdtraj, tmp_path):
    residues = turned(build("AGAPA"), 3)
    trajectory = loaded(mdtraj, residues, tmp_path)
    _, omega = mdtraj.compute_omega(trajectory)

    watched = Watched(pdb_text(residues).encode())
    watched.look(trajectory.xyz)

    assert watched.cis + watched.cis_proline == int((np.abs(omega) < np.pi / 2).sum()) == 1


def test_there_is_no_bond_from_one_chain_to_the_next_nor_over_a_gap():
    first = build("AAA")
    second = [(name, {key: at + 30.0 for key, at in each.items()}) for name, each in first]
    for_one = pdb_text(first).replace("END", "")
    two_chains = (for_one + pdb_text(second)).encode()
    gap = pdb_text([*first[:2], *first[3:]]).encode()

    assert len(backbone(two_chains)) == 10
    assert len(list(bonded(backbone(for_one.encode())))) == 4
    assert len(list(bonded(backbone(two_chains)))) == 8
    assert len(list(bonded(backbone(gap)))) == 2


def test_residues_that_are_numbered_alike_are_two():
    text = pdb_text(build("AA"))
    again = (text.replace("END", "") + text).encode()

    assert len(backbone(again)) == 8
