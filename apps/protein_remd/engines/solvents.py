"""What is around a molecule: implicit water, a box of water, a bath of constant pressure."""

from __future__ import annotations

from typing import Any

from apps._frame.tables import counted
from apps.protein_remd.engines.boxes import Nonbonded, nonbonded
from apps.protein_remd.system import BAROSTAT_INTERVAL, PADDING, PERIODIC, System
from core import InputError

SOLVENT_DIELECTRIC = 78.5
"""That of Amber and of ``implicit/obc2.xml``; the native force has 78.3 by itself."""
WATERS = frozenset(["HOH", "WAT", "H2O", "SOL", "TIP", "TIP3", "TP3", "TIP3P", "TIP4", "SPC", "OPC"])
"""Residues that are water, as PDB, Amber, CHARMM and GROMACS call it."""


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
