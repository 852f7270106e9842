"""Periodic boxes and cutoffs: how far atoms see each other, and where they see themselves again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.protein_remd.engines import FloatArray
from apps.protein_remd.system import CUTOFF, PERIODIC, System
from core import InputError

REACTION_FIELD = 78.3
"""Dielectric beyond the cutoff in a box of water: OpenMM's own value. Without water around it is 1."""
DUMMY_CELL = 0.11
"""nm; programs that need a unit cell where there is none write one of 1 Angstrom."""
DENSITIES = (0.1, 3.0)
"""g/cm^3 that a box of molecules may have; one whose edges are in Angstrom where nm are meant is far outside."""
SHRINKS = 1.1
"""How much wider than it must be a box begins at constant pressure: new ones are up to a quarter too thin."""
DALTON_PER_NM3 = 1.66053906892e-3
"""g/cm^3. Source: CODATA 2022, atomic mass constant."""


@dataclass(frozen=True, slots=True)
class Nonbonded:
    """How far atoms see each other: `method` is "none", "cutoff" or "pme"; distances in nm."""

    method: str
    cutoff: float
    switch_distance: float | None
    periodic: bool

    def keywords(self, app: Any) -> dict[str, Any]:
        """Return what OpenMM's readers need to make a system so, with bonds to hydrogen constrained."""
        cutoffs = {True: app.CutoffPeriodic, False: app.CutoffNonPeriodic}
        methods = {"none": app.NoCutoff, "cutoff": cutoffs[self.periodic], "pme": app.PME}
        found = {"nonbondedMethod": methods[self.method], "constraints": app.HBonds, "removeCMMotion": False}
        if self.method != "none":
            found["nonbondedCutoff"] = self.cutoff
        if self.switch_distance is not None:
            found["switchDistance"] = self.switch_distance
        return found

    @property
    def dielectric(self) -> float:
        """What is beyond a cutoff."""
        return REACTION_FIELD if self.periodic else 1.0

    def sentence(self) -> str:
        """Return what the manifest says of it."""
        if self.method == "none":
            return "none"
        coulomb = f"reaction field of dielectric {self.dielectric:g}"
        if self.method == "pme":
            coulomb = "particle mesh Ewald"
        switched = "" if self.switch_distance is None else f", Lennard-Jones switched off from {self.switch_distance:g}"
        return f"{self.cutoff:g} nm, {coulomb}{switched}"


def nonbonded(given: System) -> Nonbonded:
    """Return how far atoms see each other, by the settings of a system."""
    return Nonbonded(given.method, given.cutoff or CUTOFF, given.switch_distance, given.solvent in PERIODIC)


def box_vectors(given: System, found: Any, where: str) -> Any:
    """Return the box that a molecule has: the one given, else that of its files; None where it has none.

    Parameters
    ----------
    found : sequence of vectors, optional
        Of the files.
    where : str
        The file that would have it, for the message.

    Raises
    ------
    InputError
        Its water has no box.
    """
    from openmm import Vec3, unit
    from openmm.app.internal.unitcell import computePeriodicBoxVectors

    if given.solvent != "explicit":
        return None
    if given.box:
        angles = np.radians(given.box[3:] or (90.0, 90.0, 90.0))
        return computePeriodicBoxVectors(*given.box[:3], *map(float, angles))
    if found is not None:
        rows = np.array([[float(part) for part in row] for row in found.value_in_unit(unit.nanometer)])
        if np.diag(rows).min() > DUMMY_CELL:
            return [Vec3(*row) for row in rows.tolist()] * unit.nanometer
    raise InputError(f"{where} has no periodic box; give it as --box EDGE,EDGE,EDGE in nm")


def check_box(system: Any, chosen: Nonbonded, where: str, pressure: float | None) -> None:
    """Refuse a box in which an atom would see another one twice, and one that is no box of molecules.

    Raises
    ------
    InputError
    """
    if not chosen.periodic:
        return
    narrowest = float(np.diag(default_box(system)).min())
    spare, why = (1.0, "") if pressure is None else (SHRINKS, " and a tenth more, since it may shrink at a pressure")
    if narrowest < 2.0 * chosen.cutoff * spare:
        raise InputError(
            f"{where}: its box is {narrowest:.3g} nm wide, less than twice the cutoff of {chosen.cutoff:g} nm{why}; "
            "lower --cutoff, or take a larger box"
        )
    if not DENSITIES[0] <= density(system) <= DENSITIES[1]:
        raise InputError(
            f"{where}: its box holds {density(system):.3g} g/cm3, and water has 1; look whether the edges are in nm, "
            "and whether everything is in it"
        )


def default_box(system: Any) -> FloatArray:
    """Return the vectors of a system's box in nm, a row each."""
    return np.array([[float(part) for part in row._value] for row in system.getDefaultPeriodicBoxVectors()])


def density(system: Any) -> float:
    """Return the density in g/cm^3 of what is in a system's box."""
    mass = sum(system.getParticleMass(index)._value for index in range(system.getNumParticles()))
    return float(mass * DALTON_PER_NM3 / np.prod(np.diag(default_box(system))))


def box_facts(system: Any, chosen: Nonbonded) -> dict[str, str]:
    """Return what the manifest says of box and cutoff."""
    found = {"cutoff": chosen.sentence()}
    if chosen.method != "none":
        found["energies"] = (
            "those at the end of each segment; computed again from its positions they differ by rounding"
        )
    if chosen.periodic:
        edges = np.linalg.norm(default_box(system), axis=1)
        found["box"] = f"{', '.join(f'{edge:.4g}' for edge in edges)} nm, {density(system):.3g} g/cm3"
    return found
