"""Amber files, of a molecule whose energy is known from its force field."""

from __future__ import annotations

import numpy as np
import pytest

from apps.protein_remd.params import MD
from apps.protein_remd.system import System
from core import InputError
from tests.apps.protein_remd import amber_files

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

from apps.protein_remd.engines.molecules import FORCE_FIELDS, molecule  # noqa: E402
from apps.protein_remd.engines.openmm import prepare  # noqa: E402


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


def test_positions_that_are_no_numbers_are_refused_before_a_minimisation_that_never_ends(amber, tmp_path):
    amber()
    lines = (tmp_path / "mine.inpcrd").read_text().splitlines(True)
    lines[2] = f"{'NaN':>12}{lines[2][12:]}"
    (tmp_path / "mine.inpcrd").write_text("".join(lines))

    with pytest.raises(InputError, match=r"mine.prmtop: the position of atom 1 is no finite number; mend"):
        prepare(System(prmtop=str(tmp_path / "mine.prmtop"), inpcrd=str(tmp_path / "mine.inpcrd")), MD())


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
