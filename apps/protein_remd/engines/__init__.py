"""Engines: what runs a segment of dynamics. Each is a module with the two functions of `Engine`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from apps.protein_remd.params import MD
from apps.protein_remd.system import System
from core import InputError

FloatArray = npt.NDArray[np.float64]


class Exploded(ArithmeticError):
    """A segment whose energy, coordinates or temperature are no longer those of anything physical."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a replica is.

    Attributes
    ----------
    x, v : array, shape (atoms, 3), or (oscillators,)
        nm and nm/ps. Molecules that cross the faces of a periodic box are whole, and not put back into it.
    box : array, shape (3, 3), optional
        Vectors of the periodic box in nm, a row each, in reduced form; None without one.
    """

    x: FloatArray
    v: FloatArray
    box: FloatArray | None = None

    @property
    def volume(self) -> float | None:
        """Of the box in nm^3; None without one."""
        # Vectors in reduced form are a lower triangle; a determinant would have other bits on other processors.
        return None if self.box is None else float(self.box[0, 0] * self.box[1, 1] * self.box[2, 2])


@dataclass(frozen=True, slots=True)
class Trace:
    """What a segment gave.

    Attributes
    ----------
    snapshot : Snapshot
        At its end.
    potential, kinetic : float
        kJ/mol, at its end.
    energies : array, shape (rows, 2)
        Potential and kinetic energy every so many steps.
    frames : array of float32, shape (frames, atoms, 3)
        nm, every so many steps.
    boxes : array of float32, shape (frames, 3, 3), optional
        Vectors of the periodic box in nm with each frame; None without one.
    """

    snapshot: Snapshot
    potential: float
    kinetic: float
    energies: FloatArray
    frames: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of a segment, and between two rows of energies and two frames (0 for none)."""

    steps: int
    energies: int = 0
    frames: int = 0


class Warm(Protocol):
    """A system that a worker keeps ready.

    Attributes
    ----------
    version : str
        Of what computes: a run goes on with the same one alone.
    canary : str
        Hash of a few fixed steps; equal where processors give equal bits.
    potential : float
        kJ/mol after these steps, which begin where replicas do, at 300 K.
    degrees : int
        Degrees of freedom.
    """

    version: str
    canary: str
    potential: float
    degrees: int

    def start(self, temperature: float, seed: int) -> Snapshot:
        """Return where a replica begins: prepared positions, and velocities of the temperature."""

    def run(self, snapshot: Snapshot, temperature: float, seed: int, schedule: Schedule) -> Trace:
        """Run a segment: a pure function of its arguments."""


class Engine(Protocol):
    """A module of this package."""

    def prepare(self, system: System, md: MD) -> dict[str, bytes]:
        """Return the files of a prepared system; done once, by the driver."""

    def open_system(self, files: Mapping[str, bytes]) -> Warm:
        """Return the system ready to run; done once by every worker."""


def engine_named(name: str) -> Engine:
    """Return an engine; it is imported when it is first asked for."""
    return cast("Engine", import_module(f"apps.protein_remd.engines.{name}"))


def described(files: Mapping[str, bytes], name: str, *keys: str) -> dict[str, Any]:
    """Return what a file of a bundle says, a JSON object with these keys.

    Raises
    ------
    InputError
        It is that of another release, whose bundles were otherwise.
    """
    found: Any = json.loads(files.get(name, b"{}"))
    if set(found) != set(keys):
        raise InputError(
            f"{name} of the run's bundle has {', '.join(sorted(found)) or 'nothing'} in place of "
            f"{', '.join(sorted(keys))}: another release of fanfold prepared it; use that one, or begin a new run"
        )
    return dict(found)


def bundle_hash(files: Mapping[str, bytes]) -> str:
    """Return the name of a bundle: the hash of all its files."""
    named: dict[str, Any] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:32]
