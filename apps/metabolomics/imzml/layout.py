"""Which bytes of the .ibd each array has: checked against its size and against each other before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core import InputError

UUID_BYTES = 16
WRAP = 1 << 32
"""Where offsets of exporters that count in 32 bits begin anew."""
MAX_PACKING = 1032
"""Bytes that one byte of a deflate stream can at most become (zlib's technical notes)."""

Bools = NDArray[np.bool_]
Int64 = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Layout:
    """Places of the arrays of spectra that have values.

    Parameters
    ----------
    source : str
    offsets, sizes : int64 array, shape (n, 2)
        In bytes, of m/z and intensities.
    numbers : int32 array, shape (n,)
        Of each spectrum in its file.
    total : int
        Bytes of the .ibd.
    """

    source: str
    offsets: Int64
    sizes: Int64
    numbers: NDArray[np.int32]
    total: int

    def beyond(self) -> Bools:
        """Return which spectra have an array that does not lie within the .ibd."""
        outside = (self.offsets < 0) | (self.sizes > self.total) | (self.offsets > self.total - self.sizes)
        return np.asarray(outside.any(axis=1))

    @property
    def end(self) -> int:
        """Where the last array ends."""
        return int((self.offsets + np.minimum(self.sizes, 1 << 62)).max(initial=0))

    def unused(self) -> int:
        """Return how many bytes of the .ibd belong to no array and are not its UUID; arrays do not overlap."""
        _, mz_sizes, _ = _distinct(self.offsets[:, 0], self.sizes[:, 0])
        return max(0, self.total - UUID_BYTES - int(mz_sizes.sum()) - int(self.sizes[:, 1].sum()))

    def conflict(self) -> str:
        """Return in words which two arrays have bytes in common that cannot be both's; empty if there are none."""
        in_order, in_order_sizes = self.offsets.ravel(), self.sizes.ravel()
        if (in_order[:-1] + in_order_sizes[:-1] <= in_order[1:]).all():
            return ""  # as most exporters write: one array after the other
        mz, mz_sizes, mz_rows = _distinct(self.offsets[:, 0], self.sizes[:, 0])
        starts = np.concatenate([mz, self.offsets[:, 1]])
        sizes = np.concatenate([mz_sizes, self.sizes[:, 1]])
        order = np.argsort(starts, kind="stable")
        sorted_starts = starts[order]
        over = np.flatnonzero(sorted_starts[:-1] + sizes[order][:-1] > sorted_starts[1:])
        if not over.size:
            return ""
        pair = []
        for each in (int(order[over[0]]), int(order[over[0] + 1])):
            what, row = ("m/z", int(mz_rows[each])) if each < len(mz) else ("intensities", each - len(mz))
            pair.append((int(self.numbers[row]), what, int(starts[each])))
        (first, what_first, _), (second, what_second, at) = sorted(pair)
        one, other = f"the {what_first} of spectrum {first:,}", f"the {what_second} of spectrum {second:,}"
        return f"{one} and {other} overlap at byte {at:,}"

    def unwrapped(self) -> Layout:
        """Return the layout with offsets that began anew at 2**32, however often, counted on in the file's order."""
        columns = []
        for column in self.offsets.T:
            fixed = np.where(column < 0, column + WRAP, column)
            columns.append(fixed + WRAP * np.cumsum(np.diff(fixed, prepend=fixed[:1]) < 0))
        return replace(self, offsets=np.stack(columns, axis=1) if len(self.offsets) else self.offsets)

    def has_wrapped(self) -> bool:
        """Whether offsets may have begun anew: negative ones have, falling ones may have in a .ibd over 4 GB."""
        if not len(self.offsets):
            return False
        if (self.offsets < 0).any():
            return bool((self.offsets >= -(WRAP // 2)).all())
        falling = bool((np.diff(self.offsets, axis=0) < 0).any())
        return falling and self.total > WRAP and int(self.offsets.max()) < WRAP


def repaired(layout: Layout) -> tuple[Layout, bool]:
    """Return a layout whose offsets count from the file's begin, and whether they did not before.

    Raises
    ------
    InputError
        Offsets may or may not have begun anew.
    """
    if not layout.has_wrapped():
        return layout, False
    candidate = layout.unwrapped()
    if candidate.beyond().any() or candidate.conflict():
        return layout, False
    as_written = not layout.beyond().any() and not layout.conflict()
    if as_written and candidate.end != layout.total:
        raise InputError(
            f"{layout.source}: its offsets fall from one spectrum to the next, and may or may not count from anew "
            "after 4 GB, where the .ibd has more; export the file again with 64-bit offsets"
        )
    return candidate, True


def check_layout(layout: Layout, uuid_there: bool) -> None:
    """Refuse arrays that cannot lie where they are said to.

    Parameters
    ----------
    layout : Layout
        All within the .ibd.
    uuid_there : bool
        Whether the first 16 bytes are known to be the UUID, or nothing speaks against it.

    Raises
    ------
    InputError
        An array lies in the UUID, or two arrays have bytes in common.
    """
    early = (layout.offsets < UUID_BYTES).any(axis=1)
    if uuid_there and early.any():
        row = int(np.argmax(early))
        raise InputError(
            f"{layout.source}: spectrum {int(layout.numbers[row]):,} has an array at byte "
            f"{int(layout.offsets[row].min()):,} of the .ibd, within its UUID; export the file again"
        )
    if overlap := layout.conflict():
        raise InputError(f"{layout.source}: {overlap} of the .ibd; export the file again")


def _distinct(offsets: Int64, sizes: Int64) -> tuple[Int64, Int64, NDArray[np.intp]]:
    """Return each distinct array once: m/z may be shared among spectra, if they share all of it."""
    rows = np.arange(len(offsets))
    if (offsets[1:] > offsets[:-1]).all():
        return offsets, sizes, rows
    if (offsets == offsets[0]).all() and (sizes == sizes[0]).all():
        return offsets[:1], sizes[:1], rows[:1]
    order = np.lexsort((sizes, offsets))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(offsets[order]) != 0) | (np.diff(sizes[order]) != 0)
    kept = order[first]
    return offsets[kept], sizes[kept], rows[kept]
