"""What header and spectra tell of the whole dataset: identifier, polarity, mode, counts; and where they disagree."""

from __future__ import annotations

import uuid

import numpy as np
from numpy.typing import NDArray

from apps.metabolomics.imzml import terms
from apps.metabolomics.imzml.grid import Grid
from apps.metabolomics.imzml.header import Header
from apps.metabolomics.imzml.layout import UUID_BYTES
from apps.metabolomics.imzml.offsets import Table
from apps.metabolomics.imzml.pair import Blob
from apps.metabolomics.imzml.quirks import Quirk
from apps.metabolomics.imzml.rows import Rows
from apps.metabolomics.imzml.spectrum import whole_number

ENOUGH_LINES = 3
"""Rows or columns from which a common distance between them is no chance."""
NAMES = {"+": "positive", "-": "negative"}


def check_uuid(header: Header, ibd: Blob, ignored: bool, quirks: list[Quirk]) -> bool:
    """Compare the header's identifier with the .ibd's first bytes; says whether these may be an identifier at all."""
    there = ibd.get(0, min(UUID_BYTES, ibd.size))
    if not header.uuid:
        quirks.append(Quirk("no-uuid", "the header has no UUID", "that the two files belong together is not checked"))
        return True
    if there.hex() == header.uuid:
        return True
    if len(there) == UUID_BYTES and uuid.UUID(bytes_le=there).hex == header.uuid:
        quirks.append(Quirk("uuid-order", "the UUID of the .ibd is in another byte order", "it is the same one"))
        return True
    remedy = "it is read all the same" if ignored else (
        "find the file that belongs to it, or read this one with --ignore-uuid"
    )  # fmt: skip
    sentence = f"{ibd.name} begins with {there.hex() or 'nothing'}, but the header's UUID is {header.uuid[:40]}"
    quirks.append(Quirk("uuid", sentence, remedy, fatal=not ignored))
    return not ignored


def polarity_of(table: Table, rows: NDArray[np.intp], given: str, quirks: list[Quirk]) -> str:
    """Return the polarity of the spectra that are read, ``+``, ``-`` or empty."""
    said: dict[str, int] = {}
    codes, counts = np.unique(table.shape[rows], return_counts=True)
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        polarity = table.shapes[code].polarity
        said[polarity] = said.get(polarity, 0) + count
    header = {terms.POLARITIES[each.accession] for each in table.header.content if each.accession in terms.POLARITIES}
    told = sorted((set(said) - {""}) | (header if set(said) == {""} or len(header) == 1 else set()))
    if len(told) > 1:
        counted = ", ".join(f"{said[each]:,} spectra are {NAMES[each]}" for each in told if each in said)
        in_header = " and ".join(NAMES[each] for each in sorted(header))
        sentence = "; ".join(filter(None, [counted, f"the header says {in_header}" if header else ""]))
        quirks.append(
            Quirk("polarity-conflict", f"two polarities: {sentence}", "export each polarity by itself", fatal=True)
        )
        return given
    if not told:
        if not given:
            quirks.append(Quirk("no-polarity", "the file does not tell its polarity", "give --polarity + or -"))
        return given
    if given and given != told[0]:
        quirks.append(
            Quirk(
                "polarity-conflict",
                f"the spectra are {NAMES[told[0]]}, but --polarity {given} was given",
                "drop it, or correct the file",
                fatal=True,
            )
        )
    return told[0]


def mode_of(table: Table, rows: NDArray[np.intp]) -> str:
    """Return the mode that spectra are said to have, ``centroid``, ``profile`` or empty; their own word comes first."""
    codes, counts = np.unique(table.shape[rows], return_counts=True)
    said: dict[str, int] = {}
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        said[table.shapes[code].mode] = said.get(table.shapes[code].mode, 0) + count
    said.pop("", None)
    if said:
        return "profile" if "profile" in said else "centroid"
    header = {terms.MODES[each.accession] for each in table.header.content if each.accession in terms.MODES}
    return header.pop() if len(header) == 1 else ""


def file_quirks(table: Table) -> list[Quirk]:
    """Return what is unusual in the file itself."""
    quirks = []
    count, found = table.header.count, len(table.shape)
    try:
        promised = whole_number(count) if count else -1
    except ValueError:
        promised = -1
    if promised != found:
        said = f"{promised:,}" if promised >= 0 else "no number"
        quirks.append(Quirk("count", f"spectrumList counts {said}, but there are {found:,} spectra", "all are read"))
    others = sorted({name for shape in table.shapes for name in shape.others})
    if others:
        quirks.append(Quirk("other-arrays", f"spectra have further arrays: {', '.join(others)}", "they are not read"))
    if table.behind:
        sentence = f"{table.behind:,} bytes that are not blank stand behind the end of the document"
        quirks.append(Quirk("behind", sentence, "they are not read"))
    dangling = sorted({name for shape in table.shapes for name in shape.dangling})
    if dangling:
        names = ", ".join(map(repr, dangling[:3]))
        quirks.append(
            Quirk(
                "dangling", f"spectra refer to groups that are not there: {names}", "what they would say is not known"
            )
        )
    return quirks


def grid_quirks(header: Header, grid: Grid, rows: Rows) -> list[Quirk]:
    """Return what is unusual in the picture."""
    quirks = []
    sizes = []
    for accession in (terms.PIXELS_X, terms.PIXELS_Y):
        param = header.first(header.settings, accession)
        try:
            sizes.append(0 if param is None else whole_number(param.value))
        except ValueError:
            sizes.append(0)
    if all(sizes) and sizes != [grid.width, grid.height]:
        quirks.append(
            Quirk(
                "grid",
                f"the header tells {sizes[0]:,} x {sizes[1]:,} pixels, but positions span {grid.width:,} x "
                f"{grid.height:,}",
                "positions decide",
            )
        )
    pixel, counts = np.unique(grid.pixel, return_counts=True)
    quirks += _apart(*np.divmod(pixel, grid.width))
    repeats = len(grid.pixel) - len(pixel)
    if repeats:
        first = int(pixel[np.argmax(counts > 1)])
        y, x = divmod(first, grid.width)
        quirks.append(
            Quirk(
                "repeated-pixels",
                f"{repeats:,} spectra stand on a pixel that another has, the first at ({x + grid.x}, {y + grid.y})",
                "their peaks are added",
                repeats,
            )
        )
    if (missing := int((rows.positions[:, 2] == np.iinfo(np.int32).min).sum())) and missing < len(rows.positions):
        quirks.append(
            Quirk("no-z", f"{missing:,} spectra have no z, as others do", "they count as of the slice", missing)
        )
    return quirks


def _apart(y: NDArray[np.int32], x: NDArray[np.int32]) -> list[Quirk]:
    """Say where no two pixels are neighbours, as when positions are lengths."""
    steps = [(int(np.gcd.reduce(at)), name) for at, name in ((x, "x"), (y, "y")) if len(np.unique(at)) >= ENOUGH_LINES]
    apart = [f"{step:,} apart in {name}" for step, name in steps if step > 1]
    if not apart:
        return []
    remedy = "scores take pixels without neighbours for noise: if positions are lengths, number the pixels instead"
    return [Quirk("apart", f"positions stand {' and '.join(apart)}", remedy)]


def continuous_quirk(header: Header, continuous: bool, spectra: int) -> list[Quirk]:
    """Say where the storage is not of the kind that the header tells."""
    said = [each.accession for each in header.content if each.accession in (terms.CONTINUOUS, terms.PROCESSED)]
    if said == [terms.CONTINUOUS] and not continuous:
        return [Quirk("not-continuous", "called continuous, but spectra have m/z arrays of their own", "each is read")]
    if said == [terms.PROCESSED] and continuous and spectra > 1:
        return [Quirk("continuous", "called processed, but all spectra share one m/z array", "it is read for each")]
    return []
