"""Molecules by OpenMM: built rightly, and the same to the bit however and wherever a segment is run."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

from apps.protein_remd.engines import Exploded, Schedule, Snapshot
from apps.protein_remd.params import MD
from apps.protein_remd.science import peptide
from apps.protein_remd.science.draws import segment_seed
from apps.protein_remd.segments import Bundle, Segment, Shared, chained
from apps.protein_remd.system import RESIDUES, System
from tests.apps.protein_remd.conftest import history

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

from apps.protein_remd.engines import openmm as engine  # noqa: E402
from apps.protein_remd.engines.molecules import FORCE_FIELDS  # noqa: E402

ALANINE = ("--sequence", "A", "--platform", "Reference", "--temperatures", "300,350,410", "--steps", "50")


@pytest.fixture(scope="module")
def alanine() -> dict[str, bytes]:
    return engine.prepare(System(platform="Reference"), MD())


@pytest.fixture(params=["Reference", "CPU"])
def files(alanine, request) -> dict[str, bytes]:
    about = alanine["engine.json"].replace(b"Reference", request.param.encode())
    return {**alanine, "engine.json": about}


def same(one, other) -> bool:
    pairs = ((one.snapshot.x, other.snapshot.x), (one.snapshot.v, other.snapshot.v))
    bits = all(a.tobytes() == b.tobytes() for a, b in pairs)
    return bits and (one.potential, one.kinetic) == (other.potential, other.kinetic)


def test_a_peptide_is_built_in_the_same_way_each_time(alanine):
    assert engine.prepare(System(platform="Reference"), MD()) == alanine


def test_a_time_step_that_is_long_for_the_lightest_atoms_is_told():
    import openmm

    for mass, timestep, said in ((1.008, 4.0, 1), (1.008, 2.0, 0), (3.024, 4.0, 0)):
        system = openmm.System()
        for each in (0.0, 12.0, mass):
            system.addParticle(each)

        assert len(engine._of_time_step(system, timestep)) == said
    facts = engine.prepare(System(platform="Reference"), MD(timestep=4.0))["facts.json"].decode()
    assert "a time step of 4 fs is long for atoms of 1.01 dalton" in facts


def test_every_amino_acid_is_built_left_handed_with_trans_bonds_and_all_its_hydrogens():
    files = engine.prepare(System(sequence=RESIDUES, platform="Reference"), MD())

    from openmm import app

    topology = app.PDBFile(io.StringIO(files["topology.pdb"].decode())).topology
    x = np.load(io.BytesIO(files["start.npy"]))
    atoms = [{atom.name: x[atom.index] for atom in residue.atoms()} for residue in topology.residues()]
    names = [residue.name for residue in topology.residues()]
    assert names == ["ACE", *(peptide.NAMES[letter] for letter in RESIDUES), "NME"]
    for name, one in zip(names, atoms, strict=True):
        if "CB" in one:
            assert peptide.chirality(one["N"], one["CA"], one["C"], one["CB"]) > 0, name
    for one, after in zip(atoms[1:-2], atoms[2:-1], strict=True):
        assert abs(peptide.dihedral(one["CA"], one["C"], after["N"], after["CA"])) > 150
    elements = {atom.element.symbol for atom in topology.atoms()}
    assert elements == {"H", "C", "N", "O", "S"}


def test_threonine_and_isoleucine_have_the_right_second_chiral_centre():
    built = {name: atoms for name, atoms in peptide.build("TI")}

    def volume(atoms, *names):
        a, b, c, centre = (atoms[name] for name in (*names, "CB"))
        return float(np.dot(np.cross(a - centre, b - centre), c - centre))

    # 2S,3R and 2S,3S: seen from the hydrogen, both have CA, the first named and CG2 in the same sense.
    assert volume(built["THR"], "CA", "OG1", "CG2") * volume(built["ILE"], "CA", "CG1", "CG2") > 0


def test_implicit_water_by_the_native_force_has_the_energy_of_the_force_field_file():
    import openmm
    from openmm import app, unit

    files = engine.prepare(System(sequence="WPK", platform="Reference"), MD())
    topology = app.PDBFile(io.StringIO(files["topology.pdb"].decode())).topology
    x = np.load(io.BytesIO(files["start.npy"]))
    field = app.ForceField(*FORCE_FIELDS["ff14SB"], "implicit/obc2.xml")
    expected = field.createSystem(topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)
    systems = [openmm.XmlSerializer.deserialize(files["system.xml"].decode()), expected]
    energies = []
    for system in systems:
        platform = openmm.Platform.getPlatformByName("Reference")
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        context.setPositions(x)
        energy = context.getState(getEnergy=True).getPotentialEnergy()
        energies.append(energy.value_in_unit(unit.kilojoule_per_mole))
    assert energies[0] == pytest.approx(energies[1], rel=2e-6)


def test_a_warm_context_gives_the_bits_of_a_fresh_one(files):
    schedule = Schedule(40, energies=20, frames=20)
    fresh = engine.open_system(files)
    begin = fresh.start(310.0, 5)
    expected = fresh.run(begin, 310.0, 6, schedule)
    warm = engine.open_system(files)
    warm.run(warm.start(500.0, 8), 500.0, 9, Schedule(77))

    again = warm.run(begin, 310.0, 6, schedule)

    assert same(again, expected)
    assert again.energies.tobytes() == expected.energies.tobytes()
    assert again.frames.tobytes() == expected.frames.tobytes()
    assert warm.start(310.0, 5).v.tobytes() == begin.v.tobytes()
    assert not same(warm.run(begin, 310.0, 7, schedule), expected)


def test_first_velocities_have_the_temperature_and_fulfil_the_constraints(alanine):
    molecule = engine.open_system(alanine)
    seeds = [(segment_seed(1, number, 0), segment_seed(1, number, 1)) for number in range(200)]
    kinetic = [molecule.run(molecule.start(300.0, first), 300.0, then, Schedule(1)).kinetic for first, then in seeds]

    assert molecule.degrees == 3 * 22 - 12
    mean = 0.5 * molecule.degrees * 8.31446261815324e-3 * 300.0
    assert abs(np.mean(kinetic) - mean) < 4 * np.std(kinetic) / math.sqrt(200)


def test_coordinates_that_explode_are_an_explosion_on_every_platform(files):
    from apps.protein_remd.segments import check

    molecule = engine.open_system(files)
    start = molecule.start(300.0, 1)
    crushed = Snapshot(start.x * 1e-3, start.v)

    with pytest.raises(Exploded):
        check(molecule.run(crushed, 300.0, 1, Schedule(20)), 300.0, molecule.degrees, molecule.potential, 300.0)


def test_a_campaign_is_the_same_in_other_processes_and_can_be_verified(remd, figures, tmp_path):
    remd("run", *ALANINE, "--frames", "25", "--rounds", "4", "--output", "serial")
    remd(
        "run", *ALANINE, "--frames", "25", "--rounds", "4", "--output", "parallel", "--compute", "process",
        "--workers", "2",
    )  # fmt: skip

    assert history(tmp_path / "parallel") == history(tmp_path / "serial")
    assert figures("verify", "parallel", "--segments", "6")["problems"] == []


def test_segments_of_another_version_cannot_be_verified_and_that_is_said(remd, capsys, monkeypatch):
    remd("run", *ALANINE, "--rounds", "2", "--output", "a")
    sound = engine.Simulation.__init__

    def newer(self, *arguments, **named):
        sound(self, *arguments, **named)
        self.version = self.version.replace("OpenMM 8", "OpenMM 9")

    monkeypatch.setattr(engine.Simulation, "__init__", newer)

    assert remd("verify", "a") == 1
    assert "it cannot be compared: it was computed with OpenMM 8." in capsys.readouterr().err


def test_the_manifest_says_what_was_found_out(figures, remd, tmp_path):
    import json

    remd("run", *ALANINE, "--rounds", "1", "--output", "a")

    found = json.loads((tmp_path / "a" / "manifest.json").read_text())["found"]
    assert (found["platform"], found["threads"], found["atoms"], found["constraints"]) == ("Reference", 1, 22, 12)
    assert found["net charge"] == 0
    assert found["version"].endswith("Reference platform, 1 thread")


@pytest.mark.slow
def test_alanine_dipeptide_has_the_ensembles_of_its_temperatures(figures):
    found = figures(
        "run", "--platform", "Reference", "--temperatures", "300,360,430", "--rounds", "1500", "--steps", "250",
        "--compute", "process",
    )  # fmt: skip

    for pair in found["pairs"]:
        assert pair["ensemble_slope_error"] < 0.1
        assert abs(pair["ensemble_slope"] - 1.0) < max(0.1, 3 * pair["ensemble_slope_error"])


def test_chained_segments_of_a_molecule_are_those_that_fresh_contexts_give(files):
    shared = Shared(Bundle("openmm", "", None), None, 1, 3, Schedule(20))
    task = Segment(4, 2, 350.0, 1.0, None)

    traces = chained(engine.open_system(files), task, shared, 0)

    snapshot = engine.open_system(files).start(350.0, segment_seed(1, 2, 0))
    for number, trace in enumerate(traces):
        fresh = engine.open_system(files).run(snapshot, 350.0, segment_seed(1, 2, 4, number), Schedule(20))
        assert same(fresh, trace)
        snapshot = fresh.snapshot
    assert len(traces) == 3
