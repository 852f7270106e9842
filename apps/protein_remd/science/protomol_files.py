"""The files that ProtoMol reads and writes, and the units that it counts in."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

KCAL = 4.184
"""kJ. The thermochemical calorie, as in CHARMM."""
ANGSTROM = 0.1
"""nm."""
TIME_UNIT = 48.88821e-3
"""ps; velocities are in Angstrom per this. Source: ProtoMol's own constant TIMEFACTOR, 48.88821 fs."""
HEADER = 84
"""Bytes of the first record of a DCD file, whose length stands before it and after it."""
SHAKE_ABOVE = 1.0
"""fs; with longer steps all bonds are constrained."""

KEYWORDS = frozenset(
    ["numsteps", "outputfreq", "posfile", "velfile", "psffile", "parfile", "temperature", "boundaryconditions",
     "cellmanager", "cellsize", "seed", "shake", "allenergiesfile", "allenergiesfileoutputfreq", "finxyzposfile",
     "finxyzvelfile", "dcdfile", "dcdfileoutputfreq", "integrator", "level", "gamma", "timestep", "force", "}"]
)  # fmt: skip
"""What may begin a line: ProtoMol passes over others without a word, and goes on with its defaults."""
POTENTIAL, KINETIC = "E_potential", "E_kinetic"
RINGS = frozenset(["HIS", "HSD", "HSE", "HSP", "PRO", "TRP"])
"""Five-membered rings, in which atoms are 1-3 and 1-4 neighbours at once."""


class BadOutput(ValueError):
    """What the program wrote is not what it was told to."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a configuration says; temperature in K, friction in 1/ps, time step in fs.

    `every` and `frames` are the steps between two rows of energies and two frames, 0 for no frames.
    """

    steps: int
    every: int
    frames: int
    temperature: float
    friction: float
    timestep: float
    seed: int


def configuration(run: Run) -> str:
    """Return a configuration: the forces of CHARMM in vacuum, switched off between 10 and 12 Angstrom.

    Raises
    ------
    ValueError
        It has a keyword that the program would pass over, or a brace that is not closed.
    """
    frames = f"DCDFile run.dcd\nDCDFileOutputFreq {run.frames}\n" if run.frames else ""
    text = f"""\
numsteps {run.steps}
outputfreq {run.every}
posfile begin.pos.xyz
velfile begin.vel.xyz
psffile molecule.psf
parfile molecule.par
temperature {run.temperature!r}
boundaryConditions vacuum
cellManager Cubic
cellsize 69
seed {run.seed}
shake {"on" if run.timestep > SHAKE_ABOVE else "off"}
allEnergiesFile run.eng
allEnergiesFileOutputFreq {run.every}
{frames}finXYZPosFile end.pos.xyz
finXYZVelFile end.vel.xyz
integrator {{
  level 0 langevinImpulse {{
    temperature {run.temperature!r}
    gamma {run.friction!r}
    timestep {run.timestep!r}
    seed {run.seed}
    force bond
    force angle
    force dihedral
    force improper
    force LennardJones Coulomb -switchingFunction C2 -switchingFunction C1 -algorithm NonbondedCutoff -switchon 10 -cutoff 12 -cutoff 12 -cutoff 12
  }}
}}
"""  # noqa: E501
    check_configuration(text)
    return text


def check_configuration(text: str) -> None:
    """Refuse what the program would take without a word: unknown keywords, and braces that do not match.

    Raises
    ------
    ValueError
        The message names the line.
    """
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and words[0].lower() not in KEYWORDS:
            raise ValueError(f"line {number} of the configuration: ProtoMol knows no keyword {words[0]!r}")
    if text.count("{") != text.count("}"):
        raise ValueError(f"the configuration opens {text.count('{')} braces and closes {text.count('}')}")


def number(word: str) -> float:
    """Return a number that is written in decimal, or as C99 has it in hexadecimal; builds differ."""
    return float.fromhex(word) if "0x" in word.lower() else float(word)


def energies(header: str, text: str, steps: int, every: int) -> FloatArray:
    """Return potential and kinetic energy in kJ/mol, shape (rows, 2), of all rows of an energy file but the first.

    Parameters
    ----------
    header : str
        What ``.header`` beside it says.
    steps, every : int
        Of the run: there must be a row for step 0 and one for every so many up to the last.

    Raises
    ------
    BadOutput
        It has other columns or rows, or one that is no number.
    """
    names = re.findall(r"[A-Za-z_]+(?:\(\w+\))?", header)
    if POTENTIAL not in names or KINETIC not in names:
        raise BadOutput(f"the header of its energies names no {POTENTIAL} and {KINETIC}: {header.strip()[:100]!r}")
    columns = [names.index(POTENTIAL), names.index(KINETIC)]
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    expected = steps // every + 1
    if len(rows) != expected:
        raise BadOutput(f"its energies have {len(rows)} rows, and {expected} were asked for: it did not run to its end")
    try:
        found = np.array([[number(row[at]) for at in columns] for row in rows])
    except (ValueError, IndexError) as error:
        raise BadOutput(f"a row of its energies cannot be read: {error}") from None
    return found[1:] * KCAL


def xyz_text(values: FloatArray, names: Sequence[str], unit: float) -> str:
    """Return vectors as an XYZ file, to the last digit; `unit` is the file's unit in that of the values."""
    lines = [f"{name} {x!r} {y!r} {z!r}" for name, (x, y, z) in zip(names, (values / unit).tolist(), strict=True)]
    return "\n".join([str(len(lines)), "fanfold", *lines, ""])


def read_xyz(text: str, atoms: int, unit: float, what: str) -> FloatArray:
    """Return the vectors of an XYZ file, shape (atoms, 3); see ``xyz_text``.

    Raises
    ------
    BadOutput
        It does not have as many.
    """
    lines = [line.split() for line in text.splitlines()[2:] if line.strip()]
    if len(lines) != atoms:
        raise BadOutput(f"{what} has {len(lines)} atoms, and the molecule {atoms}")
    try:
        return np.array([[number(word) for word in line[1:4]] for line in lines]).reshape(atoms, 3) * unit
    except ValueError as error:
        raise BadOutput(f"{what} cannot be read: {error}") from None


def read_dcd(data: bytes, atoms: int, steps: int, every: int) -> npt.NDArray[np.float32]:
    """Return the frames of a DCD file in nm, shape (frames, atoms, 3), without the first, which is step 0.

    By the length of its records alone: what its header says of their number differs between builds.

    Raises
    ------
    BadOutput
        It does not have a frame for every so many steps.
    """
    kind = "<i4" if data[:4] == HEADER.to_bytes(4, "little") else ">i4"
    records: list[bytes] = []
    at = 0
    while at + 8 <= len(data):
        size = int(np.frombuffer(data, kind, 1, at)[0])
        if size < 0 or at + 8 + size > len(data) or data[at : at + 4] != data[at + 4 + size : at + 8 + size]:
            raise BadOutput(f"its trajectory breaks off after {max(0, len(records) - 3) // 3} frames")
        records.append(data[at + 4 : at + 4 + size])
        at += 8 + size
    places = records[3:]
    expected = steps // every + 1
    if len(places) != 3 * expected or any(len(record) != 4 * atoms for record in places):
        raise BadOutput(
            f"its trajectory has {len(places) / 3:g} frames, and {expected} of {atoms} atoms were asked for"
        )
    frames = np.frombuffer(b"".join(places), kind.replace("i", "f")).reshape(expected, 3, atoms).transpose(0, 2, 1)
    found: npt.NDArray[np.float32] = np.ascontiguousarray(frames[1:] * np.float32(ANGSTROM), dtype=np.float32)
    return found


@dataclass(frozen=True, slots=True)
class Topology:
    """Of a PSF file: names and masses (g/mol) of the atoms, their residues' names, bonds, and the number of residues.

    `bonds` has indices of atoms, shape (bonds, 2); `charge` is of all atoms together, in elementary charges.
    """

    names: tuple[str, ...]
    masses: tuple[float, ...]
    residues: tuple[str, ...]
    bonds: npt.NDArray[np.int64]
    residue_count: int
    charge: float


def read_psf(text: str) -> Topology:
    """Return what a PSF file says of its atoms.

    Raises
    ------
    ValueError
        It is none.
    """
    lines = text.splitlines()
    atoms = next((at for at, line in enumerate(lines) if "!NATOM" in line), None)
    bonds = next((at for at, line in enumerate(lines) if "!NBOND" in line), None)
    if atoms is None or bonds is None:
        raise ValueError("it has no !NATOM and !NBOND; expected a PSF file")
    count = int(lines[atoms].split()[0])
    rows = [line.split() for line in lines[atoms + 1 : atoms + 1 + count]]
    if any(len(row) < 8 for row in rows) or len(rows) < count:
        raise ValueError(f"it has fewer than {count} whole lines of atoms")
    masses = tuple(float(row[7]) for row in rows)
    if not all(math.isfinite(mass) and mass > 0 for mass in masses):
        raise ValueError("it has a mass that is not above 0")
    names, residues = tuple(row[4] for row in rows), tuple(row[3] for row in rows)
    count = len({(row[1], row[2]) for row in rows})
    return Topology(names, masses, residues, _pairs(lines, bonds, len(rows)), count, sum(float(row[6]) for row in rows))


def _pairs(lines: Sequence[str], head: int, atoms: int) -> npt.NDArray[np.int64]:
    """Return the bonds of a PSF file, which follow their heading, as indices of atoms."""
    count = int(lines[head].split()[0])
    words: list[str] = []
    for line in lines[head + 1 :]:
        if len(words) >= 2 * count or "!" in line:
            break
        words += line.split()
    found = np.array(words[: 2 * count], dtype=np.int64) - 1
    if len(found) != 2 * count or not ((found >= 0) & (found < atoms)).all():
        raise ValueError(f"its {count} bonds are not whole, or of atoms that it has not")
    return found.reshape(-1, 2)
