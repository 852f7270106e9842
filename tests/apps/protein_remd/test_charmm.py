"""CHARMM sets as set-up servers write them: lists of files, streams, boxes and water."""

from __future__ import annotations

import pytest

from apps.protein_remd.engines import toppar
from apps.protein_remd.params import MD
from apps.protein_remd.system import System
from core import InputError

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

from apps.protein_remd.engines.molecules import molecule  # noqa: E402
from apps.protein_remd.engines.openmm import prepare  # noqa: E402

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
FIRST = 'particle 1 of NonbondedForce is <Particle .*q="NaN"'


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


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("two.psf", "-0.300000", "      nan", rf"two.psf or its parameters have a value .*: {FIRST}.*; mend"),
        ("toppar/par_two.prm", "-0.046", "nan", "particle 2 of NonbondedForce is <Particle eps=.NaN"),
        ("toppar/par_two.prm", "0.997", "inf", "no finite number"),
    ],
)
def test_what_is_no_number_is_refused_before_a_minimisation_that_never_ends(charmm, name, old, new, said):
    path = charmm.folder / name
    path.write_text(path.read_text().replace(old, new, 1))
    given = {"psf": str(charmm.folder / "two.psf"), "pdb": str(charmm.folder / "two.pdb")}
    parameters = tuple(str(charmm.folder / f"toppar/{each}") for each in ("top_two.rtf", "par_two.prm"))

    with pytest.raises(InputError, match=said):
        prepare(System(**given, parameters=parameters, solvent="vacuum"), MD())


@pytest.mark.parametrize("mass", [" 0.0000", "    nan"])
def test_an_atom_whose_mass_no_element_has_is_named(charmm, mass):
    (charmm.folder / "two.psf").write_text(PSF.replace("14.0070", mass))

    with pytest.raises(InputError, match=r"two.psf: atom 1, N of XYZ 1, has a mass of (0|nan), which no element has"):
        charmm("toppar/top_two.rtf", "toppar/par_two.prm")


def test_coordinates_in_another_order_or_of_another_molecule_are_refused_by_their_bonds(charmm):
    (charmm.folder / "two.pdb").write_text(TWO.replace("   1.000", "   4.000"))

    with pytest.raises(InputError, match=r"two.psf: N of XYZ 1 and H of XYZ 1 are bonded, and 0.40 nm apart \(1 such"):
        charmm("toppar/top_two.rtf", "toppar/par_two.prm")


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
