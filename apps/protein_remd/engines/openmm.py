"""OpenMM: molecular dynamics of a molecule on one thread, bit for bit repeatable."""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from apps.protein_remd.engines import Exploded, FloatArray, Schedule, Snapshot, Trace, boxes, described, solvents
from apps.protein_remd.engines.files import check_numbers
from apps.protein_remd.engines.molecules import load, molecule
from apps.protein_remd.params import MD
from apps.protein_remd.system import System
from core import ConfigError

TOLERANCE = 10.0
"""kJ/(mol nm): force down to which a built peptide is minimised."""
TRIAL = 50
"""Steps by which platforms are compared."""
CANARY = Schedule(20)
FEW = 1000
"""Atoms above which the Reference platform is not tried."""
LONGEST_STEP, HEAVY_HYDROGEN = 2.5, 1.5
"""fs, and dalton. Source: Hopkins et al., J. Chem. Theory Comput. 11, 1864 (2015): 4 fs take hydrogens of 3 dalton."""
SHRUNK = "periodic box size has decreased"
"""What OpenMM says of a box that has become narrower than twice the cutoff."""
_PS_PER_FS = 1e-3


def prepare(system: System, md: MD) -> dict[str, bytes]:
    """Read or build a molecule, minimise it, and choose the platform.

    Returns
    -------
    dict
        ``system.xml``, ``topology.pdb``, ``start.npy`` (positions in nm), ``facts.json``, ``engine.json``.
    """
    openmm = load(system.threads)
    app, unit = openmm.app, openmm.unit
    found = molecule(system, md.seed, md.pressure)
    made = found.system
    xml = openmm.XmlSerializer.serialize(made)
    check_numbers(xml, found.positions, system.psf or system.prmtop or system.pdb or system.sequence)
    start = _minimised(openmm, made, found.positions)
    platform = (
        system.platform if system.platform != "fastest" else _fastest(system, made.getNumParticles(), xml, md, start)
    )
    topology = io.StringIO()
    app.PDBFile.writeFile(found.topology, start * unit.nanometer, topology, keepIds=True)
    array = io.BytesIO()
    np.save(array, start)
    about = {"platform": platform, "threads": system.threads, "timestep": md.timestep, "friction": md.friction}
    charge = _charge(openmm, made)
    facts = {
        **found.about,
        "solvent": solvents.solvent_sentence(system, found.topology),
        **boxes.box_facts(made, boxes.nonbonded(system)),
        **({} if md.pressure is None else {"pressure": f"{md.pressure:g} bar"}),
        "platform": platform,
        "threads": system.threads,
        "bitwise": not system.no_bitwise,
        "atoms": made.getNumParticles(),
        "constraints": made.getNumConstraints(),
        "residues": found.topology.getNumResidues(),
        "net charge": round(charge),
    }
    cautions = [*found.cautions, *solvents.cautions(system, charge), *_of_time_step(made, md.timestep)]
    if cautions:
        facts["cautions"] = cautions
    return {
        "system.xml": xml.encode(),
        # The first line has the day on which it was written.
        "topology.pdb": topology.getvalue().partition("\n")[2].encode(),
        "start.npy": array.getvalue(),
        "engine.json": json.dumps(about, sort_keys=True).encode(),
        "facts.json": json.dumps(facts, sort_keys=True).encode(),
    }


def open_system(files: Mapping[str, bytes]) -> Simulation:
    """Return the molecule ready to run."""
    about = described(files, "engine.json", "platform", "threads", "timestep", "friction")
    return Simulation(files["system.xml"].decode(), np.load(io.BytesIO(files["start.npy"])), **about)


def _minimised(openmm: Any, system: Any, positions: Any) -> FloatArray:
    """Return positions in nm, minimised and with constraints applied."""
    integrator = openmm.VerletIntegrator(1e-3)
    # The Reference platform is the more exact one, and takes minutes where the other takes seconds.
    small = system.getNumParticles() <= FEW
    name, properties = ("Reference", {}) if small else ("CPU", {"Threads": "1"})
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(name), properties)
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context, TOLERANCE)
    context.applyConstraints(integrator.getConstraintTolerance())
    found = context.getState(getPositions=True).getPositions(asNumpy=True)
    return np.array(found.value_in_unit(openmm.unit.nanometer))


def _fastest(given: System, particles: int, xml: str, md: MD, start: FloatArray) -> str:
    """Return the platform on which a few steps take the least CPU."""
    if particles > FEW or given.threads > 1:
        return "CPU"
    taken = {}
    for name in ("Reference", "CPU"):
        simulation = Simulation(xml, start, name, 1, md.timestep, md.friction)
        snapshot = simulation.start(300.0, 1)
        began = time.process_time()
        simulation.run(snapshot, 300.0, 1, Schedule(TRIAL))
        taken[name] = time.process_time() - began
    return min(taken, key=lambda name: taken[name])


def _of_time_step(system: Any, timestep: float) -> list[str]:
    masses = (system.getParticleMass(index)._value for index in range(system.getNumParticles()))
    lightest = min((mass for mass in masses if mass > 0), default=math.inf)
    if timestep <= LONGEST_STEP or lightest >= HEAVY_HYDROGEN:
        return []
    return [
        f"a time step of {timestep:g} fs is long for atoms of {lightest:.3g} dalton, and its error in energies is not "
        "measured here: 2 fs is usual, and 4 fs where hydrogens have been given more mass, as prmtop files may have it"
    ]


def _charge(openmm: Any, system: Any) -> float:
    nonbonded = solvents.charges_of(system)
    charges = (nonbonded.getParticleParameters(index)[0] for index in range(nonbonded.getNumParticles()))
    return float(sum(charge.value_in_unit(openmm.unit.elementary_charge) for charge in charges))


def _platform(openmm: Any, name: str) -> Any:
    try:
        return openmm.Platform.getPlatformByName(name)
    except openmm.OpenMMException:
        there = [openmm.Platform.getPlatform(at).getName() for at in range(openmm.Platform.getNumPlatforms())]
        raise ConfigError(
            f"OpenMM here has no platform {name}, with which the run was begun, but {', '.join(there)}; use "
            "machines that have it"
        ) from None


def _another(seed: int) -> int:
    """Return another seed of the same range, 1 to 2^31 - 1: with the same one a barostat would draw what atoms draw."""
    return 1 + seed * 48271 % (2**31 - 1)


class Simulation:
    """A molecule with a context that is kept warm; see ``engines.Warm``.

    Before every segment the context is put back so that what follows equals, to the bit, what a fresh one does.
    """

    def __init__(
        self, system: str, start: FloatArray, platform: str, threads: int, timestep: float, friction: float
    ) -> None:
        openmm = self._openmm = load(threads)
        self._start = start
        loaded = openmm.XmlSerializer.deserialize(system)
        masses = [loaded.getParticleMass(index)._value for index in range(loaded.getNumParticles())]
        self.degrees = 3 * sum(mass > 0 for mass in masses) - loaded.getNumConstraints()
        self._integrator = openmm.LangevinMiddleIntegrator(300.0, friction, timestep * _PS_PER_FS)
        properties = {"Threads": str(threads)} if platform == "CPU" else {}
        self._context = openmm.Context(loaded, self._integrator, _platform(openmm, platform), properties)
        self._box = boxes.default_box(loaded) if loaded.usesPeriodicBoundaryConditions() else None
        self._seeded = [force for force in loaded.getForces() if hasattr(force, "setRandomNumberSeed")]
        self._barostat = any(isinstance(force, openmm.MonteCarloBarostat) for force in self._seeded)
        release = ".".join(openmm.Platform.getOpenMMVersion().split(".")[:2])
        self.version = f"OpenMM {release}, {platform} platform, {threads} thread{'s' * (threads > 1)}"
        fixed = Snapshot(start, np.zeros_like(start), self._box)
        self.canary = "none"
        trial = self.run(fixed, 300.0, 1, CANARY)
        self.potential, after = trial.potential, trial.snapshot
        self.canary = hashlib.sha256(after.x.tobytes() + after.v.tobytes()).hexdigest()[:16]

    def start(self, temperature: float, seed: int) -> Snapshot:
        """Return the prepared positions, and velocities of the temperature that fulfil the constraints."""
        self._reset(Snapshot(self._start, np.zeros_like(self._start), self._box), temperature, seed)
        self._context.setVelocitiesToTemperature(temperature, seed)
        return Snapshot(self._start, self._state().snapshot.v, self._box)

    def run(self, snapshot: Snapshot, temperature: float, seed: int, schedule: Schedule) -> Trace:
        """Run a segment; see ``engines.Warm``."""
        self._reset(snapshot, temperature, seed)
        energies, frames, boxes = [], [], []
        every = [interval for interval in (schedule.energies, schedule.frames) if interval]
        done = 0
        stops = {schedule.steps}.union(*(range(each, schedule.steps, each) for each in every))
        for stop in sorted(stops):
            try:
                self._integrator.step(stop - done)
            except self._openmm.OpenMMException as error:
                said = str(error).lower()
                if SHRUNK in said:
                    raise Exploded("its box has shrunk below twice the cutoff: it needs a larger box") from None
                if "nan" in said:
                    raise Exploded(str(error)) from None
                raise
            done, trace = stop, self._state()
            if schedule.energies and stop % schedule.energies == 0:
                energies.append((trace.potential, trace.kinetic))
            if schedule.frames and stop % schedule.frames == 0:
                frames.append(trace.snapshot.x.astype(np.float32))
                boxes.append(trace.snapshot.box)
        return Trace(
            trace.snapshot,
            trace.potential,
            trace.kinetic,
            np.array(energies, dtype=np.float64).reshape(-1, 2),
            np.array(frames, dtype=np.float32).reshape(len(frames), len(self._start), 3),
            None if self._box is None else np.array(boxes, dtype=np.float32).reshape(-1, 3, 3),
        )

    def close(self) -> None:
        """Let go of the context."""
        del self._context, self._integrator

    def _reset(self, snapshot: Snapshot, temperature: float, seed: int) -> None:
        self._integrator.setTemperature(temperature)
        self._integrator.setRandomNumberSeed(seed)
        for force in self._seeded:
            force.setRandomNumberSeed(_another(seed))
        # Neither keeping the state nor leaving this out equals a fresh context.
        self._context.reinitialize(False)
        if snapshot.box is not None:
            self._context.setPeriodicBoxVectors(*snapshot.box)
        if self._barostat:
            # Which reinitialising has put back to that of the system.
            self._context.setParameter(self._openmm.MonteCarloBarostat.Temperature(), temperature)
        self._context.setPositions(snapshot.x)
        self._context.setVelocities(snapshot.v)

    def _state(self) -> Trace:
        state = self._context.getState(getPositions=True, getVelocities=True, getEnergy=True)
        x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
        box = None if self._box is None else np.array(state.getPeriodicBoxVectors(asNumpy=True)._value)
        snapshot = Snapshot(np.array(x), np.array(v), box)
        potential, kinetic = state.getPotentialEnergy()._value, state.getKineticEnergy()._value
        return Trace(snapshot, float(potential), float(kinetic), np.zeros((0, 2)), np.zeros((0, 0, 3), np.float32))
