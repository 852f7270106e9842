"""Databases read as strings: unique formulas, what was left out and why, and the molecules of a formula."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from apps.metabolomics.databases.columns import read_layout, read_rows
from apps.metabolomics.databases.lines import read_lines, tag_of
from apps.metabolomics.science.formulas import FormulaError, is_canonical, parse_formula
from core import InputError

LISTED = 1000
"""Rows left out that are listed; the rest is counted."""
REMEMBERED = 1 << 20
"""Spellings of formulas whose parsed form is kept at once, and formulas between two merges."""
SHIPPED = Path(__file__).with_name("shipped.tsv.gz")
SHIPPED_NAME = "human-metabolites-and-lipids"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was left out: its line in the file, the value, and why."""

    line: int
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Molecule:
    """A molecule as its database has it; `formula` in canonical form."""

    formula: str
    name: str
    id: str


@dataclass(frozen=True, slots=True, eq=False)
class Database:
    """The formulas of a database.

    Attributes
    ----------
    name : str
        File name without ending.
    address, tag : str
        Where it is, and what changes with its content.
    formulas : pyarrow.LargeStringArray
        Unique formulas in canonical form, in the order in which they first appear; about 30 bytes each, where a list
        of Python strings takes 80. ``formulas.slice(start, length).to_pylist()`` gives some of them.
    rows : int
        Molecules that were taken.
    rejected : tuple of Rejected
        The first 1,000 rows that were left out.
    reasons : dict
        How many were left out in all, by the kind of reason.
    """

    name: str
    address: str
    tag: str
    formulas: Any
    rows: int
    rejected: tuple[Rejected, ...]
    reasons: dict[str, int]

    @property
    def rejected_rows(self) -> int:
        """Rows that were left out."""
        return sum(self.reasons.values())


class UniqueTexts:
    """Distinct texts in the order of their first appearance, as one Arrow array; repeats are never all in memory."""

    def __init__(self) -> None:
        self._kept = pa.array([], pa.large_string())
        self._fresh: list[Any] = []
        self._count = 0

    def add(self, texts: Any) -> None:
        """Add texts, a list or an Arrow array."""
        fresh = pa.array(texts, pa.large_string()) if isinstance(texts, list) else texts
        self._fresh.append(fresh.unique())
        self._count += len(self._fresh[-1])
        # As many as are kept already: each merge at least doubles what it costs, so all merges cost twice the last.
        if self._count > max(REMEMBERED, len(self._kept)):
            self._merge()

    def array(self) -> Any:
        """Return them all."""
        self._merge()
        return self._kept

    def _merge(self) -> None:
        if not self._fresh:
            return
        self._kept = pa.chunked_array([self._kept, *self._fresh]).unique()
        self._fresh, self._count = [], 0


class _Spellings:
    """Canonical formulas, or why there is none, by spelling; the latest are remembered."""

    def __init__(self) -> None:
        self._known: dict[str, str | FormulaError] = {}

    def canonical(self, spelling: str) -> str:
        if is_canonical(spelling):
            return spelling
        found = self._known.get(spelling)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            try:
                found = str(parse_formula(spelling))
            except FormulaError as error:
                found = error.with_traceback(None)
            self._known[spelling] = found
        if isinstance(found, str):
            return found
        raise FormulaError(str(found))


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What stands between two places of a database; attributes as of `Database`, and how many lines there are."""

    formulas: Any
    rows: int
    lines: int
    rejected: tuple[Rejected, ...]
    reasons: dict[str, int]


def read_part(
    address: str, start: int = 0, stop: int | None = None, spill: Callable[[Any], object] | None = None
) -> Part:
    """Read what stands between two places of a database that ``cuts`` has given; all of it unless given.

    Parameters
    ----------
    address : str
    start, stop : int
    spill : callable, optional
        Gets the unique formulas whenever there are so many that they should not stay in memory, and those that are
        left at the end; a formula may come again. The part that is returned then has none.

    Raises
    ------
    InputError
        There is no such object, it is no table, or has no column of formulas.
    """
    formulas, rejected, reasons = UniqueTexts(), list[Rejected](), Counter[str]()
    rows, batch, counter = 0, list[str](), itertools.count(1)
    for cells in _molecule_rows(address, counter, start, stop):
        if isinstance(cells, Rejected):
            reasons[_kind(cells)] += 1
            if len(rejected) < LISTED:
                rejected.append(cells)
            continue
        rows += 1
        batch.append(cells.formula)
        if len(batch) >= REMEMBERED:
            formulas.add(batch)
            batch = []
            if spill and len(formulas.array()) >= REMEMBERED:
                spill(formulas.array())
                formulas = UniqueTexts()
    formulas.add(batch)
    if spill and len(formulas.array()):
        spill(formulas.array())
        formulas = UniqueTexts()
    return Part(formulas.array(), rows, next(counter) - 1, tuple(rejected), dict(reasons.most_common()))


def no_formulas(address: str, rejected: Sequence[Rejected]) -> InputError:
    """Return the error of a database in which no row was taken."""
    first = f"; the first: line {rejected[0].line}, {rejected[0].reason}" if rejected else ", it has no rows"
    return InputError(f"{address}: there is no formula in it that can be read{first}")


def read_database(address: str, name: str | None = None) -> Database:
    """Read a table of molecules: tabs, commas, semicolons or bars between its columns, gzip or not.

    A column ``formula`` (``chemical_formula``, ``Molecular Formula`` ...) must be there; ``name`` and ``id``, where
    they are, name the molecules. All cells are text: a molecule may be called ``NA``. Only unique formulas stay in
    memory.

    Parameters
    ----------
    address : str
        A file or an object.
    name : str, optional
        What to call it; the file's name unless given.

    Raises
    ------
    InputError
        There is no such object, it is no table, has no column of formulas, or not one formula in it can be read.
    """
    found = read_part(address)
    if not found.rows:
        raise no_formulas(address, found.rejected)
    name = stem(address) if name is None else name
    return Database(name, address, tag_of(address), found.formulas, found.rows, found.rejected, found.reasons)


def read_databases(addresses: Sequence[str]) -> tuple[Database, ...]:
    """Read several databases; those of equal names are numbered.

    Raises
    ------
    InputError
        One cannot be read, or is given twice.
    """
    return tuple(map(read_database, addresses, names_of(addresses)))


def names_of(addresses: Sequence[str]) -> list[str]:
    """Return what databases are called; those of equal names are numbered.

    Raises
    ------
    InputError
        One is given twice.
    """
    twice = [address for address, count in Counter(addresses).items() if count > 1]
    if twice:
        raise InputError(f"the database {twice[0]} is given twice; give it once")
    taken, names = Counter[str](), list[str]()
    for name in map(stem, addresses):
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name}-{taken[name]}")
    return names


def unique_formulas(databases: Sequence[Database]) -> Any:
    """Return the unique formulas of several databases, in order, as an Arrow array of large strings."""
    formulas = UniqueTexts()
    for database in databases:
        formulas.add(database.formulas)
    return formulas.array()


def find_molecules(
    address: str, wanted: Collection[str], start: int = 0, stop: int | None = None
) -> dict[str, list[Molecule]]:
    """Read a part of a database again, or all of it, for its molecules of some formulas, in the file's order.

    What is named twice alike is returned once.

    Parameters
    ----------
    address : str
    wanted : collection of str
        Formulas in canonical form.
    start, stop : int
        As of ``read_part``.
    """
    formulas = set(wanted)
    found: dict[str, dict[Molecule, None]] = {}
    for cells in _molecule_rows(address, itertools.count(1), start, stop):
        if isinstance(cells, Molecule) and cells.formula in formulas:
            found.setdefault(cells.formula, {})[cells] = None
    return {formula: list(molecules) for formula, molecules in found.items()}


def shipped() -> Database:
    """Return the database that comes with this application: human metabolites of Human-GEM, and lipids by rule."""
    return read_database(str(SHIPPED), SHIPPED_NAME)


def _molecule_rows(
    address: str, counter: Iterator[int], start: int = 0, stop: int | None = None
) -> Iterator[Molecule | Rejected]:
    """Yield what the rows of a part are; `counter` gives the numbers of its lines, and stands behind the last."""
    spellings = _Spellings()
    lines = ((number, line) for line, number in zip(read_lines(address, start, stop), counter, strict=False))
    layout = read_layout(enumerate(read_lines(address), 1) if start else lines, address)
    for line, cells in read_rows(lines, layout):
        if isinstance(cells, str):
            yield Rejected(line, "", cells)
            continue
        spelling = cells[layout.formula].strip() if len(cells) > layout.formula else ""
        if not spelling:
            yield Rejected(line, "", "has no formula")
            continue
        try:
            formula = spellings.canonical(spelling)
        except FormulaError as error:
            yield Rejected(line, spelling, str(error))
            continue
        name, identity = (
            cells[at].strip() if at is not None and at < len(cells) else "" for at in (layout.name, layout.id)
        )
        yield Molecule(formula, name or identity or formula, identity or name or formula)


def _kind(rejected: Rejected) -> str:
    """Return a reason without what is particular to a row, so that like ones are counted together."""
    reason = rejected.reason.replace(rejected.value, "…") if rejected.value else rejected.reason
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", reason)


def stem(address: str) -> str:
    """Return what a database is called: its file's name without endings."""
    path = address.partition("?")[0] if "://" in address else address
    name = path.rstrip("/").rpartition("/")[2]
    return re.sub(r"\.gz$", "", name, flags=re.IGNORECASE).rpartition(".")[0] or name
