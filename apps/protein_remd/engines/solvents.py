"""What is around a molecule: implicit water, a periodic box, a bath of constant pressure, and how far atoms see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from apps._frame.tables import counted
from apps.protein_remd.engines import FloatArray
from apps.protein_remd.system import BAROSTAT_INTERVAL, CUTOFF, PADDING, PERIODIC, System
from core import InputError

SOLVENT_DIELECTRIC = 78.5
"""That of Amber and of ``implicit/obc2.xml``; the native force has 78.3 by itself."""
REACTION_FIELD = 78.3
"""Dielectric beyond the cutoff in a box of water: OpenMM's own value. Without water around it is 1."""
DENSITIES = (0.1, 3.0)
"""g/cm^3 that a box of molecules may have; one whose edges are in Angstrom where nm are meant is far outside."""
SHRINKS = 1.1
"""How much wider than it must be a box begins at constant pressure: new ones are up to a quarter too thin."""
DALTON_PER_NM3 = 1.66053906892e-3
"""g/cm^3. Source: CODATA 2022, atomic mass constant."""
WATERS = frozenset(["HOH", "WAT", "H2O", "SOL", "TIP", "TIP3", "TP3", "TIP3P", "TIP4", "SPC", "OPC"])
"""Residues that are water, as PDB, Amber, CHARMM and GROMACS call it."""
DUMMY_CELL = 0.11
"""nm; programs that need a unit cell where there is none write one of 1 Angstrom."""


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


def add_water(modeller: Any, field: Any, given: System) -> None:
    """Add a cube of water with ions that neutralise it, and more of them up to the ionic strength."""
    from openmm import unit

    modeller.addSolvent(
        field,
        model="tip3p",
        padding=(given.padding or PADDING) * unit.nanometer,
        ionicStrength=(given.ionic_strength or 0.0) * unit.molar,
        neutralize=True,
    )


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


def check_water(topology: Any, given: System, where: str) -> None:
    """Refuse molecules of water where water is implicit or absent: the energies would be of neither.

    Raises
    ------
    InputError
    """
    count = waters(topology)
    if count and given.solvent not in PERIODIC:
        instead = "--solvent explicit, if they fill a periodic box" if not given.pdb or given.psf else (
            "--solvent tip3p, which adds to them, or --solvent explicit, if they fill a periodic box"
        )  # fmt: skip
        raise InputError(
            f"{where} has {counted(count, 'water molecule')}, and with --solvent {given.solvent} there must be none; "
            f"remove them, or use {instead}"
        )


def waters(topology: Any) -> int:
    """Return how many molecules of water there are."""
    return sum(residue.name in WATERS for residue in topology.residues())


def default_box(system: Any) -> FloatArray:
    """Return the vectors of a system's box in nm, a row each."""
    return np.array([[float(part) for part in row._value] for row in system.getDefaultPeriodicBoxVectors()])


def finish(system: Any, topology: Any, given: System, pressure: float | None) -> None:
    """Add implicit water, where it has none, and a barostat to a system, and set what is beyond its cutoff."""
    import openmm

    chosen = nonbonded(given)
    charged = charges_of(system)
    charged.setReactionFieldDielectric(chosen.dielectric)
    there = {force.getName() for force in system.getForces()}
    if given.solvent in ("obc2", "gbn2") and not there & {"GBSAOBCForce", "CustomGBForce"}:
        force = (_obc2 if given.solvent == "obc2" else _gbn2)(topology, charged, chosen)
        if chosen.method == "cutoff":
            force.setNonbondedMethod(force.CutoffNonPeriodic)
            force.setCutoffDistance(chosen.cutoff)
        system.addForce(force)
    if pressure is not None:
        # Its temperature is that of each segment, and set there.
        system.addForce(openmm.MonteCarloBarostat(pressure, 300.0, BAROSTAT_INTERVAL))


def charges_of(system: Any) -> Any:
    """Return the force that has the charges."""
    import openmm

    (found,) = (force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
    return found


def _obc2(topology: Any, charged: Any, chosen: Nonbonded) -> Any:
    """Return OBC2 by OpenMM's native force, which is about six times as fast as the custom one.

    Its parameters are those of ``implicit/obc2.xml``, its surface term is its own default, which is the same.
    """
    import openmm
    from openmm.app.internal.customgbforces import GBSAOBC2Force

    force = openmm.GBSAOBCForce()
    force.setSolventDielectric(SOLVENT_DIELECTRIC)
    for index, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(topology)):
        force.addParticle(charged.getParticleParameters(index)[0], radius, scale)
    return force


def _gbn2(topology: Any, charged: Any, chosen: Nonbonded) -> Any:
    """Return GBn2 as ``implicit/gbn2.xml`` has it."""
    from openmm.app.internal.customgbforces import GBSAGBn2Force

    cutoff = None if chosen.method == "none" else chosen.cutoff
    force = GBSAGBn2Force(solventDielectric=SOLVENT_DIELECTRIC, SA="ACE", cutoff=cutoff)
    for index, parameters in enumerate(GBSAGBn2Force.getStandardParameters(topology)):
        force.addParticle([charged.getParticleParameters(index)[0], *parameters])
    force.finalize()
    return force


def solvent_sentence(given: System, topology: Any) -> str:
    """Return what the manifest says of the solvent."""
    names = {
        "obc2": "OBC2 implicit water (native force, with its surface energy)",
        "gbn2": "GBn2 implicit water (custom force, with ACE surface energy)",
        "vacuum": "none",
    }
    model = "TIP3P, " if given.solvent == "tip3p" else ""
    return names.get(given.solvent, model + counted(waters(topology), "water molecule"))


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


def cautions(given: System, charge: float) -> list[str]:
    """Return in sentences what the user must know of the choice."""
    said = []
    if given.solvent == "gbn2":
        said.append(
            "GBn2 has no native force in OpenMM: it is about eight times slower than --solvent obc2 (168 against 1,319 "
            "steps a second were measured for chignolin)"
        )
    if abs(charge - round(charge)) > 0.01:
        said.append(f"the net charge, {charge:.3f} e, is no whole number: charges of some atoms are missing")
    if given.method == "pme" and abs(charge) > 0.5:
        said.append(f"the box has a net charge of {charge:+.0f} e, which Ewald sums neutralise by an even background")
    if given.no_bitwise:
        said.append("the run gave up repeating to the bit (--no-bitwise): a resumed or repeated run differs from it")
    return said
