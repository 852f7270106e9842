"""A prmtop and an inpcrd file of a system that OpenMM has made, in the format that Amber documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

KCAL = 4.184
ANGSTROM = 0.1
COULOMB = 18.2223
"""Charges in a prmtop file are in electrons times this."""
POINTERS = 31
HYDROGENS_APART = 0.15139006545247014
"""nm, of TIP3P."""


def values(row: Iterable[Any]) -> list[Any]:
    """Return numbers without their units."""
    return [getattr(part, "_value", part) for part in row]


def section(flag: str, values: Iterable[Any]) -> str:
    """Return a section, in the format that its values have."""
    items = list(values)
    if items and isinstance(items[0], str):
        form, across, cells = "20a4", 20, [f"{item:<4}" for item in items]
    elif items and isinstance(items[0], float):
        form, across, cells = "5E16.8", 5, [f"{item:16.8E}" for item in items]
    else:
        form, across, cells = "10I8", 10, [f"{item:8d}" for item in items]
    lines = ["".join(cells[at : at + across]) for at in range(0, len(cells), across)] or [""]
    return "\n".join([f"%FLAG {flag}", f"%FORMAT({form})", *lines, ""])


def torsion_rows(system: Any, bonded: list[set[int]]) -> list[tuple[tuple[int, ...], tuple[float, float, float]]]:
    """Return pointers and (force constant, periodicity, phase) of torsions, each 1-4 pair counted by one of them."""
    forces = {force.getName(): force for force in system.getForces()}
    nonbonded, torsions = forces["NonbondedForce"], forces["PeriodicTorsionForce"]
    exceptions = (nonbonded.getExceptionParameters(at) for at in range(nonbonded.getNumExceptions()))
    waiting = {frozenset(row[:2]) for row in exceptions if row[2]._value or row[4]._value}
    rows = []
    for at in range(torsions.getNumTorsions()):
        *atoms, periodicity, phase, constant = torsions.getTorsionParameters(at)
        proper = all(two in bonded[one] for one, two in zip(atoms, atoms[1:], strict=False))
        rows.append((atoms, proper, (constant._value / KCAL, float(periodicity), phase._value)))
    found = []
    for atoms, proper, term in rows:
        ends = frozenset((atoms[0], atoms[3]))
        counts = proper and ends in waiting
        waiting -= {ends} if counts else set()
        found.append((pointers(atoms, counts, proper), term))
    for one, four in map(sorted, waiting):
        two, three = next((b, c) for b in bonded[one] for c in bonded[four] if c in bonded[b])
        found.append((pointers([one, two, three, four], True, True), (0.0, 1.0, 0.0)))
    return found


def pointers(atoms: list[int], counts: bool, proper: bool) -> tuple[int, ...]:
    """Return what a torsion refers to: a sign at the third if its ends are no 1-4 pair, at the fourth if improper."""
    if atoms[2] == 0 or atoms[3] == 0:
        atoms = atoms[::-1]
    one, two, three, four = (3 * atom for atom in atoms)
    return one, two, three if counts else -three, four if proper else -four


def write(folder: Path, topology: Any, system: Any, positions: Any, box: tuple[float, ...] | None = None) -> None:
    """Write ``mine.prmtop`` and ``mine.inpcrd``; the system must have no constraints, positions and box are in nm."""
    from openmm.app.internal.customgbforces import GBSAOBC2Force

    atoms, residues = list(topology.atoms()), list(topology.residues())
    forces = {force.getName(): force for force in system.getForces()}
    bonds, angles, nonbonded = (forces[n] for n in ("HarmonicBondForce", "HarmonicAngleForce", "NonbondedForce"))
    bond_rows = [tuple(values(bonds.getBondParameters(at))) for at in range(bonds.getNumBonds())]
    angle_rows = [tuple(values(angles.getAngleParameters(at))) for at in range(angles.getNumAngles())]
    bonded: list[set[int]] = [set() for _ in atoms]
    for one, two, *_ in bond_rows:
        bonded[one].add(two)
        bonded[two].add(one)
    # Amber has a bond between the hydrogens of water in place of the angle.
    water = {atom.index for atom in atoms if atom.residue.name == "HOH" and atom.element.symbol == "H"}
    bond_rows += [(one, three, HYDROGENS_APART, 0.0) for one, _, three, *_ in angle_rows if {one, three} <= water]
    angle_rows = [row for row in angle_rows if not {row[0], row[2]} <= water]
    torsions = torsion_rows(system, bonded)
    terms = [tuple(part._value for part in nonbonded.getParticleParameters(at)) for at in range(len(atoms))]
    kinds = sorted({(sigma, epsilon) for _, sigma, epsilon in terms})
    pairs = [(i, j) for i in range(len(kinds)) for j in range(i + 1)]
    mixed = [
        (((kinds[i][0] + kinds[j][0]) / 2 / ANGSTROM), (kinds[i][1] * kinds[j][1]) ** 0.5 / KCAL) for i, j in pairs
    ]
    number = {pair: at for at, pair in enumerate(pairs, 1)}
    excluded: list[list[int]] = [[] for _ in atoms]
    for at in range(nonbonded.getNumExceptions()):
        one, two, *_ = nonbonded.getExceptionParameters(at)
        excluded[min(one, two)].append(max(one, two) + 1)
    listed = [sorted(each) or [0] for each in excluded]
    heads = [next(residue.atoms()).index + 1 for residue in residues]

    def with_hydrogen(row: Any, count: int) -> bool:
        return any(atoms[abs(index)].element.symbol == "H" for index in row[:count])

    def flat(rows: list[Any], count: int, hydrogen: bool) -> list[int]:
        chosen = [(at, row) for at, row in enumerate(rows, 1) if with_hydrogen(row, count) == hydrogen]
        return [value for at, row in chosen for value in (*(3 * index for index in row[:count]), at)]

    def turned(hydrogen: bool) -> list[int]:
        rows = [(at, row) for at, (row, _) in enumerate(torsions, 1)]
        return [
            v for at, row in rows if with_hydrogen([i // 3 for i in map(abs, row)], 4) == hydrogen for v in (*row, at)
        ]

    sizes = [0] * POINTERS
    sizes[0], sizes[1], sizes[10], sizes[11] = len(atoms), len(kinds), sum(map(len, listed)), len(residues)
    sizes[15], sizes[16], sizes[17], sizes[27] = len(bond_rows), len(angle_rows), len(torsions), int(box is not None)
    text = [
        "%VERSION  VERSION_STAMP = V0001.000\n",
        section("TITLE", ["mine"]),
        section("POINTERS", sizes),
        section("ATOM_NAME", [atom.name for atom in atoms]),
        section("CHARGE", [charge * COULOMB for charge, *_ in terms]),
        section("ATOMIC_NUMBER", [atom.element.atomic_number for atom in atoms]),
        section("MASS", [system.getParticleMass(at)._value for at in range(len(atoms))]),
        section("ATOM_TYPE_INDEX", [kinds.index((sigma, epsilon)) + 1 for _, sigma, epsilon in terms]),
        section("NUMBER_EXCLUDED_ATOMS", map(len, listed)),
        section(
            "NONBONDED_PARM_INDEX",
            [number[max(i, j), min(i, j)] for i in range(len(kinds)) for j in range(len(kinds))],
        ),
        section("RESIDUE_LABEL", [residue.name for residue in residues]),
        section("RESIDUE_POINTER", heads),
        # OpenMM has k/2 (x - x0)^2, Amber k (x - x0)^2.
        section("BOND_FORCE_CONSTANT", [row[3] / 2 / KCAL * ANGSTROM**2 for row in bond_rows]),
        section("BOND_EQUIL_VALUE", [row[2] / ANGSTROM for row in bond_rows]),
        section("ANGLE_FORCE_CONSTANT", [row[4] / 2 / KCAL for row in angle_rows]),
        section("ANGLE_EQUIL_VALUE", [row[3] for row in angle_rows]),
        section("DIHEDRAL_FORCE_CONSTANT", [term[0] for _, term in torsions]),
        section("DIHEDRAL_PERIODICITY", [term[1] for _, term in torsions]),
        section("DIHEDRAL_PHASE", [term[2] for _, term in torsions]),
        section("SCEE_SCALE_FACTOR", [1.2] * len(torsions)),
        section("SCNB_SCALE_FACTOR", [2.0] * len(torsions)),
        section("LENNARD_JONES_ACOEF", [4 * depth * sigma**12 for sigma, depth in mixed]),
        section("LENNARD_JONES_BCOEF", [4 * depth * sigma**6 for sigma, depth in mixed]),
        section("BONDS_INC_HYDROGEN", flat(bond_rows, 2, True)),
        section("BONDS_WITHOUT_HYDROGEN", flat(bond_rows, 2, False)),
        section("ANGLES_INC_HYDROGEN", flat(angle_rows, 3, True)),
        section("ANGLES_WITHOUT_HYDROGEN", flat(angle_rows, 3, False)),
        section("DIHEDRALS_INC_HYDROGEN", turned(True)),
        section("DIHEDRALS_WITHOUT_HYDROGEN", turned(False)),
        section("EXCLUDED_ATOMS_LIST", [each for some in listed for each in some]),
        section("HBOND_ACOEF", []),
        section("HBOND_BCOEF", []),
        section("AMBER_ATOM_TYPE", [f"T{kinds.index((sigma, epsilon))}" for _, sigma, epsilon in terms]),
    ]
    radii = [(radius, scale) for radius, scale in GBSAOBC2Force.getStandardParameters(topology)]
    text += [
        section("RADII", [float(getattr(radius, "_value", radius)) / ANGSTROM for radius, _ in radii]),
        section("SCREEN", [float(scale) for _, scale in radii]),
    ]
    if box is not None:
        text.append(section("BOX_DIMENSIONS", [90.0, *(edge / ANGSTROM for edge in box)]))
    (folder / "mine.prmtop").write_text("".join(text))
    numbers = (np.asarray(positions) / ANGSTROM).ravel().tolist()
    rows = [numbers[at : at + 6] for at in range(0, len(numbers), 6)]
    if box is not None:
        rows.append([*(edge / ANGSTROM for edge in box), 90.0, 90.0, 90.0])
    lines = ["".join(f"{value:12.7f}" for value in row) for row in rows]
    (folder / "mine.inpcrd").write_text("\n".join(["mine", f"{len(atoms):6d}", *lines, ""]))
