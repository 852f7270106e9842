"""OpenMM: molecular dynamics of proteins in implicit water, one thread, bit for bit repeatable."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from apps.protein_remd.engines import Exploded, FloatArray, Schedule, Snapshot, Trace
from apps.protein_remd.params import MD, System
from apps.protein_remd.science.peptide import build, pdb_text
from core import ConfigError

FORCE_FIELD = "amber14/protein.ff14SB.xml"
SOLVENT_DIELECTRIC = 78.5
"""That of Amber and of ``implicit/obc2.xml``; the native force has 78.3 by itself."""
TOLERANCE = 10.0
"""kJ/(mol nm): force down to which a built peptide is minimised."""
TRIAL = 50
"""Steps by which platforms are compared."""
CANARY = Schedule(20)
_PS_PER_FS = 1e-3


def load() -> Any:
    """Return the package, set to one thread.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    # The reciprocal part of PME heeds the variable alone, and reads it when the first context is made.
    os.environ["OPENMM_CPU_THREADS"] = "1"
    try:
        import openmm.app
    except ImportError:
        raise ConfigError(
            "engine openmm needs OpenMM: pip install 'fanfold[remd]' (--engine harmonic needs nothing)"
        ) from None
    return openmm


def prepare(system: System, md: MD) -> dict[str, bytes]:
    """Build a capped peptide, minimise it, and choose the platform.

    Returns
    -------
    dict
        ``system.xml``, ``topology.pdb``, ``start.npy`` (positions in nm), ``facts.json``, ``engine.json``.
    """
    openmm = load()
    app, unit = openmm.app, openmm.unit
    field = app.ForceField(FORCE_FIELD)
    built = app.PDBFile(io.StringIO(pdb_text(build(system.sequence))))
    modeller = app.Modeller(built.topology, built.positions)
    reference = openmm.Platform.getPlatformByName("Reference")
    with seeded(md.seed):
        modeller.addHydrogens(field, platform=reference)
    made = field.createSystem(
        modeller.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, removeCMMotion=False
    )
    add_obc2(made, modeller.topology)
    start = _minimised(openmm, made, modeller.positions)
    platform = system.platform if system.platform != "fastest" else _fastest(openmm, made, md, start)
    topology = io.StringIO()
    app.PDBFile.writeFile(modeller.topology, start * unit.nanometer, topology, keepIds=True)
    array = io.BytesIO()
    np.save(array, start)
    about = {"platform": platform, "timestep": md.timestep, "friction": md.friction}
    facts = {
        "system": f"{system.sequence} with capped ends",
        "force field": "ff14SB, OBC2 implicit water (native force)",
        "platform": platform,
        "threads": 1,
        "atoms": made.getNumParticles(),
        "constraints": made.getNumConstraints(),
        "residues": modeller.topology.getNumResidues(),
        "net charge": round(_charge(openmm, made)),
    }
    return {
        "system.xml": openmm.XmlSerializer.serialize(made).encode(),
        # The first line has the day on which it was written.
        "topology.pdb": topology.getvalue().partition("\n")[2].encode(),
        "start.npy": array.getvalue(),
        "engine.json": json.dumps(about, sort_keys=True).encode(),
        "facts.json": json.dumps(facts, sort_keys=True).encode(),
    }


def open_system(files: Mapping[str, bytes]) -> Molecule:
    """Return the molecule ready to run."""
    about = json.loads(files["engine.json"])
    return Molecule(files["system.xml"].decode(), np.load(io.BytesIO(files["start.npy"])), **about)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set the generators of Python and numpy, which placing hydrogens draws from, and put them back."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def add_obc2(system: Any, topology: Any) -> None:
    """Add OBC2 implicit water by OpenMM's native force, which is about six times as fast as the custom one.

    Its parameters are those of ``implicit/obc2.xml``, its surface term is its own default.
    """
    openmm = load()
    from openmm.app.internal.customgbforces import GBSAOBC2Force

    (nonbonded,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    nonbonded.setReactionFieldDielectric(1.0)
    force = openmm.GBSAOBCForce()
    force.setSolventDielectric(SOLVENT_DIELECTRIC)
    for index, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(topology)):
        force.addParticle(nonbonded.getParticleParameters(index)[0], radius, scale)
    system.addForce(force)


def _minimised(openmm: Any, system: Any, positions: Any) -> FloatArray:
    """Return positions in nm, minimised on the Reference platform and with constraints applied."""
    integrator = openmm.VerletIntegrator(1e-3)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, TOLERANCE)
    context.applyConstraints(integrator.getConstraintTolerance())
    found = context.getState(getPositions=True).getPositions(asNumpy=True)
    return np.array(found.value_in_unit(openmm.unit.nanometer))


def _fastest(openmm: Any, system: Any, md: MD, start: FloatArray) -> str:
    """Return the platform on which a few steps take the least CPU."""
    taken = {}
    xml = openmm.XmlSerializer.serialize(system)
    for name in ("Reference", "CPU"):
        molecule = Molecule(xml, start, name, md.timestep, md.friction)
        snapshot = molecule.start(300.0, 1)
        began = time.process_time()
        molecule.run(snapshot, 300.0, 1, Schedule(TRIAL))
        taken[name] = time.process_time() - began
    return min(taken, key=lambda name: taken[name])


def _charge(openmm: Any, system: Any) -> float:
    (nonbonded,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    charges = (nonbonded.getParticleParameters(index)[0] for index in range(nonbonded.getNumParticles()))
    return float(sum(charge.value_in_unit(openmm.unit.elementary_charge) for charge in charges))


class Molecule:
    """A molecule with a context that is kept warm; see ``engines.Warm``.

    Before every segment the context is put back so that what follows equals, to the bit, what a fresh one does.
    """

    def __init__(self, system: str, start: FloatArray, platform: str, timestep: float, friction: float) -> None:
        openmm = self._openmm = load()
        self._start = start
        loaded = openmm.XmlSerializer.deserialize(system)
        masses = [loaded.getParticleMass(index)._value for index in range(loaded.getNumParticles())]
        self.degrees = 3 * sum(mass > 0 for mass in masses) - loaded.getNumConstraints()
        self._integrator = openmm.LangevinMiddleIntegrator(300.0, friction, timestep * _PS_PER_FS)
        chosen = openmm.Platform.getPlatformByName(platform)
        properties = {"Threads": "1"} if platform == "CPU" else {}
        self._context = openmm.Context(loaded, self._integrator, chosen, properties)
        self._box = loaded.getDefaultPeriodicBoxVectors()
        release = ".".join(openmm.Platform.getOpenMMVersion().split(".")[:2])
        self.version = f"OpenMM {release}, {platform} platform, 1 thread"
        fixed = Snapshot(start, np.zeros_like(start))
        self.canary = "none"
        after = self.run(fixed, 300.0, 1, CANARY).snapshot
        self.canary = hashlib.sha256(after.x.tobytes() + after.v.tobytes()).hexdigest()[:16]

    def start(self, temperature: float, seed: int) -> Snapshot:
        """Return the prepared positions, and velocities of the temperature that fulfil the constraints."""
        self._reset(Snapshot(self._start, np.zeros_like(self._start)), temperature, seed)
        self._context.setVelocitiesToTemperature(temperature, seed)
        return Snapshot(self._start, self._state().snapshot.v)

    def run(self, snapshot: Snapshot, temperature: float, seed: int, schedule: Schedule) -> Trace:
        """Run a segment; see ``engines.Warm``."""
        self._reset(snapshot, temperature, seed)
        energies, frames = [], []
        every = [interval for interval in (schedule.energies, schedule.frames) if interval]
        done = 0
        stops = {schedule.steps}.union(*(range(each, schedule.steps, each) for each in every))
        for stop in sorted(stops):
            try:
                self._integrator.step(stop - done)
            except self._openmm.OpenMMException as error:
                if "nan" in str(error).lower():
                    raise Exploded(str(error)) from None
                raise
            done, trace = stop, self._state()
            if schedule.energies and stop % schedule.energies == 0:
                energies.append((trace.potential, trace.kinetic))
            if schedule.frames and stop % schedule.frames == 0:
                frames.append(trace.snapshot.x.astype(np.float32))
        return Trace(
            trace.snapshot,
            trace.potential,
            trace.kinetic,
            np.array(energies, dtype=np.float64).reshape(-1, 2),
            np.array(frames, dtype=np.float32).reshape(len(frames), len(self._start), 3),
        )

    def close(self) -> None:
        """Let go of the context."""
        del self._context, self._integrator

    def _reset(self, snapshot: Snapshot, temperature: float, seed: int) -> None:
        self._integrator.setTemperature(temperature)
        self._integrator.setRandomNumberSeed(seed)
        # Neither keeping the state nor leaving this out equals a fresh context.
        self._context.reinitialize(False)
        self._context.setPeriodicBoxVectors(*self._box)
        self._context.setPositions(snapshot.x)
        self._context.setVelocities(snapshot.v)

    def _state(self) -> Trace:
        state = self._context.getState(getPositions=True, getVelocities=True, getEnergy=True)
        x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
        snapshot = Snapshot(np.array(x), np.array(v))
        potential, kinetic = state.getPotentialEnergy()._value, state.getKineticEnergy()._value
        return Trace(snapshot, float(potential), float(kinetic), np.zeros((0, 2)), np.zeros((0, 0, 3), np.float32))
