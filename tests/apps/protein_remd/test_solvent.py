"""Explicit and implicit water, periodic boxes, cutoffs and pressure by OpenMM, in boxes of some hundred atoms."""

from __future__ import annotations

import io
import json
import signal
from dataclasses import replace

import numpy as np
import pytest

from apps.protein_remd.engines import Schedule
from apps.protein_remd.params import MD
from apps.protein_remd.science.peptide import build, pdb_text
from apps.protein_remd.segments import unpacked
from apps.protein_remd.system import System
from core import ConfigError, InputError
from tests.apps.protein_remd.conftest import history
from tests.apps.protein_remd.test_killed import wait_for

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

from apps.protein_remd.engines import openmm as engine  # noqa: E402
from apps.protein_remd.engines.molecules import FORCE_FIELDS, molecule  # noqa: E402

SMALL = System(solvent="tip3p", padding=0.5, cutoff=0.5, platform="CPU")
PRESSED = MD(pressure=1.0)
BOX = (
    "run", "--solvent", "tip3p", "--padding", "0.5", "--cutoff", "0.5", "--pressure", "1", "--platform", "CPU",
    "--temperatures", "300,310", "--steps", "50", "--frames", "25",
)  # fmt: skip


@pytest.fixture(scope="module")
def boxed() -> dict[str, bytes]:
    return engine.prepare(SMALL, PRESSED)


PREPARED: dict[tuple[System, MD], dict[str, bytes]] = {}


@pytest.fixture
def prepared_once(monkeypatch) -> None:
    """Prepare equal systems once, which takes longer than the rounds here."""
    prepare = engine.prepare

    def known(system: System, md: MD) -> dict[str, bytes]:
        if (system, md) not in PREPARED:
            PREPARED[system, md] = prepare(system, md)
        return PREPARED[system, md]

    monkeypatch.setattr(engine, "prepare", known)


@pytest.fixture(params=["Reference", "CPU"])
def files(boxed, request) -> dict[str, bytes]:
    return {**boxed, "engine.json": boxed["engine.json"].replace(b"CPU", request.param.encode())}


def bits(trace) -> tuple[bytes, ...]:
    parts = (trace.snapshot.x, trace.snapshot.v, trace.snapshot.box, trace.frames, trace.boxes, trace.energies)
    return tuple(np.asarray(part).tobytes() for part in (*parts, trace.potential, trace.kinetic))


def energy(system, x, groups: int = -1) -> float:
    """Return the potential energy in kJ/mol."""
    import openmm

    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(x)
    return float(context.getState(getEnergy=True, groups=groups).getPotentialEnergy()._value)


def test_a_warm_context_with_ewald_sums_and_barostat_gives_the_bits_of_a_fresh_one(files):
    schedule = Schedule(50, energies=25, frames=25)
    fresh = engine.open_system(files)
    begin = fresh.start(310.0, 5)
    expected = fresh.run(begin, 310.0, 6, schedule)
    warm = engine.open_system(files)
    warm.run(warm.start(500.0, 8), 500.0, 9, Schedule(27))

    again = warm.run(begin, 310.0, 6, schedule)

    assert bits(again) == bits(expected)
    assert bits(warm.run(begin, 310.0, 7, schedule)) != bits(expected)


def test_the_barostat_has_the_temperature_of_the_segment_and_not_that_of_the_system(boxed):
    schedule = Schedule(200)
    began = engine.open_system(boxed)
    begin = began.start(600.0, 5)
    xml = boxed["system.xml"].decode()
    assert xml.count('temperature="300"') == 1
    as_hot = {**boxed, "system.xml": xml.replace('temperature="300"', 'temperature="600"').encode()}

    traces = [engine.open_system(files).run(begin, 600.0, 6, schedule) for files in (boxed, as_hot)]

    assert bits(traces[0]) == bits(traces[1])


def test_the_volume_depends_on_the_seed_of_the_segment_alone(boxed):
    simulation = engine.open_system(boxed)
    begin = simulation.start(300.0, 5)

    volumes = [simulation.run(begin, 300.0, seed, Schedule(100)).snapshot.volume for seed in (1, 2, 1)]

    assert volumes[0] == volumes[2] != volumes[1]
    assert volumes[0] != begin.volume


def test_a_segment_goes_on_in_the_box_that_it_is_given(boxed):
    simulation = engine.open_system(boxed)
    begin = simulation.start(300.0, 5)
    wider = replace(begin, box=begin.box * 1.2)

    after = simulation.run(wider, 300.0, 6, Schedule(10))

    assert after.snapshot.volume == pytest.approx(1.728 * begin.volume, rel=1e-12)


def test_a_box_that_is_narrower_than_twice_the_cutoff_is_an_explosion(boxed):
    from apps.protein_remd.engines import Exploded

    simulation = engine.open_system(boxed)
    begin = simulation.start(300.0, 5)

    with pytest.raises(Exploded, match="its box has shrunk below twice the cutoff"):
        simulation.run(replace(begin, box=begin.box * 0.5), 300.0, 6, Schedule(1))


def test_the_manifest_says_what_is_around_the_molecule(boxed):
    facts = json.loads(boxed["facts.json"])

    assert facts["solvent"].startswith("TIP3P, ")
    assert facts["cutoff"] == "0.5 nm, particle mesh Ewald"
    assert facts["pressure"] == "1 bar"
    assert facts["box"].endswith(" g/cm3")
    assert facts["energies"].startswith("those at the end of each segment")
    assert facts["atoms"] < 400
    assert b"CRYST1" in boxed["topology.pdb"]


def test_water_and_ions_neutralise_and_are_placed_in_the_same_way_each_time():
    from apps.protein_remd.engines.solvents import charges_of

    given = replace(SMALL, sequence="K", padding=0.6, ionic_strength=1.0)

    first, again = molecule(given, 1), molecule(given, 1)

    assert first.positions.tobytes() == again.positions.tobytes()
    names = [residue.name for residue in first.topology.residues()]
    assert names == [residue.name for residue in again.topology.residues()]
    assert names.count("CL") == names.count("NA") + 1 > 1
    charged = charges_of(first.system)
    charges = [charged.getParticleParameters(at)[0]._value for at in range(charged.getNumParticles())]
    assert sum(charges) == pytest.approx(0.0, abs=1e-6)


def test_a_campaign_in_a_box_killed_and_resumed_is_the_undisturbed_one(remd, started, figures, tmp_path, prepared_once):
    assert remd(*BOX, "--rounds", "3", "--output", "whole") == 0
    driver = started(*BOX, "--rounds", "3", "--output", "killed", "--compute", "process", "--workers", "2")
    wait_for(tmp_path / "killed", 1, driver)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()

    assert remd("resume", "killed") == 0

    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    assert figures("verify", "killed", "--segments", "2")["problems"] == []


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_trajectories_have_the_unit_cell_of_each_frame(remd, figures, tmp_path, kind, prepared_once):
    mdtraj = pytest.importorskip("mdtraj", reason="needs mdtraj: pip install 'fanfold[remd]'")
    remd(*BOX, "--rounds", "2", "--output", "a")

    figures("demux", "a", "--format", kind)

    folder = tmp_path / "a" / "trajectories"
    read = mdtraj.load(str(folder / f"replica-001.{kind}"), top=str(folder / "topology.pdb"))
    pieces = [next((tmp_path / "a" / "frames" / f"{n:08d}").glob("0001-*")) for n in (1, 2)]
    boxes = np.concatenate([unpacked(piece.read_bytes(), "piece")["boxes"] for piece in pieces])
    assert read.unitcell_vectors == pytest.approx(boxes, abs=1e-5)
    assert len({float(edge) for edge in boxes[:, 0, 0]}) > 1
    assert mdtraj.load(str(folder / "topology.pdb")).unitcell_lengths is not None


def test_unit_cells_that_are_no_cubes_keep_their_angles():
    from openmm.app.internal.unitcell import computePeriodicBoxVectors

    from apps.protein_remd.trajectories import unit_cells

    vectors = computePeriodicBoxVectors(3.5, 3.5, 3.5, *np.radians([70.53, 109.47, 70.53]).tolist())
    edges, angles = unit_cells(np.array([[list(row) for row in vectors._value]], np.float32))

    assert edges[0] == pytest.approx([35.0, 35.0, 35.0], rel=1e-5)
    assert angles[0] == pytest.approx([70.53, 109.47, 70.53], rel=1e-5)


@pytest.mark.parametrize("solvent", ["obc2", "gbn2"])
def test_implicit_water_has_the_energy_of_its_force_field_file(solvent):
    from openmm import app

    made = molecule(System(sequence="WPK", solvent=solvent), 1)
    field = app.ForceField(*FORCE_FIELDS["ff14SB"], f"implicit/{solvent}.xml")
    expected = field.createSystem(made.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)

    # Parts of a thousand kJ/mol nearly cancel.
    assert energy(made.system, made.positions) == pytest.approx(energy(expected, made.positions), abs=5e-4)


@pytest.mark.parametrize("solvent", ["obc2", "gbn2", "vacuum"])
def test_a_cutoff_without_a_box_has_the_energy_of_the_force_field_file(solvent):
    from openmm import app, unit

    made = molecule(System(sequence="WPK", solvent=solvent, nonbonded="cutoff", cutoff=0.9), 1)
    files = [] if solvent == "vacuum" else [f"implicit/{solvent}.xml"]
    field = app.ForceField(*FORCE_FIELDS["ff14SB"], *files)
    expected = field.createSystem(
        made.topology,
        nonbondedMethod=app.CutoffNonPeriodic,
        nonbondedCutoff=0.9 * unit.nanometer,
        constraints=app.HBonds,
    )
    for force in expected.getForces():
        if force.getName() == "NonbondedForce":
            force.setReactionFieldDielectric(1.0)

    assert energy(made.system, made.positions) == pytest.approx(energy(expected, made.positions), abs=5e-4)
    whole = molecule(System(sequence="WPK", solvent=solvent), 1)
    assert abs(energy(whole.system, whole.positions) - energy(made.system, made.positions)) > 1.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (System(), "none"),
        (System(solvent="vacuum", nonbonded="cutoff"), "1 nm, reaction field of dielectric 1"),
        (System(solvent="vacuum", nonbonded="cutoff", cutoff=1.2, switch_distance=1.0),
         "1.2 nm, reaction field of dielectric 1, Lennard-Jones switched off from 1"),
        (System(solvent="tip3p"), "1 nm, particle mesh Ewald"),
        (System(solvent="tip3p", nonbonded="cutoff"), "1 nm, reaction field of dielectric 78.3"),
    ],
)  # fmt: skip
def test_what_ends_at_a_cutoff_is_said(given, said):
    from apps.protein_remd.engines.boxes import nonbonded

    assert nonbonded(given).sentence() == said


def test_the_slow_implicit_water_says_that_it_is_slow(remd, capsys):
    few = ("--temperatures", "300,350", "--steps", "2", "--platform", "Reference", "--rounds", "1")

    assert remd("run", "--solvent", "gbn2", *few) == 0

    assert "eight times slower than --solvent obc2" in capsys.readouterr().err


def test_what_a_system_is_is_printed_before_it_runs(remd, capsys):
    few = ("--temperatures", "300,350", "--steps", "2", "--platform", "Reference", "--rounds", "1")

    remd("run", "--sequence", "KK", *few)

    said = capsys.readouterr().out
    before = said[: said.index("Ladder")]
    for words in ("Atoms", "56", "Residues", "4", "Constraints", "Net charge", "2", "OBC2 implicit water"):
        assert words in before


def test_a_dry_run_says_what_the_system_is_and_what_to_know_of_it(remd, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("apps.protein_remd.planning.CALIBRATION_SECONDS", 0.0)
    few = ("--sequence", "KK", "--solvent", "gbn2", "--temperatures", "300,350", "--platform", "Reference")

    assert remd("run", *few, "--dry-run") == 0

    said = capsys.readouterr()
    assert "GBn2 implicit water" in said.out
    assert "Net charge" in said.out
    assert "eight times slower" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_ladder_in_water_is_as_close_as_twice_the_degrees_of_freedom_need():
    from apps.protein_remd.params import Ladder, Params

    aimed = Ladder(lowest=300.0, highest=400.0, acceptance=0.3)

    wet = Params(system=SMALL, ladder=aimed).temperatures(2000)
    dry = Params(system=System(), ladder=aimed).temperatures(4000)

    assert wet == dry
    assert len(wet) > len(Params(system=System(), ladder=aimed).temperatures(2000))


def test_a_platform_that_is_not_there_is_named(boxed):
    files = {**boxed, "engine.json": boxed["engine.json"].replace(b"CPU", b"Quantum")}

    with pytest.raises(ConfigError, match="no platform Quantum, with which the run was begun, but Reference, CPU"):
        engine.open_system(files)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"padding": 1.0}, "--padding is for --solvent tip3p alone"),
        ({"ionic_strength": 0.0}, "--ionic-strength is for --solvent tip3p alone"),
        ({"box": (2, 2, 2)}, "--box is for --solvent explicit alone"),
        ({"cutoff": 1.0}, "--cutoff is for --nonbonded cutoff or pme alone"),
        ({"switch_distance": 0.8}, "--switch-distance is for --nonbonded cutoff or pme alone"),
        ({"solvent": "tip3p", "switch_distance": 1.0}, "--switch-distance 1 is not below the cutoff, 1 nm"),
        ({"solvent": "tip3p", "nonbonded": "none"}, "fills a periodic box"),
        ({"nonbonded": "pme"}, "--nonbonded pme needs a periodic box, and --solvent obc2 has none"),
        ({"solvent": "explicit"}, "--solvent explicit is water that files have"),
        ({"solvent": "explicit", "pdb": "a", "box": (2, 2)}, "--box has 2 numbers"),
        ({"solvent": "tip3p", "prmtop": "a", "inpcrd": "b"}, "a PSF or prmtop file has its own"),
        ({"threads": 2}, "--threads 2: more than one thread adds in another order"),
        ({"threads": 2, "no_bitwise": True, "platform": "Reference"}, "the Reference platform has one"),
    ],
)
def test_settings_that_would_have_no_effect_or_no_meaning_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        System(**given)


@pytest.mark.parametrize("engine_name", ["harmonic", "protomol"])
def test_settings_of_openmm_are_refused_by_other_engines(engine_name):
    from apps.protein_remd.params import Params

    with pytest.raises(ConfigError, match=f"--no-bitwise is of engine openmm; {engine_name} has it not"):
        Params(system=System(engine=engine_name, no_bitwise=True))


@pytest.mark.parametrize("engine_name", ["harmonic", "protomol"])
def test_water_is_refused_by_engines_that_know_none(engine_name):
    from apps.protein_remd.params import Params

    with pytest.raises(ConfigError, match=f"--solvent tip3p is of engine openmm; {engine_name} knows no water"):
        Params(system=System(engine=engine_name, solvent="tip3p"))


@pytest.fixture(scope="module")
def water_pdb(boxed) -> str:
    return boxed["topology.pdb"].decode()


def test_a_box_of_a_structure_file_is_taken_as_it_is(water_pdb, tmp_path):
    (tmp_path / "box.pdb").write_text(water_pdb)

    made = molecule(System(pdb=str(tmp_path / "box.pdb"), solvent="explicit", cutoff=0.5), 1)

    edge = float(water_pdb.split("CRYST1")[1].split()[0]) / 10
    assert made.system.getDefaultPeriodicBoxVectors()[0][0]._value == pytest.approx(edge)
    assert made.system.usesPeriodicBoundaryConditions()


@pytest.mark.parametrize("cell", ["", "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"])
def test_water_without_a_box_is_refused_until_one_is_given(water_pdb, tmp_path, cell):
    lines = [line for line in water_pdb.splitlines(True) if not line.startswith("CRYST1")]
    (tmp_path / "box.pdb").write_text(cell + "".join(lines))
    given = System(pdb=str(tmp_path / "box.pdb"), solvent="explicit", cutoff=0.5)

    with pytest.raises(InputError, match=r"box.pdb has no periodic box; give it as --box"):
        molecule(given, 1)
    made = molecule(replace(given, box=(1.5, 1.5, 1.6)), 1)
    assert made.system.getDefaultPeriodicBoxVectors()[2][2]._value == 1.6


@pytest.mark.parametrize("solvent", ["obc2", "vacuum", "gbn2"])
def test_molecules_of_water_are_refused_where_water_is_implicit_or_absent(water_pdb, tmp_path, solvent):
    (tmp_path / "box.pdb").write_text(water_pdb)

    with pytest.raises(
        InputError, match=rf"box.pdb has \d+ water molecules, and with --solvent {solvent} there must be"
    ):
        molecule(System(pdb=str(tmp_path / "box.pdb"), solvent=solvent), 1)


def test_a_box_that_is_too_small_for_the_cutoff_is_refused_with_both_lengths():
    with pytest.raises(InputError, match=r"its box is 1.\d+ nm wide, less than twice the cutoff of 0.9 nm"):
        molecule(replace(SMALL, cutoff=0.9), 1)


def test_a_box_whose_edges_are_given_in_another_unit_is_refused(water_pdb, tmp_path):
    (tmp_path / "box.pdb").write_text(water_pdb)
    given = System(pdb=str(tmp_path / "box.pdb"), solvent="explicit", cutoff=0.5, box=(13.67, 13.67, 13.67))

    with pytest.raises(InputError, match=r"its box holds 0.000726 g/cm3, and water has 1; look whether the edges are"):
        molecule(given, 1)


def test_the_energy_after_attempts_to_change_the_volume_is_that_of_positions_and_box(boxed):
    import openmm

    simulation = engine.open_system(boxed)
    traces = [simulation.run(simulation.start(300.0, n), 300.0, n, Schedule(101)) for n in range(1, 7)]

    system = openmm.XmlSerializer.deserialize(boxed["system.xml"].decode())
    platform = openmm.Platform.getPlatformByName("CPU")
    for trace in traces:
        system.setDefaultPeriodicBoxVectors(*trace.snapshot.box)
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": "1"})
        context.setPositions(trace.snapshot.x)
        again = context.getState(getEnergy=True).getPotentialEnergy()._value
        assert trace.potential == pytest.approx(again, abs=0.5)
    assert len({trace.snapshot.volume for trace in traces}) > 1


def test_a_box_at_a_pressure_must_have_room_to_shrink():
    with pytest.raises(
        InputError, match=r"less than twice the cutoff of 0.65 nm and a tenth more, since it may shrink"
    ):
        molecule(replace(SMALL, cutoff=0.65), 1, 1.0)
    assert molecule(replace(SMALL, cutoff=0.65), 1).system.getNumParticles() > 100


def test_a_charged_box_is_told():
    from apps.protein_remd.engines.solvents import cautions

    assert cautions(SMALL, 0.0) == []
    assert cautions(SMALL, 2.0) == [
        "the box has a net charge of +2 e, which Ewald sums neutralise by an even background"
    ]
    assert "no whole number" in cautions(SMALL, 0.37)[0]


def test_the_topology_of_a_molecule_without_a_box_has_no_unit_cell(tmp_path):
    cell = "CRYST1   30.000   30.000   30.000  90.00  90.00  90.00 P 1           1\n"
    (tmp_path / "mine.pdb").write_text(cell + pdb_text(build("A")))

    files = engine.prepare(System(pdb=str(tmp_path / "mine.pdb"), platform="Reference"), MD())

    assert b"CRYST1" not in files["topology.pdb"]
    x = np.load(io.BytesIO(files["start.npy"]))
    assert len(x) == 22
    assert engine.open_system(files).start(300.0, 1).box is None
