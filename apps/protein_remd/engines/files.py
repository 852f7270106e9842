"""Files of molecules, wherever they are: read, handed to readers that want paths, and named when they do not fit."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from apps._frame.stored import find_inputs, sha256
from apps.protein_remd.engines import FloatArray
from core import InputError

ANGSTROM = 0.1
"""In nm."""

_NO_NUMBER = re.compile(r'<(\w+) [^<>]*"[-+]?(?:nan|inf|infinity)"[^<>]*>', re.I)
_TYPE = re.compile(r'type="(\w+)"')


def read_files(addresses: Sequence[str]) -> dict[str, bytes]:
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
def folder_of(files: Mapping[str, bytes]) -> Iterator[list[Path]]:
    """Give files to readers that want paths, and judge by their endings."""
    with tempfile.TemporaryDirectory(prefix="fanfold-") as folder:
        paths = [Path(folder) / name for name in files]
        for path, data in zip(paths, files.values(), strict=True):
            path.write_bytes(data)
        yield paths


@contextmanager
def named(files: str) -> Iterator[None]:
    """Turn what readers say of a file into one sentence that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):
            said = f"there is no {error.args[0]} in it"
        raise InputError(f"{files}: {said}") from error


def coordinates(data: bytes, where: str) -> FloatArray:
    """Return the positions in nm of the atoms of a PDB file, shape (atoms, 3), whatever they are called.

    Raises
    ------
    InputError
        It is no such file; the message names the line.
    """
    found = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        if line.startswith(("ATOM", "HETATM")):
            try:
                found.append([float(line[at : at + 8]) for at in (30, 38, 46)])
            except ValueError:
                found.append([np.nan])
            if not np.isfinite(found[-1]).all():
                raise InputError(
                    f"{where}, line {number}: {line[30:54]!r} are no coordinates; expected a PDB file, with x, y and z "
                    "in columns 31 to 54"
                )
    if not found:
        raise InputError(f"{where} has no line that begins with ATOM: expected a PDB file, not compressed, nor mmCIF")
    return np.array(found) * ANGSTROM


def check_numbers(system: str, positions: FloatArray, where: str) -> None:
    """Refuse a system in XML, or positions in it, with what is no finite number: its minimisation would never end.

    Raises
    ------
    InputError
        The message shows the first.
    """
    if (found := _NO_NUMBER.search(system)) is not None:
        force = system.rindex("<Force ", 0, found.start()) if "<Force " in system[: found.start()] else 0
        kind = _TYPE.search(system, force)
        number = system.count(f"<{found[1]} ", force, found.end())
        raise InputError(
            f"{where} or its parameters have a value that is no finite number: {found[1].lower()} {number} of "
            f"{kind[1] if kind else 'the system'} is {found[0]}; mend the file"
        )
    if (missing := np.flatnonzero(~np.isfinite(positions).all(axis=1))).size:
        raise InputError(f"{where}: the position of atom {missing[0] + 1} is no finite number; mend its coordinates")


def unit_cell(data: bytes) -> str:
    """Return the record of the unit cell of a PDB file, alone; readers may balk at the rest."""
    lines = (line for line in data.decode("utf-8", "replace").splitlines() if line.startswith("CRYST1"))
    return next(lines, "")


def hashes(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what the facts of a system say of its files."""
    return {"inputs": {name: sha256(data) for name, data in files.items()}} if files else {}


def check_count(atoms: int, coordinates: str, expected: int, topology: str) -> None:
    """Refuse coordinates of another molecule.

    Raises
    ------
    InputError
        The message has both files and both numbers.
    """
    if atoms != expected:
        raise InputError(
            f"{coordinates} has {atoms:,} atoms, and {topology} {expected:,}; give the two that belong together"
        )
