"""Molecules from what users have: a sequence, a PDB file, a CHARMM set with PSF, an Amber pair."""

from __future__ import annotations

import io
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apps.protein_remd.engines import FloatArray, boxes, protonation, solvents, structures, toppar
from apps.protein_remd.engines.files import (
    check_count,
    coordinates,
    folder_of,
    hashes,
    named,
    read_files,
    unit_cell,
)
from apps.protein_remd.science.peptide import build, pdb_text
from apps.protein_remd.system import PERIODIC, System
from core import ConfigError, InputError

FORCE_FIELDS = {
    "ff14SB": ("amber14/protein.ff14SB.xml",),
    "ff99SB-ILDN": ("amber99sbildn.xml",),
    "amber03": ("amber03.xml",),
}


@dataclass(frozen=True, slots=True)
class Molecule:
    """A molecule with its forces, as OpenMM has them; positions in nm.

    `about` says where it came from, `cautions` in sentences what was decided of it.
    """

    topology: Any
    positions: FloatArray
    system: Any
    about: dict[str, Any]
    cautions: list[str] = field(default_factory=list)


def load(threads: int = 1) -> Any:
    """Return OpenMM, set to a number of threads, which holds from the first context on.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    # The reciprocal part of PME heeds the variable alone, and reads it when the first context is made.
    os.environ["OPENMM_CPU_THREADS"] = str(threads)
    try:
        import openmm.app
    except ImportError:
        raise ConfigError(
            "engine openmm needs OpenMM: pip install 'fanfold[remd]' (--engine harmonic needs nothing)"
        ) from None
    return openmm


def molecule(given: System, seed: int, pressure: float | None = None) -> Molecule:
    """Return the molecule that a system's settings name, in its surroundings, bonds to hydrogen constrained.

    Parameters
    ----------
    seed : int
        Of what is placed at random: hydrogens, ions.
    pressure : float, optional
        bar; None at constant volume.

    Raises
    ------
    InputError
        A file cannot be read, or something of the molecule has no parameters; the message names both.
    """
    read = _charmm if given.psf else _amber if given.prmtop else _by_force_field
    made = read(given, seed)
    where = given.psf or given.prmtop or given.pdb or given.sequence
    solvents.check_water(made.topology, given, where)
    boxes.check_box(made.system, boxes.nonbonded(given), where, pressure)
    box = boxes.default_box(made.system) if boxes.nonbonded(given).periodic else None
    bonds, called = structures.bonds_of(made.topology)
    structures.check_bonds(bonds, made.positions, box, called, where)
    solvents.finish(made.system, made.topology, given, pressure)
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


def _by_force_field(given: System, seed: int) -> Molecule:
    openmm = load()
    app = openmm.app
    files: dict[str, bytes] = {}
    if given.pdb:
        files = read_files([given.pdb])
        data, title = next(iter(files.values())), given.pdb
        coordinates(data, title)
        named_states = data.decode("utf-8-sig", "replace")
    else:
        named_states, title = pdb_text(build(given.sequence)), f"{given.sequence} with capped ends"
    text = protonation.standard(named_states)
    fields = app.ForceField(*FORCE_FIELDS[given.force_field], *_water_field(given))
    with named(title):
        read = app.PDBFile(io.StringIO(text))
    x = np.array([[float(part) for part in row] for row in read.positions.value_in_unit(openmm.unit.nanometer)])
    structures.check(text, read.topology, x, given.pdb)
    protonation.check_bridges(named_states, read.topology, title)
    solvents.check_water(read.topology, given, title)
    box = boxes.box_vectors(given, read.topology.getPeriodicBoxVectors(), title)
    read.topology.setPeriodicBoxVectors(box)
    with structures.residues_named(text, read.topology, title):
        modeller = app.Modeller(read.topology, read.positions)
        with seeded(seed):
            chosen = modeller.addHydrogens(
                fields, variants=protonation.states(named_states),
                platform=openmm.Platform.getPlatformByName("Reference"),
            )  # fmt: skip
            if given.solvent == "tip3p":
                solvents.add_water(modeller, fields, given)
        system = fields.createSystem(modeller.topology, **boxes.nonbonded(given).keywords(app))
    positions = np.array(modeller.positions.value_in_unit(openmm.unit.nanometer))
    about = {"system": _title(given.pdb) or title, "force field": given.force_field, **hashes(files)}
    if histidines := protonation.histidines(read.topology, chosen):
        about["histidines"] = histidines
    cautions = structures.cautions(text, read.topology, x) if given.pdb else []
    return Molecule(modeller.topology, positions, system, about, cautions)


def _water_field(given: System) -> tuple[str, ...]:
    """Return the file of water's and ions' parameters that belongs to a force field."""
    if given.solvent not in PERIODIC:
        return ()
    return ("amber14/tip3p.xml",) if given.force_field == "ff14SB" else ("tip3p.xml",)


def _charmm(given: System, seed: int) -> Molecule:
    openmm = load()
    app = openmm.app
    from openmm.app.internal.pdbstructure import PdbStructure

    parameter_files = toppar.expanded(given.parameters)
    files = read_files([given.psf, given.pdb, *parameter_files])
    pdb = files[os.path.basename(given.pdb)]
    with named(given.pdb):
        cell = PdbStructure(io.StringIO(unit_cell(pdb))).get_periodic_box_vectors()
    box = boxes.box_vectors(given, cell, given.pdb)
    with folder_of(files) as paths, named(", ".join(map(str, [given.psf, *given.parameters]))):
        psf = app.CharmmPsfFile(str(paths[0]), periodicBoxVectors=box)
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
            element = app.element.Element.getByMass(atom.mass)
            if element is None:
                raise InputError(
                    f"{given.psf}: atom {atom.idx + 1}, {atom.name} of {atom.residue.resname} {atom.residue.idx}, has "
                    f"a mass of {atom.mass._value:g}, which no element has; lone pairs and Drude particles are not "
                    "supported"
                )
            kind.atomic_number = element.atomic_number
            kind.mass = atom.mass
        system = psf.createSystem(parameters, **boxes.nonbonded(given).keywords(app))
    positions = coordinates(pdb, given.pdb)
    check_count(len(positions), given.pdb, system.getNumParticles(), given.psf)
    about = {"system": _title(given.psf), "force field": f"CHARMM: {', '.join(map(_title, parameter_files))}"}
    return Molecule(psf.topology, positions, system, {**about, **hashes(files)})


def _amber(given: System, seed: int) -> Molecule:
    openmm = load()
    app = openmm.app
    files = read_files([given.prmtop, given.inpcrd])
    with folder_of(files) as (topology, places), named(f"{given.prmtop}, {given.inpcrd}"):
        found = app.AmberInpcrdFile(str(places))
        box = boxes.box_vectors(given, found.boxVectors, given.inpcrd)
        read = app.AmberPrmtopFile(str(topology), periodicBoxVectors=box)
        # By the radii of the file, which other programs take too.
        water = {"obc2": app.OBC2, "gbn2": app.GBn2}.get(given.solvent)
        implicit = {} if water is None else {"implicitSolvent": water, "sasaMethod": "ACE"}
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            system = read.createSystem(**boxes.nonbonded(given).keywords(app), **implicit)
    positions = np.array(found.positions.value_in_unit(openmm.unit.nanometer))
    check_count(len(positions), given.inpcrd, system.getNumParticles(), given.prmtop)
    about = {"system": _title(given.prmtop), "force field": "of the prmtop file", **hashes(files)}
    strange = any("Non-optimal GB parameters" in str(one.message) for one in heard)
    said = [f"radii of {given.prmtop} are not those that {given.solvent} was made for; they are used"] * strange
    return Molecule(read.topology, positions, system, about, said)


def _title(address: str) -> str:
    return os.path.basename(address)
