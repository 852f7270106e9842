"""Independent harmonic oscillators, exactly: for demonstrations, tests and the self-check; needs no file.

At constant pressure as many particles of an ideal gas share their heat bath, in a box of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from apps.protein_remd.engines import FloatArray, Schedule, Snapshot, Trace, described
from apps.protein_remd.params import MD
from apps.protein_remd.science import harmonic
from apps.protein_remd.system import System

PS_PER_FS = 1e-3


def prepare(system: System, md: MD) -> dict[str, bytes]:
    """Return what describes the oscillators."""
    about = {"dof": system.dof, "dynamics": system.dynamics, "timestep": md.timestep, "friction": md.friction,
             "pressure": md.pressure}  # fmt: skip
    return {"oscillators.json": json.dumps(about, sort_keys=True).encode()}


def open_system(files: Mapping[str, bytes]) -> Oscillators:
    """Return the oscillators ready to run."""
    return Oscillators(**described(files, "oscillators.json", "dof", "dynamics", "timestep", "friction", "pressure"))


class Oscillators:
    """Oscillators in a heat bath; see ``engines.Warm``."""

    def __init__(self, dof: int, dynamics: str, timestep: float, friction: float, pressure: float | None) -> None:
        self.version = f"numpy {'.'.join(np.__version__.split('.')[:2])}"
        self.degrees, self._pressure = dof, pressure
        self._draws, self._timestep, self._friction = dynamics == "boltzmann", timestep * PS_PER_FS, friction
        fixed = self.start(300.0, 1)
        trial = self.run(fixed, 300.0, 1, Schedule(20))
        self.potential, after = trial.potential, trial.snapshot
        self.canary = hashlib.sha256(after.x.tobytes() + after.v.tobytes()).hexdigest()[:16]

    def start(self, temperature: float, seed: int) -> Snapshot:
        """Return positions and velocities of the temperature."""
        rng = _generator(seed)
        return Snapshot(*harmonic.boltzmann(self.degrees, temperature, rng), self._box(temperature, rng))

    def run(self, snapshot: Snapshot, temperature: float, seed: int, schedule: Schedule) -> Trace:
        """Run a segment; see ``engines.Warm``."""
        rng = _generator(seed)
        x, v = snapshot.x, snapshot.v
        stops = sorted(
            {schedule.steps}.union(
                *(range(every, schedule.steps + 1, every) for every in (schedule.energies, schedule.frames) if every)
            )
        )
        energies, frames, boxes, before = [], [], [], 0
        box = snapshot.box
        for stop in stops:
            if self._draws:
                x, v = harmonic.boltzmann(self.degrees, temperature, rng)
                box = self._box(temperature, rng)
            else:
                x, v = harmonic.langevin(x, v, temperature, self._friction, (stop - before) * self._timestep, rng)
            before = stop
            if schedule.energies and stop % schedule.energies == 0:
                energies.append((harmonic.potential(x), harmonic.kinetic(v)))
            if schedule.frames and stop % schedule.frames == 0:
                frames.append(x.astype(np.float32))
                boxes.append(box)
        return Trace(
            Snapshot(x, v, box),
            harmonic.potential(x),
            harmonic.kinetic(v),
            np.array(energies, dtype=np.float64).reshape(-1, 2),
            np.array(frames, dtype=np.float32).reshape(len(frames), self.degrees),
            None if box is None else np.array(boxes, dtype=np.float32).reshape(-1, 3, 3),
        )

    def _box(self, temperature: float, rng: np.random.Generator) -> FloatArray | None:
        if self._pressure is None:
            return None
        edge = harmonic.piston(self.degrees, temperature, self._pressure, rng) ** (1.0 / 3.0)
        return np.diag([edge, edge, edge])


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 1]))
