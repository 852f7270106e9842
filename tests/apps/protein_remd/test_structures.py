"""Structure files as archives and set-up servers have them: what cannot be simulated is named with its line."""

from __future__ import annotations

import numpy as np
import pytest

from apps.protein_remd.engines import toppar
from apps.protein_remd.science.peptide import build, pdb_text
from apps.protein_remd.system import System
from core import InputError
from tests.apps.protein_remd import amber_files

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

from apps.protein_remd.engines.molecules import FORCE_FIELDS, molecule  # noqa: E402


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


RTF = """* Topology of two atoms.
*
27 1
MASS 1 XA 14.00700 N
MASS 2 XB  1.00800 H
END
"""
PAR = """* Parameters of two atoms.
*
BONDS
XA XB 440.0 0.997
NONBONDED
XA 0.0 -0.200 1.85
XB 0.0 -0.046 0.2245
END
"""
STREAM = f"* Both in one.\n*\nread rtf card append\n{RTF}\nread para card flex append\n{PAR}\nreturn\n"
PSF = """PSF

       1 !NTITLE
 REMARKS two atoms

       2 !NATOM
       1 WW   1    XYZ  N    XA    -0.300000       14.0070           0
       2 WW   1    XYZ  H    XB     0.300000        1.0080           0

       1 !NBOND: bonds
       1       2

       0 !NTHETA: angles

       0 !NPHI: dihedrals

       0 !NIMPHI: impropers

       0 !NDON: donors

       0 !NACC: acceptors

       0 !NNB

       0       0

       1       0 !NGRP
       0       0       0

"""
TWO = "".join(
    f"ATOM  {n:5d}  {name:<3} XYZ A   1    {x:8.3f}{0.0:8.3f}{0.0:8.3f}\n"
    for n, (name, x) in enumerate([("N", 0.0), ("H", 1.0)], 1)
)


@pytest.fixture
def charmm(tmp_path):
    """Return a function that writes the files of two atoms, and reads them with some parameter files."""
    (tmp_path / "toppar").mkdir()
    (tmp_path / "openmm").mkdir()
    files = {
        "two.psf": PSF, "two.pdb": TWO, "toppar/top_two.rtf": RTF, "toppar/par_two.prm": PAR,
        "toppar/two.str": STREAM,
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    def reads(*parameters: str):
        paths = tuple(str(tmp_path / name) for name in parameters)
        return molecule(
            System(psf=str(tmp_path / "two.psf"), pdb=str(tmp_path / "two.pdb"), parameters=paths, solvent="vacuum"), 1
        )

    reads.folder = tmp_path
    return reads


@pytest.mark.parametrize(
    "text",
    [
        "../toppar/top_two.rtf\n../toppar/par_two.prm\n",
        "* A list.\n*\n! topology\nopen read card unit 10 name ../toppar/top_two.rtf\nread rtf card unit 10\n\n"
        "open read card unit 20 name ../toppar/par_two.prm\nread para card unit 20 flex\n",
        "* Everything in one.\n*\nstream ../toppar/two.str ! topology and parameters\n",
    ],
)
def test_a_list_of_files_stands_for_the_files_that_it_lists(charmm, text):
    (charmm.folder / "openmm" / "toppar.str").write_text(text)
    direct = charmm("toppar/top_two.rtf", "toppar/par_two.prm")

    made = charmm("openmm/toppar.str")

    assert made.system.getNumConstraints() == direct.system.getNumConstraints() == 1
    assert "two.psf" in made.about["inputs"]
    assert len(made.about["inputs"]) == (3 if "stream" in text else 4)


def test_topology_and_parameters_in_one_file_are_no_list(charmm):
    made = charmm("toppar/two.str")

    assert made.about["force field"] == "CHARMM: two.str"
    assert made.system.getNumConstraints() == 1


def test_a_file_of_a_list_that_is_not_there_is_named_with_the_list(charmm):
    (charmm.folder / "openmm" / "toppar.str").write_text("../toppar/none.rtf\n")

    with pytest.raises(InputError, match=r"toppar.str lists ../toppar/none.rtf: there is no object at"):
        charmm("openmm/toppar.str")


def test_a_list_in_a_bucket_names_files_of_the_bucket():
    assert toppar._beside("s3://bucket/gui/openmm/toppar.str", "../toppar/a.rtf") == "s3://bucket/gui/toppar/a.rtf"


def test_parameters_that_are_missing_are_named_with_the_files(charmm):
    (charmm.folder / "toppar" / "par_two.prm").write_text(PAR.replace("XA XB 440.0 0.997\n", ""))

    with pytest.raises(InputError, match=r"two.psf, .*par_two.prm: .*[Mm]issing"):
        charmm("toppar/top_two.rtf", "toppar/par_two.prm")


def test_a_box_of_the_coordinates_is_that_of_a_charmm_set(charmm):
    from openmm import unit

    folder = charmm.folder
    cell = "CRYST1    4.500    4.600    4.700  90.00  90.00  90.00 P 1           1\n"
    (folder / "two.pdb").write_text(cell + TWO)
    given = {"psf": str(folder / "two.psf"), "pdb": str(folder / "two.pdb"), "solvent": "explicit", "cutoff": 0.2}

    made = molecule(System(**given, parameters=(str(folder / "toppar/two.str"),)), 1)

    edges = [row[at].value_in_unit(unit.nanometer) for at, row in enumerate(made.system.getDefaultPeriodicBoxVectors())]
    assert edges == pytest.approx([0.45, 0.46, 0.47])


WATER_PSF = """PSF

       1 !NTITLE
 REMARKS one molecule of water

       3 !NATOM
       1 WAT  1    TIP3 OH2  OT    -0.834000       15.9994           0
       2 WAT  1    TIP3 H1   HT     0.417000        1.0080           0
       3 WAT  1    TIP3 H2   HT     0.417000        1.0080           0

       3 !NBOND: bonds
       1       2       1       3       2       3

       1 !NTHETA: angles
       2       1       3

       0 !NPHI: dihedrals

       0 !NIMPHI: impropers

       0 !NDON: donors

       0 !NACC: acceptors

       0 !NNB

       0       0       0

       1       0 !NGRP
       0       0       0

"""
WATER_PAR = """* Water.
*
BONDS
HT HT 0.0 1.5139
OT HT 450.0 0.9572
ANGLES
HT OT HT 55.0 104.52
NONBONDED
HT 0.0 -0.046 0.2245
OT 0.0 -0.1521 1.7682
END
"""


def test_water_of_a_charmm_set_is_rigid_and_told_from_the_rest(tmp_path):
    places = [(0.0, 0.0), (0.957, 0.0), (-0.24, 0.927)]
    atoms = [
        f"ATOM  {n:5d}  {name:<3} TIP3W   1    {x:8.3f}{y:8.3f}{0.0:8.3f}\n"
        for n, (name, (x, y)) in enumerate(zip(("OH2", "H1", "H2"), places, strict=True), 1)
    ]
    for name, content in (("w.psf", WATER_PSF), ("w.pdb", "".join(atoms)), ("par_w.prm", WATER_PAR)):
        (tmp_path / name).write_text(content)
    given = {"psf": str(tmp_path / "w.psf"), "pdb": str(tmp_path / "w.pdb")}
    parameters = (str(tmp_path / "par_w.prm"),)

    made = molecule(System(**given, parameters=parameters, solvent="explicit", box=(0.42, 0.42, 0.42), cutoff=0.2), 1)

    assert made.system.getNumConstraints() == 3
    with pytest.raises(InputError, match=r"w.psf has 1 water molecule, and with --solvent vacuum there must be none"):
        molecule(System(**given, parameters=parameters, solvent="vacuum"), 1)


def test_a_structure_without_problems_has_no_cautions(read):
    assert read(lines_of("AG")).cautions == []


@pytest.fixture
def amber(tmp_path):
    """Return a function that writes alanine dipeptide as Amber has it, and the same molecule by its force field."""

    def written(**given):
        from openmm import app

        made = molecule(System(**(given or {"solvent": "vacuum"})), 1)
        names = FORCE_FIELDS["ff14SB"] + (("amber14/tip3p.xml",) if given else ())
        free = app.ForceField(*names).createSystem(made.topology, constraints=None, rigidWater=False)
        box = tuple(row[at]._value for at, row in enumerate(made.system.getDefaultPeriodicBoxVectors()))
        amber_files.write(tmp_path, made.topology, free, made.positions, box if given else None)
        return made

    return written


def energy(made) -> float:
    import openmm

    context = openmm.Context(
        made.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(made.positions)
    return float(context.getState(getEnergy=True).getPotentialEnergy()._value)


@pytest.mark.parametrize("solvent", ["vacuum", "obc2", "gbn2"])
def test_amber_files_give_the_energy_of_the_force_field_that_they_were_made_with(amber, tmp_path, solvent):
    amber()
    expected = molecule(System(solvent=solvent), 1)

    made = molecule(
        System(prmtop=str(tmp_path / "mine.prmtop"), inpcrd=str(tmp_path / "mine.inpcrd"), solvent=solvent), 1
    )

    assert made.system.getNumConstraints() == 12
    assert energy(made) == pytest.approx(energy(expected), abs=5e-3)


def test_amber_files_of_a_box_keep_box_and_water(amber, tmp_path):
    expected = amber(solvent="tip3p", padding=0.5, cutoff=0.5)
    files = {"prmtop": str(tmp_path / "mine.prmtop"), "inpcrd": str(tmp_path / "mine.inpcrd")}

    made = molecule(System(**files, solvent="explicit", cutoff=0.5), 1)

    assert made.system.getNumConstraints() == expected.system.getNumConstraints()
    assert energy(made) == pytest.approx(energy(expected), abs=0.05)
    with pytest.raises(InputError, match=r"mine.prmtop has \d+ water molecules, and with --solvent obc2"):
        molecule(System(**files), 1)


@pytest.mark.parametrize("solvent", ["obc2", "gbn2"])
def test_implicit_water_of_amber_files_is_by_their_own_radii(amber, tmp_path, solvent):
    amber()
    path = tmp_path / "mine.prmtop"
    given = System(prmtop=str(path), inpcrd=str(tmp_path / "mine.inpcrd"), solvent=solvent)
    before = molecule(given, 1)
    head, mark, rest = path.read_text().partition("%FLAG RADII")
    radii, screen, tail = rest.partition("%FLAG SCREEN")
    path.write_text(head + mark + radii.replace("1.70000000E+00", "2.00000000E+00") + screen + tail)

    after = molecule(given, 1)
    assert abs(energy(after) - energy(before)) > 1.0
    assert after.cautions == [f"radii of {path} are not those that {solvent} was made for; they are used"]


def test_what_an_amber_file_lacks_is_named(amber, tmp_path):
    amber()
    text = (tmp_path / "mine.prmtop").read_text().replace("%FLAG MASS", "%FLAG WEIGHT")
    (tmp_path / "mine.prmtop").write_text(text)

    with pytest.raises(InputError, match=r"mine.prmtop, .*mine.inpcrd: there is no MASS in it"):
        molecule(System(prmtop=str(tmp_path / "mine.prmtop"), inpcrd=str(tmp_path / "mine.inpcrd")), 1)


def test_a_campaign_from_amber_files(amber, remd, figures, tmp_path):
    amber()
    few = ("--temperatures", "300,350", "--steps", "20", "--platform", "Reference", "--rounds", "2", "--output", "a")

    assert remd("run", "--prmtop", "mine.prmtop", "--inpcrd", "mine.inpcrd", *few) == 0

    assert figures("verify", "a")["problems"] == []


def test_coordinates_of_another_molecule_than_the_prmtop_are_refused_with_both_counts(amber, tmp_path):
    amber()
    (tmp_path / "other.inpcrd").write_text("other\n     1\n   0.0000000   0.0000000   0.0000000\n")

    with pytest.raises(InputError, match=r"other.inpcrd has 1 atoms, and .*mine.prmtop 22; give the two that belong"):
        molecule(System(prmtop=str(tmp_path / "mine.prmtop"), inpcrd=str(tmp_path / "other.inpcrd")), 1)


def test_a_restart_file_in_binary_is_read_with_its_box(amber, tmp_path):
    from scipy.io import netcdf_file

    expected = amber(solvent="tip3p", padding=0.5, cutoff=0.5)
    edges = np.array([row[at]._value for at, row in enumerate(expected.system.getDefaultPeriodicBoxVectors())])
    with netcdf_file(str(tmp_path / "mine.rst7"), "w") as file:
        file.Conventions, file.ConventionVersion = b"AMBERRESTART", b"1.0"
        for name, size in (("atom", len(expected.positions)), ("spatial", 3), ("cell_spatial", 3), ("cell_angular", 3)):
            file.createDimension(name, size)
        for name, dimensions, values in (
            ("coordinates", ("atom", "spatial"), expected.positions * 10.0),
            ("cell_lengths", ("cell_spatial",), edges * 10.0),
            ("cell_angles", ("cell_angular",), [90.0, 90.0, 90.0]),
        ):
            file.createVariable(name, "d", dimensions)[:] = values

    made = molecule(
        System(
            prmtop=str(tmp_path / "mine.prmtop"), inpcrd=str(tmp_path / "mine.rst7"), solvent="explicit", cutoff=0.5
        ),
        1,
    )  # fmt: skip

    assert energy(made) == pytest.approx(energy(expected), abs=0.05)
