"""What molecules look like in frames, beside mdtraj: angles, helices, cis bonds, chains."""

from __future__ import annotations

import numpy as np
import pytest

from apps.protein_remd.frames import Watched, backbone, backbone_angles
from apps.protein_remd.science.peptide import build, dihedral, pdb_text


def atoms(residues) -> np.ndarray:
    return np.array([place for _, atoms in residues for place in atoms.values()])


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


def test_cis_bonds_are_those_of_mdtraj(mdtraj, tmp_path):
    residues = build("AGAPA")
    trajectory = loaded(mdtraj, residues, tmp_path)
    # Far hotter than any molecule, so that bonds are found both ways.
    noise = np.random.default_rng(4).normal(0, 0.08, (50, *trajectory.xyz.shape[1:]))
    trajectory.xyz = trajectory.xyz + noise.astype(np.float32)
    _, omega = mdtraj.compute_omega(trajectory)

    # It has no name for what stands for an alpha carbon in the caps.
    inner = Watched(pdb_text(residues[1:-1]).encode())
    inner.look(trajectory.xyz[:, len(residues[0][1]) : -len(residues[-1][1])])
    assert inner.cis == int((np.abs(omega) < np.pi / 2).sum()) > 5


def test_chains_are_apart_also_where_residues_are_numbered_alike():
    first = build("AAA")
    second = [(name, {key: at + 30.0 for key, at in each.items()}) for name, each in first]
    text = pdb_text(first).replace("END", "") + pdb_text(second)

    assert len(backbone(text.encode())) == 10
    assert len(Watched(text.encode())._omega) == 2 * len(Watched(pdb_text(first).encode())._omega) == 8


def test_phi_and_psi_are_of_the_atoms_that_mdtraj_takes(mdtraj, tmp_path):
    residues = build("AGWPE")
    trajectory = loaded(mdtraj, residues, tmp_path)

    found = backbone_angles(pdb_text(residues).encode())

    assert found[:, :4].tolist() == mdtraj.compute_phi(trajectory)[0].tolist()
    assert found[:, 1:].tolist() == mdtraj.compute_psi(trajectory)[0].tolist()


def test_no_residue_has_angles_across_chains():
    first = build("AAA")
    second = [(name, {key: at + 30.0 for key, at in each.items()}) for name, each in first]
    text = pdb_text(first[1:-1]).replace("END", "") + pdb_text(second[1:-1])

    assert backbone_angles(text.encode())[:, 2].tolist() == [6, 21]


def test_there_is_no_bond_over_a_gap():
    whole = build("AAA")

    assert len(Watched(pdb_text([*whole[:2], *whole[3:]]).encode())._omega) == 2
