"""Structure files as archives and set-up servers have them: what cannot be simulated is named with its line."""

from __future__ import annotations

import numpy as np
import pytest

from apps.protein_remd.science import peptide
from apps.protein_remd.science.peptide import build, pdb_text
from apps.protein_remd.system import System
from core import InputError

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

from apps.protein_remd.engines import structures  # noqa: E402
from apps.protein_remd.engines.molecules import molecule  # noqa: E402


def lines_of(sequence: str) -> list[str]:
    return pdb_text(build(sequence)).splitlines(True)


@pytest.fixture
def read(tmp_path):
    """Return a function that reads lines as a structure file."""

    def reads(lines: list[str], **given):
        (tmp_path / "mine.pdb").write_text("".join(lines))
        return molecule(System(pdb=str(tmp_path / "mine.pdb"), **given), 1)

    return reads


def shifted(line: str, chain: str, offset: np.ndarray, turn: float = 1.0) -> str:
    """Return a line of an atom in another chain, moved in Angstrom, its x and y negated by `turn`."""
    x, y, z = (float(line[at : at + 8]) for at in (30, 38, 46))
    place = np.array([turn * x, turn * y, z]) + offset
    return f"{line[:21]}{chain}{line[22:30]}{''.join(f'{value:8.3f}' for value in place)}{line[54:]}"


def test_a_residue_without_a_heavy_atom_is_named_with_its_line_and_its_neighbours(read):
    lines = [line for line in lines_of("AKG") if not (" LYS " in line and line[12:16].strip() == "CD")]

    with pytest.raises(
        InputError, match=r"LYS 3 of chain A \(line 9\), beside ALA 2 and GLY 4, fits no residue of the"
    ):
        read(lines)


def test_a_chain_with_residues_missing_within_it_is_refused_before_a_bond_crosses_the_gap(read):
    lines = [line for line in lines_of("AGSVA") if " SER " not in line]

    said = r"GLY 3 of chain A \(line 9\) and VAL 5 of chain A \(line 13\) follow each other, and their C and N are 0.\d"
    with pytest.raises(InputError, match=said):
        read(lines)


def test_a_chain_that_ends_at_a_gap_is_two_chains(read):
    lines = lines_of("AA")
    far = np.array([0.0, 30.0, 0.0])
    two = [*[line for line in lines if line.startswith("ATOM")], "TER\n"]
    two += [shifted(line, "B", far) for line in lines if line.startswith("ATOM")]

    assert read(two).system.getNumParticles() == 2 * 32


def test_a_disulfide_bridge_is_found(read):
    lines = [line for line in lines_of("C") if line.startswith("ATOM")]
    sulfur = next(line for line in lines if line[12:16].strip() == "SG")
    x, y, z = (float(sulfur[at : at + 8]) for at in (30, 38, 46))
    # Turned by half a turn about z, so that both sulfurs face each other.
    away = 2.05 * np.array([x, y, 0.0]) / np.hypot(x, y)
    other = [shifted(line, "B", np.array([2 * x, 2 * y, 0.0]) + away, -1.0) for line in lines]

    made = read([*lines, "TER\n", *other])

    assert made.system.getNumParticles() == 2 * 22
    bonds = [{bond[0].name, bond[1].name} for bond in made.topology.bonds()]
    assert bonds.count({"SG"}) == 1


def test_further_models_and_alternate_locations_are_told(read):
    lines = lines_of("A")
    atoms = [line for line in lines if line.startswith("ATOM")]
    moved = [shifted(line, "A", np.array([1.0, 0.0, 0.0])) for line in atoms]
    carbon = next(at for at, line in enumerate(atoms) if line[12:16].strip() == "CB")
    both = [
        f"{atoms[carbon][:16]}A{atoms[carbon][17:]}",
        f"{moved[carbon][:16]}B{moved[carbon][17:]}",
    ]
    first = [*atoms[:carbon], *both, *atoms[carbon + 1 :]]

    made = read(["MODEL        1\n", *first, "ENDMDL\n", "MODEL        2\n", *moved, "ENDMDL\n"])

    assert made.cautions == [
        "the file has 2 models; the first is simulated",
        "1 residue with alternate locations of atoms: the first of each is simulated",
    ]
    assert made.system.getNumParticles() == 22
    x = float(atoms[carbon][30:38]) / 10
    (index,) = (atom.index for atom in made.topology.atoms() if atom.name == "CB")
    assert made.positions[index][0] == pytest.approx(x, abs=1e-6)


def test_a_ligand_whose_atoms_are_called_as_those_of_a_chain_is_no_gap(read):
    lines = [line for line in lines_of("A") if line.startswith("ATOM")]
    ligands = [
        f"HETATM   9{n}  {name:<3} LIG A 30{n}      30.000  30.000  {n}0.000  1.00  0.00           {name}\n"
        for n, name in ((1, "C"), (2, "N"))
    ]

    with pytest.raises(InputError, match=r"LIG 301 of chain A \(line 11\), beside NME 3 and LIG 302, fits no residue"):
        read([*lines, *ligands])


def test_a_ligand_is_named_with_its_line(read):
    lines = [line for line in lines_of("A") if line.startswith("ATOM")]
    ligand = "HETATM   90  C1  LIG B 301      30.000  30.000  30.000  1.00  0.00           C\n"

    with pytest.raises(InputError, match=r"LIG 301 of chain B \(line 12\), beside NME 3, fits no residue"):
        read([*lines, "TER\n", ligand])


def test_crystal_water_is_kept_in_a_box_and_refused_without(read):
    lines = [line for line in lines_of("A") if line.startswith("ATOM")]
    water = "HETATM   90  O   HOH B 301      12.000  12.000  12.000  1.00  0.00           O\n"
    both = [*lines, "TER\n", water]

    with pytest.raises(InputError, match=r"has 1 water molecule, and with --solvent obc2 there must be none"):
        read(both)
    made = read(both, solvent="tip3p", padding=0.5, cutoff=0.5)
    x = made.positions[[atom.index for atom in made.topology.atoms() if atom.residue.name == "HOH"]]
    assert np.abs(x - 1.2).max(axis=1).min() < 1e-6


def test_insertion_codes_are_residues_of_their_own_and_are_named_so(read):
    lines = [f"{line[:22]}   3A{line[27:]}" if " GLY " in line else line for line in lines_of("AAG")]
    lines = [line for line in lines if not (" GLY " in line and line[12:16].strip() == "CA")]

    with pytest.raises(InputError, match=r"GLY 3A of chain A \(line 14\)"):
        read(lines)


def test_a_structure_without_problems_has_no_cautions(read):
    assert read(lines_of("AG")).cautions == []


def charge(made) -> float:
    (force,) = (one for one in made.system.getForces() if one.getName() == "NonbondedForce")
    return sum(force.getParticleParameters(at)[0]._value for at in range(force.getNumParticles()))


@pytest.mark.parametrize(
    ("letter", "name", "hydrogens", "net"),
    [
        ("H", "HID", {"HD1"}, 0), ("H", "HSD", {"HD1"}, 0), ("H", "HIE", {"HE2"}, 0), ("H", "HSE", {"HE2"}, 0),
        ("H", "HIP", {"HD1", "HE2"}, 1), ("H", "HSP", {"HD1", "HE2"}, 1), ("D", "ASH", {"HD2"}, 0),
        ("D", "ASP", set(), -1), ("E", "GLH", {"HE2"}, 0), ("K", "LYN", {"HZ1", "HZ2"}, 0),
        ("K", "LYS", {"HZ1", "HZ2", "HZ3"}, 1), ("C", "CYM", set(), -1), ("C", "CYS", {"HG"}, 0),
    ],
)  # fmt: skip
def test_a_residue_has_the_protons_that_its_name_says(read, letter, name, hydrogens, net):
    made = read([f"{line[:17]}{name}{line[20:]}" if line[22:26].strip() == "2" else line for line in lines_of(letter)])

    (residue,) = (one for one in made.topology.residues() if one.id == "2")
    polar = {"HD1", "HD2", "HE2", "HZ1", "HZ2", "HZ3", "HG"} & {atom.name for atom in residue.atoms()}
    carbons = {bond[0].name for bond in made.topology.bonds() if bond[0].name in polar and bond[1].name[0] == "C"}
    carbons |= {bond[1].name for bond in made.topology.bonds() if bond[1].name in polar and bond[0].name[0] == "C"}
    assert polar - carbons == hydrogens
    assert charge(made) == pytest.approx(net, abs=1e-3)


def test_which_protons_histidines_have_got_is_told(read):
    lines = [f"{line[:17]}HIP{line[20:]}" if line[22:26].strip() == "3" else line for line in lines_of("HH")]

    assert read(lines).about["histidines"] in ("A2 HIE, A3 HIP", "A2 HID, A3 HIP")
    assert "histidines" not in read(lines_of("A")).about


def test_a_cysteine_of_a_bridge_without_its_partner_is_refused(read):
    with pytest.raises(InputError, match="CYX 2 of chain A is in a disulfide bridge by its name, and no other sulfur"):
        read([line.replace("CYS", "CYX") for line in lines_of("C")])


def test_right_handed_residues_and_cis_bonds_are_told(read):
    mirrored = [
        f"{line[:46]}{-float(line[46:54]):8.3f}{line[54:]}" if line.startswith("ATOM") else line
        for line in lines_of("AGSVAKLA")
    ]

    assert read(mirrored).cautions == [
        "ALA 2, SER 4, VAL 5, ALA 6, LYS 7 and 2 more are right-handed, as D amino acids are; mend the structure if "
        "that is not meant"
    ]


def test_a_peptide_bond_that_is_cis_is_told(read, monkeypatch):
    monkeypatch.setattr(peptide, "OMEGA", 0.0)
    lines = pdb_text(build("AP")).splitlines(True)

    assert read(lines).cautions == [
        "ALA 2, NME 4 are behind a peptide bond that is cis; mend the structure if that is not meant"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: f"{line[:30]}   0.000   0.000   0.000{line[54:]}", "are 0.000 nm apart, nearer than any two"),
        (lambda line: f"{line[:30]}********{line[38:]}", r"mine.pdb, line 1: '\*\*\*\*\*\*\*\*.* are no coordinates"),
        (lambda line: f"{line[:30]}     nan{line[38:]}", "mine.pdb, line 1: '     nan.* are no coordinates"),
        (lambda line: line.lower(), "has no line that begins with ATOM: expected a PDB file"),
    ],
)
def test_coordinates_that_are_none_are_refused_with_their_line(read, change, said):
    with pytest.raises(InputError, match=said):
        read([change(line) if line.startswith("ATOM") else line for line in lines_of("A")])


def test_atoms_that_are_there_twice_or_in_nanometres_are_refused_before_a_minimisation_that_never_ends(read):
    atoms = [line for line in lines_of("A") if line.startswith("ATOM")]
    none = np.zeros(3)
    small = [
        f"{line[:30]}{''.join(f'{float(line[at : at + 8]) / 10:8.3f}' for at in (30, 38, 46))}{line[54:]}"
        for line in atoms
    ]

    for lines in ([*atoms, "TER\n", *(shifted(line, "B", none) for line in atoms)], small):
        with pytest.raises(InputError, match="some are in it twice, or its coordinates are not in Angstrom"):
            read(lines)


def test_a_residue_that_no_reader_knows_is_named_and_not_its_neighbour(read):
    with pytest.raises(InputError, match=r"MSE 3 of chain A \(line 9\), beside ALA 2, is no residue that the force"):
        read([line.replace("MET", "MSE") for line in lines_of("AMA")])


def test_a_byte_order_mark_and_carriage_returns_lose_no_atom(read):
    lines = [line.replace("\n", "\r\n") for line in lines_of("A")]

    assert read([f"\ufeff{lines[0]}", *lines[1:]]).system.getNumParticles() == 22


def test_bonds_across_the_faces_of_a_box_are_no_longer_than_within_it():
    from openmm import app

    topology = app.Topology()
    residue = topology.addResidue("XYZ", topology.addChain())
    topology.addBond(*(topology.addAtom(name, None, residue) for name in ("C", "N")))
    box = np.array([[3.0, 0.0, 0.0], [1.0, 3.0, 0.0], [-1.0, 1.0, 3.0]])
    begin = np.array([0.1, 0.1, 0.05])
    x = np.array([begin, begin + [0.0, 0.0, -0.13] + 2 * box[0] - box[1] + box[2]])

    bonds, named = structures.bonds_of(topology)
    structures.check_bonds(bonds, x, box, named, "a.psf")
    with pytest.raises(InputError, match="a.psf: C of XYZ 1 and N of XYZ 1 are bonded, and 5.3"):
        structures.check_bonds(bonds, x, None, named, "a.psf")
