"""The synth command: a dataset of known truth, with the database that it is to be annotated with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import numpy as np
from tqdm.auto import tqdm

from apps._frame import Session
from apps._frame.manifest import exists
from apps._frame.params import as_settings
from apps.metabolomics.databases import SHIPPED, find_molecules, shipped, unique_formulas
from apps.metabolomics.imzml.writing import Format, Pixel, write_imzml
from apps.metabolomics.params import DEFAULT_ADDUCTS
from apps.metabolomics.science.adducts import NOTHING, Adduct, parse_adduct
from apps.metabolomics.science.centroids import Instrument, patterns
from apps.metabolomics.science.decoys import decoy_adduct, decoy_candidates
from apps.metabolomics.science.formulas import Composition, parse_formula
from apps.metabolomics.science.ions import ion_composition
from apps.metabolomics.science.specimen import DISTRIBUTIONS, SETTING, Specimen, measure_row, stream
from apps.metabolomics.synth_params import Specification, SynthParams
from apps.metabolomics.truth import Planted, truth_csv
from core import ConfigError, open_storage
from core.storage import join_address, split_address

ISOTOPES = 8
"""Isotope peaks of a compound that are measured where they are strong enough."""
LIMIT = 100.0
"""Limit of detection, in counts."""
MZ_RANGE = (100.0, 1500.0)
ADDUCT_SHARES = (0.5, 0.3, 0.2)
"""How often a compound appears with the first, second ... adduct."""
ISOBAR_PPM = 4.0
"""Distance within which two ions cannot be told apart by windows of 3 ppm, so that neither is false."""
MOST_SHIFT = 0.5
"""Da by which unknown compounds are displaced, so that they meet ions of every mass defect equally often."""
ASPECT = 6 / 5


@dataclass(frozen=True, slots=True, eq=False)
class Making:
    """A specimen, and what is known of it.

    Parameters
    ----------
    specimen : Specimen
    compounds : tuple of Planted
        Those of the database first.
    formulas : tuple of str
        Of the database.
    pixels : int
        The last row of the picture may be shorter.
    """

    specimen: Specimen
    compounds: tuple[Planted, ...]
    formulas: tuple[str, ...]
    pixels: int


def synth(session: Session, params: SynthParams) -> None:
    """Command: make a dataset and write its four files."""
    files = addresses(params.to)
    if not params.replace:
        for address in files.values():
            refuse_existing(address)
    made = design(params)
    write(made, params.to, params, progress=not (session.json or session.quiet))
    figures = {
        "command": "synth",
        **{name: address for name, address in files.items()},
        "pixels": made.pixels,
        "width": made.specimen.width,
        "height": made.specimen.height,
        "molecules": len(made.formulas),
        "planted": sum(bool(each.formula) for each in made.compounds),
        "unknown": sum(not each.formula for each in made.compounds),
        "parameters": as_settings(params),
    }
    session.show(figures, as_text)


def as_text(figures: dict[str, object]) -> str:
    """Return what is printed when a dataset was made."""
    return (
        f"{figures['dataset']}: {figures['width']} x {figures['height']} pixels, {figures['planted']} of "
        f"{figures['molecules']} molecules of {figures['database']} and {figures['unknown']} other compounds.\n"
        f"What is in it: {figures['truth']}\n\n"
        f"python -m apps.metabolomics annotate {figures['dataset']} --db {figures['database']}"
    )


def addresses(dataset: str) -> dict[str, str]:
    """Return where the files of a synthetic dataset lie, by what they are."""
    root, key = split_address(dataset)
    stem = key[: -len(".imzML")]
    names = {
        "dataset": key,
        "spectra": f"{stem}.ibd",
        "database": f"{stem}-molecules.tsv",
        "truth": f"{stem}-truth.csv",
    }
    return {what: join_address(root, name) if "://" in dataset else _plain(root, name) for what, name in names.items()}


def _plain(root: str, key: str) -> str:
    return join_address(root, key).removeprefix("file://")


def refuse_existing(address: str) -> None:
    """Refuse to write where something is.

    Raises
    ------
    ConfigError
        Something is.
    """
    root, key = split_address(address)
    if exists(open_storage(root), key):
        raise ConfigError(f"{address} exists; choose another name, or add --replace")


def generate(to: str, specification: Specification) -> Making:
    """Make a dataset and write it.

    Parameters
    ----------
    to : str
        Address of the .imzML; the other files lie beside it, see `addresses`.
    specification : Specification
    """
    made = design(specification)
    write(made, to, specification)
    return made


def design(params: Specification) -> Making:
    """Choose what is in a specimen and in its database.

    Noise is of no kind that a target ion is likelier to meet than its decoys: unknown compounds have the isotope
    patterns of ions of the adducts and of the elements that decoys are made of, in equal parts, at m/z that are
    displaced by chance; and the database has no ion that a planted one cannot be told from.
    """
    random = stream(params.seed, SETTING)
    adducts = _adducts(params.polarity)
    instrument = _instrument(params.instrument, params.resolving_power)
    formulas, cells = _known(params.polarity, params.instrument, params.resolving_power)
    order = random.permutation(len(formulas)).tolist()
    known = [formulas[i] for i in order]
    chosen = _choose([cells[i] for i in order], _drawn(random, len(known), len(adducts)), params)
    planted = [(known[row], adducts[column]) for row, column in chosen.planted]
    ions = [_ion(formula, adduct) for formula, adduct in planted]
    others = _unknown(random, [known[row] for row in chosen.left], adducts, params.unknown)
    pattern = patterns([*ions, *others], adducts[0].charge, instrument, ISOTOPES)
    mz = pattern.mz.copy()
    mz[len(ions) :] += random.uniform(-MOST_SHIFT, MOST_SHIFT, (len(others), 1))
    abundance = LIMIT * params.signal ** random.uniform(0.0, 1.0, len(mz))
    distribution = random.integers(0, len(DISTRIBUTIONS), len(mz))
    strongest = mz[np.arange(len(mz)), np.argmax(pattern.intensity, axis=1)]
    names = [(str(formula), adduct.name) for formula, adduct in planted] + [("", "")] * len(others)
    figures = zip(strongest.tolist(), abundance.tolist(), distribution.tolist(), strict=True)
    width = max(1, round(math.sqrt(params.pixels * ASPECT)))
    return Making(
        Specimen(
            mz=mz,
            pattern=np.where((mz >= MZ_RANGE[0]) & (mz <= MZ_RANGE[1]), pattern.intensity / 100.0, 0.0),
            abundance=abundance,
            distribution=distribution,
            width=width,
            height=-(-params.pixels // width),
            limit=LIMIT,
            noise=params.peaks,
            mz_range=MZ_RANGE,
            error=params.error,
            seed=params.seed,
        ),
        tuple(Planted(*name, *values) for name, values in zip(names, figures, strict=True)),
        tuple(sorted(str(known[row]) for row in chosen.database)),
        params.pixels,
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """Rows of the formulas that are planted (with their adduct), in the database, and in neither."""

    planted: list[tuple[int, int]]
    database: list[int]
    left: list[int]


def _adducts(polarity: str) -> list[Adduct]:
    sign = cast(Literal["+", "-"], polarity)
    return [parse_adduct(name, sign) for name in DEFAULT_ADDUCTS[sign]]


def _instrument(name: str, resolving_power: str) -> Instrument:
    power, _, at_mz = resolving_power.partition("@")
    return Instrument(cast(Literal["orbitrap", "fticr", "tof"], name), float(power), float(at_mz))


def _choose(cells: Sequence[Sequence[int | None]], drawn: Sequence[int], params: Specification) -> _Choice:
    planted: list[tuple[int, int]] = []
    database: list[int] = []
    left: list[int] = []
    present: set[int] = set()
    of_database: set[int] = set()
    for row, column in enumerate(drawn):
        own = cells[row]
        here = own[column]
        others = {cell for i, cell in enumerate(own) if i != column and cell is not None}
        if len(planted) < params.planted:
            if here is not None and not _near(here, of_database) and not any(_near(each, present) for each in others):
                planted.append((row, column))
                database.append(row)
                present.add(here)
                of_database |= {here, *others}
                continue
        elif len(database) < params.molecules and not any(_near(cell, present) for cell in own if cell is not None):
            database.append(row)
            continue
        left.append(row)
    if len(database) < params.molecules or not left:
        raise ConfigError(
            f"--molecules {params.molecules}, --planted {params.planted}: only {len(database):,} formulas can be told "
            "apart by their ions; ask for fewer"
        )
    return _Choice(planted, database, left)


@lru_cache(maxsize=2)
def _known(polarity: str, instrument: str, resolving_power: str) -> tuple[list[Composition], list[list[int | None]]]:
    """Return the formulas of the shipped database, and which cell of `ISOBAR_PPM` the first peak of each ion is in.

    The cell is None for an ion that there is not, or that is not measured.
    """
    formulas = [parse_formula(text) for text in unique_formulas([shipped()]).to_pylist()]
    adducts = _adducts(polarity)
    cells: list[list[int | None]] = [[None] * len(adducts) for _ in formulas]
    places, ions = [], []
    for row, formula in enumerate(formulas):
        for column, adduct in enumerate(adducts):
            ion = ion_composition(formula, NOTHING, NOTHING, adduct)
            if ion is not None:
                places.append((row, column))
                ions.append(ion)
    mz = patterns(ions, adducts[0].charge, _instrument(instrument, resolving_power)).mz[:, 0]
    for (row, column), each in zip(places, mz.tolist(), strict=True):
        if MZ_RANGE[0] <= each <= MZ_RANGE[1]:
            cells[row][column] = math.floor(math.log(each) / (ISOBAR_PPM * 1e-6))
    return formulas, cells


def _near(cell: int, cells: set[int]) -> bool:
    return not cells.isdisjoint((cell - 1, cell, cell + 1))


def _drawn(random: np.random.Generator, count: int, adducts: int) -> list[int]:
    shares = np.array(ADDUCT_SHARES[:adducts])
    drawn: list[int] = random.choice(adducts, count, p=shares / shares.sum()).tolist()
    return drawn


def _unknown(
    random: np.random.Generator, formulas: Sequence[Composition], adducts: Sequence[Adduct], count: int
) -> list[Composition]:
    """Return ions of other formulas: half with the adducts, half with the elements of decoys in their place."""
    elements = decoy_candidates(adducts)
    found: list[Composition] = []
    while len(found) < count:
        size = count - len(found)
        rows = random.integers(len(formulas), size=size).tolist()
        columns = _drawn(random, size, len(adducts))
        decoys = (random.integers(2 * len(elements), size=size) - len(elements)).tolist()
        for row, column, element in zip(rows, columns, decoys, strict=True):
            adduct = adducts[column] if element < 0 else decoy_adduct(elements[element], adducts[column])
            ion = ion_composition(formulas[row], NOTHING, NOTHING, adduct)
            if ion is not None:
                found.append(ion)
    return found


def _ion(formula: Composition, adduct: Adduct) -> Composition:
    ion = ion_composition(formula, NOTHING, NOTHING, adduct)
    assert ion is not None  # it was chosen for having a place among the m/z
    return ion


def write(made: Making, to: str, params: Specification, *, progress: bool = False) -> None:
    """Write the four files of a dataset; the truth is the last.

    Parameters
    ----------
    made : Making
    to : str
    params : Specification
        Of which the identifier of the dataset is made.
    progress : bool
        Show a bar while spectra are written.
    """
    files = addresses(to)
    # Of what is in it, not of where it is written: the same dataset has the same identifier anywhere.
    said = json.dumps({name: getattr(params, name) for name in Specification.__dataclass_fields__}).encode()
    form = Format(polarity=params.polarity, identifier=hashlib.sha256(said).digest()[:16])
    rows = tqdm(range(made.specimen.height), "rows", disable=None if progress else True, leave=False)
    write_imzml(files["dataset"], pixels_of(made, rows), form)
    _put(files["database"], _database_tsv(made.formulas))
    _put(files["truth"], truth_csv(made.compounds))


def pixels_of(made: Making, rows: Iterable[int]) -> Iterator[Pixel]:
    """Yield the spectra of some rows of a specimen as they are measured."""
    width = made.specimen.width
    for row in rows:
        mz, intensity, counts = measure_row(made.specimen, row)
        ends = np.cumsum(counts)
        for x in range(min(width, made.pixels - row * width)):
            part = slice(ends[x] - counts[x], ends[x])
            yield Pixel(x + 1, row + 1, mz[part], intensity[part])


def _database_tsv(formulas: Sequence[str]) -> bytes:
    molecules = find_molecules(str(SHIPPED), formulas)
    lines = ["id\tname\tformula"]
    for formula in formulas:
        first = molecules[formula][0]
        lines.append(f"{first.id}\t{first.name}\t{formula}")
    return "".join(f"{line}\n" for line in lines).encode()


def _put(address: str, content: bytes) -> None:
    root, key = split_address(address)
    open_storage(root).put(key, content)
