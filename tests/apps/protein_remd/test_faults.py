"""What goes wrong is seen: planted faults of the physics, segments that explode, runs that were damaged, bad input."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from apps.protein_remd import segments
from apps.protein_remd.engines import Snapshot, Trace, bundle_hash
from apps.protein_remd.engines.harmonic import Oscillators
from apps.protein_remd.records import last_round
from apps.protein_remd.science import exchange
from apps.protein_remd.science.units import beta
from apps.protein_remd.segments import warm_system
from core import open_storage
from tests.apps.protein_remd.conftest import HARMONIC, history

SOUND = exchange.log_acceptance


def wrong_sign(t_lower, t_upper, u_lower, u_upper):
    return -SOUND(t_lower, t_upper, u_lower, u_upper)


def subtracted_factors(t_lower, t_upper, u_lower, u_upper):
    before = math.exp(-beta(t_lower) * u_lower) - math.exp(-beta(t_upper) * u_upper)
    after = math.exp(-beta(t_lower) * u_upper) - math.exp(-beta(t_upper) * u_lower)
    return math.log(min(1.0, max(1e-300, abs(after / before))))


def by_replica(scheme, round_number, states, sweeps):
    """Pairs of replicas by their numbers, wherever they are: as good as any two temperatures."""
    rng = np.random.default_rng(round_number)
    order = rng.permutation(states).tolist()
    yield from ((0, *sorted(order[at : at + 2])) for at in range(0, states - 1, 2))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("log_acceptance", wrong_sign),
        ("log_acceptance", subtracted_factors),
        ("velocity_scale", lambda before, now: 1.0),
        ("velocity_scale", lambda before, now: math.sqrt(before / now)),
        ("velocity_scale", lambda before, now: now / before),
    ],
)
def test_validate_sees_a_fault_of_the_physics(remd, monkeypatch, capsys, name, fault):
    monkeypatch.setattr(exchange, name, fault)

    status = remd("validate", "--rounds", "60")

    said = capsys.readouterr()
    assert status == 1, said.out
    assert "WRONG" in said.out
    assert "do not use it so" in said.err


def test_validate_passes_what_is_right(figures):
    found = figures("validate", "--rounds", "50")

    assert found["ok"]
    assert len(found["checks"]) == 27


def test_verify_sees_pairs_that_are_no_neighbours(remd, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(exchange, "pairs", by_replica)
    remd("run", *HARMONIC, "--rounds", "6", "--output", "a")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    assert remd("verify", "a") == 1
    assert "its exchange is not the one that its energies and the seed give" in capsys.readouterr().err


def test_verify_sees_velocities_that_were_not_rescaled(remd, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(exchange, "velocity_scale", lambda before, now: 1.0)
    remd("run", *HARMONIC, "--dynamics", "langevin", "--rounds", "6", "--output", "a")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    assert remd("verify", "a", "--segments", "100") == 1
    assert "other positions, velocities" in capsys.readouterr().err


def test_verify_finds_a_sound_run_sound_and_computes_segments_again(figures, remd):
    remd("run", *HARMONIC, "--dynamics", "langevin", "--rounds", "6", "--frames", "500", "--output", "a")

    assert figures("verify", "a", "--segments", "10") == {"rounds": 6, "objects": 36, "segments": 10, "problems": []}


def test_verify_sees_reduced_potentials_that_are_not_those_of_the_energies(remd, tmp_path, capsys):
    remd("run", *HARMONIC, "--rounds", "3", "--output", "a")
    path = tmp_path / "a" / "rounds" / "00000002.json"
    record = json.loads(path.read_text())
    record["reduced"][1][2] *= 1.01
    path.write_text(json.dumps(record, sort_keys=True))

    assert remd("verify", "a") == 1
    assert "round 2: its reduced potentials are not those of its energies" in capsys.readouterr().err


def test_verify_names_a_state_that_was_changed(remd, tmp_path, capsys):
    remd("run", *HARMONIC, "--rounds", "3", "--output", "a")
    state = next((tmp_path / "a" / "state" / "00000002").iterdir())
    state.write_bytes(state.read_bytes()[:-1] + b"?")

    assert remd("verify", "a") == 1
    assert f"state/00000002/{state.name}: its content has changed" in capsys.readouterr().err


def exploding(times: int, at: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, energy=math.nan) -> list[int]:
    """Make the segments that are run `at` these places in the order of all not finite, or of an absurd energy alone."""
    sound, tried = Oscillators.run, []

    def run(self, snapshot, temperature, seed, schedule):
        trace = sound(self, snapshot, temperature, seed, schedule)
        if schedule.steps == 20:
            return trace
        tried.append(seed)
        if len(tried) in at and times and math.isfinite(energy):
            return replace(trace, potential=energy)
        if len(tried) in at and times:
            return Trace(Snapshot(trace.snapshot.x * math.nan, trace.snapshot.v), math.nan, 1.0, *rest(trace))
        return trace

    monkeypatch.setattr(Oscillators, "run", run)
    return tried


def rest(trace: Trace):
    return trace.energies, trace.frames


def test_a_segment_that_fails_once_is_tried_again_with_the_same_seed(remd, monkeypatch, tmp_path):
    remd("run", *HARMONIC, "--rounds", "4", "--output", "sound")
    tried = exploding(1, (5,), monkeypatch)

    assert remd("run", *HARMONIC, "--rounds", "4", "--output", "a") == 0

    assert tried[4] == tried[5]
    assert history(tmp_path / "a") == history(tmp_path / "sound")


@pytest.mark.parametrize("place", [2, 5])
@pytest.mark.parametrize("energy", [1e8, 1e4])
def test_an_energy_that_no_motion_leads_to_is_computed_again_and_never_exchanged(
    remd, monkeypatch, tmp_path, place, energy
):
    remd("run", *HARMONIC, "--rounds", "4", "--output", "sound")
    exploding(1, (place,), monkeypatch, energy)

    assert remd("run", *HARMONIC, "--rounds", "4", "--output", "a") == 0

    assert history(tmp_path / "a") == history(tmp_path / "sound")


@pytest.mark.parametrize("energy", [1e8, -1e8])
def test_an_energy_that_stays_absurd_however_often_it_is_computed_stops_the_run(remd, monkeypatch, capsys, energy):
    exploding(1, (5, 6, 7), monkeypatch, energy)

    assert remd("run", *HARMONIC, "--rounds", "4", "--output", "a") == 1

    said = capsys.readouterr().err
    assert "round 2, replica 1 at 3" in said
    assert f"to {energy:.6g} kJ/mol in one segment, with every seed that was tried" in said


def test_the_energies_of_any_ladder_and_of_a_first_round_far_from_rest_are_none_that_are_refused():
    at_rest = Trace(Snapshot(np.zeros(30), np.zeros(30)), 1.0, 30.0, np.zeros((0, 2)), np.zeros((0, 30), np.float32))

    segments.check(replace(at_rest, potential=15 * 2.5 * 4), 300.0, 30, 15 * 2.5, 300.0)
    segments.check(replace(at_rest, potential=15 * 2.5), 300.0, 30, 15 * 41.5, 5000.0)
    with pytest.raises(segments.Exploded, match="went from 37.5 to 5000 kJ/mol"):
        segments.check(replace(at_rest, potential=5000.0), 300.0, 30, 15 * 2.5, 300.0)


def test_a_system_that_another_release_prepared_is_refused_in_one_sentence(remd, tmp_path, capsys):
    remd("run", *HARMONIC, "--rounds", "2", "--output", "a")
    files = {"oscillators.json": b'{"dof": 12}'}
    for path in (tmp_path / "a" / "bundle").rglob("oscillators.json"):
        path.unlink()
    bundle = tmp_path / "a" / "bundle" / bundle_hash(files)
    bundle.mkdir()
    (bundle / "oscillators.json").write_bytes(files["oscillators.json"])
    setup = tmp_path / "a" / "bundle" / "setup.json"
    setup.write_text(json.dumps(json.loads(setup.read_text()) | {"bundle": bundle.name}))
    warm_system.clear()
    capsys.readouterr()

    assert remd("resume", "a", "--rounds", "3") == 2

    said = capsys.readouterr().err
    assert (
        "oscillators.json of the run's bundle has dof in place of dof, dynamics, friction, pressure, timestep" in said
    )
    assert said.count("\n") == 1


def test_a_pilot_says_that_conditions_do_not_end_it(remd, capsys):
    assert remd("ladder", *HARMONIC, "--rounds", "12", "--until", "round_trips>=1") == 0

    assert "--until round_trips>=1 ends no pilot: all its 12 rounds are run" in capsys.readouterr().err


def test_a_segment_that_fails_twice_gets_another_seed_that_is_recorded(figures, monkeypatch, tmp_path):
    exploding(1, (5, 6), monkeypatch)

    found = figures("run", *HARMONIC, "--rounds", "4", "--output", "a")

    assert found["salted_segments"] == [[2, 1]]
    record = json.loads((tmp_path / "a" / "rounds" / "00000002.json").read_text())
    assert [one["salt"] for one in record["segments"]] == [0, 1, 0]


def test_a_segment_that_always_fails_stops_the_run_with_all_that_is_needed_to_go_on(
    remd, monkeypatch, tmp_path, capsys
):
    remd("run", *HARMONIC, "--rounds", "4", "--output", "sound")
    exploding(1, (5, 6, 7), monkeypatch)

    status = remd("run", *HARMONIC, "--rounds", "4", "--output", "a")

    said = capsys.readouterr().err
    assert status == 1
    assert "round 2, replica 1 at 3" in said
    assert "its energies are nan and 1.0 kJ/mol" in said
    assert "quarantine/00000002/0001.npz" in said
    assert (tmp_path / "a" / "quarantine" / "00000002" / "0001.npz").is_file()
    assert "python -m apps.protein_remd resume a" in said
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert remd("resume", "a") == 0
    assert history(tmp_path / "a") == history(tmp_path / "sound")


def test_a_kinetic_energy_that_no_temperature_gives_is_refused():
    cold = Trace(Snapshot(np.zeros(30), np.zeros(30)), 1.0, 15 * 2.5, np.zeros((0, 2)), np.zeros((0, 30), np.float32))
    hot = Trace(cold.snapshot, 1.0, 15 * 2.5 * 20, cold.energies, cold.frames)

    segments.check(cold, 300.0, 30, 1.0, 300.0)
    with pytest.raises(segments.Exploded, match="kinetic temperature is 6014 K at 300 K"):
        segments.check(hot, 300.0, 30, 1.0, 300.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--temperatures", "300,290"], "--temperatures 300.0,290.0: 290.0 follows 300.0"),
        (["--temperatures", "300,300"], "a ladder rises from each temperature to the next"),
        (["--temperatures", "300,nan"], "--ladder-temperatures 300,nan: expected ascending temperatures in K"),
        (["--temperatures=-5,300"], "expected ascending temperatures in K"),
        (["--lowest", "400", "--highest", "300"], "--highest 300.0 is below --lowest 400.0"),
        (["--highest", "300"], "would be one and the same"),
        (["--rounds", "0"], "--exchange-rounds 0: expected a whole number of at least 1"),
        (["--steps", "1.5"], "--md-steps 1.5: expected a whole number of at least 1"),
        (["--steps", "100", "--frames", "33"], "--frames 33: expected a divisor of --steps 100"),
        (["--steps", "100", "--steps-per-invocation", "150"], "expected a multiple of --steps 100"),
        (["--engine", "gromacs"], "expected one of openmm, "),
        (["--sequence", "GXP"], "expected one-letter codes of amino acids"),
        (["--tempratures", "300"], "unrecognized arguments: --tempratures"),
        (["--seed", "-1"], "--md-seed -1: expected a whole number from 0"),
        (["--sequence", "GG", "--pdb", "a.pdb"], "--sequence GG and --pdb are two molecules; give one of them"),
        (["--prmtop", "a", "--inpcrd", "b", "--force-field", "amber03"], "--prmtop has its own; drop it"),
        (["--platform", "CPU"], "--platform is of engine openmm; harmonic has it not: drop it"),
        (["--pdb", "a.pdb"], "--pdb is of engine openmm or protomol; harmonic has it not: drop it"),
        (["--engine", "openmm", "--dof", "9"], "--dof is of engine harmonic; openmm has it not: drop it"),
        (["--engine", "openmm", "--protomol", "P"], "--protomol is of engine protomol; openmm has it not: drop it"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_anything_is_written(remd, tmp_path, capsys, arguments, said):
    status = remd("run", "--engine", "harmonic", *arguments, "--output", "a")

    err = capsys.readouterr().err
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_of_a_file_names_the_nearest(remd, tmp_path, capsys):
    (tmp_path / "campaign.toml").write_text("[ladder]\ntemprature = [300]\n")

    assert remd("run", "--config", "campaign.toml") == 2
    assert "[ladder] has no setting 'temprature' (is it 'temperatures'?)" in capsys.readouterr().err


def test_a_file_says_all_that_flags_say(figures, tmp_path):
    (tmp_path / "campaign.toml").write_text(
        '[system]\nengine = "harmonic"\ndof = 12\n[md]\nsteps = 100\nseed = 4\n[ladder]\ntemperatures = [300, 340.5]\n'
        '[exchange]\nrounds = 5\nscheme = "gibbs"\n[output]\nframes = 50\n[execution]\noutput = "a"\n'
    )

    found = figures("run", "--config", "campaign.toml")

    assert [state["temperature"] for state in found["states"]] == [300.0, 340.5]
    assert len(list((tmp_path / "a" / "frames").iterdir())) == 5


def test_a_lost_record_in_the_middle_is_named(remd, tmp_path, capsys):
    remd("run", *HARMONIC, "--rounds", "4", "--output", "a")
    (tmp_path / "a" / "rounds" / "00000002.json").unlink()

    for command in ("status", "verify", "report"):
        assert remd(command, "a") == 2
        assert (
            "rounds/00000002.json is missing, and later rounds are there; restore it, or begin"
            in capsys.readouterr().err
        )


def test_a_record_that_is_committed_while_records_are_listed_is_not_missing(remd, tmp_path, monkeypatch):
    remd("run", *HARMONIC, "--rounds", "4", "--output", "a")
    storage, listings = open_storage(str(tmp_path / "a")), []
    whole = storage.list

    def listed(prefix):
        listings.append(prefix)
        return (info for info in whole(prefix) if len(listings) > 1 or info.key != "rounds/00000002.json")

    monkeypatch.setattr(storage, "list", listed)

    assert last_round(storage) == 4


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 1}', b'{"format": 9}', b"\xff\x00"])
def test_a_damaged_record_is_named(remd, tmp_path, capsys, content):
    remd("run", *HARMONIC, "--rounds", "2", "--output", "a")
    (tmp_path / "a" / "rounds" / "00000002.json").write_bytes(content)

    assert remd("resume", "a", "--rounds", "3") == 2
    assert "rounds/00000002.json" in capsys.readouterr().err


def test_status_tells_rounds_and_mixing_of_a_run_that_was_stopped(figures, remd, tmp_path, monkeypatch):
    remd("run", *HARMONIC, "--rounds", "6", "--output", "a")
    (tmp_path / "a" / "rounds" / "00000006.json").unlink()
    (tmp_path / "a" / "result.json").unlink()

    found = figures("status", "a")

    assert (found["state"], found["rounds"], found["rounds_asked"]) == ("interrupted", 5, 6)
    assert found["recent"]["rounds"] == 5


def test_a_report_can_be_made_again_of_a_run_that_was_stopped(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "6", "--output", "a")
    before = {name: (tmp_path / "a" / name).read_bytes() for name in ("exchange.csv", "report.html", "u_kn.npz")}
    for name in before:
        (tmp_path / "a" / name).unlink()

    assert remd("report", "a") == 0

    assert {name: (tmp_path / "a" / name).read_bytes() for name in before} == before


def test_commands_that_read_a_run_name_a_place_that_has_none(remd, capsys):
    for command in ("status", "report", "verify", "resume"):
        assert remd(command, "nowhere") == 2
        assert "there is no run in nowhere" in capsys.readouterr().err


def test_a_pair_that_hardly_swaps_is_named_with_a_ladder_that_would(figures, remd, capsys):
    arguments = ("--engine", "harmonic", "--dof", "200", "--temperatures", "300,400,440", "--rounds", "60")

    found = figures("run", *arguments, "--output", "a")
    remd("status", "a")

    said = capsys.readouterr().out
    assert "Swaps between 300 and 400 K are accepted in" in said
    assert "would be accepted everywhere with --temperatures 300.00," in said
    assert (found["proposed"][0], found["proposed"][-1]) == (300.0, 440.0)
    assert len(found["proposed"]) > 3


def test_a_state_that_was_lost_or_damaged_and_deleted_is_computed_again(remd, tmp_path, capsys):
    arguments = ("run", *HARMONIC, "--dynamics", "langevin")
    remd(*arguments, "--rounds", "5", "--output", "whole")
    remd(*arguments, "--rounds", "3", "--output", "a")
    state = next((tmp_path / "a" / "state" / "00000003").glob("0001-*"))
    state.write_bytes(state.read_bytes()[:300])

    assert remd("resume", "a", "--rounds", "5") == 2
    assert f"{state.name} is damaged: its content has changed; delete it, and resume the run" in capsys.readouterr().err
    state.unlink()
    assert remd("resume", "a", "--rounds", "5") == 0

    assert history(tmp_path / "a") == history(tmp_path / "whole")


def test_rounds_whose_prepared_system_is_gone_are_not_gone_on_with(remd, tmp_path, capsys):
    remd("run", *HARMONIC, "--rounds", "3", "--output", "a")
    shutil.rmtree(tmp_path / "a" / "bundle")
    before = history(tmp_path / "a")
    capsys.readouterr()

    status = remd("resume", "a", "--rounds", "6")

    assert status == 2
    assert (
        "setup.json is missing, and 3 rounds of what it was prepared for are there; restore it"
        in capsys.readouterr().err
    )
    assert history(tmp_path / "a") == before
