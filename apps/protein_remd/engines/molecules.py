"""Molecules from what users have: a sequence, a PDB file, a CHARMM set with PSF, an Amber pair."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.protein_remd.engines import FloatArray
from apps.protein_remd.engines.files import check_count, coordinates, folder_of, hashes, named, read_files
from apps.protein_remd.params import System
from apps.protein_remd.science.peptide import build, pdb_text
from core import ConfigError, InputError

FORCE_FIELDS = {
    "ff14SB": ("amber14/protein.ff14SB.xml",),
    "ff99SB-ILDN": ("amber99sbildn.xml",),
    "amber03": ("amber03.xml",),
}
SOLVENT_DIELECTRIC = 78.5
"""That of Amber and of ``implicit/obc2.xml``; the native force has 78.3 by itself."""


@dataclass(frozen=True, slots=True)
class Molecule:
    """A molecule with its forces, as OpenMM has them; positions in nm, `about` says where it came from."""

    topology: Any
    positions: FloatArray
    system: Any
    about: dict[str, Any]


def load() -> Any:
    """Return OpenMM, set to one thread.

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


def molecule(given: System, seed: int) -> Molecule:
    """Return the molecule that a system's settings name, without cutoff, bonds to hydrogen constrained.

    Raises
    ------
    InputError
        A file cannot be read, or something of the molecule has no parameters; the message names both.
    """
    if given.psf:
        made = _charmm(given)
    elif given.prmtop:
        made = _amber(given)
    else:
        made = _by_force_field(given, seed)
    if given.solvent == "obc2":
        add_obc2(made.system, made.topology)
    return made


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


def _by_force_field(given: System, seed: int) -> Molecule:
    openmm = load()
    app = openmm.app
    files: dict[str, bytes] = {}
    if given.pdb:
        files = read_files([given.pdb])
        text, title = next(iter(files.values())).decode("utf-8", "replace"), given.pdb
    else:
        text, title = pdb_text(build(given.sequence)), f"{given.sequence} with capped ends"
    field = app.ForceField(*FORCE_FIELDS[given.force_field])
    with named(title):
        read = app.PDBFile(io.StringIO(text))
        modeller = app.Modeller(read.topology, read.positions)
        with seeded(seed):
            modeller.addHydrogens(field, platform=openmm.Platform.getPlatformByName("Reference"))
        system = field.createSystem(
            modeller.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, removeCMMotion=False
        )
    positions = np.array(modeller.positions.value_in_unit(openmm.unit.nanometer))
    about = {"system": _title(given.pdb) or title, "force field": given.force_field, **hashes(files)}
    return Molecule(modeller.topology, positions, system, about)


def _charmm(given: System) -> Molecule:
    openmm = load()
    app = openmm.app
    files = read_files([given.psf, given.pdb, *given.parameters])
    with folder_of(files) as paths, named(", ".join(map(str, [given.psf, *given.parameters]))):
        psf = app.CharmmPsfFile(str(paths[0]))
        # Parameters without a topology file know no elements: they come from the masses of the PSF.
        parameters = app.CharmmParameterSet(*map(str, paths[2:]), permissive=True)
        missing = sorted({atom.attype for atom in psf.atom_list} - set(parameters.atom_types_str))
        if missing:
            raise InputError(
                f"{', '.join(given.parameters)} have no parameters for the atom types {', '.join(missing[:10])} of "
                f"{given.psf}; add the file that has them to --parameters"
            )
        for atom in psf.atom_list:
            kind = parameters.atom_types_str[atom.attype]
            kind.atomic_number = app.element.Element.getByMass(atom.mass).atomic_number
            kind.mass = atom.mass
        system = psf.createSystem(parameters, nonbondedMethod=app.NoCutoff, constraints=app.HBonds)
    for index in reversed(range(system.getNumForces())):
        if isinstance(system.getForce(index), openmm.CMMotionRemover):
            system.removeForce(index)
    positions = coordinates(files[os.path.basename(given.pdb)], given.pdb)
    check_count(len(positions), given.pdb, system.getNumParticles(), given.psf)
    about = {"system": _title(given.psf), "force field": f"CHARMM: {', '.join(map(_title, given.parameters))}"}
    return Molecule(psf.topology, positions, system, {**about, **hashes(files)})


def _amber(given: System) -> Molecule:
    openmm = load()
    app = openmm.app
    files = read_files([given.prmtop, given.inpcrd])
    with folder_of(files) as (topology, places), named(f"{given.prmtop}, {given.inpcrd}"):
        read = app.AmberPrmtopFile(str(topology))
        found = app.AmberInpcrdFile(str(places))
        system = read.createSystem(nonbondedMethod=app.NoCutoff, constraints=app.HBonds, removeCMMotion=False)
    positions = np.array(found.positions.value_in_unit(openmm.unit.nanometer))
    check_count(len(positions), given.inpcrd, system.getNumParticles(), given.prmtop)
    about = {"system": _title(given.prmtop), "force field": "of the prmtop file", **hashes(files)}
    return Molecule(read.topology, positions, system, about)


def _title(address: str) -> str:
    return os.path.basename(address)
