"""What is read out of a run: averages by MBAR, with a verdict, and trajectories."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from apps.protein_remd.frames import Watched
from apps.protein_remd.history import read_history
from apps.protein_remd.segments import unpacked
from core import open_storage
from tests.apps.protein_remd.conftest import HARMONIC, ROOT

KELVIN = 8.31446261815324e-3

THREADS = """
import os, runpy
try:
    runpy.run_module("apps.protein_remd", run_name="__main__")
except SystemExit as end:
    print(end.code, len(os.listdir("/proc/self/task")))
"""


def without_threads():
    chosen = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    return {**chosen, "PYTHONPATH": str(ROOT)}


def test_mbar_gives_the_exact_energies_and_free_energies_of_oscillators(remd, figures):
    pytest.importorskip("pymbar", reason="needs pymbar: pip install 'fanfold[remd]'")
    remd("run", *HARMONIC, "--rounds", "150", "--output", "a")

    found = figures("analyze", "a")

    for row in found["states"]:
        t = row["temperature"]
        assert abs(row["potential"] - 6 * KELVIN * t) < 4 * row["potential_error"]
        assert abs(row["free_energy"] + 6 * math.log(t / 300.0)) <= 4 * row["free_energy_error"]
        assert row["effective_samples"] > found["samples"] / 3
    assert found["converged"], found["checks"]


def test_mbar_takes_one_thread_of_the_processors_that_workers_have(remd, tmp_path):
    pytest.importorskip("pymbar", reason="needs pymbar: pip install 'fanfold[remd]'")
    remd("run", *HARMONIC, "--rounds", "10", "--output", "a")

    done = subprocess.run(
        [sys.executable, "-c", THREADS, "analyze", "a"],
        capture_output=True,
        text=True,
        env=without_threads(),
        cwd=tmp_path,
    )

    assert done.stdout.splitlines()[-1] == "0 1", done.stderr


def test_replicas_that_do_not_travel_are_no_converged_campaign(remd, figures):
    pytest.importorskip("pymbar", reason="needs pymbar: pip install 'fanfold[remd]'")
    arguments = ("--engine", "harmonic", "--dof", "150", "--temperatures", "300,400,500", "--rounds", "12")
    remd("run", *arguments, "--output", "a")

    found = figures("analyze", "a", "--discard", "0")

    assert not found["converged"]
    failed = {check["name"] for check in found["checks"] if not check["ok"]}
    assert "replicas travel" in failed


def test_temperatures_without_any_overlap_are_said_to_have_none(remd, figures):
    pytest.importorskip("pymbar", reason="needs pymbar: pip install 'fanfold[remd]'")
    remd("run", "--engine", "harmonic", "--dof", "300", "--temperatures", "300,600", "--rounds", "10", "--output", "a")

    found = figures("analyze", "a", "--discard", "0")

    assert not found["converged"]
    assert found["overlap"][0] < 1e-6
    failed = {check["name"] for check in found["checks"] if not check["ok"]}
    assert {"every pair swaps", "neighbours overlap", "replicas travel"} <= failed


def test_every_picture_of_a_report_shows_something(drawn, remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "12", "--output", "a")

    page = (tmp_path / "a" / "report.html").read_text()
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    pixels = [imread(io.BytesIO(base64.b64decode(each))) for each in found]
    assert len(pixels) == 7
    assert all(each.shape[:2] == (440, 704) and each[..., :3].std() > 0.05 for each in pixels)


@pytest.mark.parametrize(
    "given",
    [
        ("--temperatures", "300", "--rounds", "1"),
        ("--temperatures", "300,301", "--rounds", "1"),
        ("--temperatures", "10,5000", "--rounds", "3"),
        ("--temperatures", "300,350,410", "--rounds", "2", "--scheme", "gibbs", "--pressure", "1"),
    ],
)
def test_pictures_are_drawn_of_any_history(drawn, remd, tmp_path, given):
    assert remd("run", *HARMONIC[:4], *given, "--output", "a") == 0

    assert (tmp_path / "a" / "report.html").read_text().count("data:image/png") >= 6


def test_a_history_has_the_map_that_held_during_each_round(remd, tmp_path):
    remd("run", *HARMONIC, "--rounds", "12", "--output", "a")

    history = read_history(open_storage(str(tmp_path / "a")))

    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "a" / "rounds").iterdir())]
    assert history.replica_at.tolist() == [record["replica_at"] for record in records]
    for record, states, energies in zip(records, history.state_of, history.potential, strict=True):
        for replica, state in enumerate(states):
            assert record["replica_at"][state] == replica
            assert energies[state] == record["segments"][replica]["potential"]


def test_too_few_rounds_are_not_analysed(remd, capsys):
    remd("run", *HARMONIC, "--rounds", "9", "--output", "a")

    assert remd("analyze", "a") == 2
    assert "run a has 9 rounds; at least 10 can be analysed" in capsys.readouterr().err


def test_runs_without_frames_or_without_atoms_have_no_trajectory(remd, capsys):
    remd("run", *HARMONIC, "--rounds", "1", "--output", "a")
    remd("run", *HARMONIC, "--rounds", "1", "--frames", "250", "--output", "b")

    assert remd("demux", "a") == 2
    assert "run a keeps no frames; begin one with --frames STEPS" in capsys.readouterr().err
    assert remd("demux", "b") == 2
    assert "oscillators have no trajectory" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["dcd", "xtc"])
def test_trajectories_are_continuous_by_replica_and_by_temperature(remd, figures, tmp_path, kind):
    pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")
    mdtraj = pytest.importorskip("mdtraj", reason="needs mdtraj: pip install 'fanfold[remd]'")
    remd(
        "run", "--platform", "Reference", "--temperatures", "300,350", "--steps", "20", "--frames", "10", "--rounds",
        "5", "--output", "a",
    )  # fmt: skip

    found = figures("demux", "a", "--format", kind)

    assert found["frames"] == {
        f"replica-000.{kind}": 10, f"replica-001.{kind}": 10,
        f"temperature-000-300.00K.{kind}": 10, f"temperature-001-350.00K.{kind}": 10,
    }  # fmt: skip
    folder = tmp_path / "a" / "trajectories"
    read = {name: mdtraj.load(str(folder / name), top=str(folder / "topology.pdb")).xyz for name in found["frames"]}
    for replica in (0, 1):
        pieces = [next((tmp_path / "a" / "frames" / f"{n:08d}").glob(f"{replica:04d}-*")) for n in range(1, 6)]
        whole = np.concatenate([unpacked(piece.read_bytes(), "piece")["frames"] for piece in pieces])
        assert read[f"replica-{replica:03d}.{kind}"] == pytest.approx(whole, abs=2e-3)
    both = np.concatenate([read[f"replica-00{n}.{kind}"] for n in (0, 1)])
    other = np.concatenate([read[f"temperature-000-300.00K.{kind}"], read[f"temperature-001-350.00K.{kind}"]])
    assert sorted(map(bytes, both)) == sorted(map(bytes, other))


def test_cis_bonds_and_carbons_that_turned_over_are_counted_and_told():
    from apps.protein_remd.science.peptide import build, pdb_text

    residues = build("AA")
    topology = pdb_text(residues).encode()
    x = np.array([place for _, atoms in residues for place in atoms.values()]) / 10.0
    watched = Watched(topology)

    watched.look(np.stack([x, -x]).astype(np.float32))

    assert (watched.frames, watched.cis, watched.inverted) == (2, 0, 2)
    assert watched.warnings() == [
        "50.00% of the alpha carbons, over all frames, have turned over between L and D; lower the highest T"
    ]
    alanine, after = (residues[at][1] for at in (1, 2))
    names = [(number, name) for number, (_, atoms) in enumerate(residues) for name in atoms]
    axis, begin = after["N"] - alanine["C"], alanine["C"]
    unit = axis / np.linalg.norm(axis)
    turned = x.copy()
    for at, (number, name) in enumerate(names):
        if number > 2 or (number == 2 and name != "N"):
            along = 10.0 * x[at] - begin
            turned[at] = (begin + 2 * np.dot(along, unit) * unit - along) / 10.0
    watched = Watched(topology)
    watched.look(turned[None].astype(np.float32))
    assert watched.cis == 1
    assert "33.33% of the peptide bonds, over all frames, have turned between trans and cis" in watched.warnings()[0]


def mirrored(text: str) -> str:
    """Return a structure with its x negated: of D amino acids."""
    return "".join(
        f"{line[:30]}{-float(line[30:38]):8.3f}{line[38:]}" if line.startswith("ATOM") else line
        for line in text.splitlines(True)
    )


def test_d_amino_acids_that_a_structure_began_with_are_no_change():
    from apps.protein_remd.science.peptide import build, pdb_text

    text = mirrored(pdb_text(build("AA")))
    x = np.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in text.splitlines() if "ATOM" in line])
    watched = Watched(text.encode())

    watched.look((x[None] / 10.0).astype(np.float32))

    assert (watched.cis, watched.inverted, watched.warnings()) == (0, 0, [])


def test_no_peptide_bond_goes_from_one_chain_to_the_next():
    from apps.protein_remd.science.peptide import build, pdb_text

    one = [line for line in pdb_text(build("AA")).splitlines(True) if line.startswith("ATOM")]
    other = [f"{line[:21]}B{line[22:30]}{float(line[30:38]) + 40:8.3f}{line[38:]}" for line in one if "ACE" not in line]
    text = "".join([*(line for line in one if "NME" not in line), "TER\n", *other])
    x = np.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in text.splitlines() if "ATOM" in line])
    watched = Watched(text.encode())

    watched.look(np.stack([x, x + [[7.0, 0.0, 0.0]]]).astype(np.float32) / 10.0)

    # From the cap to the second residue in the first chain, from the first to the cap in the second.
    assert watched._omega.shape == (4, 4)
    assert watched.cis == 0


def test_hot_replicas_that_isomerise_are_told_by_the_report(remd, figures, tmp_path):
    pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

    found = figures(
        "run", "--sequence", "AA", "--platform", "Reference", "--temperatures", "300,3000", "--timestep", "0.5",
        "--steps", "1500", "--frames", "100", "--rounds", "6", "--output", "a",
    )  # fmt: skip

    assert found["isomers"]["frames"] == 180
    assert found["isomers"]["cis"] > 0
    assert "have turned between trans and cis" in (tmp_path / "a" / "report.html").read_text()


def test_cold_replicas_do_not_isomerise(remd, figures, tmp_path):
    pytest.importorskip("openmm", reason="needs OpenMM: pip install 'fanfold[remd]'")

    found = figures(
        "run", "--sequence", "AA", "--platform", "Reference", "--temperatures", "300,330", "--steps", "200",
        "--frames", "50", "--rounds", "4", "--output", "a",
    )  # fmt: skip

    assert found["isomers"] == {"frames": 32, "cis": 0, "inverted": 0}
