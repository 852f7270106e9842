"""Opening a dataset: all that can be told before its peaks are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from apps.metabolomics.imzml import probe, told
from apps.metabolomics.imzml.dataset import Dataset, SpectrumIndex
from apps.metabolomics.imzml.grid import make_grid
from apps.metabolomics.imzml.offsets import Table, scan
from apps.metabolomics.imzml.pair import find_pair
from apps.metabolomics.imzml.quirks import Quirk
from apps.metabolomics.imzml.rows import place, repair_offsets, select
from core import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """What a user may say of a dataset.

    Parameters
    ----------
    polarity : str
        ``+`` or ``-``; empty to take what the file says.
    z : int or None
        The slice to read, of several.
    allow_truncated : bool
        Read the spectra that are whole.
    ignore_uuid : bool
        Read a .ibd that begins with another UUID.
    centroid : bool
        Pick the peaks of profile data.
    """

    polarity: str = ""
    z: int | None = None
    allow_truncated: bool = False
    ignore_uuid: bool = False
    centroid: bool = False


def open_dataset(
    address: str,
    *,
    polarity: str = "",
    z: int | None = None,
    allow_truncated: bool = False,
    ignore_uuid: bool = False,
    centroid: bool = False,
) -> Dataset:
    """Open and check an imzML dataset.

    Parameters
    ----------
    address : str
        Of the .imzML file, beside which the .ibd lies: a path, or an object's URL.
    polarity, z, allow_truncated, ignore_uuid, centroid
        As in `Remedies`.

    Raises
    ------
    InputError
        The dataset cannot be read, or not without one of the remedies, which the message names.
    """
    remedies = Remedies(
        polarity=polarity, z=z, allow_truncated=allow_truncated, ignore_uuid=ignore_uuid, centroid=centroid
    )
    dataset = inspect(address, remedies)
    for quirk in dataset.quirks:
        if quirk.fatal:
            raise InputError(f"{address}: {quirk}")
    return dataset


def inspect(address: str, remedies: Remedies) -> Dataset:
    """Open a dataset, whatever is unusual in it: what it would be refused for is among its quirks, marked fatal.

    Raises
    ------
    InputError
        It cannot be read at all.
    """
    dataset = examine(address, remedies)
    return judge(dataset, probe.look(dataset), centroid=remedies.centroid)


def judge(dataset: Dataset, seen: probe.Seen, *, centroid: bool) -> Dataset:
    """Add to what a dataset says of itself what its spectra show.

    Parameters
    ----------
    dataset : Dataset
        As `examine` returns it.
    seen : Seen
    centroid : bool
        Whether the peaks of profiles are to be picked.
    """
    quirks = [*dataset.quirks, *probe.quirks_of(seen)]
    mode, picks = probe.mode_of(seen, dataset.mode, centroid, quirks)
    return replace(dataset, mode=mode, picks=picks, quirks=tuple(quirks))


def examine(address: str, remedies: Remedies, told_bytes: Callable[[int], object] | None = None) -> Dataset:
    """Open a dataset without a look at its spectra; its mode is the one that the file tells.

    Parameters
    ----------
    address : str
    remedies : Remedies
    told_bytes : callable, optional
        Gets the bytes of each piece of XML as it is read.

    Raises
    ------
    InputError
        It cannot be read at all.
    """
    xml, ibd = find_pair(address)
    table = scan(xml.reader(told_bytes), address)
    header = table.header
    quirks = told.file_quirks(table)
    uuid_there = told.check_uuid(header, ibd, remedies.ignore_uuid, quirks)
    repair_offsets(address, ibd, table, quirks)
    chosen, z = select(address, table, remedies.z, quirks)
    rows, elements = place(address, ibd, table, chosen, uuid_there, remedies.allow_truncated, quirks)
    rows = rows.in_order()
    grid = make_grid(address, rows.positions, rows.numbers)
    quirks += told.grid_quirks(header, grid, rows)
    size, said = header.pixel_size()
    if said:
        quirks.append(Quirk("pixel-size", said, "pictures have no scale" if size is None else "it is taken so"))
    whole = rows.offsets[rows.lengths > 0]
    continuous = bool(len(whole) and (whole[:, 0] == whole[0, 0]).all())
    quirks += told.continuous_quirk(header, continuous, len(whole))
    packed = any(each.mz_zlib or each.intensity_zlib for each in elements)
    polarity = told.polarity_of(table, chosen, remedies.polarity, quirks)
    return Dataset(
        address=address,
        xml=xml,
        ibd=ibd,
        width=grid.width,
        height=grid.height,
        x=grid.x,
        y=grid.y,
        z=z,
        pixel_size=size,
        polarity=polarity,
        mode=told.mode_of(table, chosen),
        picks=False,
        continuous=continuous,
        elements=elements,
        index=SpectrumIndex(
            rows.numbers,
            grid.pixel,
            rows.lengths,
            rows.offsets[:, 0].copy(),
            rows.offsets[:, 1].copy(),
            rows.codes,
            rows.sizes if packed else None,
        ),
        quirks=tuple(quirks),
        facts=_facts(table),
    )


def _facts(table: Table) -> dict[str, str | int]:
    algorithm, digits = table.header.checksum
    facts: dict[str, str | int] = {"spectra": len(table.shape), "spectra_by_template": table.by_template}
    if table.header.uuid:
        facts["uuid"] = table.header.uuid
    if digits:
        facts |= {"checksum": digits, "checksum_algorithm": algorithm}
    return facts
