"""Which column of a table is which, what separates them, and its rows as cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from core import InputError

SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
FORMULA = ("formula", "chemicalformula", "molecularformula", "molformula", "sumformula", "mf")
NAME = (
    "name", "moleculename", "moleculenames", "molname", "compoundname", "metabolitename", "commonname", "cmpdname",
    "recommendedname", "systematicname", "title",
)  # fmt: skip
ID = (
    "id", "moleculeid", "moleculeids", "molid", "compoundid", "metaboliteid", "databaseid", "identifier", "accession",
    "hmdbid", "lmid", "keggid", "cid", "inchikey",
)  # fmt: skip
"""Names of columns, without case, spaces and signs, in the order in which they are preferred."""

HEAD_LINES = 1000
"""Lines of remarks (``#``) that may come before the names of the columns."""
CELL_LINES = 20
"""Lines that a quoted cell may take."""
LONGEST_LIST = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is laid out.

    Attributes
    ----------
    separator : str
    width : int
        Columns.
    formula : int
        Which column holds formulas.
    name, id : int or None
        Those of names and ids.
    """

    separator: str
    width: int
    formula: int
    name: int | None
    id: int | None


def read_layout(lines: Iterator[tuple[int, str]], address: str) -> Layout:
    """Read up to the names of the columns, and return what they say.

    Raises
    ------
    InputError
        There is no column of formulas, or more than one; the message names the columns.
    """
    chosen, heading = "", ""
    for number, line in lines:
        if found := re.fullmatch(r"sep=(.)", line.strip('"').lstrip("\ufeff"), re.IGNORECASE):
            chosen = found[1]  # Excel's own way to name it
        elif line.startswith("#") and number < HEAD_LINES:
            if _layout(line[1:], address, chosen):
                heading = line[1:]
                break
        elif line.strip():
            heading = line
            break
    if not heading:
        raise InputError(f"{address} is empty; a database has a line with the names of its columns, formula among them")
    layout = _layout(heading, address, chosen)
    if layout is None:
        raise InputError(_no_formulas(heading, address))
    return layout


def _layout(heading: str, address: str, chosen: str) -> Layout | None:
    for separator in chosen or SEPARATORS:
        names = [_plain(cell) for cell in cells_of(heading, separator) or heading.split(separator)]
        formulas = [at for at, name in enumerate(names) if name in FORMULA]
        if len(formulas) > 1:
            which = " and ".join(heading.split(separator)[at].strip() for at in formulas)
            raise InputError(f"{address}: the columns {which} could both be the formula; rename all but one")
        if formulas:
            return Layout(separator, len(names), formulas[0], _first(NAME, names), _first(ID, names))
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _first(wanted: Iterable[str], names: list[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _no_formulas(heading: str, address: str) -> str:
    separator = max(SEPARATORS, key=heading.count)
    if any(_plain(word) in FORMULA for word in heading.split()):
        return f"{address}: its columns stand apart by spaces; separate them by tabs, commas or semicolons"
    names = [name.strip(' "') for name in heading.split(separator)]
    shown = ", ".join(name[:40] for name in names[:LONGEST_LIST]) + (", ..." if len(names) > LONGEST_LIST else "")
    apart = f", separated by {SEPARATORS[separator]}," if len(names) > 1 else ""
    return f"{address} has no column of formulas: its first line{apart} names {shown}; name one of them formula"


def read_rows(lines: Iterable[tuple[int, str]], layout: Layout) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the number of each line with its cells, or with why it has none; empty lines are left out."""
    source, put_back = iter(lines), list[tuple[int, str]]()
    separator, width = layout.separator, layout.width
    while (entry := put_back.pop() if put_back else next(source, None)) is not None:
        number, line = entry
        if '"' in line:
            yield number, _quoted(line, layout, source, put_back)
            continue
        cells = line.split(separator)
        if len(cells) <= width or not any(cells[width:]):
            if line.strip():
                yield number, cells
        else:
            yield number, _too_many(cells, layout)


def _quoted(
    line: str, layout: Layout, source: Iterator[tuple[int, str]], put_back: list[tuple[int, str]]
) -> list[str] | str:
    """Return the cells of a line with quotes; where one stays open, the lines that belong to it are read too."""
    cells = cells_of(line, layout.separator)
    if cells is not None:
        return cells if not any(cells[layout.width :]) else _too_many(cells, layout)
    literal = line.split(layout.separator)
    if len(literal) == layout.width:  # a name such as 5"-deoxyadenosine
        return literal
    taken: list[tuple[int, str]] = []
    joined = line
    while len(taken) < CELL_LINES and (following := put_back.pop() if put_back else next(source, None)) is not None:
        taken.append(following)
        joined = f"{joined}\n{following[1]}"
        cells = cells_of(joined, layout.separator)
        if cells is not None and len(cells) == layout.width:
            return cells
    put_back.extend(reversed(taken))
    return "opens a quote that is not closed; close it, or take it away"


def _too_many(cells: list[str], layout: Layout) -> str:
    named = ", or name the first column too (in R: col.names=NA)" if len(cells) == layout.width + 1 else ""
    return (
        f"has {len(cells)} cells where the first line names {layout.width}; "
        f"put a text that has {SEPARATORS.get(layout.separator, 'separators')} in it between quotes{named}"
    )


def cells_of(text: str, separator: str) -> list[str] | None:
    """Return the cells of one record, None if its quotes do not fit (RFC 4180)."""
    try:
        return next(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return None
