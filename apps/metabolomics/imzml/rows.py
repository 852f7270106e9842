"""The spectra of a file that are read: one MS level, one slice, and of each where its arrays lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml import terms
from apps.metabolomics.imzml.elements import Elements, find_elements
from apps.metabolomics.imzml.layout import MAX_PACKING, UUID_BYTES, Layout, check_layout, repaired
from apps.metabolomics.imzml.offsets import Table
from apps.metabolomics.imzml.pair import Blob
from apps.metabolomics.imzml.quirks import Quirk, spectra_named
from apps.metabolomics.imzml.spectra import unpacked_size
from apps.metabolomics.imzml.spectrum import ABSENT
from core import InputError

NO_Z = np.iinfo(np.int32).min


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Spectra that are read, in the file's order.

    Parameters
    ----------
    numbers : int32 array, shape (n,)
        Of each in its file, from 1.
    positions : int32 array, shape (n, 3)
    lengths : int32 array, shape (n,)
        Peaks.
    offsets, sizes : int64 array, shape (n, 2)
        Bytes of m/z and intensities; 0 for a spectrum without peaks.
    codes : uint8 array, shape (n,)
        Index into the kinds of storage.
    """

    numbers: NDArray[np.int32]
    positions: NDArray[np.int32]
    lengths: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    codes: NDArray[np.uint8]

    def take(self, which: NDArray[np.generic]) -> Rows:
        """Return some of them."""
        return Rows(
            self.numbers[which],
            self.positions[which],
            self.lengths[which],
            self.offsets[which],
            self.sizes[which],
            self.codes[which],
        )

    def in_order(self) -> Rows:
        """Return them in the order of their intensities in the .ibd, so that those of a task are near each other."""
        whole = self.lengths > 0
        if (np.diff(self.offsets[whole, 1]) >= 0).all():
            return self
        return self.take(np.argsort(np.where(whole, self.offsets[:, 1], -1), kind="stable"))


def select(source: str, table: Table, z: int | None, quirks: list[Quirk]) -> tuple[NDArray[np.intp], int | None]:
    """Return which spectra are read, and of which slice.

    Raises
    ------
    InputError
        There are none, or several slices of which none was chosen.
    """
    levels = np.array([shape.level for shape in table.shapes], np.int64)
    first = levels[table.shape] == 1 if len(levels) else np.zeros(0, bool)
    left_out = int(len(first) - np.count_nonzero(first))
    if left_out:
        quirks.append(
            Quirk("ms-level", f"{left_out:,} spectra have an MS level above 1", "they are left out", left_out)
        )
    rows = np.flatnonzero(first)
    if not rows.size:
        what = f"none of its {left_out:,} spectra has MS level 1" if left_out else "it has no spectra"
        raise InputError(f"{source}: {what}; export the file again")
    slices = table.positions[rows, 2]
    found = np.unique(slices[slices != NO_Z]).tolist()
    if z is not None and z not in found:
        has = ", ".join(map(str, found)) if found else "no z at all"
        raise InputError(f"{source}: there is no slice --z {z}; the file has {has}")
    if len(found) > 1:
        if z is None:
            shown = ", ".join(map(str, found[:8])) + (" ..." if len(found) > 8 else "")
            raise InputError(
                f"{source}: it has {len(found):,} slices, at z = {shown}, which are not laid over each other; choose "
                f"one with --z {found[0]}"
            )
        lost = int((slices == NO_Z).sum())
        rows = rows[slices == z]
        nowhere = f", of which {lost:,} without z" if lost else ""
        others = int(len(slices) - len(rows))
        quirks.append(Quirk("slices", f"{others:,} spectra{nowhere} are not of slice {z}", "they are left out", others))
    return rows, found[0] if len(found) == 1 else z


def repair_offsets(source: str, ibd: Blob, table: Table, quirks: list[Quirk]) -> None:
    """Count offsets on that were written with 32 bits; in the whole file, since what is left out was counted too.

    Raises
    ------
    InputError
        They may or may not have begun anew.
    """
    whole = (table.lengths > 0).all(axis=1) & (table.offsets != ABSENT).all(axis=1)
    # Types are not known yet: an array has the bytes that it tells, else at least four a value.
    lengths, encoded = table.lengths[whole].astype(np.int64), table.encoded[whole]
    sizes = np.where(encoded >= 0, encoded, 4 * lengths)
    numbers = np.flatnonzero(whole).astype(np.int32) + 1
    layout, wrapped = repaired(Layout(source, table.offsets[whole], sizes, numbers, ibd.size))
    if wrapped:
        table.offsets[whole] = layout.offsets
        quirks.append(
            Quirk(
                "wrapped-offsets",
                "offsets are written with 32 bits, and begin anew after each 4 GB or are negative",
                "they are counted on, which fits the size of the .ibd",
                int(whole.sum()),
            )
        )


def place(
    source: str,
    ibd: Blob,
    table: Table,
    rows: NDArray[np.intp],
    uuid_there: bool,
    allow_truncated: bool,
    quirks: list[Quirk],
) -> tuple[Rows, tuple[Elements, ...]]:
    """Find the bytes of each spectrum, and check them before anything is read.

    Raises
    ------
    InputError
        Lengths, types or places contradict each other, or no spectrum is whole.
    """
    numbers = (rows + 1).astype(np.int32)
    lengths = _lengths(source, table, rows, numbers)
    whole = lengths[:, 0] > 0
    offsets, encoded = _of(table.offsets, rows), _of(table.encoded, rows)
    _check_offsets(source, offsets, whole, numbers)
    offsets[~whole] = 0
    negative = (offsets < 0).any(axis=1)
    if negative.any():
        row = int(np.argmax(negative))
        raise InputError(
            f"{source}: spectrum {int(numbers[row]):,} has an offset of {int(offsets[row].min()):,}, and counted on "
            "from spectrum to spectrum the offsets do not fit the .ibd; export the file again"
        )
    elements, codes, said = find_elements(
        source, table.shapes, table.shape[rows], offsets, lengths, encoded, numbers, _Unpacking(source, ibd)
    )
    quirks += said
    widths = np.array([[int(each.mz[1]), int(each.intensity[1])] for each in elements], np.int64)
    packed = np.array([[each.mz_zlib, each.intensity_zlib] for each in elements], bool)
    if len(elements) > 1:
        widths, packed = widths[codes], packed[codes]
    plain = widths * lengths
    sizes = np.where(packed, encoded, plain)
    sizes[~whole] = 0
    _check_packing(source, plain, sizes, packed, numbers)
    found = Rows(numbers, _of(table.positions, rows), lengths[:, 0].copy(), offsets, sizes, codes)
    _check_mode(source, ibd, found, table.header.first(table.header.content, terms.CONTINUOUS) is not None)
    found = _without_beyond(source, ibd, found, allow_truncated, quirks)
    there = found if (found.lengths > 0).all() else found.take(np.flatnonzero(found.lengths > 0))
    laid = Layout(source, there.offsets, there.sizes, there.numbers, ibd.size)
    check_layout(laid, uuid_there)
    everything = len(found.numbers) == len(table.shape) and not any(shape.others for shape in table.shapes)
    if everything and (unused := laid.unused()):
        quirks.append(
            Quirk(
                "unused-bytes",
                f"{unused:,} of {ibd.size:,} bytes of the .ibd belong to no spectrum",
                "if many: lengths or offsets in the header may be wrong, or spectra missing from it",
            )
        )
    empty = int((found.lengths == 0).sum())
    if empty:
        quirks.append(Quirk("empty", f"{empty:,} spectra have no peaks", "they count as measured pixels", empty))
    return found, elements


def _of(column: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return some rows of a column; of all rows no copy is made, since there may be millions."""
    return column if len(rows) == len(column) else column[rows]


def _lengths(source: str, table: Table, rows: NDArray[np.intp], numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    bare = np.array([shape.mz is None for shape in table.shapes], bool)[table.shape[rows]]
    lengths = _of(table.lengths, rows)
    if bare.any():
        lengths = np.where(bare[:, None], np.int32(0), lengths)
    absent = (lengths < 0).any(axis=1)
    if absent.any():
        raise InputError(
            f"{source}: the length of an array (IMS:1000103) is not told for {spectra_named(numbers[absent])}; export "
            "the file again"
        )
    differ = lengths[:, 0] != lengths[:, 1]
    if differ.any():
        row = int(np.argmax(differ))
        raise InputError(
            f"{source}: spectrum {int(numbers[row]):,} has {int(lengths[row, 0]):,} m/z but {int(lengths[row, 1]):,} "
            f"intensities ({int(differ.sum()):,} spectra are so); export the file again"
        )
    return lengths


def _check_offsets(
    source: str, offsets: NDArray[np.int64], whole: NDArray[np.bool_], numbers: NDArray[np.int32]
) -> None:
    absent = whole & (offsets == ABSENT).any(axis=1)
    if absent.any():
        raise InputError(
            f"{source}: the offset of an array (IMS:1000102) is not told for {spectra_named(numbers[absent])}; if this "
            "is an mzML file with its data inside, export it as imzML"
        )


@dataclass(frozen=True, slots=True)
class _Unpacking:
    source: str
    ibd: Blob

    def __call__(self, offset: int, size: int, most: int) -> int:
        if offset < 0 or size > self.ibd.size or offset > self.ibd.size - size:
            raise InputError(
                f"{self.source}: its first compressed array lies beyond the end of the .ibd; copy it again"
            )
        return unpacked_size(
            self.ibd.get(offset, offset + size), most, f"{self.ibd.name}: the array at byte {offset:,}"
        )


def _check_packing(
    source: str,
    plain: NDArray[np.int64],
    sizes: NDArray[np.int64],
    packed: NDArray[np.bool_],
    numbers: NDArray[np.int32],
) -> None:
    wrong = packed & (plain > 0) & (plain // MAX_PACKING > sizes)
    if wrong.any():
        row, column = (int(each) for each in np.argwhere(wrong)[0])
        raise InputError(
            f"{source}: spectrum {int(numbers[row]):,} is said to have {int(plain[row, column]):,} bytes in "
            f"{int(sizes[row, column]):,} compressed ones, which zlib cannot do; export the file again"
        )


def _check_mode(source: str, ibd: Blob, rows: Rows, continuous: bool) -> None:
    """Refuse offsets of one m/z array for all where the .ibd has one for each spectrum, and the other way round."""
    there = rows.lengths > 0
    offsets, sizes = rows.offsets[there], rows.sizes[there]
    if len(np.unique(offsets[:, 1])) < max(2, len(sizes)) or (sizes[:, 0] != sizes[0, 0]).any():
        return
    one, each = (UUID_BYTES + int(mz) + int(sizes[:, 1].sum()) for mz in (sizes[0, 0], sizes[:, 0].sum()))
    shared = bool((offsets[:, 0] == offsets[0, 0]).all())
    if shared and ibd.size == each:
        told, found = "all spectra one m/z array", "one for each"
    elif continuous and not shared and ibd.size == one:
        told, found = "each spectrum m/z of its own", "one m/z array for all (continuous)"
    else:
        return
    raise InputError(
        f"{source}: its offsets give {told}, but {ibd.name} has exactly the bytes of {found}; export the file again"
    )


def _without_beyond(source: str, ibd: Blob, rows: Rows, allow_truncated: bool, quirks: list[Quirk]) -> Rows:
    layout = Layout(source, rows.offsets, rows.sizes, rows.numbers, ibd.size)
    beyond = layout.beyond() & (rows.lengths > 0)
    if not beyond.any():
        return rows
    count = int(beyond.sum())
    sentence = (
        f"{ibd.name} has {ibd.size:,} bytes, but {count:,} of {len(beyond):,} spectra lie beyond its end, the first is "
        f"{spectra_named(rows.numbers[beyond][:1])}, and {layout.end:,} bytes would be needed"
    )
    if beyond.all():
        raise InputError(f"{source}: {sentence}; copy it again")
    remedy = "they are left out" if allow_truncated else "copy it again, or read the others with --allow-truncated"
    quirks.append(Quirk("truncated", sentence, remedy, count, not allow_truncated))
    return rows.take(np.flatnonzero(~beyond))
