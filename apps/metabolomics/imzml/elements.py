"""Which numbers an array is made of, where accession, name and size may tell different things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml.quirks import Quirk
from apps.metabolomics.imzml.spectrum import ArrayKind, Shape
from core import InputError

SIZES = (4, 8)
"""Bytes of the element types that are read."""

NAMES = {"f4": "32-bit float", "f8": "64-bit float", "i4": "32-bit integer", "i8": "64-bit integer"}


@dataclass(frozen=True, slots=True)
class Elements:
    """How the two arrays of a spectrum are stored.

    Parameters
    ----------
    mz, intensity : str
        ``f4``, ``f8``, ``i4`` or ``i8``; always little-endian.
    mz_zlib, intensity_zlib : bool
    """

    mz: str = "f8"
    intensity: str = "f4"
    mz_zlib: bool = False
    intensity_zlib: bool = False


Unpacked = Callable[[int, int, int], int]
"""Returns how many bytes a packed array has, by its place, its length in bytes and the most that is worth unpacking."""


def find_elements(
    source: str,
    shapes: list[Shape],
    shape: NDArray[np.uint16],
    offsets: NDArray[np.int64],
    lengths: NDArray[np.int32],
    encoded: NDArray[np.int64],
    numbers: NDArray[np.int32],
    unpacked: Unpacked,
) -> tuple[tuple[Elements, ...], NDArray[np.uint8], list[Quirk]]:
    """Return the distinct kinds of storage, which of them each spectrum has, and what to say.

    Bytes per value decide first, then the type's name, then its accession.

    Parameters
    ----------
    source : str
    shapes : list of Shape
    shape : uint16 array, shape (n,)
    offsets : int64 array, shape (n, 2)
    lengths : int32 array, shape (n, 2)
    encoded : int64 array, shape (n, 2)
        -1 where not told.
    numbers : int32 array, shape (n,)
        Of each spectrum in the file, for messages.
    unpacked : callable

    Raises
    ------
    InputError
        The type of an array cannot be told, or its lengths contradict each other.
    """
    kinds: dict[Elements, int] = {}
    quirks: dict[str, Quirk] = {}
    code = np.zeros(len(shape), np.uint8)
    for each in np.unique(shape).tolist():
        rows = np.flatnonzero((shape == each) & (lengths > 0).any(axis=1))
        if not rows.size:
            continue
        types, packed = [], []
        for column, kind in enumerate((shapes[each].mz, shapes[each].intensity)):
            what = ("m/z", "intensity")[column]
            assert kind is not None  # a spectrum with values has both
            array = _Array(
                source, what, kind, rows, offsets[:, column], lengths[:, column], encoded[:, column], numbers
            )
            found = array.find(unpacked)
            types.append(found)
            packed.append(kind.compression == "zlib")
            said = {t for t in (kind.by_name, kind.by_accession) if t}
            if said != {found}:
                told = " and ".join(NAMES[t] for t in sorted(said))
                quirk = Quirk(
                    "element-type",
                    f"{what} values are called {told}, by accession or by name, but are {NAMES[found]}",
                    "read as that, which their length in bytes tells" if array.told_by_size else "read as that",
                    int(rows.size),
                )
                quirks.setdefault(quirk.sentence, quirk)
        elements = Elements(types[0], types[1], packed[0], packed[1])
        code[rows] = kinds.setdefault(elements, len(kinds))
    if len(kinds) > 255:
        raise InputError(f"{source}: its arrays are stored in more than 255 ways; export the file again")
    return tuple(kinds) or (Elements(),), code, list(quirks.values())


@dataclass(slots=True, eq=False)
class _Array:
    """All arrays of one kind: m/z or intensities of the spectra of one shape."""

    source: str
    what: str
    kind: ArrayKind
    rows: NDArray[np.intp]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    encoded: NDArray[np.int64]
    numbers: NDArray[np.int32]
    told_by_size: bool = False

    def find(self, unpacked: Unpacked) -> str:
        rows = self.rows[self.lengths[self.rows] > 0]
        said = [each for each in (self.kind.by_name, self.kind.by_accession) if each]
        if not said:
            raise self.error(self.rows, "do not say which numbers they are made of (MS:1000521, MS:1000523 ...)")
        if not rows.size:
            return said[0]
        lengths, encoded = self.lengths[rows].astype(np.int64), self.encoded[rows]
        if self.kind.compression == "zlib":
            if (encoded < 1).any():
                raise self.error(
                    rows[encoded < 1], "are compressed and do not tell their length in bytes (IMS:1000104)"
                )
            if len(set(said)) == 1:
                return said[0]
            size, rest = divmod(unpacked(int(self.offsets[rows[0]]), int(encoded[0]), 8 * int(lengths[0])), lengths[0])
            return self._of_size(said, int(size) if not rest else 0, rows)
        told = encoded >= 0
        if not told.any():
            if len(set(said)) > 1:
                raise self.error(rows, "are said to be of two element types, and do not tell their length in bytes")
            return said[0]
        if not told.all():
            raise self.error(rows[~told], "do not tell their length in bytes (IMS:1000104), as others do")
        size, rest = divmod(int(encoded[0]), int(lengths[0]))
        found = self._of_size(said, size if not rest else 0, rows)
        other = encoded != lengths * size
        if other.any():
            row = rows[other][0]
            raise self.error(
                rows[other],
                f"have {int(self.encoded[row]):,} bytes for {int(self.lengths[row]):,} values, where others have "
                f"{size} bytes a value",
            )
        return found

    def _of_size(self, said: list[str], size: int, rows: NDArray[np.intp]) -> str:
        if size not in SIZES:
            row = rows[0]
            compressed = ", unpacked," if self.kind.compression == "zlib" else ""
            raise self.error(
                rows[:1],
                f"have {int(self.encoded[row]):,} bytes{compressed} for {int(self.lengths[row]):,} values, which is "
                "neither 4 nor 8 bytes a value",
            )
        fits = [each for each in said if int(each[1]) == size]
        self.told_by_size = len(fits) < len(said)
        return fits[0] if fits else f"{said[0][0]}{size}"

    def error(self, rows: NDArray[np.intp], what: str) -> InputError:
        first = int(self.numbers[rows[0]])
        return InputError(f"{self.source}: {self.what} arrays {what} (spectrum {first:,}); export the file again")
