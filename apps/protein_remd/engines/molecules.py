"""Molecules from what users have: a sequence, a PDB file, a CHARMM set with PSF, an Amber pair."""

from __future__ import annotations

import io
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apps._frame.stored import find_inputs, sha256
from apps.protein_remd.engines import FloatArray
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
ANGSTROM = 0.1
"""In nm."""


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
        files = _read([given.pdb])
        text, title = next(iter(files.values())).decode("utf-8", "replace"), given.pdb
    else:
        text, title = pdb_text(build(given.sequence)), f"{given.sequence} with capped ends"
    field = app.ForceField(*FORCE_FIELDS[given.force_field])
    with _named(title):
        read = app.PDBFile(io.StringIO(text))
        modeller = app.Modeller(read.topology, read.positions)
        with seeded(seed):
            modeller.addHydrogens(field, platform=openmm.Platform.getPlatformByName("Reference"))
        system = field.createSystem(
            modeller.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, removeCMMotion=False
        )
    positions = np.array(modeller.positions.value_in_unit(openmm.unit.nanometer))
    about = {"system": _title(given.pdb) or title, "force field": given.force_field, **_hashes(files)}
    return Molecule(modeller.topology, positions, system, about)


def _charmm(given: System) -> Molecule:
    openmm = load()
    app = openmm.app
    files = _read([given.psf, given.pdb, *given.parameters])
    with _folder(files) as paths, _named(", ".join(map(str, [given.psf, *given.parameters]))):
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
    positions = _coordinates(files[os.path.basename(given.pdb)], given.pdb)
    _check_count(positions, given.pdb, system, given.psf)
    about = {"system": _title(given.psf), "force field": f"CHARMM: {', '.join(map(_title, given.parameters))}"}
    return Molecule(psf.topology, positions, system, {**about, **_hashes(files)})


def _amber(given: System) -> Molecule:
    openmm = load()
    app = openmm.app
    files = _read([given.prmtop, given.inpcrd])
    with _folder(files) as (topology, coordinates), _named(f"{given.prmtop}, {given.inpcrd}"):
        read = app.AmberPrmtopFile(str(topology))
        found = app.AmberInpcrdFile(str(coordinates))
        system = read.createSystem(nonbondedMethod=app.NoCutoff, constraints=app.HBonds, removeCMMotion=False)
    positions = np.array(found.positions.value_in_unit(openmm.unit.nanometer))
    _check_count(positions, given.inpcrd, system, given.prmtop)
    about = {"system": _title(given.prmtop), "force field": "of the prmtop file", **_hashes(files)}
    return Molecule(read.topology, positions, system, about)


def _read(addresses: Sequence[str]) -> dict[str, bytes]:
    """Return files by name."""
    found: dict[str, bytes] = {}
    for address in addresses:
        objects = find_inputs(address)
        if len(objects) != 1:
            raise InputError(f"{address} is a folder of {len(objects)} files; name one file")
        if os.path.basename(address) in found:
            raise InputError(f"two files are called {os.path.basename(address)}; rename one")
        found[os.path.basename(address)] = objects[0].read()
    return found


@contextmanager
def _folder(files: dict[str, bytes]) -> Iterator[list[Path]]:
    """Give files to readers that want paths, and judge by their endings."""
    with tempfile.TemporaryDirectory(prefix="fanfold-") as folder:
        paths = [Path(folder) / name for name in files]
        for path, data in zip(paths, files.values(), strict=True):
            path.write_bytes(data)
        yield paths


@contextmanager
def _named(files: str) -> Iterator[None]:
    """Turn what readers say of a file into one sentence that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{files}: {said}") from error


def _coordinates(data: bytes, where: str) -> FloatArray:
    """Return the positions in nm of the atoms of a PDB file, whatever they are called."""
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.startswith(("ATOM", "HETATM"))]
    try:
        found = np.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in lines])
    except ValueError as error:
        raise InputError(f"{where}: {error}; expected a PDB file") from None
    return found.reshape(-1, 3) * ANGSTROM


def _check_count(positions: FloatArray, coordinates: str, system: Any, topology: str) -> None:
    if len(positions) != system.getNumParticles():
        raise InputError(
            f"{coordinates} has {len(positions):,} atoms, and {topology} {system.getNumParticles():,}; "
            "give the two that belong together"
        )


def _title(address: str) -> str:
    return os.path.basename(address)


def _hashes(files: dict[str, bytes]) -> dict[str, Any]:
    return {"inputs": {name: sha256(data) for name, data in files.items()}} if files else {}
