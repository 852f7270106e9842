"""Molecules from users' files: energies as published, and what is missing named with its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.protein_remd.params import MD
from apps.protein_remd.system import System
from core import ConfigError, InputError

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

from apps.protein_remd.engines import openmm as engine  # noqa: E402
from apps.protein_remd.engines.molecules import molecule  # noqa: E402
from apps.protein_remd.science.peptide import build, pdb_text  # noqa: E402

KCAL = 4.184
WW = Path(__file__).parents[4] / "shared" / "data" / "ww_domain"
"""The published input files have no licence, so they are not of this repository."""


@pytest.fixture
def ww() -> dict[str, str]:
    found = {name: next(iter(WW.glob(f"*.{name}")), None) for name in ("psf", "pdb", "inp")}
    if None in found.values():
        pytest.skip("needs the published WW domain beside the project: .psf, .pdb and .inp in ../shared/data/ww_domain")
    return {name: str(path) for name, path in found.items()}


def energies(made) -> dict[str, float]:
    """Return the energy of each force in kcal/mol."""
    import openmm

    for index, force in enumerate(made.system.getForces()):
        force.setForceGroup(index)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(made.system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(made.positions)
    found: dict[str, float] = {}
    for index, force in enumerate(made.system.getForces()):
        energy = context.getState(getEnergy=True, groups={index}).getPotentialEnergy()._value / KCAL
        name = force.getName() + ("2" if force.getName() in found else "")
        found[name] = energy
    return found


def nonbonded_of(made):
    import openmm

    (found,) = (force for force in made.system.getForces() if isinstance(force, openmm.NonbondedForce))
    return found


def without_van_der_waals(made) -> None:
    nonbonded = nonbonded_of(made)
    for index in range(nonbonded.getNumParticles()):
        charge, sigma, _ = nonbonded.getParticleParameters(index)
        nonbonded.setParticleParameters(index, charge, sigma, 0.0)
    for index in range(nonbonded.getNumExceptions()):
        first, second, product, sigma, _ = nonbonded.getExceptionParameters(index)
        nonbonded.setExceptionParameters(index, first, second, product, sigma, 0.0)


def test_the_ww_domain_has_its_published_energies_and_only_bonds_to_hydrogen_constrained(ww):
    made = molecule(System(psf=ww["psf"], pdb=ww["pdb"], parameters=(ww["inp"],), solvent="vacuum"), 1)

    assert (made.system.getNumParticles(), made.system.getNumConstraints()) == (544, 266)
    found = energies(made)
    assert found["HarmonicBondForce"] == pytest.approx(37.2972, abs=1e-4)
    assert found["HarmonicAngleForce"] == pytest.approx(90.5168, abs=1e-4)
    assert found["HarmonicBondForce2"] == pytest.approx(9.3113, abs=1e-4)
    assert found["PeriodicTorsionForce"] == pytest.approx(149.7142, abs=1e-4)
    assert found["CustomTorsionForce"] == pytest.approx(3.3133, abs=1e-4)


def test_the_ww_domain_without_van_der_waals_forces_has_its_published_coulomb_energy(ww):
    made = molecule(System(psf=ww["psf"], pdb=ww["pdb"], parameters=(ww["inp"],), solvent="vacuum"), 1)

    without_van_der_waals(made)

    assert energies(made)["NonbondedForce"] == pytest.approx(-829.466, abs=2e-3)


def test_the_ww_domain_with_a_cutoff_has_its_published_energies_and_nothing_around_it_in_vacuum(ww):
    given = System(
        psf=ww["psf"], pdb=ww["pdb"], parameters=(ww["inp"],), solvent="vacuum", nonbonded="cutoff", cutoff=1.2,
        switch_distance=1.0,
    )  # fmt: skip
    made = molecule(given, 1)
    dielectric = nonbonded_of(made).getReactionFieldDielectric()
    both = energies(made)["NonbondedForce"]
    without_van_der_waals(made)
    coulomb = energies(made)["NonbondedForce"]
    nonbonded_of(made).setReactionFieldDielectric(78.3)

    assert dielectric == 1.0
    assert both - coulomb == pytest.approx(-22.0387, abs=1e-3)
    assert energies(made)["NonbondedForce"] == pytest.approx(-355.869, abs=2e-3)
    assert coulomb < -500


def test_atom_types_without_parameters_are_named_with_the_files(ww, tmp_path):
    (tmp_path / "par_few.inp").write_text("BONDS\n\nNONBONDED\nCT1 0.0 -0.02 2.275\n\nEND\n")

    with pytest.raises(InputError, match="no parameters for the atom types C, CA, CC, .* of .*psf"):
        molecule(System(psf=ww["psf"], pdb=ww["pdb"], parameters=(str(tmp_path / "par_few.inp"),)), 1)


def test_coordinates_of_another_molecule_are_refused_with_both_counts(ww, tmp_path):
    (tmp_path / "other.pdb").write_text(pdb_text(build("AA")))

    with pytest.raises(InputError, match=r"other.pdb has 15 atoms, and .*psf 544; give the two that belong together"):
        molecule(System(psf=ww["psf"], pdb=str(tmp_path / "other.pdb"), parameters=(ww["inp"],)), 1)


@pytest.mark.parametrize("force_field", ["ff14SB", "ff99SB-ILDN", "amber03"])
def test_a_structure_file_gets_its_hydrogens_in_every_force_field(tmp_path, force_field):
    (tmp_path / "mine.pdb").write_text(pdb_text(build("AG")))

    made = molecule(System(pdb=str(tmp_path / "mine.pdb"), force_field=force_field), 1)

    assert made.system.getNumParticles() == 29
    assert made.about["system"] == "mine.pdb"
    assert list(made.about["inputs"]) == ["mine.pdb"]


def test_a_molecule_in_vacuum_has_no_force_of_water(tmp_path):
    files = engine.prepare(System(solvent="vacuum", platform="Reference"), MD())

    assert b"GBSAOBCForce" not in files["system.xml"]
    assert b'"solvent": "none"' in files["facts.json"]


def test_a_residue_that_the_force_field_does_not_know_is_named_with_the_file(tmp_path):
    lines = [line for line in pdb_text(build("A")).splitlines(True) if " ALA " in line]
    (tmp_path / "strange.pdb").write_text("".join(lines).replace("ALA", "XYZ"))

    with pytest.raises(InputError, match=r"strange.pdb: XYZ 2 of chain A \(line 1\), beside no other residue, fits no"):
        molecule(System(pdb=str(tmp_path / "strange.pdb")), 1)


@pytest.mark.parametrize("content", ["", "no structure\n", "ATOM  nonsense\n"])
def test_a_file_that_is_no_structure_is_refused_by_name(tmp_path, content):
    (tmp_path / "bad.pdb").write_text(content)

    with pytest.raises(InputError, match="bad.pdb"):
        molecule(System(pdb=str(tmp_path / "bad.pdb")), 1)


def test_amber_files_that_are_none_are_refused_by_name(tmp_path):
    for name in ("a.prmtop", "a.inpcrd"):
        (tmp_path / name).write_text("nothing\n")

    with pytest.raises(InputError, match=r"a.prmtop, .*a.inpcrd: "):
        molecule(System(prmtop=str(tmp_path / "a.prmtop"), inpcrd=str(tmp_path / "a.inpcrd")), 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"psf": "a.psf"}, "--psf needs its coordinates"),
        ({"parameters": ("par",)}, "--parameters are those of a PSF file"),
        ({"prmtop": "a"}, "--prmtop and --inpcrd belong together"),
        ({"prmtop": "a", "inpcrd": "b", "pdb": "c"}, "--prmtop and --inpcrd are a whole molecule"),
    ],
)
def test_files_that_do_not_go_together_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        System(**given)


def test_a_run_of_a_file_that_is_not_there_is_wrong_usage_and_leaves_nothing(remd, tmp_path, capsys):
    assert remd("run", "--pdb", "nowhere.pdb", "--output", "a") == 2

    assert "there is no object at nowhere.pdb" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_without_the_files_that_it_was_prepared_from(remd, tmp_path):
    (tmp_path / "mine.pdb").write_text(pdb_text(build("G")))
    few = ("--temperatures", "300,350", "--steps", "20", "--platform", "Reference", "--pdb", "mine.pdb")
    remd("run", *few, "--rounds", "1", "--output", "a")
    (tmp_path / "mine.pdb").unlink()

    assert remd("resume", "a", "--rounds", "2") == 0
