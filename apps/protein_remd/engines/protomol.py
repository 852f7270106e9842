"""ProtoMol: drives the program that the user has, and believes nothing that it has not checked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from apps.protein_remd.engines import Exploded, FloatArray, Schedule, Snapshot, Trace, described
from apps.protein_remd.engines.files import check_count, coordinates, hashes, named, read_files
from apps.protein_remd.engines.structures import check_bonds
from apps.protein_remd.params import MD
from apps.protein_remd.science import protomol_files as files_of
from apps.protein_remd.science.units import BOLTZMANN
from apps.protein_remd.system import System
from core import ConfigError, FanfoldError

PROGRAM = "ProtoMol"
CANARY = Schedule(20)
SAME = 1e-5
"""nm; single precision in Angstrom."""
SHOWN = 300
"""Characters of what a program said that an error shows."""


def prepare(system: System, md: MD) -> dict[str, bytes]:
    """Return the files of a molecule for ProtoMol.

    Raises
    ------
    ConfigError
        It is not given as ProtoMol needs it.
    InputError
        A file cannot be read.
    """
    if not system.psf or len(system.parameters) != 1:
        raise ConfigError("engine protomol needs --psf FILE, --pdb FILE, and one file of --parameters")
    found = read_files([system.psf, system.pdb, *system.parameters])
    psf, pdb, par = found.values()
    with named(system.psf):
        topology = files_of.read_psf(psf.decode("utf-8", "replace"))
    start = coordinates(pdb, system.pdb)
    check_count(len(start), system.pdb, len(topology.names), system.psf)
    check_bonds(topology.bonds, start, None, lambda at: f"{topology.names[at]} of {topology.residues[at]}", system.pdb)
    array = io.BytesIO()
    np.save(array, start)
    about = {"program": system.protomol, "timestep": md.timestep, "friction": md.friction}
    shake = md.timestep > files_of.SHAKE_ABOVE
    facts = {
        "system": os.path.basename(system.psf),
        "force field": f"CHARMM: {os.path.basename(system.parameters[0])}",
        "solvent": "none",
        "cutoff": "switched off between 10 and 12 Angstrom",
        "atoms": len(start),
        "constraints": len(topology.bonds) if shake else 0,
        "residues": topology.residue_count,
        "net charge": round(topology.charge),
        "threads": 1,
        **hashes(found),
    }
    rings = sorted(set(topology.residues) & files_of.RINGS)
    if rings:
        facts["cautions"] = [
            f"ProtoMol's default exclusions count pairs within the rings of {', '.join(rings)} as if they were 1-4 "
            "neighbours: energies have constant parts of hundreds of kcal/mol, and rings are strained"
        ]
    return {
        "molecule.psf": psf,
        "molecule.par": par,
        "topology.pdb": _atoms(pdb),
        "start.npy": array.getvalue(),
        "engine.json": json.dumps(about, sort_keys=True).encode(),
        "facts.json": json.dumps(facts, sort_keys=True).encode(),
    }


def _atoms(pdb: bytes) -> bytes:
    """Return the atoms of a PDB file, which trajectories are read with."""
    lines = (line for line in pdb.decode("utf-8", "replace").splitlines() if line.startswith(("ATOM", "HETATM")))
    return "\n".join([*lines, "END", ""]).encode()


def open_system(files: Mapping[str, bytes]) -> Molecule:
    """Return the molecule ready to run."""
    about = described(files, "engine.json", "program", "timestep", "friction")
    return Molecule(find_program(about["program"]), files, about["timestep"], about["friction"])


def find_program(given: str) -> str:
    """Return the path of the program: the one given where it is there, else the one on PATH.

    Raises
    ------
    ConfigError
        There is none.
    """
    found = shutil.which(given) if given else None
    found = found or shutil.which(PROGRAM)
    if found is None:
        wanted = f"there is no program {given}, nor {PROGRAM} on PATH" if given else f"{PROGRAM} is not on PATH"
        raise ConfigError(f"{wanted}; name it with --protomol PATH, and have it where the workers are")
    return found


class Molecule:
    """A molecule that a program runs, one process a segment; see ``engines.Warm``."""

    def __init__(self, program: str, files: Mapping[str, bytes], timestep: float, friction: float) -> None:
        self._program, self._files = program, files
        self._timestep, self._friction = timestep, friction
        self._topology = files_of.read_psf(files["molecule.psf"].decode("utf-8", "replace"))
        self._start: FloatArray = np.load(io.BytesIO(files["start.npy"]))
        bonds = len(self._topology.bonds) if timestep > files_of.SHAKE_ABOVE else 0
        self.degrees = 3 * len(self._start) - bonds
        self.version = f"{PROGRAM} {hashlib.sha256(Path(program).read_bytes()).hexdigest()[:16]}"
        trial = self.run(Snapshot(self._start, np.zeros_like(self._start)), 300.0, 1, CANARY)
        self.potential, after = trial.potential, trial.snapshot
        self.canary = hashlib.sha256(after.x.tobytes() + after.v.tobytes()).hexdigest()[:16]

    def start(self, temperature: float, seed: int) -> Snapshot:
        """Return the given positions, and velocities of the temperature."""
        rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
        masses = np.array(self._topology.masses)[:, None]
        return Snapshot(self._start, rng.standard_normal(self._start.shape) * np.sqrt(BOLTZMANN * temperature / masses))

    def run(self, snapshot: Snapshot, temperature: float, seed: int, schedule: Schedule) -> Trace:
        """Run a segment; see ``engines.Warm``.

        Raises
        ------
        FanfoldError
            The program failed, or what it wrote is not what it was told to; the message has what it said.
        """
        every = schedule.energies or schedule.steps
        run = files_of.Run(schedule.steps, every, schedule.frames, temperature, self._friction, self._timestep, seed)
        velocity = files_of.ANGSTROM / files_of.TIME_UNIT
        names, atoms = self._topology.names, len(self._start)
        with tempfile.TemporaryDirectory(prefix="fanfold-") as place:
            folder = Path(place)
            for name in ("molecule.psf", "molecule.par"):
                (folder / name).write_bytes(self._files[name])
            (folder / "run.conf").write_text(files_of.configuration(run))
            (folder / "begin.pos.xyz").write_text(files_of.xyz_text(snapshot.x, names, files_of.ANGSTROM))
            (folder / "begin.vel.xyz").write_text(files_of.xyz_text(snapshot.v, names, velocity))
            said = self._execute(folder)
            try:
                energies = files_of.energies(
                    _output(folder, "run.eng.header"), _output(folder, "run.eng"), schedule.steps, every
                )
                x = files_of.read_xyz(_output(folder, "end.pos.xyz"), atoms, files_of.ANGSTROM, "end.pos.xyz")
                v = files_of.read_xyz(_output(folder, "end.vel.xyz"), atoms, velocity, "end.vel.xyz")
                frames = self._frames(folder, schedule, x)
            except files_of.BadOutput as error:
                raise FanfoldError(f"{self._program} ended with exit status 0, but {error}{said}") from None
        potential, kinetic = map(float, energies[-1])
        rows = energies if schedule.energies else np.zeros((0, 2))
        return Trace(Snapshot(x, v), potential, kinetic, rows, frames)

    def _frames(self, folder: Path, schedule: Schedule, end: FloatArray) -> npt.NDArray[np.float32]:
        """Return the frames of the trajectory, the last of which must be where the program says that it ended."""
        if not schedule.frames:
            return np.zeros((0, len(end), 3), np.float32)
        frames = files_of.read_dcd(_read(folder, "run.dcd"), len(end), schedule.steps, schedule.frames)
        if not np.allclose(frames[-1], end, rtol=1e-5, atol=SAME, equal_nan=True):
            raise files_of.BadOutput("the last frame of its trajectory is not where it ended")
        return frames

    def _execute(self, folder: Path) -> str:
        """Run the program in its folder; returns what it said, for a message."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [self._program, "run.conf"], cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
        )
        words = " ".join((done.stderr or done.stdout).split())[-SHOWN:]
        said = f"; it said: {words}" if words else ""
        if done.returncode and "nan" in words.lower():
            raise Exploded(f"{PROGRAM} met what is no number{said}")
        if done.returncode:
            ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
            raise FanfoldError(f"{self._program} ended with {ended}{said}")
        return said


def _output(folder: Path, name: str) -> str:
    return _read(folder, name).decode("utf-8", "replace")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise files_of.BadOutput(f"it wrote no {name}") from None
